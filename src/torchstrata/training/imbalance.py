"""Losses for classes of unequal size: ``(output, target, sample_weight=None) -> scalar``, one logit or one a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from torchstrata.errors import ConfigError
from torchstrata.training.loss import loss, weighted_mean

# A class that is not in a batch gets this share, so that its logarithm is finite.
LEAST_SHARE = 1e-6


def class_balanced_weights(counts: Sequence[float] | Tensor, beta: float = 0.999) -> Tensor:
    """Return class weights by the effective number of rows.

    Row after row of a class tells less that is new: n rows count as ``(1 - beta**n) / (1 - beta)``. The weight of a
    class is the inverse of that.

    Parameters
    ----------
    counts : sequence of float, shape (k,)
        Rows of each class.
    beta : float
        In [0, 1): 0 gives equal weights; towards 1 they become the inverse counts.

    Returns
    -------
    Tensor of float64, shape (k,)
        Weights that sum to the number of classes with rows; zero for a class without rows.

    Raises
    ------
    ConfigError
        If beta or a count is out of range.

    References
    ----------
    Cui, Y., Jia, M., Lin, T.-Y., Song, Y. and Belongie, S. (2019). Class-balanced loss based on effective number of
    samples. CVPR.

    Examples
    --------
    >>> class_balanced_weights([900, 100], beta=0.99)
    tensor([0.7760, 1.2240], dtype=torch.float64)
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"class_balanced_weights: beta must be in [0, 1), got {beta!r}; the paper uses 0.9 to 0.9999")
    n = torch.as_tensor(counts, dtype=torch.float64)
    if n.ndim != 1 or not len(n) or not torch.isfinite(n).all() or (n < 0).any() or not n.any():
        raise ConfigError(f"class_balanced_weights: counts must be numbers of rows, one a class, got {counts!r}")
    logarithm = torch.log(torch.tensor(beta, dtype=torch.float64))
    seen = -torch.expm1(torch.where(n > 0, n * logarithm, torch.zeros_like(n)))  # 1 - beta**n
    weight = torch.where(seen > 0, 1 / seen.clamp_min(torch.finfo(torch.float64).tiny), torch.zeros_like(seen))
    return weight * (n > 0).sum() / weight.sum()


@loss(kind="classification", link="logit", outputs="logits")
def focal(
    output: Tensor,
    target: Tensor,
    sample_weight: Tensor | None = None,
    *,
    gamma: float = 2.0,
    alpha: float | tuple[float, ...] | None = None,
) -> Tensor:
    """Focal loss: cross-entropy in which rows that are already right count less.

    A row with probability p of its own class adds ``-(1 - p)**gamma log(p)``.

    Parameters
    ----------
    output : Tensor, shape (n,), (n, 1) or (n, k)
        Logits.
    target : Tensor, shape (n,)
        0 or 1 for one output; class numbers 0..k-1 for several.
    sample_weight : Tensor of shape (n,), optional
        Weights.
    gamma : float
        How much less; 0 gives cross-entropy.
    alpha : float or tuple of float, optional
        Factor of each class: for one logit that of the positive class, the negative one gets ``1 - alpha``; for several
        logits a tuple. None: no factor.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.

    References
    ----------
    Lin, T.-Y., Goyal, P., Girshick, R., He, K. and Dollár, P. (2017). Focal loss for dense object detection. ICCV.
    """
    if gamma < 0:
        raise ConfigError(f"focal: gamma must be 0 or greater, got {gamma!r}; the paper uses 2")
    logits, labels = _as_classes(output, target)
    right = F.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
    others = torch.where(_one_hot(labels, logits), -torch.inf, logits)
    wrong = torch.logsumexp(others, 1) - torch.logsumexp(logits, 1)  # log(1 - p), which 1 - exp(log p) would lose
    each = -right * torch.exp(gamma * wrong)
    return weighted_mean(each if alpha is None else each * _factors(alpha, logits)[labels], sample_weight)


def _factors(alpha: float | tuple[float, ...], logits: Tensor) -> Tensor:
    factors = (1 - alpha, alpha) if isinstance(alpha, int | float) else tuple(alpha)
    if len(factors) != logits.shape[1]:
        raise ConfigError(
            f"focal: alpha has {len(factors)} factors for {logits.shape[1]} classes, got {alpha!r}; "
            "give one number for two classes, a tuple of one number a class for more"
        )
    return logits.new_tensor(factors)


