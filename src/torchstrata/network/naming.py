"""Names of layers, and what their constructors refuse."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import nn

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network.nodes import Layer, Wired, parameters_of

_TAKEN = set(dir(nn.Sequential())) | {"input"}
T = TypeVar("T", bound=type)


def checked(layer: T) -> T:
    """Let a layer's constructor say what it expected, in our words.

    Parameters
    ----------
    layer : type
        A dataclass; changed in place.

    Returns
    -------
    type
        The same.
    """
    original, signature = layer.__init__, inspect.signature(layer)  # type: ignore[misc]
    filled = tuple(getattr(layer, "filled", ()))

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = [name for name in kwargs if name not in signature.parameters]
            sizes = f" {', '.join(filled)} is left out: it is taken from the shape." if filled else ""
            hint = did_you_mean(unknown[0], signature.parameters) if unknown else f"Write {_written(layer)}"
            raise ConfigError(f"{layer.__name__}: {error}.{sizes} {hint}") from None
        original(self, *args, **kwargs)

    layer.__init__ = __init__  # type: ignore[misc]
    return layer


def names_of(layers: Sequence[Layer], where: str, taken: Sequence[str] = ()) -> list[str]:
    """Give every layer a name of its own.

    Parameters
    ----------
    layers : sequence of Layer
        In order.
    where : str
        What holds them, for messages.
    taken : sequence of str
        Names that mean something else there.

    Returns
    -------
    list of str
        The layers' own names, and ``kind``, ``kind_2``, ``kind_3`` where they have none.

    Raises
    ------
    ConfigError
        If two have one name, or a name cannot be one.
    """
    used = set(taken)
    for layer in layers:
        if layer.name is not None:
            if layer.name in used:
                raise ConfigError(f"{where}: two things are named {layer.name!r}; give {layer!r} another name=")
            check_name(layer.name, where)
            used.add(layer.name)
    out = []
    for layer in layers:
        name, n = layer.name, 1
        while name is None or (layer.name is None and name in used):
            kind = type(layer).__name__.lower()
            name, n = kind if n == 1 else f"{kind}_{n}", n + 1
        used.add(name)
        out.append(name)
    return out


def check_name(name: Any, where: str) -> None:
    """Refuse what cannot be the name of a layer.

    Parameters
    ----------
    name : object
        As given.
    where : str
        For the message.

    Raises
    ------
    ConfigError
        If it is no word, holds ``__``, or is the name of a method of torch's modules.
    """
    if not isinstance(name, str) or not name.isidentifier() or "__" in name:
        raise ConfigError(f"{where}: a layer's name must be a word without '__', such as 'stem', got {name!r}")
    if name in _TAKEN:
        raise ConfigError(f"{where}: {name!r} cannot name a layer, every torch module has it; say {name + '_layer'!r}")


def as_layer(given: Any, where: str) -> Layer:
    """Refuse what is no layer.

    Parameters
    ----------
    given : object
        Where a layer is expected.
    where : str
        For the message.

    Returns
    -------
    Layer
        What was given.

    Raises
    ------
    ConfigError
        Naming what to type instead.
    """
    if isinstance(given, Layer):
        return given
    kind = given.__name__ if isinstance(given, type) else type(given).__name__
    if isinstance(given, type) and issubclass(given, Layer):
        hint = f"give a value: ts.layers.{kind}(...)"
    elif isinstance(given, nn.Module):
        hint = f"write ts.layers.{kind}(...), or ts.layers.Custom(function) for a module of your own"
    elif isinstance(given, Wired):
        hint = "a node is wired already: give the layer itself, or make a ts.Graph(node)"
    else:
        hint = "a layer is a value such as ts.layers.Linear(64)"
    raise ConfigError(f"{where}: expected a layer, got {given!r}; {hint}")


def check_count(value: Any, what: str) -> None:
    """Refuse what is no count.

    Parameters
    ----------
    value : object
        A setting.
    what : str
        Which, for the message.

    Raises
    ------
    ConfigError
        If it is no int >= 1.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ConfigError(f"{what} must be an int >= 1, got {value!r}")


def check_share(value: Any, what: str) -> None:
    """Refuse what is no share of units to leave out.

    Parameters
    ----------
    value : object
        A setting.
    what : str
        Which, for the message.

    Raises
    ------
    ConfigError
        If it is no number in [0, 1).
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) < 1:
        raise ConfigError(f"{what} must be in [0, 1), got {value!r}")


def _written(layer: type) -> str:
    """Show how a layer is written, as short as it can be."""
    parts = []
    for name, p in parameters_of(layer).items():
        if p.kind is p.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        parts.append(name if p.default is p.empty else f"{name}={p.default!r}")
    return f"{layer.__name__}({', '.join(parts)})"
