"""Losses of all pairs against their definition, and how they grow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from torchstrata.errors import NonFiniteError
from torchstrata.training import pairwise
from torchstrata.training.losses import pairwise_logistic, pairwise_squared_hinge

LOSSES = [pairwise_squared_hinge, pairwise_logistic]


@pytest.fixture(params=[0, 1 << 30], ids=["cells", "definition"], autouse=True)
def path(request, monkeypatch):
    monkeypatch.setattr(pairwise, "DEFINITION_BELOW", request.param)


def by_definition(loss, scores, labels, weight=None, *, margin):
    weight = torch.ones_like(scores) if weight is None else weight
    up = labels > 0.5
    z = margin - (scores[up][:, None] - scores[~up])
    each = z.clamp_min(0) ** 2 if loss is pairwise_squared_hinge else F.softplus(z, threshold=60)
    return (weight[up] @ each @ weight[~up]) / (weight[up].sum() * weight[~up].sum())


def random_case(n, scale, shift, seed=0, share=0.3):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, dtype=torch.float64, generator=generator) * scale + shift
    labels = (torch.rand(n, generator=generator) < share).double()
    labels[:2] = torch.tensor([0.0, 1.0])
    weight = torch.randint(0, 4, (n,), generator=generator).double()
    weight[:2] = 1
    return scores, labels, weight


def value_and_gradient(function, scores, *rest, **settings):
    leaf = scores.clone().requires_grad_()
    value = function(leaf, *rest, **settings)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("margin", [0.0, 1.0, 37.5])
@pytest.mark.parametrize(
    ("scale", "shift"),
    [(1, 0), (0.001, 0), (0, 5), (20, 0), (20, -3e4), (1e3, 0), (1e5, 0), (1e16, 0)],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient_are_those_of_the_definition(loss, margin, scale, shift, weighted):
    scores, labels, weight = random_case(300, scale, shift)
    w = weight if weighted else None
    value, gradient = value_and_gradient(loss, scores, labels, w, margin=margin)
    expected, of_it = value_and_gradient(lambda *a, **k: by_definition(loss, *a, **k), scores, labels, w, margin=margin)
    # a shift of the scores leaves the definition itself fewer digits
    digits = 1e-12 + 1e-16 * abs(shift) / max(scale, 1)
    torch.testing.assert_close(value, expected, rtol=digits, atol=1e-13)
    assert (gradient - of_it).abs().max() <= digits * max(float(of_it.abs().max()), 1e-3)
    assert abs(gradient.sum()) <= 1e-12 * float(gradient.abs().sum()) + 1e-15


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_ties_and_scores_on_the_edges_of_cells(loss):
    scores = torch.arange(-50, 50, dtype=torch.float64).repeat(2)
    labels = (torch.arange(200) % 7 < 3).double()
    value, gradient = value_and_gradient(loss, scores, labels, margin=1.0)
    expected, of_it = value_and_gradient(lambda *a, **k: by_definition(loss, *a, **k), scores, labels, margin=1.0)
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient, of_it, rtol=0, atol=1e-13 * float(of_it.abs().max()))


def test_every_distance_of_cells_and_beyond():
    """One pair at a time: near, at the last cell in reach, and out of reach on both sides."""
    for z in np.r_[np.linspace(-45, 45, 181), -1e3, 1e3]:
        scores = torch.tensor([0.0, float(-z)], dtype=torch.float64)  # the positive stands z below the negative
        value, gradient = value_and_gradient(pairwise_logistic, scores, torch.tensor([0, 1]))
        assert value.item() == pytest.approx(np.logaddexp(0, z), rel=1e-13, abs=1e-14)
        assert gradient[0].item() == pytest.approx(1 / (1 + math.exp(-z)) if z > -700 else 0.0, abs=1e-14)


def test_degree_is_enough_everywhere():
    """The bound of the docstring, measured: the worst of all places within cells."""
    place = torch.linspace(0, 1, 41, dtype=torch.float64)
    cell = torch.zeros(1, dtype=torch.float64)
    polynomials = pairwise._polynomials(place, cell, torch.zeros(41, dtype=torch.int64))
    for distance in range(-pairwise.REACH, pairwise.REACH + 1):
        soft, share = pairwise._kernels(distance, torch.float64, torch.device("cpu"))
        z = distance + place - place[:, None]
        assert (polynomials @ share @ polynomials.t() - torch.sigmoid(z)).abs().max() < 2e-14
        off = (polynomials @ soft @ polynomials.t() - F.softplus(z, threshold=60)).abs().max()
        assert off < 2e-14 * (1 + abs(distance))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_sums_are_wide_whatever_the_input(loss, dtype):
    scores, labels, weight = random_case(400, 1, 0)
    scores = scores.to(dtype)
    value, gradient = value_and_gradient(loss, scores, labels, weight)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    margin = loss.get_params()["margin"]
    expected = by_definition(loss, scores.double(), labels, weight, margin=margin)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("labels", [[0, 1, 1], [1, 1, 1]])
def test_scores_that_are_not_finite_raise(loss, bad, labels):
    with pytest.raises(NonFiniteError, match=rf"row 1 of the batch .*: {loss.__name__} got a score that is NaN or inf"):
        loss(torch.tensor([0.5, bad, 2.0]), torch.tensor(labels))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_two_hundred_thousand_rows_against_a_sample_of_rows(loss):
    """Far too many pairs for the definition; the gradient of some rows is looked at alone."""
    scores, labels, _ = random_case(200_000, 3, 0, share=0.05)
    _, gradient = value_and_gradient(loss, scores, labels, margin=1.0)
    up = labels > 0.5
    for row in (0, 1, 17, 4242):
        sign = -1 if up[row] else 1
        z = 1.0 + sign * (scores[row] - scores[up != up[row]])
        each = 2 * z.clamp_min(0) if loss is pairwise_squared_hinge else torch.sigmoid(z)
        expected = sign * each.mean() / (up == up[row]).sum()
        assert gradient[row].item() == pytest.approx(expected.item(), rel=1e-11)
