"""Losses over all pairs of a positive and a negative row, in O(n log n).

Both are written with ``z = margin - (score of the positive - score of the negative)``: small where a pair is ranked
well. Gradients are computed beside the values, in float64 where the device has it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from torchstrata.training.known import KnownGradient, is_plain
from torchstrata.training.loss import loss
from torchstrata.training.ranking import refuse_non_finite

# Up to so many pairs the definition itself is faster.
DEFINITION_BELOW = 1 << 19
# The axis of scores is cut into cells of length 1. Within a pair of cells the kernel is a polynomial of degree 15 in
# each score; beyond so many cells it is linear on one side and zero on the other, up to exp(-38) = 3e-17.
DEGREE, REACH = 16, 38
CHUNK = 1 << 16  # rows whose polynomials are in memory at a time


@loss(kind="classification", link="none", outputs="one", shift_invariant=True, needs_both_classes=True)
def pairwise_squared_hinge(
    output: Tensor, target: Tensor, sample_weight: Tensor | None = None, *, margin: float = 1.0
) -> Tensor:
    """Squared hinge loss of all pairs of a positive and a negative row, a smooth stand-in for 1 - AUC.

    The weighted mean over pairs of ``max(0, margin - (s_positive - s_negative)) ** 2``. One sort and a few running sums
    of terms that are never negative give value and gradient, exact up to rounding.

    Parameters
    ----------
    output : Tensor, shape (n,) or (n, 1)
        Scores.
    target : Tensor, shape (n,)
        0 or 1.
    sample_weight : Tensor of shape (n,), optional
        Weights; a pair weighs their product.
    margin : float
        The lead that a positive must have.

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
    Rust, K. R. and Hocking, T. D. (2023). A log-linear gradient descent algorithm for unbalanced binary classification
    using the all pairs squared hinge loss. arXiv:2302.11062.
    """
    return _of_pairs(_squared_hinge, output, target, sample_weight, margin, "pairwise_squared_hinge")


@loss(kind="classification", link="none", outputs="one", shift_invariant=True, needs_both_classes=True)
def pairwise_logistic(
    output: Tensor, target: Tensor, sample_weight: Tensor | None = None, *, margin: float = 0.0
) -> Tensor:
    """Logistic loss of all pairs of a positive and a negative row (RankNet), a smooth stand-in for 1 - AUC.

    The weighted mean over pairs of ``log(1 + exp(margin - (s_positive - s_negative)))``. No sorted closed form exists;
    the sum over far pairs is linear, that over near ones is a sum of polynomials on cells of the axis of scores. In
    float64 a pair's loss differs from the definition by less than 1e-13 (1 + loss), its gradient by 1e-13 (see Notes).

    Parameters
    ----------
    output : Tensor, shape (n,) or (n, 1)
        Scores.
    target : Tensor, shape (n,)
        0 or 1.
    sample_weight : Tensor of shape (n,), optional
        Weights; a pair weighs their product.
    margin : float
        The lead that a positive must have for its loss to be log 2.

    Returns
    -------
    Tensor
        A scalar; zero, with zero gradient, where there is only one class. At least float32.

    Raises
    ------
    NonFiniteError
        If a score is NaN or infinite.

    Notes
    -----
    The kernel log(1 + exp(z)) and its derivative are analytic for abs(Im z) < pi. Chebyshev interpolation with p points
    on a cell of length 1 then has an error below 4 M rho^-p / (rho - 1), where M bounds the kernel on the ellipse with
    half axes (rho + 1/rho) / 4 and (rho - 1/rho) / 4: for rho = 11 the second is 2.73 < pi and abs(derivative) < 3, so
    with p = 16 it is below 1e-16, twice (once for each score), times 1 + 2/pi log p. Cells further apart than 38 leave
    exp(-38) = 3e-17. The errors are absolute, so a loss below 1e-13 has no correct digit. Time is O(n log n) for the
    sort and O(n) for the rest, with 77 small matrix products for each cell that holds rows. Up to 2^19
    pairs the definition itself is computed.

    References
    ----------
    Burges, C. et al. (2005). Learning to rank using gradient descent. ICML. The method is that of Fong, W. and Darve,
    E. (2009). The black-box fast multipole method. Journal of Computational Physics 228.
    """
    return _of_pairs(_logistic, output, target, sample_weight, margin, "pairwise_logistic")


class _Pairs(torch.autograd.Function):
    """For transforms; vmap is a loop, as the number of cells differs between batches."""

    @staticmethod
    def forward(kernel: Any, scores: Tensor, positive: Tensor, weight: Tensor | None, margin: float) -> Any:
        if scores.is_cuda and torch.are_deterministic_algorithms_enabled():  # CUDA has no such running sum of floats
            there = [None if t is None else t.cpu() for t in (scores, positive, weight)]
            return tuple(part.to(scores.device) for part in kernel(*there, margin))
        return kernel(scores, positive, weight, margin)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[None, Tensor, None, None, None]:
        return None, grad * ctx.saved_tensors[0], None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple[Any, Any]:
        at = lambda i: [x if d is None else x.select(d, i) for x, d in zip(inputs, in_dims, strict=True)]  # noqa: E731
        values, slopes = zip(*(_Pairs.apply(*at(i)) for i in range(info.batch_size)), strict=True)
        return (torch.stack(values), torch.stack(slopes)), (0, 0)


@torch._disable_dynamo  # sizes depend on the scores; torch.compiler.disable would import the compiler here already
def _of_pairs(
    kernel: Callable[..., tuple[Tensor, Tensor]],
    output: Tensor,
    target: Tensor,
    weight: Tensor | None,
    margin: float,
    name: str,
) -> Tensor:
    scores, positive = output.flatten(), target.flatten() > 0.5
    scores = scores if scores.dtype in (torch.float32, torch.float64) else scores.float()
    if not is_plain(scores, positive, weight):
        return _Pairs.apply(kernel, scores, positive, weight, margin)[0]
    with torch.no_grad():
        value, slope = kernel(scores.detach(), positive, weight, margin)
    if not math.isfinite(value.item()):
        refuse_non_finite(scores, name)
    return KnownGradient.apply(scores, value, slope)


def _split(scores: Tensor, positive: Tensor, weight: Tensor | None, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return places on one axis (a negative stands higher by the margin), and weights of both classes that sum to one.

    Both are zero where one class is missing.
    """
    wide = torch.float32 if scores.device.type == "mps" else torch.float64
    w = torch.ones_like(scores, dtype=wide) if weight is None else weight.to(wide)
    place = scores.to(wide) + margin * (~positive).to(wide)
    of_positives, of_negatives = w * positive, w * ~positive
    total = of_positives.sum() * of_negatives.sum()
    there = (total > 0).to(wide)
    tiny = torch.finfo(wide).tiny
    share = lambda part: there * part / part.sum().clamp_min(tiny)  # noqa: E731
    return place, share(of_positives), share(of_negatives)


