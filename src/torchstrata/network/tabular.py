"""Ready networks for tables: blueprints until they see shapes.

A blueprint is called with the shapes of the inputs and the number of outputs and returns a ``torch.nn.Module``.
Categories enter through one learnt vector a level, added to what the numbers give: the same function as a one-hot
encoding in front of the first layer, without the zeros.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import math
import numbers
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network.activations import ACTIVATIONS as ACTIVATIONS
from torchstrata.network.activations import NORMS as NORMS
from torchstrata.network.activations import check_activation, make_activation
from torchstrata.network.columns import EmbeddedNumbers, starts_of
from torchstrata.network.dropout import Dropout
from torchstrata.network.embeddings import NumberEmbedding, as_embedding
from torchstrata.network.naming import check_share
from torchstrata.params import Params


class Outputs(int):
    """A number of outputs that also says what they mean, and whether the last layer needs a bias.

    Parameters
    ----------
    n : int
        How many.
    bias : bool
        False where the loss ignores a constant shift: a bias would then move by rounding noise alone, which an
        adaptive optimizer turns into steps of full size.
    link : {"identity", "logit", "softmax", "log", "none"}
        How outputs become predictions: the outputs themselves, the probability of the second class by the logistic
        function, probabilities by softmax, the exponential, or scores that only rank. Of a loss of several heads: a
        tuple, for each head how many outputs it has and its link.

    Attributes
    ----------
    heads : dict of str to int
        How many outputs each head of a loss of several has, in the order of the outputs; empty for one head.
    """

    bias: bool
    link: Any
    heads: dict[str, int] = {}  # noqa: RUF012 - replaced, never changed

    def __new__(cls, n: int, *, bias: bool = True, link: Any = "identity") -> Outputs:
        """Make the number."""
        made = super().__new__(cls, n)
        made.bias, made.link = bias, link
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
        return first_layer(shapes, n_outputs, bias=getattr(n_outputs, "bias", True), where="Linear")


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
    embedding : str or layer, optional
        Of the numbers: a name in :data:`~torchstrata.network.embeddings.EMBEDDINGS` or such a layer; "periodic" makes
        MLP-PLR.

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
    embedding: Any = None

    def __post_init__(self) -> None:
        widths = tuple(self.hidden) if isinstance(self.hidden, Iterable) else (self.hidden,)
        for width in widths:
            if isinstance(width, bool) or not isinstance(width, numbers.Integral) or width < 1:
                raise ConfigError(f"MLP: hidden must be widths >= 1, got {self.hidden!r}")
        object.__setattr__(self, "hidden", tuple(map(int, widths)))
        check_share(self.dropout, "MLP: dropout")
        check_activation(self.activation, "MLP")
        if self.norm is not None and self.norm not in NORMS:
            raise ConfigError(f"MLP: unknown norm {self.norm!r}. {did_you_mean(self.norm, NORMS)}")
        object.__setattr__(self, "embedding", as_embedding(self.embedding, "MLP"))

    @property
    def uses_rows(self) -> bool:
        """Whether the embedding looks at training rows."""
        return self.embedding is not None and self.embedding.uses_rows

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
            return first_layer(shapes, n_outputs, bias=bias, embedding=self.embedding)
        layers: list[nn.Module] = []
        for i, width in enumerate(self.hidden):
            first = first_layer(shapes, width, embedding=self.embedding) if i == 0 else None
            layers.append(nn.Linear(self.hidden[i - 1], width) if first is None else first)
            layers += self._between(width)
        return nn.Sequential(*layers, nn.Linear(self.hidden[-1], int(n_outputs), bias=bias))

    def _between(self, width: int) -> list[nn.Module]:
        layers = [NORMS[self.norm](width)] if self.norm else []
        layers.append(make_activation(self.activation))
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
    1/sqrt(p + q), as torch's are for p + q inputs, of which q are a one. Those of unknown values are zero, and stay it,
    for no training row has one.
    """

    offsets: Tensor

    def __init__(self, shapes: Shapes, n_outputs: int, *, bias: bool = True):
        super().__init__()
        self.n_numbers = shapes.get("number", (0,))[0]
        bound = 1 / math.sqrt(self.n_numbers + shapes["category"][0])
        self.register_buffer("offsets", starts_of(shapes.levels))
        self.weight = nn.Parameter(torch.empty(int(n_outputs), self.n_numbers + sum(shapes.levels)))
        self.bias = nn.Parameter(torch.empty(int(n_outputs))) if bias else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        with torch.no_grad():
            self.weight[:, self.n_numbers + self.offsets] = 0.0

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
        out = self.weight.new_zeros(len(columns), self.weight.shape[1])
        if self.n_numbers:
            out[:, : self.n_numbers] = x["number"]
        return out.scatter_(1, columns, 1.0)


