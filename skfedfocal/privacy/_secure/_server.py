"""The server's side of secure sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skfedfocal.privacy._secure import _crypto as crypto
from skfedfocal.privacy._secure._cohort import Cohort
from skfedfocal.privacy._secure._member import (
    Message,
    check_signature,
    commitment,
    self_mask,
)
from skfedfocal.privacy._secure._refusal import SecureSumError
from skfedfocal.privacy._secure._shamir import join
from skfedfocal.privacy._secure._terms import Terms


class Summation:
    """What servers of single rounds and of sessions share; see `SecureServer`.

    Parameters
    ----------
    terms : Terms
        What was agreed beforehand.
    n_values : int
        Values of each client, its weight not counted.
    known_keys : mapping of int to bytes or None, default=None
        Raw public Ed25519 keys of all who may take part; None takes everybody.

    Attributes
    ----------
    left_out : dict of int to str
        Clients whose answer was of no use in this round, and why; they count as vanished.
    """

    n_keys: ClassVar[int]

    def __init__(
        self, terms: Terms, n_values: int, *, known_keys: Mapping[int, bytes] | None = None
    ):
        self.terms = terms
        self.n_values = n_values
        self.known_keys = known_keys
        self.left_out: dict[int, str] = {}
        self._asked: set[int] = set()  # who may upload
        self._uploaded: set[int] = set()
        self._commitments: dict[int, bytes] = {}
        self._total: NDArray[np.uint64] | None = None

    def keys(
        self, round_id: int, answers: Mapping[int, Message], context: bytes = b""
    ) -> dict[int, Message]:
        """From the clients' keys, the cohort as each member is to be told of it.

        Parameters
        ----------
        round_id : int
            Above those before.
        answers : mapping of int to dict
            What `SecureClient.keys` answered.
        context : bytes, default=b""
            What all must see alike in this round, such as a hash of the model.

        Returns
        -------
        dict of int to dict
            One message for each member.
        """
        self.left_out = {}

        def check(client: int, answer: Message) -> bytes:
            keys: bytes = answer["keys"]
            if len(keys) != self.n_keys * crypto.KEY_BYTES:
                raise SecureSumError("the public keys have the wrong length")
            if self.known_keys is not None:
                check_signature(self.known_keys, client, round_id, answer)
            return keys

        good = self._usable(answers, check)
        ids = sorted(good)
        self._cohort = Cohort(
            self.terms, round_id, context, tuple(ids), b"".join(good[client] for client in ids)
        )
        same = {"round_id": round_id, "ids": ids, "keys": self._cohort.keys, "context": context}
        if self.known_keys is None:
            return dict.fromkeys(ids, same)
        signatures = {client: answers[client]["signature"] for client in ids}
        return {
            client: same
            | {"signatures": {p: signatures[p] for p in self._cohort.neighbors(client)}}
            for client in ids
        }

    def masked(self, client: int, answer: Message) -> None:
        """Add one client's masked values, in whatever order they come."""
        if self._total is None or client not in self._asked:
            raise SecureSumError(f"client {client} was not asked for values, or no longer is")
        if client in self._uploaded:
            raise SecureSumError(f"client {client} has already sent its values")
        text = answer["masked"]
        if len(text) != 8 * (self.n_values + 1):
            self.left_out[client] = "its masked values have the wrong length"
            return
        self._total += np.frombuffer(text, "<u8")
        self._uploaded.add(client)

    @property
    def uploaded(self) -> frozenset[int]:
        """Clients whose masked values have come in this round."""
        return frozenset(self._uploaded)

    def _begin(self, asked: Mapping[int, Any]) -> None:
        self._asked = set(asked)
        self._uploaded = set()
        self._commitments = {}
        self._total = np.zeros(self.n_values + 1, np.uint64)

    def _survivors(self) -> list[int]:
        """Close the uploads."""
        if self._total is None:
            raise SecureSumError("no round is under way")
        self._asked = set()
        survivors = sorted(self._uploaded)
        self._cohort.check_survivors(survivors)
        return survivors

    def _usable(
        self, answers: Mapping[int, Message], check: Callable[[int, Message], Any]
    ) -> dict[int, Any]:
        """What `check` makes of each answer; clients whose answer it refuses are left out."""
        good = {}
        for client, answer in answers.items():
            try:
                good[client] = check(client, answer)
            except (SecureSumError, KeyError, TypeError, AttributeError) as error:
                self.left_out[client] = str(error)
        return good

    def _take(self) -> NDArray[np.uint64]:
        """The total under its masks, once: a round is unmasked a single time."""
        total, self._total = self._total, None
        if total is None or self._asked:
            raise SecureSumError("no round is under way, or its uploads are not closed")
        return total

    def _rebuild(self, owner: int, kind: str, answers: Mapping[int, Message]) -> bytes:
        """A client's secret of one kind, from the shares in the answers."""
        found = {}
        for number, holder in enumerate(self._cohort.holders(owner), start=1):
            share = answers.get(holder, {}).get(kind, {}).get(owner)
            if share is not None:
                found[number] = share
        if len(found) < self._cohort.threshold:
            raise SecureSumError(
                f"{len(found)} shares of client {owner} are below the threshold of "
                f"{self._cohort.threshold}: the sum stays masked"
            )
        numbers = list(found)[: self._cohort.threshold]
        return join(numbers, [found[number] for number in numbers])

    def _self_masks(self, tag: bytes, answers: Mapping[int, Message]) -> list[tuple[bytes, bool]]:
        """The own masks of all survivors, to be subtracted."""
        masks = []
        for client in sorted(self._uploaded):
            seed = self._rebuild(client, "seed", answers)
            if commitment(seed, tag) != self._commitments[client]:
                raise SecureSumError(f"the shares do not rebuild the seed of client {client}")
            masks.append((self_mask(seed, tag), True))
        return masks


