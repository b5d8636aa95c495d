"""Heads: the weighted sum of the losses of all heads, each on its own outputs."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import torchstrata as ts
from torchstrata.training.loss import resolve_loss, with_class_counts

NUMBERS = np.empty(0)


def data(n=12):
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(n, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    codes = torch.arange(n) % 3
    target = torch.stack([torch.randn(n, generator=generator, dtype=torch.float64), codes, codes % 2], 1)
    return output, target, torch.rand(n, generator=generator, dtype=torch.float64)


@given(st.floats(0, 3), st.floats(0, 3), st.booleans())
def test_it_is_the_weighted_sum(first, second, weighted):
    heads = ts.Heads({"a": "mse", "b": "cross_entropy", "c": "cross_entropy"}, weights={"a": first, "b": second})
    loss = heads.bound_to([NUMBERS, np.array([4, 4, 4]), np.array([8, 4])])
    output, target, weight = data()
    w = weight if weighted else torch.ones_like(weight)
    each = [
        (output[:, 0] - target[:, 0]) ** 2,
        F.cross_entropy(output[:, 1:4], target[:, 1].long(), reduction="none"),
        F.binary_cross_entropy_with_logits(output[:, 4], target[:, 2], reduction="none"),
    ]
    wanted = sum(f * (w * e).sum() / w.sum() for f, e in zip((first, second, 1.0), each, strict=True))
    found = loss(output, target, weight if weighted else None)
    torch.testing.assert_close(found, wanted)
    slopes = [torch.autograd.grad(value, output, retain_graph=True)[0] for value in (found, wanted)]
    torch.testing.assert_close(*slopes)


def test_a_dict_is_one():
    heads = resolve_loss({"a": "mse", "b": torch.nn.CrossEntropyLoss(), "c": lambda output, target: output.mean()},
                         "regression")  # fmt: skip
    assert heads.traits.kind == "regression" and [t.kind for _, t in heads.traits.heads] == [
        "regression", "classification", "regression"]  # fmt: skip
    bound = with_class_counts(heads, [NUMBERS, np.array([3, 3]), NUMBERS])
    assert [(part.start, part.stop) for part in bound.parts] == [(0, 1), (1, 3), (3, 4)]  # torch's wants one a class
    with pytest.raises(ts.ConfigError, match="for regression; for classification"):
        resolve_loss({"a": "mse"}, "classification")


def test_class_counts_reach_the_heads_that_want_them():
    heads = ts.Heads({"a": "mse", "b": "logit_adjusted"})
    bound = heads.bound_to([NUMBERS, np.array([9.0, 1.0])])
    assert bound.parts[1].loss.get_params()["prior"] == (9.0, 1.0)


def test_settings_by_name():
    heads = ts.Heads({"a": "huber", "b": "cross_entropy"}, weights={"b": 2.0})
    assert heads.get_params()["a"] == "huber" and heads.get_params(deep=False).keys() == {"losses", "weights"}
    changed = heads.replace(a__delta=0.5, b=ts.losses.focal(gamma=1.0), weights={"a": 3.0})
    assert dict(changed.losses)["a"].get_params()["delta"] == 0.5 and changed.weights == (("a", 3.0),)
    assert changed.replace(b__gamma=4.0).get_params()["b__gamma"] == 4.0
    assert heads.replace(losses={"c": "mse"}, weights={}).losses == (("c", "mse"),)
    assert heads == pickle.loads(pickle.dumps(heads)) and hash(heads) == hash(heads.replace())
    assert eval(repr(heads), {"Heads": ts.Heads}) == heads
    with pytest.raises(ts.ConfigError, match="Invalid parameter 'd' for Heads"):
        heads.replace(d="mse")


@pytest.mark.parametrize(
    ("losses", "weights", "message"),
    [
        ({}, {}, "needs a loss for each column"),
        ({"a": "mes"}, {}, "head 'a': unknown loss 'mes'. Did you mean 'mse'"),
        ({"a": "aum"}, {}, "head 'a': 'aum' gives scores that are no probabilities"),
        ({"a": {"b": "mse"}}, {}, "holds heads itself"),
        ({"a": "mse"}, {"b": 1}, "weights names 'b'"),
        ({"a": "mse"}, {"a": -1.0}, "weight of 'a' must be a finite number >= 0, got -1.0"),
        ({"a__b": "mse"}, {}, "word without '__'"),
        ({"weights": "mse"}, {}, "no 'losses', got 'weights'"),
        ("mse", {}, "losses must be a dict"),
    ],
)
def test_what_cannot_be_is_refused(losses, weights, message):
    with pytest.raises(ts.ConfigError, match=message):
        ts.Heads(losses, weights=weights)
