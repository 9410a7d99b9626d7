"""
Thirty people's movements: leave people out
===========================================

Each person is a client. Does a model know movements, or does it know these people? Folds that mix
everybody's rows ask the first question of people it has already met. Folds that leave people out
ask it of strangers.
"""

# %%
# Movements
# ---------
# Three axes of a sensor at the belt, over windows of two seconds. Everybody has a gait of their
# own: how fast, how strongly, and how the sensor sits. Cycling is rare, and a third of the people
# never do it.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfedfocal import FedFocalClassifier

MOVES = np.array(["walking", "stairs", "standing", "cycling"])
RATE = {"walking": 1.9, "stairs": 1.5, "standing": 0.3, "cycling": 1.2}  # in Hz
FORCE = {
    "walking": (1.0, 0.5, 0.4), "stairs": (0.8, 0.9, 0.5),
    "standing": (0.05, 0.05, 0.05), "cycling": (0.3, 0.2, 0.5),
}  # fmt: skip
rng = np.random.default_rng(0)
seconds = np.arange(100) / 50


def window(move, person):
    """A window of one person's movement, of shape (axes, times)."""
    speed, strength, turn = person
    phase = rng.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * RATE[move] * speed * seconds + phase + np.arange(3)[:, None])
    x = np.array(FORCE[move])[:, None] * strength * wave * rng.lognormal(0, 0.15)
    return turn @ (x + np.array([[1], [0], [0]])) + 0.25 * rng.standard_normal((3, len(seconds)))


def features(x):
    """What a watch could compute: by axis mean, spread and strength of four frequencies."""
    spectrum = np.abs(np.fft.rfft(x - x.mean(1, keepdims=True), axis=1))[:, 1:9] / len(seconds)
    return np.concatenate([x.mean(1), x.std(1), spectrum.reshape(3, 4, 2).mean(2).ravel()])


rows, y, people = [], [], []
for p in range(30):
    turn, _ = np.linalg.qr(np.eye(3) + 0.35 * rng.standard_normal((3, 3)))
    turn *= np.sign(np.diag(turn))
    person = rng.lognormal(0, 0.2), rng.lognormal(0, 0.4), turn
    shares = np.array([0.4, 0.3, 0.27, 0.03 if p % 3 else 0.0])
    for move in rng.choice(MOVES, 80, p=shares / shares.sum()):
        rows.append(features(window(move, person)))
        y.append(move)
        people.append(p)
X, y, people = np.array(rows), np.array(y), np.array(people)
for movement in MOVES:
    print(f"{(y == movement).sum():5} windows of {movement}")

# %%
# Two questions
# -------------
# ``clients`` is sliced along by either kind of folds.

model = make_pipeline(StandardScaler(), FedFocalClassifier(n_rounds=40, random_state=0))
ids = {"fedfocalclassifier__clients": people}
mixed = cross_val_predict(
    model, X, y, cv=StratifiedKFold(5, shuffle=True, random_state=0), params=ids
)
strangers = cross_val_predict(model, X, y, cv=GroupKFold(5), groups=people, params=ids)

# %%
# A line is a person: the mean recall of their movements, by a model that has met them and by one
# that has not.


def by_person(found):
    return np.array(
        [
            recall_score(y[people == p], found[people == p], average="macro", zero_division=np.nan)
            for p in range(30)
        ]
    )


known, new = by_person(mixed), by_person(strangers)
fig, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
for a, b in zip(known, new, strict=True):
    ax.plot([0, 1], [a, b], color="#D55E00" if b < a - 0.1 else "0.75", lw=1.5, marker="o", ms=4)
ax.plot([0, 1], [known.mean(), new.mean()], color="#0072B2", lw=3.5, marker="o", ms=9)
for x, value, align in [(0, known.mean(), "right"), (1, new.mean(), "left")]:
    ax.annotate(
        f"mean {value:.2f}",
        (x, value),
        xytext=(-14 if x == 0 else 14, 0),
        textcoords="offset points",
        ha=align,
        va="center",
        color="#0072B2",
        weight="bold",
    )
ax.set_xticks([0, 1], ["folds that mix\neverybody's rows", "folds that leave\npeople out"])
ax.set(xlim=(-0.4, 1.4), ylabel="balanced accuracy of a person's rows")
ax.set_title("What the model knows of people it has never met", loc="left")
ax.spines[["top", "right"]].set_visible(False)
plt.show()
