import numpy as np
import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.batches.loader import Rows
from torchstrata.learner.job import check_gradient
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
