"""Fit many learners at once: those whose networks have one shape train as one program."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torchstrata.errors import empty_frames, is_out_of_memory
from torchstrata.learner.base import TorchLearner
from torchstrata.learner.job import Job
from torchstrata.learner.shared import Shared
from torchstrata.training import claims
from torchstrata.training.many import FEWEST, Fit, parts_of, shape_of, train_many, why_alone
from torchstrata.training.state import TrainState


@dataclasses.dataclass
class Fitted:
    """What became of one learner.

    Parameters
    ----------
    learner : TorchLearner
        Fitted, unless there is an error.
    error : Exception, optional
        Why it is not.
    warnings : list of warning
        As :func:`warnings.catch_warnings` records them.
    seconds : float
        Its preparation, and its share of the training of all.
    """

    learner: TorchLearner
    error: Exception | None = None
    warnings: list[Any] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


def fit_many(
    learners: Sequence[TorchLearner], data: Sequence[dict[str, Any]], *, shared: Shared | None = None
) -> list[Fitted]:
    """Fit learners, each as its ``fit`` would; networks of one shape are trained together.

    Parameters
    ----------
    learners : sequence of TorchLearner
        Each is fitted. What was done is in its ``runtime_.reasons["vectorize"]``: with how many others, or why alone.
    data : sequence of dict
        Arguments of ``fit`` for each: X, y, and perhaps sample_weight, stratum, valid_set. What is one object for
        several learners is read and encoded once.
    shared : Shared, optional
        What was prepared before, and will be of use after.

    Returns
    -------
    list of Fitted
        In the order given. A learner that fails costs the others nothing; one for which memory ran out beside others
        is fitted once more, when they are done.
    """
    shared = Shared() if shared is None else shared
    out = [Fitted(learner) for learner in learners]
    works = [_Work(done, given, shared) for done, given in zip(out, data, strict=True)]
    groups: dict[Any, list[_Work]] = {}
    for work in works:
        work.do("prepare")
        if work.fit is not None:
            how, why = work.how()
            key = (how, shape_of(work.fit, how)) if how else why
            groups.setdefault(key, []).append(work)
            if not how:
                work.let_go()  # it prepares itself anew, and many large networks may not fit into memory
    for key, group in groups.items():
        if isinstance(key, str):
            _alone(group, key)
        elif len(group) < FEWEST[key[0]]:
            _alone(group, f"{len(group)} networks of one shape, fewer than {FEWEST[key[0]]}")
        else:
            _together(group, key[0])
    short = [work for work in works if work.done.error is not None and is_out_of_memory(work.done.error)]
    if short and len(works) > 1:
        groups.clear()
        for work in works:
            work.let_go()
        _alone(short, "memory ran out beside others")
    return out


@contextlib.contextmanager
def answering(learner: Any, shared: Shared) -> Iterator[None]:
    """Let a learner remember what it answered, while several questions are asked about the same rows.

    Parameters
    ----------
    learner : estimator
        Others than ours are left as they are.
    shared : Shared
        Where it is remembered.

    Yields
    ------
    None
    """
    if not isinstance(learner, TorchLearner):
        yield
        return
    learner._shared = shared
    try:
        yield
    finally:
        del learner._shared


class _Work:
    """One learner on its way."""

    def __init__(self, done: Fitted, given: dict[str, Any], shared: Shared):
        self.done, self.given, self.shared = done, given, shared
        self.job: Job | None = None
        self.fit: Fit | None = None

    def do(self, what: str, *args: Any) -> None:
        """Carry out one stage; keep what it warns of or raises."""
        self.done.error = None
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                getattr(self, f"_{what}")(*args)
            except Exception as error:
                empty_frames(error)  # it is kept, and what it holds the others may need
                self.done.learner._give_up(error, None)
                self.done.error = error
                self.let_go()
        self.done.warnings += caught
        self.done.seconds += time.perf_counter() - started

    def _prepare(self) -> None:
        learner = self.done.learner
        learner._forget()
        given = {"sample_weight": None, "stratum": None, "valid_set": None, **self.given}
        self.job = learner._prepare(**given, shared=self.shared)
        self.fit = learner._fit_of(self.job)

    def _keep(self, state: TrainState) -> None:
        self.done.learner._keep(self.job, state)  # type: ignore[arg-type]

    def _fit_alone(self) -> None:
        self.done.learner.fit(**self.given)

    def let_go(self) -> None:
        """Drop what was prepared: the network, and rows that no other holds."""
        self.job = self.fit = None

    def how(self) -> tuple[str, str]:
        """Say how this one can train with others, or why not."""
        learner, fit = self.done.learner, self.fit
        assert fit is not None
        if getattr(learner, "_skl_callbacks", None):
            return "", "callbacks of scikit-learn listen"
        return why_alone(fit)


def _alone(group: list[_Work], why: str) -> None:
    for work in group:
        work.do("fit_alone")
        if work.done.error is None:
            work.done.learner.runtime_.reasons["vectorize"] = (1, why)


def _together(group: list[_Work], how: str) -> None:
    fits = [work.fit for work in group]
    for part in parts_of(fits):  # type: ignore[arg-type]
        works = [group[i] for i in part]
        if len(part) < FEWEST[how]:
            _alone(works, "more networks would not fit into memory")
            continue
        started, why = time.perf_counter(), ""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                states = train_many([fits[i] for i in part], how=how)  # type: ignore[misc]
            except Exception as error:
                why = _why_apart(error, how)
        if why:
            _alone(works, why)
            continue
        share = (time.perf_counter() - started) / len(part)
        for work, state in zip(works, states, strict=True):
            _conclude(work, state, len(part), how)
            work.done.seconds += share
            work.done.warnings += caught


def _why_apart(error: Exception, how: str) -> str:
    """Say why networks that cannot be trained together may be trained one by one, or raise what is no reason."""
    empty_frames(error)
    if is_out_of_memory(error):
        return "memory ran out when they trained together"
    if how != "vmap":
        raise error
    # which networks vmap can carry out, only trying tells: one that looks at its numbers, it cannot
    return f"vmap cannot carry it out: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def _conclude(work: _Work, state: TrainState | Exception, together: int, how: str) -> None:
    done = work.done
    if isinstance(state, Exception):
        done.error = state
        done.learner._give_up(state, None)
        return
    assert work.job is not None
    reasons = work.job.decisions.reasons
    reasons["steps"] = (how, "nothing against it" if how == "written out" else why_vmap(work.fit))
    reasons["vectorize"] = (together, f"{together} networks of one shape trained as one program")
    work.do("keep", state)


def why_vmap(fit: Fit | None) -> str:
    """Say why the steps of a fit were not written out.

    Parameters
    ----------
    fit : Fit
        That trained under vmap.

    Returns
    -------
    str
        The reason.
    """
    assert fit is not None
    return claims.why_not(fit.module, fit.rows, fit.optimizer, fit.decisions, others={}, loss=fit.loss)
