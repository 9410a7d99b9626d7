"""A client's side of a single secure sum."""

from __future__ import annotations

import os

from numpy.typing import ArrayLike

from skfedfocal.privacy._secure import _crypto as crypto
from skfedfocal.privacy._secure._member import (
    CLOSED,
    Member,
    Message,
    as_bytes,
    commitment,
    self_mask,
)
from skfedfocal.privacy._secure._refusal import SecureSumError
from skfedfocal.privacy._secure._shamir import SHARE_BYTES, split


class SecureClient(Member):
    r"""A client in secure sums of one round each.

    A round is four answers: `keys`, `shares`, `masked`, `unmask`. Client u sends

    .. math:: y_u = x_u + \mathrm{PRG}(b_u)
              + \sum_{v \in N(u), v > u} \mathrm{PRG}(s_{uv})
              - \sum_{v \in N(u), v < u} \mathrm{PRG}(s_{uv}) \pmod{2^{64}}

    with a seed :math:`b_u` of its own and a key :math:`s_{uv}` agreed with each neighbour. The keys
    cancel in the sum; :math:`b_u` is rebuilt from shares for clients that have sent, and the key
    agreement of u for one that has not, never both.

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
        The last round that this client has begun. Keep it where the client cannot lose it.
    sent_zeros : bool
        Whether a value or weight was out of its bound in the last upload, so that zeros with
        weight zero were sent for it.

    Notes
    -----
    The server learns the sum over the survivors, who they are, and nothing else of their values as
    long as fewer than the threshold of anyone's neighbours tell it what they know.

    References
    ----------
    K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning",
    CCS 2017.
    """

    n_keys = 2

    def shares(self, message: Message) -> Message:
        """From the cohort, sealed shares of this client's two secrets for each neighbour."""
        with self._at("cohort", then="masked"):
            cohort = self._join(message)
            peers = cohort.neighbors(self.client_id)
            publics = [cohort.keys_of(peer)[0] for peer in peers]
            channels = crypto.agree(self._kept["private"][0], publics, [b"channel"], cohort.view)
            self._kept["channels"] = {
                peer: key for peer, (key,) in zip(peers, channels, strict=True)
            }
            seed = self._kept["seed"] = os.urandom(crypto.KEY_BYTES)
            holders = cohort.holders(self.client_id)
            of_seed = split(seed, cohort.threshold, len(holders))
            of_key = split(self._kept["private"][1], cohort.threshold, len(holders))
            sealed = {}
            for holder, *both in zip(holders, of_seed, of_key, strict=True):
                if holder == self.client_id:
                    self._kept["own_share"] = both[0]
                    continue
                about = cohort.view + self._from_to(self.client_id, holder)
                sealed[holder] = crypto.seal(self._kept["channels"][holder], b"".join(both), about)
            return {"shares": sealed, "commitment": commitment(seed, cohort.view)}

    def masked(
        self, message: Message, values: ArrayLike, weight: float = 1.0, context: bytes = b""
    ) -> Message:
        """From the neighbours' shares, this client's masked values.

        Parameters
        ----------
        message : dict
            ``{"shares": {client: sealed shares}}`` of the neighbours that have sent some.
        values : array-like of shape (n_values,)
            What is to be summed.
        weight : float, default=1.0
            By which they are multiplied.
        context : bytes, default=b""
            As this client makes it of what it was told (a hash of the model it has trained on);
            it must be what was announced with the cohort.

        Returns
        -------
        dict
            ``{"masked": words of weight and values}``.
        """
        with self._at("masked", then="unmask"):
            cohort, own = self._cohort, self.client_id
            if context != cohort.context:
                raise SecureSumError("the context differs from what was announced")
            received = {}
            for peer, sealed in message["shares"].items():
                if peer not in self._kept["channels"]:
                    raise SecureSumError(f"shares of {peer}, who is not a neighbour")
                about = cohort.view + self._from_to(peer, own)
                received[peer] = crypto.unseal(self._kept["channels"][peer], sealed, about)
                if len(received[peer]) != 2 * SHARE_BYTES:
                    raise SecureSumError("a share has the wrong length")
            cohort.check_holders(own, received.keys() | {own})
            self._kept["received"] = received
            publics = [cohort.keys_of(peer)[1] for peer in received]
            seeds = crypto.agree(self._kept["private"][1], publics, [b"pair mask"], cohort.view)
            masks = [(self_mask(self._kept["seed"], cohort.view), False)]
            masks += [(s[0], peer < own) for peer, s in zip(received, seeds, strict=True)]
            vector = self._encode(values, weight)
            crypto.add_masks(vector, masks)
            return {"masked": as_bytes(vector)}

    def unmask(self, message: Message) -> Message:
        """From the survivors, a share of each neighbour's seed, or of its key if it is gone.

        Parameters
        ----------
        message : dict
            ``{"survivors": clients whose masked values have come}``.

        Returns
        -------
        dict
            ``{"seed": {survivor: share}, "key": {other: share}}``.
        """
        with self._at("unmask", then=CLOSED):
            kept, self._kept, cohort = self._kept, {}, self._cohort
            alive = cohort.check_survivors(message["survivors"])
            cohort.check_holders(self.client_id, alive)
            received = kept["received"]
            near = alive.intersection(cohort.neighbors(self.client_id))
            if self.client_id not in alive or not near <= received.keys():
                raise SecureSumError("the survivors do not fit those who have shared")
            seed = {peer: received[peer][:SHARE_BYTES] for peer in near}
            seed[self.client_id] = kept["own_share"]
            gone = received.keys() - near
            return {"seed": seed, "key": {peer: received[peer][SHARE_BYTES:] for peer in gone}}
