"""
Images and sequences: modules of your own
=========================================

Rows may be images or sequences; the module is any torch module that maps them to logits. A small
convolutional network on digits, and an LSTM on event logs.
"""

# %%
# A convolutional network on digits
# ---------------------------------
# Three digits are cut to 5 % of their training rows. The callable is given the shape of a row.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import recall_score
from sklearn.model_selection import train_test_split
from torch import nn

from skfedfocal import FedFocalClassifier, dirichlet_partition, iid_partition

X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 8, 8) / 16
A, B, a, b = train_test_split(images, y, stratify=y, random_state=0)
kept = ~np.isin(a, [2, 5, 8]) | (np.random.default_rng(0).random(len(a)) < 0.05)
A, a = A[kept], a[kept]
clients = dirichlet_partition(a, 10, random_state=0)


def mlp(shape, n_classes):
    n = int(np.prod(shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(n, 100), nn.ReLU(), nn.Linear(100, n_classes))


def cnn(shape, n_classes):
    return nn.Sequential(
        nn.Unflatten(1, (1, shape[0])),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(4, 16),  # batch normalisation does not average over clients
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, n_classes),
    )


recalls = {}
for module in (mlp, cnn):
    model = FedFocalClassifier(module=module, n_rounds=40, random_state=0)
    found = model.fit(A, a, clients=clients).predict(B)
    recalls[module.__name__] = recall_score(b, found, average=None)
    print(f"{module.__name__}: balanced accuracy {recalls[module.__name__].mean():.3f}")

# %%
# An LSTM on event logs
# ---------------------
# A log of twelve event codes, and whether the machine failed: it did where code 7 came up, wherever
# that was. Codes are looked up in an embedding, which is given whole numbers. ``batch_first=True``
# is needed: the first dimension is that of rows.


class Lstm(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.codes = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, n_classes)

    def forward(self, x):
        return self.head(self.lstm(self.codes(x))[0].amax(1))


def logs(n, rng):
    codes = rng.integers(0, 20, (n, 12))
    codes[codes == 7] = 6
    failed = rng.random(n) < 0.15
    codes[failed, rng.integers(0, 12, failed.sum())] = 7
    return codes, np.where(failed, "failed", "went on")


rng = np.random.default_rng(0)
(S, s), (T, t) = logs(800, rng), logs(2000, rng)
plants = iid_partition(s, 5, random_state=0)
params = {"n_rounds": 20, "learning_rate": 0.5, "batch_size": 16, "random_state": 0}
lstm = FedFocalClassifier(module=lambda n_codes, n_classes: Lstm(n_classes), **params)
lstm.fit(S, s, clients=plants)
flat = FedFocalClassifier((16,), **params).fit(S / 20, s, clients=plants)
print(f"LSTM {lstm.score(T, t):.2f}, MLP on the codes as numbers {flat.score(T / 20, t):.2f}")

# %%
# The rare digits are where the better module pays.

fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
places = np.arange(10)
for shift, (name, color) in zip((-0.2, 0.2), [("mlp", "0.7"), ("cnn", "#D55E00")], strict=True):
    left.bar(places + shift, recalls[name], 0.38, color=color, label=name.upper())
left.set_xticks(places, [f"{d}\nrare" if d in (2, 5, 8) else str(d) for d in places])
left.set(ylabel="recall on test rows", ylim=(0, 1.18))
left.set_title("Digits", loc="left")
left.legend(frameon=False, ncols=2, loc="upper left")
shown = np.concatenate([np.flatnonzero(t == "failed")[:4], np.flatnonzero(t == "went on")[:4]])
right.imshow(np.where(T[shown] == 7, 1.0, 0.0), cmap="OrRd", vmin=0, vmax=1.4, aspect="auto")
for i, j in np.ndindex(len(shown), 12):
    code = T[shown[i], j]
    right.text(j, i, code, ha="center", va="center", color="white" if code == 7 else "0.5")
right.set_yticks(range(len(shown)), lstm.predict(T[shown]))
right.set_xticks([])
right.tick_params(length=0)
right.set_title(
    f"Event logs: LSTM {lstm.score(T, t):.2f}, MLP {flat.score(T / 20, t):.2f}", loc="left"
)
right.set_xlabel("eight test logs, and what the LSTM says of them")
left.spines[["top", "right"]].set_visible(False)
right.spines[:].set_visible(False)
plt.show()
