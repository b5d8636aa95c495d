"""AUM and AUC along a line of scores, exactly: ``scores + step * direction`` for all steps at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.errors import ConfigError, DataError, did_you_mean

# Crossings closer than this, in units of the step and of the scale of scores over that of the direction, are one:
# rounding tells no more.
SAME = 1e-13


def aum_along(
    scores: Any,
    direction: Any,
    positive: Any,
    weight: Any = None,
    *,
    rates: bool = True,
    max_steps: int | None = None,
) -> pd.DataFrame:
    """Follow AUM and AUC along a line, over all steps from 0.

    AUM is a convex, piecewise linear function of the step, AUC a piecewise constant one that changes where a positive
    and a negative row cross.

    Parameters
    ----------
    scores, direction : array-like or Tensor, shape (n,) or (n, 1)
        Scores at step 0, and their change per unit of step.
    positive : array-like or Tensor of bool, shape (n,)
        Which rows are positive.
    weight : array-like or Tensor of shape (n,), optional
        Weights of rows.
    rates : bool
        As of ``ts.losses.aum``.
    max_steps : int, optional
        Only the first so many breakpoints. Their number can reach the number of pairs.

    Returns
    -------
    DataFrame
        A row for step 0 and for each breakpoint, ascending: ``step``, ``aum`` and ``auc`` there (ties count one half),
        and ``auc_after`` between it and the next one. Between two rows AUM is linear; after the last one too.

    Raises
    ------
    DataError
        If lengths differ, a number is not finite or a class has no weight.

    Notes
    -----
    Crossings are counted and listed by merging the orders of rows at both ends, in O(n log^2 n + crossings); AUM is
    evaluated in O(n log n) once or twice for each of its own kinks. Steps of several crossings at one place are one row
    as far as rounding allows (1e-13).

    References
    ----------
    Fowler, J. and Hocking, T. D. (2024). Efficient line search for optimizing area under the ROC curve in gradient
    descent. arXiv:2410.08635. There the order of rows is followed from crossing to crossing.

    Examples
    --------
    >>> aum_along([0.0, 1.0, 3.0], [3.0, 0.0, 0.0], [True, False, False])
           step  aum   auc  auc_after
    0  0.000000  2.0  0.00        0.0
    1  0.333333  1.0  0.25        0.5
    2  1.000000  0.0  0.75        1.0
    """
    line = _read(scores, direction, positive, weight, rates)
    if max_steps is not None and max_steps < 1:
        raise ConfigError(f"aum_along: max_steps must be an int >= 1 or None, got {max_steps!r}")
    end = _end(line, max_steps)
    steps, auc, after = _auc_along(line, end)
    where, values = _kinks(line, end)
    kinks = _true_kinks(line, where, values)
    extra = kinks[_distance(steps, kinks) > 10 * SAME * (kinks + line.scale)]
    every = np.sort(np.concatenate([steps, extra]))
    at = np.searchsorted(steps, every, side="right") - 1
    exact = steps[at] == every
    table = pd.DataFrame(
        {
            "step": every,
            "aum": np.interp(every, where, values),
            "auc": np.where(exact, auc[at], after[at]),
            "auc_after": after[at],
        }
    )
    return table if max_steps is None else table.iloc[: max_steps + 1]


def best_step(
    scores: Any,
    direction: Any,
    positive: Any,
    weight: Any = None,
    *,
    by: str = "auc",
    rates: bool = True,
    max_steps: int | None = None,
) -> float:
    """Return the best step along a line of scores.

    Parameters
    ----------
    scores, direction, positive, weight, rates
        As of :func:`aum_along`.
    by : {"auc", "aum"}
        Greatest AUC: the middle of the interval with the greatest AUC, of equal ones that with the smallest AUM (an
        interval without end is entered by its own distance from 0). Smallest AUM: the step where it is.
    max_steps : int, optional
        AUC is followed over at most about so many crossings. The smallest AUM is found without it.

    Returns
    -------
    float
        Not negative.

    Examples
    --------
    >>> best_step([0.0, 1.0, 3.0], [3.0, 0.0, 0.0], [True, False, False])
    2.0
    >>> best_step([0.0, 1.0, 3.0], [3.0, 0.0, 0.0], [True, False, False], by="aum")
    1.0
    """
    if by not in ("auc", "aum"):
        raise ConfigError(f"best_step: by must be 'auc' or 'aum', got {by!r}. {did_you_mean(by, ['auc', 'aum'])}")
    line = _read(scores, direction, positive, weight, rates)
    lowest = _lowest(line)
    if by == "aum":
        return lowest
    end = _end(line, max_steps)
    steps, _, after = _auc_along(line, end)
    whole = end >= _last_crossing(line)
    ends = np.append(steps[1:], 2 * steps[-1] or 1.0) if whole else steps[1:]
    if len(ends) == 0:
        return 0.0
    middles, after = (steps[: len(ends)] + ends) / 2, after[: len(ends)]
    if whole:
        middles[-1] = ends[-1]
    best = middles[after >= after.max() - 1e-12]
    # AUM is convex: the best of these is a neighbour of its minimum
    at = int(np.searchsorted(best, lowest))
    near = best[max(at - 1, 0) : at + 1]
    return float(min(near, key=lambda step: _tangent(line, float(step))[0]))


# the line


@dataclasses.dataclass(frozen=True)
class _Line:
    """Scores ``start + step * slope``; `gain` and `loss` are the weights of the classes, `u` and `v` the shares of a
    unit of weight in FP and FN.
    """

    start: np.ndarray
    slope: np.ndarray
    positive: np.ndarray
    weight: np.ndarray
    gain: float
    loss: float
    u: float
    v: float
    scale: float  # of steps: how far the direction must go to move the scores by their own size


def _read(scores: Any, direction: Any, positive: Any, weight: Any, rates: bool) -> _Line:
    start, slope = _numbers("scores", scores), _numbers("direction", direction)
    is_positive = _array(positive).ravel() > 0.5
    w = np.ones(len(start)) if weight is None else _numbers("weight", weight)
    lengths = {"scores": len(start), "direction": len(slope), "positive": len(is_positive), "weight": len(w)}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the line search needs one number a row everywhere, got {lengths}")
    if (w < 0).any():
        raise DataError(f"weight must not be negative; row {int(np.argmax(w < 0))} has {w.min():g}")
    kept = w > 0  # a row of weight zero is an absent row
    start, slope, is_positive, w = start[kept], slope[kept], is_positive[kept], w[kept]
    gain, loss = w[is_positive].sum(), w[~is_positive].sum()
    if not (gain > 0 and loss > 0):
        raise DataError(f"the line search needs rows of both classes, got weight {loss:g} negative, {gain:g} positive")
    u, v = (1 / loss, 1 / gain) if rates else (1.0, 1.0)
    speed = np.ptp(slope)
    return _Line(start, slope, is_positive, w, gain, loss, u, v, np.abs(start).max() / speed if speed else 1.0)


def _array(given: Any) -> np.ndarray:
    return given.detach().cpu().double().numpy() if hasattr(given, "detach") else np.asarray(given)


def _numbers(name: str, given: Any) -> np.ndarray:
    values = _array(given).astype(np.float64).ravel()
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise DataError(f"the line search needs finite numbers; {name} has {values[row]} in row {row}")
    return values


def _distance(steps: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return how far the nearest of some ascending steps is."""
    at = np.searchsorted(steps, where)
    left, right = steps[np.maximum(at - 1, 0)], steps[np.minimum(at, len(steps) - 1)]
    return np.minimum(np.abs(where - left), np.abs(right - where))


