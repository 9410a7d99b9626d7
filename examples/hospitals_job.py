"""The whole job: from four messy csv files to a model that IT can run.

python examples/messy_tables.py tables
python examples/hospitals_job.py tables ill

It needs the extras `plot` and `onnx`, and pandas.
"""

import sys
from pathlib import Path

from sklearn import model_selection
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from skfedfocal import ClientColumn, FedFocalClassifierCV
from skfedfocal.datasets import load_clients
from skfedfocal.describe import describe_clients
from skfedfocal.display import ClientClassesDisplay, ClientScoresDisplay
from skfedfocal.metrics import client_report, threshold_for_recall
from skfedfocal.onnx import compare_onnx, to_onnx
from skfedfocal.preprocessing import make_table_transformer

# One table: aligned columns, one spelling, marks as gaps, dates as days. Who is ill?
folder, target = Path(sys.argv[1]), sys.argv[2]
data = load_clients(folder, target=target, dates="days", client_name="hospital")
X, y = data.frame.drop(columns=target), ~data.target.astype(str).isin(["0", "no"])
print(describe_clients(data.data, y, data.clients))
ClientClassesDisplay.from_labels(data.target, data.clients).figure_.savefig(folder / "classes.png")

# Prepared from sums, and trained where the rows are; gamma is chosen by federated validation.
classifier = FedFocalClassifierCV(gammas=(1.0, 0.0, 2.0), n_rounds=40, random_state=0)
model = ClientColumn(make_pipeline(make_table_transformer(), classifier), "hospital")
X, X_test, y, y_test = model_selection.train_test_split(X, y, stratify=data.clients, random_state=0)

# At a hospital that did not train; and the threshold that finds 90 % of the ill there.
elsewhere = model_selection.LeaveOneGroupOut()
unseen = model_selection.cross_val_predict(
    model, X, y, groups=X["hospital"], cv=elsewhere, method="predict_proba"
)[:, 1]
chosen = threshold_for_recall(y, unseen, recall=0.9)
print(f"\nElsewhere: {chosen}\n")
display = ClientScoresDisplay.from_predictions(y, unseen >= chosen.threshold, X["hospital"])
display.figure_.savefig(folder / "scores.png")

# The model of all hospitals, with that threshold, on rows that it has not seen.
trained = FrozenEstimator(model.fit(X, y))
decider = model_selection.FixedThresholdClassifier(trained, threshold=chosen.threshold).fit(X, y)
print(client_report(decider, X_test, y_test, X_test["hospital"]))

# A file for IT, tried: no package, no torch.
file = folder / "model.onnx"
file.write_bytes(to_onnx(decider, X_test).SerializeToString())
print(f"\nONNX: {compare_onnx(file, decider, X_test)}")
