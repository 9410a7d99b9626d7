"""What the clients of single rounds and of sessions share: keys, the joining of a cohort, state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skfedfocal.privacy._secure import _crypto as crypto
from skfedfocal.privacy._secure._cohort import Cohort
from skfedfocal.privacy._secure._encoding import EncodingError
from skfedfocal.privacy._secure._refusal import SecureSumError
from skfedfocal.privacy._secure._terms import Terms

Message = dict[str, Any]  # of bytes, ints, lists of ints, and dicts from clients' ids to bytes
CLOSED = "keys"  # the step of a client that takes no part in a round


def signed_text(client_id: int, round_id: int, keys: bytes) -> bytes:
    """What a client signs: its keys are for one round, or one session, and no other."""
    numbers = client_id.to_bytes(8, "little") + round_id.to_bytes(8, "little")
    return crypto.digest(b"keys", numbers, keys)


def check_signature(
    known_keys: Mapping[int, bytes], client_id: int, round_id: int, message: Mapping[str, bytes]
) -> None:
    """Refuse keys that the pinned key of their owner has not signed."""
    if client_id not in known_keys:
        raise SecureSumError(f"client {client_id} is unknown: no key of it is pinned")
    text = signed_text(client_id, round_id, message["keys"])
    if not crypto.is_signed(known_keys[client_id], message["signature"], text):
        raise SecureSumError(f"the keys of client {client_id} are unsigned, or signed by another")


class Member:
    """A client's side; see `SecureClient` and `SessionClient`.

    Parameters
    ----------
    client_id : int
        In 0..2^63-1.
    terms : Terms
        What was agreed beforehand.
    signing_key : bytes or None, default=None
        Raw private Ed25519 key that signs this client's keys.
    known_keys : mapping of int to bytes or None, default=None
        Raw public Ed25519 keys of all who may take part. None believes the server, and so does
        not go with ``Terms(active=True)``.
    last_round : int, default=-1
        No round up to this one is taken part in.

    Attributes
    ----------
    last_round : int
        The last round that this client has begun.
    sent_zeros : bool
        Whether a value or weight was out of its bound in the last upload, so that zeros with
        weight zero were sent for it.
    """

    n_keys: ClassVar[int]

    def __init__(
        self,
        client_id: int,
        terms: Terms,
        *,
        signing_key: bytes | None = None,
        known_keys: Mapping[int, bytes] | None = None,
        last_round: int = -1,
    ):
        if terms.active and known_keys is None:
            raise ValueError(
                "Terms(active=True) needs known_keys: a server that may lie could send its own"
            )
        self.client_id = client_id
        self.terms = terms
        self.signing_key = signing_key
        self.known_keys = known_keys
        self.last_round = last_round
        self.sent_zeros = False
        self._step = CLOSED
        self._kept: dict[str, Any] = {}  # plain values only, among them secrets
        self._cohort_cache: Cohort | None = None

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as plain values; it holds secrets and must not be sent."""
        names = ("last_round", "sent_zeros", "_step", "_kept")
        return {name: deepcopy(getattr(self, name)) for name in names}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, which must be the latest: an earlier one would answer twice."""
        self._cohort_cache = None
        for name, value in state.items():
            setattr(self, name, deepcopy(value))

    def keys(self, round_id: int) -> Message:
        """Begin: fresh public keys, signed if there is a signing key. Forgets any earlier round."""
        self._count(round_id)
        pairs = [crypto.new_key() for _ in range(self.n_keys)]
        private, public = [key for key, _ in pairs], b"".join(key for _, key in pairs)
        self._cohort_cache = None
        self._kept = {"round_id": round_id, "private": private, "public": public}
        self._step = "cohort"
        signature = b""
        if self.signing_key is not None:
            text = signed_text(self.client_id, round_id, public)
            signature = crypto.sign(self.signing_key, text)
        return {"keys": public, "signature": signature}

    def _count(self, round_id: int) -> None:
        if not self.last_round < round_id < 2**63:
            raise SecureSumError(f"round {round_id} is not above the last, {self.last_round}")
        self.last_round = round_id

    @contextmanager
    def _at(self, step: str, then: str, otherwise: str = CLOSED) -> Iterator[None]:
        """Do a step once, in its turn; after a step that was refused the round is over."""
        if self._step != step:
            raise SecureSumError(
                f"client {self.client_id} is asked for {step!r} and is at {self._step!r}: "
                "each step is answered once, in its turn"
            )
        self._step = otherwise
        try:
            yield
        except Exception as error:
            if otherwise == CLOSED:
                self._kept = {}
            if isinstance(error, KeyError | TypeError | AttributeError):
                raise SecureSumError(f"a message for {step!r} is malformed: {error!r}") from error
            raise
        self._step = then

    def _join(self, message: Message) -> Cohort:
        """Check who is in the cohort and with which keys, and keep it."""
        if message["round_id"] != self._kept["round_id"]:
            raise SecureSumError("the cohort is of another round")
        self._kept |= {name: message[name] for name in ("ids", "keys", "context")}
        cohort = self._cohort
        if self.client_id not in cohort.place:
            raise SecureSumError(f"client {self.client_id} is not in the cohort")
        if b"".join(cohort.keys_of(self.client_id)) != self._kept["public"]:
            raise SecureSumError("the cohort has another key for this client than it sent")
        if self.known_keys is not None:
            if unknown := cohort.place.keys() - self.known_keys.keys():
                raise SecureSumError(f"clients {sorted(unknown)} are unknown: no key is pinned")
            for peer in cohort.neighbors(self.client_id):
                keys, signature = b"".join(cohort.keys_of(peer)), message["signatures"][peer]
                signed = {"keys": keys, "signature": signature}
                check_signature(self.known_keys, peer, cohort.round_id, signed)
        return cohort

    @property
    def cohort_size(self) -> int:
        """Clients of the cohort that this one has joined."""
        return len(self._cohort.ids)

    @property
    def _cohort(self) -> Cohort:
        if self._cohort_cache is None:
            kept = self._kept
            self._cohort_cache = Cohort(
                self.terms, kept["round_id"], kept["context"], tuple(kept["ids"]), kept["keys"]
            )
        return self._cohort_cache

    def _encode(self, values: ArrayLike, weight: float) -> NDArray[np.uint64]:
        """Words of the values; zeros for bad ones, as leaving out by value would show something."""
        encoding = self.terms.encoding
        try:
            words = encoding.encode(values, weight)
            self.sent_zeros = False
        except EncodingError:
            words = encoding.zeros(len(np.asarray(values)))
            self.sent_zeros = True
        return words

    def _from_to(self, sender: int, receiver: int) -> bytes:
        return sender.to_bytes(8, "little") + receiver.to_bytes(8, "little")


def self_mask(seed: bytes, tag: bytes) -> bytes:
    """Key of the mask that a client adds to its values by itself."""
    return crypto.derive(seed, b"self mask", tag)


def commitment(seed: bytes, tag: bytes) -> bytes:
    """By which the server sees that it has rebuilt the right seed, and learns nothing before."""
    return crypto.derive(seed, b"commitment", tag)


def as_bytes(words: NDArray[np.uint64]) -> bytes:
    """Words as they are sent, little-endian."""
    return words.astype("<u8", copy=False).tobytes()
