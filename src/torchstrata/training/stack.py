"""What stacks of networks share, however their steps are computed: members, weights, updates, leaving."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from torchstrata.batches.loader import Rows
from torchstrata.training.optim import TorchOptimizer
from torchstrata.training.state import TrainState
from torchstrata.training.updates import Blocks, Mover, Span


@dataclasses.dataclass
class Member:
    """One of the networks that train together.

    Parameters
    ----------
    state : TrainState
        Its module is a network that :func:`torchstrata.training.claims.why_not` has nothing against.
    rows : Rows
        Training rows.
    loss : callable
        Cross-entropy, squared error and AUM are written out; of others autograd takes the gradient at the outputs.
    optimizer : TorchOptimizer
        SGD, Adam or AdamW.
    schedule : object
        The learning rate over epochs or steps.
    n_batches : int
        In an epoch.
    """

    state: TrainState
    rows: Rows
    loss: Callable[..., Tensor]
    optimizer: TorchOptimizer
    schedule: Any
    n_batches: int


class Stack:
    """Networks of one shape whose weights lie side by side.

    Parameters
    ----------
    members : sequence of Member
        Those with the same optimizer settings and schedule should be neighbours.
    shapes, places : object
        As of :class:`torchstrata.training.updates.Blocks`.
    clip_norm : float, optional
        Clip the norm of the gradient of each network to this.
    """

    def __init__(self, members: Sequence[Member], shapes: Any, places: Any, clip_norm: float | None):
        self.members, self.clip_norm = list(members), clip_norm
        self.blocks = Blocks([m.state.module for m in members], shapes, places)
        self.movers = movers_of(self.blocks, self.members)
        self._begin()

    def _begin(self) -> None:
        self._arrange()
        for mover in self.movers:
            mover.attach(self.blocks)
            for member in self.members[mover.span.first : mover.span.last]:
                member.state.optimizer = mover.optimizer

    def _arrange(self) -> None:
        """Lay out what depends on which networks there are."""

    def keep(self, which: Sequence[int]) -> None:
        """Go on with some of the networks only.

        Parameters
        ----------
        which : sequence of int
            Their numbers, in order.
        """
        self.blocks.keep(which)
        self.members = [self.members[i] for i in which]
        self.movers = [mover for mover in self.movers if mover.keep(which)]
        self._begin()

    def release(self) -> None:
        """Give the networks weights of their own, as they had before."""
        self.blocks.release()


def movers_of(blocks: Blocks, members: Sequence[Member]) -> list[Mover]:
    """Make one mover for neighbours with the same settings.

    Parameters
    ----------
    blocks : Blocks
        The weights.
    members : sequence of Member
        Whose.

    Returns
    -------
    list of Mover
        In the order of the members.
    """
    keys = [_settings_key(m, i) for i, m in enumerate(members)]
    first = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    spans = [
        Span(a, b, members[a].optimizer, members[a].n_batches)
        for a, b in zip(first, [*first[1:], len(keys)], strict=True)
    ]
    return [Mover(blocks, s, members[s.first].schedule, members[s.first].state.max_epochs) for s in spans]


def _settings_key(member: Member, number: int) -> tuple[Any, ...]:
    """Say what must be equal for two networks to be moved by one call."""
    settings = tuple(sorted((name, repr(v)) for name, v in member.optimizer.get_params(deep=False).items()))
    alike = (type(member.optimizer).__name__, settings, member.n_batches)
    if member.schedule is None:
        return alike
    # a schedule has a state, and one that follows the loss goes its own way in each fit
    return (*alike, number)
