"""TrainState: what callbacks see while a fit runs, and what is left when it ends."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

import numpy as np
import torch

from torchstrata.errors import ConfigError
from torchstrata.params import Params


@dataclasses.dataclass
class TrainState:
    """Where a fit stands.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    optimizer : torch.optim.Optimizer
        What changes its weights.
    max_epochs : int
        At most so many epochs.
    epoch : int
        The present epoch, from 1; 0 before the first.
    step : int
        The present step within the epoch, from 1.
    order, bounds : ndarray of int64
        The batches of the present epoch: batch b is ``order[bounds[b]:bounds[b + 1]]``.
    rows : ndarray of int64
        The training rows of the present batch, where a batch hook looks.
    output, target, loss : Tensor
        Of the present batch.
    history : list of dict
        One row an epoch.
    scores : dict
        The measures of the last evaluation.
    best_epoch : int
        Epoch of the best evaluation so far; at the end the last epoch where nothing was evaluated.
    best_score : float
        The first measure there; NaN where nothing was evaluated.
    stop : str
        A callback sets it to a reason to stop the fit after this epoch.
    """

    module: torch.nn.Module
    optimizer: Any
    max_epochs: int
    epoch: int = 0
    step: int = 0
    order: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, dtype=np.int64))
    bounds: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    rows: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, dtype=np.int64))
    output: Any = None
    target: Any = None
    loss: Any = None
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = math.nan
    stop: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class EarlyStopping(Params):
    """Stop when the first measure no longer improves on validation rows.

    Parameters
    ----------
    patience : int
        So many evaluations in a row without improvement end the fit.
    min_delta : float
        An improvement must be larger than this, strictly.
    restore_best : bool
        Whether the weights of the best evaluation come back at the end.

    Notes
    -----
    The first finite score is the reference; a NaN never is, and never counts as an improvement. With
    ``eval_every=4, patience=10`` and no improvement the fit ends after epoch 44 and epoch 4 is the best.
    """

    patience: int = 5
    _: dataclasses.KW_ONLY
    min_delta: float = 0.0
    restore_best: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.patience, bool) or not isinstance(self.patience, numbers.Integral) or self.patience < 1:
            raise ConfigError(f"EarlyStopping: patience must be an int >= 1, got {self.patience!r}")
        if not self.min_delta >= 0:
            raise ConfigError(f"EarlyStopping: min_delta must be a number >= 0, got {self.min_delta!r}")


class BestSoFar:
    """Follow one measure over evaluations, and keep the weights of the best.

    Parameters
    ----------
    early_stopping : EarlyStopping, optional
        None follows without stopping or keeping weights.
    sign : int
        1 where greater is better, -1 where smaller is.
    """

    def __init__(self, early_stopping: EarlyStopping | None, sign: int = 1):
        self.settings, self.sign = early_stopping, sign
        self.epoch, self.score, self.waited = 0, math.nan, 0
        self.weights: list[torch.Tensor] | None = None

    def update(self, epoch: int, score: float, module: torch.nn.Module) -> bool:
        """Take in one evaluation.

        Parameters
        ----------
        epoch : int
            Its epoch.
        score : float
            The first measure.
        module : torch.nn.Module
            Whose weights are kept if this is the best.

        Returns
        -------
        bool
            Whether the fit should stop.
        """
        least = self.settings.min_delta if self.settings else 0.0
        better = math.isnan(self.score) or self.sign * (score - self.score) > least
        if math.isfinite(score) and better:
            self.epoch, self.score, self.waited = epoch, score, 0
            if self.settings and self.settings.restore_best:
                self.weights = copy_weights(module, self.weights)
            return False
        self.waited += 1
        return self.settings is not None and self.waited >= self.settings.patience


def weights_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """List parameters and buffers.

    Parameters
    ----------
    module : torch.nn.Module
        The network.

    Returns
    -------
    list of Tensor
        Detached, in the order of the module; not copied.
    """
    return [*(p.detach() for p in module.parameters()), *module.buffers()]


def copy_weights(module: torch.nn.Module, into: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
    """Copy parameters and buffers.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    into : list of Tensor, optional
        An earlier copy to overwrite.

    Returns
    -------
    list of Tensor
        The copy.
    """
    if into is None:
        return [w.clone() for w in weights_of(module)]
    return write_weights(into, weights_of(module))


def write_weights(target: list[torch.Tensor], source: list[torch.Tensor]) -> list[torch.Tensor]:
    """Overwrite tensors with others of the same shapes.

    Parameters
    ----------
    target, source : list of Tensor
        Of equal length.

    Returns
    -------
    list of Tensor
        ``target``.
    """
    for t, s in zip(target, source, strict=True):
        t.copy_(s)
    return target
