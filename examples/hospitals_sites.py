"""The job over sites: each hospital reads its own file, and answers with sums.

python examples/messy_tables.py tables
python examples/hospitals_sites.py tables ill

It needs the extra `flower`, and pandas. The sites are in this process; examples/hospitals has real
ones, which read their files in the same way.
"""

import sys
from pathlib import Path

from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skfedfocal import ClientColumn, FedFocalClassifier
from skfedfocal.datasets import load_clients
from skfedfocal.flower import (
    SimulatedSites,
    describe_sites,
    evaluate,
    federate,
    leave_one_site_out,
    make_client_app,
)
from skfedfocal.preprocessing import make_table_transformer

folder, target = Path(sys.argv[1]), sys.argv[2]
tables = {"target": target, "missing": "?", "dates": "days", "fold-case": True}
nodes = {file.stem: {"data-path": file, **tables} for file in folder.glob("*.csv")}
grid = SimulatedSites(nodes, app=make_client_app(evaluation="own", description=True))
print(describe_sites(grid))

classifier = FedFocalClassifier(n_rounds=40, engine="loop", random_state=0)
pipeline = make_pipeline(make_table_transformer(), classifier)
unseen = leave_one_site_out(grid, pipeline)
print(f"Elsewhere: {unseen.roc_auc()}; {unseen.threshold(recall=0.9)}")

trained = federate(grid, clone(pipeline))
print(evaluate(grid, trained, by_site=True))

# What no site would do: all files in one place. The numbers are the same.
data = load_clients(folder, target=target, dates="days", client_name="hospital")
here = ClientColumn(pipeline, "hospital").fit(data.frame.drop(columns=target), data.target)
same = (here.estimator_[-1].theta_ == trained[-1].theta_).all()
print(f"\nTo the bit as with all files in one place: {same}")
