"""The worst or the mean client as a scorer, for searches and cross-validation."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.metadata_routing import MetadataRequest

from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.metrics._scores import Score, client_scores

_REDUCE = ("worst", "mean")


class ClientScorer:
    """Scorer that reduces the scores of clients to one number; see `make_client_scorer`.

    Parameters
    ----------
    scoring : str, callable or None
        Score of one client's rows.
    reduce : {"worst", "mean"}
        What becomes of the clients' scores.
    min_rows : int
        Clients with fewer rows are left out.
    """

    def __init__(self, scoring: str | Score | None, reduce: str, min_rows: int):
        self.scoring = scoring
        self.reduce = reduce
        self.min_rows = min_rows
        self._metadata_request = MetadataRequest(owner=self)
        self._metadata_request.score.add_request(param="clients", alias=True)
        self._metadata_request.score.add_request(param="sample_weight", alias=None)

    def set_score_request(self, **requests: bool | str | None) -> Self:
        """Set whether `clients` and `sample_weight` are routed to this scorer, or by what name.

        Parameters
        ----------
        **requests : dict of {bool, str or None}
            As in scikit-learn's own scorers.

        Returns
        -------
        self : object
            The scorer.
        """
        unknown = set(requests) - {"clients", "sample_weight"}
        if unknown:
            raise TypeError(f"A client scorer takes clients and sample_weight, not {unknown}.")
        for name, alias in requests.items():
            self._metadata_request.score.add_request(param=name, alias=alias)
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Get what this scorer takes from routing: `clients`, unless told otherwise.

        Returns
        -------
        routing : MetadataRequest
            The request.
        """
        return self._metadata_request

    def _accept_sample_weight(self) -> bool:
        return True  # scikit-learn's searches ask

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        clients: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Score the clients of these rows, and reduce the scores."""
        found = client_scores(
            estimator, X, y, clients, scoring=self.scoring, sample_weight=sample_weight
        )
        large = found.n_rows >= min(self.min_rows, found.n_rows.max())
        scores = found.score[large & ~found.undefined]
        if not len(scores):
            return math.nan
        return float(scores.min() if self.reduce == "worst" else np.mean(scores))

    def __repr__(self) -> str:
        more = "" if self.min_rows == 1 else f", min_rows={self.min_rows}"
        return f"make_client_scorer({self.scoring!r}, reduce={self.reduce!r}{more})"


def make_client_scorer(
    scoring: str | Score | None = None, *, reduce: str = "worst", min_rows: int = 1
) -> ClientScorer:
    r"""Make a scorer of the clients' scores, for searches and cross-validation.

    .. math:: \min_k s_k \quad\text{or}\quad \frac1K \sum_k s_k

    Parameters
    ----------
    scoring : str, callable or None, default=None
        Score of one client's rows, as in `client_scores`.
    reduce : {"worst", "mean"}, default="worst"
        The lowest score of a client, or the mean in which all clients weigh the same.
    min_rows : int, default=1
        Clients with fewer rows are left out, unless all have fewer: of many clients with a row or
        two, one always has the worst score there is. In the interval [1, inf).

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y, clients=..., sample_weight=...)``.

    Raises
    ------
    InvalidParameterError
        If `reduce` or `min_rows` is none of these.

    See Also
    --------
    client_scores : The scores themselves.

    Notes
    -----
    ``clients`` reaches a scorer inside a search or a cross-validation by metadata routing, which
    has to be enabled; the scorer requests it by itself. Around a `ClientColumn` it needs no
    routing: the ids are a column of X. Clients without a score (NaN) are left out; where none has
    one, neither has the fold.

    Discloses what `client_scores` does.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn import config_context
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    >>> from skfedfocal.metrics import make_client_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> clients = np.arange(150) % 10
    >>> search = GridSearchCV(
    ...     LogisticRegression(max_iter=1000),
    ...     {"C": [1e-4, 1.0]},
    ...     scoring=make_client_scorer("accuracy", reduce="worst"),
    ...     cv=StratifiedGroupKFold(5),
    ... )
    >>> with config_context(enable_metadata_routing=True):
    ...     best = search.fit(X, y, clients=clients, groups=clients).best_params_
    >>> best
    {'C': 1.0}
    """
    if reduce not in _REDUCE:
        raise InvalidParameterError(f"reduce must be 'worst' or 'mean'; got {reduce!r}.")
    if min_rows < 1:
        raise InvalidParameterError(f"min_rows must be at least 1; got {min_rows!r}.")
    return ClientScorer(scoring, reduce, min_rows)


worst_client = make_client_scorer(reduce="worst")
mean_client = make_client_scorer(reduce="mean")
