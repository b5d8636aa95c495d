"""Embeddings of numbers, as layers of a graph and as settings of the ready networks: a number becomes a vector.

Linear, periodic and piecewise-linear: Gorishniy, Y., Rubachev,
I. and Babenko, A. (2022). On embeddings for numerical features in tabular deep learning. NeurIPS. Defaults are those of
the authors' package rtdl_num_embeddings. Booleans are numbers.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network.activations import check_activation, make_activation
from torchstrata.network.columns import (
    BinnedColumns,
    ColumnAffine,
    ColumnBins,
    ColumnLinear,
    ColumnWaves,
)
from torchstrata.network.naming import check_count, checked
from torchstrata.network.nodes import Layer, Spec


@dataclasses.dataclass(frozen=True, repr=False)
class NumberEmbedding(Layer):
    """Base of the embeddings of numbers: a row of p numbers becomes p vectors."""

    default_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("size", "n_bins", "n_frequencies"):
            if getattr(self, name, None) is not None or (name != "size" and hasattr(self, name)):
                check_count(getattr(self, name), f"{type(self).__name__}: {name}")
        if getattr(self, "activation", None) is not None:
            check_activation(self.activation, type(self).__name__)  # type: ignore[attr-defined]

    @property
    def width(self) -> int:
        """Size of each vector."""
        size = getattr(self, "size", None)
        return self.default_size if size is None else int(size)

    def module(self, n_columns: int, rows: Tensor | None = None) -> nn.Module:
        """Build the module on its own.

        Parameters
        ----------
        n_columns : int
            How many numbers a row has.
        rows : Tensor of shape (n, n_columns), optional
            Training rows, for those that look at them.

        Returns
        -------
        torch.nn.Module
            Float (n, n_columns) to (n, n_columns, width).
        """
        raise TypeError(f"{type(self).__name__} is abstract")

    def from_table(self, shapes: Any) -> nn.Module:
        """Build the module for the numbers of a table.

        Parameters
        ----------
        shapes : Shapes
            With ``"number"``, and the training rows where there are any.

        Returns
        -------
        torch.nn.Module
            As of :meth:`module`.
        """
        rows = getattr(shapes, "rows", None)
        return self.module(shapes["number"][0], None if rows is None else rows["number"])

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module for what it reads.

        Parameters
        ----------
        specs : sequence of Spec
            Of the node it reads.
        n_outputs : Outputs
            Not used.

        Returns
        -------
        torch.nn.Module
            As of :meth:`module`.

        Raises
        ------
        ConfigError
            If a row is no row of numbers.
        """
        kind, spec = type(self).__name__, specs[0]
        if spec.table is not None or spec.levels:
            raise ConfigError(f"{kind} takes numbers: read them by ts.Input('number')")
        if len(spec.shape) != 1:
            raise ConfigError(f"{kind} takes rows of shape (numbers,), got {spec}")
        if self.uses_rows and spec.source is None:
            raise ConfigError(
                f"{kind} takes its bins from the training rows, so it must read an input itself: "
                f"ts.layers.{kind}(...)(ts.Input('number'))"
            )
        return self.module(spec.size(0), spec.rows)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class LinearEmbedding(NumberEmbedding):
    """A number becomes itself times a learnt vector, plus another; with an activation, a simple embedding.

    Parameters
    ----------
    size : int, optional
        Of the vectors; None is 32, or what a network wants.
    activation : str or callable, optional
        A name in :data:`~torchstrata.network.activations.ACTIVATIONS`, or a function that returns a module.
    name : str, optional
        By which settings, weights and errors call it.

    Examples
    --------
    >>> LinearEmbedding(8, activation="relu").module(3)
    Sequential(
      (linear): ColumnAffine()
      (activation): ReLU()
    )
    """

    default_size = 32
    size: int | None = None
    _: dataclasses.KW_ONLY
    activation: Any = None

    def module(self, n_columns: int, rows: Tensor | None = None) -> nn.Module:
        """Build the module, as :meth:`NumberEmbedding.module`."""
        return _line(linear=ColumnAffine(n_columns, self.width), activation=self.activation)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class PeriodicEmbedding(NumberEmbedding):
    """A number becomes cosines and sines at learnt frequencies, a linear layer and an activation (PLR).

    Parameters
    ----------
    size : int, optional
        Of the vectors; None is 24, or what a network wants.
    n_frequencies : int
        For each column.
    frequency_init_scale : float
        Standard deviation of the initial frequencies: the setting that matters most; try 0.01 to 10.
    activation : str or callable, optional
        After the linear layer; None is "PL" in the paper.
    lite : bool
        One linear layer for all columns, not one each; needs an activation.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If a setting cannot work.

    Examples
    --------
    >>> PeriodicEmbedding(24, n_frequencies=16, lite=True).module(3)
    Sequential(
      (waves): ColumnWaves()
      (linear): Linear(in_features=32, out_features=24, bias=True)
      (activation): ReLU()
    )
    """

    default_size = 24
    size: int | None = None
    _: dataclasses.KW_ONLY
    n_frequencies: int = 48
    frequency_init_scale: float = 0.01
    activation: Any = "relu"
    lite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        scale = self.frequency_init_scale
        if isinstance(scale, bool) or not isinstance(scale, numbers.Real) or not 0 < float(scale) < math.inf:
            raise ConfigError(
                f"PeriodicEmbedding: frequency_init_scale must be a positive finite number, got {scale!r}"
            )
        if self.lite and self.activation is None:
            raise ConfigError("PeriodicEmbedding: lite=True needs an activation, such as activation='relu'")

    def module(self, n_columns: int, rows: Tensor | None = None) -> nn.Module:
        """Build the module, as :meth:`NumberEmbedding.module`."""
        n_inputs = 2 * self.n_frequencies
        linear = nn.Linear(n_inputs, self.width) if self.lite else ColumnLinear(n_columns, n_inputs, self.width)
        waves = ColumnWaves(n_columns, self.n_frequencies, float(self.frequency_init_scale))
        return _line(waves=waves, linear=linear, activation=self.activation)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class PiecewiseLinearEncoding(NumberEmbedding):
    """A number becomes the share of each bin of its column that lies below it; nothing is learnt.

    The edges of the bins are quantiles of the training rows. A column with fewer distinct quantiles has fewer bins, and
    zeros in the places left, so that the network's size does not depend on the data.

    Parameters
    ----------
    n_bins : int
        For each column.
    name : str, optional
        By which settings, weights and errors call it.

    Examples
    --------
    >>> import torch
    >>> encoding = PiecewiseLinearEncoding(2).module(1, rows=torch.tensor([[0.0], [1.0], [3.0]]))
    >>> encoding(torch.tensor([[0.5], [2.0]]))
    tensor([[[0.5000, 0.0000]],
    <BLANKLINE>
            [[1.0000, 0.5000]]])
    """

    n_bins: int = 48
    uses_rows = True

    @property
    def width(self) -> int:
        """Size of each vector: the bins."""
        return int(self.n_bins)

    def module(self, n_columns: int, rows: Tensor | None = None) -> nn.Module:
        """Build the module, as :meth:`NumberEmbedding.module`."""
        return ColumnBins(n_columns, self.n_bins, rows)


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class PiecewiseLinearEmbedding(NumberEmbedding):
    """A number becomes a vector, a piecewise-linear function of it with kinks at quantiles of the training rows.

    Parameters
    ----------
    size : int, optional
        Of the vectors; None is 16, or what a network wants.
    n_bins : int
        For each column; see :class:`PiecewiseLinearEncoding`.
    activation : str or callable, optional
        Of what the bins give.
    version : {"B", "A"}
        "B" adds a linear embedding, and what the bins give begins at zero: at first the whole is linear. "A" is the
        form of the paper of 2022; it is best with ``activation="relu"``.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If a setting cannot work.

    Notes
    -----
    "B" is from: Gorishniy, Y., Kotelnikov, A. and Babenko, A. (2025). TabM: advancing tabular deep learning with
    parameter-efficient ensembling. ICLR.
    """

    default_size = 16
    uses_rows = True
    size: int | None = None
    _: dataclasses.KW_ONLY
    n_bins: int = 48
    activation: Any = None
    version: str = "B"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.version not in ("A", "B"):
            raise ConfigError(f"PiecewiseLinearEmbedding: version must be 'A' or 'B', got {self.version!r}")

    def module(self, n_columns: int, rows: Tensor | None = None) -> nn.Module:
        """Build the module, as :meth:`NumberEmbedding.module`."""
        activation = None if self.activation is None else make_activation(self.activation)
        bins = ColumnBins(n_columns, self.n_bins, rows)
        return BinnedColumns(bins, self.width, activation=activation, straight=self.version == "B")


