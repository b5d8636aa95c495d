"""Rows of K fits side by side: index arrays of K samplers -> blocks of shape (K, rows of a batch, ...).

Fits that train as one program take their steps together, each with its own rows. Where one has fewer rows in a batch
than another, or no batch left, the block is filled up with rows of weight zero, which are absent rows to every loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchstrata.batches.loader import Rows, Tensors

Draw = tuple[np.ndarray, np.ndarray]  # order and bounds, as a plan draws them


@dataclasses.dataclass
class Layout:
    """Where the batches of one epoch lie: step after step, fit after fit, row after row.

    Parameters
    ----------
    bounds : list of ndarray
        Of each fit.
    """

    bounds: list[np.ndarray]

    def __post_init__(self) -> None:
        steps = max(len(bounds) for bounds in self.bounds) - 1
        #: rows of each fit in each step, shape (steps, K); zero where a fit has no batch left
        self.counts = np.zeros((steps, len(self.bounds)), dtype=np.int64)
        for k, bounds in enumerate(self.bounds):
            self.counts[: len(bounds) - 1, k] = np.diff(bounds)
        self.sizes = self.counts.max(axis=1)  # rows of a block, by step
        k = len(self.bounds)
        self.starts = np.concatenate([[0], np.cumsum(k * self.sizes)])  # first place of each step
        self.padded = bool((self.counts != self.sizes[:, None]).any())
        self.n_places = int(self.starts[-1])
        # first place of each (step, fit): what belongs together when numbers of rows are added up
        self.segments = (self.starts[:-1, None] + np.arange(k) * self.sizes[:, None]).ravel()
        self._places: dict[int, np.ndarray] = {}

    def places(self, k: int) -> np.ndarray:
        """Return the places of the rows of fit k, in the order of its epoch.

        Parameters
        ----------
        k : int
            Which fit.

        Returns
        -------
        ndarray of int64
            As many as it has rows.
        """
        if k not in self._places:
            bounds = self.bounds[k]
            lengths, steps = np.diff(bounds), len(bounds) - 1
            first = self.starts[:steps] + k * self.sizes[:steps] - bounds[:-1]
            self._places[k] = np.repeat(first, lengths) + np.arange(bounds[-1])
        return self._places[k]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Add up the values of the rows of each batch.

        Parameters
        ----------
        values : ndarray of shape (places,)
            A number a place.

        Returns
        -------
        ndarray of shape (steps, K)
            Sums; zero where a fit has no batch.
        """
        return np.add.reduceat(values, self.segments).reshape(self.counts.shape)

    def chunks(self, places: int) -> Iterator[tuple[int, int]]:
        """Cut the epoch into runs of steps.

        Parameters
        ----------
        places : int
            At most so many places in a run, but always one step.

        Yields
        ------
        first, last : int
            Steps ``first`` to ``last - 1``.
        """
        first = 0
        while first < len(self.sizes):
            last = int(np.searchsorted(self.starts, self.starts[first] + places, side="right")) - 1
            last = max(last, first + 1)
            yield first, last
            first = last

    def split(self, values: Tensor, first: int, last: int) -> list[Tensor]:
        """Cut values into the blocks of some steps.

        Parameters
        ----------
        values : Tensor of shape (places of these steps, ...)
            A row a place.
        first, last : int
            Steps.

        Returns
        -------
        list of Tensor
            Views of shape (K, rows, ...), or (rows, ...) for a single fit.
        """
        if len(self.bounds) == 1:
            return list(torch.split_with_sizes(values, self.sizes[first:last].tolist()))
        return self.blocks(values, first, last)

    def blocks(self, values: Tensor, first: int, last: int) -> list[Tensor]:
        """Cut values into the blocks of some steps.

        Parameters
        ----------
        values : Tensor of shape (places of these steps, ...)
            A row a place.
        first, last : int
            Steps.

        Returns
        -------
        list of Tensor
            Views of shape (K, rows, ...).
        """
        k, sizes = len(self.bounds), self.sizes[first:last].tolist()
        parts = torch.split_with_sizes(values, [k * size for size in sizes])
        return [part.view(k, size, *values.shape[1:]) for part, size in zip(parts, sizes, strict=True)]

    def present(self, dtype: torch.dtype) -> Tensor:
        """Say which places hold a row.

        Parameters
        ----------
        dtype : torch.dtype
            Of the answer.

        Returns
        -------
        Tensor of shape (places,)
            One, or zero where a block is filled up.
        """
        there = torch.zeros(self.n_places, dtype=dtype)
        for k in range(len(self.bounds)):
            there[torch.from_numpy(self.places(k))] = 1
        return there


