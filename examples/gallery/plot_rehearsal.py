"""
Rehearsing a deployment, faults included
========================================

Before five hospitals start their servers: the same training over sites in this process, which
answer the messages that they would get over the network. Some go missing, some crash, some send
rubbish.
"""

# %%
# Five sites, as undisturbed as they will never be, and with one in five replies lost in one way or
# another: not connected, too late, an app that raises, an update with NaN, one of the wrong size.

import warnings
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np

from skfedfocal import FedFocalClassifier
from skfedfocal.datasets import make_federation
from skfedfocal.display import TrainingDisplay
from skfedfocal.flower import SimulatedSites, federate

X, y, clients = make_federation(
    3000, n_clients=5, imbalance=20, class_sep=2, label_skew=0.5, random_state=0
)
names = ["oslo", "bergen", "tromso", "voss", "hamar"]
train = np.arange(len(y)) % 3 > 0
tables = {
    name: (X[train & (clients == k)], y[train & (clients == k)]) for k, name in enumerate(names)
}


def estimator(**params):
    return FedFocalClassifier((20,), random_state=0).set_params(**params)


calm = federate(SimulatedSites(tables), estimator(n_rounds=40), min_clients=2)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # each site that fails is named once
    sites = SimulatedSites(tables, fault_rate=0.2, random_state=1)
    stormy = federate(sites, estimator(n_rounds=40), min_clients=2)

# %%
# What was lost, by site, and what came of it:

print(Counter(failure["client"] for failure in stormy.failures_))
print(Counter(failure["reason"] for failure in stormy.failures_))
for name, model in [("undisturbed", calm), ("with faults", stormy)]:
    print(f"{name}: balanced accuracy {model.score(X[~train], y[~train]):.3f}")

# %%
# The training with faults; bars are shares of sites that failed in a round. A round with fewer good
# replies than ``min_clients`` would have ended it, with the last good model kept.

display = TrainingDisplay.from_estimator(stormy)
display.ax_.plot(calm.history_["round"], calm.history_["loss"], color="0.7", lw=2, zorder=1)
display.ax_.annotate(
    "without faults",
    (calm.history_["round"][4], calm.history_["loss"][4]),
    xytext=(12, 12),
    textcoords="offset points",
    color="0.5",
)
plt.show()

# %%
# That it is the same training can be checked: with the plain engine, sites and one place give the
# same parameters to the last bit.

over_sites = federate(SimulatedSites(tables), estimator(engine="loop", n_rounds=3))
rows = {name: np.flatnonzero(train & (clients == k)) for k, name in enumerate(names)}
in_order = np.concatenate([rows[name] for name in sorted(names)])
ids = np.repeat(sorted(names), [len(rows[name]) for name in sorted(names)])
in_one_place = estimator(engine="loop", n_rounds=3).fit(X[in_order], y[in_order], clients=ids)
print("same parameters:", np.array_equal(over_sites.theta_, in_one_place.theta_))
