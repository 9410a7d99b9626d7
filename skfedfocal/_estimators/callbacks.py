"""scikit-learn's callbacks, where it has them: a fit is a task, and each round one inside it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from sklearn.utils.metaestimators import available_if

from skfedfocal._sklearn import callback_support, has_callbacks
from skfedfocal._training.federation import Round
from skfedfocal._training.training import Training
from skfedfocal.engines import Engine

_PARENT = "_parent_callback_ctx"  # what a fit around has put there


class CallbackSupport:
    """What an estimator has whose rounds callbacks can follow."""

    @available_if(has_callbacks)
    def set_callbacks(self, *callbacks: Any) -> Self:
        """Set scikit-learn's callbacks, which then follow `fit` round by round.

        A callback may end the training: where its `on_fit_task_end` returns True after a round, no
        further round follows, and the model is that of the rounds so far. With `privacy` callbacks
        see the model, but no rows.

        Parameters
        ----------
        *callbacks : callback instances
            As `sklearn.callback.ProgressBar` and `sklearn.callback.ScoringMonitor`, or of one's
            own. None takes those away that were set before.

        Returns
        -------
        self : object
            The estimator.

        Notes
        -----
        scikit-learn has callbacks from 1.9 on; below, this method is not there.
        """
        callback_support()[0].set_callbacks(self, *callbacks)
        return self


def watched(
    training: Training,
    engine: Engine,
    until: int,
    estimator: Any,
    shown: Mapping[str, Any],
    keep: Callable[[Any], None],
) -> Iterator[Round]:
    """Train round by round, calling the estimator's callbacks, until one of them ends it.

    Parameters
    ----------
    training, engine, until
        Whose rounds, over whom, and how many in all.
    estimator : estimator object
        Which has the callbacks, or none.
    shown : mapping
        What callbacks may look at besides the model: X, y and metadata.
    keep : callable
        Makes an estimator one that is fitted by the rounds so far.
    """
    rounds = training.rounds(engine, until)
    if not getattr(estimator, "_skl_callbacks", None):
        yield from rounds
        return
    support, called = callback_support()

    def fitted() -> dict[str, Any]:  # asked for only where a callback wants a fitted estimator
        so_far = copy.copy(estimator)
        keep(so_far)
        return vars(so_far)

    begun = {"estimator": estimator, **shown}
    ended = {**begun, "reconstruction_attributes": fitted}
    with called(estimator):
        n_more = until - training.state.server.n_rounds
        fit = support._init_callback_context(estimator, max_subtasks=n_more)
        fit.call_on_fit_task_begin(**begun)
        while training.goes_on(until):
            task = fit.subcontext(task_name="round").call_on_fit_task_begin(**begun)
            report = next(rounds)
            ends = task.call_on_fit_task_end(**ended)
            yield report
            if ends:
                break
        fit.call_on_fit_task_end(**ended)


@contextmanager
def followed_inside(estimator: Any, inner: Any) -> Iterator[None]:
    """While the one inside an estimator is fitted, have callbacks that propagate follow that."""
    if not (getattr(estimator, "_skl_callbacks", None) or hasattr(estimator, _PARENT)):
        yield
        return
    support, called = callback_support()
    with called(estimator):
        fit = support._init_callback_context(estimator, max_subtasks=1)
        fit.call_on_fit_task_begin(estimator=estimator)
        task = fit.subcontext(task_name="fit-estimator")
        with task.propagate_callback_context(inner):
            task.call_on_fit_task_begin(estimator=estimator)
            yield
            task.call_on_fit_task_end(estimator=estimator)
        fit.call_on_fit_task_end(estimator=estimator)


def what_may_be_seen(estimator: Any, X: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
    """What callbacks may look at; beside privacy no rows, since a score on them has no noise."""
    if estimator.privacy is not None:
        return {}
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    return {"X": X, "y": y, "metadata": metadata}
