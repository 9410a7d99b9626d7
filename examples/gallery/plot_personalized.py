"""
A model for each client
=======================

Twenty devices read the same thing differently. One model for all is a compromise. Each client can
train the common model on, on its own rows, as far as that pays on rows that it held out.
"""

# %%
# Each device turns the features by an angle of its own; sizes differ by far.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skfedfocal import FedFocalClassifier, PersonalizedClassifier
from skfedfocal.datasets import make_federation
from skfedfocal.metrics import client_scores

X, y, devices = make_federation(
    8000,
    n_features=6,
    n_clients=20,
    imbalance=8,
    size_skew=1,
    class_sep=3,
    rotation=1.2,
    random_state=0,
)
X, X_test, y, y_test, devices, devices_test = train_test_split(
    X, y, devices, test_size=0.5, stratify=devices, random_state=0
)

# %%
# The global model is inside: `estimator_`. A client that has few rows, or rows like the others',
# keeps it, or stays near it; `shares_` says how far each one went.

model = PersonalizedClassifier(FedFocalClassifier(n_rounds=40, random_state=0), random_state=0)
model.fit(X, y, clients=devices)
common = client_scores(model.estimator_, X_test, y_test, devices_test, scoring="balanced_accuracy")
own = client_scores(model, X_test, y_test, devices_test, scoring="balanced_accuracy")
rows = dict(zip(*np.unique(devices, return_counts=True), strict=True))
share = dict(zip(model.clients_, model.shares_, strict=True))
print(f"balanced accuracy, mean of the devices: {common.score.mean():.3f} with the common model,")
print(f"{own.score.mean():.3f} with their own; {np.sum(model.shares_ == 0)} keep the common one")

# %%
# What each device gains, over its training rows. The filling is how far it went.

fig, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
n = np.array([rows[device] for device in own.clients])
gain = own.score - common.score
went = np.array([share[device] for device in own.clients])
ax.axhline(0, color="0.8", lw=1)
points = ax.scatter(
    n, gain, c=went, cmap="Blues", vmin=0, vmax=1, s=80, edgecolors="#0072B2", lw=1.5
)
ax.set(xscale="log", xlabel="training rows of the device", ylabel="gain in balanced accuracy")
ax.set_xticks([20, 50, 100, 200, 500], ["20", "50", "100", "200", "500"])
ax.minorticks_off()
ax.spines[["top", "right"]].set_visible(False)
bar = fig.colorbar(points, label="share of the way to its own model")
bar.outline.set_visible(False)
plt.show()
