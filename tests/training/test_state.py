"""Early stopping, the best weights, and copies of weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.training.state import BestSoFar, copy_weights, weights_of, write_weights


def follow(scores, *, sign=1, **settings):
    """Epoch of the best, its score, and after which evaluation it stopped (None: never)."""
    best, net = BestSoFar(ts.EarlyStopping(**settings), sign), nn.Linear(1, 1)
    for epoch, score in enumerate(scores, 1):
        if best.update(epoch, score, net):
            return best.epoch, best.score, epoch
    return best.epoch, best.score, None


def test_patience_counts_evaluations_without_improvement():
    assert follow([0.5, 0.4, 0.6, 0.6, 0.5, 0.9], patience=2) == (3, 0.6, 5)
    assert follow([0.5, 0.4, 0.6, 0.6, 0.5, 0.9], patience=3) == (6, 0.9, None)


def test_the_direction_is_that_of_the_measure():
    assert follow([0.5, 0.4, 0.6, 0.7, 0.8], sign=-1, patience=3) == (2, 0.4, 5)


def test_an_improvement_must_exceed_min_delta_strictly():
    assert follow([1.0, 1.5, 2.0, 2.5], patience=9, min_delta=0.5) == (3, 2.0, None)
    assert follow([1.0, 1.0, 1.0], patience=2) == (1, 1.0, 3)
    assert follow([2.0, 1.5, 0.75], sign=-1, patience=9, min_delta=0.5) == (3, 0.75, None)


def test_nan_and_infinity_are_never_the_reference():
    nan, inf = math.nan, math.inf
    assert follow([nan, inf, -inf, 0.5, nan, 0.6, inf], patience=9) == (6, 0.6, None)
    epoch, score, stopped = follow([nan, nan, nan], patience=3)
    assert (epoch, stopped) == (0, 3)
    assert math.isnan(score)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan]), min_size=1, max_size=30), st.integers(1, 5))
def test_against_the_definition(scores, patience):
    best, since, expected = None, 0, None
    for epoch, score in enumerate(scores, 1):
        if not math.isnan(score) and (best is None or score > scores[best - 1]):
            best, since = epoch, 0
        else:
            since += 1
        if since == patience:
            expected = epoch
            break
    epoch, _, stopped = follow(scores, patience=patience)
    assert (epoch, stopped) == (best or 0, expected)


@pytest.mark.parametrize("restore", [True, False])
def test_weights_of_the_best_are_kept_exactly(restore):
    net = nn.BatchNorm1d(3)
    best = BestSoFar(ts.EarlyStopping(5, restore_best=restore), 1)
    states = []
    for epoch, score in enumerate([0.1, 0.7, 0.3], 1):
        with torch.no_grad():
            net.weight.add_(epoch)
        net(torch.randn(4, 3))
        states.append(copy_weights(net))
        best.update(epoch, score, net)
    if not restore:
        assert best.weights is None
        return
    assert all(torch.equal(a, b) for a, b in zip(best.weights, states[1], strict=True))


def test_without_settings_the_best_is_followed_and_nothing_stops():
    best = BestSoFar(None, -1)
    assert [best.update(e, s, nn.Linear(1, 1)) for e, s in enumerate([3.0, 1.0, 2.0], 1)] == [False] * 3
    assert (best.epoch, best.score, best.weights) == (2, 1.0, None)


def test_copies_hold_parameters_and_buffers_and_come_back():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    kept = copy_weights(net)
    assert len(kept) == 4 + 3
    with torch.no_grad():
        for w in weights_of(net):
            w.add_(1)
    assert not any(torch.equal(a, b) for a, b in zip(kept, weights_of(net), strict=True))
    again = copy_weights(net, kept)
    assert again is kept
    assert all(torch.equal(a, b) for a, b in zip(kept, weights_of(net), strict=True))
    write_weights(weights_of(net), [torch.zeros_like(w) for w in kept])
    assert all((w == 0).all() for w in weights_of(net))
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 0}, "patience must be an int >= 1, got 0"),
        ({"patience": 2.5}, "got 2.5"),
        ({"patience": True}, "got True"),
        ({"min_delta": -0.1}, "min_delta must be a number >= 0, got -0.1"),
        ({"min_delta": math.nan}, "got nan"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        ts.EarlyStopping(**settings)


def test_patience_may_come_from_numpy():
    assert ts.EarlyStopping(np.int64(3)) == ts.EarlyStopping(3)
