"""How RealMLP sees the columns of a table: waves of numbers, columns of levels, vectors of levels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.data.encode import Shapes
from torchstrata.network import fast

CLIP = 3.0  # of columns of levels, as the encoder clips numbers


class Columns(nn.Module):
    """The columns of a table as numbers of similar size.

    Parameters
    ----------
    settings : RealMLP
        The blueprint, whose sizes are read.
    shapes : Shapes
        Of the inputs.
    """

    def __init__(self, settings: Any, shapes: Shapes):
        super().__init__()
        n_numbers, levels = shapes.get("number", (0,))[0], shapes.levels
        few = [i for i, n in enumerate(levels) if n - 1 <= settings.one_hot]
        many = [i for i, n in enumerate(levels) if n - 1 > settings.one_hot]
        embeds = bool(n_numbers and settings.n_frequencies)
        self.waves = Waves(n_numbers, settings) if embeds else None
        self.one_hot = OneHot([(i, levels[i]) for i in few]) if few else None
        self.vectors = Vectors([(i, levels[i]) for i in many], settings.category_size) if many else None
        self.width = n_numbers * (settings.number_size if embeds else 1)
        self.width += self.one_hot.width if self.one_hot is not None else 0
        self.width += len(many) * settings.category_size

    def forward(self, x: Any) -> Tensor:
        """Return (n, width): numbers, columns of levels, vectors of levels."""
        if torch.is_tensor(x):
            return x if self.waves is None else self.waves(x)
        parts = []
        if "number" in x:
            parts.append(x["number"] if self.waves is None else self.waves(x["number"]))
        parts += [part(x["category"]) for part in (self.one_hot, self.vectors) if part is not None]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def set_initial(self, rows: dict[str, Tensor]) -> None:
        """Scale the columns of levels by the training rows.

        Parameters
        ----------
        rows : dict of str to Tensor
            Encoded training rows.
        """
        if self.one_hot is not None:
            self.one_hot.set_initial(rows["category"])


class Waves(nn.Module):
    """The periodic embedding PBLD: cosines of learnt frequency and phase, a linear map, and the number itself.

    Parameters
    ----------
    n_numbers : int
        Columns; each has weights of its own.
    settings : RealMLP
        Sizes.
    """

    def __init__(self, n_numbers: int, settings: Any):
        super().__init__()
        n, size, bound = settings.n_frequencies, settings.number_size - 1, 1 / math.sqrt(settings.n_frequencies)
        self.frequency = nn.Parameter(settings.frequency_scale * torch.randn(n_numbers, n, 1))
        self.phase = nn.Parameter(torch.empty(n_numbers, n, 1).uniform_(-math.pi, math.pi))
        self.weight = nn.Parameter(torch.empty(n_numbers, size, n).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_numbers, size, 1).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, p * number_size) of numbers (n, p): the embeddings column by column, then the numbers."""
        columns = x.t().contiguous()  # a column after the other, so that all rows of a wave lie together
        if fast.is_plain(x):
            vectors = fast.Waves.apply(columns, self.frequency, self.phase, self.weight, self.bias)
        else:
            # no matrix product, which mixed precision would round to half the digits
            angle = torch.addcmul(self.phase, self.frequency, columns.unsqueeze(1), value=2 * math.pi)
            vectors = torch.baddbmm(self.bias, self.weight, angle.cos())
        return torch.cat([vectors.flatten(0, 1), columns]).t()


class OneHot(nn.Module):
    """One column a level, or one column for two levels, robustly scaled and smoothly clipped as numbers are.

    A column takes as many values as there are levels, so all is one look into a table. Values not seen in training
    are no level.

    Parameters
    ----------
    columns : list of (int, int)
        Number of each category column, and how many indices it has, 0 for unknown values included.
    """

    columns: Tensor
    starts: Tensor
    table: Tensor

    def __init__(self, columns: list[tuple[int, int]]):
        super().__init__()
        most = max(n for _, n in columns)
        outputs, table = [], []
        for column, n in columns:
            for row in _level_columns(n):
                outputs.append(column)
                table.append(row + [0.0] * (most - n))
        self.width = len(outputs)
        self.register_buffer("columns", torch.tensor(outputs))
        self.register_buffer("starts", most * torch.arange(self.width))
        self.register_buffer("table", torch.tensor(table))

    def forward(self, category: Tensor) -> Tensor:
        """Return (n, width) of category indices (n, q)."""
        return self.table.take(category[:, self.columns] + self.starts)

    def set_initial(self, category: Tensor) -> None:
        """Scale the columns by the training rows.

        Parameters
        ----------
        category : Tensor of shape (n, q)
            Category indices.
        """
        for values, column in zip(self.table, self.columns.tolist(), strict=True):  # one at a time, for the memory
            seen = values[category[:, column]].sort().values
            low, center, high = (_quantile(seen, share) for share in (0.25, 0.5, 0.75))
            spread = high - low if high > low else (seen[-1] - seen[0]) / 2
            scaled = (values - center) / (spread if spread > 0 else math.inf)
            values.copy_(scaled / (1 + (scaled / CLIP).square()).sqrt())


def _level_columns(n_indices: int) -> list[list[float]]:
    """Return the columns of a category: the value of each index in each."""
    if n_indices == 3:
        return [[0.0, 1.0, -1.0]]
    return [[float(index == level) for index in range(n_indices)] for level in range(1, n_indices)]


def _quantile(ordered: Tensor, share: float) -> Tensor:
    """Return a quantile, between the two nearest numbers; torch's own takes 16 million at most."""
    place = share * (len(ordered) - 1)
    below = int(place)
    return torch.lerp(ordered[below], ordered[min(below + 1, len(ordered) - 1)], place - below)


class Vectors(nn.Module):
    """A learnt vector a level; zero for values that were not seen in training.

    Parameters
    ----------
    columns : list of (int, int)
        Number of each category column, and how many indices it has, 0 for unknown values included.
    size : int
        Length of a vector.
    """

    columns: Tensor
    starts: Tensor

    def __init__(self, columns: list[tuple[int, int]], size: int):
        super().__init__()
        starts = [sum(n for _, n in columns[:i]) for i in range(len(columns))]
        self.register_buffer("columns", torch.tensor([column for column, _ in columns]))
        self.register_buffer("starts", torch.tensor(starts))
        self.weight = nn.Parameter(torch.randn(sum(n for _, n in columns), size))
        with torch.no_grad():
            self.weight[starts] = 0.0

    def forward(self, category: Tensor) -> Tensor:
        """Return (n, columns * size) of category indices (n, q)."""
        return nn.functional.embedding(category[:, self.columns] + self.starts, self.weight).flatten(1)
