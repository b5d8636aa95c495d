"""scikit-learn's searches, with the fits of our learners trained together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from joblib import effective_n_jobs, parallel_config
from sklearn import model_selection

from torchstrata.experiment.stacking import Answer, StackingBackend
from torchstrata.interrupts import interruptible
from torchstrata.learner.base import TorchLearner


class _Stacked:
    """Train all candidates on all splits together, where the estimator is one of ours."""

    estimator: Any
    n_jobs: int | None
    vectorized_: pd.DataFrame

    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit every candidate on every split, then the best on all rows.

        Parameters
        ----------
        X : array-like or DataFrame of n rows
            Training rows.
        y : array-like of shape (n,) or (n, k), optional
            Targets.
        **params : dict
            As of scikit-learn's class: for the learner, the scorers and the splitter.

        Returns
        -------
        object
            This one, fitted.

        Raises
        ------
        ConfigError
            If a candidate can never be fitted: before any training, and whatever ``error_score`` says.
        """
        why = why_alone(self)
        if why:
            super().fit(X, y, **params)  # type: ignore[misc]
            n_candidates, n_splits = len(self.cv_results_["params"]), self.n_splits_  # type: ignore[attr-defined]
            alone = [Answer(None, (i, j), 1, why) for i in range(n_candidates) for j in range(n_splits)]
            self.vectorized_ = table(alone)
            return self
        backend = StackingBackend(effective_n_jobs(self.n_jobs))
        with interruptible(in_workers=False), parallel_config(backend=backend):
            super().fit(X, y, **params)  # type: ignore[misc]
        self.vectorized_ = table(backend.answers)
        return self


class GridSearchCV(_Stacked, model_selection.GridSearchCV):
    """scikit-learn's GridSearchCV; candidates that differ only in numbers are trained as one program.

    Settings, attributes and results are those of :class:`sklearn.model_selection.GridSearchCV`, times included: a fit's
    time is its share. An estimator that is not one of ours, a Pipeline for instance, or one to which scikit-learn's
    callbacks listen, is fitted as scikit-learn does it. Put the steps of a pipeline into the learner's ``encoder=`` to
    have it trained together.

    Parameters
    ----------
    estimator : TorchClassifier, TorchRegressor or any estimator
        What is tuned.
    param_grid : dict or list of dict
        Names of settings, and the values to try: ``{"optimizer__lr": [1e-3, 1e-2]}``.
    scoring, refit, cv, verbose, pre_dispatch, error_score, return_train_score : object
        As of scikit-learn's class, but that a wrong setting (``ConfigError``) is raised whatever ``error_score`` is. A
        hundred fits are trained at a time, of those that ``pre_dispatch`` hands out. The times that ``verbose=2``
        prints leave the training out.
    n_jobs : int, optional
        Processes among which the fits are shared out; each trains its own together. One process is often quicker, for
        up to some hundred small networks: others must start and import torch first.

    Attributes
    ----------
    vectorized_ : DataFrame
        A row a fit: candidate, split, together (how many networks were trained as one program, 0 if it failed), why.
    cv_results_, best_params_, best_estimator_, ... : object
        As of scikit-learn's class.

    Examples
    --------
    >>> import torchstrata as ts
    >>> X, y = ts.load_task("iris").X, ts.load_task("iris").y
    >>> learner = ts.TorchClassifier(ts.MLP((10,)), max_epochs=2, random_state=0)
    >>> search = ts.GridSearchCV(learner, {"optimizer__lr": [1e-3, 1e-2, 1e-1], "random_state": [0, 1]}, cv=5)
    >>> search.fit(X, y).best_params_["optimizer__lr"]
    0.1
    >>> search.vectorized_.groupby(["together", "why"]).size().reset_index(name="fits")
       together                                        why  fits
    0        30  30 networks of one shape trained as one program    30
    """


class RandomizedSearchCV(_Stacked, model_selection.RandomizedSearchCV):
    """scikit-learn's RandomizedSearchCV; candidates that differ only in numbers are trained as one program.

    See :class:`GridSearchCV` for what that means.

    Parameters
    ----------
    estimator : TorchClassifier, TorchRegressor or any estimator
        What is tuned.
    param_distributions : dict or list of dict
        Names of settings, and lists or scipy's distributions:
        ``{"optimizer__lr": scipy.stats.loguniform(1e-4, 1e-1)}``.
    n_iter, random_state : object
        How many candidates are drawn, and by which seed.
    scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score : object
        As of :class:`GridSearchCV`.

    Attributes
    ----------
    vectorized_ : DataFrame
        A row a fit: candidate, split, together (how many networks were trained as one program, 0 if it failed), why.
    cv_results_, best_params_, best_estimator_, ... : object
        As of scikit-learn's class.

    Examples
    --------
    >>> import scipy.stats
    >>> import torchstrata as ts
    >>> X, y = ts.load_task("iris").X, ts.load_task("iris").y
    >>> learner = ts.TorchClassifier(ts.MLP((10,)), max_epochs=2, random_state=0)
    >>> settings = {"optimizer__lr": scipy.stats.loguniform(1e-4, 1e-1), "network__dropout": [0.1, 0.2]}
    >>> search = ts.RandomizedSearchCV(learner, settings, n_iter=6, cv=5, random_state=0).fit(X, y)
    >>> search.vectorized_["together"].unique()
    array([30])
    """


def why_alone(search: Any) -> str:
    """Say why the fits of a search are left to scikit-learn.

    Parameters
    ----------
    search : GridSearchCV or RandomizedSearchCV
        Not fitted.

    Returns
    -------
    str
        Empty where they can be trained together.
    """
    estimator = search.estimator
    if not isinstance(estimator, TorchLearner):
        return f"{type(estimator).__name__} is no learner of this library"
    if type(estimator).fit is not TorchLearner.fit:
        return f"{type(estimator).__name__} has a fit of its own"
    if getattr(search, "_skl_callbacks", None) or getattr(estimator, "_skl_callbacks", None):
        return "callbacks of scikit-learn listen"
    return ""


def table(answers: Sequence[Answer]) -> pd.DataFrame:
    """Say how each fit was trained.

    Parameters
    ----------
    answers : sequence of Answer
        One a fit.

    Returns
    -------
    DataFrame
        Columns candidate, split, together, why.
    """
    rows = [(*answer.place, answer.together, answer.why) for answer in answers]
    return pd.DataFrame(rows, columns=["candidate", "split", "together", "why"])
