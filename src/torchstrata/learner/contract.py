"""What a loss needs of a batch and what a sampler gives: said before training, counted during it.

A ranking loss learns nothing from a batch of one class. Nobody notices: the loss of such a batch is zero, which looks
like success.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.batches.guarantees import share_without
from torchstrata.batches.plans import BatchPlan
from torchstrata.training.callbacks import Callback
from torchstrata.training.state import TrainState

# Below this share of useless batches a warning would be noise.
WORTH_A_WARNING = 0.05
# Scores whose spread has shrunk to this share of its largest value have collapsed: their order is rounding.
COLLAPSED = 1e-3


def count_useless(positive: np.ndarray, order: np.ndarray, bounds: np.ndarray) -> int:
    """Count the batches of one class.

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
        Which rows are positive.
    order, bounds : ndarray of int64
        Batch b is ``order[bounds[b]:bounds[b + 1]]``.

    Returns
    -------
    int
        How many hold no positive or no negative row.
    """
    hits = np.add.reduceat(positive[order].astype(np.int64), bounds[:-1])
    return int(((hits == 0) | (hits == np.diff(bounds))).sum())


def share_useless(positive: np.ndarray, plan: BatchPlan) -> float:
    """Expect the share of batches of one class.

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
        Which rows are positive.
    plan : BatchPlan
        Draws the batches.

    Returns
    -------
    float
        In [0, 1]; exact for the samplers of this library.
    """
    codes = positive.astype(np.int64)
    return share_without(plan, codes, 0) + share_without(plan, codes, 1)  # no batch is without both


def warn_of_useless(loss: Any, sampler: Any, plan: BatchPlan, positive: np.ndarray) -> None:
    """Warn where a loss needs both classes in a batch and the sampler does not see to it.

    Parameters
    ----------
    loss : Loss
        With traits.
    sampler, plan : object
        The sampler and its plan.
    positive : ndarray of bool, shape (n,)
        Which training rows are positive.

    Warns
    -----
    UserWarning
        With the expected share of useless batches, and the sampler that helps.
    """
    share = share_useless(positive, plan)
    if share >= WORTH_A_WARNING:
        rarer = min(int(positive.sum()), int((~positive).sum()))
        warnings.warn(
            f"loss {loss!r} learns nothing from a batch of one class, and {share:.0%} of the batches of {sampler!r} "
            f"are such ({rarer} of {len(positive)} training rows are of the rarer class). "
            "Use batch_sampler=ts.StratifiedBatchSampler(1) with fit(..., stratum=y)",
            UserWarning,
            stacklevel=4,
        )


class UselessBatches(Callback):
    """Add the number of batches of one class to the history, as ``useless_batches``.

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
        Which training rows are positive.
    """

    weight = -1.0

    def __init__(self, positive: np.ndarray):
        self.positive = positive

    def on_epoch_end(self, state: TrainState) -> None:
        """Count."""
        state.history[-1]["useless_batches"] = count_useless(self.positive, state.order, state.bounds)


def warn_of_collapse(loss: Any, history: pd.DataFrame) -> None:
    """Warn where the scores of a ranking loss have shrunk to rounding noise.

    Parameters
    ----------
    loss : Loss
        With traits.
    history : DataFrame
        With ``train_score_scale`` where it was measured.

    Warns
    -----
    UserWarning
        AUM is zero at constant scores, so a fit can end there.
    """
    scale = history.get("train_score_scale")
    scale = None if scale is None else scale.dropna()
    if scale is not None and len(scale) > 1 and scale.iloc[-1] < COLLAPSED * scale.max():
        warnings.warn(
            f"the scores of loss {loss!r} have collapsed: their standard deviation fell from {scale.max():.3g} to "
            f"{scale.iloc[-1]:.3g}, where the loss is small whatever the order. Use ts.losses.aum(margin=1.0), a lower "
            "learning rate or early stopping by roc_auc",
            UserWarning,
            stacklevel=4,
        )


def spread(scores: np.ndarray, weight: np.ndarray | None) -> float:
    """Compute the standard deviation of scores.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Of training rows.
    weight : ndarray of shape (n,), optional
        Weights.

    Returns
    -------
    float
        In units of the scores.
    """
    center = np.average(scores, weights=weight)
    return float(np.sqrt(np.average((scores - center) ** 2, weights=weight)))
