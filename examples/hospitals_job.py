"""The whole job: from four messy csv files to a model that IT can run.

python examples/messy_tables.py tables
python examples/hospitals_job.py tables ill

It needs the extras `plot` and `onnx`, and pandas.
"""

import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    FixedThresholdClassifier,
    LeaveOneGroupOut,
    cross_val_predict,
    train_test_split,
)
from sklearn.pipeline import make_pipeline

from skfedfocal import ClientColumn, FedFocalClassifierCV
from skfedfocal.datasets import load_clients
from skfedfocal.describe import describe_clients
from skfedfocal.display import ClientClassesDisplay, ClientScoresDisplay
from skfedfocal.metrics import client_report
from skfedfocal.onnx import onnx_inputs, to_onnx
from skfedfocal.preprocessing import (
    FederatedOneHotEncoder,
    FederatedSimpleImputer,
    FederatedStandardScaler,
)

# One table: aligned columns, one spelling, marks as gaps, dates as days. Who is ill?
folder = Path(sys.argv[1])
data = load_clients(folder, target=sys.argv[2], dates="days", client_name="hospital")
y = (~data.target.astype(str).isin(["0", "no"])).to_numpy()
print(describe_clients(data.data, y, data.clients))

# Prepared from sums, and trained where the rows are; gamma is chosen by federated validation.
numbers = make_pipeline(FederatedSimpleImputer(add_indicator=True), FederatedStandardScaler())
texts = [name for name in data.data if data.data[name].dtype == object]
columns = make_column_transformer(
    (FederatedOneHotEncoder(handle_unknown="ignore"), texts), remainder=numbers
)
classifier = FedFocalClassifierCV(gammas=(1.0, 0.0, 2.0), n_rounds=40, random_state=0)
model = ClientColumn(make_pipeline(columns, classifier), "hospital")

# At a hospital that did not train; and the threshold that finds 90 % of the ill there.
X = data.data.assign(hospital=data.clients)
X, X_test, y, y_test = train_test_split(X, y, stratify=X["hospital"], random_state=0)
unseen = cross_val_predict(
    model, X, y, groups=X["hospital"], cv=LeaveOneGroupOut(), method="predict_proba"
)[:, 1]
threshold = np.quantile(unseen[y], 0.1, method="lower")
rates = [f"{np.mean(unseen[rows] >= threshold):.2f}" for rows in (y, ~y)]
print(f"\nElsewhere, from {threshold:.3f} on: recall {rates[0]}, false alarms {rates[1]}\n")

# The model of all hospitals, with that threshold, on rows that it has not seen.
decider = FixedThresholdClassifier(FrozenEstimator(model.fit(X, y)), threshold=threshold).fit(X, y)
print(client_report(decider, X_test, y_test, X_test["hospital"]))
ClientClassesDisplay.from_labels(data.target, data.clients).figure_.savefig(folder / "classes.png")
ClientScoresDisplay.from_predictions(y, unseen >= threshold, X["hospital"]).figure_.savefig(
    folder / "scores.png"
)

# A file for IT, tried: no package, no torch.
file = to_onnx(decider, rows := X_test.drop(columns="hospital"))
(folder / "model.onnx").write_bytes(file.SerializeToString())
label, probability = InferenceSession(folder / "model.onnx").run(None, onnx_inputs(file, rows))
others, off = label != decider.predict(rows), np.abs(probability - decider.predict_proba(rows))
print(f"\nONNX: {others.mean():.0%} other labels, differs by {off.max():.0e}")
