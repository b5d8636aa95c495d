"""Modules that look at each column of a table for itself: embeddings of numbers, vectors and one-hot of categories.

n is the number of rows, p of number columns, q of category columns, d the size of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchstrata.data.encode import Shapes

_STEEPEST = 1e30  # of a bin


class ColumnAffine(nn.Module):
    """A vector a number: the number times a learnt vector, plus another, for each column.

    Parameters
    ----------
    n_columns, size : int
        p and d.

    Notes
    -----
    Input: float (n, p). Output: (n, p, d). Initial weights are uniform within 1/sqrt(d).
    """

    def __init__(self, n_columns: int, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_columns, size))
        self.bias = nn.Parameter(torch.empty(n_columns, size))
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -(size**-0.5), size**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Embed."""
        return torch.addcmul(self.bias, self.weight, x.unsqueeze(-1))


class ColumnLinear(nn.Module):
    """A linear layer for each column.

    Parameters
    ----------
    n_columns, n_inputs, size : int
        p, the size of what comes in, and d.
    bias : bool
        Whether to add a constant.

    Notes
    -----
    Input: float (n, p, n_inputs). Output: (n, p, d). Initial weights are uniform within 1/sqrt(n_inputs).
    """

    def __init__(self, n_columns: int, n_inputs: int, size: int, *, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_columns, n_inputs, size))
        self.bias = nn.Parameter(torch.empty(n_columns, size)) if bias else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(n_inputs**-0.5), n_inputs**-0.5)

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """Compute it, added to something of the shape of the output where that is given."""
        if plus is not None:
            return torch.baddbmm(plus.transpose(0, 1), x.transpose(0, 1), self.weight).transpose(0, 1)
        if self.bias is None:
            return torch.bmm(x.transpose(0, 1), self.weight).transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), x.transpose(0, 1), self.weight).transpose(0, 1)


