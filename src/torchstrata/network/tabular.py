"""Ready networks for tables: blueprints until they see shapes.

A blueprint is called with the shapes of the inputs and the number of outputs and returns a ``torch.nn.Module``.
Categories enter through one learnt vector a level, added to what the numbers give: the same function as a one-hot
encoding in front of the first layer, without the zeros.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError, did_you_mean
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
        widths = (self.hidden,) if isinstance(self.hidden, int) else tuple(self.hidden)
        object.__setattr__(self, "hidden", widths)
        for width in widths:
            if isinstance(width, bool) or not isinstance(width, int) or width < 1:
                raise ConfigError(f"MLP: hidden must be widths >= 1, got {self.hidden!r}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"MLP: dropout must be in [0, 1), got {self.dropout!r}")
        if isinstance(self.activation, str) and self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"MLP: unknown activation {self.activation!r}. {did_you_mean(self.activation, ACTIVATIONS)}"
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
        return [*layers, nn.Dropout(self.dropout)] if self.dropout else layers


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
    Input: a dict with ``"category"``, int64 (n, q), and ``"number"``, float (n, p). Output: (n, n_outputs). Initial
    weights are uniform within 1/sqrt(p + q), as torch's are for p + q inputs, of which q are a one.
    """

    offsets: Tensor

    def __init__(self, shapes: Shapes, n_outputs: int, *, bias: bool = True):
        super().__init__()
        n_numbers = shapes.get("number", (0,))[0]
        bound = 1 / math.sqrt(n_numbers + shapes["category"][0])
        starts = torch.tensor([0, *shapes.levels[:-1]]).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)
        self.numbers = nn.Linear(n_numbers, int(n_outputs), bias=False) if n_numbers else None
        self.levels = nn.Embedding(sum(shapes.levels), int(n_outputs))
        self.bias = nn.Parameter(torch.empty(int(n_outputs))) if bias else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Add up what the numbers and the levels give."""
        out = self.levels(x["category"] + self.offsets).sum(1)
        if self.numbers is not None:
            out = out + self.numbers(x["number"])
        return out if self.bias is None else out + self.bias


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
        A module is copied, never consumed; a callable gets ``(shapes, n_outputs)``; ``"linear"`` and ``"mlp"`` are names.
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
    if not callable(given):
        raise ConfigError(f"network must be a blueprint such as ts.MLP(), a function or a torch module, got {given!r}")
    made = given(shapes, n_outputs)
    if not isinstance(made, nn.Module):
        raise ConfigError(f"network {given!r} returned {type(made).__name__}, expected a torch.nn.Module")
    return made
