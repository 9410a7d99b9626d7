"""
From a table to a file that runs anywhere
=========================================

A csv, a federated pipeline, and an ONNX file that has all of it: the scaler, the network, the
loss's map to probabilities, and the class frequencies of the place where it is used. Whoever runs
it needs neither this package nor torch.
"""

# %%
# A table with a column of clients
# --------------------------------

import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch
from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline

from skfedfocal import FedFocalClassifier, dirichlet_partition
from skfedfocal.datasets import load_federation
from skfedfocal.preprocessing import FederatedStandardScaler

folder = Path(tempfile.mkdtemp())
table = load_wine(as_frame=True).frame
table["cultivar"] = np.array(["barolo", "grignolino", "barbera"])[table.pop("target")]
table["cellar"] = dirichlet_partition(table["cultivar"], 6, random_state=0)
table.to_csv(folder / "wines.csv", index=False)

data = load_federation(folder / "wines.csv", target="cultivar", client="cellar")
print(data.data.shape, np.unique(data.target), np.unique(data.clients))
model = make_pipeline(FederatedStandardScaler(), FedFocalClassifier(gamma=2, random_state=0))
model.fit(
    data.data,
    data.target,
    federatedstandardscaler__clients=data.clients,
    fedfocalclassifier__clients=data.clients,
)

# %%
# All of it as one module
# -----------------------
# In the shop where the model will be used, eight bottles of ten are barbera.

scaler, classifier = model[0], model[-1]
prior = [0.8, 0.1, 0.1]  # in the order of classes_


class Cultivar(torch.nn.Module):
    """Rows of the table to class probabilities there."""

    def __init__(self):
        super().__init__()
        self.posterior = classifier.posterior_module(prior)
        self.register_buffer("mean", torch.tensor(scaler.mean_))
        self.register_buffer("scale", torch.tensor(scaler.scale_))

    def forward(self, x):
        return self.posterior(((x - self.mean) / self.scale).float())


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of torch, about its own insides
    torch.onnx.export(
        Cultivar().eval(),
        (torch.tensor(data.data[:2]),),
        folder / "wine.onnx",
        input_names=["row"],
        output_names=["probability"],
        dynamic_shapes={"x": {0: torch.export.Dim("n")}},
        verbose=False,
    )

# %%
# The same numbers, without torch
# -------------------------------

session = onnxruntime.InferenceSession(folder / "wine.onnx")
(elsewhere,) = session.run(None, {"row": data.data})
here = classifier.predict_posterior(scaler.transform(data.data), class_prior=prior)
print(f"largest difference: {np.abs(elsewhere - here).max():.0e}")

# %%
# What the file says of a wine as its flavanoids grow, all else being average. Dots are the file's,
# lines the pipeline's; the pale line is what `predict_proba` would say, about a world in which all
# three are equally frequent.

place = data.feature_names.index("flavanoids")
flavanoids = np.linspace(*np.quantile(data.data[:, place], [0.01, 0.99]), 60)
rows = np.tile(data.data.mean(0), (60, 1))
rows[:, place] = flavanoids
(found,) = session.run(None, {"row": rows[::3]})
there = classifier.predict_posterior(scaler.transform(rows), class_prior=prior)
fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
ax.plot(flavanoids, model.predict_proba(rows)[:, 0], color="0.75", lw=2, label="predict_proba")
ax.plot(flavanoids, there[:, 0], color="#0072B2", lw=2, label="predict_posterior in the shop")
ax.plot(flavanoids[::3], found[:, 0], "o", color="#D55E00", mfc="none", mew=1.5, label="ONNX file")
ax.set(xlabel="flavanoids", ylabel=f"probability of {classifier.classes_[0]}", ylim=(-0.03, 1.03))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="upper right")
plt.show()
