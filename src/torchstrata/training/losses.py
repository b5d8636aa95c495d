"""Losses: ``(output, target, sample_weight=None) -> scalar``.

A row of weight zero is an absent row; a weighted mean divides by the sum of the weights. What a loss says about itself
is explained in :mod:`torchstrata.training.loss`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from torchstrata.errors import ConfigError
from torchstrata.training.imbalance import class_balanced_weights as class_balanced_weights
from torchstrata.training.imbalance import focal as focal
from torchstrata.training.imbalance import ldam as ldam
from torchstrata.training.imbalance import logit_adjusted as logit_adjusted
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
    wide = output if output.dtype in (torch.float32, torch.float64) else output.float()
    y = target.view_as(wide).to(wide.dtype)  # torch's own has no gradient where the types differ
    return weighted_mean(F.huber_loss(wide, y, delta=delta, reduction="none"), sample_weight)


@loss(kind="regression", link="identity", outputs="targets")
def quantile(output: Tensor, target: Tensor, sample_weight: Tensor | None = None, *, quantile: float = 0.5) -> Tensor:
    """Pinball loss, whose minimum is a quantile of the target.

    Parameters
    ----------
    output, target : Tensor, shape (n,), (n, 1) or (n, k)
        Predictions and targets.
    sample_weight : Tensor of shape (n,), optional
        Weights.
    quantile : float
        Which quantile, in (0, 1); at 0.5 the loss is half the absolute error.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.

    References
    ----------
    Koenker, R. and Bassett, G. (1978). Regression quantiles. Econometrica 46.
    """
    if not 0 < quantile < 1:
        raise ConfigError(f"quantile: quantile must be in (0, 1), got {quantile!r}; for the 90 % quantile write 0.9")
    residual = target.view_as(output) - output
    return weighted_mean(torch.maximum(quantile * residual, (quantile - 1) * residual), sample_weight)


@loss(kind="regression", link="log", outputs="targets")
def poisson(output: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Poisson deviance of counts: outputs are logarithms of rates.

    Half the deviance, ``rate - y + y log(y / rate)``: zero where the rate is the count, and of the same gradient as the
    negative log-likelihood.

    Parameters
    ----------
    output : Tensor, shape (n,), (n, 1) or (n, k)
        Logarithms of rates.
    target : Tensor of the same shape
        Counts, not negative; of a negative one the loss is NaN.
    sample_weight : Tensor of shape (n,), optional
        Weights.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.

    References
    ----------
    McCullagh, P. and Nelder, J. A. (1989). Generalized Linear Models, 2nd edition. Chapman and Hall.
    """
    y = target.view_as(output).to(output.dtype)
    return weighted_mean(output.exp() - y - y * output + torch.xlogy(y, y), sample_weight)


@loss(kind="regression", link="identity", outputs="mean_and_variance")
def gaussian_nll(output: Tensor, target: Tensor, sample_weight: Tensor | None = None, *, eps: float = 1e-6) -> Tensor:
    """Negative log-likelihood of a Gaussian whose mean and variance are both predicted.

    Parameters
    ----------
    output : Tensor, shape (n, 2)
        The mean, and the logarithm of the variance.
    target : Tensor, shape (n,) or (n, 1)
        Targets.
    sample_weight : Tensor of shape (n,), optional
        Weights.
    eps : float
        Added to the variance, in units of the squared standardised target.

    Returns
    -------
    Tensor
        The weighted mean without the constant log(2 pi) / 2, a scalar.

    References
    ----------
    Nix, D. A. and Weigend, A. S. (1994). Estimating the mean and variance of the target probability distribution.
    IEEE International Conference on Neural Networks.
    """
    variance = output[:, 1].exp() + eps
    residual = output[:, 0] - target.flatten()
    return weighted_mean((variance.log() + residual * residual / variance) / 2, sample_weight)


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
    min(FP(t), FN(t)). It is zero exactly where all positives score at least as high as all negatives. It is convex in
    the scores and shrinks with them, so it is no measure of quality: never tune, stop or compare by it.

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


@loss(kind="classification", link="none", outputs="one", shift_invariant=True, needs_both_classes=True)
def auc_margin(output: Tensor, target: Tensor, sample_weight: Tensor | None = None, *, margin: float = 1.0) -> Tensor:
    """AUC margin loss: both classes lie close together, and their means a margin apart.

    The paper's min-max over a, b and alpha >= 0 is solved in closed form for each batch (a and b are the means of the
    classes, alpha is what the lead of the positives lacks of the margin), which leaves ::

        variance of positives + variance of negatives + max(0, margin - (mean of positives - mean of negatives)) ** 2

    Parameters
    ----------
    output : Tensor, shape (n,) or (n, 1)
        Scores. LibAUC puts a sigmoid before the loss; here the scores are taken as they are.
    target : Tensor, shape (n,)
        0 or 1.
    sample_weight : Tensor of shape (n,), optional
        Weights.
    margin : float
        The lead of the mean positive.

    Returns
    -------
    Tensor
        A scalar; zero, with zero gradient, where there is only one class. At least float32. The paper's factor
        p (1 - p), with p the share of positives, is left out, so the scale does not depend on the imbalance.

    References
    ----------
    Yuan, Z., Yan, Y., Sonka, M. and Yang, T. (2021). Large-scale robust deep AUC maximization: a new surrogate loss and
    empirical studies on medical image classification. ICCV. The paper updates a, b and alpha by steps of their own.
    """
    scores = output.flatten()
    scores = scores if scores.dtype in (torch.float32, torch.float64) else scores.float()
    weight = torch.ones_like(scores) if sample_weight is None else sample_weight.to(scores.dtype)
    positive = (target.flatten() > 0.5).to(scores.dtype)
    (up, spread_up), (down, spread_down) = (_moments(scores, weight * part) for part in (positive, 1 - positive))
    lacking = (margin - (up - down)).clamp_min(0)
    both = ((weight * positive).sum() > 0) & ((weight * (1 - positive)).sum() > 0)
    return both.to(scores.dtype) * (spread_up + spread_down + lacking * lacking)


def _moments(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    mean = weighted_mean(values, weight)
    return mean, weighted_mean((values - mean) ** 2, weight)


def _spread(scores: Tensor, weight: Tensor | None) -> Tensor:
    weight = torch.ones_like(scores) if weight is None else weight
    return (_moments(scores, weight)[1] + torch.finfo(scores.dtype).eps).sqrt()
