"""Recipes: settings of a learner that belong together, as the authors of a network train it."""

from __future__ import annotations

from typing import Any

from torchstrata.data.encode import Encoder
from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network.realmlp import RealMLP
from torchstrata.training import losses, optim, schedules
from torchstrata.training.state import EarlyStopping

KINDS = ("classification", "regression")


def realmlp(kind: str, *, valid: float | None = 0.2) -> dict[str, Any]:
    """Return the settings with which its authors train :class:`torchstrata.RealMLP`.

    AdamW whose squared gradients have a momentum of 0.95; four cosine cycles of the learning rate; weight decay and
    dropout that go to zero in the second half; 256 epochs of batches of 256 rows; labels smoothed by 0.1.

    Parameters
    ----------
    kind : {"classification", "regression"}
        For TorchClassifier or TorchRegressor.
    valid : float or None
        Share of the rows that choose the epoch whose weights are kept, by accuracy or R2; None keeps the last epoch.

    Returns
    -------
    dict of str to object
        Arguments of the learner. Each can be changed or tuned as always: ``max_epochs``, ``network__dropout``.

    Raises
    ------
    ConfigError
        If ``kind`` is none of these.

    Notes
    -----
    The "tuned defaults" (TD) of the authors' package pytabkit 1.7. Two details differ: the authors leave out the rows
    that do not fill the last batch of an epoch, and of several best epochs they keep the last. With few rows choose a
    ``batch_size`` that leaves no small rest: a batch of a few rows is a noisy step at these learning rates.

    References
    ----------
    Holzmueller, D., Grinsztajn, L. and Steinwart, I. (2024). Better by default: strong pre-tuned MLPs and boosted trees
    on tabular data. NeurIPS.

    Examples
    --------
    >>> import torchstrata as ts
    >>> learner = ts.TorchRegressor(**ts.recipes.realmlp("regression"))
    >>> learner.optimizer
    AdamW(lr=0.2, betas=(0.9, 0.95), weight_decay=0.02)
    """
    if kind not in KINDS:
        raise ConfigError(f"kind must be one of {list(KINDS)}, got {kind!r}. {did_you_mean(str(kind), KINDS)}")
    classifies, epochs = kind == "classification", 256
    settings = {
        "network": RealMLP(),
        "encoder": Encoder(),
        "loss": losses.cross_entropy(label_smoothing=0.1) if classifies else losses.mse,
        "optimizer": optim.AdamW(lr=0.04 if classifies else 0.2, betas=(0.9, 0.95), weight_decay=0.02),
        "schedule": schedules.Combined(
            lr=schedules.CosLog(4), weight_decay=schedules.FlatCos(), dropout=schedules.FlatCos()
        ),
        "max_epochs": epochs,
        "batch_size": 256,
    }
    if valid is None:
        return settings
    choosing = {"valid": valid, "scoring": ("accuracy" if classifies else "r2",)}
    return {**settings, **choosing, "early_stopping": EarlyStopping(patience=epochs)}
