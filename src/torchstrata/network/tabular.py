"""Ready networks for tables: blueprints until they see shapes.

A blueprint is called with the shapes of the inputs and the number of outputs and returns a ``torch.nn.Module``.
Categories enter through one learnt vector a level, added to what the numbers give: the same function as a one-hot
encoding in front of the first layer, without the zeros.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network.dropout import Dropout
from torchstrata.params import Params

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}
NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class Outputs(int):
    """A number of outputs that also says whether the last layer needs a bias.

    Parameters
    ----------
    n : int
        How many.
    bias : bool
        False where the loss ignores a constant shift: a bias would then move by rounding noise alone, which an
        adaptive optimizer turns into steps of full size.
    """

    bias: bool

    def __new__(cls, n: int, *, bias: bool = True) -> Outputs:
        """Make the number."""
        made = super().__new__(cls, n)
        made.bias = bias
        return made


@dataclasses.dataclass(frozen=True, repr=False)
class Linear(Params):
    """A linear network: one layer, no activation; logistic or linear regression.

    Examples
    --------
    >>> from torchstrata.data.encode import Shapes
    >>> Linear()(Shapes({"number": (60,)}), 1)
    Linear(in_features=60, out_features=1, bias=True)
    """

    def __call__(self, shapes: Shapes, n_outputs: int) -> nn.Module:
        """Build the network.

        Parameters
        ----------
        shapes : Shapes
            Of the inputs.
        n_outputs : int
            Number of outputs.

        Returns
        -------
        torch.nn.Module
            Input to outputs, shape (n, n_outputs).
        """
        return _first_layer(shapes, n_outputs, bias=getattr(n_outputs, "bias", True))


@dataclasses.dataclass(frozen=True, repr=False)
class MLP(Params):
    """A multi-layer perceptron.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers; empty for a linear network.
    activation : str or callable
        A name in :data:`ACTIVATIONS`, or a function that returns a module.
    dropout : float
        Share of hidden units that are left out in training, in [0, 1).
    norm : {None, "batch", "layer"}
        Normalisation after each hidden linear layer.

    Examples
    --------
    >>> from torchstrata.data.encode import Shapes
    >>> MLP(hidden=(32,), dropout=0.5)(Shapes({"number": (60,)}), 2)
    Sequential(
      (0): Linear(in_features=60, out_features=32, bias=True)
      (1): ReLU()
      (2): Dropout(p=0.5, inplace=False)
      (3): Linear(in_features=32, out_features=2, bias=True)
    )
    """

    hidden: tuple[int, ...] = (100,)
    _: dataclasses.KW_ONLY
    activation: Any = "relu"
    dropout: float = 0.0
    norm: str | None = None

    def __post_init__(self) -> None:
        widths = tuple(self.hidden) if isinstance(self.hidden, Iterable) else (self.hidden,)
        for width in widths:
            if isinstance(width, bool) or not isinstance(width, numbers.Integral) or width < 1:
                raise ConfigError(f"MLP: hidden must be widths >= 1, got {self.hidden!r}")
        object.__setattr__(self, "hidden", tuple(map(int, widths)))
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"MLP: dropout must be in [0, 1), got {self.dropout!r}")
        if isinstance(self.activation, str) and self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"MLP: unknown activation {self.activation!r}. {did_you_mean(self.activation, ACTIVATIONS)}"
            )
        if not isinstance(self.activation, str) and (
            isinstance(self.activation, nn.Module) or not callable(self.activation)
        ):
            raise ConfigError(
                f"MLP: activation must be a name or a function that returns a module, such as torch.nn.ReLU "
                f"(the class, not an instance), got {self.activation!r}"
            )
        if self.norm is not None and self.norm not in NORMS:
            raise ConfigError(f"MLP: unknown norm {self.norm!r}. {did_you_mean(self.norm, NORMS)}")

    def __call__(self, shapes: Shapes, n_outputs: int) -> nn.Module:
        """Build the network.

        Parameters
        ----------
        shapes : Shapes
            Of the inputs.
        n_outputs : int
            Number of outputs.

        Returns
        -------
        torch.nn.Module
            Input to outputs, shape (n, n_outputs).
        """
        bias = getattr(n_outputs, "bias", True)
        if not self.hidden:
            return _first_layer(shapes, n_outputs, bias=bias)
        layers: list[nn.Module] = []
        for i, width in enumerate(self.hidden):
            layers.append(nn.Linear(self.hidden[i - 1], width) if i else _first_layer(shapes, width))
            layers += self._between(width)
        return nn.Sequential(*layers, nn.Linear(self.hidden[-1], int(n_outputs), bias=bias))

    def _between(self, width: int) -> list[nn.Module]:
        activation = ACTIVATIONS[self.activation] if isinstance(self.activation, str) else self.activation
        layers = [NORMS[self.norm](width)] if self.norm else []
        layers.append(activation())
        return [*layers, Dropout(self.dropout)] if self.dropout else layers


class TabularLinear(nn.Module):
    """A linear layer on numbers and categories.

    Parameters
    ----------
    shapes : Shapes
        With ``"category"``, and ``"number"`` where there are numbers.
    n_outputs : int
        Width.
    bias : bool
        Whether to add a constant.

    Notes
    -----
    Input: a dict with ``"category"``, int64 (n, q), and ``"number"``, float (n, p). Output: (n, n_outputs). The weight
    has a column for each number and for each level, as one-hot columns would have. Initial weights are uniform within
    1/sqrt(p + q), as torch's are for p + q inputs, of which q are a one.
    """

    offsets: Tensor

    def __init__(self, shapes: Shapes, n_outputs: int, *, bias: bool = True):
        super().__init__()
        self.n_numbers = shapes.get("number", (0,))[0]
        bound = 1 / math.sqrt(self.n_numbers + shapes["category"][0])
        starts = torch.tensor([0, *shapes.levels[:-1]]).cumsum(0)
        self.register_buffer("offsets", starts)
        self.weight = nn.Parameter(torch.empty(int(n_outputs), self.n_numbers + sum(shapes.levels)))
        self.bias = nn.Parameter(torch.empty(int(n_outputs))) if bias else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Add up what the numbers and the levels give."""
        levels = self.weight[:, self.n_numbers :].t()
        out = nn.functional.embedding(x["category"] + self.offsets, levels).sum(1)
        if self.n_numbers:
            out = out + nn.functional.linear(x["number"], self.weight[:, : self.n_numbers])
        return out if self.bias is None else out + self.bias

    def one_hot(self, x: dict[str, Tensor]) -> Tensor:
        """Return the inputs as one matrix, so that the layer is a plain product with its weight.

        Parameters
        ----------
        x : dict of Tensor
            As of forward.

        Returns
        -------
        Tensor of shape (n, numbers + levels)
            The numbers, then a column a level.
        """
        columns = self.n_numbers + x["category"] + self.offsets
        out = torch.zeros(len(columns), self.weight.shape[1], dtype=self.weight.dtype)
        if self.n_numbers:
            out[:, : self.n_numbers] = x["number"]
        return out.scatter_(1, columns, 1.0)


