"""
A rare disease over hospitals
=============================

Eight hospitals, none of which has seen many malignant tumours. What does each know alone, what do
they know together, and what is left over when averaging forgets the few?
"""

# %%
# The federation
# --------------
# scikit-learn's tumours, with the malignant ones cut to 5 % of their training rows, over hospitals
# of different kinds. Test rows keep their natural frequencies.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import recall_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skfedfocal import FedFocalClassifier, dirichlet_partition
from skfedfocal.display import ClientClassesDisplay
from skfedfocal.preprocessing import FederatedStandardScaler

X, y = load_breast_cancer(return_X_y=True)
y = np.where(y == 0, "malignant", "benign")


def federation(seed):
    """Training rows, their hospitals, and test rows."""
    A, B, a, b = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    malignant = np.flatnonzero(a == "malignant")
    few = np.random.default_rng(seed).choice(malignant, len(malignant) // 20, replace=False)
    kept = np.sort(np.concatenate([np.flatnonzero(a == "benign"), few]))
    hospitals = dirichlet_partition(a[kept], 8, alpha=0.5, random_state=seed)
    return A[kept], a[kept], hospitals, B, b


_, labels, hospitals, _, _ = federation(0)
ClientClassesDisplay.from_labels(labels, hospitals)
plt.show()

# %%
# Alone, averaged, focused
# ------------------------
# FedAvg is the same estimator with everything that favours the rare switched off. The scaler sees
# sums over the hospitals, no rows. A hospital alone may have no malignant tumour at all: then it
# cannot find one.


def pipeline(**params):
    scaler, model = FederatedStandardScaler(), FedFocalClassifier(n_rounds=60, random_state=0)
    return make_pipeline(scaler, model.set_params(**params))


def malignant_found(model, A, a, hospitals, B, b):
    ids = {f"{name}__clients": hospitals for name, _ in model.steps}
    found = model.fit(A, a, **ids).predict(B)
    return recall_score(b, found, pos_label="malignant"), np.mean(found[b == "benign"] == "benign")


def one_hospital(hospital, A, a, hospitals, B, b):
    own = hospitals == hospital
    if len(np.unique(a[own])) == 1:
        return (1.0, 0.0) if a[own][0] == "malignant" else (0.0, 1.0)
    return malignant_found(pipeline(), A[own], a[own], hospitals[own], B, b)


scores = {"each hospital alone": [], "FedAvg": [], "Fed-Focal": []}
for seed in range(5):
    data = federation(seed)
    scores["each hospital alone"] += [one_hospital(h, *data) for h in np.unique(data[2])]
    plain = pipeline(gamma=0, class_weight=None, client_gamma=0)
    scores["FedAvg"].append(malignant_found(plain, *data))
    scores["Fed-Focal"].append(malignant_found(pipeline(), *data))

# %%
# A point is a hospital, or a training over all of them; five draws of the split and the hospitals.
# Up is malignant tumours found, to the right is benign ones left in peace.

fig, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
colors = {"each hospital alone": "0.65", "FedAvg": "#D55E00", "Fed-Focal": "#0072B2"}
for name, points in scores.items():
    recall, specificity = np.transpose(points)
    jitter = np.random.default_rng(0).uniform(-0.008, 0.008, (2, len(recall)))
    ax.scatter(specificity + jitter[0], recall + jitter[1], s=45, c=colors[name], label=name)
ax.set(xlabel="benign tumours called so", ylabel="malignant tumours found")
ax.set_title("Alone it depends on the hospital, together it does not", loc="left")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower left")
plt.show()