EMBEDDINGS: dict[str, NumberEmbedding] = {
    "linear": LinearEmbedding(),
    "linear_relu": LinearEmbedding(activation="relu"),
    "periodic": PeriodicEmbedding(),
    "piecewise_linear_encoding": PiecewiseLinearEncoding(),
    "piecewise_linear": PiecewiseLinearEmbedding(),
}


def as_embedding(given: Any, where: str) -> NumberEmbedding | None:
    """Turn what stands as ``embedding`` into a layer, so that its settings have names.

    Parameters
    ----------
    given : None, str or NumberEmbedding
        A name in :data:`EMBEDDINGS`.
    where : str
        Whose setting it is, for the message.

    Returns
    -------
    NumberEmbedding or None
        The value.

    Raises
    ------
    ConfigError
        If it is none of these.
    """
    if given is None or isinstance(given, NumberEmbedding):
        return given
    if isinstance(given, str):
        if given not in EMBEDDINGS:
            raise ConfigError(f"{where}: unknown embedding {given!r}. {did_you_mean(given, EMBEDDINGS)}")
        return EMBEDDINGS[given]
    raise ConfigError(
        f"{where}: embedding must be None, a name ({', '.join(EMBEDDINGS)}) or a layer such as "
        f"ts.layers.PeriodicEmbedding(24), got {given!r}"
    )


def sized(embedding: NumberEmbedding, size: int, what: str) -> NumberEmbedding:
    """Give an embedding the size that a network wants.

    Parameters
    ----------
    embedding : NumberEmbedding
        With or without a size of its own.
    size : int
        Wanted.
    what : str
        What wants it, for the message.

    Returns
    -------
    NumberEmbedding
        Of that size.

    Raises
    ------
    ConfigError
        If it has another size.
    """
    if getattr(embedding, "size", 0) is None:
        return embedding.replace(size=size)
    if embedding.width != size:
        raise ConfigError(f"{what} is {size} and its embedding {embedding!r} gives vectors of size {embedding.width}")
    return embedding


def _line(**parts: Any) -> nn.Sequential:
    activation = parts.pop("activation")
    made = parts if activation is None else {**parts, "activation": make_activation(activation)}
    return nn.Sequential(OrderedDict(made))
