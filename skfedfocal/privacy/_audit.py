"""Audits: what an attack finds out, to set beside what was promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, binom, rankdata

from skfedfocal.privacy._accounting import check_delta, gaussian_epsilon

_MOST_EPSILON = 50.0
_SHARES = (0.02, 0.1, 0.3, 1.0)  # of the canaries that are guessed about


@dataclass(frozen=True)
class AuditResult:
    """What an audit found.

    Attributes
    ----------
    epsilon : float
        Estimate, from scores taken to be normal.
    epsilon_lower : float
        Lower bound at the given confidence, whatever the scores' distribution.
    mu : float
        Distance of the two groups of scores, in standard deviations.
    auc : float
        Chance that a score of the included is above one of the others.
    """

    epsilon: float
    epsilon_lower: float
    mu: float
    auc: float


def audit(
    scores: ArrayLike, included: ArrayLike, delta: float, *, confidence: float = 0.95
) -> AuditResult:
    r"""Estimate from one training what it leaks, by canaries of which a random half took part.

    The estimate fits two normal laws of one width, :math:`\mu` apart, to the scores, and takes the
    closed form of :math:`\varepsilon(\mu, \delta)`. Where every client is in every round it is
    nearly the truth, for canaries as `Canaries` makes them: an estimate above the promised epsilon
    shows that noise is missing. Where units are sampled it is only an estimate. The lower bound
    [1]_ holds for any scores, and is far below the truth.

    Parameters
    ----------
    scores : array-like of shape (n_canaries,)
        High for canaries that seem to have taken part.
    included : array-like of shape (n_canaries,)
        Which did: each by a coin of its own.
    delta : float
        In (0, 1).
    confidence : float, default=0.95
        Of the lower bound.

    Returns
    -------
    result : AuditResult
        To be set beside the promised epsilon at the same delta.

    References
    ----------
    .. [1] T. Steinke, M. Nasr, M. Jagielski, "Privacy auditing with one (1) training run", NeurIPS
       2023.
    .. [2] G. Andrew et al., "One-shot empirical privacy estimation for federated learning", ICLR
       2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.privacy import audit
    >>> rng = np.random.default_rng(0)
    >>> included = rng.random(20000) < 0.5
    >>> result = audit(rng.normal(size=20000) + included, included, delta=1e-5)
    >>> round(result.mu, 1), round(result.auc, 2)  # of the Gaussian mechanism with noise 1
    (1.0, 0.76)
    """
    check_delta(delta)
    score, inside = np.asarray(scores, np.float64), np.asarray(included, bool)
    _check_scores(score, inside)
    yes, no = score[inside], score[~inside]
    gap = max(yes.mean() - no.mean(), 0.0)
    width = np.sqrt((yes.var(ddof=1) + no.var(ddof=1)) / 2)
    mu = float(gap / width) if width > 0 else (np.inf if gap > 0 else 0.0)
    return AuditResult(
        epsilon=gaussian_epsilon(mu, delta) if np.isfinite(mu) else np.inf,
        epsilon_lower=_one_run(score, inside, delta, confidence),
        mu=mu,
        auc=_auc(yes, no),
    )


def audit_membership(
    losses: ArrayLike, included: ArrayLike, y: ArrayLike, *, confidence: float = 0.95
) -> dict[Any, tuple[float, float, float]]:
    """Measure, class by class, how well the loss of a row tells whether it was trained on.

    Rare classes are learned by heart first: an attack that is hopeless on the whole may succeed on
    them.

    Parameters
    ----------
    losses : array-like of shape (n_rows,)
        Of the fitted model, on rows that it was trained on and on others of the same kind.
    included : array-like of shape (n_rows,)
        Which were trained on.
    y : array-like of shape (n_rows,)
        Labels.
    confidence : float, default=0.95
        Of each interval.

    Returns
    -------
    by_class : dict
        For each label the chance that a row trained on has the lower loss (AUC; 0.5 tells
        nothing), and the bounds of its Clopper-Pearson interval. Labels without rows on one side
        are left out.

    Notes
    -----
    The interval is that of as many independent comparisons as there are disjoint pairs of rows;
    the AUC takes all pairs, and varies no more.

    References
    ----------
    .. [1] S. Yeom et al., "Privacy risk in machine learning: analyzing the connection to
       overfitting", CSF 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.privacy import audit_membership
    >>> losses, included = np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, True, False, False])
    >>> auc, low, high = audit_membership(losses, included, ["a"] * 4)["a"]
    >>> auc, round(low, 2), high
    (1.0, 0.16, 1.0)
    """
    loss, inside, labels = np.asarray(losses, np.float64), np.asarray(included, bool), np.asarray(y)
    if not loss.shape == inside.shape == labels.shape:
        raise ValueError("losses, included and y must have one entry per row each.")
    found = {}
    for label in np.unique(labels):
        yes, no = loss[inside & (labels == label)], loss[~inside & (labels == label)]
        if len(yes) and len(no):
            auc = _auc(-yes, -no)
            low, high = clopper_pearson(
                auc * min(len(yes), len(no)), min(len(yes), len(no)), confidence
            )
            found[label.item() if hasattr(label, "item") else label] = (auc, low, high)
    return found


def clopper_pearson(successes: float, n: int, confidence: float) -> tuple[float, float]:
    """Return the two-sided exact interval of a probability."""
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, n - successes + 1) if successes > 0 else 0.0
    high = beta.ppf(1 - tail, successes + 1, n - successes) if successes < n else 1.0
    return float(low), float(high)


def _check_scores(scores: NDArray[np.float64], included: NDArray[np.bool_]) -> None:
    if scores.ndim != 1 or scores.shape != included.shape:
        raise ValueError("scores and included must have one entry per canary each.")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite.")
    if min(included.sum(), (~included).sum()) < 2:
        raise ValueError("An audit needs at least two canaries of each kind.")


def _auc(high: NDArray[np.float64], low: NDArray[np.float64]) -> float:
    """Return the chance that a value of the first is above one of the second; ties count half."""
    ranks = rankdata(np.concatenate([high, low]))[: len(high)]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


# -- the bound from one training (Steinke et al. 2023, theorem 5.2) --------------------------------


def _one_run(
    scores: NDArray[np.float64], included: NDArray[np.bool_], delta: float, confidence: float
) -> float:
    """Return the best bound over some numbers of guesses, each at its share of the risk."""
    order = np.argsort(scores)
    n = len(scores)
    best = 0.0
    for share in _SHARES:
        half = max(1, int(share * n / 2))
        right = int(included[order[-half:]].sum() + (~included[order[:half]]).sum())
        risk = (1 - confidence) / len(_SHARES)
        best = max(best, one_run_bound(n, 2 * half, right, delta, risk))
    return best


def one_run_bound(
    n_canaries: int, n_guesses: int, n_right: int, delta: float, risk: float
) -> float:
    """Largest epsilon that so many right guesses refute.

    Parameters
    ----------
    n_canaries : int
        Each included by a fair coin of its own.
    n_guesses, n_right : int
        Canaries that were guessed about, and right guesses among them.
    delta : float
        Of the guarantee.
    risk : float
        Chance of a bound that is too high.

    Returns
    -------
    epsilon : float
        At least 0.
    """
    if _p_value(n_canaries, n_guesses, n_right, 0.0, delta) >= risk:
        return 0.0
    low, high = 0.0, _MOST_EPSILON
    while high - low > 1e-6:
        middle = (low + high) / 2
        if _p_value(n_canaries, n_guesses, n_right, middle, delta) < risk:
            low = middle
        else:
            high = middle
    return low


def _p_value(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """Bound the chance of `v` right guesses of `r` under (epsilon, delta)."""
    q = 1 / (1 + np.exp(-epsilon))
    tail = binom.sf(v - 1, r, q)
    i = np.arange(1, v + 1)
    gain = (binom.cdf(v - 1, r, q) - binom.cdf(v - 1 - i, r, q)) / i
    return float(min(tail + 2 * m * delta * gain.max(initial=0.0), 1.0))
