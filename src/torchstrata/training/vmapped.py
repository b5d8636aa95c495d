"""K networks of any kind as one program, by ``torch.func.vmap``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from torchstrata.batches.loader import Tensors
from torchstrata.batches.stacked import Draw, Layout, StackedRows
from torchstrata.training.dense import AHEAD
from torchstrata.training.heads import same_loss
from torchstrata.training.predict import evaluating
from torchstrata.training.stack import Member, Stack


class Vmapped(Stack):
    """The steps of one epoch of K networks of one shape.

    Parameters
    ----------
    members : sequence of Member
        Networks that :func:`torchstrata.training.claims.why_not_vmap` has nothing against.
    clip_norm : float, optional
        Clip the norm of the gradient of each network to this.
    """

    def __init__(self, members: Sequence[Member], clip_norm: float | None = None):
        self.module = members[0].state.module
        self.names = [name for name, _ in self.module.named_parameters()]
        super().__init__(members, [p.shape for p in self.module.parameters()], _views, clip_norm)

    def _arrange(self) -> None:
        members = self.members
        self.rows = StackedRows([m.rows.x for m in members], [m.rows for m in members])
        first = [i for i, m in enumerate(members) if i == 0 or not same_loss(m.loss, members[i - 1].loss)]
        ends = [*first[1:], len(members)]
        self.spans = [(a, b, _step_of(self.module, members[a].loss)) for a, b in zip(first, ends, strict=True)]

    def epoch(self, draws: Sequence[Draw]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Take one step for each batch; as :meth:`torchstrata.training.dense.Dense.epoch`.

        Parameters
        ----------
        draws : sequence of (order, bounds)
            Of each network.

        Returns
        -------
        losses, masses : Tensor of shape (batches, K)
            Loss and sum of weights of each batch.
        outputs : list of Tensor of shape (n, n_outputs)
            In training mode, in the order of each network's rows.
        """
        layout = self.rows.layout(draws)
        of_x, of_y = self.rows.index(layout, draws)
        y, w = self.rows.y[of_y], self._weight(layout, of_y)
        for mover in self.movers:
            mover.begin_epoch()
        losses, outputs = [], []
        for first, last in layout.chunks(self._places_ahead()):
            start, end = layout.starts[first], layout.starts[last]
            xs = self._split(layout, self.rows.take(of_x[start:end]), first, last)
            ys, ws = (layout.blocks(part[start:end], first, last) for part in (y, w))
            for b in range(first, last):
                loss, output = self._step(b, xs[b - first], ys[b - first], ws[b - first])
                losses.append(loss)
                outputs.append(output.flatten(0, 1))
        whole = torch.cat(outputs)
        masses = torch.from_numpy(layout.sums(w.double().cpu().numpy()))
        read = torch.stack(losses).double().cpu()
        read[torch.from_numpy(layout.counts == 0)] = 0  # a network without such a batch
        return read, masses, [whole[torch.from_numpy(layout.places(k))] for k in range(len(self.members))]

    def _step(self, b: int, x: Any, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        for member in self.members:
            member.state.step = b + 1
        weights = dict(zip(self.names, self.blocks.weights, strict=True))
        parts = []
        for first, last, step in self.spans:
            whole = len(self.spans) == 1
            part = [_cut(given, first, last, whole=whole) for given in (weights, x, y, w)]
            parts.append(step(*part))
        for i, name in enumerate(self.names):
            torch.cat([grads[name] for grads, _ in parts], out=self.blocks.grads[i])
        if self.clip_norm is not None:
            self.blocks.clip(self.clip_norm)
        for mover in self.movers:
            if b < mover.span.n_batches:
                mover()
        losses, outputs = (torch.cat([found[i] for _, found in parts]).detach() for i in (0, 1))
        return losses, outputs

    def _weight(self, layout: Layout, of_y: Tensor) -> Tensor:
        if self.rows.weight is not None:
            return self.rows.weight[of_y]
        return layout.present(self.blocks.flat.dtype).to(self.blocks.flat.device)

    def _places_ahead(self) -> int:
        x = self.rows.x
        tensors = x.values() if isinstance(x, dict) else [x]
        return max(1, AHEAD // sum(t[0].numel() * t.element_size() for t in tensors))

    def _split(self, layout: Layout, x: Tensors, first: int, last: int) -> list[Any]:
        if not isinstance(x, dict):
            return layout.blocks(x, first, last)
        parts = {name: layout.blocks(value, first, last) for name, value in x.items()}
        return [dict(zip(parts, step, strict=True)) for step in zip(*parts.values(), strict=True)]

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
        with torch.no_grad():
            found = []
            for member, given in zip(self.members, x, strict=True):
                with evaluating(member.state.module):
                    found.append(member.state.module(given))
        return found


def _views(module: torch.nn.Module, blocks: list[Tensor]) -> list[tuple[Any, Tensor]]:
    return list(zip(module.parameters(), blocks, strict=True))


def _step_of(module: torch.nn.Module, loss: Any) -> Any:
    """Make gradient, loss and outputs of many networks with one loss."""

    def value(weights: dict[str, Tensor], x: Any, y: Tensor, w: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output = functional_call(module, weights, (x,))
        found = loss(output, y, w)
        return found, (found, output)

    step = vmap(grad_and_value(value, has_aux=True))

    def run(weights: dict[str, Tensor], x: Any, y: Tensor, w: Tensor) -> tuple[dict[str, Tensor], tuple]:
        grads, (_, found) = step(weights, x, y, w)
        return grads, found

    return run


def _cut(value: Any, first: int, last: int, *, whole: bool) -> Any:
    if whole:
        return value
    return {n: v[first:last] for n, v in value.items()} if isinstance(value, dict) else value[first:last]
