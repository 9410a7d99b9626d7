"""
Fraud over banks, cut at what it costs
======================================

Two classes in a ratio of 150 to 1, and errors that cost different amounts. Training with class
weights finds the rare ones; where to cut is a question about costs, and has an answer that needs
no search: act where the posterior is above ``1 / (1 + c)``, if a missed fraud costs ``c`` false
alarms.
"""

# %%
# Twelve banks of different sizes, with customers of different kinds.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skfedfocal import FedFocalClassifier
from skfedfocal.datasets import make_federation

X, y, banks = make_federation(
    40_000,
    n_clients=12,
    n_classes=2,
    imbalance=150,
    class_sep=2.5,
    size_skew=0.5,
    translation=0.3,
    random_state=0,
)
X, X_test, y, y_test, banks, _ = train_test_split(
    X, y, banks, test_size=0.5, stratify=y, random_state=0
)
model = FedFocalClassifier(n_rounds=30, batch_size=128, random_state=0).fit(X, y, clients=banks)
print(f"{y.sum()} frauds in {len(y):,} training rows of {len(model.clients_)} banks")

# %%
# Two probabilities. ``predict_proba`` is about a world in which every second payment is a fraud,
# which is what the class weights made of it; ``predict_posterior`` is about this one.

posterior = model.predict_posterior(X_test)[:, 1]
balanced = model.predict_proba(X_test)[:, 1]
print(f"share of frauds in the test rows {y_test.mean():.4f}")
print(f"mean of predict_posterior        {posterior.mean():.4f}")
print(f"mean of predict_proba            {balanced.mean():.4f}")

# %%
# What each threshold on the posterior would have cost on the test rows, for three costs of a missed
# fraud; the ring is at ``1 / (1 + c)``, which was known before.


def cost(alarm, c):
    """In false alarms, per thousand payments."""
    missed = np.sum(~alarm & (y_test == 1))
    return 1000 * (c * missed + np.sum(alarm & (y_test == 0))) / len(y_test)


fig, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
thresholds = np.geomspace(1e-3, 0.95, 150)
for c, color in [(5, "#56B4E9"), (25, "#0072B2"), (100, "#D55E00")]:
    costs = [cost(posterior > t, c) for t in thresholds]
    ax.plot(thresholds, costs, color=color, lw=2)
    ax.plot(1 / (1 + c), cost(posterior > 1 / (1 + c), c), "o", ms=10, mfc="none", mec=color, mew=2)
    ax.annotate(
        f"a miss costs {c}",
        (thresholds[-1], costs[-1]),
        xytext=(-4, 5),
        textcoords="offset points",
        ha="right",
        color=color,
        weight="bold",
    )
ax.set(xscale="log", yscale="log", xlabel="threshold on predict_posterior")
ax.set_ylabel("cost of 1,000 payments, in false alarms")
ax.set_title("The best threshold is where the costs say", loc="left")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# The same cut on the wrong probability, and the default decision, which is the one for balanced
# accuracy:

c = 25
for name, alarm in [
    ("predict_posterior above 1 / 26", posterior > 1 / (1 + c)),
    ("predict_proba above 1 / 26", balanced > 1 / (1 + c)),
    ("predict", model.predict(X_test) == 1),
]:
    found = np.mean(alarm[y_test == 1])
    print(f"{name:31} cost {cost(alarm, c):6.1f}, {alarm.sum():5} alarms, {found:.0%} of frauds")