def _last_crossing(line: _Line) -> float:
    """Return the step of the last crossing of any two rows, 0 where there is none: rows next to each other at the end.

    Of parallel rows only the highest meets those that come from below later, and only the lowest those above.
    """
    order = np.lexsort((line.start, line.slope))
    slope, start = line.slope[order], line.start[order]
    first = np.flatnonzero(np.append(True, slope[1:] != slope[:-1]))
    last = np.append(first[1:], len(slope)) - 1
    lower, higher = last[:-1], first[1:]
    if len(lower) == 0:
        return 0.0
    return max(0.0, float(((start[lower] - start[higher]) / (slope[higher] - slope[lower])).max()))


# AUM: value and tangent at a step


def _tangent(line: _Line, step: float, side: int = 1) -> tuple[float, float]:
    """Return AUM at a step, and its slope to the right (side 1) or to the left (-1)."""
    scores = line.start + step * line.slope
    order = np.lexsort((side * line.slope, scores))[::-1]  # just beside the step, what moves faster is ahead
    positive, weight = line.positive[order], line.weight[order]
    gains, losses = np.where(positive, weight * line.v, 0.0), np.where(positive, 0.0, weight * line.u)
    fp, fn = np.cumsum(losses), np.cumsum(gains[::-1])[::-1]  # FP after each row, FN before it
    height = np.minimum(fp, np.append(fn[1:], 0.0))
    height[-1] = 0.0
    gradient = np.diff(height, prepend=0.0)
    ranked = scores[order]
    return float(height[:-1] @ -np.diff(ranked)), float(gradient @ line.slope[order])