def _first_layer(shapes: Shapes, width: int, *, bias: bool = True) -> nn.Module:
    _check_shapes(shapes)
    if "category" in shapes:
        return TabularLinear(shapes, width, bias=bias)
    return nn.Linear(shapes["number"][0], int(width), bias=bias)


def _check_shapes(shapes: Shapes) -> None:
    unknown = sorted(set(shapes) - {"number", "category"})
    if unknown or any(len(shape) != 1 for shape in shapes.values()):
        raise ConfigError(
            f"Linear and MLP take rows of a table, got inputs {dict(shapes)!r}. "
            "Found array with dim > 2: use a network for images or sequences"
        )


def build_network(given: Any, shapes: Shapes, n_outputs: int) -> nn.Module:
    """Turn what the user gave as ``network`` into a module for these shapes.

    Parameters
    ----------
    given : torch.nn.Module, callable or str
        A module is copied, never consumed; a callable gets ``(shapes, n_outputs)``; ``"linear"`` and ``"mlp"`` are
        names.
    shapes : Shapes
        Of the inputs.
    n_outputs : int
        Number of outputs.

    Returns
    -------
    torch.nn.Module
        A new module.

    Raises
    ------
    ConfigError
        If it is none of these, or the callable returns no module.
    """
    if isinstance(given, nn.Module):
        return copy.deepcopy(given)
    named = {"linear": Linear, "mlp": MLP}
    if isinstance(given, str):
        if given.lower() not in named:
            raise ConfigError(f"unknown network {given!r}. {did_you_mean(given, named)}")
        given = named[given.lower()]()
    if isinstance(given, type) and issubclass(given, Params):
        raise ConfigError(f"network is the class {given.__name__}; give a value: ts.{given.__name__}()")
    if not callable(given):
        raise ConfigError(f"network must be a blueprint such as ts.MLP(), a function or a torch module, got {given!r}")
    made = given(shapes, n_outputs)
    if not isinstance(made, nn.Module):
        raise ConfigError(f"network {given!r} returned {type(made).__name__}, expected a torch.nn.Module")
    return made
