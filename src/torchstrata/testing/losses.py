"""The contract of a loss, as tests that any loss can be put through.

import pytest
from torchstrata.testing.losses import LossContract

class TestMyLoss(LossContract):
    @pytest.fixture
    def loss(self):
        return my_loss
"""

from __future__ import annotations

import copy
import pickle
import shutil
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

N = 12
Case = tuple[Tensor, Tensor, Tensor]
CLOSE: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-12}


def shapes_of(loss: Any, rows: int = N) -> list[tuple[int, ...]]:
    """Return the shapes of output that a loss must take.

    Parameters
    ----------
    loss : loss
        With ``traits``.
    rows : int
        Rows of a batch.

    Returns
    -------
    list of tuple of int
        With as many columns as its traits say.
    """
    columns: dict[str, list[tuple[int, ...]]] = {
        "logits": [(), (1,), (3,)],
        "one": [(), (1,)],
        "classes": [(3,)],
        "targets": [(), (1,), (2,)],
        "mean_and_variance": [(2,)],
    }
    return [(rows, *more) for more in columns[loss.traits.outputs]]


def make_case(loss: Any, shape: tuple[int, ...], seed: int = 0) -> Case:
    """Make a batch of random rows without ties.

    Parameters
    ----------
    loss : loss
        With ``traits``.
    shape : tuple of int
        Of the output.
    seed : int
        Of the numbers.

    Returns
    -------
    output, target, weight : Tensor
        Output in float64; a target that suits the traits, all classes there; whole weights 0..3 with some zeros.
    """
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(*shape, dtype=torch.float64, generator=generator)
    rows, classes = shape[0], _classes(loss, shape)
    if loss.traits.kind == "classification":
        target = torch.arange(rows) % classes
        target = target[torch.randperm(rows, generator=generator)]
    else:
        of_target = shape[:1] if loss.traits.outputs == "mean_and_variance" else shape
        target = torch.randn(*of_target, dtype=torch.float64, generator=generator)
        target = target.abs().mul(3).floor() if loss.traits.link == "log" else target
    weight = torch.randint(0, 4, (rows,), generator=generator).double()
    for label in range(classes):  # of every class a row without weight and two with
        some = torch.nonzero(target.flatten() == label).flatten()[:3] if classes else torch.arange(3)
        weight[some] = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)[: len(some)]
    return output, target, weight


def _classes(loss: Any, shape: tuple[int, ...]) -> int:
    several = len(shape) > 1 and shape[1] > 1
    return 0 if loss.traits.kind != "classification" else shape[1] if several else 2


