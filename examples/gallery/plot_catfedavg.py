"""
Accuracy against bytes: clients that cover all classes
======================================================

Where each client has two classes, a cohort drawn at random lacks some, and the round forgets them.
CatFedAvg draws clients whose classes together cover all there are. Does it save traffic?
"""

# %%
# Digits over 50 clients, two classes each, five of which take part in a round.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skfedfocal import FedFocalClassifier, shard_partition

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)


def curve(selection, seed):
    """Bytes sent so far, and balanced accuracy on test rows, after every fifth round."""
    clients = shard_partition(y, 50, random_state=seed)
    model = FedFocalClassifier(
        selection=selection,
        clients_per_round=5,
        n_rounds=5,
        n_local_epochs=3,
        warm_start=True,
        random_state=seed,
    )
    scores = [model.fit(X, y, clients=clients).score(X_test, y_test) for _ in range(24)]
    n_bytes = np.cumsum(model.history_["bytes_down"] + model.history_["bytes_up"])
    return n_bytes[4::5] / 1e6, scores


# %%
# Label counts of each client, which this selection needs, are sent once and are in the bytes. They
# are also what it costs in privacy: the server knows what every client has.

fig, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
for selection, color in [("uniform", "#0072B2"), ("category_coverage", "#D55E00")]:
    megabytes, scores = np.transpose([curve(selection, seed) for seed in range(5)], (1, 2, 0))
    mean = scores.mean(1)
    ax.fill_between(megabytes[:, 0], scores.min(1), scores.max(1), color=color, alpha=0.15, lw=0)
    ax.plot(megabytes[:, 0], mean, color=color, lw=2.5, label=selection.replace("_", " "))
    reached = int(np.argmax(mean > 0.8))
    print(f"{selection}: 0.8 on average after {megabytes[reached, 0]:.1f} MB")
ax.set(xlabel="MB sent and received", ylabel="balanced accuracy on test rows")
ax.set_title("Mean of five draws, and the range between them", loc="left", fontsize=10)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower right")
plt.show()
