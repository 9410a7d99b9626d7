"""What a round over real sites costs, beside Flower's own FedAvg on the same work.

    python benchmarks/speed_flower.py --rounds 4

Starts examples/hospitals (a SuperLink, a proxy and three SuperNodes on the loopback interface,
with TLS and keys), trains the same MLP on the same tables with the same local SGD, once as an
app of skfedfocal and once as a Flower app with the built-in FedAvg (evaluation off), and prints
seconds and CPU-seconds per round. CPU-seconds are those of all processes of the deployment.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "hospitals"))

import hospitals as example

from benchmarks._package import flower_pyproject
from skfedfocal import FederatedClassifier, load_model
from skfedfocal.flower import submit

_CLIENT = """\
import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def mlp():
    return torch.nn.Sequential(torch.nn.Linear(30, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))


@app.train()
def train(message, context):
    torch.set_num_threads(1)
    path = context.node_config["data-path"]
    X = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(30))
    y = np.loadtxt(path, delimiter=",", skiprows=1, usecols=30, dtype=str) == "malignant"
    X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
    y = torch.tensor(y, dtype=torch.int64)
    model = mlp()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for rows in torch.randperm(len(y)).split(32):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(X[rows]), y[rows])
        loss.backward()
        optimiser.step()
    content = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord({"num-examples": len(y), "loss": float(loss.detach())}),
    }
    return Message(RecordDict(content), reply_to=message)
"""
_SERVER = """\
import json
import time

from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from federation.client import mlp

app = ServerApp()


@app.main()
def main(grid, context):
    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=3, min_train_nodes=3)
    began = time.monotonic()
    arrays = ArrayRecord(mlp().state_dict())
    strategy.start(grid, arrays, num_rounds={rounds}, timeout=600)
    with open({result!r}, "w") as file:
        json.dump(time.monotonic() - began, file)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        up = example.Hospitals(Path(folder))
        try:
            up.up()
            print(f"load average at the start: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
            for name, run in (("skfedfocal", ours), ("Flower's FedAvg", theirs)) * 2:
                before = cpu_seconds(up)
                seconds, n_exchanges = run(up, args.rounds)
                cpu = (cpu_seconds(up) - before) / n_exchanges
                print(
                    f"{name:16} {seconds:6.1f} s per round, {cpu:6.1f} CPU-s per exchange, "
                    f"load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
        finally:
            up.down()


def ours(up: example.Hospitals, rounds: int) -> tuple[float, int]:
    """Seconds per round, and how many exchanges there were: facts, two for the scaler, rounds."""
    classifier = FederatedClassifier((16,), n_rounds=rounds, random_state=0)
    estimator = example.make_estimator().set_params(fedfocalclassifier=classifier)
    (up.folder / "checkpoint.skf").unlink(missing_ok=True)
    up.export(estimator)
    up.submit()
    model = load_model(up.folder / "model.skf")
    return float(model[-1].history_["seconds"].mean()), rounds + 3


def theirs(up: example.Hospitals, rounds: int) -> tuple[float, int]:
    """The same with Flower's own strategy."""
    app, result = up.folder / "fedavg", up.folder / "fedavg.json"
    package = app / "federation"
    package.mkdir(parents=True, exist_ok=True)
    (app / "pyproject.toml").write_text(flower_pyproject("fedavg"))
    (package / "__init__.py").write_text("")
    (package / "client.py").write_text(_CLIENT)
    (package / "server.py").write_text(_SERVER.format(rounds=rounds, result=str(result)))
    with up.coordinator():
        submit(app, example.SUPERLINK)
    return json.loads(result.read_text()) / rounds, rounds


def cpu_seconds(up: example.Hospitals) -> float:
    """User and system time of the deployment's processes, and of those of theirs that ended."""
    time.sleep(3)  # for the last of them to be waited for
    total = 0
    for pid, _ in up._noted().values():
        for member in example.descendants(pid):
            stat = Path(f"/proc/{member}/stat")
            if stat.exists():
                fields = stat.read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
