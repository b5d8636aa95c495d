"""Layers that torch has no class for: joining nodes, shapes of rows, and your own functions."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.errors import ConfigError
from torchstrata.network.modules import Call
from torchstrata.network.naming import checked
from torchstrata.network.nodes import Layer, Spec


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class Add(Layer):
    """Add up what two or more nodes give; sizes of one are repeated, as torch does.

    Parameters
    ----------
    name : str, optional
        By which settings, weights and errors call it.

    Examples
    --------
    >>> from torchstrata.network import layers
    >>> from torchstrata.network.nodes import Input
    >>> x = Input("number")
    >>> Add()(x, layers.Linear(30)(x))
    Add()(Input('number'), Linear(30)(Input('number')))
    """

    @property
    def reads(self) -> tuple[int, int | None]:
        """Two nodes or more."""
        return (2, None)

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module.

        Parameters
        ----------
        specs : sequence of Spec
            What it reads.
        n_outputs : Outputs
            Not used.

        Returns
        -------
        torch.nn.Module
            Takes as many tensors.
        """
        return Call(_add)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class Multiply(Add):
    """Multiply what two or more nodes give, element by element.

    Parameters
    ----------
    name : str, optional
        By which settings, weights and errors call it.
    """

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module, as :meth:`Add.build`."""
        return Call(_multiply)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class Concat(Add):
    """Put what two or more nodes give side by side.

    Parameters
    ----------
    dim : int
        Along which dimension, counted as torch does: 1 is the first of a row.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If dim is 0, the batch.
    """

    dim: int = 1

    def __post_init__(self) -> None:
        _check_dim(self, self.dim)

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module, as :meth:`Add.build`."""
        return Call(_concat, dim=self.dim)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class Reshape(Layer):
    """Give rows another shape.

    Parameters
    ----------
    shape : tuple of int
        Of a row, without the batch; one size may be -1.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If it is no tuple of ints.
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        given = self.shape if isinstance(self.shape, list | tuple) else (self.shape,)
        if not all(isinstance(size, numbers.Integral) and (size > 0 or size == -1) for size in given):
            raise ConfigError(f"Reshape: shape must be sizes of a row such as (1, 8, 8), got {self.shape!r}")
        object.__setattr__(self, "shape", tuple(map(int, given)))

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module, as :meth:`Add.build`."""
        return Call(_reshape, shape=self.shape)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class Squeeze(Layer):
    """Drop a dimension of size one.

    Parameters
    ----------
    dim : int
        Which, counted as torch does: 1 is the first of a row.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If dim is 0, the batch.
    """

    dim: int = -1

    def __post_init__(self) -> None:
        _check_dim(self, self.dim)

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module, as :meth:`Add.build`.

        Raises
        ------
        ConfigError
            If the dimension has another size.
        """
        dim = self.dim - (self.dim > 0)
        if not -len(specs[0].shape) <= dim < len(specs[0].shape) or specs[0].shape[dim] != 1:
            raise ConfigError(f"Squeeze(dim={self.dim}) drops a dimension of size 1, and rows have shape {specs[0]}")
        return Call(_squeeze, dim=self.dim)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class Unsqueeze(Layer):
    """Add a dimension of size one.

    Parameters
    ----------
    dim : int
        Where, counted as torch does: 1 puts it before all others of a row, -1 behind.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If dim is 0, the batch.
    """

    dim: int = 1

    def __post_init__(self) -> None:
        _check_dim(self, self.dim)

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module, as :meth:`Add.build`."""
        return Call(_unsqueeze, dim=self.dim)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class Function(Layer):
    """A function of yours that needs no weights.

    Parameters
    ----------
    function : callable
        ``(tensor, ...) -> tensor``, of as many tensors as it reads nodes. A file cannot hold it: hand the network to
        ``ts.load(path, network=...)``.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If it cannot be called, or is a module or a class, which :class:`Custom` is for.
    """

    function: Callable[..., Tensor]

    def __post_init__(self) -> None:
        if isinstance(self.function, nn.Module | type):
            raise ConfigError(
                f"Function takes a function of tensors, got {self.function!r}; for a module write "
                "ts.layers.Custom(lambda shape: module), a function that makes a new one"
            )
        if not callable(self.function):
            raise ConfigError(f"Function takes a function of tensors such as torch.exp, got {self.function!r}")

    @property
    def reads(self) -> tuple[int, int | None]:
        """One node or more."""
        return (1, None)

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module, as :meth:`Add.build`."""
        return Call(self.function)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class Custom(Layer):
    """A module of yours, made when the shapes are known.

    Parameters
    ----------
    make : callable
        ``(shape, ...) -> torch.nn.Module``: gets the shape of a row of each node it reads, and makes a new module. It
        is called twice: once on the meta device, where the output shape is found. A file cannot hold it: hand the
        network to ``ts.load(path, network=...)``.
    name : str, optional
        By which settings, weights and errors call it.

    Examples
    --------
    >>> from torch import nn
    >>> layer = Custom(lambda shape: nn.Linear(shape[0], 2 * shape[0]), name="double")
    >>> layer.build([Spec((8,))], 1)
    Linear(in_features=8, out_features=16, bias=True)
    """

    make: Callable[..., nn.Module]

    def __post_init__(self) -> None:
        if isinstance(self.make, nn.Module) or not callable(self.make):
            raise ConfigError(
                f"Custom takes a function of shapes that makes a new module, such as "
                f"lambda shape: nn.Linear(shape[0], 8), got {self.make!r}"
            )

    @property
    def reads(self) -> tuple[int, int | None]:
        """One node or more."""
        return (1, None)

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Make the module, as :meth:`Add.build`.

        Raises
        ------
        ConfigError
            If the function returns something else.
        """
        made = self.make(*[spec.shape for spec in specs])
        if not isinstance(made, nn.Module):
            raise ConfigError(f"{self.make!r} returned {type(made).__name__}, expected a torch.nn.Module")
        return made


def _check_dim(layer: Layer, dim: Any) -> None:
    if isinstance(dim, bool) or not isinstance(dim, numbers.Integral) or dim == 0:
        raise ConfigError(
            f"{type(layer).__name__}: dim must be an int other than 0, which is the batch (1 is the first of a row), "
            f"got {dim!r}"
        )


def _add(*x: Tensor) -> Tensor:
    return sum(x[1:], start=x[0])


def _multiply(*x: Tensor) -> Tensor:
    return math.prod(x[1:], start=x[0])


def _concat(*x: Tensor, dim: int) -> Tensor:
    return torch.cat(x, dim)


def _reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x.reshape(len(x), *shape)


def _squeeze(x: Tensor, dim: int) -> Tensor:
    return x.squeeze(dim)


def _unsqueeze(x: Tensor, dim: int) -> Tensor:
    return x.unsqueeze(dim)
