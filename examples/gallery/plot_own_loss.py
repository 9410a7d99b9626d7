r"""
A loss of your own: cases that were not reported
================================================

One case in three was recorded as none. A classifier learns what is reported, and says too little.
If the rates of such errors are known (from an audit, say), a loss can look through them [1]_. It
is not in the package; it takes ten lines.

.. [1] G. Patrini et al., "Making deep neural networks robust to label noise: a loss correction
   approach", CVPR 2017.
"""

# %%
# The loss
# --------
# With ``rates[i][j]`` the share of true class i that is recorded as j, a record of class j has the
# probability :math:`\sum_i p_i \, \text{rates}_{ij}`. Its negative logarithm is least where the
# softmax is the probability of the true class: that is the map to probabilities, which a loss has
# to say.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import recall_score
from sklearn.model_selection import train_test_split

from skfedfocal import FederatedClassifier
from skfedfocal.datasets import make_federation
from skfedfocal.losses import Loss


class ThroughErrors(Loss):
    def __init__(self, rates):
        self.rates = rates

    def __call__(self, logits, y, constants=None):
        rates = torch.as_tensor(self.rates, dtype=logits.dtype)
        recorded = torch.softmax(logits, 1) @ rates
        return -recorded[torch.arange(len(y)), y].clamp(min=1e-12).log()

    def log_posterior(self, logits, constants=None):
        return torch.log_softmax(logits, 1)


# %%
# What was recorded
# -----------------
# Cases are one in four, over ten clinics. Test labels are what a second look would find.

X, y, clients = make_federation(
    12_000, n_classes=2, imbalance=3, class_sep=2, label_skew=0.3, random_state=0
)
X, X_test, y, y_test, clients, _ = train_test_split(
    X, y, clients, test_size=0.5, stratify=y, random_state=0
)
missed = (y == 1) & (np.random.default_rng(0).random(len(y)) < 1 / 3)
recorded = np.where(missed, 0, y)

losses = {
    "cross-entropy": ("cross_entropy", "#0072B2"),
    "ThroughErrors": (ThroughErrors([[1.0, 0.0], [1 / 3, 2 / 3]]), "#D55E00"),
}
models = {
    name: FederatedClassifier((30,), loss=loss, n_rounds=40, random_state=0).fit(
        X, recorded, clients=clients
    )
    for name, (loss, _) in losses.items()
}

# %%
# A loss is tried on a few rows before training: one that is a mean, lacks its map or has the wrong
# gradient is refused with a word on how to mend it.

fig, ax = plt.subplots(figsize=(5.6, 4.8), layout="constrained")
for name, (_, color) in losses.items():
    model = models[name]
    true, said = calibration_curve(y_test, model.predict_proba(X_test)[:, 1], n_bins=8)
    recall = recall_score(y_test, model.predict(X_test))
    ax.plot(said, true, "o-", color=color, lw=2.5, label=f"{name}: finds {recall:.0%} of the cases")
ax.plot([0, 1], [0, 1], color="0.8", lw=1, zorder=0)
ax.set(xlabel="probability of a case that the model says", ylabel="share of true cases")
ax.set_aspect("equal")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower right")
plt.show()
