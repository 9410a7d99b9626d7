"""Where a search stands: all that its later rounds depend on, in one value, also as plain data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._training.search import Run, train_together
from skfedfocal._training.state import check_packed, packed, unpacked
from skfedfocal.engines import ManyFederations

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Judge = Callable[[Sequence[Run]], Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Standing:
    """Where a search stands after a round.

    Attributes
    ----------
    runs : tuple of Run
        Those in training.
    splits : str
        A hash of the rows that each fold trains and validates on.
    scores, chance : ndarray of shape (n_candidates, n_folds)
        Balanced accuracies, and the variances that chance gives their leads over the first
        candidate's; NaN before a first judgement.
    n_rounds : ndarray of shape (n_candidates,)
        How far each candidate had come when it was judged.
    n_done : int
        Rounds of the search.
    is_over : bool
        Whether all has been judged.
    """

    runs: tuple[Run, ...]
    splits: str
    scores: Array
    chance: Array
    n_rounds: NDArray[np.int64]
    n_done: int = 0
    is_over: bool = False

    @classmethod
    def of(cls, runs: Sequence[Run], splits: Sequence[tuple[Mask, Mask]]) -> Standing:
        """That before the first round."""
        digest = hashlib.sha256(np.packbits(splits).tobytes()).hexdigest()
        shape = max(run.candidate for run in runs) + 1, max(run.fold for run in runs) + 1
        scores, chance = np.full((2, *shape), np.nan)
        return cls(tuple(runs), digest, scores, chance, np.zeros(shape[0], np.int64))

    def rounds(
        self,
        stages: Sequence[tuple[int, int]],
        n_rounds: int,
        many: ManyFederations,
        judge: Judge,
    ) -> Iterator[Standing]:
        """Go on to the end.

        Parameters
        ----------
        stages : sequence of tuple of int
            Rounds of each stage, and how many candidates it leaves.
        n_rounds : int
            Of the training to choose for. If one clearly leads after the stages, it and the first
            train for all of them: what is better early need not be in the end.
        many : ManyFederations
            Where runs train.
        judge : callable
            From runs to the score of each, and the variance that chance gives its lead over the
            first candidate on the same fold.

        Yields
        ------
        standing : Standing
            After each round, and after the last of a stage with its judgement.
        """
        standing, end = self, 0
        rest = n_rounds - sum(n_more for n_more, _ in stages)
        for n_more, n_left in [*stages, (rest, 1)]:
            end += n_more
            while standing.n_done < end and not standing.is_over:
                runs, n_done = train_together(standing.runs, many), standing.n_done + 1
                standing = replace(standing, runs=runs, n_done=n_done)
                if n_done == end:
                    standing = standing._judged(judge, n_left, n_rounds)
                yield standing

    def _judged(self, judge: Judge, n_left: int, n_wanted: int) -> Standing:
        scores, chance, n_rounds = self.scores.copy(), self.chance.copy(), self.n_rounds.copy()
        for run, found in zip(self.runs, judge(self.runs), strict=True):
            scores[run.candidate, run.fold], chance[run.candidate, run.fold] = found
            n_rounds[run.candidate] = self.n_done
        judged = replace(self, scores=scores, chance=chance, n_rounds=n_rounds)
        if n_left > 1:
            left = leaders(scores, n_rounds, n_left)
            return replace(judged, runs=tuple(run for run in self.runs if run.candidate in left))
        return replace(judged, is_over=self.n_done >= n_wanted or judged.chosen() == 0)

    def chosen(self) -> int:
        """Number of the candidate to take: the first, unless another is clearly better."""
        best = int(ranked(self.scores, self.n_rounds)[0])
        lead = self.scores[best] - self.scores[0]
        return best if clearly_better(lead, self.chance[best]) else 0

    def packed(self) -> dict[str, Any]:
        """The standing as plain values and arrays; of one that is over only what was found."""
        runs = () if self.is_over else self.runs
        return {
            "runs": [[run.candidate, run.fold] for run in runs],
            "states": [_packed(run) for run in runs],
            "splits": self.splits,
            "scores": self.scores,
            "chance": self.chance,
            "n_rounds": self.n_rounds,
            "n_done": self.n_done,
            "is_over": self.is_over,
        }

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise ValueError where the values of `packed` are of a search on other splits."""
        if values.get("splits") != self.splits:
            raise ValueError(
                "The search in the checkpoint was judged on other splits of the rows; use the same "
                "cv, with a random_state if it shuffles, or another file."
            )

    def resumed(self, values: Mapping[str, Any]) -> Standing:
        """The standing of `packed`, with the runs of this one, which is before the first round.

        Raises
        ------
        ValueError
            If the values are none of `packed`.
        """
        scores, chance, n_rounds = values["scores"], values["chance"], values["n_rounds"]
        n_done, is_over = values["n_done"], values["is_over"]
        states = dict(zip(map(tuple, values["runs"]), values["states"], strict=True))
        runs = tuple(
            _resumed(run, states.pop((run.candidate, run.fold)))
            for run in self.runs
            if (run.candidate, run.fold) in states
        )
        sound = (
            scores.shape == chance.shape == self.scores.shape
            and scores.dtype == chance.dtype == np.float64
            and n_rounds.shape == self.n_rounds.shape
            and n_rounds.dtype == np.int64
            and type(n_done) is int
            and type(is_over) is bool
            and bool(runs) != is_over
            and not states
            and all(run.state.server.n_rounds == n_done for run in runs)
            and not (is_over and np.isnan(scores).any())
        )
        if not sound:
            raise ValueError("the search is of another form")
        return Standing(runs, self.splits, scores, chance, n_rounds, n_done, is_over)


def _packed(run: Run) -> dict[str, Any]:
    """The state of a run; the clients and rows are those of the whole search."""
    values = packed(run.state, run.federation.client_ids, None)
    return {name: value for name, value in values.items() if name != "clients"}


def _resumed(run: Run, values: Mapping[str, Any]) -> Run:
    ids, server = run.federation.client_ids, run.state.server
    values = {**values, "clients": ids}
    check_packed(values, server.theta)
    return replace(run, state=unpacked(values, server, ids, None))


def leaders(scores: Array, n_rounds: NDArray[np.int64], n_left: int) -> NDArray[np.int64]:
    """The first candidate, which the others must beat, and the best of the others."""
    order = ranked(scores, n_rounds)
    return np.concatenate([[0], order[order != 0]])[:n_left]


def ranked(scores: Array, n_rounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Candidates from best to worst: those that came further first, the first of equals first."""
    return np.lexsort((-scores.mean(1), -n_rounds))


def clearly_better(lead: Array, chance: Array) -> bool:
    """Whether the mean of a lead over the folds is more than two standard errors above zero.

    The error is the larger of two: that which the folds show, of which there are few, and that
    which the validation rows let expect on which the two candidates differ.
    """
    n = len(lead)
    variance = max(lead.var(ddof=1) if n > 1 else 0.0, chance.mean()) / n
    return bool(lead.mean() > 2 * np.sqrt(variance))