class ColumnWaves(nn.Module):
    """Cosines and sines of each number, at learnt frequencies.

    Parameters
    ----------
    n_columns, n_frequencies : int
        p, and k.
    scale : float
        Standard deviation of the initial frequencies, which are normal and cut off at three of it.

    Notes
    -----
    Input: float (n, p). Output: (n, p, 2 k), the cosines first.
    """

    def __init__(self, n_columns: int, n_frequencies: int, scale: float):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_columns, n_frequencies))
        nn.init.trunc_normal_(self.weight, 0.0, scale, a=-3 * scale, b=3 * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Embed."""
        angle = (2 * math.pi * self.weight) * x.unsqueeze(-1)
        return torch.cat([angle.cos(), angle.sin()], -1)


class ColumnBins(nn.Module):
    """Piecewise-linear encoding: how much of each bin of its column lies below a number.

    Parameters
    ----------
    n_columns, n_bins : int
        p, and how many places each column gets.
    rows : Tensor of shape (n_rows, p), optional
        Training rows, whose quantiles are the edges of the bins. Without them the bins are those of numbers that are
        uniform in [-1, 1]: a placeholder of the same shape.

    Notes
    -----
    Input: float (n, p). Output: (n, p, n_bins): ones for the bins below, the share of the bin it lies in, zeros above;
    below the first and above the last edge the line goes on. A column has at most as many bins as training rows less
    one, and fewer where quantiles coincide; what is left of its places is zero, and so is a column of one value.
    """

    left: Tensor
    slope: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, n_columns: int, n_bins: int, rows: Tensor | None = None):
        super().__init__()
        dtype = torch.get_default_dtype() if rows is None else rows.dtype
        for name in ("left", "slope", "low", "high"):
            self.register_buffer(name, torch.zeros(n_columns, n_bins, dtype=dtype))
        if self.left.device.type == "meta":  # where shapes are found
            return
        if rows is None:
            edges = [torch.linspace(-1, 1, n_bins + 1)] * n_columns
        else:
            edges = quantile_edges(rows, n_bins)
        for column, places in enumerate(edges):
            self._place(column, places)

    def _place(self, column: int, edges: Tensor) -> None:
        n_bins = len(edges) - 1
        if n_bins < 1:
            return
        self.left[column, :n_bins] = edges[:-1].to(self.left)
        # capped, for the inverse of a difference that is not normal is infinite in float32
        self.slope[column, :n_bins] = edges.diff().reciprocal().clamp(max=_STEEPEST).to(self.slope)
        self.high[column, :n_bins] = 1.0
        self.low[column, 0] = -math.inf
        self.high[column, n_bins - 1] = math.inf

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        # the difference first: beside a narrow bin far from zero, x * slope + constant would lose all digits
        return (x.unsqueeze(-1) - self.left).mul_(self.slope).clamp(self.low, self.high)


class BinnedColumns(nn.Module):
    """Piecewise-linear embedding: a linear layer for each column on its piecewise-linear encoding.

    Parameters
    ----------
    bins : ColumnBins
        The encoding.
    size : int
        d.
    activation : torch.nn.Module, optional
        Of what the encoding gives.
    straight : bool
        Whether to add a linear embedding, beside which the encoding's part begins at zero.

    Notes
    -----
    Input: float (n, p). Output: (n, p, d).
    """

    def __init__(self, bins: ColumnBins, size: int, *, activation: nn.Module | None = None, straight: bool = True):
        super().__init__()
        n_columns, n_bins = bins.left.shape
        self.straight = ColumnAffine(n_columns, size) if straight else None
        self.bins, self.activation = bins, activation
        self.linear = ColumnLinear(n_columns, n_bins, size, bias=not straight)
        if straight:
            nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Embed."""
        bins = self.bins(x)
        if self.straight is None:
            out = self.linear(bins)
            return out if self.activation is None else self.activation(out)
        if self.activation is None:
            return self.linear(bins, self.straight(x))
        return self.straight(x) + self.activation(self.linear(bins))


class CategoryVectors(nn.Module):
    """A learnt vector for each level of each category column, and one for the column.

    Parameters
    ----------
    levels : sequence of int
        Of each column, the slot 0 of unknown values included.
    size : int
        d.
    bias : bool
        Whether there is a vector for the column, added to that of the level.

    Notes
    -----
    Input: int64 (n, q). Output: (n, q, d). Initial weights are uniform within 1/sqrt(d); those of unknown values are
    zero, and stay it, for no training row has one.
    """

    offsets: Tensor

    def __init__(self, levels: Sequence[int], size: int, *, bias: bool = True):
        super().__init__()
        self.register_buffer("offsets", starts_of(levels))
        self.weight = nn.Parameter(torch.empty(sum(levels), size))
        self.bias = nn.Parameter(torch.empty(len(levels), size)) if bias else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(size**-0.5), size**-0.5)
        with torch.no_grad():
            self.weight[self.offsets] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Look up."""
        out = nn.functional.embedding(x + self.offsets, self.weight)
        return out if self.bias is None else out + self.bias


class OneHotColumns(nn.Module):
    """A column of zeros and ones for each level of each category column; all zeros for an unknown value.

    Parameters
    ----------
    levels : sequence of int
        Of each column, the slot 0 of unknown values included.

    Notes
    -----
    Input: int64 (n, q). Output: float (n, sum of (levels - 1)).
    """

    offsets: Tensor
    one: Tensor

    def __init__(self, levels: Sequence[int]):
        super().__init__()
        self.width = sum(levels) - len(levels)
        self.register_buffer("offsets", starts_of([n - 1 for n in levels]))
        self.register_buffer("one", torch.ones(()))  # of the type that the network computes in

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        places = torch.where(x > 0, x + self.offsets, 0)  # what is unknown goes to a column that is cut off
        out = x.new_zeros((x.shape[0], 1 + self.width), dtype=self.one.dtype)
        return out.scatter(1, places, 1.0)[:, 1:]


class FlatTable(nn.Module):
    """Numbers, embedded or as they are, and categories one-hot, side by side in one matrix.

    Parameters
    ----------
    shapes : Shapes
        With ``"number"``, ``"category"`` or both.
    embedding : torch.nn.Module, optional
        Of the numbers: (n, p) to (n, p, d).
    size : int
        d, or 1.

    Attributes
    ----------
    sizes : list of int
        How many columns of the matrix each column of the table has, numbers first.
    """

    def __init__(self, shapes: Shapes, embedding: nn.Module | None = None, size: int = 1):
        super().__init__()
        self.embedding = embedding
        self.onehot = OneHotColumns(shapes.levels) if "category" in shapes else None
        levels = shapes.levels if "category" in shapes else ()
        self.sizes = [size] * shapes.get("number", (0,))[0] + [n - 1 for n in levels]

    def forward(self, x: Tensor | dict[str, Tensor]) -> Tensor:
        """Put side by side: (n, sum of sizes)."""
        given = x if isinstance(x, dict) else {"number": x}
        parts = []
        if "number" in given:
            number = given["number"]
            parts.append(number if self.embedding is None else self.embedding(number).flatten(1))
        if self.onehot is not None:
            parts.append(self.onehot(given["category"]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class EmbeddedNumbers(nn.Module):
    """The inputs of a table with the numbers embedded and flat, before a first layer.

    Parameters
    ----------
    embedding : torch.nn.Module
        Of the numbers: (n, p) to (n, p, d).
    """

    def __init__(self, embedding: nn.Module):
        super().__init__()
        self.embedding = embedding

    def forward(self, x: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """Embed the numbers; categories stay as they are."""
        if isinstance(x, dict):
            return {**x, "number": self.embedding(x["number"]).flatten(1)}
        return self.embedding(x).flatten(1)


class Tokens(nn.Module):
    """A token for each column of a table, and one for the row before them.

    Parameters
    ----------
    numbers : torch.nn.Module, optional
        (n, p) to (n, p, d).
    categories : torch.nn.Module, optional
        (n, q) to (n, q, d).
    size : int
        d.
    class_token : bool
        Whether there is a token for the row, which attention fills (CLS).

    Notes
    -----
    Input: float (n, p), or a dict with ``"number"`` and ``"category"``. Output: (n, 1 + p + q, d).
    """

    def __init__(self, numbers: nn.Module | None, categories: nn.Module | None, size: int, *, class_token: bool = True):
        super().__init__()
        self.numbers, self.categories = numbers, categories
        self.row = nn.Parameter(torch.empty(size)) if class_token else None
        if self.row is not None:
            nn.init.uniform_(self.row, -(size**-0.5), size**-0.5)

    def forward(self, x: Tensor | dict[str, Tensor]) -> Tensor:
        """Make tokens."""
        given = x if isinstance(x, dict) else {"number" if self.categories is None else "category": x}
        n = next(iter(given.values())).shape[0]
        parts = [] if self.row is None else [self.row.expand(n, 1, -1)]
        if self.numbers is not None:
            parts.append(self.numbers(given["number"]))
        if self.categories is not None:
            parts.append(self.categories(given["category"]))
        return torch.cat(parts, 1)


def starts_of(levels: Sequence[int]) -> Tensor:
    """Return where the levels of each column begin, when all stand one after the other.

    Parameters
    ----------
    levels : sequence of int
        Of each column.

    Returns
    -------
    Tensor of int64, shape (q,)
        The first is 0.
    """
    return torch.tensor([0, *levels[:-1]]).cumsum(0)


def quantile_edges(rows: Tensor, n_bins: int) -> list[Tensor]:
    """Return the edges of bins that hold equally many rows of a column.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, p)
        Finite numbers.
    n_bins : int
        At most so many, and at most n_rows - 1.

    Returns
    -------
    list of Tensor of float64
        The distinct quantiles of each column, ascending: one more than there are bins.
    """
    n_bins = min(n_bins, len(rows) - 1)
    if n_bins < 1:
        return [rows.new_zeros(1, dtype=torch.float64)] * rows.shape[1]
    ordered = rows.sort(dim=0).values
    place = torch.arange(n_bins + 1, dtype=torch.float64, device=rows.device) * ((len(rows) - 1) / n_bins)
    below = place.long().clamp(max=len(rows) - 2)
    lower, upper = ordered[below].double(), ordered[below + 1].double()
    quantiles = torch.lerp(lower, upper, (place - below)[:, None])
    # compared as the numbers of the rows: edges that differ by rounding only would make a bin of no width
    return [column.to(rows.dtype).unique().double() for column in quantiles.T]
