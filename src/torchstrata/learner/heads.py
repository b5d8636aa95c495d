"""Targets of several heads: numbers beside classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, RegressorMixin

from torchstrata.errors import ConfigError, DataError, did_you_mean
from torchstrata.learner.calibration import decisions_of, probabilities
from torchstrata.learner.classifier import Labels
from torchstrata.learner.measures import ClassResponse, NumberResponse
from torchstrata.learner.numbers import Numbers, learn_numbers
from torchstrata.learner.parts import Part
from torchstrata.learner.targets import number_labels, read_classes, read_numbers
from torchstrata.training.loss import LossTraits, count_outputs
from torchstrata.training.several import Heads, HeadTraits


class HeadSizes(int):
    """A number of outputs that also says how many each head has.

    Parameters
    ----------
    sizes : dict of str to int
        By head, in the order of the outputs.
    """

    sizes: dict[str, int]

    def __new__(cls, sizes: dict[str, int]) -> HeadSizes:
        """Add them up."""
        made = super().__new__(cls, sum(sizes.values()))
        made.sizes = sizes
        return made


@dataclasses.dataclass(frozen=True)
class Columns:
    """What was learnt about each column of y.

    Parameters
    ----------
    heads : dict of str to (Numbers or Labels)
        By head, in the order of the columns.
    """

    heads: dict[str, Any]

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return standardised numbers and class numbers.

        Parameters
        ----------
        y : ndarray of shape (n, heads)
            Numbers.

        Returns
        -------
        ndarray of float64
            Of the same shape.
        """
        return np.column_stack([_encode(head, column) for head, column in zip(self.heads.values(), y.T, strict=True)])

    def truth(self, y: np.ndarray) -> np.ndarray:
        """Return the numbers themselves."""
        return y

    def n_outputs(self, traits: LossTraits) -> HeadSizes:
        """Return how many outputs the network needs, and each head."""
        return HeadSizes({name: count_outputs(of, _n_classes(self.heads[name]), 1) for name, of in _heads_of(traits)})

    def decode(self, output: torch.Tensor, traits: LossTraits) -> np.ndarray:
        """Return predictions: numbers in their units, and the numbers that stand for classes; shape (n, heads)."""
        return np.column_stack([self.response_of(name, output, traits).predict(None) for name in self.heads])

    def response_of(self, name: str, output: torch.Tensor, traits: LossTraits) -> Any:
        """Return the outputs of one head in the shape of a fitted estimator.

        Parameters
        ----------
        name : str
            Of the head.
        output : Tensor of shape (n, outputs of all heads)
            What the network gives.
        traits : HeadTraits
            Of the loss.

        Returns
        -------
        LabelResponse or NumberResponse
            It answers for these rows, whatever X it is asked about.
        """
        start = 0
        for head, size in self.n_outputs(traits).sizes.items():
            if head == name:
                break
            start += size
        own, learnt = output[:, start : start + size], self.heads[name]
        if isinstance(learnt, Labels):
            decision = decisions_of(own)
            return LabelResponse(decision, probabilities(decision), learnt.classes)
        return NumberResponse(learnt.decode(own))

    def response(
        self, output: torch.Tensor, traits: LossTraits, truth: np.ndarray, weight: np.ndarray | None
    ) -> BaseEstimator:
        """Return outputs in the shape of a fitted regressor that also answers by head."""
        return HeadsResponse(self, output, traits)

    def class_counts(self, part: Part) -> list[np.ndarray]:
        """Return the weight of each class for each head; empty for numbers."""
        return [
            np.bincount(_encode(head, column), weights=part.weight, minlength=n)
            if (n := _n_classes(head))
            else np.empty(0)
            for head, column in zip(self.heads.values(), part.y.T, strict=True)
        ]

    def weigh(self, part: Part, class_weight: Any, train: Part) -> np.ndarray | None:
        """Return the weights of rows."""
        if class_weight is not None:
            raise ConfigError("class_weight is for TorchClassifier; weigh the heads: ts.Heads({...}, weights={...})")
        return part.weight


