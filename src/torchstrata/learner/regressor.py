"""TorchRegressor."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin

from torchstrata.errors import ConfigError
from torchstrata.learner.base import TorchLearner
from torchstrata.learner.inputs import read_numbers
from torchstrata.learner.measures import NumberResponse
from torchstrata.learner.parts import Part
from torchstrata.network.tabular import MLP
from torchstrata.training import optim
from torchstrata.training.loss import LossTraits, count_outputs


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The scale of the target on the training rows.

    Parameters
    ----------
    center, scale : ndarray of shape () or (k,)
        The loss sees ``(y - center) / scale``.
    """

    center: np.ndarray
    scale: np.ndarray

    def encode(self, y: Any) -> np.ndarray:
        """Return standardised targets.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, k)
            Numbers.

        Returns
        -------
        ndarray of float64
            Of the same shape.
        """
        return (read_numbers(y) - self.center) / self.scale

    def truth(self, y: Any) -> np.ndarray:
        """Return the numbers themselves."""
        return read_numbers(y)

    def n_outputs(self, traits: LossTraits) -> int:
        """Return how many outputs the network needs."""
        return count_outputs(traits, 0, self.center.size)

    def decode(self, output: torch.Tensor) -> np.ndarray:
        """Return predictions in the units of the target."""
        values = output.detach().cpu().double().numpy()
        values = values[:, 0] if self.center.ndim == 0 and values.ndim == 2 else values
        return values * self.scale + self.center

    def response(self, output: torch.Tensor, traits: LossTraits) -> BaseEstimator:
        """Return outputs in the shape of a fitted regressor."""
        return NumberResponse(self.decode(output))

    def weigh(self, part: Part, class_weight: Any) -> np.ndarray | None:
        """Return the weights of rows."""
        if class_weight is not None:
            raise ConfigError("class_weight is for classification; pass fit(..., sample_weight=...)")
        return part.weight


class TorchRegressor(RegressorMixin, TorchLearner):
    """A neural network as a scikit-learn regressor.

    The target is standardised by the mean and standard deviation of the training rows for losses of ``ts.losses`` and
    their torch counterparts; a loss of your own sees the target as it is. Losses in the history are in those units,
    scores in the units of the target.

    Parameters
    ----------
    network : blueprint, torch.nn.Module, callable or str
        ``(shapes, n_outputs) -> torch.nn.Module``, such as ``ts.MLP(hidden=(100, 100))``; a module is copied.
    loss : str, loss or torch.nn.Module
        ``(output, target, sample_weight=None) -> scalar``, or a name in ``ts.losses``.
    optimizer, max_epochs, batch_size, batch_sampler, valid, scoring, eval_every, early_stopping, schedule, callbacks
        As of :class:`TorchClassifier`.
    augment, trainable, encoder, class_weight, runtime, random_state, verbose
        As of :class:`TorchClassifier`; ``class_weight`` must stay None.

    Attributes
    ----------
    history_, best_epoch_, best_score_, network_, encoder_, runtime_, seed_
        As of :class:`TorchClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> import torchstrata as ts
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> learner = ts.TorchRegressor(max_epochs=20, random_state=1).fit(X, y)
    >>> learner.score(X, y) > 0.4
    True
    """

    _kind = "regression"

    def __init__(
        self,
        network: Any = MLP(hidden=(100, 100)),  # noqa: B008 - an immutable value
        *,
        loss: Any = "mse",
        optimizer: Any = optim.AdamW(lr=1e-3),  # noqa: B008
        max_epochs: int = 10,
        batch_size: int | str = 32,
        batch_sampler: Any = None,
        valid: Any = None,
        scoring: Any = (),
        eval_every: int = 1,
        early_stopping: Any = None,
        schedule: Any = None,
        callbacks: Any = (),
        augment: Any = (),
        trainable: Any = None,
        encoder: Any = "auto",
        class_weight: Any = None,
        runtime: Any = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.batch_sampler = batch_sampler
        self.valid = valid
        self.scoring = scoring
        self.eval_every = eval_every
        self.early_stopping = early_stopping
        self.schedule = schedule
        self.callbacks = callbacks
        self.augment = augment
        self.trainable = trainable
        self.encoder = encoder
        self.class_weight = class_weight
        self.runtime = runtime
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Any) -> np.ndarray:
        """Predict the target.

        Parameters
        ----------
        X : DataFrame, array or tensor of shape (n, p), or Task
            Rows.

        Returns
        -------
        ndarray of float64, shape (n,) or (n, k)
            In the units of the target.
        """
        outputs = self._outputs(X)
        return self._target.decode(outputs)

    def _learn_target(self, part: Part, traits: LossTraits) -> Numbers:
        y = read_numbers(part.y)
        if traits.link != "identity":
            return Numbers(np.zeros(y.shape[1:]), np.ones(y.shape[1:]))
        center = np.average(y, axis=0, weights=part.weight)
        scale = np.sqrt(np.average((y - center) ** 2, axis=0, weights=part.weight))
        return Numbers(np.asarray(center), np.asarray(np.where(scale > 0, scale, 1.0)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
