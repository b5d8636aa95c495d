"""What one split gives a learner, and what the fitted learner says of it: predictions, scores, history."""

from __future__ import annotations

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from torchstrata.data.task import Task
from torchstrata.errors import DataError
from torchstrata.experiment.plan import Cell


@dataclasses.dataclass
class Outcome:
    """What one cell left behind.

    Parameters
    ----------
    cell : Cell
        Which.
    scores : dict of str to float
        Measures and costs; NaN where the cell failed without a fallback.
    history, predictions : DataFrame
        Long tables without the keys.
    error : dict or None
        status, error, message, traceback.
    warnings : list of str
        What was warned of, each once.
    runtime : dict
        Decisions of a torch learner, name to [value, reason].
    seconds : float
        Fit, predictions and scores of this cell; its share where cells were trained together.
    attempts : int
        How often it was begun: more than once where a process died.
    fallback : str
        Class of the fallback whose scores these are; empty where they are the learner's own.
    """

    cell: Cell
    scores: dict[str, float]
    history: pd.DataFrame
    predictions: pd.DataFrame
    error: dict[str, str] | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)
    runtime: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    attempts: int = 1
    fallback: str = ""

    @property
    def status(self) -> str:
        """How it ended: ok, or the status of its error."""
        return self.error["status"] if self.error else "ok"


class Split:
    """The rows of one split of a task, made when they are asked for and kept for all learners that share it.

    Parameters
    ----------
    task : Task
        All rows.
    train, test : ndarray of int64
        Which.
    """

    def __init__(self, task: Task, train: np.ndarray, test: np.ndarray):
        self._task, self._rows = task, (train, test)
        self._params: dict[Any, dict[str, Any]] = {}

    @functools.cached_property
    def train(self) -> Task:
        """The training rows; made where a failure is one of the cell, such as that memory runs out."""
        return self._task.rows(self._rows[0])

    @functools.cached_property
    def test(self) -> Task:
        """The test rows."""
        return self._task.rows(self._rows[1])

    @functools.cached_property
    def y_train(self) -> Any:
        """The target of the training rows as learners see it."""
        return coded(self.train)

    @functools.cached_property
    def X_test(self) -> pd.DataFrame:
        """The features of the test rows."""
        return self.test.X

    @functools.cached_property
    def y_test(self) -> Any:
        """The target of the test rows as scorers see it."""
        return coded(self.test)

    @functools.cached_property
    def truth(self) -> dict[str, Any]:
        """Rows and target of the test rows, for the table of predictions."""
        return {"row": self.test.row_ids, "truth": self.test.y.array}

    @functools.cached_property
    def labels(self) -> Any:
        """The labels that stand for 0 and 1 where there are two classes, as the target holds them."""
        return pd.Series(_two(self.test)).astype(self.test.y.dtype).array  # type: ignore[arg-type]

    def to_fit(self, learner: BaseEstimator) -> dict[str, Any]:
        """Return the arguments of fit.

        Parameters
        ----------
        learner : BaseEstimator
            Not fitted.

        Returns
        -------
        dict
            X, y, and what else this learner takes.
        """
        plain = not isinstance(learner, Pipeline | GridSearchCV | RandomizedSearchCV)
        key = (type(learner), getattr(learner, "valid", None) == "test") if plain else id(learner)
        if key not in self._params:
            self._params[key] = fit_params(learner, self.train, self.test)
        return {"X": rows_for(learner, self.train), "y": self.y_train, **self._params[key]}


def coded(task: Task) -> Any:
    """Return the target as learners and scorers see it.

    Parameters
    ----------
    task : Task
        Some rows.

    Returns
    -------
    ndarray, Series or DataFrame
        For two classes 1 for the positive one and 0 for the other, so that every measure means the same class;
        otherwise the target itself.
    """
    if task.kind == "classification" and task.n_classes == 2:
        return (task.y == task.positive).to_numpy().astype(np.int64)
    return task.y.to_numpy()


def rows_for(estimator: BaseEstimator, task: Task) -> Any:
    """Return the rows as a learner wants them.

    Parameters
    ----------
    estimator : BaseEstimator
        One of ours takes the task itself, whose groups its validation split keeps together.
    task : Task
        Some rows.

    Returns
    -------
    Task or DataFrame
        The rows.
    """
    return task if hasattr(estimator, "check_fit") else task.X


def fit_params(estimator: BaseEstimator, train: Task, test: Task) -> dict[str, Any]:
    """Say what else a learner gets from a task: weights, strata, validation rows.

    Parameters
    ----------
    estimator : BaseEstimator
        A pipeline passes them to its last step, a search to what it searches over.
    train, test : Task
        Rows of the split.

    Returns
    -------
    dict
        Keyword arguments of fit.

    Warns
    -----
    UserWarning
        If there are weights and the learner takes none.
    """
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return {f"{name}__{key}": value for key, value in fit_params(last, train, test).items()}
    if isinstance(estimator, GridSearchCV | RandomizedSearchCV) and not get_config()["enable_metadata_routing"]:
        return fit_params(estimator.estimator, train, test)
    if train.weights is not None and not has_fit_parameter(estimator, "sample_weight"):
        warnings.warn(f"{type(estimator).__name__} takes no sample_weight: fitted without weights", stacklevel=2)
    offered: dict[str, Any] = {"sample_weight": train.weights, "stratum": train.strata}
    if getattr(estimator, "valid", None) == "test":
        offered["valid_set"] = (test.X, coded(test))
    return {name: value for name, value in offered.items() if value is not None and has_fit_parameter(estimator, name)}


