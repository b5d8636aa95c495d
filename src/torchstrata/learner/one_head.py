"""One head of a fitted learner with several: an estimator of its own, and its scorer."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, get_scorer, r2_score

from torchstrata.errors import ConfigError
from torchstrata.learner.classifier import Labels
from torchstrata.learner.heads import Columns, known_head


class _HeadOfLearner(BaseEstimator):
    def __init__(self, learner: Any, name: str):
        self.learner = learner
        self.name = name

    def _answer(self, X: Any) -> Any:
        learner = self.learner
        return learner._target.response_of(self.name, learner._outputs(X), learner.loss_.traits)

    def predict(self, X: Any) -> np.ndarray:
        """Predict this head's column of y.

        Parameters
        ----------
        X : object
            As of the learner.

        Returns
        -------
        ndarray of shape (n,)
            Numbers, or labels.
        """
        return self._answer(X).predict(None)

    def __sklearn_is_fitted__(self) -> bool:
        return True


class HeadRegressor(RegressorMixin, _HeadOfLearner):
    """One head of a fitted learner as a fitted regressor.

    Parameters
    ----------
    learner : TorchRegressor
        Fitted.
    name : str
        Of the head.
    """


class HeadClassifier(ClassifierMixin, _HeadOfLearner):
    """One head of a fitted learner as a fitted classifier.

    Parameters
    ----------
    learner : TorchRegressor
        Fitted.
    name : str
        Of the head.
    """

    @property
    def classes_(self) -> np.ndarray:
        """The labels in sorted order."""
        return self.learner._target.heads[self.name].classes

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute scores, as :meth:`TorchClassifier.decision_function`."""
        return self._answer(X).decision

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute probabilities, as :meth:`TorchClassifier.predict_proba`."""
        return self._answer(X).proba


def head_of(learner: Any, name: str) -> HeadClassifier | HeadRegressor:
    """Return one head of a fitted learner.

    Parameters
    ----------
    learner : TorchRegressor
        With a loss of several heads.
    name : str
        Of the head.

    Returns
    -------
    HeadClassifier or HeadRegressor
        Fitted.

    Raises
    ------
    ConfigError
        If there is no such head.
    """
    target = learner._target
    if not isinstance(target, Columns):
        raise ConfigError(
            f"loss {learner.loss!r} has no heads: give one for each column of y, loss={{'a': 'mse', ...}}"
        )
    made = HeadClassifier if isinstance(target.heads[known_head(name, target)], Labels) else HeadRegressor
    return made(learner, name)


def score_heads(learner: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Average R2 of heads of numbers and accuracy of heads of classes.

    Parameters
    ----------
    learner : TorchRegressor
        Fitted.
    X : object
        Rows.
    y : array of shape (n, heads)
        Their targets.
    sample_weight : array of shape (n,), optional
        Weights.

    Returns
    -------
    float
        At most 1.
    """
    predicted, truth = learner.predict(X), np.asarray(y)
    scores = []
    for learnt, known, given in zip(learner._target.heads.values(), truth.T, predicted.T, strict=True):
        measure = accuracy_score if isinstance(learnt, Labels) else r2_score
        scores.append(measure(known, given, sample_weight=sample_weight))
    return float(np.mean(scores))


class HeadScorer:
    """A scorer of one head; made by :func:`head_scorer`.

    Parameters
    ----------
    head, measure : str
        Of which head what is measured.
    """

    def __init__(self, head: str, measure: str):
        self.head, self.measure = head, measure
        self.scorer = get_scorer(measure)
        self.__name__ = f"{head}_{measure}"

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Score the head on its column of y."""
        if hasattr(estimator, "steps"):  # a pipeline
            X, estimator = estimator[:-1].transform(X) if len(estimator) > 1 else X, estimator[-1]
        if not hasattr(estimator, "head"):
            raise ConfigError(f"measure {self.__name__!r}: {type(estimator).__name__} has no heads")
        column = np.asarray(y)[:, estimator.head_names.index(self.head)]
        return self.scorer(estimator.head(self.head), X, column)

    def __repr__(self) -> str:
        return f"head_scorer({self.head!r}, {self.measure!r})"


def head_scorer(head: str, measure: str) -> HeadScorer:
    """Make a scorer of one head of a learner with several, for ``scoring=``.

    Parameters
    ----------
    head : str
        Its name.
    measure : str
        Name of a scikit-learn scorer, such as ``"roc_auc"`` for a head of classes and ``"r2"`` for one of numbers.

    Returns
    -------
    HeadScorer
        ``(estimator, X, y) -> float``.

    Examples
    --------
    >>> head_scorer("kind", "accuracy")
    head_scorer('kind', 'accuracy')
    """
    return HeadScorer(head, measure)
