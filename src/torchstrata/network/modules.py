"""Modules that layers and graphs are built of, beside torch's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.data.encode import Shapes
from torchstrata.network.columns import starts_of
from torchstrata.network.nodes import Spec
from torchstrata.network.tabular import TabularLinear


class First(nn.Module):
    """The first of the tensors that a module gives.

    Parameters
    ----------
    layer : torch.nn.Module
        Gives a tuple.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, *x: Tensor) -> Tensor:
        """Compute it."""
        out = self.layer(*x)
        return out[0] if isinstance(out, tuple) else out


class Call(nn.Module):
    """A function of tensors as a module.

    Parameters
    ----------
    function : callable
        Of tensors.
    **settings
        Given to it by name.
    """

    def __init__(self, function: Callable[..., Tensor], **settings: Any):
        super().__init__()
        self.function, self.settings = function, settings

    def forward(self, *x: Tensor) -> Tensor:
        """Call it."""
        return self.function(*x, **self.settings)

    def extra_repr(self) -> str:
        """Name the function, so that networks with different ones are told apart."""
        return ", ".join([repr(self.function), *(f"{k}={v!r}" for k, v in self.settings.items())])


class Categories(nn.Module):
    """A vector for every level of every category column: an embedding, with the columns one after the other.

    Those of values not seen in training are zero, and stay it.

    Parameters
    ----------
    layer : torch.nn.Embedding or torch.nn.EmbeddingBag
        With as many entries as all columns have levels.
    levels : tuple of int
        Of each column.
    """

    offsets: Tensor

    def __init__(self, layer: nn.Module, levels: Sequence[int]):
        super().__init__()
        self.layer = layer
        self.register_buffer("offsets", starts_of(levels))
        with torch.no_grad():
            layer.weight[self.offsets] = 0.0  # type: ignore[operator]

    def forward(self, x: Any) -> Tensor:
        """Look up."""
        return self.layer((x["category"] if isinstance(x, dict) else x) + self.offsets)


def table_layer(spec: Spec, width: int, *, bias: bool) -> nn.Module:
    """Build a linear layer on numbers and categories.

    Parameters
    ----------
    spec : Spec
        Of a table.
    width : int
        Number of outputs.
    bias : bool
        Whether to add a constant.

    Returns
    -------
    torch.nn.Module
        As the first layer of :class:`~torchstrata.network.tabular.MLP`.
    """
    table = spec.table or {}
    return TabularLinear(Shapes(dict(table), getattr(table, "levels", ())), width, bias=bias)


class GraphModule(nn.Module):
    """Layers that read each other.

    Parameters
    ----------
    inputs : dict of str to (str or None)
        Name of the step to the name of the input; None is all there is.
    layers : dict of str to torch.nn.Module
        In an order in which they can be computed; the last one is the output.
    sources : dict of str to tuple of str
        What each layer reads.
    lengths : dict of str to list of (str or None), optional
        Of layers that take them: for each node that is read, the input that holds the lengths of its rows.

    Notes
    -----
    Input: a tensor, or a dict by name. Every layer is an attribute under its name.
    """

    def __init__(
        self,
        inputs: Mapping[str, str | None],
        layers: Mapping[str, nn.Module],
        sources: Mapping[str, tuple[str, ...]],
        lengths: Mapping[str, Sequence[str | None]] | None = None,
    ):
        super().__init__()
        self._lengths = dict(lengths or {})
        self._inputs, self._sources = dict(inputs), {name: sources[name] for name in layers}
        for name, layer in layers.items():
            self.add_module(name, layer)

    def trace(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Any]:
        """Compute everything.

        Parameters
        ----------
        x : Tensor or dict of Tensor
            The inputs.

        Returns
        -------
        dict of str to Tensor
            What every input and layer gives, by name; the last is the output.
        """
        found: dict[str, Any] = {
            step: x if key is None or not isinstance(x, Mapping) else x[key] for step, key in self._inputs.items()
        }
        for name, sources in self._sources.items():
            layer: Any = self._modules[name]
            given = [found[source] for source in sources]
            if name not in self._lengths:
                found[name] = layer(*given)
            else:
                found[name] = layer(*given, lengths=[key and x[key] for key in self._lengths[name]])  # type: ignore[index]
        return found

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Compute the output."""
        return self.trace(x)[next(reversed(self._sources))]

    def extra_repr(self) -> str:
        """Say who reads whom, so that graphs with other wires are told apart."""
        wires = [f"{name} <- {', '.join(sources)}" for name, sources in self._sources.items()]
        return "\n".join([f"inputs: {self._inputs}", *wires])
