"""How a cell ends: in exactly one status; what failed, in words; and a fallback in its place."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator, clone

from torchstrata.errors import NonFiniteError
from torchstrata.experiment.plan import Cell
from torchstrata.experiment.score import Outcome, Split, scored

# docs/failures.md says of each what happened, what is kept, and what to do
STATUSES = ("ok", "error_train", "error_predict", "nonfinite", "oom", "timeout", "killed", "interrupted")


class Terminated(KeyboardInterrupt):
    """SIGTERM came: as Ctrl-C, so that no learner's ``except Exception`` takes it for its own."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """End as Ctrl-C does when SIGTERM comes, with exit code 143; the handler there was before is put back.

    Only in the main thread, for only there Python knows signals; a program that ignores SIGTERM goes on ignoring it.

    Yields
    ------
    None

    Raises
    ------
    SystemExit
        With code 143, and the attribute ``result`` that the KeyboardInterrupt had.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except Terminated as stop:
        signal.signal(signal.SIGTERM, before)
        if callable(before):
            before(signal.SIGTERM, None)
        ended = SystemExit(128 + signal.SIGTERM)
        ended.result = getattr(stop, "result", None)  # type: ignore[attr-defined]
        raise ended from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated("SIGTERM")


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
    # torch says it with a RuntimeError on a CPU, and with its own OutOfMemoryError, which is one, on an accelerator
    told = str(error).lower()
    out_of_memory = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError)
        and any(words in told for words in ("can't allocate memory", "out of memory", "cannot allocate memory"))
    )
    return "oom" if out_of_memory else stage


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
    about = {
        "status": status_of(error, stage),
        "error": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    let_go(error)
    if about["status"] == "oom":
        _free_memory()
    return about


def let_go(error: BaseException | None) -> None:
    """Drop the frames of an error and of those that led to it: they hold batches, gradients, whole networks.

    Parameters
    ----------
    error : BaseException or None
        Changed in place.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _free_memory() -> None:
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
