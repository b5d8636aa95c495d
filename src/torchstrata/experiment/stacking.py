"""A backend of joblib: the fits that scikit-learn hands out are trained together where they are of our learners.

scikit-learn hands every fit of a search to joblib as a call of its own function, which fits and scores. Here the calls
are held back until the first result is asked for. Then all learners are trained by ``fit_many``, and each call is made,
with a learner whose ``fit`` hands over what was already done. So scoring, error scores, warnings and messages are
scikit-learn's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from joblib import parallel_config
from joblib.parallel import ParallelBackendBase, get_active_backend
from sklearn.base import clone
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params

from torchstrata.errors import ConfigError
from torchstrata.experiment.plan import Cell
from torchstrata.experiment.run import AT_A_TIME
from torchstrata.experiment.together import together
from torchstrata.learner.base import TorchLearner
from torchstrata.learner.many import Fitted, answering, fit_many
from torchstrata.learner.shared import Shared

# joblib hands out twice as many calls as there are workers before it asks for the first result; these are held together
_AT_ONCE = 5_000


@dataclasses.dataclass
class Call:
    """A call that joblib was given.

    Parameters
    ----------
    function : callable
        Of scikit-learn, or any.
    args : tuple
        A learner, X and y, for a fit.
    kwargs : dict
        train, test, parameters and more, for a fit.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def is_fit(self) -> bool:
        """Whether this is scikit-learn's function that fits and scores, for a learner of ours."""
        named = getattr(self.function, "__name__", "") == "_fit_and_score"
        return named and isinstance(self.args[0], TorchLearner) and "train" in self.kwargs

    @property
    def place(self) -> tuple[int, int]:
        """Number of the candidate and of the split, from 0."""
        return tuple((self.kwargs.get(name) or (0,))[0] for name in ("candidate_progress", "split_progress"))  # type: ignore[return-value]

    def configure(self) -> None:
        """Give the learner its parameters, as scikit-learn will once more."""
        if self.kwargs.get("parameters") is not None:
            self.args[0].set_params(**clone(self.kwargs["parameters"], safe=False))


class Rows:
    """The training rows of each split, one object for all candidates, so that they are read and encoded once.

    Attributes
    ----------
    shared : Shared
        What learners make of them.
    """

    def __init__(self) -> None:
        self.shared = Shared()
        self._cut: dict[int, dict[str, Any]] = {}

    def of(self, call: Call) -> dict[str, Any]:
        """Cut the arguments of ``fit`` as scikit-learn cuts them.

        Parameters
        ----------
        call : Call
            A fit.

        Returns
        -------
        dict
            X, y, and what else ``fit`` is given.
        """
        (learner, X, y), train = call.args, call.kwargs["train"]
        if id(train) not in self._cut:
            X_train, y_train = _safe_split(learner, X, y, train)
            params = _check_method_params(X, params=call.kwargs.get("fit_params") or {}, indices=train)
            self._cut[id(train)] = {"X": X_train, "y": y_train, **params}
        return self._cut[id(train)]


@dataclasses.dataclass
class Answer:
    """What a call returned, and how its learner was trained.

    Parameters
    ----------
    value : object
        Returned by the function.
    place : tuple of int
        Candidate and split.
    together : int
        So many networks were trained as one program; 0 where the fit failed.
    why : str
        Why so many.
    """

    value: Any
    place: tuple[int, int] = (0, 0)
    together: int = 1
    why: str = "no fit of a learner of this library"


class StackingBackend(ParallelBackendBase):
    """Carry out the calls of scikit-learn's searches; fits of our learners are trained together.

    Parameters
    ----------
    workers : int
        Processes among which the fits are shared out; 1 trains here, and so does a backend of threads.

    Attributes
    ----------
    answers : list of Answer
        Of all calls so far, in the order in which they were given.
    """

    supports_retrieve_callback = False
    supports_sharedmem = True
    uses_threads = True

    def __init__(self, workers: int = 1):
        super().__init__(nesting_level=0)
        self._outside = get_active_backend()
        # threads gain nothing here, and torch draws initial weights from one generator for all of them
        self.workers = 1 if getattr(self._outside[0], "supports_sharedmem", False) else workers
        self.answers: list[Answer] = []
        self._waiting: list[_Job] = []

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Say how many calls are given at once: many, so that those that belong together meet."""
        return _AT_ONCE

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> _Job:
        """Hold a batch of calls back.

        Parameters
        ----------
        func : joblib.parallel.BatchedCalls
            The calls are its ``items``.
        callback : callable, optional
            To be called when they are done.

        Returns
        -------
        object
            Whose ``get()`` returns the results.
        """
        job = _Job(self, [Call(*item) for item in func.items], callback)
        self._waiting.append(job)
        return job

    apply_async = submit  # its name before joblib 1.5

    def carry_out(self) -> None:
        """Carry out all that waits."""
        jobs, self._waiting = self._waiting, []
        calls = [call for job in jobs for call in job.calls]
        backend, n_jobs = self._outside
        with parallel_config(backend=backend, n_jobs=n_jobs):  # what runs inside is not to come back here
            answers = iter(carried_out(calls, self.workers))
        for job in jobs:
            job.answers = [next(answers) for _ in job.calls]
            self.answers += job.answers
        for job in jobs:
            if job.callback is not None:
                job.callback(job)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Forget what waits."""
        self._waiting = []


