"""An exactly uniform shuffle within segments, as fast as numpy allows.

Two ways, by the size of a segment, and both are uniform without a remainder:

* Short and very long segments sort random keys. A key is 64 bits, random above and the row below, so one sort moves
  both, and numpy sorts integers with the vector instructions of the machine. Keys whose random bits tie are shuffled
  by themselves: without that, rows of lower number would come first among ties.
* Segments that fit into the cache but are long enough to pay for a call use numpy's Fisher-Yates.
"""

from __future__ import annotations

import numpy as np

CHUNK = 2**13  # rows worked on at a time: larger temporaries come from the system page by page, and leave the cache
FISHER_YATES = range(
    2**12, 2**18
)  # sizes of segments: below, a call costs too much; above, every swap misses the cache

NARROW_BELOW = 2**11  # sizes of segments whose keys have 32 bits


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
    [0, 2, 1, 3, 4]
    """

    def __init__(self, sizes: np.ndarray):
        ends = np.cumsum(sizes)
        # neighbours of one size are sorted in one call: an epoch may hold 10^5 short passes over a rare class
        first = np.flatnonzero(np.diff(sizes, prepend=-1))
        last = np.append(first[1:], len(sizes)) - 1
        runs = zip((ends - sizes)[first].tolist(), ends[last].tolist(), sizes[first].tolist(), strict=True)
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
        sizes = np.concatenate([np.full((b - a) // size, size) for a, b, size in runs])
        part, narrow = rows[start:end], sizes.max() < NARROW_BELOW
        # half as wide keys sort twice as fast; they have no room for a row, but for its number in a short segment
        base = np.repeat(np.cumsum(sizes) - sizes, sizes).astype(np.int32) if narrow else None
        below = part if base is None else np.arange(len(part), dtype=np.int32) - base
        low = max(1, int(below.max()).bit_length())
        keys = _keys(below, low, rng, np.dtype(np.uint32 if narrow else np.uint64))
        for a, b, size in runs:
            keys[a - start : b - start].reshape(-1, size).sort(axis=1)
        _shuffle_ties(keys, low, np.cumsum(sizes), rng)
        mask = keys.dtype.type((1 << low) - 1)
        for a in range(0, len(keys), CHUNK):
            found = keys[a : a + CHUNK] & mask
            if base is not None:
                found = part.take(found + base[a : a + CHUNK], mode="clip")
            out[start + a : start + a + len(found)] = found


def _keys(below: np.ndarray, low: int, rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
    """Make keys of random bits above `low` bits of payload."""
    keys = np.empty(len(below), dtype=dtype)
    per = 8 // dtype.itemsize
    high = dtype.type((1 << 8 * dtype.itemsize) - (1 << low))
    for a in range(0, len(below), CHUNK):
        part = keys[a : a + CHUNK]
        raw = rng.bit_generator.random_raw(-(-len(part) // per))
        np.bitwise_and(raw.view(dtype)[: len(part)], high, out=part)
        part |= below[a : a + CHUNK].astype(dtype)
    return keys


def _shuffle_ties(keys: np.ndarray, low: int, ends: np.ndarray, rng: np.random.Generator) -> None:
    """Shuffle the runs of sorted keys that differ in the low bits alone, in place; a run ends where a segment does."""
    limit = keys.dtype.type(1 << low)
    found = []
    for a in range(0, len(keys) - 1, CHUNK):
        b = min(a + CHUNK, len(keys) - 1)
        found.append(a + np.flatnonzero((keys[a + 1 : b + 1] ^ keys[a:b]) < limit))
    tied = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
    if not len(tied):
        return
    tied = tied[~np.isin(tied + 1, ends)]
    first = np.flatnonzero(np.diff(tied, prepend=-2) > 1)
    lengths = np.diff(np.append(first, len(tied))) + 1
    pairs = tied[first[lengths == 2]]  # nearly all are pairs: a coin each
    pairs = pairs[rng.random(len(pairs)) < 0.5]
    keys[pairs], keys[pairs + 1] = keys[pairs + 1], keys[pairs]
    for a, length in zip(tied[first[lengths > 2]].tolist(), lengths[lengths > 2].tolist(), strict=True):
        rng.shuffle(keys[a : a + length])
