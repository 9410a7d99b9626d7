"""Many secure sums of one cohort: keys once, then two exchanges a round.

What changes against single rounds: a key agreement lasts, so it must never be rebuilt by others.
For a neighbour that has sent nothing, a client tells its seed with it of this one round, derived
from the lasting secret one-way. Shares of the own seed, fresh in each round, travel with the masked
values and come to their holders with the question for unmasking.

What bounds it: nobody holds shares of a pair's round seed. So a round is lost, and refused, when a
client vanishes between its upload and its answer *and* one of its neighbours has not uploaded;
single rounds survive that. Shares of every pair's seed with every upload would mend it, at k^2
shares a client. And who steals a client's lasting secret can read what that client has sent in the
session before, where single rounds forget their keys.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skfedfocal.privacy._secure import _crypto as crypto
from skfedfocal.privacy._secure._cohort import Cohort
from skfedfocal.privacy._secure._member import Member, Message, as_bytes, commitment, self_mask
from skfedfocal.privacy._secure._refusal import SecureSumError
from skfedfocal.privacy._secure._server import Summation
from skfedfocal.privacy._secure._shamir import SHARE_BYTES, split

_READY = "masked"


def _tag(cohort: Cohort, round_id: int, context: bytes) -> bytes:
    """What all who take part in a round of a session must see alike."""
    return crypto.digest(b"round", cohort.view, round_id.to_bytes(8, "little"), context)


class SessionClient(Member):
    """A client in many sums of one cohort: `keys` and `join` once, then `masked` and `unmask`.

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

    Notes
    -----
    The server learns the sum over the survivors of each round and who they are. Where it has the
    sums of two rounds in which the others sent the same values, it has their difference.
    """

    n_keys = 1

    def join(self, message: Message) -> None:
        """Check the cohort and agree on a secret with each neighbour, for the session."""
        with self._at("cohort", then=_READY):
            cohort = self._join(message)
            peers = cohort.neighbors(self.client_id)
            publics = [cohort.keys_of(peer)[0] for peer in peers]
            labels = [b"channel", b"pair"]
            secrets = crypto.agree(self._kept["private"][0], publics, labels, cohort.view)
            self._kept["secrets"] = dict(zip(peers, secrets, strict=True))
            del self._kept["private"]

    def masked(
        self, round_id: int, values: ArrayLike, weight: float = 1.0, context: bytes = b""
    ) -> Message:
        """Masked values of a round, with sealed shares of what unmasks them.

        Parameters
        ----------
        round_id : int
            Above those before.
        values : array-like of shape (n_values,)
            What is to be summed.
        weight : float, default=1.0
            By which they are multiplied.
        context : bytes, default=b""
            What all must see alike in this round, such as a hash of the model.

        Returns
        -------
        dict
            ``{"masked": words, "shares": {neighbour: sealed}, "commitment": bytes}``.
        """
        if self._step == "unmask" and round_id > self.last_round:
            self._step = _READY  # the server has given up the round before
        with self._at(_READY, then="unmask", otherwise=_READY):
            self._count(round_id)
            cohort, own, secrets = self._cohort, self.client_id, self._kept["secrets"]
            tag, seed = _tag(cohort, round_id, context), os.urandom(crypto.KEY_BYTES)
            vector = self._encode(values, weight)
            masks = [(self_mask(seed, tag), False)]
            masks += [
                (crypto.derive(pair, b"pair mask", tag), peer < own)
                for peer, (_, pair) in secrets.items()
            ]
            crypto.add_masks(vector, masks)
            holders = cohort.holders(own)
            shares = dict(zip(holders, split(seed, cohort.threshold, len(holders)), strict=True))
            self._kept |= {"tag": tag, "own_share": shares.pop(own)}
            sealed = {
                peer: crypto.seal(secrets[peer][0], share, tag + self._from_to(own, peer))
                for peer, share in shares.items()
            }
            return {
                "masked": as_bytes(vector),
                "shares": sealed,
                "commitment": commitment(seed, tag),
            }

    def unmask(self, message: Message) -> Message:
        """From survivors and their shares: those shares, and for other neighbours the round's seed.

        Parameters
        ----------
        message : dict
            ``{"round_id": int, "survivors": clients, "shares": {neighbour: sealed}}``.

        Returns
        -------
        dict
            ``{"seed": {survivor: share}, "pair": {other: seed}}``.
        """
        with self._at("unmask", then=_READY, otherwise=_READY):
            cohort, own, secrets = self._cohort, self.client_id, self._kept["secrets"]
            tag, seed = self._kept.pop("tag"), {own: self._kept.pop("own_share")}
            if message["round_id"] != self.last_round:
                raise SecureSumError(
                    f"round {message['round_id']} is not the one under way, {self.last_round}"
                )
            alive = cohort.check_survivors(message["survivors"])
            cohort.check_holders(own, alive)
            near = alive & secrets.keys()
            if own not in alive or message["shares"].keys() != near:
                raise SecureSumError("the survivors do not fit the shares that came with them")
            for peer, sealed in message["shares"].items():
                about = tag + self._from_to(peer, own)
                seed[peer] = crypto.unseal(secrets[peer][0], sealed, about)
                if len(seed[peer]) != SHARE_BYTES:
                    raise SecureSumError("a share has the wrong length")
            pair = {
                peer: crypto.derive(secrets[peer][1], b"pair mask", tag)
                for peer in secrets.keys() - near
            }
            return {"seed": seed, "pair": pair}


class SessionServer(Summation):
    """The server of a session: `keys` once, then `begin`, `masked`, `survivors`, `unmask`.

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

    n_keys = 1

    def begin(self, round_id: int, context: bytes = b"") -> None:
        """Open a round to the uploads of the cohort."""
        self.left_out = {}
        self._begin(self._cohort.place)
        self._round_id, self._tag = round_id, _tag(self._cohort, round_id, context)
        self._sealed: dict[int, dict[int, bytes]] = {}

    def masked(self, client: int, answer: Message) -> None:
        """Add one client's masked values and keep its shares, in whatever order they come."""
        if client in self._asked and answer["shares"].keys() != set(self._cohort.neighbors(client)):
            self.left_out[client] = "the shares are not for this client's neighbours"
            return
        super().masked(client, answer)
        if client in self._uploaded:
            self._sealed[client] = answer["shares"]
            self._commitments[client] = answer["commitment"]

    def survivors(self) -> dict[int, Message]:
        """Close the uploads; what each survivor is to be told and sent."""
        survivors = self._survivors()
        return {
            client: {
                "round_id": self._round_id,
                "survivors": survivors,
                "shares": {
                    peer: self._sealed[peer][client]
                    for peer in self._cohort.neighbors(client)
                    if peer in self._uploaded
                },
            }
            for client in survivors
        }

    def unmask(self, answers: Mapping[int, Message]) -> NDArray[np.uint64]:
        """From the survivors' answers, the sum of their words, of shape (n_values + 1,)."""
        total = self._take()
        answers = {client: a for client, a in answers.items() if client in self._uploaded}
        masks = self._self_masks(self._tag, answers)
        for client in sorted(self._uploaded):
            for gone in self._cohort.neighbors(client):
                if gone in self._uploaded:
                    continue
                seed = answers.get(client, {}).get("pair", {}).get(gone)
                if seed is None or len(seed) != crypto.KEY_BYTES:
                    raise SecureSumError(
                        f"client {client} has vanished after its upload, and so has its seed of "
                        f"this round with client {gone}, who has sent nothing"
                    )
                masks.append((seed, client < gone))
        crypto.add_masks(total, masks)
        return total