class LabelResponse(ClassResponse):
    """Outputs of one head in the shape of a fitted classifier.

    Parameters
    ----------
    decision, proba : ndarray
        Scores and probabilities.
    labels : ndarray
        What the class numbers stand for.
    """

    def __init__(self, decision: np.ndarray, proba: np.ndarray | None, labels: np.ndarray):
        super().__init__(decision, proba)
        self.labels = labels

    @property
    def classes_(self) -> np.ndarray:
        """The labels."""
        return self.labels

    def predict(self, X: Any) -> np.ndarray:
        """Return labels."""
        return self.labels[super().predict(X)]


class HeadsResponse(RegressorMixin, BaseEstimator):
    """Outputs of all heads, for scorers.

    Parameters
    ----------
    target : Columns
        What was learnt about y.
    output : Tensor
        Of all heads.
    traits : HeadTraits
        Of the loss.
    """

    def __init__(self, target: Columns, output: torch.Tensor, traits: LossTraits):
        self.target, self.output, self.traits = target, output, traits

    @property
    def head_names(self) -> list[str]:
        """The heads in the order of the columns of y."""
        return list(self.target.heads)

    def head(self, name: str) -> Any:
        """Return one head."""
        return self.target.response_of(known_head(name, self.target), self.output, self.traits)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions of all heads."""
        return self.target.decode(self.output, self.traits)

    def __sklearn_is_fitted__(self) -> bool:
        return True


def known_head(name: str, target: Columns) -> str:
    """Refuse what is no head.

    Parameters
    ----------
    name : str
        Of a head.
    target : Columns
        The heads.

    Returns
    -------
    str
        The name.
    """
    if name not in target.heads:
        raise ConfigError(f"there is no head {name!r}. {did_you_mean(name, target.heads)}")
    return name


def read_columns(y: Any, heads: Heads) -> np.ndarray:
    """Check a target of several columns.

    Parameters
    ----------
    y : DataFrame or array of shape (n, heads)
        Numbers; columns of a table must be called as the heads are, in their order.
    heads : Heads
        The loss.

    Returns
    -------
    ndarray of float64, shape (n, heads)
        The numbers.

    Raises
    ------
    DataError
        If columns and heads differ, or a column is no number.
    """
    names = [name for name, _ in heads.losses]
    if hasattr(y, "columns"):
        given = [str(name) for name in y.columns]
        if given != names:
            raise DataError(f"y has the columns {given} and the loss has the heads {names}: they must be the same")
        for name in y.columns:
            if isinstance(y, pd.DataFrame) and not pd.api.types.is_numeric_dtype(y[name]):
                raise DataError(
                    f"column {name!r} of y is {y[name].dtype}; a head of classes takes whole numbers: "
                    f"y[{name!r}].astype('category').cat.codes"
                )
    elif np.ndim(y) != 2 or np.shape(y)[1] != len(names):
        raise DataError(f"y has shape {np.shape(y)} and the loss has the heads {names}: give one column for each")
    if len(names) == 1:  # a column by itself is no mistake here
        y = y.iloc[:, 0] if isinstance(y, pd.DataFrame) else np.asarray(y)[:, 0]
    return read_numbers(y).reshape(-1, len(names))


def learn_columns(part: Part, heads: Heads) -> Columns:
    """Learn scales and classes.

    Parameters
    ----------
    part : Part
        Training rows.
    heads : Heads
        The loss.

    Returns
    -------
    Columns
        One a head.

    Raises
    ------
    DataError
        Naming the head whose column does not fit its loss.
    """
    learnt: dict[str, Any] = {}
    for (name, loss), column in zip(heads.resolved(), part.y.T, strict=True):
        try:
            if loss.traits.kind == "regression":
                learnt[name] = learn_numbers(np.ascontiguousarray(column), part.weight, loss)
            else:
                learnt[name] = Labels(read_classes(column, part.weight))
        except ValueError as error:
            raise DataError(f"head {name!r}: {error}") from None
    return Columns(learnt)


def _heads_of(traits: LossTraits) -> tuple[tuple[str, LossTraits], ...]:
    assert isinstance(traits, HeadTraits)
    return traits.heads


def _encode(learnt: Numbers | Labels, column: np.ndarray) -> np.ndarray:
    # not Labels.encode, which keeps what it encoded last: a fitted learner holds no training rows
    return number_labels(column, learnt.classes) if isinstance(learnt, Labels) else learnt.encode(column)


def _n_classes(learnt: Numbers | Labels) -> int:
    return len(learnt.classes) if isinstance(learnt, Labels) else 0