def _squared_hinge(scores: Tensor, positive: Tensor, weight: Tensor | None, margin: float) -> tuple[Tensor, Tensor]:
    """Running sums from the top: of weights C, of distances A = sum w (v - x), of their squares B = sum w (v - x)^2.

    From one place to the next, a gap g lower, A grows by C g and B by 2 A g + C g^2: nothing is ever subtracted.
    """
    place, of_positives, of_negatives = _split(scores, positive, weight, margin)
    place, order = torch.sort(place)
    p, q = of_positives[order], of_negatives[order]
    gap = place.diff()
    below = _running(p[:-1].cumsum(0) * gap)  # for a negative: sum over positives below of w (v - s)
    c = _from_top(q)[1:]
    above = _running((c * gap).flip(0)).flip(0)  # for a positive: sum over negatives above
    squares = _running(((2 * above[1:] + c * gap) * gap).flip(0)).flip(0)
    slope = torch.empty_like(place)
    slope[order] = 2 * (q * below - p * above)
    return torch.dot(p, squares).to(scores.dtype), slope.to(scores.dtype)


def _running(steps: Tensor) -> Tensor:
    return F.pad(steps.cumsum(0), (1, 0))


def _from_top(values: Tensor) -> Tensor:
    return values.flip(0).cumsum(0).flip(0)


# logistic


def _logistic(scores: Tensor, positive: Tensor, weight: Tensor | None, margin: float) -> tuple[Tensor, Tensor]:
    place, p, q = _split(scores, positive, weight, margin)
    up, down = torch.nonzero(p).flatten(), torch.nonzero(q).flatten()
    slope = torch.zeros_like(place)
    if len(up) == 0 or len(down) == 0 or not torch.isfinite(place).all():
        return (slope.sum() + 0 * place.sum()).to(scores.dtype), slope.to(scores.dtype)
    sums = _by_definition if len(up) * len(down) <= DEFINITION_BELOW else _by_cells
    value, of_positives, of_negatives = sums(place[up], p[up], place[down], q[down])
    slope[up], slope[down] = -p[up] * of_positives, q[down] * of_negatives
    return value.to(scores.dtype), slope.to(scores.dtype)


