"""
Choosing gamma without moving rows
==================================

:class:`~skfedfocal.FedFocalClassifierCV` holds out rows on every client, trains all candidates
and folds side by side, and asks the clients for hits and rows by class, which are added up. It
keeps the first candidate unless another is better beyond chance.
"""

# %%
# Digits, of which three are cut to a tenth of their training rows, over 20 clients.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skfedfocal import FedFocalClassifier, FedFocalClassifierCV, dirichlet_partition

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
kept = ~np.isin(y, [2, 5, 8]) | (np.random.default_rng(0).random(len(y)) < 0.1)
X, y = X[kept], y[kept]
clients = dirichlet_partition(y, 20, random_state=0)

gammas = (1.0, 0.0, 0.5, 2.0, 5.0)
chooser = FedFocalClassifierCV(gammas=gammas, cv=4, racing=False, n_rounds=30, random_state=0)
chooser.fit(X, y, clients=clients)
print("chosen:", chooser.best_params_)

# %%
# What the choice was made from, and, as one can only do in an example, what each candidate would
# have come to on test rows. With five rows of a rare class in a fold, the folds differ more from
# one another than the candidates do, so that the default stays. That is careful, not always best.

results = chooser.cv_results_
order = np.argsort(results["param_gamma"])
gamma = np.asarray(results["param_gamma"], float)[order]
folds = np.array([results[f"split{k}_test_score"] for k in range(4)])[:, order]
test = [
    FedFocalClassifier(gamma=g, n_rounds=30, random_state=0)
    .fit(X, y, clients=clients)
    .score(X_test, y_test)
    for g in gamma
]

fig, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
places = np.arange(len(gamma))
ax.plot(np.tile(places, (4, 1)), folds, ".", color="0.75")
ax.errorbar(
    places,
    folds.mean(0),
    2 * folds.std(0, ddof=1) / np.sqrt(4),
    fmt="o",
    color="#0072B2",
    lw=2,
    ms=8,
)
ax.plot(places, test, "D", color="#D55E00", mfc="none", mew=2, ms=8)
chosen = int(np.flatnonzero(gamma == chooser.best_params_["gamma"])[0])
ax.axvspan(chosen - 0.4, chosen + 0.4, color="0.93", zorder=0)
ax.annotate("kept", (chosen, 1), xycoords=ax.get_xaxis_transform(), ha="center", va="bottom")
ax.plot([], [], "o", color="#0072B2", label="mean over folds, ± 2 standard errors")
ax.plot([], [], ".", color="0.75", label="a fold")
ax.plot([], [], "D", color="#D55E00", mfc="none", mew=2, label="on test rows")
ax.set_xticks(places, [f"{g:g}" for g in gamma])
ax.set(xlabel="γ", ylabel="balanced accuracy")
ax.spines[["top", "right"]].set_visible(False)
ax.set_ylim(ax.get_ylim()[0] - 0.08)
ax.legend(frameon=False, loc="lower left", fontsize=9)
plt.show()
