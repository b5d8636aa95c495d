"""What graphs are made of: inputs, layers as values, and nodes.

A layer is called with nodes and returns a node; nothing is computed. What a row looks like there is a :class:`Spec`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from torchstrata.data.arrays import LENGTHS
from torchstrata.data.shapes import Shapes
from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.params import Params


@dataclasses.dataclass(frozen=True)
class Spec:
    """What one row looks like at a node.

    Parameters
    ----------
    shape : tuple of (int or None)
        Without the batch; None is a size that may differ from batch to batch.
    dtype : torch.dtype
        Of the tensor.
    levels : tuple of int
        Of category indices, as in :class:`~torchstrata.data.encode.Shapes`.
    table : dict, optional
        Shapes by name, where the node holds all inputs of a table at once, as a dict.
    source : str, optional
        Name of the input, where the node is one and not a table.
    rows : Tensor, optional
        Of an input: the training rows, while a learner builds its network; never while shapes are found.
    lengths : str, optional
        Name of the input whose lengths say how many of the steps, the first size of a row, are no padding.
    """

    shape: tuple[int | None, ...]
    dtype: torch.dtype = torch.float32
    levels: tuple[int, ...] = ()
    table: Mapping[str, tuple[int, ...]] | None = None
    source: str | None = None
    rows: Any = dataclasses.field(default=None, compare=False, repr=False)
    lengths: str | None = None

    def __str__(self) -> str:
        if self.table is not None:
            return ", ".join(f"{name} {tuple(shape)}" for name, shape in self.table.items())
        return str(tuple("any" if size is None else size for size in self.shape)).replace("'", "")

    def size(self, dim: int) -> int:
        """Return one size.

        Parameters
        ----------
        dim : int
            Which, without the batch.

        Returns
        -------
        int
            The size.

        Raises
        ------
        ConfigError
            If there is no such dimension, or its size is not known.
        """
        if not -len(self.shape) <= dim < len(self.shape):
            raise ConfigError(f"rows of shape {self} have no dimension {dim}")
        size = self.shape[dim]
        if size is None:
            pool = "PoolSteps(), or use ts.layers.StepConv" if self.lengths else "AdaptiveAvgPool1d(1)"
            raise ConfigError(
                f"rows of shape {self} have no fixed size in dimension {dim}, and weights need one: "
                f"pool first, for example with ts.layers.{pool}"
            )
        return size


class Step(NamedTuple):
    """A layer that will be built: its name, itself, and the names of the steps it reads."""

    name: str
    layer: Any
    sources: tuple[str, ...]


class Wired:
    """Base of what a layer can read: :class:`Input` and :class:`Node`."""


@dataclasses.dataclass(frozen=True, repr=False)
class Input(Params, Wired):
    """An input of a graph.

    Parameters
    ----------
    name : str, optional
        ``"number"``, ``"category"``, ``"image"`` or ``"tensor"``, the name of a column of arrays, or what your encoder
        calls it; of a sequence ``"name"`` the lengths are ``"name_lengths"``. None is whatever the learner feeds.
        Numbers and categories together can be read by ``Linear``, ``Head`` and ``FeatureTokenizer`` only.

    Examples
    --------
    >>> from torchstrata.network import layers
    >>> layers.Linear(8)(Input("number"))
    Linear(8)(Input('number'))
    """

    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None and (not isinstance(self.name, str) or not self.name.isidentifier()):
            raise ConfigError(f"Input: the name must be a word such as 'number' or 'image', got {self.name!r}")

    def __repr__(self) -> str:
        return f"Input({'' if self.name is None else repr(self.name)})"

    def spec(self, shapes: Mapping[str, tuple[int, ...]]) -> Spec:
        """Say what a row of this input looks like.

        Parameters
        ----------
        shapes : Shapes
            Of all inputs.

        Returns
        -------
        Spec
            Of this one.

        Raises
        ------
        ConfigError
            If there is no such input, or several and no name.
        """
        levels = tuple(getattr(shapes, "levels", ()))
        if self.name is None and "category" in shapes and set(shapes) <= {"number", "category"}:
            table = Shapes(shapes, levels)  # without the rows, which may be of another type than what is tried here
            return Spec(tuple(shapes["category"]), torch.int64, levels if len(shapes) == 1 else (), table)
        if self.name is None and len(shapes) != 1:
            raise ConfigError(f"Input() is one input and there are {sorted(shapes)}: name it, as in ts.Input('number')")
        name = self.name or next(iter(shapes))
        sequences = getattr(shapes, "sequences", {})
        if name not in shapes and name.removesuffix(LENGTHS) in sequences:
            return Spec((), torch.int64, source=name)
        if name in sequences:
            tokens = (sequences[name],) if sequences[name] else ()
            kind = torch.int64 if tokens else torch.float32
            return Spec(tuple(shapes[name]), kind, tokens, source=name, lengths=name)
        if name not in shapes:
            raise ConfigError(f"the graph reads Input({name!r}) and the data have none. {did_you_mean(name, shapes)}")
        if name == "category":
            return Spec(tuple(shapes[name]), torch.int64, levels, source=name)
        return Spec(tuple(shapes[name]), source=name)


@dataclasses.dataclass(frozen=True, eq=False)
class Node(Wired):
    """A layer and what it reads; made by calling a layer.

    Parameters
    ----------
    layer : Layer
        A value.
    inputs : tuple of (Node or Input)
        What it reads.
    """

    layer: Layer
    inputs: tuple[Wired, ...]

    def __repr__(self) -> str:
        text = f"{self.layer!r}({', '.join(map(repr, self.inputs))})"
        return text if len(text) <= 400 else f"{self.layer!r}(...)"


@dataclasses.dataclass(frozen=True, repr=False)
class Layer(Params):
    """Base of the layers: immutable values, called with nodes.

    Parameters
    ----------
    name : str, optional
        By which settings, weights and errors call it; made from the kind where it is None.
    """

    uses_rows: ClassVar[bool] = False  # whether it looks at the training rows when it is built
    name: str | None = dataclasses.field(default=None, kw_only=True)

    @property
    def reads(self) -> tuple[int, int | None]:
        """The least and largest number of nodes it reads; None is any."""
        return (1, 1)

    def __call__(self, *nodes: Any) -> Any:
        """Wire the layer to what it reads.

        Parameters
        ----------
        *nodes : Node or Input
            What it reads.

        Returns
        -------
        Node
            To be read by other layers, or to be the output of a :class:`~torchstrata.network.graph.Graph`.

        Raises
        ------
        ConfigError
            If something else is given, or too many or too few.
        """
        for given in nodes:
            if not isinstance(given, Wired):
                kind = type(given).__name__
                raise ConfigError(
                    f"{self!r} is called with nodes, as in {self!r}(ts.Input('number')), got a {kind}; "
                    f"as a network it goes into a line: ts.Chain([{self!r}, ts.layers.Head()])"
                )
        self.check_reads(len(nodes))
        return Node(self, nodes)

    def check_reads(self, n: int) -> None:
        """Refuse too many or too few nodes.

        Parameters
        ----------
        n : int
            How many are given.

        Raises
        ------
        ConfigError
            If it reads another number of nodes.
        """
        least, most = self.reads
        if n < least or (most is not None and n > most):
            expected = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
            raise ConfigError(f"{self!r} reads {expected} node{'s' * (expected != '1')}, got {n}")

    def steps(self, name: str, sources: tuple[str, ...]) -> tuple[list[Step], str]:
        """Write out what will be built, without containers.

        Parameters
        ----------
        name : str
            Of this layer.
        sources : tuple of str
            Names of the steps it reads.

        Returns
        -------
        list of Step, str
            The steps in order, and the name of the one that holds the output.
        """
        self.check_reads(len(sources))
        return [Step(name, self, sources)], name

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module.

        Parameters
        ----------
        specs : sequence of Spec
            What it reads.
        n_outputs : Outputs
            Of the network, for heads.

        Returns
        -------
        torch.nn.Module
            Takes as many tensors as there are specs.
        """
        raise TypeError(f"{type(self).__name__} is abstract")

    def __repr__(self) -> str:
        shown = []
        positional = True
        for name, parameter in parameters_of(type(self)).items():
            value, default = getattr(self, name), parameter.default
            positional = positional and parameter.kind is not parameter.KEYWORD_ONLY
            if default is parameter.empty or not (value is default or bool(value == default)):
                shown.append(repr(value) if positional else f"{name}={value!r}")
            else:
                positional = False
        return f"{type(self).__name__}({', '.join(shown)})"


def parameters_of(layer: type) -> dict[str, inspect.Parameter]:
    """Return the arguments of a layer, its name last.

    Parameters
    ----------
    layer : type
        A class of layers.

    Returns
    -------
    dict of str to inspect.Parameter
        As of its signature.
    """
    found = dict(inspect.signature(layer).parameters)
    return {**{key: p for key, p in found.items() if key != "name"}, "name": found["name"]}
