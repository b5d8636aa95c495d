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
# Sizes of segments: below, numpy's choice hashes (to 10^4) or costs a call too many; above, swaps miss the cache.
FISHER_YATES = range(2**14, 2**20)


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
        # in parts, joined at the end: what a part needs on its way is then not held beside an empty whole
        parts = [_swap(rows, runs[0], rng) if swaps else _sort(rows, runs, rng) for swaps, runs in self._steps]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _swap(rows: np.ndarray, run: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Shuffle the segments of one size; choice draws without bias and is faster than Generator.shuffle."""
    start, end, size = run
    parts = [rows[a : a + size].take(rng.choice(size, size, replace=False)) for a in range(start, end, size)]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _sort(rows: np.ndarray, runs: list[tuple[int, int, int]], rng: np.random.Generator) -> np.ndarray:
    """Shuffle segments that follow one another, by sorting random keys."""
    start, end = runs[0][0], runs[-1][1]
    part = rows[start:end]
    low = max(1, int(part.max()).bit_length())
    keys, mask = _keys(part, low, rng), np.uint64((1 << low) - 1)
    for a, b, size in runs:
        keys[a - start : b - start].reshape(-1, size).sort(axis=1)
    ends = np.concatenate([np.arange(a + size, b + 1, size) for a, b, size in runs]) - start
    _shuffle_ties(keys, low, ends, rng)
    out = np.empty_like(part)
    for a in range(0, len(keys), CHUNK):
        out[a : a + CHUNK] = keys[a : a + CHUNK] & mask
    return out


def _keys(rows: np.ndarray, low: int, rng: np.random.Generator) -> np.ndarray:
    """Make keys of random bits above the `low` bits of a row."""
    keys, high = np.empty(len(rows), dtype=np.uint64), np.uint64((1 << 64) - (1 << low))
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