def _by_definition(s: Tensor, p: Tensor, v: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean loss, for each s the mean derivative over v, and for each v that over s."""
    z = v - s[:, None]
    share = torch.sigmoid(z)
    return p @ (F.softplus(z, threshold=40) @ q), share @ q, p @ share


def _by_cells(s: Tensor, p: Tensor, v: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`_by_definition`, by sums over cells."""
    middle = (torch.minimum(s.min(), v.min()) + torch.maximum(s.max(), v.max())) / 2
    s, v = s - middle, v - middle  # a common shift would cost digits
    cells, of_row = torch.unique(torch.floor(torch.cat([s, v])), return_inverse=True)
    of_s, of_v = of_row[: len(s)], of_row[len(s) :]
    moments_s, moments_v = _moments(s, p, cells, of_s), _moments(v, q, cells, of_v)
    losses, of_positives, of_negatives = (torch.zeros_like(moments_s) for _ in range(3))
    for distance in range(-REACH, REACH + 1):
        # rows of the cells `here` as s, of the cells `there`, so much higher, as v
        there = torch.searchsorted(cells, cells + distance).clamp_max(len(cells) - 1)
        here = torch.nonzero(cells[there] - cells == distance).flatten()
        there = there[here]
        soft, share = _kernels(distance, cells.dtype, cells.device)
        losses[here] += moments_v[there] @ soft.t()
        of_positives[here] += moments_v[there] @ share.t()
        of_negatives[there] += moments_s[here] @ share
    far_v, far_vs = _far_above(cells, v, q, of_v)
    far_s = _far_below(cells, p, of_s)
    near = (losses * moments_s).sum()
    mean_s = torch.zeros_like(cells).index_add_(0, of_s, p * s)
    mass_s = torch.zeros_like(cells).index_add_(0, of_s, p)
    far = torch.dot(mass_s, far_vs) - torch.dot(mean_s, far_v)
    return (
        near + far,
        _at_rows(s, cells, of_s, of_positives) + far_v[of_s],
        _at_rows(v, cells, of_v, of_negatives) + far_s[of_v],
    )


def _far_above(cells: Tensor, v: Tensor, q: Tensor, of_v: Tensor) -> tuple[Tensor, Tensor]:
    """For each cell, the weights q and the sums of q v in cells out of reach above it: there the loss is v - s."""
    first = torch.searchsorted(cells, cells + REACH, right=True)
    mass = torch.zeros_like(cells).index_add_(0, of_v, q)
    sums = torch.zeros_like(cells).index_add_(0, of_v, q * v)
    return F.pad(_from_top(mass), (0, 1))[first], F.pad(_from_top(sums), (0, 1))[first]


def _far_below(cells: Tensor, p: Tensor, of_s: Tensor) -> Tensor:
    """For each cell, the weights p in cells out of reach below it."""
    first = torch.searchsorted(cells, cells - REACH)
    return F.pad(torch.zeros_like(cells).index_add_(0, of_s, p).cumsum(0), (1, 0))[first]


def _polynomials(x: Tensor, cells: Tensor, of_row: Tensor) -> Tensor:
    """Return Chebyshev polynomials of each place within its cell, shape (rows, DEGREE)."""
    t = 2 * (x - cells[of_row]) - 1
    out = [torch.ones_like(t), t]
    while len(out) < DEGREE:
        out.append(2 * t * out[-1] - out[-2])
    return torch.stack(out, 1)


def _moments(x: Tensor, w: Tensor, cells: Tensor, of_row: Tensor) -> Tensor:
    out = x.new_zeros(len(cells), DEGREE)
    for a in range(0, len(x), CHUNK):
        part = slice(a, a + CHUNK)
        out.index_add_(0, of_row[part], _polynomials(x[part], cells, of_row[part]) * w[part, None])
    return out


def _at_rows(x: Tensor, cells: Tensor, of_row: Tensor, coefficients: Tensor) -> Tensor:
    parts = []
    for a in range(0, len(x), CHUNK):
        part = slice(a, a + CHUNK)
        parts.append((_polynomials(x[part], cells, of_row[part]) * coefficients[of_row[part]]).sum(1))
    return torch.cat(parts)


@functools.lru_cache(maxsize=512)
def _kernels(distance: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Coefficients c of log(1 + exp(v - s)) and of its derivative in sums of c[k, l] T_k(s) T_l(v), two cells apart."""
    k = torch.arange(DEGREE, dtype=torch.float64)
    angle = (k + 0.5) * math.pi / DEGREE
    node = (torch.cos(angle) + 1) / 2
    to_coefficients = torch.cos(k[:, None] * angle) * 2 / DEGREE
    to_coefficients[0] /= 2
    z = distance + node - node[:, None]
    both = (F.softplus(z, threshold=40), torch.sigmoid(z))
    soft, share = ((to_coefficients @ each @ to_coefficients.t()).to(device, dtype) for each in both)
    return soft, share
