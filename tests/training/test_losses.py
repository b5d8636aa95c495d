"""The contract of every loss in ts.losses, and what each one computes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import torchstrata as ts
from torchstrata.training.loss import LOSSES, Loss, known_losses
from torchstrata.training.losses import cross_entropy, huber, mae, mse

N = 12
SETTINGS = {
    "cross_entropy": [{}, {"label_smoothing": 0.2}],
    "huber": [{}, {"delta": 0.3}],
    "aum": [{}, {"rates": False}, {"margin": 0.5}, {"normalize": True}],
}


def shapes_of(loss: Loss) -> list[tuple[int, ...]]:
    by_outputs = {"logits": [(N,), (N, 1), (N, 3)], "one": [(N,), (N, 1)], "classes": [(N, 3)]}
    return by_outputs.get(loss.traits.outputs, [(N,), (N, 1), (N, 2)])


CASES = [
    pytest.param(loss(**settings) if settings else loss, shape, id=f"{loss(**settings)!r}-{'x'.join(map(str, shape))}")
    for name, loss in known_losses().items()
    for settings in SETTINGS.get(name, [{}])
    for shape in shapes_of(loss)
]


def make(loss, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(*shape, dtype=torch.float64, generator=generator)
    if loss.traits.kind == "regression":
        target = torch.randn(*shape, dtype=torch.float64, generator=generator)
    else:
        target = torch.randint(0, shape[1] if len(shape) > 1 and shape[1] > 1 else 2, (N,), generator=generator)
    weight = torch.randint(0, 4, (N,), generator=generator).double()
    weight[:3] = torch.tensor([0.0, 1.0, 2.0])
    return output, target, weight


@pytest.mark.parametrize(("loss", "shape"), CASES)
class TestContract:
    def test_scalar_with_a_gradient(self, loss, shape):
        output, target, weight = make(loss, shape)
        for w in (None, weight):
            value = loss(output.requires_grad_(), target, w)
            assert value.shape == ()
            (gradient,) = torch.autograd.grad(value, output)
            assert gradient.shape == output.shape
            assert gradient.abs().sum() > 0

    def test_row_of_weight_zero_is_absent(self, loss, shape):
        output, target, weight = make(loss, shape)
        kept = weight > 0
        value = loss(output[kept], target[kept], weight[kept])
        torch.testing.assert_close(loss(output, target, weight), value, rtol=1e-12, atol=1e-12)
        changed = output.clone()
        changed[~kept] += 100
        torch.testing.assert_close(loss(changed, target, weight), value, rtol=1e-12, atol=1e-12)
        (gradient,) = torch.autograd.grad(loss(output.requires_grad_(), target, weight), output)
        assert (gradient[~kept] == 0).all()

    def test_weight_k_is_k_rows(self, loss, shape):
        output, target, weight = make(loss, shape)
        times = weight.long()
        many = loss(output.repeat_interleave(times, 0), target.repeat_interleave(times, 0))
        torch.testing.assert_close(loss(output, target, weight), many, rtol=1e-12, atol=1e-12)

    def test_weights_of_one_are_none(self, loss, shape):
        output, target, _ = make(loss, shape)
        ones = loss(output, target, torch.ones(N, dtype=torch.float64))
        torch.testing.assert_close(ones, loss(output, target), rtol=1e-12, atol=1e-12)

    def test_scale_of_weights_does_not_matter(self, loss, shape):
        factor = 7 if loss.get_params().get("rates") is False else 1  # counts are sums of weights
        output, target, weight = make(loss, shape)
        expected = factor * loss(output, target, weight)
        torch.testing.assert_close(loss(output, target, 7 * weight), expected, rtol=1e-12, atol=0)

    def test_order_of_rows_does_not_matter(self, loss, shape):
        output, target, weight = make(loss, shape)
        order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
        permuted = loss(output[order], target[order], weight[order])
        torch.testing.assert_close(permuted, loss(output, target, weight), rtol=1e-12, atol=1e-12)

    def test_gradient_is_that_of_differences(self, loss, shape):
        output, target, weight = make(loss, shape)
        for w in (None, weight):
            assert torch.autograd.gradcheck(lambda o, w=w: loss(o, target, w), (output.requires_grad_(),))

    def test_shift_is_as_the_traits_say(self, loss, shape):
        output, target, weight = make(loss, shape)
        same = torch.allclose(loss(output + 3.0, target, weight), loss(output, target, weight), atol=1e-9)
        several = loss.traits.kind == "classification" and len(shape) > 1 and shape[1] > 1  # softmax ignores it too
        assert same == (loss.traits.shift_invariant or several)

    def test_all_weights_zero_give_zero(self, loss, shape):
        output, target, _ = make(loss, shape)
        value = loss(output.requires_grad_(), target, torch.zeros(N, dtype=torch.float64))
        (gradient,) = torch.autograd.grad(value, output)
        assert value.item() == 0
        assert (gradient == 0).all()

    def test_weights_of_another_type_are_taken(self, loss, shape):
        output, target, weight = make(loss, shape)
        reference = loss(output, target, weight)
        torch.testing.assert_close(loss(output, target, weight.long()), reference)
        assert loss(output.float(), target.float(), weight).dtype in (torch.float32, torch.float64)

    def test_vmap_equals_a_loop(self, loss, shape):
        cases = [make(loss, shape, seed) for seed in range(3)]
        stacked = [torch.stack(part) for part in zip(*cases, strict=True)]
        values = torch.func.vmap(loss)(*stacked)
        torch.testing.assert_close(values, torch.stack([loss(*case) for case in cases]), rtol=1e-12, atol=1e-12)

    def test_pickle_and_copies_are_equal(self, loss, shape):
        output, target, weight = make(loss, shape)
        for twin in (pickle.loads(pickle.dumps(loss)), copy.copy(loss), copy.deepcopy(loss)):
            assert twin == loss
            assert hash(twin) == hash(loss)
            assert twin(output, target, weight) == loss(output, target, weight)


def test_what_stands_in_the_module_is_what_is_known_by_name():
    assert all(getattr(ts.losses, name) is loss for name, loss in known_losses().items())
    assert set(LOSSES) >= {"cross_entropy", "mse", "mae", "huber", "aum"}


# --- values, each against its definition


def weighted(values, weight):
    return float(np.average(values, weights=weight))


def test_cross_entropy_of_one_logit():
    output, target, weight = make(cross_entropy, (N, 1))
    p = 1 / (1 + np.exp(-output.numpy()[:, 0]))
    y, w = target.numpy(), weight.numpy()
    rows = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert cross_entropy(output, target).item() == pytest.approx(rows.mean(), rel=1e-12)
    assert cross_entropy(output, target, weight).item() == pytest.approx(weighted(rows, w), rel=1e-12)


def test_cross_entropy_of_classes():
    output, target, weight = make(cross_entropy, (N, 3))
    rows = F.cross_entropy(output, target, reduction="none").numpy()
    assert cross_entropy(output, target).item() == F.cross_entropy(output, target).item()
    assert cross_entropy(output, target, weight).item() == pytest.approx(weighted(rows, weight.numpy()), rel=1e-12)


def test_label_smoothing_of_one_logit_is_that_of_two_classes():
    output, target, weight = make(cross_entropy, (N, 1))
    two = torch.cat([torch.zeros_like(output), output], 1)
    for w in (None, weight):
        one = cross_entropy(output, target, w, label_smoothing=0.3)
        assert one.item() == pytest.approx(cross_entropy(two, target, w, label_smoothing=0.3).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "rows"),
    [
        (mse, lambda r: r**2),
        (mae, np.abs),
        (huber(delta=0.7), lambda r: np.where(np.abs(r) < 0.7, r**2 / 2, 0.7 * (np.abs(r) - 0.35))),
    ],
    ids=["mse", "mae", "huber"],
)
@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 2)])
def test_regression_losses(loss, rows, shape):
    output, target, weight = make(loss, shape)
    each = rows((output - target).numpy()).reshape(N, -1).mean(1)
    assert loss(output, target).item() == pytest.approx(each.mean(), rel=1e-12)
    assert loss(output, target, weight).item() == pytest.approx(weighted(each, weight.numpy()), rel=1e-12)


def test_a_column_and_a_vector_are_the_same_target():
    output, target, _ = make(mse, (N, 1))
    assert mse(output, target.flatten()).item() == mse(output, target).item() == mse(output.flatten(), target).item()
    logits, labels, _ = make(cross_entropy, (N, 1))
    assert cross_entropy(logits, labels[:, None]).item() == cross_entropy(logits, labels).item()
