"""An exactly uniform shuffle within segments, as fast as numpy allows.

Two ways, by the size of a segment, and both are uniform without a remainder:

* Short and very long segments sort random keys. A key is 64 bits, random above and the row below, so one sort moves
  both, and numpy sorts integers with the vector instructions of the machine. Keys whose random bits tie are shuffled
  by themselves: without that, rows of lower number would come first among ties.
* Segments that fit into the cache but are long enough to pay for a call use numpy's Fisher-Yates.
"""

from __future__ import annotations

import numpy as np

CHUNK = 2**16  # rows worked on at a time: temporaries stay in the cache and out of the memory count
FISHER_YATES = range(
    2**12, 2**18
)  # sizes of segments: below, a call costs too much; above, every swap misses the cache


def generator(seed: int, epoch: int) -> np.random.Generator:
    """Make the generator of one epoch's draw; no other draw shares its stream.

    Parameters
    ----------
    seed, epoch : int
        Not negative.

    Returns
    -------
    numpy.random.Generator
        SFC64, the fastest of numpy's.
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(epoch,))))


class SegmentShuffle:
    """Shuffles the segments of an array; what depends on their sizes alone is worked out once.

    Parameters
    ----------
    sizes : ndarray of int, shape (S,)
        Lengths of the segments, which follow one another.

    Examples
    --------
    >>> SegmentShuffle(np.array([3, 2]))(np.arange(5, dtype=np.int32), generator(0, 0)).tolist()
    [1, 0, 2, 4, 3]
    """

    def __init__(self, sizes: np.ndarray):
        self._ends = np.cumsum(sizes)
        # neighbours of one size are sorted in one call: an epoch may hold 10^5 short passes over a rare class
        first = np.flatnonzero(np.diff(sizes, prepend=-1))
        last = np.append(first[1:], len(sizes)) - 1
        runs = zip((self._ends - sizes)[first].tolist(), self._ends[last].tolist(), sizes[first].tolist(), strict=True)
        self._steps: list[tuple[bool, list[tuple[int, int, int]]]] = []
        for start, end, size in runs:
            swaps = size in FISHER_YATES
            if not self._steps or swaps or self._steps[-1][0]:
                self._steps.append((swaps, []))
            self._steps[-1][1].append((start, end, size))

    def __call__(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the rows, each segment in random order.

        Parameters
        ----------
        rows : ndarray of int, shape (sum of sizes,)
            Not negative; stays as it is.
        rng : numpy.random.Generator
            Its state decides the order.

        Returns
        -------
        ndarray of the same type
            A new array.
        """
        out = np.empty_like(rows)
        for swaps, runs in self._steps:
            if swaps:
                self._swap(rows, out, runs[0], rng)
            else:
                self._sort(rows, out, runs, rng)
        return out

    def _swap(self, rows: np.ndarray, out: np.ndarray, run: tuple[int, int, int], rng: np.random.Generator) -> None:
        start, end, size = run
        for a in range(start, end, size):
            # choice without replacement draws its indices without bias and faster than Generator.shuffle
            np.take(rows[a : a + size], rng.choice(size, size, replace=False), out=out[a : a + size], mode="clip")

    def _sort(
        self, rows: np.ndarray, out: np.ndarray, runs: list[tuple[int, int, int]], rng: np.random.Generator
    ) -> None:
        start, end = runs[0][0], runs[-1][1]
        low = max(1, int(rows[start:end].max()).bit_length())
        keys = _keys(rows[start:end], low, rng)
        for a, b, size in runs:
            keys[a - start : b - start].reshape(-1, size).sort(axis=1)
        _shuffle_ties(keys, low, self._ends - start, rng)
        mask = np.uint64((1 << low) - 1)
        for a in range(0, len(keys), CHUNK):
            out[start + a : start + a + CHUNK][: len(keys) - a] = keys[a : a + CHUNK] & mask


def _keys(rows: np.ndarray, low: int, rng: np.random.Generator) -> np.ndarray:
    keys = np.empty(len(rows), dtype=np.uint64)
    high = np.uint64((2**64 - 1) ^ ((1 << low) - 1))
    for a in range(0, len(rows), CHUNK):
        part = keys[a : a + CHUNK]
        np.bitwise_and(rng.bit_generator.random_raw(len(part)), high, out=part)
        part |= rows[a : a + CHUNK].astype(np.uint64)
    return keys


def _shuffle_ties(keys: np.ndarray, low: int, ends: np.ndarray, rng: np.random.Generator) -> None:
    """Shuffle the runs of sorted keys that differ in the low bits alone, in place; a run ends where a segment does."""
    limit = np.uint64(1 << low)
    found = []
    for a in range(0, len(keys) - 1, CHUNK):
        b = min(a + CHUNK, len(keys) - 1)
        found.append(a + np.flatnonzero((keys[a + 1 : b + 1] ^ keys[a:b]) < limit))
    tied = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
    tied = tied[~np.isin(tied + 1, ends)] if len(tied) else tied
    for run in np.split(tied, np.flatnonzero(np.diff(tied) > 1) + 1):
        if len(run):
            rng.shuffle(keys[run[0] : run[-1] + 2])
