import numpy as np
import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.batches.bytewise import Bytes
from torchstrata.batches.loader import Rows
from torchstrata.data.encode import Shapes
from torchstrata.learner.job import check_gradient, outputs_for, rows_to_show
from torchstrata.training.loss import resolve_loss

ROWS = Rows(torch.randn(10, 2), torch.arange(10.0) % 2, torch.ones(10))
EPOCH = np.arange(10), np.array([0, 5, 10])


def squared(output, target, sample_weight=None):
    return ((output.flatten() - target) ** 2).mean()


def test_a_trial_leaves_no_gradient_and_no_mode_behind():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    before = [b.clone() for b in module.buffers()]
    check_gradient(module, ROWS, resolve_loss(squared, "regression"), EPOCH, ours=False)
    assert all(p.grad is None for p in module.parameters()) and module.training
    assert all(torch.equal(a, b) for a, b in zip(before, module.buffers(), strict=True))


def test_the_trial_sees_the_first_batch():
    seen = []

    def watch(output, target, sample_weight=None):
        seen.append(len(output))
        return squared(output, target)

    check_gradient(nn.Linear(2, 1), ROWS, resolve_loss(watch, "regression"), EPOCH, ours=False)
    check_gradient(nn.Linear(2, 1), ROWS, resolve_loss(watch, "regression"), EPOCH, ours=True)
    assert seen == [5]


def test_nothing_trains():
    with pytest.raises(ts.ConfigError, match="no trainable parameters"):
        check_gradient(nn.Linear(2, 1).requires_grad_(False), ROWS, ts.losses.mse, EPOCH, ours=True)


def test_outputs_say_what_they_mean():
    cases = {("cross_entropy", 1): "logit", ("cross_entropy", 3): "softmax", ("aum", 1): "none"}
    for (name, n), link in cases.items():
        made = outputs_for(n, resolve_loss(name, "classification").traits)
        assert (made, made.link, made.bias) == (n, link, name != "aum")
    for name, link in {"mse": "identity", "poisson": "log"}.items():
        assert outputs_for(1, resolve_loss(name, "regression").traits).link == link


def test_a_blueprint_is_shown_the_rows_that_count():
    x, y = torch.arange(8.0).view(4, 2), np.arange(4)
    rows, target = rows_to_show(ts.RealMLP(), Shapes({"number": (2,)}), x, y, np.array([1.0, 0, 2, 0]))
    assert rows["number"].tolist() == [[0, 1], [4, 5]]
    assert target.tolist() == [0, 2]
    rows, target = rows_to_show(ts.MLP(), Shapes({"number": (2,)}), x, y, None)
    assert rows["number"] is x
    given = {"number": x, "category": x.long()}
    shapes = Shapes({"number": (2,), "category": (2,)})
    assert rows_to_show(ts.MLP(), shapes, given, y, np.ones(4))[0] == given


def test_rows_that_come_batch_by_batch_cannot_be_shown():
    images = Bytes(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.float32)
    assert rows_to_show(ts.MLP(), Shapes({"image": (1, 2, 2)}), images, np.arange(4), None) == (None, None)
    with pytest.raises(ts.ConfigError, match="takes its initial values from the training rows, and these come batch"):
        rows_to_show(ts.RealMLP(), Shapes({"image": (1, 2, 2)}), images, np.arange(4), None)
