"""Every loss of ts.losses keeps the contract, and the contract finds losses that do not."""

from __future__ import annotations

import pytest
import torch

from torchstrata.testing.losses import LossContract, make_case, shapes_of
from torchstrata.training.loss import Loss, LossTraits, known_losses, weighted_mean

SETTINGS = {
    "cross_entropy": [{"label_smoothing": 0.2}],
    "huber": [{"delta": 0.3}],
    "quantile": [{"quantile": 0.9}],
    "gaussian_nll": [{"eps": 0.1}],
    "aum": [{"rates": False}, {"margin": 0.5}, {"normalize": True}],
    "pairwise_squared_hinge": [{"margin": 0.1}],
    "pairwise_logistic": [{"margin": 1.0}],
    "auc_margin": [{"margin": 0.2}],
    "focal": [{"gamma": 0.5}, {"gamma": 0.0}],
    "logit_adjusted": [{"tau": 0.5}],
    "ldam": [{"scale": 3.0, "max_margin": 1.0}],
}
ALL = [
    loss(**settings) if settings else loss
    for name, loss in known_losses().items()
    for settings in [{}, *SETTINGS.get(name, [])]
]


class TestOurs(LossContract):
    @pytest.fixture(params=ALL, ids=repr)
    def loss(self, request):
        return request.param

    def power_of_weights(self, loss):
        return 1 if loss.get_params().get("rates") is False else 0  # counts are sums of weights


def test_every_loss_is_put_through():
    assert {loss.__name__ for loss in ALL} == set(known_losses())
    assert set(SETTINGS) <= set(known_losses())


# --- the contract can fail


def plain_mean(output, target, sample_weight=None):
    return ((output - target) ** 2).mean()


def first_row(output, target, sample_weight=None):
    return ((output - target) ** 2).flatten()[0] + 0 * output.sum()


def no_shift(output, target, sample_weight=None):
    return weighted_mean((output - target) ** 2, sample_weight)


def wrong_gradient(output, target, sample_weight=None):
    return weighted_mean((output - target) ** 2, sample_weight).detach() + 0 * output.sum()


@pytest.mark.parametrize(
    ("function", "traits", "test"),
    [
        (plain_mean, {}, "test_row_of_weight_zero_is_absent"),
        (plain_mean, {}, "test_weight_k_is_k_rows"),
        (plain_mean, {}, "test_all_weights_zero_give_zero"),
        (first_row, {}, "test_order_of_rows_does_not_matter"),
        (no_shift, {"shift_invariant": True}, "test_shift_is_as_the_traits_say"),
        (wrong_gradient, {}, "test_gradient_is_that_of_differences"),
        (wrong_gradient, {}, "test_scalar_with_a_gradient"),
        (no_shift, {"kind": "classification", "outputs": "one", "needs_both_classes": True},
         "test_one_class_is_finite_and_as_the_traits_say"),
    ],
)  # fmt: skip
def test_the_contract_finds_what_is_wrong(function, traits, test):
    loss = Loss(function, LossTraits(**{"kind": "regression", "link": "identity", "outputs": "targets", **traits}))
    cases = [make_case(loss, shape) for shape in shapes_of(loss)[:1]]
    with pytest.raises((AssertionError, RuntimeError)):
        getattr(LossContract(), test)(loss, cases)


def test_cases_hold_every_class_with_and_without_weight():
    for loss in ALL:
        for shape in shapes_of(loss):
            output, target, weight = make_case(loss, shape)
            assert output.shape == shape and weight.shape == target.shape[:1] == shape[:1]
            if loss.traits.kind == "classification":
                for label in target.unique():
                    assert {0.0, 1.0, 2.0} <= set(weight[target == label].tolist())
    assert (make_case(known_losses()["poisson"], (12,))[1] >= 0).all()


def test_dtype_of_a_case():
    assert make_case(known_losses()["mse"], (12, 2))[0].dtype == torch.float64
