"""
Who gains? Scores by client
===========================

One number for all rows can hide a client for whom the model is useless. What each client gets from
the common model, beside what it would have alone, and what pooled rows would give.
"""

# %%
# Ten clinics of very different sizes, whose instruments read differently, and three classes of
# which two are rare.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skfedfocal import FedFocalClassifier
from skfedfocal.datasets import make_federation
from skfedfocal.describe import describe_clients
from skfedfocal.display import ClientScoresDisplay
from skfedfocal.metrics import client_report

X, y, clients = make_federation(
    4000,
    n_clients=10,
    imbalance=15,
    size_skew=1.5,
    label_skew=1,
    class_sep=2.5,
    rotation=0.4,
    translation=0.2,
    random_state=4,
)
clients = np.char.add("clinic ", clients.astype(str))
print(describe_clients(X[:, :2], y, clients))

# %%
# The report: recalls by client, the worst marked, and the two columns between which federated
# training has to pay.

split = train_test_split(X, y, clients, stratify=y, random_state=0)
X, X_test, y, y_test, clients, clients_test = split
model = FedFocalClassifier(n_rounds=60, random_state=0).fit(X, y, clients=clients)
arguments = {"train": (X, y, clients), "local_alone": True, "pooled": True}
print(client_report(model, X_test, y_test, clients_test, **arguments))

# %%
# The same as a picture, for clinics with ten test rows or more: open dots are what a clinic has
# alone, full ones what it has together, and the bar is what pooled rows would give.

report = client_report(model, X_test, y_test, clients_test, output_dict=True, **arguments)
large = [line for line in report["clients"].items() if line[1]["rows"] >= 10]
lines = sorted(large, key=lambda line: -line[1]["rows"])
fig, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
for place, (_, line) in enumerate(lines):
    alone, together, pooled = line["local alone"], line["balanced accuracy"], line["pooled"]
    gain = together >= alone
    color = "#0072B2" if gain else "#D55E00"
    ax.plot([alone, together], [place, place], color=color, lw=2.5)
    ax.plot(together, place, "o", color=color, ms=9)
    ax.plot(alone, place, "o", color=color, ms=7, mfc="white", mew=2)
    ax.plot([pooled, pooled], [place - 0.3, place + 0.3], color="0.3", lw=2)
ax.set_yticks(range(len(lines)), [f"{name}  ({line['rows']} test rows)" for name, line in lines])
ax.invert_yaxis()
ax.plot([], [], color="#0072B2", marker="o", label="together (alone: open), a gain")
ax.plot([], [], color="#D55E00", marker="o", label="together (alone: open), a loss")
ax.plot([], [], color="0.3", lw=2, label="pooled rows")
ax.set_xlabel("balanced accuracy on the clinic's test rows")
ax.spines[["top", "right", "left"]].set_visible(False)
ax.tick_params(axis="y", length=0)
fig.legend(frameon=False, loc="outside upper right", fontsize=9, ncols=3)
plt.show()

# %%
# :class:`~skfedfocal.display.ClientScoresDisplay` has the scores alone, in one line of code. It
# marks the worst of the clinics with ten test rows or more: below that, chance makes the worst.

ClientScoresDisplay.from_estimator(model, X_test, y_test, clients_test)
plt.show()