def scored(cell: Cell, fitted: Any, split: Split, scorers: dict[str, Callable[..., float]]) -> Outcome:
    """Predict and score the test rows.

    Parameters
    ----------
    cell : Cell
        Which fit.
    fitted : estimator
        Its learner.
    split : Split
        Its rows.
    scorers : dict of str to scorer
        By name of the measure.

    Returns
    -------
    Outcome
        Without the time of the fit.
    """
    started = time.perf_counter()
    predictions = _predictions(fitted, split)
    scores = {"predict_seconds": time.perf_counter() - started}
    X, y = split.X_test, split.y_test
    # what one of ours predicts is checked already, and scikit-learn's checks cost more than the scores
    known = {"assume_finite": True, "skip_parameter_validation": True} if hasattr(fitted, "check_fit") else {}
    with config_context(**known):
        scores = {**{name: float(scorer(fitted, X, y)) for name, scorer in scorers.items()}, **scores}
    last = fitted.steps[-1][1] if isinstance(fitted, Pipeline) else fitted
    history = history_of(last)
    if len(history):
        scores |= {"epochs": float(len(history)), "best_epoch": float(last.best_epoch_)}
    reasons = getattr(getattr(last, "runtime_", None), "reasons", {})
    return Outcome(cell, scores, history, predictions, runtime={name: list(why) for name, why in reasons.items()})


def history_of(learner: Any) -> pd.DataFrame:
    """Return the history of a learner, with a column that marks the best epoch.

    Parameters
    ----------
    learner : estimator
        Perhaps fitted.

    Returns
    -------
    DataFrame
        Empty where it has none.
    """
    if not hasattr(learner, "history_"):
        return pd.DataFrame()
    history = learner.history_.copy(deep=False)
    history["best"] = history["epoch"].to_numpy() == getattr(learner, "best_epoch_", len(history))
    return history


def _predictions(fitted: Any, split: Split) -> pd.DataFrame:
    test = split.test
    predicted = fitted.predict(split.X_test)
    if len(predicted) != test.n_rows:
        raise DataError(f"predict returned {len(predicted)} predictions for {test.n_rows} rows")
    if np.ndim(predicted) == 2 and len(test.target_names) == 1 and np.shape(predicted)[1] == 1:
        predicted = np.asarray(predicted)[:, 0]  # as some regressors answer
    if np.ndim(predicted) == 2:
        return _several_targets(predicted, test)
    columns = dict(split.truth)
    if test.kind == "classification" and test.n_classes == 2:
        columns["predicted"] = split.labels.take((np.asarray(predicted) == 1).astype(np.int64))
    else:
        columns["predicted"] = predicted
    if test.kind == "classification":
        columns |= _scores(fitted, split)
    _refuse_missing({name: values for name, values in columns.items() if name not in ("row", "truth")})
    if test.kind == "classification" and not hasattr(fitted, "check_fit"):  # ours answer with classes they were given
        _refuse_unknown(predicted, split)
    return pd.DataFrame(columns)


def _scores(fitted: Any, split: Split) -> dict[str, Any]:
    test, found = split.test, {}
    if hasattr(fitted, "predict_proba"):
        proba = fitted.predict_proba(split.X_test)
        names = fitted.classes_ if test.n_classes != 2 else _two(test)
        found = {f"prob_{name}": proba[:, i] for i, name in enumerate(names)}
    if test.n_classes == 2:
        if hasattr(fitted, "decision_function"):
            found["score"] = fitted.decision_function(split.X_test)
        elif f"prob_{test.positive}" in found:
            found["score"] = found[f"prob_{test.positive}"]
    return found


def _refuse_missing(columns: dict[str, Any]) -> None:
    for name, values in columns.items():
        missing = int(pd.isna(values).sum())
        if missing:
            raise DataError(f"{missing} of {len(values)} predictions have no {name} (NaN)")


def _refuse_unknown(predicted: Any, split: Split) -> None:
    """Refuse a label that is no class: of two classes it would pass for the negative one."""
    classes = np.array([0, 1]) if split.test.n_classes == 2 else split.test.classes
    unknown = ~pd.Series(predicted).isin(pd.Series(classes)).to_numpy()
    if unknown.any():
        first = np.asarray(predicted)[unknown].tolist()[0]
        raise DataError(f"predict returned {first!r} ({int(unknown.sum())} rows), which is no class it was fitted with")


def _two(test: Task) -> list[Any]:
    return [next(label for label in test.classes.tolist() if label != test.positive), test.positive]  # type: ignore[union-attr]


def _several_targets(predicted: np.ndarray, test: Task) -> pd.DataFrame:
    _refuse_missing({name: predicted[:, j] for j, name in enumerate(test.target_names)})
    parts = [
        pd.DataFrame(
            {"row": test.row_ids, "target": name, "truth": test.y[name].to_numpy(), "predicted": predicted[:, j]}
        )
        for j, name in enumerate(test.target_names)
    ]
    return pd.concat(parts, ignore_index=True)
