"""Parameters that join later, with every optimizer that keeps a state for each."""

from __future__ import annotations

import numpy as np
import pytest

import torchstrata as ts

OPTIMIZERS = [
    ts.optim.SGD(lr=0.01, momentum=0.9),
    ts.optim.SGD(lr=0.01),
    ts.optim.AdamW(),
    ts.optim.RMSprop(momentum=0.5),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_frozen_layers_join_after_an_epoch(optimizer):
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    weights = []

    class Look(ts.Callback):
        def on_epoch_end(self, state):
            weights.append([p.detach().clone() for p in state.module.parameters()])

    ts.TorchClassifier(
        ts.MLP((4,)),
        optimizer=optimizer,
        trainable={0: "2.*", 1: "*"},
        max_epochs=3,
        random_state=0,
        callbacks=[Look()],
    ).fit(X, y)
    start = list(ts.TorchClassifier(ts.MLP((4,)), max_epochs=0, random_state=0).fit(X, y).network_.parameters())
    moved = [[bool((a != b).any()) for a, b in zip(now, start, strict=True)] for now in weights]
    assert moved == [[False, False, True, True], [True] * 4, [True] * 4]
