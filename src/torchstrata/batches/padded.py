"""Sequences of unequal length: kept one after the other, padded to the longest of a batch when the batch is made."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchstrata.batches.bytewise import ByBatch, Bytes
from torchstrata.data.arrays import LENGTHS


class Padded:
    """Sequences of unequal length, in one tensor.

    Parameters
    ----------
    values : Tensor of shape (steps of all rows, ...)
        The steps of all rows, one row after the other.
    lengths : ndarray of int64, shape (n,)
        Steps of each row.
    """

    def __init__(self, values: Tensor, lengths: np.ndarray):
        # one more step of zeros, which is what padding reads on an accelerator: there a batch is one gather
        self.values = torch.cat([values, values.new_zeros((1, *values.shape[1:]))])
        self.lengths = lengths
        self.starts = np.cumsum(lengths) - lengths
        self.start, self.length = torch.from_numpy(self.starts), torch.from_numpy(lengths)
        self.steps = torch.arange(max(1, int(lengths.max(initial=1))))

    def to(self, device: torch.device | str) -> Padded:
        """Return the same on a device."""
        there = object.__new__(Padded)
        vars(there).update({k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()})
        return there

    def batches(self, order: np.ndarray, bounds: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of some rows.

        Parameters
        ----------
        order : ndarray of int64
            Rows, batch after batch; -1 is an absent row, without steps.
        bounds : ndarray of int64
            Where batches begin and end in ``order``.

        Yields
        ------
        x : Tensor of shape (batch, longest, ...)
            Zeros after the steps of a row.
        length : Tensor of int64, shape (batch,)
            Steps of each row.
        """
        present = order >= 0
        lengths = np.where(present, self.lengths[order], 0)
        longest = np.maximum.reduceat(lengths, bounds[:-1]).clip(1).tolist()
        return self.padded(order, np.diff(bounds).tolist(), longest)

    def padded(self, order: np.ndarray, sizes: list[int], widths: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of given sizes, padded to given widths.

        Parameters
        ----------
        order : ndarray of int64
            Rows, batch after batch; -1 is an absent row.
        sizes, widths : list of int
            Rows and steps of each batch; no row is longer.

        Yields
        ------
        x, length : Tensor
            As of :meth:`batches`.
        """
        if self.values.device.type == "cpu":  # row by row through numpy takes less than a gather of steps
            return self._copied(order, sizes, widths)
        return self._gathered(order, sizes, widths)

    def _copied(self, order: np.ndarray, sizes: list[int], widths: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
        values, begin = self.values.numpy(), 0
        starts, lengths = self.starts[order].tolist(), np.where(order < 0, 0, self.lengths[order])
        ends = (self.starts[order] + lengths).tolist()
        for size, width in zip(sizes, widths, strict=True):
            x = np.zeros((size, width, *values.shape[1:]), dtype=values.dtype)
            for row, at in enumerate(range(begin, begin + size)):
                x[row, : ends[at] - starts[at]] = values[starts[at] : ends[at]]
            yield torch.from_numpy(x), torch.from_numpy(lengths[begin : begin + size])
            begin += size

    def _gathered(self, order: np.ndarray, sizes: list[int], widths: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
        index = torch.from_numpy(order).to(self.length.device)
        start, length = self.start[index], torch.where(index < 0, 0, self.length[index])
        for begin, long, width in zip(start.split(sizes), length.split(sizes), widths, strict=True):
            steps = self.steps[:width] if width <= len(self.steps) else torch.arange(width, device=begin.device)
            at = torch.where(steps < long[:, None], begin[:, None] + steps, len(self.values) - 1)
            x = self.values.index_select(0, at.view(-1))
            yield x.view(len(begin), width, *x.shape[1:]), long


class Inputs(ByBatch):
    """Several inputs by name, some of which become tensors a batch at a time: sequences, and images of bytes.

    A batch is a dict of tensors. Beside a sequence ``"name"`` stand the steps of its rows, ``"name_lengths"``.

    Parameters
    ----------
    parts : dict of str to (Tensor, Bytes or Padded)
        All of n rows.
    """

    def __init__(self, parts: Mapping[str, Any]):
        self.parts = dict(parts)
        self.sequences = {name: part for name, part in self.parts.items() if isinstance(part, Padded)}
        first = next(iter(self.parts.values()))
        n = len(first.lengths if isinstance(first, Padded) else first)
        images = [part for part in self.parts.values() if not isinstance(part, Padded) and part.ndim == 4]
        self.shape = (n, *images[0].shape[1:]) if images else (n,)
        self.why = "sequences are padded" if self.sequences else Bytes.why

    def to(self, device: torch.device | str) -> Inputs:
        """Return the inputs on a device."""
        return Inputs({name: part.to(device) for name, part in self.parts.items()})

    def pick(self, index: Tensor | slice) -> Any:
        """Return some rows; sequences are padded to the longest of them."""
        rows = np.arange(len(self))[index] if isinstance(index, slice) else index.cpu().numpy()
        return next(self.batches(rows, np.array([0, len(rows)])))

    def batches(self, order: np.ndarray, bounds: np.ndarray) -> Iterator[Any]:
        """Yield the batches of one epoch, as dicts."""
        return self._named({name: _batches(part, order, bounds) for name, part in self.parts.items()})

    def chunks(self, multiple: int) -> Iterator[Any]:
        """Yield all rows in blocks of one size, in the order that :meth:`places` undoes.

        A row is padded to a length that depends on its own length alone, so its outputs do, too; what a block lacks are
        absent rows.
        """
        order, widths = self._blocks(multiple)
        sizes = [multiple] * (len(order) // multiple)
        found: dict[str, Any] = {
            name: part.padded(order, sizes, widths[name].tolist()) for name, part in self.sequences.items()
        }
        index = torch.from_numpy(order)
        for name, part in self.parts.items():
            if name not in found:
                found[name] = map(functools.partial(_filled, part), index.split(multiple))
        return self._named(found)

    def places(self, multiple: int) -> Tensor | None:
        """Say where each row stands among the blocks of :meth:`chunks`."""
        order, _ = self._blocks(multiple)
        places = np.empty(len(self), dtype=np.int64)
        taken = np.flatnonzero(order >= 0)
        places[order[taken]] = taken
        return torch.from_numpy(places)

    def _named(self, found: dict[str, Iterator[Any]]) -> Iterator[dict[str, Tensor]]:
        for several in zip(*found.values(), strict=True):
            batch: dict[str, Tensor] = {}
            for name, value in zip(found, several, strict=True):
                if name in self.sequences:
                    batch[name], batch[name + LENGTHS] = value
                else:
                    batch[name] = value
            yield batch

    def _blocks(self, multiple: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Put rows of like widths together, filled up to whole blocks by absent rows."""
        widths = {name: padded_width(part.lengths) for name, part in self.sequences.items()}
        key = np.zeros(len(self), dtype=np.int64)
        for width in widths.values():
            key = np.unique(np.stack([key, width]), axis=1, return_inverse=True)[1].reshape(-1)
        order = np.argsort(key, kind="stable")
        counts = np.bincount(key)
        whole = -(-counts // multiple) * multiple
        out = np.full(whole.sum(), -1, dtype=np.int64)
        ends = np.cumsum(counts)
        out[np.arange(len(order)) + np.repeat(np.cumsum(whole) - whole - (ends - counts), counts)] = order
        firsts = out[::multiple]  # a block begins with a row that is there
        return out, {name: width[firsts] for name, width in widths.items()}


def padded_width(lengths: np.ndarray) -> np.ndarray:
    """Round lengths up to 1, 2, 3, 4, 6, 8, 12, 16, ...: few widths, and less than half of one is padding.

    Parameters
    ----------
    lengths : ndarray of int64
        Steps.

    Returns
    -------
    ndarray of int64
        At least the lengths, and at least 1.
    """
    power = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    return np.where(lengths <= power // 4 * 3, np.maximum(power // 4 * 3, 1), power)


def _batches(part: Any, order: np.ndarray, bounds: np.ndarray) -> Iterator[Any]:
    if isinstance(part, Padded | ByBatch):
        return part.batches(order, bounds)
    index = torch.from_numpy(order).to(part.device)
    return (part.index_select(0, rows) for rows in index.split(np.diff(bounds).tolist()))


def _filled(part: Any, rows: Tensor) -> Tensor:
    """Take rows; zeros for those that are absent."""
    absent = rows < 0
    device = part.x.device if isinstance(part, Bytes) else part.device
    index = rows.clamp_min(0).to(device)
    x = part.pick(index) if isinstance(part, ByBatch) else part.index_select(0, index)
    if absent.any():
        x[absent.to(device)] = 0
    return x
