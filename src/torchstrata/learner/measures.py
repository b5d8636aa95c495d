"""Scores during a fit: scikit-learn's scorers on outputs of the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if

from torchstrata.errors import ConfigError, did_you_mean

CLASSIFICATION_ONLY = (
    "accuracy",
    "roc_auc",
    "precision",
    "recall",
    "f1",
    "log_loss",
    "brier",
    "jaccard",
    "d2_log_loss",
)


class ClassResponse(ClassifierMixin, BaseEstimator):
    """Outputs of a network in the shape of a fitted classifier, for scorers. Classes are numbers 0..k-1.

    Parameters
    ----------
    decision : ndarray of shape (n,) or (n, k)
        Scores.
    proba : ndarray of shape (n, k), optional
        Probabilities; None where the loss gives none.
    """

    def __init__(self, decision: np.ndarray, proba: np.ndarray | None):
        self.decision = decision
        self.proba = proba

    @property
    def classes_(self) -> np.ndarray:
        """The class numbers."""
        return np.arange(2 if self.decision.ndim == 1 else self.decision.shape[1])

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores."""
        return self.decision

    def predict(self, X: Any) -> np.ndarray:
        """Return the class numbers."""
        return (self.decision > 0).astype(int) if self.decision.ndim == 1 else self.decision.argmax(1)

    @available_if(lambda self: self.proba is not None)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities; scorers ask for the method, and a loss without probabilities has none."""
        return self.proba  # type: ignore[return-value]

    def __sklearn_is_fitted__(self) -> bool:
        return True


class NumberResponse(RegressorMixin, BaseEstimator):
    """Predictions in the shape of a fitted regressor, for scorers.

    Parameters
    ----------
    prediction : ndarray of shape (n,) or (n, k)
        In the units of the target.
    """

    def __init__(self, prediction: np.ndarray):
        self.prediction = prediction

    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions."""
        return self.prediction

    def __sklearn_is_fitted__(self) -> bool:
        return True


@dataclasses.dataclass(frozen=True)
class Measures:
    """The measures of a fit.

    Parameters
    ----------
    scorers : dict of str to scorer
        In the user's order.
    first : str
        The measure that decides: the first scorer, or ``"loss"``.
    sign : int
        1 where it is better when greater, -1 when smaller.
    """

    scorers: dict[str, Callable[..., float]]
    first: str
    sign: int

    def score(self, response: BaseEstimator, truth: np.ndarray) -> dict[str, float]:
        """Compute all scores.

        Parameters
        ----------
        response : ClassResponse or NumberResponse
            What the network says.
        truth : ndarray
            Class numbers or targets.

        Returns
        -------
        dict of str to float
            By name.
        """
        rows = np.zeros((len(truth), 1))  # scorers hand X on to the response, which knows its rows
        return {name: float(scorer(response, rows, truth)) for name, scorer in self.scorers.items()}


def measures_for(scoring: Any, kind: str, *, ranks_only: bool, stops: bool) -> Measures:
    """Turn what the user gave as ``scoring`` into measures.

    Parameters
    ----------
    scoring : str, callable, sequence or dict of those
        scikit-learn scorer names or scorers.
    kind : {"classification", "regression"}
        What the learner is for.
    ranks_only : bool
        Whether the loss gives scores that are no probabilities, and is no measure itself.
    stops : bool
        Whether early stopping is on.

    Returns
    -------
    Measures
        Where nothing was given the loss decides, or ROC AUC for a loss that is no measure.

    Raises
    ------
    ConfigError
        If a name is unknown, for the other kind of target, or needs probabilities that the loss does not give.
    """
    if not scoring and ranks_only and stops:
        scoring = ("roc_auc",)
    scorers = {name: _scorer(given, kind) for name, given in _named(scoring)}
    for name, scorer in scorers.items():
        if ranks_only and getattr(scorer, "_response_method", "") == "predict_proba":
            raise ConfigError(
                f"measure {name!r} needs probabilities and this loss gives scores that are none: "
                "use 'roc_auc' or 'average_precision', or another loss"
            )
    if not scorers:
        return Measures({}, "loss", -1)
    return Measures(scorers, next(iter(scorers)), 1)


def _named(scoring: Any) -> list[tuple[str, Any]]:
    if isinstance(scoring, Mapping):
        return list(scoring.items())
    if isinstance(scoring, set | frozenset):
        raise ConfigError(f"scoring is a set, which has no order, and the first measure decides: {sorted(scoring)!r}")
    several = scoring if isinstance(scoring, list | tuple) else [scoring] if scoring else []
    return [(given if isinstance(given, str) else getattr(given, "__name__", str(given)), given) for given in several]


def _scorer(given: Any, kind: str) -> Callable[..., float]:
    if callable(given):
        return given
    from sklearn.metrics import get_scorer, get_scorer_names  # it takes longer to import than a small fit

    if not isinstance(given, str) or given not in get_scorer_names():
        raise ConfigError(f"unknown measure {given!r} in scoring. {did_you_mean(given, get_scorer_names(), most=8)}")
    if kind == "regression" and any(word in given for word in CLASSIFICATION_ONLY):
        raise ConfigError(
            f"measure {given!r} is for classification; for regression use 'r2' or 'neg_mean_squared_error'"
        )
    return get_scorer(given)
