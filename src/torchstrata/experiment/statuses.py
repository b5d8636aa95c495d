"""How a cell ends: in exactly one status; what failed, in words; and a fallback in its place."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator, clone

from torchstrata.errors import NonFiniteError, chain_of, empty_frames, is_out_of_memory
from torchstrata.experiment.plan import Cell
from torchstrata.experiment.score import Outcome, Split, scored

# docs/failures.md says of each what happened, what is kept, and what to do
STATUSES = ("ok", "error_train", "error_predict", "nonfinite", "oom", "timeout", "killed", "interrupted")


# modules that only make rows ready: splits, tables, encoders, tensors
_PREPARING = (
    "torchstrata.data.",
    *(f"torchstrata.learner.{name}" for name in ("inputs", "parts", "targets", "tensors")),
)


def status_of(error: BaseException, stage: str) -> str:
    """Say what an error of a learner means.

    Parameters
    ----------
    error : BaseException
        What was raised.
    stage : {"error_train", "error_predict"}
        Where.

    Returns
    -------
    str
        One of ``STATUSES``.
    """
    if isinstance(error, NonFiniteError):
        return "nonfinite"
    return "oom" if is_out_of_memory(error) else stage


def describe(error: BaseException, stage: str) -> dict[str, str]:
    """Put an error into words, and let go of what its frames hold.

    Parameters
    ----------
    error : BaseException
        What was raised.
    stage : {"error_train", "error_predict"}
        Where.

    Returns
    -------
    dict
        status, error, message, traceback.
    """
    status = status_of(error, stage)
    if status == "oom":
        empty_frames(error)  # first of all: there may be too little memory to put it into words
        free_memory()
    about = {
        "status": status,
        "error": type(error).__name__,
        "message": _told_oom(error, stage) if status == "oom" else str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    let_go(error)
    return about


def _told_oom(error: BaseException, stage: str) -> str:
    """Say in which phase memory ran out; how much was asked for stands in what NumPy and torch say, not in Python's."""
    passed = {frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)}
    preparing = ", while rows were prepared" if any(name.startswith(_PREPARING) for name in passed) else ""
    said = str(error)
    phase = {"error_train": "fit", "error_predict": "predict"}[stage]
    return f"memory ran out in {phase}{preparing}{said and ': '}{said}"


def let_go(error: BaseException | None) -> None:
    """Drop the frames of an error and of those that led to it: they hold batches, gradients, whole networks.

    Parameters
    ----------
    error : BaseException or None
        Changed in place.
    """
    empty_frames(error)
    for one in list(chain_of(error)):
        one.__traceback__ = None


def free_memory() -> None:
    """Collect what only circles hold, and hand back what an accelerator's allocator keeps."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def ended(status: str, message: str) -> dict[str, str]:
    """Describe a cell that was ended from outside, so that there is no error of its own.

    Parameters
    ----------
    status : {"timeout", "killed", "interrupted"}
        How.
    message : str
        By what.

    Returns
    -------
    dict
        As of :func:`describe`.
    """
    names = {"timeout": "TimeoutError", "killed": "ProcessDied", "interrupted": "KeyboardInterrupt"}
    return {"status": status, "error": names[status], "message": message, "traceback": ""}


def unscored(
    cell: Cell, scorers: Mapping[str, Callable[..., float]], error: dict[str, str], history: Any = None
) -> Outcome:
    """Return what a cell that failed leaves behind: no scores.

    Parameters
    ----------
    cell : Cell
        Which.
    scorers : mapping
        Names of the measures, which are NaN.
    error : dict
        From :func:`describe` or :func:`ended`.
    history : DataFrame, optional
        Of the epochs before.

    Returns
    -------
    Outcome
        With the error.
    """
    history = pd.DataFrame() if history is None else history
    return Outcome(cell, dict.fromkeys(scorers, float("nan")), history, pd.DataFrame(), error)


def interrupted(cell: Cell, scorers: Mapping[str, Callable[..., float]]) -> Outcome:
    """Stand for a cell that Ctrl-C came before.

    Parameters
    ----------
    cell : Cell
        Not carried out.
    scorers : mapping
        Their scores are NaN.

    Returns
    -------
    Outcome
        With status "interrupted".
    """
    outcome = unscored(cell, scorers, ended("interrupted", "not carried out"))
    outcome.attempts = 0
    return outcome


def finished(outcomes: Iterable[Any], stop: KeyboardInterrupt) -> list[Outcome]:
    """End what carries out cells, and return what it finished: also where Ctrl-C came while it waited to be asked.

    Parameters
    ----------
    outcomes : iterable of Outcome
        From :func:`torchstrata.experiment.run.run_cells`.
    stop : KeyboardInterrupt
        What came.

    Returns
    -------
    list of Outcome
        The first of them may have been yielded before.
    """
    if hasattr(outcomes, "throw"):
        try:
            outcomes.throw(stop)
        except KeyboardInterrupt as other:
            if other is not stop:
                raise
    return getattr(stop, "outcomes", [])


def stood_in(
    cell: Cell,
    split: Split,
    scorers: Mapping[str, Callable[..., float]],
    error: dict[str, str],
    fallback: BaseEstimator,
    history: Any = None,
) -> Outcome:
    """Fit the fallback in place of a learner that failed.

    Parameters
    ----------
    cell : Cell
        Which failed.
    split : Split
        Its rows.
    scorers : mapping
        By name of the measure.
    error : dict
        From :func:`describe` or :func:`ended`.
    fallback : estimator
        Cloned, and given the seed of the cell where it has none.
    history : DataFrame, optional
        Of the epochs before, for where the fallback fails too.

    Returns
    -------
    Outcome
        Scores and predictions of the fallback, and still the error of the learner.
    """
    try:
        learner = seeded(fallback, cell.seed)
        given = split.to_fit(learner)
        outcome = scored(cell, learner.fit(given.pop("X"), given.pop("y"), **given), split, dict(scorers))
    except (Exception, SystemExit) as second:
        told = describe(second, "error_train")
        message = f"{error['message']} (the fallback failed too: {told['error']}: {told['message']})"
        return unscored(cell, scorers, {**error, "message": message}, history)
    outcome.error, outcome.fallback = error, type(fallback).__name__
    return outcome


def seeded(estimator: BaseEstimator, seed: int) -> BaseEstimator:
    """Return a fresh learner with a seed wherever it was given none.

    Parameters
    ----------
    estimator : BaseEstimator
        Is cloned.
    seed : int
        For every ``random_state`` that is None.

    Returns
    -------
    BaseEstimator
        Not fitted.
    """
    made = clone(estimator)
    open_seeds = [
        name
        for name, value in made.get_params(deep=True).items()
        if (name == "random_state" or name.endswith("__random_state")) and value is None
    ]
    return made.set_params(**dict.fromkeys(open_seeds, seed)) if open_seeds else made