@loss(kind="classification", link="logit", outputs="logits", counts_setting="prior")
def logit_adjusted(
    output: Tensor,
    target: Tensor,
    sample_weight: Tensor | None = None,
    *,
    prior: tuple[float, ...] | None = None,
    tau: float = 1.0,
) -> Tensor:
    """Cross-entropy of logits to which the logarithms of the class shares are added.

    So the logits themselves are those of classes of equal size: their ranking aims at the balanced error. Add
    ``tau * log(prior)`` to get back probabilities of the data.

    Parameters
    ----------
    output : Tensor, shape (n,), (n, 1) or (n, k)
        Logits.
    target : Tensor, shape (n,)
        0 or 1 for one output; class numbers 0..k-1 for several.
    sample_weight : Tensor of shape (n,), optional
        Weights.
    prior : tuple of float, optional
        Shares or counts of the classes, in order of their numbers. None: a learner puts the class counts of its
        training rows here; called by itself the loss takes the (weighted) shares of the batch, at least 1e-6 each.
    tau : float
        How much is added; 0 gives cross-entropy.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.

    References
    ----------
    Menon, A. K., Jayasumana, S., Rawat, A. S., Jain, H., Veit, A. and Kumar, S. (2021). Long-tail learning via logit
    adjustment. ICLR.
    """
    logits, labels = _as_classes(output, target)
    counts = _counts("logit_adjusted", "prior", prior, logits, labels, sample_weight)
    share = (counts / counts.sum().clamp_min(torch.finfo(counts.dtype).tiny)).clamp_min(LEAST_SHARE)
    return weighted_mean(F.cross_entropy(logits + tau * share.log(), labels, reduction="none"), sample_weight)


@loss(kind="classification", link="logit", outputs="logits", counts_setting="counts")
def ldam(
    output: Tensor,
    target: Tensor,
    sample_weight: Tensor | None = None,
    *,
    counts: tuple[float, ...] | None = None,
    max_margin: float = 0.5,
    scale: float = 1.0,
) -> Tensor:
    """Label-distribution-aware margin loss: the smaller a class, the greater the lead its logit must have.

    From the logit of a row's own class a margin proportional to ``count ** -1/4`` is taken before the cross-entropy.

    Parameters
    ----------
    output : Tensor, shape (n,), (n, 1) or (n, k)
        Logits.
    target : Tensor, shape (n,)
        0 or 1 for one output; class numbers 0..k-1 for several.
    sample_weight : Tensor of shape (n,), optional
        Weights.
    counts : tuple of float, optional
        Rows of each class. None: a learner puts those of its training rows here; called by itself the loss takes the
        (weighted) counts of the batch.
    max_margin : float
        The margin of the smallest class with rows.
    scale : float
        Factor of the logits. The authors use 30 as their logits are cosines; for plain logits 1 is the like.

    Returns
    -------
    Tensor
        The weighted mean, a scalar.

    References
    ----------
    Cao, K., Wei, C., Gaidon, A., Arechiga, N. and Ma, T. (2019). Learning imbalanced datasets with label-distribution-
    aware margin loss. NeurIPS.
    """
    logits, labels = _as_classes(output, target)
    n = _counts("ldam", "counts", counts, logits, labels, sample_weight)
    root = torch.where(n > 0, n.clamp_min(torch.finfo(n.dtype).tiny) ** -0.25, torch.zeros_like(n))
    margin = max_margin * root / root.max().clamp_min(torch.finfo(n.dtype).tiny)
    lowered = logits - torch.where(_one_hot(labels, logits), margin, torch.zeros_like(margin))
    return weighted_mean(F.cross_entropy(scale * lowered, labels, reduction="none"), sample_weight)


def _as_classes(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One logit z of the positive class is the two logits (0, z)."""
    labels = target.flatten()
    if output.ndim == 2 and output.shape[1] > 1:
        return _wide(output), labels.long()
    logits = _wide(output.flatten())
    return torch.stack([torch.zeros_like(logits), logits], 1), (labels > 0.5).long()


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _one_hot(labels: Tensor, logits: Tensor) -> Tensor:
    return labels[:, None] == torch.arange(logits.shape[1], device=logits.device)


def _counts(
    name: str, setting: str, given: tuple[float, ...] | None, logits: Tensor, labels: Tensor, weight: Tensor | None
) -> Tensor:
    """Return what was given, one number a class, or the counts of the batch."""
    if given is None:
        hot = _one_hot(labels, logits).to(logits.dtype)
        return hot.sum(0) if weight is None else weight.to(logits.dtype) @ hot
    if len(given) != logits.shape[1] or min(given) < 0 or not sum(given) > 0:
        raise ConfigError(
            f"{name}: {setting} must be {logits.shape[1]} numbers, one a class, none negative, got {given!r}"
        )
    return logits.new_tensor(given)
