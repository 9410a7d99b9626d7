"""Three hospitals and a coordinator on one machine, as they would be on four.

    python hospitals.py up      # keys, tables, SuperLink, proxy, three SuperNodes
    python hospitals.py run     # train over them; the model comes back as a file
    python hospitals.py status
    python hospitals.py down    # stop everything that `up` started

Everything listens on 127.0.0.1 only, with TLS, and every hospital has to show its key. All files
are in ./hospitals-run (--folder names another).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import certificates

SITES = ("general", "northside", "university")
SUPERLINK = "hospitals"  # the connection's name in Flower's configuration
TABLES = "target='diagnosis' missing='?' dates='days' fold-case=true"  # what a site reads, and how
_BIN = Path(sys.executable).parent


class Hospitals:
    """The machines of the example, each a process (with what it starts) of its own.

    Parameters
    ----------
    folder : Path
        Where keys, tables, logs and the list of processes are.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.keys = self.folder / "keys"
        self.data = self.folder / "data"
        self._list = self.folder / "processes.json"
        self._children: dict[str, subprocess.Popen] = {}

    # -- up ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Keys and certificates, the hospitals' tables, and ports that are free."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.keys, self.data, self.folder / "logs"):
            folder.mkdir(exist_ok=True)
        self.keys.chmod(0o700)
        authority = certificates.make_authority(self.keys, "ca")
        certificates.make_server_certificate(self.keys, "superlink", authority)
        certificates.make_server_certificate(self.keys, "proxy", authority)
        for site in SITES:
            certificates.make_site_key(self.keys, site)
        write_tables(self.data)
        names = ("superlink", "proxy", *SITES)
        (self.folder / "ports.json").write_text(
            json.dumps(dict(zip(names, free_ports(len(names)), strict=True)))
        )
        connection = (
            f"[superlink.{SUPERLINK}]\n"
            f'address = "127.0.0.1:{self.ports["superlink"]}"\n'
            f'root-certificates = "{self.keys / "ca.crt"}"\n'
        )
        home = self.home("coordinator")
        (home / "config.toml").write_text(connection)

    def up(self) -> None:
        """Start everything, and wait until the SuperLink knows all hospitals."""
        if self.running():
            raise SystemExit(f"Already up: {', '.join(self.running())}. Use `down` first.")
        self.prepare()
        self.start_superlink()
        self.start_proxy()
        for site in SITES:
            self.register(site)
            self.start_site(site)
        self.wait_until(lambda: len(self.online()) == len(SITES), "the hospitals to be online", 120)

    def start_superlink(self) -> None:
        """The coordinator's server. Nobody but the coordinator may reach its port."""
        self.start(
            "superlink",
            [
                _BIN / "flower-superlink",
                *("--ssl-certfile", self.keys / "superlink.pem"),
                *("--ssl-keyfile", self.keys / "superlink.key"),
                *("--ssl-ca-certfile", self.keys / "ca.crt"),
                "--enable-supernode-auth",
                "--disable-runtime-dependency-installation",
                *("--host", "127.0.0.1", "--port", self.ports["superlink"]),
                *("--database", self.folder / "superlink.db"),
            ],
        )
        self.wait_for_port("superlink")

    def start_proxy(self) -> None:
        """What hospitals reach instead of the SuperLink's port."""
        self.start(
            "proxy",
            [
                *(sys.executable, HERE / "proxy.py"),
                *("--port", self.ports["proxy"]),
                *("--superlink", f"127.0.0.1:{self.ports['superlink']}"),
                *("--ca", self.keys / "ca.crt"),
                *("--certificate", self.keys / "proxy.pem"),
                *("--key", self.keys / "proxy.key"),
            ],
        )
        self.wait_for_port("proxy")

    def register(self, site: str) -> None:
        """Tell the SuperLink a hospital's public key; others are turned away."""
        self.flwr("supernode", "register", str(self.keys / f"{site}.pub"), SUPERLINK)

    def start_site(self, site: str, *more: str, ca: str = "ca.crt") -> None:
        """A hospital: beside its table, and with its own key."""
        table = self.data / f"{site}.csv"
        self.start(
            site,
            [
                _BIN / "flower-supernode",
                *("--superlink", f"127.0.0.1:{self.ports['proxy']}"),
                *("--root-certificates", self.keys / ca),
                *("--auth-supernode-private-key", self.keys / site),
                *("--host", "127.0.0.1", "--port", self.ports[site]),
                *("--node-config", f"site='{site}' data-path='{table}' {TABLES}"),
                *more,
            ],
        )

    # -- run -----------------------------------------------------------------------------------

    def export(self, estimator: object, **options: object) -> Path:
        """The app that the hospitals will run, as text files to look at."""
        from skfedfocal.flower import export_app

        return export_app(
            estimator,
            self.folder / "app",
            save_to=self.folder / "model.skf",
            checkpoint=self.folder / "checkpoint.skf",
            sites=list(SITES),
            **options,
        )

    def submit(self, *, wait: bool = True, timeout: float = 600.0) -> int:
        """Hand the app to the SuperLink."""
        from skfedfocal.flower import submit

        try:
            with self.coordinator():
                run = submit(self.folder / "app", SUPERLINK, wait=wait, timeout=timeout)
        except RuntimeError:  # it has ended, otherwise than well
            self.end_apps()
            raise
        if wait:
            self.end_apps()
        return run

    def status(self, run_id: int) -> str:
        """How a run stands."""
        listed = self.flwr("list", SUPERLINK, "--run-id", str(run_id), "--format", "json")
        return str(json.loads(listed)["runs"][0]["status"])

    def log(self, run_id: int) -> str:
        """What a run's server side printed."""
        return self.flwr("log", str(run_id), SUPERLINK, "--show")

    def online(self) -> list[str]:
        """The SuperNodes that the SuperLink takes to be online, by their numbers."""
        listed = json.loads(self.flwr("supernode", "ls", SUPERLINK, "--format", "json"))
        return [str(n["node-id"]) for n in listed["nodes"] if n["status"] == "online"]

    def flwr(self, *arguments: str) -> str:
        """Flower's command line, as the coordinator."""
        done = subprocess.run(
            [_BIN / "flwr", *arguments],
            env=self.environment("coordinator"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"flwr {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    # -- processes -----------------------------------------------------------------------------

    @property
    def ports(self) -> dict[str, int]:
        return dict(json.loads((self.folder / "ports.json").read_text()))

    def home(self, name: str) -> Path:
        """Flower's folder of one machine."""
        home = self.folder / "homes" / name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def environment(self, name: str) -> dict[str, str]:
        """No telemetry, no look for updates, one thread each: they share this machine."""
        return {
            **os.environ,
            "FLWR_HOME": str(self.home(name)),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    @contextlib.contextmanager
    def coordinator(self):
        """This process as the coordinator."""
        before = dict(os.environ)
        os.environ.update(self.environment("coordinator"))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def start(self, name: str, command: list[object]) -> None:
        """Start a process in a group of its own, and note its number."""
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home(name),
                start_new_session=True,
            )
        self._children[name] = process
        self._note({**self._noted(), name: [process.pid, started(process.pid)]})

    def running(self) -> list[str]:
        """Names of the processes that run."""
        return [n for n, (pid, since) in self._noted().items() if started(pid) == since]

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop one, and what it started: each by its own number, while that is still its own."""
        noted = self._noted()
        pid, since = noted.pop(name)
        ours = started(pid) in (since, None)  # else the number is somebody else's by now
        family = {member: started(member) for member in descendants(pid)} if ours else {}
        with contextlib.suppress(ProcessLookupError):
            if started(pid) == since:
                os.kill(pid, how)
                wait_for_end(pid, since, 20)
        for member, began in family.items():  # what it left behind
            with contextlib.suppress(ProcessLookupError):
                if began is not None and started(member) == began:
                    os.kill(member, signal.SIGKILL)
        if name in self._children:
            self._children.pop(name).wait()
        self._note(noted)

    def apps(self, machine: str, word: str = "flwr-clientapp") -> list[int]:
        """Numbers of a machine's processes whose command has a word."""
        pid = self._noted()[machine][0]
        ps = ["ps", "-ww", "-o", "pid=,command=", "-p", ",".join(map(str, descendants(pid)))]
        lines = subprocess.run(ps, capture_output=True, text=True, check=False).stdout.splitlines()
        return [int(line.split()[0]) for line in lines if word in line]

    def end_apps(self) -> int:
        """End the hospitals' apps, where no run is there any more, and say how many there were.

        Where a run ends in the moment in which a hospital is told of its message, Flower starts an
        app that waits for what will not come: by its own limits for more than an hour.
        """
        left = [pid for site in SITES if site in self.running() for pid in self.apps(site)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        return len(left)

    def down(self) -> None:
        """Stop everything, the hospitals first."""
        for name in reversed(list(self._noted())):
            self.stop(name)

    def wait_until(self, done, what: str, seconds: float, pause: float = 0.5) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Waited {seconds:g} s for {what}; see {self.folder}/logs.")
            time.sleep(pause)

    def wait_for_port(self, name: str) -> None:
        def answers() -> bool:
            with socket.socket() as probe:
                probe.settimeout(1)
                return probe.connect_ex(("127.0.0.1", self.ports[name])) == 0

        self.wait_until(answers, f"{name} to listen", 60)

    def _noted(self) -> dict[str, list]:
        return json.loads(self._list.read_text()) if self._list.exists() else {}

    def _note(self, processes: dict[str, list]) -> None:
        self._list.write_text(json.dumps(processes))


def started(pid: int) -> str | None:
    """When the process of a number started, None if there is none: numbers are used again."""
    ps = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    state, _, since = subprocess.run(
        ps, capture_output=True, text=True, check=False
    ).stdout.partition(" ")
    return None if state in ("", "\n") or state.startswith("Z") else since.strip()


def descendants(pid: int) -> list[int]:
    """A process and all that it and its own started, also those it left behind in its group."""
    ps = ["ps", "-A", "-o", "pid=,ppid=,pgid="]
    lines = subprocess.run(ps, capture_output=True, text=True, check=False).stdout.split("\n")
    table = [tuple(map(int, line.split())) for line in lines if line.strip()]
    family = [pid]
    for member in family:  # grows as it goes
        family += [
            child
            for child, parent, group in table
            if (parent == member or group == pid) and child not in family
        ]
    return family


def wait_for_end(pid: int, since: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while started(pid) == since and time.monotonic() < deadline:
        time.sleep(0.2)


def free_ports(n: int) -> list[int]:
    """Ports of the loopback interface that nobody uses now."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def write_tables(folder: Path) -> None:
    """scikit-learn's breast cancer data, a third for each hospital; malignant ones uneven."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    names = [name.replace(" ", "_") for name in bunch.feature_names]
    labels = bunch.target_names[bunch.target]
    rng = np.random.default_rng(0)
    lean = rng.random(len(labels)) + 0.7 * (labels == "malignant")
    for site, rows in zip(SITES, np.array_split(np.argsort(lean), len(SITES)), strict=True):
        rows = np.sort(rows)
        lines = [",".join([*names, "diagnosis"])]
        lines += [",".join([*map(repr, map(float, bunch.data[i])), str(labels[i])]) for i in rows]
        (folder / f"{site}.csv").write_text("\n".join(lines) + "\n")


def make_estimator(n_rounds: int = 5):
    """What is trained: scaling by federated means, and Fed-Focal."""
    from sklearn.pipeline import make_pipeline

    from skfedfocal import FedFocalClassifier
    from skfedfocal.preprocessing import FederatedStandardScaler

    return make_pipeline(
        FederatedStandardScaler(),
        FedFocalClassifier((16,), n_rounds=n_rounds, random_state=0, engine="loop"),
    )


def read_tables(folder: Path):
    """What real hospitals cannot do: all tables in one place, for comparison."""
    import pandas as pd

    from skfedfocal.flower import load_table

    features, labels, clients = [], [], []
    for site in SITES:
        X, y, _ = load_table({"data-path": folder / f"{site}.csv", "target": "diagnosis"})
        features.append(pd.DataFrame(np.asarray(X), columns=X.columns))
        labels.append(y)
        clients += [site] * len(y)
    return pd.concat(features, ignore_index=True), np.concatenate(labels), np.array(clients)


def fit_in_one_place(estimator, X, y, clients):
    """Plain scikit-learn, in one process."""
    return estimator.fit(X, y, **{f"{name}__clients": clients for name, _ in estimator.steps})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["up", "run", "status", "down"])
    parser.add_argument("--folder", type=Path, default=Path("hospitals-run"))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    hospitals = Hospitals(args.folder)
    if args.what == "up":
        hospitals.up()
        print(f"Up: {', '.join(hospitals.running())}. Keys, tables and logs: {hospitals.folder}")
    elif args.what == "status":
        print("Running:", ", ".join(hospitals.running()) or "nothing")
    elif args.what == "down":
        hospitals.down()
        print("Down.")
    else:
        from skfedfocal import load_model
        from skfedfocal.metrics import Evaluation

        (hospitals.folder / "checkpoint.skf").unlink(missing_ok=True)
        result = hospitals.folder / "evaluation.json"
        hospitals.export(
            make_estimator(args.rounds),
            evaluated="own",  # what the hospitals' app answers, besides the training
            evaluate_to=result,
            evaluation={"by_site": True},
        )
        print(f"Training {args.rounds} rounds over {len(SITES)} hospitals ...", flush=True)
        began = time.monotonic()
        hospitals.submit()
        print(f"Trained in {time.monotonic() - began:.0f} s; the model is in model.skf.")
        model = load_model(hospitals.folder / "model.skf")
        X, y, clients = read_tables(hospitals.data)
        pooled = fit_in_one_place(make_estimator(args.rounds), X, y, clients)
        same = np.array_equal(model[-1].theta_, pooled[-1].theta_)
        print(Evaluation.from_dict(json.loads(result.read_text())))
        print(f"The same weights, to the bit, as with all tables in one place: {same}")


if __name__ == "__main__":
    main()