def _gradient(loss: Any, output: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    leaf = output.detach().clone().requires_grad_()
    value = loss(leaf, *rest)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


class LossContract:
    """What every loss must do. Give it a fixture ``loss``; each test goes through all shapes of output.

    A loss is called as ``loss(output, target, sample_weight=None)`` and has ``traits``: what
    :func:`torchstrata.training.loss.resolve_loss` returns does.
    """

    @pytest.fixture
    def loss(self) -> Any:
        """Return the loss that is tested; to be overridden."""
        raise TypeError("give the class a pytest fixture `loss` that returns yours")

    @pytest.fixture
    def cases(self, loss: Any) -> list[Case]:
        """Return a batch of each shape."""
        return [make_case(loss, shape) for shape in shapes_of(loss)]

    def power_of_weights(self, loss: Any) -> int:
        """Return p where weights c times as large make the loss c**p times as large: 0 for means, 1 for sums."""
        return 0

    def test_scalar_with_a_gradient(self, loss: Any, cases: list[Case]) -> None:
        """A scalar that depends on the output, with and without weights."""
        for output, target, weight in cases:
            for w in (None, weight):
                value, gradient = _gradient(loss, output, target, w)
                assert value.shape == ()
                assert gradient.shape == output.shape
                assert gradient.abs().sum() > 0

    def test_row_of_weight_zero_is_absent(self, loss: Any, cases: list[Case]) -> None:
        """Neither value nor gradient knows such a row, whatever stands in it."""
        for output, target, weight in cases:
            kept = weight > 0
            value = loss(output[kept], target[kept], weight[kept])
            changed = output + 100 * (~kept).double().view(-1, *[1] * (output.ndim - 1))
            for given in (output, changed):
                found, gradient = _gradient(loss, given, target, weight)
                torch.testing.assert_close(found, value, **CLOSE)
                assert (gradient[~kept] == 0).all()

    def test_weight_k_is_k_rows(self, loss: Any, cases: list[Case]) -> None:
        """Whole weights repeat rows: value and gradient."""
        for output, target, weight in cases:
            times = weight.long()
            many, each = _gradient(loss, output.repeat_interleave(times, 0), target.repeat_interleave(times, 0))
            value, gradient = _gradient(loss, output, target, weight)
            torch.testing.assert_close(value, many, **CLOSE)
            rows = torch.arange(len(output)).repeat_interleave(times)
            torch.testing.assert_close(gradient, torch.zeros_like(output).index_add(0, rows, each), **CLOSE)

    def test_weights_of_one_are_none(self, loss: Any, cases: list[Case]) -> None:
        """Weights of one change nothing."""
        for output, target, weight in cases:
            torch.testing.assert_close(loss(output, target, torch.ones_like(weight)), loss(output, target), **CLOSE)

    def test_scale_of_weights(self, loss: Any, cases: list[Case]) -> None:
        """Only their proportions count, in a mean."""
        factor = 7 ** self.power_of_weights(loss)
        for output, target, weight in cases:
            expected = factor * loss(output, target, weight)
            torch.testing.assert_close(loss(output, target, 7 * weight), expected, **CLOSE)

    def test_order_of_rows_does_not_matter(self, loss: Any, cases: list[Case]) -> None:
        """A batch is a set: the value stays, the gradient goes with its row."""
        for output, target, weight in cases:
            order = torch.randperm(len(output), generator=torch.Generator().manual_seed(1))
            for w in (None, weight):
                value, gradient = _gradient(loss, output, target, w)
                permuted = _gradient(loss, output[order], target[order], None if w is None else w[order])
                torch.testing.assert_close(permuted[0], value, **CLOSE)
                torch.testing.assert_close(permuted[1], gradient[order], **CLOSE)

    def test_gradient_is_that_of_differences(self, loss: Any, cases: list[Case]) -> None:
        """In double precision, away from kinks."""
        for output, target, weight in cases:
            for w in (None, weight):
                leaf = output.clone().requires_grad_()
                assert torch.autograd.gradcheck(lambda o, t=target, w=w: loss(o, t, w), (leaf,))

    def test_shift_is_as_the_traits_say(self, loss: Any, cases: list[Case]) -> None:
        """A constant added to all outputs; several logits of a softmax may ignore it in any case."""
        for output, target, weight in cases:
            same = torch.allclose(loss(output + 3.0, target, weight), loss(output, target, weight), atol=1e-9)
            softmax = loss.traits.link == "logit" and output.ndim > 1 and output.shape[1] > 1
            assert same == (loss.traits.shift_invariant or softmax)

    def test_one_class_is_finite_and_as_the_traits_say(self, loss: Any, cases: list[Case]) -> None:
        """A batch of one class: finite, and without gradient where the traits say that both classes are needed."""
        if loss.traits.kind != "classification":
            return
        for output, target, weight in cases:
            for label in range(_classes(loss, tuple(output.shape))):
                for w in (None, weight):
                    value, gradient = _gradient(loss, output, torch.full_like(target, label), w)
                    assert torch.isfinite(value)
                    assert torch.isfinite(gradient).all()
                    if loss.traits.needs_both_classes:
                        assert value == 0
                        assert (gradient == 0).all()

    def test_all_weights_zero_give_zero(self, loss: Any, cases: list[Case]) -> None:
        """A batch that consists of padding teaches nothing."""
        for output, target, weight in cases:
            value, gradient = _gradient(loss, output, target, torch.zeros_like(weight))
            assert value == 0
            assert (gradient == 0).all()

    def test_weights_and_targets_of_other_types(self, loss: Any, cases: list[Case]) -> None:
        """Whole weights, and targets as floats, are taken."""
        for output, target, weight in cases:
            value = loss(output, target, weight)
            torch.testing.assert_close(loss(output, target, weight.long()), value, **CLOSE)
            narrow = loss(output.float(), target.float(), weight)
            assert narrow.dtype in (torch.float32, torch.float64)
            torch.testing.assert_close(narrow.double(), value, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_half_precision_is_finite(self, loss: Any, cases: list[Case], dtype: torch.dtype) -> None:
        """Outputs as autocast gives them: finite, close, with a gradient of their own type."""
        for output, target, weight in cases:
            half = output.to(dtype)
            value, gradient = _gradient(loss, half, target, weight.float())
            exact, _ = _gradient(loss, half.double(), target, weight)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()
            assert gradient.dtype == dtype
            torch.testing.assert_close(value.double(), exact, rtol=0.05, atol=0.02)

    def test_vmap_equals_a_loop(self, loss: Any, cases: list[Case]) -> None:
        """Values and gradients of several batches at once."""
        for output, *_ in cases:
            batches = [make_case(loss, tuple(output.shape), seed) for seed in range(3)]
            stacked = [torch.stack(part) for part in zip(*batches, strict=True)]
            values = torch.func.vmap(loss)(*stacked)
            gradients = torch.func.vmap(torch.func.grad(loss))(*stacked)
            for i, batch in enumerate(batches):
                value, gradient = _gradient(loss, *batch)
                torch.testing.assert_close(values[i], value, **CLOSE)
                torch.testing.assert_close(gradients[i], gradient, **CLOSE)

    def test_pickle_and_copies_are_equal(self, loss: Any, cases: list[Case]) -> None:
        """A loss is a value: copies are equal, hash equal and compute the same."""
        for twin in (pickle.loads(pickle.dumps(loss)), copy.copy(loss), copy.deepcopy(loss)):
            assert twin == loss
            assert hash(twin) == hash(loss)
            assert all(torch.equal(twin(*case), loss(*case)) for case in cases)

    def test_settings_come_back(self, loss: Any, cases: list[Case]) -> None:
        """A loss with the settings it names is the same loss."""
        if not hasattr(loss, "replace"):
            return
        twin = loss.replace(**loss.get_params())
        assert twin == loss
        assert twin.traits == loss.traits
        assert all(torch.equal(twin(*case), loss(*case)) for case in cases)

    @pytest.mark.slow
    def test_compiled_equals_eager(self, loss: Any, cases: list[Case]) -> None:
        """Compiled by torch.compile, value and gradient are the same; needs a C++ compiler."""
        if not any(shutil.which(name) for name in ("g++", "c++", "clang++")):
            pytest.skip("torch.compile needs a C++ compiler on the PATH")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own
            compiled = torch.compile(lambda *arguments: loss(*arguments))
            found = [_gradient(compiled, *case) for case in cases]
            torch.compiler.reset()
        for (value, gradient), case in zip(found, cases, strict=True):
            expected = _gradient(loss, *case)
            torch.testing.assert_close(value, expected[0], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(gradient, expected[1], rtol=1e-9, atol=1e-9)
