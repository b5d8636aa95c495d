"""The scale of a target: learnt from the rows that count, for losses that may see another unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchstrata as ts
from torchstrata.learner.many import fit_many
from torchstrata.learner.numbers import learn_numbers
from torchstrata.training.loss import resolve_loss

RNG = np.random.default_rng(0)
Y = 1000 + 50 * RNG.normal(size=(80, 2))


def own(output, target, sample_weight=None):
    return (output.flatten() - target).square().mean()


@pytest.mark.parametrize("loss", ["mse", "huber", torch.nn.L1Loss()])
def test_losses_that_know_their_unit_see_standardised_numbers(loss):
    learnt = learn_numbers(Y, None, resolve_loss(loss, "regression"))
    encoded = learnt.encode(Y)
    np.testing.assert_allclose([encoded.mean(0), encoded.std(0)], [[0, 0], [1, 1]], atol=1e-12)
    np.testing.assert_allclose(learnt.decode(torch.from_numpy(encoded)), Y)


def test_rows_of_weight_zero_are_absent():
    weight = np.arange(80) % 2.0
    some = learn_numbers(Y[weight > 0], None, resolve_loss("mse", "regression"))
    for name in ("center", "scale"):
        np.testing.assert_allclose(
            getattr(learn_numbers(Y, weight, resolve_loss("mse", "regression")), name), getattr(some, name)
        )


def test_a_loss_of_your_own_and_counts_see_the_target_itself():
    for loss in (own, "poisson"):
        learnt = learn_numbers(Y, None, resolve_loss(loss, "regression"))
        np.testing.assert_array_equal(learnt.encode(Y), Y)
    assert learnt.decode(torch.zeros(3, 2)).tolist() == [[1.0, 1.0]] * 3
    with pytest.raises(ts.DataError, match="y must be >= 0"):
        learn_numbers(-Y, None, resolve_loss("poisson", "regression"))


def test_a_constant_target_is_predicted():
    with pytest.warns(UserWarning, match="y is constant"):
        learnt = learn_numbers(np.full(5, 3.0), None, resolve_loss("mse", "regression"))
    assert learnt.decode(torch.randn(4, 1)).tolist() == [3.0] * 4


def test_fits_on_the_same_rows_share_no_scale_that_differs():
    X = RNG.normal(size=(80, 3))
    learners = [ts.TorchRegressor(ts.Linear(), loss=loss, max_epochs=1, random_state=0) for loss in ("mse", own)]
    made = fit_many(learners, [{"X": X, "y": Y[:, 0]}] * 2)
    assert [float(done.learner._target.center) for done in made] == [pytest.approx(Y[:, 0].mean()), 0.0]
