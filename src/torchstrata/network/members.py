"""Networks of several members, each with its own prediction and its own loss: what a batch of them means."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.errors import ConfigError


def members_of(module: nn.Module) -> int:
    """Say how many members a network has whose losses are taken separately.

    Parameters
    ----------
    module : torch.nn.Module
        With an attribute ``members``, an int, it returns (n, members, n_outputs) in training mode, and in evaluation
        mode the mean prediction, (n, n_outputs).

    Returns
    -------
    int
        0 for all other networks.
    """
    members = getattr(module, "members", 0)
    return members if isinstance(members, int) and not isinstance(members, bool) else 0


def mean_of_members(output: Tensor, link: str | Sequence[tuple[int, str]]) -> Tensor:
    """Average the predictions of members, and return the average as outputs again.

    Parameters
    ----------
    output : Tensor of shape (n, members, n_outputs)
        Of each member.
    link : {"identity", "logit", "softmax", "log", "none"}, or sequence of (int, str)
        As of :class:`torchstrata.network.tabular.Outputs`. With ``"softmax"`` and one output it means ``"logit"``. Of a
        loss of several heads: how many outputs each has, and its link.

    Returns
    -------
    Tensor of shape (n, n_outputs)
        ``"softmax"``: logarithms of the mean probabilities. ``"logit"``: the logit of the mean probability. ``"log"``:
        the logarithm of the mean. Else the mean of the outputs.
    """
    if not isinstance(link, str):
        parts = output.split([size for size, _ in link], dim=-1)
        return torch.cat([mean_of_members(part, of) for part, (_, of) in zip(parts, link, strict=True)], dim=-1)
    if link == "softmax" and output.shape[-1] > 1:
        return torch.log_softmax(output, dim=-1).logsumexp(dim=1) - math.log(output.shape[1])
    if link in ("logit", "softmax"):
        logsigmoid = nn.functional.logsigmoid
        return logsigmoid(output).logsumexp(dim=1) - logsigmoid(-output).logsumexp(dim=1)
    if link == "log":
        return output.logsumexp(dim=1) - math.log(output.shape[1])
    return output.mean(dim=1)


@dataclasses.dataclass(frozen=True)
class LossByMember:
    """A loss that is taken of each member by itself, and averaged.

    Parameters
    ----------
    loss : callable
        ``(output, target, sample_weight) -> scalar``, of one network.
    members : int
        How many.
    """

    loss: Callable[..., Any]
    members: int

    def __call__(self, output: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Compute the loss; of outputs (n, n_outputs), which are no longer separate, as of one network."""
        if output.ndim != 3:
            return self.loss(output, target, sample_weight)
        if output.shape[1] != self.members:
            raise ConfigError(
                f"the network has {self.members} members and returned outputs of shape {tuple(output.shape)} in "
                f"training, expected ({len(target)}, {self.members}, n_outputs)"
            )
        if self.ranks:
            values = [self.loss(output[:, i], target, sample_weight) for i in range(self.members)]
            return torch.stack(values).mean()
        target = target.repeat_interleave(self.members, dim=0)
        weight = None if sample_weight is None else sample_weight.repeat_interleave(self.members)
        return self.loss(output.flatten(0, 1), target, weight)

    def mean(self, output: Tensor) -> Tensor:
        """Return the outputs of the mean prediction.

        Parameters
        ----------
        output : Tensor of shape (n, members, n_outputs), or (n, n_outputs)
            In training, or where the network has averaged already.

        Returns
        -------
        Tensor of shape (n, n_outputs)
            As in evaluation mode.
        """
        if output.ndim != 3:
            return output
        link = getattr(getattr(self.loss, "traits", None), "link", "identity")
        links = getattr(self.loss, "links", "softmax" if link == "logit" else link)
        with torch.no_grad():
            return mean_of_members(output, links)

    @property
    def ranks(self) -> bool:
        """Whether rows are compared with each other: then those of two members must not meet."""
        traits = getattr(self.loss, "traits", None)
        return traits is not None and (traits.link == "none" or traits.needs_both_classes)