class StackedRows:
    """The training rows of K fits.

    Parameters
    ----------
    x : sequence of Tensor or dict of Tensor
        Inputs of each fit; those that are one object are kept once.
    rows : sequence of Rows
        Their targets and weights.
    """

    def __init__(self, x: Sequence[Tensors], rows: Sequence[Rows]):
        self.n_fits = len(rows)
        alone = self.n_fits == 1
        distinct = {id(given): given for given in x}
        lengths = np.array([len(_first(given)) for given in distinct.values()])
        begin = dict(zip(distinct, (np.cumsum(lengths) - lengths).tolist(), strict=True))
        self._x_starts = [begin[id(given)] for given in x]
        self.x: Any = x[0] if alone else _join(list(distinct.values()))
        counts = np.array([len(r) for r in rows])
        self._starts = (np.cumsum(counts) - counts).tolist()
        self._absent = (int(lengths.sum()), int(counts.sum()))  # the row of zeros that fills up blocks
        self.y = rows[0].y if alone else _join([r.y for r in rows])
        self.weight = _weights(rows, alone=alone)
        self._layout: Layout | None = None

    def layout(self, draws: Sequence[Draw]) -> Layout:
        """Work out where the batches of an epoch lie; the same bounds again cost nothing.

        Parameters
        ----------
        draws : sequence of (order, bounds)
            Of each fit.

        Returns
        -------
        Layout
            The places.
        """
        bounds = [bounds for _, bounds in draws]
        last = self._layout
        if last is None or any(a is not b for a, b in zip(bounds, last.bounds, strict=True)):
            self._layout = Layout(bounds)
        return self._layout  # type: ignore[return-value]

    def index(self, layout: Layout, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
        """Say which row stands at each place.

        Parameters
        ----------
        layout : Layout
            Of these draws.
        draws : sequence of (order, bounds)
            Of each fit.

        Returns
        -------
        of_x, of_y : Tensor of int64, shape (places,)
            Into ``x``, and into ``y`` and ``weight``.
        """
        if self.n_fits == 1:
            index = torch.from_numpy(draws[0][0])
            return index, index
        of_x = np.full(layout.n_places, self._absent[0])
        of_y = np.full(layout.n_places, self._absent[1])
        for k, (order, _) in enumerate(draws):
            places = layout.places(k)
            of_x[places] = order + self._x_starts[k]
            of_y[places] = order + self._starts[k]
        return torch.from_numpy(of_x), torch.from_numpy(of_y)

    def take(self, index: Tensor) -> Tensors:
        """Gather inputs.

        Parameters
        ----------
        index : Tensor of int64
            Rows, from :meth:`index`.

        Returns
        -------
        Tensor or dict of Tensor
            Those rows.
        """
        if isinstance(self.x, dict):
            return {name: value.index_select(0, index) for name, value in self.x.items()}
        return self.x.index_select(0, index)


def _first(x: Tensors) -> Tensor:
    return next(iter(x.values())) if isinstance(x, dict) else x


def _join(parts: list[Any]) -> Any:
    """Join rows of all fits, and a row of zeros."""
    if isinstance(parts[0], dict):
        return {name: _join([part[name] for part in parts]) for name in parts[0]}
    return torch.cat([*parts, parts[0].new_zeros((1, *parts[0].shape[1:]))])


def _weights(rows: Sequence[Rows], *, alone: bool) -> Tensor | None:
    if alone:
        return rows[0].weight
    like = next((r.weight for r in rows if r.weight is not None), None)
    if like is None:
        return None
    return _join([torch.ones(len(r), dtype=like.dtype) if r.weight is None else r.weight for r in rows])
