"""What an encoding is: questions to clients, from whose sums an encoder of rows is made."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar

from numpy.typing import NDArray

from skfedfocal._component import Component
from skfedfocal._data.queries import Query
from skfedfocal.encodings._encoder import RowEncoder

Questions = Generator[Query, NDArray[Any], RowEncoder | None]


class NumericEncoding(Component):
    """How columns of numbers are brought into a form that the first layer can take.

    Attributes
    ----------
    discloses : frozenset of str
        What the server learns by it.

    Examples
    --------
    >>> from skfedfocal.encodings import ENCODINGS
    >>> {name: sorted(kind.discloses)[-1] for name, kind in ENCODINGS.items()}["standard"]
    'sums of columns, added up over the clients'
    """

    discloses: ClassVar[frozenset[str]] = frozenset()

    def takes(self, n_features: int) -> bool:
        """Whether rows of so many columns are encoded at all."""
        return True

    def questions(self, n_features: int) -> Questions:
        """Ask clients for sums; in the end the encoder, or None for rows as they are."""
        raise NotImplementedError
