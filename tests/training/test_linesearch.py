"""AUM and AUC along a line against exact rationals, evaluated one step at a time from their definitions."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from torchstrata.errors import ConfigError, DataError
from torchstrata.training import linesearch
from torchstrata.training.linesearch import aum_along, best_step
from torchstrata.training.losses import aum


def exact_aum(scores, labels, weight, *, rates):
    total = [sum(w for w, y in zip(weight, labels, strict=True) if y == label) for label in (0, 1)]
    unit = [Fraction(1) / t if rates else Fraction(1) for t in total]
    rows, area = list(zip(scores, labels, weight, strict=True)), Fraction(0)
    for low, high in pairwise(sorted(set(scores))):
        fp = sum(w for s, y, w in rows if y == 0 and s >= high)
        fn = sum(w for s, y, w in rows if y == 1 and s <= low)
        area += (high - low) * min(fp * unit[0], fn * unit[1])
    return area


def exact_auc(scores, labels, weight):
    rows, won, pairs = list(zip(scores, labels, weight, strict=True)), Fraction(0), Fraction(0)
    for s, y, w in rows:
        for t, z, x in rows:
            if y == 1 and z == 0:
                won += w * x * (Fraction(1, 2) if s == t else int(s > t))
                pairs += w * x
    return won / pairs


def exact_steps(start, slope, chosen=lambda i, j: True):
    """All steps > 0 at which two rows cross."""
    found = set()
    for i, j in combinations(range(len(start)), 2):
        if slope[i] != slope[j] and chosen(i, j):
            found.add((start[j] - start[i]) / (slope[i] - slope[j]))
    return sorted(step for step in found if step > 0)


def random_line(seed):
    """Small whole numbers: ties, parallel rows and several crossings at one step are the rule."""
    rng = np.random.default_rng(seed)
    n, span = int(rng.integers(2, 11)), int(rng.integers(1, 7))
    start, slope = rng.integers(-span, span + 1, n), rng.integers(-span, span + 1, n)
    labels = rng.permutation(np.r_[0, 1, rng.integers(0, 2, n - 2)])
    weight = rng.integers(1, 4, n) if seed % 2 else np.ones(n, dtype=int)
    if seed % 3 == 0:
        weight = np.where(rng.random(n) < 0.2, 0, weight)
        weight[[np.argmax(labels), np.argmin(labels)]] = 1
    return [[Fraction(int(v)) for v in part] for part in (start, slope)] + [labels.tolist(), weight.tolist()]


def floats(values):
    return [float(v) for v in values]


@pytest.mark.parametrize("part", range(10))
def test_table_against_exact_rationals(part):
    for seed in range(40 * part, 40 * part + 40):
        start, slope, labels, weight = random_line(seed)
        rates = bool(seed % 5)
        table = aum_along(floats(start), floats(slope), labels, weight, rates=rates)
        kept = [w > 0 for w in weight]

        def at(step, start=start, slope=slope):
            return [a + step * b for a, b in zip(start, slope, strict=True)]

        # every crossing of a positive and a negative row is a row of the table, and every other row is a crossing
        counted = lambda i, j, k=kept: k[i] and k[j]  # noqa: E731
        mixed = exact_steps(start, slope, lambda i, j, k=kept, y=labels: k[i] and k[j] and y[i] != y[j])
        steps, everything = table["step"].to_numpy(), [Fraction(0), *exact_steps(start, slope, counted)]
        assert steps[0] == 0 and (np.diff(steps) > 0).all()
        assert all(np.abs(steps - float(step)).min() < 1e-12 for step in mixed)
        assert all(min(abs(float(e) - step) for e in everything) < 1e-12 for step in steps)
        rows = [min(everything, key=lambda e, step=step: abs(float(e) - step)) for step in steps]
        ends = [*rows[1:], rows[-1] + 2]
        for row, here, end in zip(table.itertuples(), rows, ends, strict=True):
            middle = (here + end) / 2
            assert row.aum == pytest.approx(float(exact_aum(at(here), labels, weight, rates=rates)), abs=1e-11)
            assert row.auc == pytest.approx(float(exact_auc(at(here), labels, weight)), abs=1e-12)
            assert row.auc_after == pytest.approx(float(exact_auc(at(middle), labels, weight)), abs=1e-12)
        for (a, b), (low, high) in zip(pairwise(rows), pairwise(table["aum"]), strict=True):  # linear between rows
            inside = float(exact_aum(at((2 * a + b) / 3), labels, weight, rates=rates))
            assert inside == pytest.approx((2 * low + high) / 3, abs=1e-11)


@pytest.mark.parametrize("part", range(5))
def test_best_steps_against_exact_rationals(part):
    for seed in range(40 * part, 40 * part + 40):
        start, slope, labels, weight = random_line(seed)
        value = lambda step, a=start, b=slope: [x + step * y for x, y in zip(a, b, strict=True)]  # noqa: E731
        steps = [Fraction(0), *exact_steps(start, slope)]
        tried = [*steps, *((a + b) / 2 for a, b in pairwise(steps)), steps[-1] + 1]
        by_auc = best_step(floats(start), floats(slope), labels, weight)
        best = max(exact_auc(value(step), labels, weight) for step in tried[1:])
        found = exact_auc(value(Fraction(by_auc)), labels, weight)
        assert by_auc >= 0
        assert found == best or (by_auc == 0 and found >= best)
        by_aum = best_step(floats(start), floats(slope), labels, weight, by="aum")
        lowest = min(exact_aum(value(step), labels, weight, rates=True) for step in tried)
        assert float(exact_aum(value(Fraction(by_aum)), labels, weight, rates=True)) == pytest.approx(
            float(lowest), abs=1e-11
        )


def normal_line(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(size=n), np.arange(n) % 3 == 0


def test_a_longer_line_against_the_loss_itself():
    start, slope, positive = normal_line(60)
    table = aum_along(start, slope, positive)
    crossings = exact_steps(start, slope, lambda i, j: positive[i] != positive[j])
    assert len(table) >= len(crossings) + 1
    steps = np.linspace(0, table["step"].iloc[-1], 200)
    direct = [aum(torch.tensor(start + step * slope), torch.tensor(positive)).item() for step in steps]
    np.testing.assert_allclose(np.interp(steps, table["step"], table["aum"]), direct, atol=1e-10)


def test_aum_is_convex_along_a_line():
    for seed in range(20):
        table = aum_along(*normal_line(30, seed), rates=bool(seed % 2))
        x, y = table["step"].to_numpy(), table["aum"].to_numpy()
        chord = y[:-2] + (y[2:] - y[:-2]) * (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
        assert (y[1:-1] <= chord + 1e-10 * y.max()).all()
        assert (y[1:-1] < chord - 1e-6 * y.max()).any()


@pytest.mark.parametrize("most", [1, 5, 40, 10_000])
def test_the_first_breakpoints_are_those_of_the_whole(most):
    line = normal_line(40)
    whole, first = aum_along(*line), aum_along(*line, max_steps=most)
    assert len(first) == min(most + 1, len(whole))
    pd.testing.assert_frame_equal(first, whole.iloc[: len(first)], rtol=1e-9)


def test_few_steps_give_the_best_of_these():
    start, slope, positive = normal_line(200)
    table = aum_along(start, slope, positive)
    step = best_step(start, slope, positive, max_steps=50)
    assert 0 < step < table["step"].iloc[102]
    after = table["auc_after"].iloc[np.searchsorted(table["step"], step, side="right") - 1]
    assert after >= table["auc_after"].iloc[:50].max() - 1e-12
    whole = best_step(start, slope, positive)
    at = np.searchsorted(table["step"], whole, side="right") - 1
    assert table["auc_after"].iloc[at] == table["auc_after"].max()


def test_one_row_of_each_class_and_no_crossing():
    table = aum_along([0.0, 0.0], [1.0, 0.0], [True, False])
    assert table.to_numpy().tolist() == [[0.0, 0.0, 0.5, 1.0]]
    assert best_step([0.0, 0.0], [1.0, 0.0], [True, False]) == 1.0
    assert best_step([0.0, 0.0], [0.0, 0.0], [True, False], by="aum") == 0.0
    parallel = aum_along([0.0, 1.0, 2.0], [1.0, 1.0, 1.0], [True, False, True])
    assert parallel[["step", "auc", "auc_after"]].to_numpy().tolist() == [[0.0, 0.5, 0.5]]


def test_columns_tensors_and_weights_of_zero():
    start, slope, positive = normal_line(12)
    plain = aum_along(start, slope, positive)
    columns = aum_along(
        torch.tensor(start)[:, None].requires_grad_(), torch.tensor(slope), torch.tensor(positive).float()
    )
    pd.testing.assert_frame_equal(plain, columns)
    more = aum_along([*start, 5.0], [*slope, 1.0], [*positive, True], [1.0] * 12 + [0.0])
    pd.testing.assert_frame_equal(plain, more)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (([0.0, 1.0], [1.0], [0, 1]), {}, DataError, "one number a row everywhere.*'direction': 1"),
        (([0.0, 1.0], [1.0, 2.0], [1, 1]), {}, DataError, "rows of both classes, got weight 0 negative, 2 positive"),
        (([0.0, np.nan], [1.0, 2.0], [0, 1]), {}, DataError, "scores has nan in row 1"),
        (([0.0, 1.0], [1.0, 2.0], [0, 1], [1.0, -2.0]), {}, DataError, "row 1 has -2"),
        (([0.0, 1.0], [1.0, 2.0], [0, 1]), {"max_steps": 0}, ConfigError, "max_steps must be an int >= 1"),
    ],
)
def test_what_cannot_be_followed_is_refused(arguments, settings, error, message):
    with pytest.raises(error, match=message):
        aum_along(*arguments, **settings)


def test_by_is_auc_or_aum():
    with pytest.raises(ConfigError, match=r"by must be 'auc' or 'aum', got 'roc_auc'\. Did you mean 'auc'"):
        best_step([0.0, 1.0], [1.0, 0.0], [0, 1], by="roc_auc")


def test_counting_lists_as_many_as_there_are():
    start, slope, positive = normal_line(70)
    line = linesearch._read(start, slope, positive, None, True)
    for end in (0.1, 1.0, linesearch._last_crossing(line)):
        listed = sum(len(i) for i, _ in linesearch._discordant(line, end))
        counted = sum(number for number, _ in linesearch._discordant(line, end, list_them=False))
        expected = [s for s in exact_steps(start, slope, lambda i, j: positive[i] != positive[j]) if s <= end]
        assert listed == counted == len(expected)
