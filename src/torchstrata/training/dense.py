"""Linear and MLP written out: forward, backward and update on preallocated buffers, K networks at a time.

For a small network most of a step is bookkeeping: recording the graph, allocating outputs, walking modules, visiting
parameters. Here the same sums are written out. The weights of K networks of one shape lie side by side in blocks of
shape (K, out, in + 1), so a layer of all of them is one batched product and the update a call or two; their modules
keep looking at the blocks. K = 1 is the plain case.

The path is taken by itself where it gives what autograd gives, and ``runtime_`` says so; whatever it does not claim
(other layers, batch hooks, autocast, gradient accumulation, ...) goes through autograd.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchstrata.batches.stacked import Draw, Layout, StackedRows
from torchstrata.network.tabular import TabularLinear
from torchstrata.training.activations import Activation, activation_of
from torchstrata.training.claims import parse
from torchstrata.training.heads import head_for
from torchstrata.training.stack import Member, Stack
from torchstrata.training.updates import Blocks

# Inputs and masks of so many bytes are made ready at a time: steps then find them in the cache.
AHEAD = 4 * 2**20
# Validation rows are computed in blocks of so many, for the same reason.
BLOCK = 256


@dataclasses.dataclass
class _Layer:
    """A linear layer of all networks and what follows it; weights and gradients are views of the blocks.

    The bias is the last column of the weight, and the inputs have a row of ones for it: one product gives both, and one
    product their gradients.
    """

    weight: Tensor  # (K, out, in + 1), or (K, out, in) without a bias
    grad: Tensor
    turned: Tensor  # (K, in, out): the weight without its bias, for the way back
    bias: bool
    activation: Activation | None
    dropout: list[Any]  # a layer each, or nothing

    def __post_init__(self) -> None:
        self.masks = self.weight.new_empty(0)
        self.threshold = torch.tensor([d.threshold for d in self.dropout], dtype=torch.int16)
        self.scale = torch.tensor([d.scale for d in self.dropout], dtype=self.weight.dtype)
        self.alike = len({d.threshold for d in self.dropout}) == 1

    def room(self, places: int) -> None:
        """Have room for the masks of so many places; memory that is new each time costs more than the masks."""
        if self.dropout and len(self.masks) < places * self.weight.shape[-2]:
            self.masks = self.weight.new_empty(places * self.weight.shape[-2])


class _Tape:
    """Buffers for batches of one size, features first: shape (K, width, rows)."""

    def __init__(self, layers: list[_Layer], rows: int):
        def empty(layer: _Layer, more: int = 0) -> Tensor:
            *lead, width, _ = layer.weight.shape
            return layer.weight.new_ones(*lead, width + more, rows)

        hidden = layers[:-1]
        z = [empty(layer) for layer in hidden]
        d = [empty(layer) for layer in layers]
        self.first, self.slope = d[0], d[-1].mT  # gradients; as heads see it, rows first
        # what goes into the next layer: with a last row of ones, for its bias, which nobody writes
        into = [empty(layer, int(layers[i + 1].bias)) for i, layer in enumerate(hidden)]
        h = [whole[..., : part.shape[-2], :] for whole, part in zip(into, z, strict=True)]
        a = [torch.empty_like(part) if layer.dropout else kept for layer, part, kept in zip(hidden, z, h, strict=True)]
        known = [layer.activation for layer in hidden]
        # made once, for a step has no time to look things up: the way forward, and the way back
        self.forward = [
            (layers[i].weight, z[i], known[i].forward, a[i], h[i], into[i])  # type: ignore[union-attr]
            for i in range(len(hidden))
        ]
        self.backward = [
            (i, d[i + 1], into[i].mT, layers[i + 1].grad, layers[i + 1].turned, d[i], known[i].backward, z[i], a[i])  # type: ignore[union-attr]
            for i in reversed(range(len(hidden)))
        ]


class Dense(Stack):
    """The steps of one epoch, written out.

    Parameters
    ----------
    members : sequence of Member
        Networks of one shape; those with the same optimizer settings and schedule should be neighbours.
    clip_norm : float, optional
        Clip the norm of the gradient of each network to this.
    """

    def __init__(self, members: Sequence[Member], clip_norm: float | None = None):
        parsed = parse(members[0].state.module) or []
        shapes = [(*linear.weight.shape[:1], _inputs(linear)) for linear, *_ in parsed]
        super().__init__(members, shapes, _views, clip_norm)

    def _arrange(self) -> None:
        """Look at the weights, and lay out the rows; done anew when networks have left."""
        members = self.members
        self.alone = len(members) == 1
        self.product = torch.mm if self.alone else torch.bmm
        self.layers = _layers(self.blocks, alone=self.alone)
        matrices: dict[int, Tensor] = {}
        for m in members:  # fits on the same rows share one matrix
            if id(m.rows.x) not in matrices:
                matrices[id(m.rows.x)] = self._matrix(m.state.module, m.rows.x)
        self.rows = StackedRows([matrices[id(m.rows.x)] for m in members], [m.rows for m in members])
        self.n_outputs = self.layers[-1].weight.shape[-2]
        self.head = head_for([m.loss for m in members], self.rows, self.n_outputs)
        self._tapes: dict[int, _Tape] = {}

    def _matrix(self, module: nn.Module, x: Any) -> Tensor:
        """Return the inputs as one matrix, categories as one-hot columns, and a column of ones for the bias."""
        first = next(iter(module)) if isinstance(module, nn.Sequential) else module
        matrix = first.one_hot(x) if isinstance(first, TabularLinear) else x
        return torch.cat([matrix, matrix.new_ones(len(matrix), 1)], dim=1) if self.layers[0].bias else matrix

    def epoch(self, draws: Sequence[Draw]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Take one step for each batch.

        Parameters
        ----------
        draws : sequence of (order, bounds)
            Of each network: batch b is ``order[bounds[b]:bounds[b + 1]]``.

        Returns
        -------
        losses, masses : Tensor of shape (batches, K)
            Loss and sum of weights of each batch; zero where a network has no such batch.
        outputs : list of Tensor of shape (n, n_outputs)
            In training mode, in the order of each network's rows.
        """
        layout = self.rows.layout(draws)
        of_x, of_y = self.rows.index(layout, draws)
        outputs = self.blocks.flat.new_empty(layout.n_places, self.n_outputs)
        self.head.begin(layout, of_y)
        for mover in self.movers:
            mover.begin_epoch()
        for first, last in layout.chunks(self._places_ahead()):
            start, end = layout.starts[first], layout.starts[last]
            xs = layout.split(self.rows.take(of_x[start:end]), first, last)  # type: ignore[arg-type]
            outs = layout.split(outputs[start:end], first, last)
            masks = [self._masks(layer, layout, first, last) for layer in self.layers[:-1]]
            for b, x, output, *masked in zip(range(first, last), xs, outs, *masks, strict=True):
                self._step(b, x, masked, output)
        for member, (_, bounds) in zip(self.members, draws, strict=True):
            member.state.step = len(bounds) - 1
        if self.alone:
            return self.head.losses(outputs), self.head.masses, [outputs]
        of_each = [outputs[torch.from_numpy(layout.places(k))] for k in range(len(self.members))]
        return self.head.losses(outputs), self.head.masses, of_each

    def _step(self, b: int, x: Tensor, masks: Sequence[Tensor | None], output: Tensor) -> None:
        rows = x.shape[-2]
        tape = self._tapes.get(rows) or self._tapes.setdefault(rows, _Tape(self.layers, rows))
        self._forward(x, tape, masks, output)
        self.head.gradient(b, output, tape.slope)
        self._backward(x, tape, masks)
        if self.clip_norm is not None:
            self.blocks.clip(self.clip_norm)
        for mover in self.movers:
            if b < mover.span.n_batches:
                mover()

    def _forward(self, x: Tensor, tape: _Tape, masks: Sequence[Tensor | None], output: Tensor) -> None:
        product, into = self.product, x.mT
        for (weight, z, activation, a, h, after), mask in zip(tape.forward, masks, strict=True):
            product(weight, into, out=z)
            if mask is None:
                activation(z, h)
            else:
                activation(z, a)
                torch.mul(a, mask, out=h)
            into = after
        product(self.layers[-1].weight, into, out=output.mT)

    def _backward(self, x: Tensor, tape: _Tape, masks: Sequence[Tensor | None]) -> None:
        product = self.product
        for i, d, into, grad, turned, below, activation, z, a in tape.backward:
            product(d, into, out=grad)
            product(turned, d, out=below)
            if masks[i] is not None:
                below.mul_(masks[i])  # type: ignore[arg-type]
            activation(below, z, a)
        product(tape.first, x, out=self.layers[0].grad)

    def _places_ahead(self) -> int:
        widths = [layer.weight.shape[-2] for layer in self.layers if layer.dropout]
        width = self.layers[0].weight.shape[-1] + sum(widths)
        return max(1, AHEAD // (width * self.blocks.flat.element_size()))

    def _masks(self, layer: _Layer, layout: Layout, first: int, last: int) -> list[Tensor | None]:
        """Draw what dropout does in some steps; each network takes the next bits of its own stream."""
        if not layer.dropout:
            return [None] * (last - first)
        width = layer.weight.shape[-2]
        sizes, counts = layout.sizes[first:last], layout.counts[first:last]
        layer.room(int(layout.starts[last] - layout.starts[first]))
        bits = [drop.stream.take(width * int(c)) for drop, c in zip(layer.dropout, counts.sum(0), strict=True)]
        drawn = torch.from_numpy(bits[0] if self.alone else _side_by_side(bits, width, sizes, counts))
        factors, lead = layer.masks[: len(drawn)], (() if self.alone else (len(bits),))
        lengths, shapes = (len(bits) * width * sizes).tolist(), [(*lead, width, size) for size in sizes.tolist()]
        if layer.alike:  # two operations for all steps of all networks
            torch.ge(drawn, layer.threshold[0], out=factors).mul_(layer.scale[0])
        parts = torch.split_with_sizes(factors, lengths)
        found = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        if not layer.alike:
            for part, factor in zip(torch.split_with_sizes(drawn, lengths), found, strict=True):
                torch.ge(part.view_as(factor), layer.threshold[:, None, None], out=factor).mul_(
                    layer.scale[:, None, None]
                )
        return found  # type: ignore[return-value]

    def predict(self, x: Sequence[Any]) -> list[Tensor]:
        """Compute the outputs of all networks in evaluation mode.

        Parameters
        ----------
        x : sequence of Tensor or dict of Tensor
            Inputs for each network.

        Returns
        -------
        list of Tensor of shape (n, n_outputs)
            Outputs of each network.
        """
        inputs = [self._matrix(m.state.module, given) for m, given in zip(self.members, x, strict=True)]
        longest = max(len(each) for each in inputs)
        found = []
        for start in range(0, longest, BLOCK):
            rows = min(BLOCK, longest - start)
            block = inputs[0].new_zeros(len(inputs), rows, inputs[0].shape[1])
            for k, each in enumerate(inputs):
                part = each[start : start + rows]
                block[k, : len(part)] = part
            found.append(self._outputs(block[0] if self.alone else block))
        whole = torch.cat(found, dim=-2)
        return [whole] if self.alone else [whole[k, : len(each)] for k, each in enumerate(inputs)]

    def _outputs(self, x: Tensor) -> Tensor:
        tape = _Tape(self.layers, x.shape[-2])
        output = x.new_empty(*x.shape[:-1], self.n_outputs)
        self._forward(x, tape, [None] * (len(self.layers) - 1), output)
        return output


def _side_by_side(bits: list[np.ndarray], width: int, sizes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Lay the bits of each network into blocks of shape (K, width, rows), step after step; zeros where no row is."""
    k, whole = len(bits), (counts == sizes[:, None]).all(axis=1)
    out = np.zeros(k * width * int(sizes.sum()), dtype=np.int16)
    cuts = (
        np.flatnonzero(np.diff(sizes) | (np.diff(whole) != 0) | ~whole[1:]) + 1
    )  # steps of one size are copied in one go
    at, taken = 0, np.zeros(k, dtype=np.int64)
    for first, last in itertools.pairwise([0, *cuts.tolist(), len(sizes)]):
        size, steps = int(sizes[first]), last - first
        blocks = out[at : at + steps * k * width * size].reshape(steps, k, width, size)
        for i, own in enumerate(bits):
            count = int(counts[first, i])
            n = steps * width * count
            blocks[:, i, :, :count] = own[taken[i] : taken[i] + n].reshape(steps, width, count)
            taken[i] += n
        at += blocks.size
    return out


# the pieces


def _inputs(linear: Any) -> int:
    return linear.weight.shape[1] + (linear.bias is not None)


def _views(module: nn.Module, blocks: list[Tensor]) -> list[tuple[nn.Parameter, Tensor]]:
    """Say where the parameters of a network lie in its blocks."""
    found: list[tuple[nn.Parameter, Tensor]] = []
    for (linear, *_), block in zip(parse(module) or [], blocks, strict=True):
        found.append((linear.weight, block[:, : linear.weight.shape[1]]))
        if linear.bias is not None:
            found.append((linear.bias, block[:, -1]))
    return found


def _layers(blocks: Blocks, *, alone: bool) -> list[_Layer]:
    """See the blocks as layers; a single network without the leading dimension, whose products are plain ones."""
    parsed = [parse(module) or [] for module in blocks.modules]
    out = []
    for i, (linear, activation, _) in enumerate(parsed[0]):
        dropout = [layers[i][2] for layers in parsed if layers[i][2] is not None]
        weight, grad = blocks.weights[i], blocks.grads[i]
        if alone:
            weight, grad = weight[0], grad[0]
        turned = weight[..., : linear.weight.shape[1]].mT
        known = None if activation is None else activation_of(activation)
        out.append(_Layer(weight, grad, turned, linear.bias is not None, known, dropout))
    return out
