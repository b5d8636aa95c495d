"""AUM as one differentiable operation: value and gradient from one sort, no graph through it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchstrata.errors import NonFiniteError


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
    With thresholds T = -score in ascending order and M_i = min(FP, FN) on the interval that ends at T_i, the area is
    sum of (T_i - T_{i-1}) M_i and its slope along score i is M_{i+1} - M_i. Among tied scores that depends on their
    order. The gradient here is the mean of two orders, negatives first and positives first, and within each order rows
    of one label share their change by weight. It lies between the one-sided derivatives, does not depend on the order
    of the rows, treats weight k as k rows, sums to zero, and is not zero at constant scores.
    """
    value, _ = _AreaUnderMin.apply(scores, positive, weight, rates)
    if value.device.type == "cpu" and not _transformed(value) and not torch.isfinite(scores.detach()).all():
        raise NonFiniteError("aum got a score that is NaN or infinite")
    return value


def _transformed(value: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return True
    return torch._C._functorch.is_functorch_wrapped_tensor(value)


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
        A scalar.
    slope : Tensor of shape (n,)
        Gradient at the scores.
    """
    # sums of float32 rates would lose the single row beyond some 10^5 rows, and it is the differences that matter
    wide = torch.float32 if scores.device.type == "mps" else torch.float64
    ranked, order = torch.sort(scores, descending=True)
    is_positive = positive[order]
    if weight is None:
        # counts are integers: exact, and deterministic CUDA has no cumulative sum of floats
        gain = is_positive.to(torch.int64)
        loss = 1 - gain
    else:
        gain = weight[order].to(wide) * is_positive
        loss = weight[order].to(wide) * ~is_positive
    fp, tp = torch.cumsum(loss, 0), torch.cumsum(gain, 0)
    unit_fp, unit_fn = (_inverse(fp[-1], wide), _inverse(tp[-1], wide)) if rates else (1.0, 1.0)
    false_positive, false_negative = fp.to(wide) * unit_fp, (tp[-1] - tp).to(wide) * unit_fn
    height = torch.minimum(false_positive, false_negative).to(scores.dtype)
    value = torch.dot(height[:-1], ranked[:-1] - ranked[1:])
    slope = _tied_slope(ranked, false_positive, false_negative, loss.to(wide) * unit_fp, gain.to(wide) * unit_fn)
    # a row of weight zero, and a batch of one class, have slope zero by themselves
    return value, torch.zeros_like(scores).scatter(0, order, slope.to(scores.dtype))


def _inverse(total: Tensor, dtype: torch.dtype) -> Tensor:
    total = total.to(dtype)
    return torch.where(total > 0, 1 / total.clamp_min(torch.finfo(dtype).tiny), torch.zeros_like(total))


def _tied_slope(ranked: Tensor, fp: Tensor, fn: Tensor, loss: Tensor, gain: Tensor) -> Tensor:
    """Slope of each row in sorted order; the two tie orders are averaged."""
    n = len(ranked)
    place = torch.arange(n, device=ranked.device)
    new = torch.ones_like(ranked, dtype=torch.bool)
    new = torch.cat([new[:1], ranked[1:] != ranked[:-1]])
    first = torch.cummax(torch.where(new, place, torch.zeros_like(place)), 0).values
    last_of_tie = torch.cat([new[1:], new[:1]])  # new[0] is True: the last row always ends its tie
    ends = torch.where(last_of_tie, place, torch.full_like(place, n - 1))
    last = torch.cummin(ends.flip(0), 0).values.flip(0)
    fp_after, fn_after = fp[last], fn[last]
    # before the tie: after its first row, less that row
    fp_before, fn_before = (fp - loss)[first], (fn + gain)[first]
    neither = torch.minimum(fp_before, fn_before)
    negatives = torch.minimum(fp_after, fn_before)
    positives = torch.minimum(fp_before, fn_after)
    both = torch.minimum(fp_after, fn_after)
    tied_loss, tied_gain = fp_after - fp_before, fn_before - fn_after
    per_loss = ((negatives - neither) + (both - positives)) / 2 / _or_one(tied_loss)
    per_gain = ((positives - neither) + (both - negatives)) / 2 / _or_one(tied_gain)
    return loss * per_loss + gain * per_gain


def _or_one(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, torch.ones_like(values))
