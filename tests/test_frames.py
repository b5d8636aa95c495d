"""At most three of our own frames lie between ``fit`` and ``loss.backward()``, ``fit`` itself included."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import torchstrata as ts

SOURCES = str(Path(ts.__file__).parent)


class Own(torch.nn.Module):
    """A network that is trained by autograd: plain stacks of layers may be written out instead."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.layer(x) + 0.1 * self.layer(x * x)


@pytest.mark.parametrize("learner", [ts.TorchClassifier, ts.TorchRegressor])
@pytest.mark.parametrize("settings", [{}, {"valid": 0.3, "scoring": "r2", "callbacks": (ts.callbacks.GradientNorm(),)}])
def test_three_frames_from_fit_to_backward(monkeypatch, learner, settings):
    if learner is ts.TorchClassifier and settings:
        settings = {**settings, "scoring": "accuracy"}
    stacks = []
    backward = torch.Tensor.backward

    def spy(self, *args, **kwargs):
        frame, own = sys._getframe(1), []
        while frame is not None:
            if frame.f_code.co_filename.startswith(SOURCES):
                own.append(frame.f_code.co_name)
            frame = frame.f_back
        stacks.append(own)
        return backward(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", spy)
    X = np.random.default_rng(0).normal(size=(40, 3))
    learner(Own(), max_epochs=1, runtime="cpu", **settings).fit(X, (X[:, 0] > 0).astype(int))
    assert stacks, "no backward was seen"
    for own in stacks:
        assert own[-1] == "fit"
        assert len(own) <= 3, own
