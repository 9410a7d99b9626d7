"""
What gamma does, and what it does not
=====================================

The focal loss of a row is :math:`-(1 - p)^\\gamma \\log p`. It makes raw outputs timid, which the
estimator puts right; and it does not favour rare classes, which class weights do.
"""

# %%
# Two classes in a ratio of 20 to 1, which overlap, over ten clients.

import matplotlib.pyplot as plt
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import recall_score
from sklearn.model_selection import train_test_split

from skfedfocal import FedFocalClassifier
from skfedfocal.datasets import make_federation

X, y, clients = make_federation(
    20_000, n_classes=2, imbalance=20, class_sep=2, label_skew=0.5, random_state=0
)
X, X_test, y, y_test, clients, _ = train_test_split(
    X, y, clients, test_size=0.5, stratify=y, random_state=0
)


def fitted(gamma, class_weight):
    model = FedFocalClassifier(
        (30,),
        gamma=gamma,
        class_weight=class_weight,
        client_gamma=0,
        n_rounds=40,
        batch_size=64,
        learning_rate=0.3,
        random_state=0,
    )
    return model.fit(X, y, clients=clients)


gammas = [0, 1, 2, 4]
models = {(g, w): fitted(g, w) for g in gammas for w in (None, "balanced")}

# %%
# On the left, how often a row of the rare class comes out where the model says so. The softmax of
# the network, which most implementations call a probability, is too timid at ``gamma=4``; the
# closed map from the focal minimiser to the posterior, which `predict_proba` and
# `predict_posterior` apply, mends it. On the right, recall of the rare class: gamma hardly moves
# it, weights do.

fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.4), layout="constrained")
model = models[4, None]
with torch.no_grad():
    logits = model.module_(torch.as_tensor(X_test, dtype=torch.float32))
for name, p, color in [
    ("softmax of the network, γ = 4", torch.softmax(logits, 1)[:, 1].numpy(), "#D55E00"),
    ("predict_proba, γ = 4", model.predict_proba(X_test)[:, 1], "#0072B2"),
    ("predict_proba, γ = 0", models[0, None].predict_proba(X_test)[:, 1], "0.6"),
]:
    observed, said = calibration_curve(y_test, p, n_bins=8, strategy="uniform")
    left.plot(said, observed, "o-", color=color, lw=2, label=name)
left.plot([0, 1], [0, 1], color="0.8", lw=1, zorder=0)
left.set(xlabel="probability that the model says", ylabel="share that comes true")
left.set_title("Probabilities", loc="left")
left.set_ylim(-0.05, 1.3)
left.legend(frameon=False, loc="upper left", fontsize=9)

for weights, color, name in [
    (None, "#0072B2", "no class weights"),
    ("balanced", "#D55E00", 'class_weight="balanced"'),
]:
    recalls = [recall_score(y_test, models[g, weights].predict(X_test)) for g in gammas]
    right.plot(gammas, recalls, "o-", color=color, lw=2)
    right.annotate(
        name,
        (gammas[-1], recalls[-1]),
        xytext=(0, 14),
        textcoords="offset points",
        ha="right",
        color=color,
        weight="bold",
    )
right.set(xlabel="γ", ylabel="recall of the rare class", ylim=(0, 1), xticks=gammas)
right.set_title("Decisions", loc="left")
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
plt.show()
