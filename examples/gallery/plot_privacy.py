"""
Privacy against accuracy
========================

Differential privacy bounds what anything that is released can tell of a single row, by an epsilon.
It costs accuracy, and rare classes first. How much, depends on how many rows there are.
"""

# %%
# Two federations that differ in their number of rows alone: three classes in the ratio of 10 to 1,
# over ten clients.

import matplotlib.pyplot as plt
import numpy as np

from skfedfocal import FedFocalClassifier
from skfedfocal.datasets import make_federation
from skfedfocal.privacy import ExampleLevelDP


def federation(n_rows, seed):
    X, y, clients = make_federation(
        n_rows + 4000, imbalance=10, n_clients=10, class_sep=3, random_state=seed
    )
    return X[:n_rows], y[:n_rows], clients[:n_rows], X[n_rows:], y[n_rows:]


# %%
# Noise comes from the operating system by default, so that nobody can take it off again. For an
# experiment that can be repeated it is a function of `random_state`: then the epsilon is a
# statement about trainings like this one, not about this one.


PRIVATE = {"client_gamma": 0, "n_rounds": 50, "learning_rate": 1.0}


def score(n_rows, epsilon, seed):
    X, y, clients, X_test, y_test = federation(n_rows, seed)
    privacy = ExampleLevelDP(target_epsilon=epsilon, trust="server", noise="seeded")
    model = FedFocalClassifier((16,), privacy=privacy, random_state=seed, **PRIVATE)
    return model.fit(X, y, clients=clients).score(X_test, y_test)


def open_score(n_rows, seed):
    X, y, clients, X_test, y_test = federation(n_rows, seed)
    model = FedFocalClassifier((16,), n_rounds=50, client_gamma=0, random_state=seed)
    return model.fit(X, y, clients=clients).score(X_test, y_test)


epsilons = [0.2, 0.5, 1, 3]
fig, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
for n_rows, color in [(1000, "#D55E00"), (10_000, "#0072B2")]:
    scores = np.array([[score(n_rows, epsilon, seed) for seed in range(3)] for epsilon in epsilons])
    ax.plot(epsilons, scores, ".", color=color, alpha=0.5)
    ax.plot(epsilons, scores.mean(1), color=color, lw=2.5, label=f"{n_rows:,} rows")
    without = np.mean([open_score(n_rows, seed) for seed in range(3)])
    ax.axhline(without, color=color, lw=1, ls=(0, (2, 3)))
    print(f"{n_rows} rows: {without:.2f} without privacy, {scores.mean(1).round(2)} with")
ax.set(
    xscale="log", xlabel="ε, at δ below one over the rows", ylabel="balanced accuracy on test rows"
)
ax.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
ax.minorticks_off()
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower right", title="dotted: without privacy")
plt.show()
