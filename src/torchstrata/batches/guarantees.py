"""What the batches of a plan are sure to hold, and how many of them will hold nothing of a stratum.

Every plan of slots says: batch b takes the next m of an endless row of shuffled passes over the rows of a stratum. What
that means for the rows of any label follows from the hypergeometric distribution; nothing has to be tried out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.special import gammaln

from torchstrata.batches.plans import SlotPlan

DRAWS = 20  # for plans that are no plan of slots: the share is a mean over so many epochs


def least_rows(plan: Any, codes: np.ndarray, n_labels: int) -> np.ndarray:
    """Say how many rows of each label every batch of every epoch holds at least.

    Parameters
    ----------
    plan : BatchPlan
        Of any sampler.
    codes : ndarray of int, shape (n,)
        Label of each row; need not be what the sampler stratifies by.
    n_labels : int
        Number of labels.

    Returns
    -------
    ndarray of int64, shape (n_labels,)
        0 where nothing is guaranteed. Exact where a stratum has one label or a label lies in one stratum, else a lower
        bound.
    """
    if not getattr(plan, "shuffle", True):  # nothing is left to chance: look
        return _table(plan, codes, n_labels, epoch=0).min(axis=0)
    if not isinstance(plan, SlotPlan):
        order, bounds = plan.draw(0, 0)
        whole = len(bounds) == 2 and (np.bincount(order, minlength=len(codes)) > 0).all()
        return np.bincount(codes[order], minlength=n_labels) * int(whole)
    least = {label: np.zeros(len(plan.bounds) - 1, dtype=np.int64) for label in range(n_labels)}
    for taken, offset, n, with_label in _windows(plan, codes, n_labels):
        first, full, last = _passes(taken, offset, n)
        for label in np.flatnonzero(with_label).tolist():
            others = n - with_label[label]
            least[label] += np.maximum(first - others, 0) + full * with_label[label] + np.maximum(last - others, 0)
    return np.array([least[label].min() for label in range(n_labels)])


def share_without(plan: Any, codes: np.ndarray, label: int) -> float:
    """Expect the share of batches that hold no row of a label.

    Parameters
    ----------
    plan : BatchPlan
        Of any sampler.
    codes : ndarray of int, shape (n,)
        Label of each row; need not be what the sampler stratifies by.
    label : int
        Which.

    Returns
    -------
    float
        Between 0 and 1: exact for plans of slots, a mean over 20 epochs for others.
    """
    if not isinstance(plan, SlotPlan) or not plan.shuffle:
        epochs = DRAWS if getattr(plan, "shuffle", True) else 1
        tables = [_table(plan, codes, label + 1, epoch=e)[:, label] for e in range(epochs)]
        return float(np.mean([(table == 0).mean() for table in tables]))
    logs = np.zeros(len(plan.bounds) - 1)
    for taken, offset, n, with_label in _windows(plan, codes, label + 1):
        if with_label[label]:
            first, full, last = _passes(taken, offset, n)
            logs += _log_none(n, with_label[label], first) + _log_none(n, with_label[label], last)
            logs[full > 0] = -np.inf
    return float(np.exp(logs).mean())


def _windows(
    plan: SlotPlan, codes: np.ndarray, n_labels: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int, np.ndarray]]:
    """Yield for each stratum the rows each batch takes, those taken before, its size and its rows by label."""
    stratum = plan.stratum_of_places()
    batch = np.repeat(np.arange(len(plan.bounds) - 1), np.diff(plan.bounds))
    by_stratum = np.split(batch[np.argsort(stratum, kind="stable")], np.cumsum(plan.slots)[:-1])
    for s, batches in enumerate(by_stratum):
        taken = np.bincount(batches, minlength=len(plan.bounds) - 1)
        with_label = np.bincount(codes[plan.rows_of(s)], minlength=n_labels)
        yield taken, np.cumsum(taken) - taken, int(plan.counts[s]), with_label


def _passes(taken: np.ndarray, offset: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split what a batch takes into the rest of a pass, whole passes, and the beginning of a pass."""
    first = np.minimum(taken, n - offset % n)
    rest = taken - first
    return first, rest // n, rest % n


def _log_none(n: int, with_label: int, drawn: np.ndarray) -> np.ndarray:
    """Log probability that `drawn` of n rows hold none of `with_label`: C(n - with, drawn) / C(n, drawn)."""
    left = n - with_label - drawn
    possible = np.maximum(left, 0)
    value = gammaln(n - with_label + 1) - gammaln(possible + 1) - gammaln(n + 1) + gammaln(n - drawn + 1)
    return np.where(left < 0, -np.inf, value)


def _table(plan: Any, codes: np.ndarray, n_labels: int, *, epoch: int) -> np.ndarray:
    order, bounds = plan.draw(epoch, 0)
    batch = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    known = codes[order]
    keep = known < n_labels
    flat = np.bincount(batch[keep] * n_labels + known[keep], minlength=(len(bounds) - 1) * n_labels)
    return flat.reshape(-1, n_labels)
