"""Sites in one process, to rehearse a deployment, with faults on demand."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    Context,
    Error,
    Message,
    Metadata,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from skfedfocal.flower._client import make_client_app
from skfedfocal.flower._messages import SECURE_KEYS, SECURE_UNMASK, TRAIN, read_facts

FAULTS = ("gone", "slow", "crash", "nan", "shape")
SECURE_FAULTS = ("keys", "unmask")  # by message, and never drawn


class SimulatedSites(Grid):
    """A Grid whose sites are in this process: for rehearsals, and for tests without a network.

    The client app answers the very messages that it would get over the network.

    Parameters
    ----------
    data : mapping
        ``{site: (X, y)}`` or ``{site: (X, y, sample_weight)}``; or, beside an `app`, the
        configuration of each node, ``{site: {"data-path": ...}}``.
    app : flwr.clientapp.ClientApp or None, default=None
        What the sites run; None is ``make_client_app`` on `data`.
    module : callable, torch.nn.Module or None, default=None
        As for `make_client_app`, where `app` is None.
    evaluation : {None, "sums", "own"}, default="sums"
        As for `make_client_app`, where `app` is None. Such sites describe their rows, too.
    fault_rate : float, default=0.0
        Probability that a site fails in a round, in a way drawn from all there are.
    faults : mapping, default=None
        ``{(site, round): kind}`` with rounds from 1: "gone" (not connected in this round, and
        back in the next), "slow" (its reply comes too late), "crash" (its app raises), "nan" and
        "shape" (its update has a NaN, or one value too many). Under secure sums "nan" does
        nothing, as no one sees updates, and a site can also fail at one exchange of the protocol:
        "keys" (where its cohort is new) and "unmask", also of round 0, for questions.
    random_state : int, default=0
        Seed of the faults.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.flower import SimulatedSites, federate
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 3))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> grid = SimulatedSites({f"site{k}": (X[k::3], y[k::3]) for k in range(3)})
    >>> model = federate(grid, FedFocalClassifier(n_rounds=5, random_state=0))
    >>> model.clients_.tolist()
    ['site0', 'site1', 'site2']
    """

    _nobody_else_comes = True  # so that a server does not wait for them

    def __init__(
        self,
        data: Mapping[str, Any],
        *,
        app: ClientApp | None = None,
        module: Any = None,
        evaluation: str | None = "sums",
        fault_rate: float = 0.0,
        faults: Mapping[tuple[str, int], str] | None = None,
        random_state: int = 0,
    ):
        unknown = set((faults or {}).values()) - set(FAULTS + SECURE_FAULTS)
        if unknown or not 0 <= fault_rate <= 1:
            raise ValueError(
                f"fault_rate must be in [0, 1] and faults among {FAULTS + SECURE_FAULTS}; "
                f"got {fault_rate!r} and {sorted(unknown)}."
            )
        if app is None:
            app = make_client_app(
                lambda config: data[config["site"]],
                module=module,
                evaluation=evaluation,
                description=True,
            )
            configs: dict[str, Any] = {name: {} for name in data}
        else:
            configs = {name: dict(config) for name, config in data.items()}
        self.app = app
        self.configs = configs
        self.fault_rate = fault_rate
        self.faults = dict(faults or {})
        self.random_state = random_state
        self.names = dict(enumerate(configs, 1))  # by node
        self.round = 0
        self._replies: dict[str, Message] = {}
        self._n_sent = 0
        self._states: dict[int, RecordDict] = {}  # of the nodes' apps, from message to message

    def fault(self, site: str, round_: int) -> str | None:
        """What goes wrong at a site in a round, from 1; a function of the seed."""
        if (site, round_) in self.faults:
            return self.faults[site, round_]
        number = list(self.configs).index(site)
        rng = np.random.default_rng([self.random_state, round_, number])
        return str(rng.choice(FAULTS)) if rng.random() < self.fault_rate else None

    # -- the sites -----------------------------------------------------------------------------

    def _answer(self, message: Message) -> Message:
        """The site's reply, with what goes wrong there."""
        node = message.metadata.dst_node_id
        kind, asked = None, message.metadata.message_type
        if asked in (SECURE_KEYS, SECURE_UNMASK):
            of_round = read_facts(message.content["task"])["round"]
            kind = self.faults.get((self.names[node], of_round))
            kind = "gone" if kind == asked.removeprefix("query.secure_") else None
        if asked == TRAIN:
            self.round = read_facts(message.content["task"])["round"] + 1
            kind = self.fault(self.names[node], self.round)
        if kind == "slow":
            return Message(Error(4, "late"), reply_to=message)
        if kind == "crash":
            return Message(Error(8, "crashed"), reply_to=message)
        if kind == "gone":
            return Message(Error(5, "gone"), reply_to=message)
        reply = self.app(message, self._context(node))
        if kind is not None and "delta" in reply.content:
            delta = reply.content["delta"]["delta"].numpy().copy()
            delta = np.append(delta, delta[:1]) if kind == "shape" else delta * np.nan
            reply.content["delta"] = ArrayRecord({"delta": Array(delta)})
        if kind == "shape" and "masked" in reply.content:
            reply.content["masked"]["words"] += bytes(8)
        return reply

    def _context(self, node: int) -> Context:
        name = self.names[node]
        config = {"site": name, **self.configs[name]}
        return Context(1, node, config, self._states.setdefault(node, RecordDict()), {})

    # -- what a Grid does ----------------------------------------------------------------------

    def message(self, content: RecordDict, node: int, kind: str, timeout: float) -> Message:
        """A message from the server; one of Flower's own needs a run of Flower's."""
        self._n_sent += 1
        metadata = Metadata(1, str(self._n_sent), 0, node, "", "", time.time(), timeout, kind)
        return Message(content=content, metadata=metadata)

    def get_node_ids(self) -> Iterable[int]:
        """Numbers of the sites that are connected."""
        if not self._n_sent:  # round 0 begins when all are there
            return list(self.names)
        ahead = self.round + 1
        return [n for n, name in self.names.items() if self.fault(name, ahead) != "gone"]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Have the sites answer the messages."""
        numbers = []
        for message in messages:
            number = message.metadata.message_id
            self._replies[number] = self._answer(message)
            numbers.append(number)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand out the replies, each once."""
        return [self._replies.pop(number) for number in message_ids if number in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Both in one."""
        return self.pull_messages(self.push_messages(messages))

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Flower's older name of `message`."""
        return self.message(content, dst_node_id, message_type, ttl or 3600.0)

    def set_run(self, run: Any) -> None:
        """There is one run only."""

    @property
    def run(self) -> Any:
        """There is one run only."""
        return None
