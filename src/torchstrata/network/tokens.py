"""Layers that take the categories of a table, or the whole of it: vectors, one-hot columns, tokens for attention."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from torchstrata.errors import ConfigError
from torchstrata.network.columns import CategoryVectors, OneHotColumns, Tokens
from torchstrata.network.embeddings import LinearEmbedding, NumberEmbedding, as_embedding, sized
from torchstrata.network.naming import check_count, checked
from torchstrata.network.nodes import Layer, Spec


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class CategoryEmbedding(Layer):
    """A category becomes a learnt vector; that of values not seen in training is zero.

    Parameters
    ----------
    size : int
        Of the vectors.
    bias : bool
        Whether there is a vector for each column, added to that of the level.
    name : str, optional
        By which settings, weights and errors call it.

    Examples
    --------
    >>> CategoryEmbedding(8).build([Spec((2,), levels=(3, 4))], 1).weight.shape
    torch.Size([7, 8])
    """

    size: int
    _: dataclasses.KW_ONLY
    bias: bool = True

    def __post_init__(self) -> None:
        check_count(self.size, "CategoryEmbedding: size")

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module: int64 (n, q) to (n, q, size), as :meth:`NumberEmbedding.build`."""
        return CategoryVectors(_levels_of(specs[0], "CategoryEmbedding"), self.size, bias=bool(self.bias))


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class OneHot(Layer):
    """A category becomes a zero for each level of its column and a one for its own; all zeros for an unknown value.

    Parameters
    ----------
    name : str, optional
        By which settings, weights and errors call it.
    """

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module: int64 (n, q) to (n, levels of all columns), as :meth:`NumberEmbedding.build`."""
        return OneHotColumns(_levels_of(specs[0], "OneHot"))


@checked
@dataclasses.dataclass(frozen=True, repr=False)
class FeatureTokenizer(Layer):
    """A row of a table becomes tokens for attention: one for each number and category, and one for the row (CLS).

    Parameters
    ----------
    size : int
        Of the tokens.
    embedding : str or layer, optional
        Of the numbers: a name in :data:`~torchstrata.network.embeddings.EMBEDDINGS` or such a layer; None is linear.
    class_token : bool
        Whether the first token is one for the row.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If a setting cannot work.

    Examples
    --------
    >>> tokens = FeatureTokenizer(8).build([Spec((5,))], 1)
    >>> tokens.numbers.linear.weight.shape, tokens.row.shape
    (torch.Size([5, 8]), torch.Size([8]))
    """

    size: int
    _: dataclasses.KW_ONLY
    embedding: Any = None
    class_token: bool = True

    def __post_init__(self) -> None:
        check_count(self.size, "FeatureTokenizer: size")
        object.__setattr__(self, "embedding", as_embedding(self.embedding, "FeatureTokenizer"))
        self._numbers()

    def _numbers(self) -> NumberEmbedding:
        return sized(self.embedding or LinearEmbedding(), int(self.size), "FeatureTokenizer: size")

    @property
    def uses_rows(self) -> bool:  # type: ignore[override]
        """Whether it looks at training rows."""
        return self._numbers().uses_rows

    def build(self, specs: Sequence[Spec], n_outputs: Any) -> nn.Module:
        """Build the module: a table to (n, tokens, size), as :meth:`NumberEmbedding.build`."""
        spec, size = specs[0], int(self.size)
        if spec.table is not None:
            return self.tokens(spec.table)
        if spec.levels:
            return Tokens(None, CategoryVectors(spec.levels, size), size, class_token=bool(self.class_token))
        return Tokens(self._numbers().build(specs, n_outputs), None, size, class_token=bool(self.class_token))

    def tokens(self, shapes: Any) -> Tokens:
        """Build the module on its own.

        Parameters
        ----------
        shapes : Shapes
            With ``"number"``, ``"category"`` or both.

        Returns
        -------
        Tokens
            A table to (n, tokens, size).
        """
        size = int(self.size)
        numbers = self._numbers().from_table(shapes) if "number" in shapes else None
        categories = CategoryVectors(shapes.levels, size) if "category" in shapes else None
        return Tokens(numbers, categories, size, class_token=bool(self.class_token))


def _levels_of(spec: Spec, kind: str) -> tuple[int, ...]:
    if not spec.levels:
        raise ConfigError(f"{kind} takes categories: read them by ts.Input('category')")
    return spec.levels
