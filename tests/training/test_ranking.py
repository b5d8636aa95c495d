"""AUM: value and gradient against exact arithmetic, at ties above all."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from torchstrata.errors import NonFiniteError
from torchstrata.training import ranking
from torchstrata.training.losses import aum
from torchstrata.training.ranking import area_under_min, score_scale, value_and_slope

ORACLES = json.loads((Path(__file__).parent / "aum_oracles.json").read_text())


def value_and_gradient(scores, labels, weight=None, **settings):
    scores = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    weight = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    value = aum(scores, torch.tensor(labels), weight, **settings)
    (gradient,) = torch.autograd.grad(value, scores)
    return value.item(), gradient.numpy()


def exact_aum(scores: list[Fraction], labels, weight, *, rates: bool) -> Fraction:
    """Integrate min(FP, FN) over thresholds t, a row counted as positive where score + t > 0: no sorting of rows."""
    total = [sum(w for w, y in zip(weight, labels, strict=True) if y == label) for label in (0, 1)]
    unit = [Fraction(1, 1) / t if rates and t else Fraction(0 if rates else 1) for t in total]
    cuts = sorted({-s for s in scores})
    area = Fraction(0)
    for a, b in pairwise(cuts):
        t = (a + b) / 2
        fp = sum(w for s, y, w in zip(scores, labels, weight, strict=True) if y == 0 and s + t > 0)
        fn = sum(w for s, y, w in zip(scores, labels, weight, strict=True) if y == 1 and s + t <= 0)
        area += (b - a) * min(fp * unit[0], fn * unit[1])
    return area


def exact_slopes(scores, labels, weight, row, *, rates):
    """One-sided derivatives along one score: exact, for the function is linear over steps below every gap."""
    distinct = sorted(set(scores))
    step = min((b - a for a, b in pairwise(distinct)), default=Fraction(1)) / 2
    here = exact_aum(scores, labels, weight, rates=rates)

    def moved(by):
        shifted = [s + by if i == row else s for i, s in enumerate(scores)]
        return exact_aum(shifted, labels, weight, rates=rates)

    return (here - moved(-step)) / step, (moved(step) - here) / step


@pytest.mark.parametrize("case", ORACLES, ids=[f"{i}-{c['denominator']}" for i, c in enumerate(ORACLES)])
def test_oracles_value_and_gradient(case):
    scores, labels, rates = case["pred"], case["y"], case["denominator"] == "rate"
    value, gradient = value_and_gradient(scores, labels, rates=rates)
    assert value == pytest.approx(case["aum"], rel=1e-12, abs=1e-12)
    left, right = np.array(case["deriv_left"]), np.array(case["deriv_right"])
    assert (gradient >= np.minimum(left, right) - 1e-12).all()
    assert (gradient <= np.maximum(left, right) + 1e-12).all()
    assert abs(gradient.sum()) < 1e-12
    assert gradient @ np.array(scores) == pytest.approx(case["aum"], abs=1e-12)


def test_there_are_forty_oracles():
    assert len(ORACLES) == 40


@pytest.mark.parametrize("part", range(12))
def test_random_tied_cases_against_exact_rationals(part):
    rng = np.random.default_rng(part)
    for case in range(100):
        n = int(rng.integers(2, 12))
        numerators = rng.integers(-3, 4, n).tolist()
        labels = rng.integers(0, 2, n).tolist()
        weights = rng.integers(0, 4, n).tolist() if case % 2 else [1] * n
        rates, scale = bool(rng.integers(2)), Fraction(1, int(rng.integers(1, 4)))
        scores = [Fraction(k) * scale for k in numerators]
        exact_weights = [Fraction(w, 2) for w in weights]
        value, gradient = value_and_gradient(
            [float(s) for s in scores], labels, [w / 2 for w in weights] if case % 2 else None, rates=rates
        )
        used = exact_weights if case % 2 else [Fraction(1)] * n
        assert abs(value - float(exact_aum(scores, labels, used, rates=rates))) < 1e-12
        assert abs(gradient.sum()) < 1e-12
        assert abs(gradient @ np.array([float(s) for s in scores]) - value) < 1e-12
        row = int(rng.integers(n))
        slopes = [float(s) for s in exact_slopes(scores, labels, used, row, rates=rates)]
        assert min(slopes) - 1e-12 <= gradient[row] <= max(slopes) + 1e-12


def random_case(seed, n=40, levels=9):
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, n) / 4, rng.integers(0, 2, n), rng.integers(0, 4, n).astype(float)


@pytest.mark.parametrize("rates", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_order_of_rows_does_not_matter(seed, rates):
    scores, labels, weight = random_case(seed)
    order = np.random.default_rng(seed).permutation(len(scores))
    value, gradient = value_and_gradient(scores, labels, weight, rates=rates)
    permuted, moved = value_and_gradient(scores[order], labels[order], weight[order], rates=rates)
    assert permuted == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(moved, gradient[order], atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"rates": False}, {"margin": 0.5}, {"normalize": True}], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_weight_k_is_k_rows_and_weight_zero_none(seed, settings):
    scores, labels, weight = random_case(seed)
    times = weight.astype(int)
    value, gradient = value_and_gradient(scores, labels, weight, **settings)
    repeated, of_copies = value_and_gradient(np.repeat(scores, times), np.repeat(labels, times), **settings)
    assert value == pytest.approx(repeated, abs=1e-12)
    summed = np.bincount(np.repeat(np.arange(len(times)), times), weights=of_copies, minlength=len(times))
    np.testing.assert_allclose(gradient, summed, atol=1e-11)
    assert (gradient[times == 0] == 0).all()


def test_weights_of_one_are_no_weights():
    scores, labels, _ = random_case(3)
    a, b = value_and_gradient(scores, labels), value_and_gradient(scores, labels, np.ones(len(scores)))
    assert a[0] == pytest.approx(b[0], abs=1e-14)
    np.testing.assert_allclose(a[1], b[1], atol=1e-14)


@pytest.mark.parametrize("rates", [True, False])
@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_class_teaches_nothing(labels, rates):
    value, gradient = value_and_gradient([1.0, 2.0, 0.5], labels, rates=rates)
    assert value == 0
    assert (gradient == 0).all()


def test_one_class_by_weight_teaches_nothing():
    value, gradient = value_and_gradient([1.0, 2.0, 0.5], [0, 1, 0], [1.0, 0.0, 2.0])
    assert value == 0
    assert (gradient == 0).all()


def test_one_row():
    value, gradient = value_and_gradient([1.0], [1])
    assert (value, gradient.tolist()) == (0, [0])


@pytest.mark.parametrize("rates", [True, False])
def test_constant_scores_move_classes_apart(rates):
    value, gradient = value_and_gradient([0.0] * 5, [0, 1, 0, 1, 1], rates=rates)
    assert value == 0
    assert (gradient[[0, 2]] > 0).all()
    assert (gradient[[1, 3, 4]] < 0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("labels", [[0, 1, 1], [0, 0, 0]])
@pytest.mark.parametrize("place", range(3))
def test_scores_that_are_not_finite_raise(place, labels, bad):
    scores = torch.tensor([0.5, 1.0, 2.0])
    scores[place] = bad
    with pytest.raises(NonFiniteError, match=rf"row {place} of the batch .*1 of 3 rows.: aum got .* NaN or infinite"):
        aum(scores, torch.tensor(labels))
    with pytest.raises(NonFiniteError):
        aum(scores[place][None], torch.tensor([1]))


@pytest.mark.parametrize("weighted", [False, True])
def test_vmap_and_grad_under_vmap_equal_a_loop(weighted):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 5, (6, 20), generator=generator).double()
    labels = torch.randint(0, 2, (6, 20), generator=generator)
    weight = torch.randint(0, 3, (6, 20), generator=generator).double() if weighted else None

    def one(s, y, w=None):
        return aum(s, y, w)

    arguments = (scores, labels, weight) if weighted else (scores, labels)
    values = torch.func.vmap(one)(*arguments)
    gradients = torch.func.vmap(torch.func.grad(one))(*arguments)
    for i in range(6):
        value, gradient = value_and_gradient(
            scores[i].tolist(), labels[i].tolist(), weight[i].tolist() if weighted else None
        )
        assert values[i].item() == pytest.approx(value, abs=1e-12)
        np.testing.assert_allclose(gradients[i].numpy(), gradient, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    half = (torch.arange(300) % 7).to(dtype).requires_grad_()
    labels = torch.arange(300) % 2
    value = aum(half, labels)
    assert value.dtype == torch.float32
    full = half.detach().float().requires_grad_()
    exact = aum(full, labels)
    assert value.item() == exact.item()
    value.backward()
    exact.backward()
    assert half.grad.dtype == dtype
    assert torch.equal(half.grad, full.grad.to(dtype))


@pytest.mark.parametrize("settings", [{}, {"rates": False}, {"margin": 1.0}, {"normalize": True}], ids=str)
def test_gradient_away_from_ties_is_that_of_differences(settings):
    scores = torch.randn(15, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    labels = torch.arange(15) % 3 == 0
    weight = torch.arange(15, dtype=torch.float64) / 7
    assert torch.autograd.gradcheck(lambda s: aum(s, labels, weight, **settings), (scores,))


def test_margin_is_the_lead_that_positives_must_have():
    scores, labels, weight = random_case(1)
    value, gradient = value_and_gradient(scores, labels, weight, margin=0.75)
    plain, same = value_and_gradient(scores - 0.75 * labels, labels, weight)
    assert value == plain
    np.testing.assert_array_equal(gradient, same)
    assert value_and_gradient([0.0, 1.0], [0, 1], margin=1.0)[0] == 0
    assert value_and_gradient([0.0, 1.0], [0, 1], margin=1.5)[0] == 0.5


def test_normalize_takes_the_spread_away():
    scores, labels, weight = random_case(2)
    value = value_and_gradient(scores, labels, weight, normalize=True)[0]
    mean = np.average(scores, weights=weight)
    spread = np.sqrt(np.average((scores - mean) ** 2, weights=weight))
    assert value == pytest.approx(value_and_gradient(scores / spread, labels, weight)[0], rel=1e-9)
    assert value_and_gradient(scores * 1000, labels, weight, normalize=True)[0] == pytest.approx(value, rel=1e-6)
    assert np.isfinite(value_and_gradient([0.0] * 4, [0, 1, 0, 1], normalize=True)[1]).all()


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.bool])
def test_shapes_and_kinds_of_targets(shape, kind):
    scores = torch.tensor([2.0, -3.5, -1.0, 1.5, 0.0, 0.0]).reshape(shape)
    labels = torch.tensor([0, 0, 1, 1, 0, 1])
    assert aum(scores, labels.to(kind)).item() == aum(scores.flatten(), labels).item()


def test_many_rows_lose_no_single_row():
    n = 200_000
    scores = torch.linspace(0, 1, n)
    labels = torch.zeros(n)
    labels[0] = 1  # the worst row is the only positive
    value = aum(scores, labels)
    assert value.item() == pytest.approx(0.5, abs=1e-4)


def test_counts_and_rates_are_what_area_under_min_gives():
    scores, labels, _ = random_case(5)
    s, y = torch.tensor(scores), torch.tensor(labels) > 0
    assert area_under_min(s, y, rates=False).item() == pytest.approx(
        float(exact_aum([Fraction(v) for v in scores], labels, [1] * len(scores), rates=False)), abs=1e-12
    )


# --- the two ways to find the threshold, and what it is


def many_rows(kind, n=30_000):
    rng = np.random.default_rng(3)
    scores = {
        "normal": rng.normal(size=n),
        "sorted": np.sort(rng.normal(size=n)),
        "few values": rng.integers(0, 3, n).astype(float),
        "constant": np.zeros(n),
        "heavy tails": rng.standard_cauchy(n) ** 3,
        "one far away": np.r_[1e6, rng.normal(size=n - 1)],
    }[kind]
    labels = rng.random(n) < 0.01
    return scores, np.roll(labels, 7), rng.integers(0, 3, n).astype(float)


@pytest.mark.parametrize("rates", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["normal", "sorted", "few values", "constant", "heavy tails", "one far away"])
def test_search_and_sort_find_the_same(kind, weighted, rates):
    scores, labels, weight = (torch.from_numpy(part) for part in many_rows(kind))
    w = weight if weighted else None
    found = value_and_slope(scores, labels, w, rates)
    expected = ranking.stacked_value_and_slope(scores, labels, w, rates)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-9, atol=1e-12)


def test_the_search_leaves_rows_out(monkeypatch):
    sorted_rows = []
    argsort = np.argsort
    monkeypatch.setattr(np, "argsort", lambda x, **k: sorted_rows.append(len(x)) or argsort(x, **k))
    scores, labels, _ = many_rows("normal", 200_000)
    value_and_slope(torch.from_numpy(scores), torch.from_numpy(labels), None, True)
    assert max(sorted_rows) <= ranking.SORT_BELOW


@pytest.mark.parametrize("rates", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_aum_is_the_hinge_without_margin_at_its_best_threshold(seed, rates):
    scores, labels, weight = random_case(seed)
    u = 1 / weight[labels == 0].sum() if rates else 1.0
    v = 1 / weight[labels == 1].sum() if rates else 1.0

    def hinge(b):
        fp = (weight * (labels == 0) * np.maximum(scores - b, 0)).sum() * u
        return fp + (weight * (labels == 1) * np.maximum(b - scores, 0)).sum() * v

    expected = min(hinge(b) for b in scores)
    assert value_and_gradient(scores, labels, weight, rates=rates)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_aum_is_convex_in_the_scores(seed):
    scores, labels, weight = random_case(seed)
    other = random_case(seed + 100)[0]
    value, gradient = value_and_gradient(scores, labels, weight)
    assert value_and_gradient(other, labels, weight)[0] >= value + gradient @ (other - scores) - 1e-12


def test_accelerators_count_in_integers(monkeypatch):
    """Deterministic CUDA has no cumulative sum of floats."""
    kinds = set()
    cumsum = torch.cumsum
    monkeypatch.setattr(torch, "cumsum", lambda x, d: kinds.add(x.dtype) or cumsum(x, d))
    scores, labels, weight = (torch.from_numpy(part) for part in random_case(1))
    for w in (None, weight):
        ranking.stacked_value_and_slope(scores, labels > 0, w, True)
    assert kinds == {torch.int64}


@pytest.mark.gpu
@pytest.mark.parametrize("weighted", [False, True])
def test_gpu_is_deterministic_and_like_the_cpu(weighted):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    scores, labels, weight = (torch.from_numpy(part) for part in many_rows("normal"))
    w = weight if weighted else None
    torch.use_deterministic_algorithms(True)
    try:
        leaf = scores.cuda().requires_grad_()
        value = aum(leaf, labels.cuda(), None if w is None else w.cuda())
        value.backward()
    finally:
        torch.use_deterministic_algorithms(False)
    expected, slope = value_and_slope(scores, labels, w, True)
    torch.testing.assert_close(value.detach().cpu(), expected)
    torch.testing.assert_close(leaf.grad.cpu(), slope)


def test_score_scale_is_the_weighted_standard_deviation():
    scores, _, weight = random_case(4)
    mean = np.average(scores, weights=weight)
    expected = np.sqrt(np.average((scores - mean) ** 2, weights=weight))
    assert score_scale(torch.tensor(scores), torch.tensor(weight)).item() == pytest.approx(expected, rel=1e-12)
    assert score_scale(torch.tensor(scores)[:, None]).item() == pytest.approx(scores.std(), rel=1e-12)
    assert score_scale(torch.ones(5)).item() == 0
    assert score_scale(torch.arange(3.0), torch.zeros(3)).item() == 0
    half = torch.arange(300).to(torch.bfloat16).requires_grad_()
    assert score_scale(half).dtype == torch.float32
    assert not score_scale(half).requires_grad
