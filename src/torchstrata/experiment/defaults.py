"""The learners that are compared where the user names none: baselines, and ours with random and stratified batches."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from torchstrata.data.encode import date_parts
from torchstrata.data.tables import column_kind
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, did_you_mean

SMALL = 10_000  # up to so many rows batches are small
SEARCHED = 255  # scikit-learn's boosting takes so many levels of a category


def default_learners(
    task: Task,
    *,
    names: Sequence[str] = (),
    min_samples: int | None = None,
    max_epochs: int = 100,
    seed: int = 0,
) -> dict[str, BaseEstimator]:
    """Make the learners for a task.

    Parameters
    ----------
    task : Task
        Decides kind, losses and preprocessing.
    names : sequence of str
        Choose some, by name or pattern such as ``"mlp*"``; all by default.
    min_samples : int, optional
        Rows of each stratum in each stratified batch; by default so many that batches are about as large as the random
        ones.
    max_epochs : int
        At most so many; early stopping on a fifth of the training rows usually ends sooner.
    seed : int
        Root of all seeds.

    Returns
    -------
    dict of str to estimator
        Name to learner.

    Raises
    ------
    ConfigError
        If a name or pattern fits none.
    """
    makers = {**_baselines(task, seed), **_torch_learners(task, min_samples, max_epochs, seed)}
    if not names:
        return {name: make() for name, make in makers.items()}
    chosen: dict[str, BaseEstimator] = {}
    for wanted in names:
        fitting = fnmatch.filter(makers, wanted)
        if not fitting:
            raise ConfigError(f"no default learner {wanted!r}. {did_you_mean(wanted, makers)}")
        chosen |= {name: makers[name]() for name in fitting}
    return chosen


def _baselines(task: Task, seed: int) -> dict[str, Callable[[], BaseEstimator]]:
    if task.kind == "regression":
        boosting, linear = HistGradientBoostingRegressor, ("ridge", lambda: Ridge())
        dummy: Callable[[], BaseEstimator] = DummyRegressor
    else:
        boosting, linear = HistGradientBoostingClassifier, ("logistic", lambda: LogisticRegression(max_iter=1000))
        dummy = lambda: DummyClassifier(strategy="prior")  # noqa: E731
    makers = {
        "dummy": dummy,
        linear[0]: lambda: make_pipeline(_one_hot(task), linear[1]()),
    }
    if len(task.target_names) == 1:
        makers["boosting"] = lambda: make_pipeline(
            _ordinal(task), boosting(random_state=seed, categorical_features=_category_mask(task))
        )
    return makers


def _kinds(task: Task) -> tuple[list[str], list[str]]:
    table = task.X
    categories = [name for name in table.columns if column_kind(table[name]) == "category"]
    numbers = [name for name in table.columns if column_kind(table[name]) in ("number", "boolean")]
    return categories, numbers


def _dates(task: Task) -> tuple[Any, list[str]]:
    names = [name for name in task.X.columns if column_kind(task.X[name]) == "datetime"]
    return FunctionTransformer(numbers_of_dates), names


def numbers_of_dates(table: pd.DataFrame) -> np.ndarray:
    """Make of datetimes what torch learners make of them.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns of datetimes.

    Returns
    -------
    numpy.ndarray of float64
        Five columns for each.
    """
    return np.column_stack([part for name in table.columns for part in date_parts(table[name])])


def _one_hot(task: Task) -> Any:
    categories, numbers = _kinds(task)
    dates, dated = _dates(task)
    scaled = (SimpleImputer(strategy="median"), StandardScaler())
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5, sparse_output=False), categories),
        (make_pipeline(*scaled), numbers),
        *([(make_pipeline(dates, *scaled), dated)] if dated else []),
    )


def _ordinal(task: Task) -> Any:
    categories, numbers = _kinds(task)
    ordinal = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=SEARCHED
    )
    dates, dated = _dates(task)
    return make_column_transformer(
        (ordinal, categories), ("passthrough", numbers), *([(dates, dated)] if dated else [])
    )


def _category_mask(task: Task) -> list[bool]:
    categories, numbers = _kinds(task)
    return [True] * len(categories) + [False] * (len(numbers) + 5 * len(_dates(task)[1]))


def _torch_learners(
    task: Task, min_samples: int | None, max_epochs: int, seed: int
) -> dict[str, Callable[[], BaseEstimator]]:
    import torchstrata as ts  # the learners need torch, the table of their names does not

    batch_size = 32 if task.n_rows <= SMALL else 256
    samplers: dict[str, Any] = {"random": ts.RandomBatchSampler(batch_size)}
    if task.strata is not None:
        k = rows_per_stratum(task, batch_size) if min_samples is None else min_samples
        samplers["stratified"] = ts.StratifiedBatchSampler(k)
    losses = ["mse"] if task.kind == "regression" else ["cross_entropy"]
    losses += ["aum"] if task.kind == "classification" and task.n_classes == 2 else []
    learner = ts.TorchRegressor if task.kind == "regression" else ts.TorchClassifier
    # the first measure decides early stopping: each loss by what it is after, and aum never by itself
    scoring = {"mse": ("neg_mean_squared_error",), "aum": ("roc_auc",), "cross_entropy": ("neg_log_loss", "roc_auc")}
    if task.n_classes != 2:
        scoring["cross_entropy"] = ("neg_log_loss",)
    makers: dict[str, Callable[[], BaseEstimator]] = {}
    for kind, network in (("linear", ts.Linear()), ("mlp", ts.MLP(hidden=(100, 100)))):
        for loss in losses:
            for batches, sampler in samplers.items():
                settings = {
                    "network": network,
                    "loss": loss,
                    "optimizer": ts.optim.AdamW(lr=1e-2 if kind == "linear" else 1e-3),
                    "batch_sampler": sampler,
                    "max_epochs": max_epochs,
                    "valid": 0.2,
                    "scoring": scoring[loss],
                    "early_stopping": ts.EarlyStopping(10),
                    "random_state": seed,
                }
                name = " ".join([kind, *([loss] if len(losses) > 1 else []), batches])
                makers[name] = lambda settings=settings: learner(**settings)  # type: ignore[misc]
    return makers


def rows_per_stratum(task: Task, batch_size: int) -> int:
    """Choose the rows of each stratum in each batch so that batches have about a given size.

    Parameters
    ----------
    task : Task
        With strata.
    batch_size : int
        Wanted size.

    Returns
    -------
    int
        At least 1.
    """
    strata = task.strata
    counts = strata.value_counts()  # type: ignore[union-attr]
    return max(1, round(batch_size * counts.min() / task.n_rows))
