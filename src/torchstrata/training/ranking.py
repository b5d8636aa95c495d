"""AUM as one differentiable operation: value and gradient from one threshold, no graph and no sort of all rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchstrata.errors import NonFiniteError
from torchstrata.training.known import KnownGradient, is_plain

# Fewer rows than this are sorted at once; of more, first those that cannot hold the threshold are left out.
SORT_BELOW = 4096


def area_under_min(scores: Tensor, positive: Tensor, weight: Tensor | None = None, *, rates: bool = True) -> Tensor:
    """Integrate min(FP, FN) over all thresholds.

    Parameters
    ----------
    scores : Tensor of float32 or float64, shape (n,)
        The higher, the more positive.
    positive : Tensor of bool, shape (n,)
        Which rows are positive.
    weight : Tensor of shape (n,), optional
        FP and FN are sums of weights.
    rates : bool
        Whether FP and FN are rates or counts.

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    NonFiniteError
        If a score is NaN or infinite; checked where that costs no wait, so not on an accelerator or under transforms.

    Notes
    -----
    FP falls and FN grows with the threshold b, so min(FP, FN) is FN below the threshold where they meet and FP above
    it. The area is therefore a hinge loss without margin at its best threshold,

        AUM = min over b of  sum over negatives of u (score - b)+  +  sum over positives of v (b - score)+

    with u, v the share of a row in FP and FN. So it is convex in the scores, and the threshold is a median in which
    both classes weigh the same: it is found in O(n), without sorting.

    Only among rows tied at that threshold is there more than one slope. The gradient here is the mean of two orders,
    negatives first and positives first, and within each order rows of one label share their change by weight. It lies
    between the one-sided derivatives, does not depend on the order of the rows, treats weight k as k rows, sums to
    zero, and is not zero at constant scores.
    """
    if not is_plain(scores, positive, weight):
        return _AreaUnderMin.apply(scores, positive, weight, rates)[0]
    value, slope = value_and_slope(scores, positive, weight, rates)
    if not math.isfinite(value.item()):
        refuse_non_finite(scores, "aum")
    return KnownGradient.apply(scores, value, slope)


def refuse_non_finite(scores: Tensor, where: str) -> None:
    """Name the first score that is no number.

    Parameters
    ----------
    scores : Tensor of shape (n,)
        Scores.
    where : str
        Name of the loss.

    Raises
    ------
    NonFiniteError
        If a score is NaN or infinite.
    """
    bad = torch.nonzero(~torch.isfinite(scores.detach())).flatten()
    if len(bad):
        row = int(bad[0])
        raise NonFiniteError(
            f"row {row} of the batch ({scores[row].item()}; {len(bad)} of {len(scores)} rows): "
            f"{where} got a score that is NaN or infinite"
        )


class _AreaUnderMin(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, positive: Tensor, weight: Tensor | None, rates: bool) -> tuple[Tensor, Tensor]:
        return value_and_slope(scores, positive, weight, rates)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        return grad * ctx.saved_tensors[0], None, None, None


def value_and_slope(scores: Tensor, positive: Tensor, weight: Tensor | None, rates: bool) -> tuple[Tensor, Tensor]:
    """Compute the area and its gradient by hand.

    Parameters
    ----------
    scores, positive, weight, rates
        As of :func:`area_under_min`.

    Returns
    -------
    value : Tensor
        A scalar; not finite where a score is not.
    slope : Tensor of shape (n,)
        Gradient at the scores.
    """
    if is_plain(scores, positive, weight):
        w = None if weight is None else weight.detach().numpy()
        value, slope = _in_numpy(scores.detach().numpy(), positive.numpy(), w, rates)
        return torch.tensor(value, dtype=scores.dtype), torch.from_numpy(slope)
    return stacked_value_and_slope(scores, positive, weight, rates)


# numbers may be read: numpy, where a call costs a microsecond, and a search instead of a sort


def _in_numpy(
    scores: np.ndarray, positive: np.ndarray, weight: np.ndarray | None, rates: bool
) -> tuple[float, np.ndarray]:
    if weight is None:
        gain = float(np.count_nonzero(positive))
        loss = len(scores) - gain
        total: Callable[[np.ndarray], float] = lambda rows: float(np.count_nonzero(rows))  # noqa: E731
    else:
        wide = weight.astype(np.float64)
        total = lambda rows: float(wide @ rows)  # noqa: E731
        gain, loss = total(positive), total(~positive)
    slope = np.zeros_like(scores)
    if not np.isfinite(scores).all():
        return math.nan, slope
    if not (gain > 0 and loss > 0):
        return 0.0, slope
    of_positive, of_negative, target = (loss, gain, loss * gain) if rates else (1.0, 1.0, gain)
    mass = np.where(positive, of_positive, of_negative)
    cut = _threshold(scores, mass if weight is None else mass * wide, target)
    above, tied = scores > cut, scores == cut
    negative = ~positive
    fp_before, tied_loss = total(above & negative), total(tied & negative)
    fn_before, tied_gain = gain - total(above & positive), total(tied & positive)
    u, v = (1 / loss, 1 / gain) if rates else (1.0, 1.0)
    per_loss, per_gain = _shares(fp_before * u, tied_loss * u, fn_before * v, tied_gain * v, min)
    # exactly one of these is not zero for a row above or below; the few tied ones are written after
    np.multiply(above & negative, scores.dtype.type(u), out=slope)
    slope -= (positive & ~above) * scores.dtype.type(v)
    at = np.flatnonzero(tied)
    slope[at] = np.where(positive[at], per_gain * v, per_loss * u)
    if weight is not None:
        slope *= weight
    return float(((scores - cut) * slope).sum(dtype=np.float64)), slope


def _threshold(scores: np.ndarray, mass: np.ndarray, target: float) -> Any:
    """Return the first score from the top down to which the mass reaches the target."""
    while len(scores) > SORT_BELOW:
        low, high = _bracket(scores, mass, target)
        above = scores > high
        inside = scores >= low
        inside &= ~above
        mass_above = float(mass @ above)
        mass_inside = float(mass @ inside)
        if mass_above >= target:
            keep = above
        elif mass_above + mass_inside >= target:
            if low == high:
                return low
            keep, target = inside, target - mass_above
        else:
            keep, target = ~(above | inside), target - mass_above - mass_inside
        if not 0 < np.count_nonzero(keep) < len(scores):  # nothing left out: equal scores, or a rounded sum
            break
        scores, mass = scores[keep], mass[keep]
    order = np.argsort(-scores)
    at = int(np.searchsorted(np.cumsum(mass[order]), target))
    return scores[order[min(at, len(scores) - 1)]]


def _bracket(scores: np.ndarray, mass: np.ndarray, target: float) -> tuple[Any, Any]:
    """Guess from every k-th row between which scores the threshold lies; a wrong guess costs time only."""
    step = len(scores) // 2048 + 1
    some, masses = scores[::step], mass[::step]
    order = np.argsort(-some)
    reached = np.cumsum(masses[order])
    share = target / float(mass.sum())
    first, last = np.searchsorted(reached, reached[-1] * np.array([share - 0.05, share + 0.05]))
    return some[order[min(int(last), len(some) - 1)]], some[order[int(first)]]


def _shares(fp: Any, tied_loss: Any, fn: Any, tied_gain: Any, least: Callable[..., Any]) -> tuple[Any, Any]:
    """Slope of tied rows, negatives and positives, in units of their own change: the mean of the two orders."""
    fp_after, fn_after = fp + tied_loss, fn - tied_gain
    neither, negatives = least(fp, fn), least(fp_after, fn)
    positives, both = least(fp, fn_after), least(fp_after, fn_after)
    loss = tied_loss + (tied_loss == 0)
    gain = tied_gain + (tied_gain == 0)
    return ((negatives - neither) + (both - positives)) / 2 / loss, (
        (positives - neither) + (both - negatives)
    ) / 2 / gain


# nothing may be read: an accelerator, vmap or a compiler


def stacked_value_and_slope(
    scores: Tensor, positive: Tensor, weight: Tensor | None, rates: bool
) -> tuple[Tensor, Tensor]:
    """Compute the areas and gradients of many batches at once.

    Parameters
    ----------
    scores, positive, weight : Tensor of shape (..., n)
        Batches in the last dimension, as of :func:`area_under_min`.
    rates : bool
        Whether FP and FN are rates or counts.

    Returns
    -------
    value : Tensor of shape (...)
        An area each; not finite where a score is not.
    slope : Tensor of shape (..., n)
        Gradients at the scores.
    """
    wide = torch.float32 if scores.device.type == "mps" else torch.float64
    w = torch.ones_like(scores, dtype=wide) if weight is None else weight.to(wide)
    zero = torch.zeros_like(w)
    gains, losses = torch.where(positive, w, zero), torch.where(positive, zero, w)
    gain, loss = gains.sum(-1, keepdim=True), losses.sum(-1, keepdim=True)
    both = ((gain > 0) & (loss > 0)).to(wide)  # else there is nothing to rank, and no slope
    u, v = (_inverse(loss), _inverse(gain)) if rates else (both, both)
    u, v = u * both, v * both
    cut = _sorted_threshold(scores, positive, weight, rates).to(scores.dtype)
    above, tied = scores > cut, scores == cut
    fp_before, tied_loss = (torch.where(at, losses, zero).sum(-1, keepdim=True) for at in (above, tied))
    fn_above, tied_gain = (torch.where(at, gains, zero).sum(-1, keepdim=True) for at in (above, tied))
    per_loss, per_gain = _shares(fp_before * u, tied_loss * u, (gain - fn_above) * v, tied_gain * v, torch.minimum)
    of_losses = torch.where(above, u, torch.where(tied, per_loss * u, zero))
    of_gains = torch.where(above, zero, torch.where(tied, per_gain * v, -v))
    slope = (losses * of_losses + gains * of_gains).to(scores.dtype)
    return (slope * (scores - cut)).sum(-1), slope


def _inverse(total: Tensor) -> Tensor:
    return torch.where(total > 0, 1 / total.clamp_min(torch.finfo(total.dtype).tiny), torch.zeros_like(total))


def _sorted_threshold(scores: Tensor, positive: Tensor, weight: Tensor | None, rates: bool) -> Tensor:
    """Sort, and count in integers: deterministic CUDA has no cumulative sum of floats.

    Weights become 52 binary places of their sum; that only moves the threshold where FP and FN are equal up to it.
    """
    ranked, order = torch.sort(scores, dim=-1, descending=True)
    if weight is None:
        gain = positive.sum(-1, keepdim=True)
        loss = positive.shape[-1] - gain
        mass = torch.where(positive, loss, gain) if rates else torch.ones_like(positive, dtype=torch.int64)
        target = loss * gain if rates else gain
    else:
        wide = torch.float32 if scores.device.type == "mps" else torch.float64
        w, none = weight.to(wide), torch.zeros_like(scores, dtype=wide)
        gains, losses = torch.where(positive, w, none), torch.where(positive, none, w)
        of_losses, of_gains = losses.sum(-1, keepdim=True), gains.sum(-1, keepdim=True)
        u, v = (_inverse(of_losses), _inverse(of_gains)) if rates else (_inverse(of_losses + of_gains),) * 2
        mass = ((losses * u + gains * v) * 2.0**51).round().to(torch.int64)
        target = ((gains * v).sum(-1, keepdim=True) * 2.0**51).round().to(torch.int64)
    reached = torch.cumsum(mass.gather(-1, order), -1) < target
    return ranked.gather(-1, reached.sum(-1, keepdim=True).clamp_max(scores.shape[-1] - 1))


# the scale of the scores


def score_scale(scores: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the weighted standard deviation of scores, to be watched beside AUM.

    AUM is homogeneous: scores c times as large give an AUM c times as large and the same ranking, and its minimum is at
    constant scores. Scores have collapsed where this scale is below 1/1000 of the largest of the fit so far: AUM then
    fell because they shrank, and their order is not far from rounding.

    Parameters
    ----------
    scores : Tensor, shape (n,) or (n, 1)
        Scores.
    weight : Tensor of shape (n,), optional
        Weights; rows of weight zero do not count.

    Returns
    -------
    Tensor
        A scalar of float32 or wider, zero where all scores or weights are equal to one value or zero; no wait for the
        device.
    """
    s = scores.detach().flatten()
    s = s if s.dtype in (torch.float32, torch.float64) else s.float()
    w = torch.ones_like(s) if weight is None else weight.to(s.dtype)
    share = w * _inverse(w.sum())
    return torch.dot(share, (s - torch.dot(share, s)) ** 2).sqrt()
