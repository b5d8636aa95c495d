"""Gradients of losses at the outputs of K networks, for the steps that are written out."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from torchstrata.batches.stacked import Layout, StackedRows
from torchstrata.training.loss import Loss
from torchstrata.training.ranking import stacked_value_and_slope, value_and_slope

TINY = torch.finfo(torch.float64).tiny


class Head(abc.ABC):
    """The gradient of a loss at the outputs, batch by batch, and the losses of an epoch.

    Parameters
    ----------
    rows : StackedRows
        Targets and weights.
    """

    def __init__(self, rows: StackedRows):
        self.rows, self.target = rows, rows.y
        self.alone = rows.n_fits == 1
        self.layout: Any = None

    def begin(self, layout: Layout, of_y: Tensor) -> None:
        """Take the targets of an epoch.

        Parameters
        ----------
        layout : Layout
            Its places.
        of_y : Tensor of int64, shape (places,)
            Which row stands where.
        """
        self.y = self.target.index_select(0, of_y)
        self.ys = layout.split(self.y, 0, len(layout.sizes))
        if self.rows.weight is None and self.layout is layout:
            return  # what depends on the sizes of the batches alone is known from the epoch before
        self.layout = layout
        w = None if self.rows.weight is None else self.rows.weight.index_select(0, of_y)
        if w is None and layout.padded:
            w = layout.present(self._float())
        self.w = w
        masses = layout.counts if w is None else layout.sums(w.double().numpy())
        self.masses = torch.from_numpy(np.asarray(masses, dtype=np.float64))
        self._weigh()

    @abc.abstractmethod
    def _weigh(self) -> None:
        """Work out what depends on weights and sizes."""

    def _float(self) -> torch.dtype:
        x = next(iter(self.rows.x.values())) if isinstance(self.rows.x, dict) else self.rows.x
        return x.dtype if x.is_floating_point() else torch.float32

    @abc.abstractmethod
    def gradient(self, b: int, output: Tensor, out: Tensor) -> None:
        """Write the gradient at the outputs of batch b.

        Parameters
        ----------
        b : int
            Which batch of the epoch.
        output : Tensor of shape (K, rows, n_outputs), or (rows, n_outputs) for one network
            Outputs.
        out : Tensor of the same shape
            Where to.
        """

    @abc.abstractmethod
    def losses(self, outputs: Tensor) -> Tensor:
        """Return the loss of each batch.

        Parameters
        ----------
        outputs : Tensor of shape (places, n_outputs)
            Of the epoch.

        Returns
        -------
        Tensor of float64, shape (batches, K)
            Losses; zero where a network has no such batch.
        """


class _Rowwise(Head):
    """Losses that are weighted means over rows: the values are computed once an epoch, from the kept outputs."""

    def __init__(self, rows: StackedRows, each: Callable[[Tensor, Tensor], Tensor]):
        super().__init__(rows)
        self.each, self.divisor = each, 1

    def _weigh(self) -> None:
        layout = self.layout
        if self.w is None:
            # tensors of one number: multiplying with a Python number costs four times as much
            scales = torch.from_numpy(1 / layout.sizes / self.divisor).to(self._float())
            self.plain: list[Tensor] | None = list(scales.unbind())
            return
        self.plain = None
        per_place = (
            self.masses.clamp_min(TINY)
            .flatten()
            .repeat_interleave(torch.from_numpy(np.repeat(layout.sizes, self.rows.n_fits)))
        )
        share = (self.w.double() / per_place / self.divisor)[:, None].to(self._float())
        self.shares = layout.split(share, 0, len(layout.sizes))

    def scale(self, b: int, out: Tensor) -> None:
        """Divide by the weight of the batch."""
        out.mul_(self.shares[b] if self.plain is None else self.plain[b])

    def losses(self, outputs: Tensor) -> Tensor:
        each = self.each(outputs, self.y).double()
        weighted = each if self.w is None else each * self.w
        return torch.from_numpy(self.layout.sums(weighted.numpy())) / self.masses.clamp_min(TINY)


class _Logistic(_Rowwise):
    """Cross-entropy of one logit."""

    def __init__(self, rows: StackedRows, smoothing: float):
        super().__init__(rows, lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction="none").mean(1))
        self.target = rows.y.view(-1, 1)
        if smoothing:
            self.target = self.target * (1 - smoothing) + smoothing / 2

    def gradient(self, b: int, output: Tensor, out: Tensor) -> None:
        torch.sigmoid(output, out=out).sub_(self.ys[b])
        self.scale(b, out)


class _Softmax(_Rowwise):
    """Cross-entropy of several logits."""

    def __init__(self, rows: StackedRows, n_outputs: int, smoothing: float):
        super().__init__(rows, lambda z, q: -(q * F.log_softmax(z, 1)).sum(1))
        one_hot = F.one_hot(rows.y, n_outputs).to(self._float())
        self.target = one_hot * (1 - smoothing) + smoothing / n_outputs

    def gradient(self, b: int, output: Tensor, out: Tensor) -> None:
        torch.softmax(output, -1, out=out).sub_(self.ys[b])
        self.scale(b, out)


class _Squared(_Rowwise):
    """Squared error."""

    def __init__(self, rows: StackedRows, n_outputs: int):
        super().__init__(rows, lambda z, y: ((z - y) ** 2).mean(1))
        self.target = rows.y.view(-1, 1) if rows.y.ndim == 1 else rows.y
        self.divisor = n_outputs

    def gradient(self, b: int, output: Tensor, out: Tensor) -> None:
        torch.sub(output, self.ys[b], out=out).mul_(2)
        self.scale(b, out)


class _Batchwise(Head):
    """Losses of whole batches; autograd takes the gradient at the outputs, for all networks at once under vmap."""

    def __init__(self, rows: StackedRows, loss: Callable[..., Any]):
        super().__init__(rows)
        self.loss = loss
        self.together = torch.func.vmap(torch.func.grad_and_value(loss))

    def begin(self, layout: Layout, of_y: Tensor) -> None:
        super().begin(layout, of_y)
        self.values: list[Tensor] = []

    def _weigh(self) -> None:
        steps = len(self.layout.sizes)
        self.ws = [None] * steps if self.w is None else self.layout.split(self.w, 0, steps)

    def gradient(self, b: int, output: Tensor, out: Tensor) -> None:
        given = [self.ys[b]] if self.ws[b] is None else [self.ys[b], self.ws[b]]
        if self.alone:
            leaf = output.detach().requires_grad_()
            value = self.loss(leaf, *given)
            slope = torch.autograd.grad(value, leaf)[0]
        else:
            slope, value = self.together(output, *given)
        out.copy_(slope)
        self.values.append(value.detach())

    def losses(self, outputs: Tensor) -> Tensor:
        values = torch.stack(self.values).double().view(self.masses.shape)
        return values.where(torch.from_numpy(self.layout.counts > 0), 0.0)


class _Ranking(_Batchwise):
    """AUM by hand."""

    def __init__(self, rows: StackedRows, loss: Any, *, rates: bool, margin: float, **_: Any):
        super().__init__(rows, loss)
        self.target, self.rates, self.margin = rows.y > 0.5, rates, margin

    def gradient(self, b: int, output: Tensor, out: Tensor) -> None:
        scores, positive, w = output.squeeze(-1), self.ys[b], self.ws[b]
        if self.margin:
            scores = scores - self.margin * positive.to(scores.dtype)
        by_hand = value_and_slope if self.alone else stacked_value_and_slope
        value, slope = by_hand(scores, positive, w, self.rates)
        out.copy_(slope.view_as(out))
        self.values.append(value)


class _Several(Head):
    """Heads of networks side by side whose losses differ: each looks at its own.

    Parameters
    ----------
    rows : StackedRows
        Targets and weights.
    parts : sequence of (first, last, Head)
        Which networks each is for.
    """

    def __init__(self, rows: StackedRows, parts: Sequence[tuple[int, int, Head]]):
        super().__init__(rows)
        self.parts = parts

    def begin(self, layout: Layout, of_y: Tensor) -> None:
        for _, _, head in self.parts:
            head.begin(layout, of_y)
        self.masses = self.parts[0][2].masses

    def _weigh(self) -> None:
        """Leave it to the heads inside, whose own ``begin`` does it."""

    def gradient(self, b: int, output: Tensor, out: Tensor) -> None:
        whole = torch.empty_like(out)
        for first, last, head in self.parts:  # the others' columns are computed too: a step is a few more rows
            head.gradient(b, output, whole)
            out[first:last] = whole[first:last]

    def losses(self, outputs: Tensor) -> Tensor:
        return torch.cat([head.losses(outputs)[:, first:last] for first, last, head in self.parts], dim=1)


def head_for(losses: Sequence[Any], rows: StackedRows, n_outputs: int) -> Head:
    """Choose how the gradient at the outputs is computed.

    Parameters
    ----------
    losses : sequence of callable
        ``(output, target, sample_weight=None) -> scalar``, of each network.
    rows : StackedRows
        Their training rows.
    n_outputs : int
        Of the networks.

    Returns
    -------
    Head
        Written out for cross-entropy, squared error and AUM; by autograd for others.
    """
    first = [i for i, loss in enumerate(losses) if i == 0 or not same_loss(loss, losses[i - 1])]
    heads = [_head(losses[i], rows, n_outputs) for i in first]
    if len(heads) == 1:
        return heads[0]
    return _Several(rows, list(zip(first, [*first[1:], len(losses)], heads, strict=True)))


def same_loss(a: Any, b: Any) -> bool:
    """Say whether two losses are one function with the same settings.

    Parameters
    ----------
    a, b : callable
        Losses.

    Returns
    -------
    bool
        Functions of others are the same only where they are one object.
    """
    if a is b:
        return True
    if not (isinstance(a, Loss) and isinstance(b, Loss)) or a.function is not b.function:
        return False
    mine, theirs = a.get_params(), b.get_params()
    return all(np.array_equal(mine[name], theirs[name]) for name in mine)


def _head(loss: Any, rows: StackedRows, n_outputs: int) -> Head:
    if isinstance(loss, Loss):
        name, settings = loss.__name__, loss.get_params()
        if name == "cross_entropy" and n_outputs == 1:
            return _Logistic(rows, settings["label_smoothing"])
        if name == "cross_entropy" and not rows.y.is_floating_point():
            return _Softmax(rows, n_outputs, settings["label_smoothing"])
        if name == "mse":
            return _Squared(rows, n_outputs)
        if name == "aum" and not settings["normalize"]:
            return _Ranking(rows, loss, **settings)
    return _Batchwise(rows, loss)
