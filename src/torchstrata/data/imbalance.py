"""Subsets of one task that differ in their class balance and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError


def imbalanced_subsets(
    task: Task, *, minority: Sequence[float] = (0.1, 0.01, 0.001), seed: int = 0
) -> dict[float, Task]:
    """Thin a binary task to given minority proportions, at equal total size.

    Parameters
    ----------
    task : Task
        Two classes. The rarer one is the minority; with equal counts the positive one.
    minority : sequence of float
        Proportions in (0, 0.5].
    seed : int
        Decides which rows are drawn.

    Returns
    -------
    dict of float to Task
        Proportion to subset, in the order given. All have the same number of rows, the largest possible; the count of
        minority rows is the proportion of it, rounded. A more imbalanced subset only loses minority rows and gains
        majority rows. Rows stay in the task's order. Names are ``"<task> minority=<proportion>"``.

    Raises
    ------
    DataError
        If the task has not two classes with rows, or a proportion leaves no row of the minority.
    ConfigError
        If a proportion is not in (0, 0.5].
    """
    shares = {p: _share(p) for p in minority}
    if not shares:
        raise ConfigError("minority must name at least one proportion, such as minority=[0.1, 0.01].")
    rare, common = _drawn_rows(task, seed)
    size = _largest_size(len(rare), len(common), list(shares.values()))
    subsets = {}
    for proportion, share in shares.items():
        n_rare = _rounded(share * size)
        if n_rare == 0:
            raise DataError(_too_rare(task, proportion, size))
        chosen = np.sort(np.concatenate([rare[:n_rare], common[: size - n_rare]]))
        subsets[proportion] = task.rows(chosen, name=f"{task.name} minority={proportion:g}")
    return subsets


def _share(proportion: float) -> Fraction:
    if not 0 < proportion <= 0.5:
        raise ConfigError(f"minority proportions must be in (0, 0.5], got {proportion!r}.")
    return Fraction(str(proportion))  # the decimal that was typed: 0.1 of 25 rows is 2.5 and not a hair more


def _drawn_rows(task: Task, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shuffle the rows of both classes once: every subset takes a beginning of each, hence the nesting."""
    if task.n_classes != 2:
        what = task.kind if task.n_classes is None else f"{task.n_classes} classes"
        raise DataError(f"task {task.name!r}: imbalanced subsets need two classes, got {what}.")
    counts = task.class_counts()
    if counts.min() == 0:
        raise DataError(f"task {task.name!r}: class {counts.idxmin()!r} has no row; nothing to thin.")
    is_positive = np.asarray(task.y) == task.positive
    is_rare = is_positive if is_positive.sum() * 2 <= task.n_rows else ~is_positive
    # a stream for each class: the draw of one does not depend on the number of the other
    rare, common = (
        np.random.default_rng([seed, stream]).permutation(np.flatnonzero(rows))
        for stream, rows in enumerate((is_rare, ~is_rare))
    )
    return rare, common


def _largest_size(n_rare: int, n_common: int, shares: list[Fraction]) -> int:
    bound = min(Fraction(n_rare + 1) / max(shares), Fraction(n_common + 1) / (1 - min(shares)))
    size = min(int(bound), n_rare + n_common)
    while size and any(_rounded(p * size) > n_rare or size - _rounded(p * size) > n_common for p in shares):
        size -= 1
    return size


def _rounded(value: Fraction) -> int:
    return int(value + Fraction(1, 2))


def _too_rare(task: Task, proportion: float, size: int) -> str:
    return (
        f"task {task.name!r}: minority={proportion:g} of {size} rows leaves no minority row; "
        f"the rarest possible here is about {1 / size if size else 0.5:.2g}. Leave it out: minority=[...]."
    )
