"""Losses: ``(output, target, sample_weight=None) -> scalar``.

A row of weight zero is an absent row; a weighted mean divides by the sum of the weights. What a loss says about itself
is explained in :mod:`torchstrata.training.loss`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from torchstrata.training.loss import loss, weighted_mean
from torchstrata.training.pairwise import pairwise_logistic as pairwise_logistic
from torchstrata.training.pairwise import pairwise_squared_hinge as pairwise_squared_hinge
from torchstrata.training.ranking import area_under_min


@loss(kind="classification", link="logit", outputs="logits")
def cross_entropy(
    output: Tensor, target: Tensor, sample_weight: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of logits: binary for one output, over classes for several.

    Parameters
    ----------
    output : Tensor, shape (n,), (n, 1) or (n, k)
        Logits.
    target : Tensor, shape (n,)
        0 or 1 for one output; class numbers 0..k-1 for several.
    sample_weight : Tensor of shape (n,), optional
        Weights.
    label_smoothing : float
        Share of the target that is spread over all classes.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.
    """
    if output.ndim == 2 and output.shape[1] > 1:
        reduction = "mean" if sample_weight is None else "none"
        value = F.cross_entropy(output, target.long(), reduction=reduction, label_smoothing=label_smoothing)
        return value if sample_weight is None else weighted_mean(value, sample_weight)
    logits = output.flatten()
    labels = target.flatten().to(logits.dtype)
    if label_smoothing:
        labels = labels * (1 - label_smoothing) + label_smoothing / 2
    if sample_weight is None:
        return F.binary_cross_entropy_with_logits(logits, labels)
    return weighted_mean(F.binary_cross_entropy_with_logits(logits, labels, reduction="none"), sample_weight)


@loss(kind="regression", link="identity", outputs="targets")
def mse(output: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Mean squared error.

    Parameters
    ----------
    output, target : Tensor, shape (n,), (n, 1) or (n, k)
        Predictions and targets.
    sample_weight : Tensor of shape (n,), optional
        Weights.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.
    """
    residual = output - target.view_as(output)
    return weighted_mean(residual * residual, sample_weight)


@loss(kind="regression", link="identity", outputs="targets")
def mae(output: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Mean absolute error.

    Parameters
    ----------
    output, target : Tensor, shape (n,), (n, 1) or (n, k)
        Predictions and targets.
    sample_weight : Tensor of shape (n,), optional
        Weights.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.
    """
    return weighted_mean((output - target.view_as(output)).abs(), sample_weight)


@loss(kind="regression", link="identity", outputs="targets")
def huber(output: Tensor, target: Tensor, sample_weight: Tensor | None = None, *, delta: float = 1.0) -> Tensor:
    """Huber loss: squared near the target, absolute beyond ``delta``.

    Parameters
    ----------
    output, target : Tensor, shape (n,), (n, 1) or (n, k)
        Predictions and targets.
    sample_weight : Tensor of shape (n,), optional
        Weights.
    delta : float
        Where the two parts meet, in units of the standardised target.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.
    """
    return weighted_mean(F.huber_loss(output, target.view_as(output), delta=delta, reduction="none"), sample_weight)


@loss(kind="classification", link="none", outputs="one", shift_invariant=True, needs_both_classes=True)
def aum(
    output: Tensor,
    target: Tensor,
    sample_weight: Tensor | None = None,
    *,
    rates: bool = True,
    margin: float = 0.0,
    normalize: bool = False,
) -> Tensor:
    """Area under the minimum of false positives and false negatives, a loss that ranks.

    Over all thresholds t the predicted positives are the rows with ``score + t > 0``; the loss is the integral of
    min(FP(t), FN(t)). It is zero exactly where all positives score at least as high as all negatives. It shrinks with
    the scores, so it is no measure of quality: never tune, stop or compare by it.

    Parameters
    ----------
    output : Tensor, shape (n,) or (n, 1)
        Scores.
    target : Tensor, shape (n,)
        0 or 1.
    sample_weight : Tensor of shape (n,), optional
        FP and FN are sums of weights.
    rates : bool
        Divide FP by the weight of the negatives and FN by that of the positives.
    margin : float
        Lower the scores of positives by so much first, so that they must lead by it. Ours, not of the paper; it does
        not have the paper's minimum at constant scores.
    normalize : bool
        Divide scores by their standard deviation first, so that shrinking them gains nothing. Ours, not of the paper.

    Returns
    -------
    Tensor
        A scalar; zero, with zero gradient, where there is only one class. At least float32.

    Raises
    ------
    NonFiniteError
        If a score is NaN or infinite.

    References
    ----------
    Hillman, J. and Hocking, T. D. (2023). Optimizing ROC curves with a sort-based surrogate loss for binary
    classification and changepoint detection. Journal of Machine Learning Research 24(70).
    """
    scores = output.flatten()
    scores = scores if scores.dtype in (torch.float32, torch.float64) else scores.float()
    positive = target.flatten() > 0.5
    if normalize:
        scores = scores / _spread(scores, sample_weight)
    if margin:
        scores = scores - margin * positive.to(scores.dtype)
    return area_under_min(scores, positive, sample_weight, rates=rates)


def _spread(scores: Tensor, weight: Tensor | None) -> Tensor:
    mean = weighted_mean(scores, weight)
    variance = weighted_mean((scores - mean) ** 2, weight)
    return (variance + torch.finfo(scores.dtype).eps).sqrt()
