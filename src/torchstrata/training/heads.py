"""Gradients of losses at the outputs of a network, for the steps that are written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from torchstrata.batches.loader import Rows
from torchstrata.training.loss import Loss
from torchstrata.training.ranking import value_and_slope


class Head(Protocol):
    """The gradient of a loss at the outputs, batch by batch, and the losses of an epoch.

    Attributes
    ----------
    masses : Tensor of shape (batches,)
        Sums of weights.
    """

    masses: Tensor

    def begin(self, index: Tensor, bounds: np.ndarray) -> None:
        """Take the targets in the order of an epoch."""

    def gradient(self, b: int, start: int, end: int, output: Tensor, out: Tensor) -> None:
        """Write the gradient of batch b, rows start to end, into ``out``."""

    def losses(self, outputs: Tensor) -> Tensor:
        """Return the loss of each batch."""


class _Rowwise:
    """Losses that are weighted means over rows: the values are computed once an epoch, from the kept outputs."""

    def __init__(self, rows: Rows, n_outputs: int, each: Callable[[Tensor, Tensor], Tensor]):
        self.target = rows.y.view(-1, 1) if rows.y.ndim == 1 else rows.y
        self.weight, self.each, self.n_outputs = rows.weight, each, n_outputs

    def begin(self, index: Tensor, bounds: np.ndarray) -> None:
        self.y, self.bounds = self.target[index], bounds
        w = torch.ones(len(index), dtype=torch.float64) if self.weight is None else self.weight[index].double()
        self.w, self.masses = w, _sums(w, bounds)
        self.plain = 1 / np.diff(bounds) / self.n_outputs if self.weight is None else None
        sizes = torch.from_numpy(np.diff(bounds))
        share = w / self.masses.clamp_min(torch.finfo(w.dtype).tiny).repeat_interleave(sizes) / self.n_outputs
        self.share = share[:, None].to(self.y.dtype)

    def scale(self, b: int, start: int, end: int, out: Tensor) -> None:
        out.mul_(self.share[start:end] if self.plain is None else self.plain[b])

    def losses(self, outputs: Tensor) -> Tensor:
        each = self.each(outputs, self.y).double().mean(1)
        return _sums(each * self.w, self.bounds) / self.masses.clamp_min(torch.finfo(torch.float64).tiny)


class _Logistic(_Rowwise):
    def __init__(self, rows: Rows, smoothing: float):
        super().__init__(rows, 1, lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction="none"))
        self.target = self.target * (1 - smoothing) + smoothing / 2 if smoothing else self.target

    def gradient(self, b: int, start: int, end: int, output: Tensor, out: Tensor) -> None:
        torch.sigmoid(output, out=out).sub_(self.y[start:end])
        self.scale(b, start, end, out)


class _Squared(_Rowwise):
    def __init__(self, rows: Rows, n_outputs: int):
        super().__init__(rows, n_outputs, lambda z, y: (z - y) ** 2)

    def gradient(self, b: int, start: int, end: int, output: Tensor, out: Tensor) -> None:
        torch.sub(output, self.y[start:end], out=out).mul_(2)
        self.scale(b, start, end, out)


class _Batchwise:
    """Losses of whole batches; autograd takes the gradient at the outputs, unless it is known."""

    def __init__(self, rows: Rows, loss: Callable[..., Any]):
        self.target, self.weight, self.loss = rows.y, rows.weight, loss

    def begin(self, index: Tensor, bounds: np.ndarray) -> None:
        self.y, self.w = self.target[index], None if self.weight is None else self.weight[index]
        self.values: list[Tensor] = []
        masses = torch.from_numpy(np.diff(bounds)).double()
        self.masses = masses if self.w is None else _sums(self.w.double(), bounds)

    def gradient(self, b: int, start: int, end: int, output: Tensor, out: Tensor) -> None:
        leaf = output.detach().requires_grad_()
        value = self.loss(leaf, self.y[start:end], None if self.w is None else self.w[start:end])
        out.copy_(torch.autograd.grad(value, leaf)[0])
        self.values.append(value.detach())

    def losses(self, outputs: Tensor) -> Tensor:
        return torch.stack(self.values)


class _Ranking(_Batchwise):
    def __init__(self, rows: Rows, *, rates: bool, margin: float, **_: Any):
        super().__init__(rows, value_and_slope)
        self.positive, self.rates, self.margin = rows.y > 0.5, rates, margin

    def begin(self, index: Tensor, bounds: np.ndarray) -> None:
        super().begin(index, bounds)
        self.is_positive = self.positive[index]

    def gradient(self, b: int, start: int, end: int, output: Tensor, out: Tensor) -> None:
        scores, positive = output.flatten(), self.is_positive[start:end]
        if self.margin:
            scores = scores - self.margin * positive.to(scores.dtype)
        value, slope = value_and_slope(scores, positive, None if self.w is None else self.w[start:end], self.rates)
        out.copy_(slope.view_as(out))
        self.values.append(value)


def head_for(loss: Any, rows: Rows, n_outputs: int) -> Head:
    """Choose how the gradient at the outputs is computed.

    Parameters
    ----------
    loss : callable
        ``(output, target, sample_weight=None) -> scalar``.
    rows : Rows
        Training rows.
    n_outputs : int
        Of the network.

    Returns
    -------
    Head
        Written out for cross-entropy of one logit, squared error and AUM; by autograd for others.
    """
    name, settings = getattr(loss, "__name__", ""), loss.get_params() if isinstance(loss, Loss) else {}
    if isinstance(loss, Loss):
        if name == "cross_entropy" and n_outputs == 1:
            return _Logistic(rows, settings["label_smoothing"])
        if name == "mse":
            return _Squared(rows, n_outputs)
        if name == "aum" and not settings["normalize"]:
            return _Ranking(rows, **settings)
    return _Batchwise(rows, loss)


def _sums(values: Tensor, bounds: np.ndarray) -> Tensor:
    return torch.from_numpy(np.add.reduceat(values.detach().numpy(), bounds[:-1]))
