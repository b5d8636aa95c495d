"""A target of numbers: the scale on the training rows."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from torchstrata.errors import ConfigError, DataError
from torchstrata.learner.measures import NumberResponse
from torchstrata.learner.parts import Part
from torchstrata.training.loss import Loss, LossTraits, count_outputs


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The scale of the target on the training rows.

    Parameters
    ----------
    center, scale : ndarray of shape () or (k,)
        The loss sees ``(y - center) / scale``, and ``y - center`` where the scale is 0: then the target is constant,
        and so is every prediction.
    log : bool
        Whether the outputs are logarithms of what is predicted.
    """

    center: np.ndarray
    scale: np.ndarray
    log: bool = False

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return standardised targets.

        Parameters
        ----------
        y : ndarray of shape (n,) or (n, k)
            Numbers.

        Returns
        -------
        ndarray of float64
            Of the same shape.
        """
        return (y - self.center) / np.where(self.scale > 0, self.scale, 1.0)

    def truth(self, y: np.ndarray) -> np.ndarray:
        """Return the numbers themselves."""
        return y

    def n_outputs(self, traits: LossTraits) -> int:
        """Return how many outputs the network needs."""
        return count_outputs(traits, 0, self.center.size)

    def decode(self, output: torch.Tensor) -> np.ndarray:
        """Return predictions in the units of the target."""
        values = output.detach().cpu().double().numpy()
        values = values[:, 0] if self.center.ndim == 0 and values.ndim == 2 else values
        return np.exp(values) if self.log else values * self.scale + self.center

    def response(
        self, output: torch.Tensor, traits: LossTraits, truth: np.ndarray, weight: np.ndarray | None
    ) -> BaseEstimator:
        """Return outputs in the shape of a fitted regressor."""
        return NumberResponse(self.decode(output))

    def class_counts(self, part: Part) -> np.ndarray:
        """Return nothing: numbers have no classes."""
        return np.empty(0)

    def weigh(self, part: Part, class_weight: Any, train: Part) -> np.ndarray | None:
        """Return the weights of rows."""
        if class_weight is not None:
            raise ConfigError("class_weight is for classification; pass fit(..., sample_weight=...)")
        return part.weight


def learn_numbers(y: np.ndarray, weight: np.ndarray | None, loss: Any) -> Numbers:
    """Learn the scale of a target.

    Parameters
    ----------
    y : ndarray of shape (n,) or (n, k)
        Of the training rows.
    weight : ndarray of shape (n,), optional
        A row of weight zero is an absent row.
    loss : callable
        With traits.

    Returns
    -------
    Numbers
        The scale.

    Raises
    ------
    DataError
        If the loss is for counts and y is negative, or y is too large.

    Warns
    -----
    UserWarning
        If y is constant.
    """
    if weight is not None:
        y, weight = y[weight > 0], weight[weight > 0]
    if loss.traits.link == "log":
        if (y < 0).any():
            raise DataError(f"loss {loss!r} is for counts: y must be >= 0, got {y.min():g}")
        return Numbers(np.zeros(y.shape[1:]), np.ones(y.shape[1:]), log=True)
    if not _knows_units(loss):
        return Numbers(np.zeros(y.shape[1:]), np.ones(y.shape[1:]))
    constant = np.ptp(y, axis=0) == 0
    if constant.any():
        warnings.warn(f"y is constant ({y[0].tolist()}): every prediction will be that", UserWarning, stacklevel=5)
    with np.errstate(over="ignore", invalid="ignore"):
        center = np.average(y, axis=0, weights=weight)
        scale = np.sqrt(np.average((y - center) ** 2, axis=0, weights=weight))
    if not np.isfinite(scale).all():
        raise DataError(f"y has values too large to standardise (largest {np.abs(y).max():g}); rescale it")
    return Numbers(np.where(constant, y[0], center), np.where(constant, 0.0, scale))


def _knows_units(loss: Any) -> bool:
    """Say whether standardising the target leaves the meaning of a loss: not for counts, or whatever a user wrote."""
    given = getattr(loss, "function", getattr(loss, "module", loss))
    given = getattr(given, "func", given)  # functools.partial of one of ours
    if isinstance(loss, Loss) or hasattr(given, "traits"):
        return loss.traits.link == "identity"
    return type(given).__name__ in ("MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss")