def _meet(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float]:
    """Return step and height where two tangents (step, value, slope) meet."""
    step = a[0] + (b[1] - a[1] - b[2] * (b[0] - a[0])) / (a[2] - b[2])
    return step, a[1] + a[2] * (step - a[0])


def _touches(line: _Line, value: float, height: float, step: float) -> bool:
    return value - height <= 1e-13 * _size(line, step)


def _size(line: _Line, step: Any) -> Any:
    """Return what AUM is rounded by, over the machine's precision."""
    return (np.abs(line.start).max() + step * np.abs(line.slope).max()) * min(line.u * line.loss, line.v * line.gain)


def _kinks(line: _Line, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and AUM there: 0, every kink, the end, and some more between which AUM is linear, too.

    A convex function that touches the meeting point of two tangents has its only kink there; else it is looked at
    there, and each half goes on.
    """
    first = (0.0, *_tangent(line, 0.0))
    last = (end, *_tangent(line, end, -1))
    found, open_ones = {first[:2], last[:2]}, [(first, last)]
    while open_ones:
        a, b = open_ones.pop()
        if b[2] - a[2] <= 1e-13 * (abs(a[2]) + abs(b[2])):
            continue
        step, height = _meet(a, b)
        if not a[0] < step < b[0]:
            continue
        value, right = _tangent(line, step)
        found.add((step, value))
        if not _touches(line, value, height, step):
            open_ones += [(a, (step, *_tangent(line, step, -1))), ((step, value, right), b)]
    steps, values = zip(*sorted(found), strict=True)
    return np.array(steps), np.array(values)


def _true_kinks(line: _Line, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the inner steps without which AUM would be another function."""
    apart = np.append(True, np.diff(steps) > 10 * SAME * (steps[1:] + line.scale))
    x, y = steps[apart], values[apart]
    if len(x) < 3:
        return x[:0]
    chord = y[:-2] + (y[2:] - y[:-2]) * (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    return x[1:-1][chord - y[1:-1] > 1e-13 * _size(line, x[1:-1])]


def _lowest(line: _Line) -> float:
    """Return the step of the smallest AUM."""
    end = _last_crossing(line)
    a, b = (0.0, *_tangent(line, 0.0)), (end, *_tangent(line, end, -1))
    if a[2] >= 0 or end == 0:
        return 0.0
    if b[2] <= 0:
        return end
    while True:
        step, height = _meet(a, b)
        if not a[0] < step < b[0]:
            return a[0] if a[1] <= b[1] else b[0]
        value, right = _tangent(line, step)
        left = _tangent(line, step, -1)[1]
        if _touches(line, value, height, step) or left <= 0 <= right:
            return step
        a, b = ((step, value, right), b) if right < 0 else (a, (step, value, left))


# AUC: the crossings of positives and negatives


def _auc_along(line: _Line, end: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return steps of breakpoints (0 first), AUC at each and after each."""
    pairs = [pair for pair in _discordant(line, end) if len(pair[0])]
    i = np.concatenate([pair[0] for pair in pairs]) if pairs else np.empty(0, dtype=np.int64)
    j = np.concatenate([pair[1] for pair in pairs]) if pairs else np.empty(0, dtype=np.int64)
    faster = line.slope[i] - line.slope[j]  # i positive, j negative
    steps = (line.start[j] - line.start[i]) / faster
    order = np.argsort(steps, kind="stable")
    steps, change = steps[order], (np.sign(faster) * line.weight[i] * line.weight[j])[order]
    new = np.append(True, np.diff(steps) > SAME * (steps[1:] + line.scale))[: len(steps)]
    first = np.flatnonzero(new)
    sums = np.add.reduceat(change, first) if len(first) else change
    pairs_in_all = line.gain * line.loss
    at_start, after_start = _won(line, line.start), _won(line, _ranks(line.slope, line.start))
    after = after_start + np.append(0.0, np.cumsum(sums))
    at = np.append(at_start, (after[:-1] + after[1:]) / 2)
    return np.append(0.0, steps[first]), at / pairs_in_all, after / pairs_in_all


def _won(line: _Line, scores: np.ndarray) -> float:
    """Return the weight of pairs that are ranked well, ties one half."""
    _, rank = np.unique(scores, return_inverse=True)
    gains = np.bincount(rank, line.weight * line.positive)
    losses = np.bincount(rank, line.weight * ~line.positive)
    return float(gains @ (np.cumsum(losses) - losses / 2))


def _ranks(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the place of each row in the order by two keys; equal ones share it."""
    order = np.lexsort((second, first))
    new = np.append(False, (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.cumsum(new)
    return rank


def _discordant(line: _Line, end: float, *, list_them: bool = True) -> Iterator[tuple[Any, Any]]:
    """Yield positives and negatives that cross before the end; or, of each merge, how many, and 0.

    Two rows cross where their orders at both ends differ. As in a merge sort, blocks of the first order are compared
    with their neighbours: rows of the left block that the second order puts above a row of the right one.
    """
    if end >= _last_crossing(line):  # in the end the slope decides, without rounding
        rank = _ranks(line.start, line.slope)
    else:
        rank = _ranks(line.slope, line.start + end * line.slope)
    before = np.lexsort((line.slope, line.start))
    n, size = len(before), 1
    rank, positive, place = rank[before], line.positive[before], np.arange(n)
    while size < n:
        block, is_left = place // (2 * size), place // size % 2 == 0
        key = block * (n + 1) + rank
        for of_left in (True, False):
            left = np.flatnonzero(is_left & (positive == of_left))
            right = np.flatnonzero(~is_left & (positive != of_left))
            left = left[np.argsort(key[left])]
            start = np.searchsorted(key[left], key[right], side="right")
            count = np.searchsorted(key[left], (block[right] + 1) * (n + 1)) - start
            if not list_them:
                yield int(count.sum()), 0
                continue
            within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            lefts, rights = before[left[np.repeat(start, count) + within]], before[np.repeat(right, count)]
            yield (lefts, rights) if of_left else (rights, lefts)
        size *= 2


def _end(line: _Line, most: int | None) -> float:
    """Return a step before which lie all crossings, or somewhat more of them than asked for."""
    whole = _last_crossing(line)
    count = lambda end: sum(number for number, _ in _discordant(line, end, list_them=False))  # noqa: E731
    if most is None or count(whole) <= most:
        return whole
    scale = np.std(line.start) / np.std(line.slope) or whole  # bisect t / (t + scale), in which crossings are spread
    low, high = 0.0, whole / (whole + scale)
    for _ in range(50):
        middle = (low + high) / 2
        found = count(middle * scale / (1 - middle))
        low, high = (middle, high) if found <= most else (low, middle)
        if most < found <= 2 * most:
            break
    return high * scale / (1 - high)
