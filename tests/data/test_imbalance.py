"""Imbalanced subsets: equal sizes, given proportions, nested, reproducible."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchstrata.data.imbalance import imbalanced_subsets
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError


def binary(n_a: int, n_b: int, **settings) -> Task:
    labels = np.random.default_rng(1).permutation(["a"] * n_a + ["b"] * n_b)
    return Task(pd.DataFrame({"x": np.arange(n_a + n_b), "y": labels}), target="y", stratum="y", **settings)


@given(
    n_a=st.integers(1, 150),
    n_b=st.integers(1, 150),
    minority=st.lists(st.integers(1, 50).map(lambda p: p / 100), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_sizes_proportions_and_nesting(n_a, n_b, minority, seed):
    task = binary(n_a, n_b)
    rare = "a" if n_a < n_b else "b"
    try:
        subsets = imbalanced_subsets(task, minority=minority, seed=seed)
    except DataError:  # only where half a row of the largest possible total is more than the proportion asked for
        limit = min(max(n_a, n_b) / (1 - min(minority)), min(n_a, n_b) / max(minority))
        assert min(minority) * (limit - 2) < 0.5
        return
    assert list(subsets) == minority
    assert len({subset.n_rows for subset in subsets.values()}) == 1
    rows = {}
    for proportion, subset in subsets.items():
        size, n_rare = subset.n_rows, int(subset.class_counts()[rare])
        assert n_rare >= 1
        assert abs(n_rare - proportion * size) <= 0.5 + 1e-9
        assert len(set(subset.row_ids)) == size and (np.diff(subset.row_ids) > 0).all()
        rows[proportion] = {label: set(subset.row_ids[subset.y == label]) for label in "ab"}
    common = "b" if rare == "a" else "a"
    for low, high in itertools.pairwise(sorted(minority)):
        assert rows[low][rare] <= rows[high][rare]
        assert rows[low][common] >= rows[high][common]


@given(n_a=st.integers(5, 80), n_b=st.integers(5, 80))
@settings(max_examples=40, deadline=None)
def test_size_is_the_largest_possible(n_a, n_b):
    minority = (0.5, 0.25)
    size = next(iter(imbalanced_subsets(binary(n_a, n_b), minority=minority).values())).n_rows
    small, large = sorted((n_a, n_b))

    def possible(n):
        counts = [int(p * n + 0.5) for p in minority]
        return all(count <= small and n - count <= large for count in counts)

    assert size == max(n for n in range(n_a + n_b + 1) if possible(n))


def test_default_proportions_on_a_large_task():
    subsets = imbalanced_subsets(binary(3000, 6000))
    assert [s.class_counts().tolist() for s in subsets.values()] == [[601, 5405], [60, 5946], [6, 6000]]
    assert subsets[0.1].name == "task minority=0.1"
    assert subsets[0.1].strata is not None


def test_seed_decides_and_repeats():
    task = binary(60, 90)
    draw = [imbalanced_subsets(task, minority=[0.2], seed=seed)[0.2].row_ids.tolist() for seed in (3, 3, 4)]
    assert draw[0] == draw[1] != draw[2]


def test_equal_classes_take_the_positive_as_minority():
    assert imbalanced_subsets(binary(50, 50), minority=[0.1])[0.1].class_counts().to_dict() == {"a": 50, "b": 6}
    assert imbalanced_subsets(binary(50, 50, positive="a"), minority=[0.1])[0.1].class_counts()["b"] == 50


@pytest.mark.parametrize("proportion", [0, -0.1, 0.51, 1.0, float("nan")])
def test_impossible_proportion(proportion):
    with pytest.raises(ConfigError, match=r"\(0, 0.5\]"):
        imbalanced_subsets(binary(50, 50), minority=[proportion])


def test_what_cannot_be_thinned():
    with pytest.raises(DataError, match=r"minority=0.001 of \d+ rows leaves no minority row"):
        imbalanced_subsets(binary(50, 50))
    with pytest.raises(ConfigError, match="at least one proportion"):
        imbalanced_subsets(binary(50, 50), minority=[])
    frame = pd.DataFrame({"x": range(6), "y": list("abcabc"), "z": np.arange(6) / 4})
    with pytest.raises(DataError, match="two classes, got 3 classes"):
        imbalanced_subsets(Task(frame, target="y"), minority=[0.1])
    with pytest.raises(DataError, match="two classes, got regression"):
        imbalanced_subsets(Task(frame, target="z"), minority=[0.1])
    task = binary(5, 5)
    with pytest.raises(DataError, match="class 'b' has no row"):
        imbalanced_subsets(task.rows((task.y == "a").to_numpy()), minority=[0.1])
