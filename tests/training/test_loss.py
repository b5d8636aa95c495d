"""What a loss says about itself, and what is accepted as one."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchstrata as ts
from torchstrata.errors import ConfigError, DataError
from torchstrata.training.loss import LOSSES, LossTraits, count_outputs, known_losses, loss, resolve_loss, weighted_mean

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(9, 3, generator=GENERATOR)
CLASSES = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1, 2])
WEIGHTS = torch.tensor([0.0, 1, 2, 1, 3, 0, 1, 1, 2])


# --- settings


def test_settings_by_call_make_another_loss():
    margin = ts.losses.aum(margin=1.0)
    assert repr(margin) == "aum(margin=1.0)"
    assert repr(ts.losses.aum) == "aum"
    assert margin.get_params() == {"rates": True, "margin": 1.0, "normalize": False}
    assert margin != ts.losses.aum
    assert margin(margin=0.0) == ts.losses.aum
    assert margin.traits is ts.losses.aum.traits
    output, target = torch.tensor([0.0, 1.0]), torch.tensor([0, 1])
    assert margin(output, target).item() == ts.losses.aum(output, target, margin=1.0).item()
    assert margin(output, target, margin=1.5).item() == 0.5  # settings at the call go before


def test_replace_and_unknown_settings():
    assert ts.losses.huber.replace(delta=2.0).get_params() == {"delta": 2.0}
    with pytest.raises(ConfigError, match=r"Invalid parameter 'magrin' for aum.*Did you mean 'margin'"):
        ts.losses.aum(magrin=1.0)


def test_a_loss_keeps_name_and_documentation():
    assert ts.losses.aum.__name__ == "aum"
    assert "Hillman" in ts.losses.aum.__doc__


def test_weighted_mean():
    values = torch.tensor([[1.0, 3.0], [5.0, 7.0], [100.0, 100.0]])
    assert weighted_mean(values, None).item() == pytest.approx(36.0)
    assert weighted_mean(values, torch.tensor([3.0, 1.0, 0.0])).item() == pytest.approx((3 * 2 + 6) / 4)
    assert weighted_mean(values[:, 0], torch.tensor([1, 1, 0])).item() == pytest.approx(3.0)


# --- what is accepted


@pytest.mark.parametrize("name", ["cross_entropy", "aum"])
def test_names_are_those_of_the_module(name):
    assert resolve_loss(name, "classification") is getattr(ts.losses, name)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ("amu", "classification", "unknown loss 'amu'. Did you mean 'aum'?"),
        (
            "mse",
            "classification",
            r"loss mse is for regression; for classification use one of \['cross",
        ),
        (ts.losses.aum(margin=1.0), "regression", r"loss aum\(margin=1.0\) is for classification; for regression use"),
        (nn.CrossEntropyLoss(), "regression", "loss CrossEntropyLoss is for classification"),
        (functools.partial(ts.losses.aum, margin=1.0), "regression", "is for classification"),
        (nn.MSELoss, "regression", r"loss is the class MSELoss; give an instance: MSELoss\(\)"),
        (3, "regression", "loss must be a name, a function or a torch module, got 3"),
        (None, "regression", "got None"),
    ],
)
def test_what_is_no_loss_is_refused(given, kind, message):
    with pytest.raises(ConfigError, match=message):
        resolve_loss(given, kind)


def test_partial_of_ours_keeps_its_traits():
    given = resolve_loss(functools.partial(ts.losses.aum, margin=1.0), "classification")
    assert given.traits is ts.losses.aum.traits
    output, target = torch.tensor([0.0, 1.5]), torch.tensor([1, 0])
    assert given(output, target).item() == ts.losses.aum(output, target, margin=1.0).item()


def test_a_registered_loss_is_known_by_name_and_survives_pickle():
    @loss(kind="regression", link="identity", outputs="targets")
    def fourth_power(output, target, sample_weight=None):
        return weighted_mean((output - target) ** 4, sample_weight)

    try:
        assert resolve_loss("fourth_power", "regression") is fourth_power
        assert fourth_power(torch.tensor([2.0]), torch.tensor([0.0])).item() == 16
    finally:
        del LOSSES["fourth_power"]
    assert "fourth_power" not in known_losses()


def test_plain_function_with_and_without_weights():
    without = resolve_loss(lambda output, target: (output - target).abs().mean(), "regression")
    assert without(torch.tensor([3.0]), torch.tensor([1.0])).item() == 2
    assert without.traits == LossTraits("regression", "identity", "targets")
    with pytest.raises(ConfigError, match="takes no weights of rows"):
        without(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([1.0]))
    with_weights = resolve_loss(lambda o, t, w=None: (w * (o - t)).sum(), "regression")
    assert with_weights(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([5.0])).item() == 10


# --- torch modules


def by_hand(values, weights):
    return (values * weights).sum() / weights.sum()


def test_cross_entropy_module_equals_torch():
    given = resolve_loss(nn.CrossEntropyLoss(label_smoothing=0.1), "classification")
    assert given(LOGITS, CLASSES) == F.cross_entropy(LOGITS, CLASSES, label_smoothing=0.1)
    each = F.cross_entropy(LOGITS, CLASSES, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(given(LOGITS, CLASSES, WEIGHTS), by_hand(each, WEIGHTS))
    assert count_outputs(given.traits, 2, 1) == 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_module_with_class_weights_treats_weight_k_as_k_rows(smoothing):
    module = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.0, 5.0]), label_smoothing=smoothing)
    given = resolve_loss(module, "classification")
    times = WEIGHTS.long()
    many = module(LOGITS.repeat_interleave(times, 0), CLASSES.repeat_interleave(times))
    torch.testing.assert_close(given(LOGITS, CLASSES, WEIGHTS), many)
    torch.testing.assert_close(given(LOGITS, CLASSES, torch.ones(9)), given(LOGITS, CLASSES))
    assert module.reduction == "mean"


def test_bce_module_equals_torch():
    module = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0]))
    given = resolve_loss(module, "classification")
    logits, labels = LOGITS[:, :1], CLASSES % 2
    assert given(logits, labels) == module(logits[:, 0], labels.float())
    times = WEIGHTS.long()
    many = module(logits[:, 0].repeat_interleave(times), labels.float().repeat_interleave(times))
    torch.testing.assert_close(given(logits, labels, WEIGHTS), many)


@pytest.mark.parametrize("module", [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(delta=0.2), nn.SmoothL1Loss()], ids=repr)
@pytest.mark.parametrize("columns", [1, 3])
def test_regression_modules_equal_torch(module, columns):
    given = resolve_loss(module, "regression")
    output, target = LOGITS[:, :columns], LOGITS.flip(0)[:, :columns]
    assert given(output, target) == module(output, target)
    if columns == 1:
        assert given(output, target.flatten()) == module(output, target)
    times = WEIGHTS.long()
    many = module(output.repeat_interleave(times, 0), target.repeat_interleave(times, 0))
    torch.testing.assert_close(given(output, target, WEIGHTS), many)


def test_sum_stays_a_sum():
    given = resolve_loss(nn.MSELoss(reduction="sum"), "regression")
    output, target = LOGITS, LOGITS.flip(0)
    times = WEIGHTS.long()
    many = F.mse_loss(output.repeat_interleave(times, 0), target.repeat_interleave(times, 0), reduction="sum")
    torch.testing.assert_close(given(output, target, WEIGHTS), many)
    assert given(output, target) == F.mse_loss(output, target, reduction="sum")


def test_other_torch_losses_of_classes_get_class_numbers():
    given = resolve_loss(nn.MultiMarginLoss(), "classification")
    assert given(LOGITS, CLASSES.float()) == F.multi_margin_loss(LOGITS, CLASSES)
    torch.testing.assert_close(
        given(LOGITS, CLASSES, WEIGHTS), by_hand(F.multi_margin_loss(LOGITS, CLASSES, reduction="none"), WEIGHTS)
    )


def test_a_module_of_the_user_is_called_as_a_function():
    class Mine(nn.Module):
        def forward(self, output, target):
            return (output - target).square().mean()

    given = resolve_loss(Mine(), "regression")
    assert given(torch.tensor([2.0]), torch.tensor([0.0])).item() == 4
    with pytest.raises(ConfigError, match="loss Mine takes no weights of rows"):
        given(torch.tensor([2.0]), torch.tensor([0.0]), torch.ones(1))


# --- outputs


@pytest.mark.parametrize(
    ("outputs", "n_classes", "n_targets", "expected"),
    [
        ("logits", 2, 1, 1),
        ("logits", 3, 1, 3),
        ("classes", 2, 1, 2),
        ("classes", 4, 1, 4),
        ("one", 2, 1, 1),
        ("targets", 0, 5, 5),
    ],
)
def test_number_of_outputs(outputs, n_classes, n_targets, expected):
    assert count_outputs(LossTraits(outputs=outputs), n_classes, n_targets) == expected


def test_a_loss_for_two_classes_refuses_three():
    with pytest.raises(DataError, match=r"for two classes; y has 3 classes. Use loss='cross_entropy'"):
        count_outputs(ts.losses.aum.traits, 3, 1)
