"""Losses for classes of unequal size against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.training.loss import LOSSES, resolve_loss, with_class_counts
from torchstrata.training.losses import class_balanced_weights, cross_entropy, focal, ldam, logit_adjusted

GENERATOR = torch.Generator().manual_seed(3)
LOGITS = torch.randn(20, 4, dtype=torch.float64, generator=GENERATOR)
CLASSES = torch.arange(20) % 7 % 4
ONE, BINARY = LOGITS[:, 0], (torch.arange(20) % 3 == 0).long()
WEIGHT = torch.arange(20, dtype=torch.float64) % 4
COUNTS = np.bincount(CLASSES.numpy(), minlength=4)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def two(one):
    return torch.stack([torch.zeros_like(one), one], 1)


@pytest.mark.parametrize("loss", [focal, logit_adjusted, ldam, focal(alpha=0.3, gamma=1.0), ldam(scale=5.0)], ids=repr)
def test_one_logit_is_two_classes_of_which_the_first_has_logit_zero(loss):
    torch.testing.assert_close(loss(ONE, BINARY, WEIGHT), loss(two(ONE), BINARY, WEIGHT), rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, (0.1, 0.2, 0.3, 0.4)])
def test_focal(gamma, alpha):
    p = softmax(LOGITS.numpy())[np.arange(20), CLASSES.numpy()]
    each = -((1 - p) ** gamma) * np.log(p) * (1 if alpha is None else np.array(alpha)[CLASSES.numpy()])
    expected = np.average(each, weights=WEIGHT.numpy())
    assert focal(LOGITS, CLASSES, WEIGHT, gamma=gamma, alpha=alpha).item() == pytest.approx(expected, rel=1e-12)


def test_focal_of_saturated_logits_is_finite():
    for gamma in (0.0, 0.5, 2.0):
        z = torch.tensor([200.0, -200.0, 1e4, -1e4], requires_grad=True)
        value = focal(z, torch.tensor([1, 1, 1, 1]), gamma=gamma)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(z.grad).all()
        assert value.item() == pytest.approx((200 + 1e4) / 4, rel=1e-6)


def test_without_its_idea_each_is_cross_entropy():
    plain = cross_entropy(LOGITS, CLASSES, WEIGHT)
    for loss in (focal(gamma=0.0), logit_adjusted(tau=0.0), ldam(max_margin=0.0), logit_adjusted(prior=(5, 5, 5, 5))):
        torch.testing.assert_close(loss(LOGITS, CLASSES, WEIGHT), plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_logit_adjusted(tau):
    given = np.array([50, 30, 15, 5]) / 100
    adjusted = LOGITS + tau * torch.from_numpy(np.log(given))
    expected = cross_entropy(adjusted, CLASSES, WEIGHT).item()
    for prior in (tuple(given), (50, 30, 15, 5)):
        assert logit_adjusted(LOGITS, CLASSES, WEIGHT, prior=prior, tau=tau).item() == pytest.approx(
            expected, rel=1e-12
        )
    of_batch = logit_adjusted(LOGITS, CLASSES, prior=tuple(COUNTS)).item()
    assert logit_adjusted(LOGITS, CLASSES).item() == pytest.approx(of_batch, rel=1e-12)


def test_logit_adjusted_takes_the_weighted_shares_of_the_batch():
    weighted = np.bincount(CLASSES.numpy(), WEIGHT.numpy(), minlength=4)
    expected = logit_adjusted(LOGITS, CLASSES, WEIGHT, prior=tuple(weighted))
    torch.testing.assert_close(logit_adjusted(LOGITS, CLASSES, WEIGHT), expected, rtol=1e-12, atol=0)


def test_ldam():
    n = np.array([1000.0, 100.0, 10.0, 1.0])
    margin = 0.5 * n**-0.25 / n.min() ** -0.25
    z = LOGITS.numpy().copy()
    z[np.arange(20), CLASSES.numpy()] -= margin[CLASSES.numpy()]
    each = -np.log(softmax(3 * z)[np.arange(20), CLASSES.numpy()])
    expected = np.average(each, weights=WEIGHT.numpy())
    assert ldam(LOGITS, CLASSES, WEIGHT, counts=tuple(n), scale=3.0).item() == pytest.approx(expected, rel=1e-12)
    of_batch = ldam(LOGITS, CLASSES, counts=tuple(COUNTS)).item()
    assert ldam(LOGITS, CLASSES).item() == pytest.approx(of_batch, rel=1e-12)


def test_class_balanced_weights():
    n, beta = np.array([5000, 200, 7]), 0.999
    effective = (1 - beta**n) / (1 - beta)
    expected = (1 / effective) * 3 / (1 / effective).sum()
    np.testing.assert_allclose(class_balanced_weights(n.tolist(), beta).numpy(), expected, rtol=1e-12)
    assert class_balanced_weights([9, 1], 0.0).tolist() == [1.0, 1.0]
    nearly = class_balanced_weights([900, 100], 1 - 1e-12)
    np.testing.assert_allclose(nearly.numpy(), [0.2, 1.8], rtol=1e-6)
    assert class_balanced_weights([10, 0, 10]).tolist() == [1.0, 0.0, 1.0]
    assert ts.losses.class_balanced_weights is class_balanced_weights


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_balanced_weights([1, 2], 1.0), r"beta must be in \[0, 1\), got 1.0"),
        (lambda: class_balanced_weights([1, -2]), "counts must be numbers of rows"),
        (lambda: class_balanced_weights([0, 0]), "counts must be numbers of rows"),
        (lambda: class_balanced_weights([1, math.nan]), "counts must be numbers of rows"),
        (lambda: focal(LOGITS, CLASSES, gamma=-1.0), "gamma must be 0 or greater, got -1.0"),
        (lambda: focal(LOGITS, CLASSES, alpha=0.3), "2 factors for 4 classes, got 0.3"),
        (lambda: logit_adjusted(LOGITS, CLASSES, prior=(1, 2)), "prior must be 4 numbers, one a class"),
        (lambda: ldam(ONE, BINARY, counts=(1, 2, 3)), "counts must be 2 numbers"),
        (lambda: ts.losses.quantile(ONE, ONE, quantile=90), r"in \(0, 1\), got 90; for the 90 % quantile write 0.9"),
    ],
)
def test_settings_that_cannot_work_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_a_learner_gives_class_counts_where_they_are_wanted():
    given = with_class_counts(logit_adjusted(tau=2.0), np.array([90, 10]))
    assert given == logit_adjusted(tau=2.0, prior=(90.0, 10.0))
    assert with_class_counts(ldam, [3, 4]).get_params()["counts"] == (3.0, 4.0)
    mine = logit_adjusted(prior=(0.5, 0.5))
    assert with_class_counts(mine, [90, 10]) is mine
    for other in (cross_entropy, resolve_loss(torch.nn.BCEWithLogitsLoss(), "classification")):
        assert with_class_counts(other, [90, 10]) is other
    wanting = {name for name, loss in LOSSES.items() if loss.traits.counts_setting}
    assert wanting == {"logit_adjusted", "ldam"}
    for name in wanting:
        assert LOSSES[name].get_params()[LOSSES[name].traits.counts_setting] is None