def first_layer(
    shapes: Shapes, width: int, *, bias: bool = True, embedding: NumberEmbedding | None = None, where: str = "MLP"
) -> nn.Module:
    """Build a linear layer on the numbers and categories of a table.

    Parameters
    ----------
    shapes : Shapes
        Of the inputs.
    width : int
        Of the output.
    bias : bool
        Whether to add a constant.
    embedding : NumberEmbedding, optional
        Of the numbers, before the layer.
    where : str
        What network it is, for the message.

    Returns
    -------
    torch.nn.Module
        Input to (n, width).

    Raises
    ------
    ConfigError
        If the inputs are no table.
    """
    check_table(shapes, where)
    if embedding is not None and "number" in shapes:
        flat = {**shapes, "number": (shapes["number"][0] * embedding.width,)}
        linear = first_layer(Shapes(flat, getattr(shapes, "levels", ())), width, bias=bias)
        embedded = EmbeddedNumbers(embedding.from_table(shapes))
        return nn.Sequential(OrderedDict(numbers=embedded, linear=linear))
    if "category" in shapes:
        return TabularLinear(shapes, width, bias=bias)
    return nn.Linear(shapes["number"][0], int(width), bias=bias)


def check_table(shapes: Shapes, where: str) -> None:
    """Refuse inputs that are no rows of a table.

    Parameters
    ----------
    shapes : Shapes
        Of the inputs.
    where : str
        What network takes them, for the message.

    Raises
    ------
    ConfigError
        If there are others than ``"number"`` and ``"category"``, or rows of several dimensions.
    """
    unknown = sorted(set(shapes) - {"number", "category"})
    if unknown or any(len(shape) != 1 for shape in shapes.values()):
        raise ConfigError(
            f"{where} takes rows of a table, got inputs {dict(shapes)!r}. "
            "Found array with dim > 2: use a network for images or sequences"
        )


def build_network(given: Any, shapes: Shapes, n_outputs: int) -> nn.Module:
    """Turn what the user gave as ``network`` into a module for these shapes.

    Parameters
    ----------
    given : torch.nn.Module, callable or str
        A module is copied, never consumed; a callable gets ``(shapes, n_outputs)``; names are those of
        :func:`named_network`.
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
    if isinstance(given, str):
        given = named_network(given)
    if isinstance(given, type) and issubclass(given, Params):
        raise ConfigError(f"network is the class {given.__name__}; give a value: ts.{given.__name__}()")
    if not callable(given):
        raise ConfigError(f"network must be a blueprint such as ts.MLP(), a function or a torch module, got {given!r}")
    made = given(shapes, n_outputs)
    if not isinstance(made, nn.Module):
        raise ConfigError(f"network {given!r} returned {type(made).__name__}, expected a torch.nn.Module")
    return made


def named_network(name: str) -> Params:
    """Look a network up by name.

    Parameters
    ----------
    name : {"linear", "mlp", "realmlp", "resnet", "fttransformer", "tabm"}
        In any case.

    Returns
    -------
    Params
        The blueprint with its defaults.

    Raises
    ------
    ConfigError
        If there is no such network.
    """
    if name.lower() not in _NAMED:
        raise ConfigError(f"unknown network {name!r}. {did_you_mean(name, _NAMED)}")
    module, kind = _NAMED[name.lower()]
    return getattr(importlib.import_module(f"torchstrata.network.{module}"), kind)()


# the module, imported when it is asked for, and the class
_NAMED = {
    "linear": ("tabular", "Linear"),
    "mlp": ("tabular", "MLP"),
    "realmlp": ("realmlp", "RealMLP"),
    "resnet": ("resnet", "ResNet"),
    "fttransformer": ("fttransformer", "FTTransformer"),
    "tabm": ("tabm", "TabM"),
}