class SecureServer(Summation):
    """The server of secure sums of one round each, four exchanges a round.

    Parameters
    ----------
    terms : Terms
        What was agreed beforehand.
    n_values : int
        Values of each client, its weight not counted.
    known_keys : mapping of int to bytes or None, default=None
        Raw public Ed25519 keys of all who may take part; None takes everybody.

    Attributes
    ----------
    left_out : dict of int to str
        Clients whose answer was of no use in this round, and why; they count as vanished.

    Notes
    -----
    A client that does not answer an exchange is simply not among the answers. The sum is that of
    the clients whose masked values came, exactly, or there is none.
    """

    n_keys = 2

    def shares(self, answers: Mapping[int, Message]) -> dict[int, Message]:
        """From the clients' sealed shares, those that each is to be sent."""
        cohort = self._cohort

        def check(client: int, answer: Message) -> tuple[dict[int, bytes], bytes]:
            if answer["shares"].keys() != set(cohort.neighbors(client)):
                raise SecureSumError("the shares are not for this client's neighbours")
            return answer["shares"], answer["commitment"]

        good = self._usable(answers, check)
        self._begin(good)
        self._commitments = {client: committed for client, (_, committed) in good.items()}
        self._shared = set(good)
        sealed = {
            client: {
                peer: good[peer][0][client] for peer in cohort.neighbors(client) if peer in good
            }
            for client in good
        }
        return {client: {"shares": shares} for client, shares in sealed.items()}

    def survivors(self) -> dict[int, Message]:
        """Close the uploads; what each survivor is to be told."""
        survivors = self._survivors()
        return {client: {"survivors": survivors} for client in survivors}

    def unmask(self, answers: Mapping[int, Message]) -> NDArray[np.uint64]:
        """From the survivors' shares, the sum of their words, of shape (n_values + 1,)."""
        total, cohort = self._take(), self._cohort
        answers = {client: a for client, a in answers.items() if client in self._uploaded}
        masks = self._self_masks(cohort.view, answers)
        for gone in self._shared - self._uploaded:
            near = [peer for peer in cohort.neighbors(gone) if peer in self._uploaded]
            if not near:
                continue
            private = self._rebuild(gone, "key", answers)
            if crypto.public_key(private) != cohort.keys_of(gone)[1]:
                raise SecureSumError(f"the shares do not rebuild the key of client {gone}")
            publics = [cohort.keys_of(peer)[1] for peer in near]
            seeds = crypto.agree(private, publics, [b"pair mask"], cohort.view)
            # A peer below the vanished client had added their mask.
            masks += [(s[0], peer < gone) for peer, s in zip(near, seeds, strict=True)]
        crypto.add_masks(total, masks)
        return total