class _Job:
    """What joblib waits for."""

    def __init__(self, backend: StackingBackend, calls: list[Call], callback: Callable[[Any], Any] | None):
        self.backend, self.calls, self.callback = backend, calls, callback
        self.answers: list[Answer] | None = None

    def get(self, timeout: float | None = None) -> list[Any]:
        if self.answers is None:
            self.backend.carry_out()
        assert self.answers is not None
        return [answer.value for answer in self.answers]


def carried_out(calls: Sequence[Call], workers: int = 1) -> list[Answer]:
    """Carry out calls, and train the learners among them together.

    Parameters
    ----------
    calls : sequence of Call
        In any order.
    workers : int
        Processes.

    Returns
    -------
    list of Answer
        In the order of the calls.

    Raises
    ------
    ConfigError
        Before any training, if a candidate can never be fitted.
    Exception
        Whatever a call raises.
    """
    fits = [i for i, call in enumerate(calls) if call.is_fit]
    answers = {i: Answer(c.function(*c.args, **c.kwargs)) for i, c in enumerate(calls) if not c.is_fit}
    for i in fits:
        calls[i].configure()
    rows = Rows()
    check([calls[i] for i in fits], rows)
    parts = shared_out([calls[i] for i in fits], workers)
    if len(parts) == 1 or workers == 1:
        done = []
        for part in parts:
            done.append(_fit_and_score(part, rows))
            rows = Rows()
    else:
        done = Parallel(n_jobs=workers)(delayed(_fit_and_score)(part) for part in parts)
    where = {id(calls[i]): i for i in fits}
    for part, made in zip(parts, done, strict=True):
        answers.update({where[id(call)]: answer for call, answer in zip(part, made, strict=True)})
    return [answers[i] for i in range(len(calls))]


def check(calls: Sequence[Call], rows: Rows) -> None:
    """Prepare every candidate on its first split, without training.

    Parameters
    ----------
    calls : sequence of Call
        Fits.
    rows : Rows
        What is prepared here is of use later.

    Raises
    ------
    ConfigError
        Naming the candidate. All else that may be wrong is left to the fit, for which scikit-learn has ``error_score``.
    """
    for call in _candidates(calls).values():
        given = rows.of(call)
        learner = clone(call.args[0])
        try:
            with warnings.catch_warnings(), answering(learner, rows.shared):
                warnings.simplefilter("ignore")  # they come again, once a fit
                learner.check_fit(**given)
        except ConfigError as error:
            raise type(error)(f"candidate {call.kwargs.get('parameters')}: {error}") from None
        except Exception:
            continue


def shared_out(calls: Sequence[Call], workers: int = 1) -> list[list[Call]]:
    """Cut fits into parts that are prepared, trained and scored one after the other, or each in a process.

    Parameters
    ----------
    calls : sequence of Call
        Fits; the learners have their parameters.
    workers : int
        Processes.

    Returns
    -------
    list of list of Call
        Fits that differ in splits and numbers only are neighbours, and so are those on the same rows.
    """
    if not calls:
        return []
    cells = [
        Cell("", str(i), 0, {}, call.args[0], call.kwargs["train"], call.kwargs["test"], 0)
        for i, call in enumerate(_candidates(calls).values())
    ]
    keys = list(_candidates(calls))
    rank = {keys[int(cell.learner)]: i for i, group in enumerate(together(cells)) for cell in group.cells}
    ordered = sorted(calls, key=lambda call: (rank[_candidate(call)], call.place[1], call.place[0]))
    rounds = math.ceil(len(ordered) / (AT_A_TIME * workers))
    cuts = np.array_split(np.arange(len(ordered)), min(rounds * workers, len(ordered)))
    return [[ordered[i] for i in cut] for cut in cuts]


def _candidate(call: Call) -> int:
    return id(call.kwargs.get("parameters"))  # one object for all splits


def _candidates(calls: Sequence[Call]) -> dict[int, Call]:
    """Return the first call of each candidate."""
    found: dict[int, Call] = {}
    for call in calls:
        found.setdefault(_candidate(call), call)
    return found


def _fit_and_score(calls: Sequence[Call], rows: Rows | None = None) -> list[Answer]:
    rows = rows or Rows()
    done = fit_many([call.args[0] for call in calls], [rows.of(call) for call in calls], shared=rows.shared)
    answers = []
    for call, one in zip(calls, done, strict=True):
        answers.append(_scored(call, one))
        call.args = ()  # the network goes
    return answers


def _scored(call: Call, done: Fitted) -> Answer:
    """Let scikit-learn's function go its way; where it fits, it gets what is fitted."""
    learner = done.learner
    if isinstance(done.error, ConfigError):
        raise done.error
    learner.__dict__["fit"] = functools.partial(_hand_over, done)
    try:
        with answering(learner, Shared()):  # for the scorers of this one; what it holds goes with it
            value = call.function(learner, *call.args[1:], **call.kwargs)
    finally:
        del learner.__dict__["fit"]
    if "fit_time" in value:
        value["fit_time"] += done.seconds
    if done.error is not None:
        return Answer(value, call.place, 0, f"{type(done.error).__name__}: {done.error}")
    count, why = learner.runtime_.reasons.get("vectorize", (1, "trained alone"))
    return Answer(value, call.place, count, why)


def _hand_over(done: Fitted, *args: Any, **kwargs: Any) -> TorchLearner:
    for told in done.warnings:
        warnings.warn_explicit(told.message, told.category, told.filename, told.lineno)
    if done.error is not None:
        raise done.error
    return done.learner
