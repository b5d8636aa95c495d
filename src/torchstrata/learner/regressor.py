"""TorchRegressor."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin

from torchstrata.errors import ConfigError, DataError
from torchstrata.learner.base import TorchLearner
from torchstrata.learner.measures import NumberResponse
from torchstrata.learner.parts import Part
from torchstrata.learner.targets import read_numbers
from torchstrata.network.tabular import MLP
from torchstrata.training import optim
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
        As of :class:`TorchClassifier`. A batch sampler with ``bins``, such as ``ts.StratifiedBatchSampler(2, bins=4)``,
        makes its strata of y where fit gets no stratum.
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
    _target: Numbers

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

    def _read_y(self, y: Any) -> np.ndarray:
        return read_numbers(y)

    def _learn_target(self, part: Part, loss: Any) -> Numbers:
        y, weight = part.y, part.weight
        if weight is not None:  # a row of weight zero is an absent row
            y, weight = y[weight > 0], weight[weight > 0]
        if loss.traits.link == "log":
            if (y < 0).any():
                raise DataError(f"loss {loss!r} is for counts: y must be >= 0, got {y.min():g}")
            return Numbers(np.zeros(y.shape[1:]), np.ones(y.shape[1:]), log=True)
        if not _knows_units(loss):
            return Numbers(np.zeros(y.shape[1:]), np.ones(y.shape[1:]))
        constant = np.ptp(y, axis=0) == 0
        if constant.any():
            warnings.warn(f"y is constant ({y[0].tolist()}): every prediction will be that", UserWarning, stacklevel=4)
        with np.errstate(over="ignore", invalid="ignore"):
            center = np.average(y, axis=0, weights=weight)
            scale = np.sqrt(np.average((y - center) ** 2, axis=0, weights=weight))
        if not np.isfinite(scale).all():
            raise DataError(f"y has values too large to standardise (largest {np.abs(y).max():g}); rescale it")
        return Numbers(np.where(constant, y[0], center), np.where(constant, 0.0, scale))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _knows_units(loss: Any) -> bool:
    """Say whether standardising the target leaves the meaning of a loss: not for counts, or whatever a user wrote."""
    given = getattr(loss, "function", getattr(loss, "module", loss))
    given = getattr(given, "func", given)  # functools.partial of one of ours
    if isinstance(loss, Loss) or hasattr(given, "traits"):
        return loss.traits.link == "identity"
    return type(given).__name__ in ("MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss")
