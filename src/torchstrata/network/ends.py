"""What ends a network: the head, and the heads of a loss of several side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network.modules import Call, table_layer
from torchstrata.network.naming import checked
from torchstrata.network.nodes import Layer, Spec


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class Head(Layer):
    """The last layer: linear, with as many outputs as the task and the loss need.

    Parameters
    ----------
    bias : bool, optional
        None adds a constant unless the loss ignores one, as AUM does.
    of : str, optional
        For which head of a loss of several; None is all of them. See :class:`ts.Heads`.
    name : str, optional
        By which settings, weights and errors call it.

    Examples
    --------
    >>> Head().build([Spec((16,))], 3)
    Linear(in_features=16, out_features=3, bias=True)
    """

    bias: bool | None = None
    of: str | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.bias not in (None, True, False):
            raise ConfigError(
                f"Head: bias must be None, True or False, got {self.bias!r}; the number of outputs comes from the task"
            )

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the layer.

        Parameters
        ----------
        specs : sequence of Spec
            One vector a row, or a table.
        n_outputs : Outputs
            How many, and whether the loss wants a bias.

        Returns
        -------
        torch.nn.Module
            To shape (n, n_outputs).

        Raises
        ------
        ConfigError
            If rows are no vectors.
        """
        if n_outputs is None:
            raise ConfigError("Head needs the number of outputs, and it was given as None")
        bias = getattr(n_outputs, "bias", True) if self.bias is None else bool(self.bias)
        size = int(n_outputs) if self.of is None else heads_of(n_outputs, [self.of])[self.of]
        if specs[0].table is not None:
            return table_layer(specs[0], size, bias=bias)
        if len(specs[0].shape) != 1:
            first = "ts.layers.PoolSteps()" if specs[0].lengths else "ts.layers.Flatten()"
            raise ConfigError(f"Head takes one vector a row and rows have shape {specs[0]}: put {first} before it")
        return nn.Linear(specs[0].size(0), size, bias=bias)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class JoinHeads(Layer):
    """Put the heads of a loss of several side by side, in the order in which it takes them.

    ``ts.Graph({"price": node, "kind": node})`` ends with it.

    Parameters
    ----------
    of : tuple of str
        Which head each node that it reads is for.
    name : str, optional
        By which settings, weights and errors call it.
    """

    of: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", tuple(map(str, self.of)))

    @property
    def reads(self) -> tuple[int, int | None]:
        """One node a head."""
        return (len(self.of), len(self.of))

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module, as :meth:`Head.build`.

        Raises
        ------
        ConfigError
            If a head lacks, or a node has another size than its head.
        """
        sizes = heads_of(n_outputs, self.of)
        for name, spec in zip(self.of, specs, strict=True):
            if spec.shape != (sizes[name],):
                raise ConfigError(
                    f"head {name!r} needs {sizes[name]} outputs and its node gives rows of shape {spec}: "
                    f"end it with ts.layers.Head()"
                )
        return Call(_in_order, order=tuple(self.of.index(name) for name in sizes))


def heads_of(n_outputs: Any, names: Sequence[str]) -> dict[str, int]:
    """Return the sizes of the heads, and refuse names that are none.

    Parameters
    ----------
    n_outputs : Outputs
        Of the network.
    names : sequence of str
        Of heads; several must be all of them.

    Returns
    -------
    dict of str to int
        All heads in the order of the outputs.

    Raises
    ------
    ConfigError
        Naming the head.
    """
    known = getattr(n_outputs, "heads", {})
    unknown = [name for name in names if name not in known]
    if unknown or (len(names) > 1 and set(known) != set(names)):
        hint = (
            did_you_mean(unknown[0], known) if unknown and known else "give a loss for each, loss={'price': 'mse', ...}"
        )
        raise ConfigError(f"the network has the heads {list(names)} and the loss has {list(known) or 'none'}. {hint}")
    return known


def _in_order(*x: Tensor, order: tuple[int, ...]) -> Tensor:
    return torch.cat([x[i] for i in order], 1)
