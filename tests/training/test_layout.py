"""Channels last: the same fit, and nobody sees it afterwards."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.training import engine, layout
from torchstrata.training.callbacks import Callback
from torchstrata.training.layout import channels_last, choose_layout, has_images, ordinary

RNG = np.random.default_rng(0)
Y = np.arange(40) % 2
BYTES = (RNG.integers(0, 120, (40, 3, 8, 8)) + 100 * Y[:, None, None, None]).astype(np.uint8)
FLOATS = (BYTES / 255).astype(np.float32)


class Small(nn.Module):
    """A small convolutional network; ``flat`` is how maps become rows."""

    def __init__(self, flat=lambda x: x.flatten(1), *, norm=False, groups=1, kind=nn.Conv2d, channels=3):
        super().__init__()
        torch.manual_seed(0)
        # a bias before a norm has a gradient of rounding noise, which AdamW blows up
        self.first = nn.Conv2d(channels, 8, 3, padding=1, bias=not norm)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.second, self.flat = kind(8, 8, 3, padding=1, groups=groups), flat
        self.head = nn.Linear(8 * 4 * 4, 1)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        return self.head(self.flat(nn.functional.max_pool2d(torch.relu(self.second(x)), 2)))


def fit(network, X=FLOATS, **settings):
    runtime = settings.pop("runtime", {})
    optimizer = functools.partial(torch.optim.SGD, lr=0.05)
    base = {"optimizer": optimizer, "max_epochs": 3, "batch_size": 16, "encoder": None, "random_state": 0}
    learner = ts.TorchClassifier(network, runtime=ts.Runtime("cpu", threads=1, **runtime), **{**base, **settings})
    return learner.fit(X, Y)


def decide(**runtime):
    return ts.Runtime("cpu", threads=1, **runtime).decide(parameters=10, batch_rows=10)


@pytest.fixture
def off(monkeypatch):
    """Turn channels last off for what runs within."""

    def fitted(*args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(engine, "has_images", lambda x: False)
            return fit(*args, **kwargs)

    return fitted


@pytest.mark.parametrize("X", [FLOATS, BYTES], ids=["floats", "bytes"])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_the_fit_is_that_of_the_ordinary_order(off, X, norm, optimizer):
    optimizer = getattr(ts.optim, optimizer)(lr=0.01)
    network = Small(norm=norm)
    last = fit(network, X, optimizer=optimizer)
    plain = off(network, X, optimizer=optimizer)
    assert last.runtime_.reasons["memory_format"][0] == "channels_last"
    assert "memory_format" not in plain.runtime_.reasons
    np.testing.assert_allclose(last.history_["train_loss"], plain.history_["train_loss"], atol=1e-5)
    np.testing.assert_allclose(last.decision_function(X), plain.decision_function(X), atol=1e-5)


def test_layers_see_channels_last_in_the_fit_and_nobody_after_it(tmp_path):
    seen = []

    class Spy(Small):
        def forward(self, x):
            if self.training:
                weight = self.second.weight
                seen.append([t.is_contiguous(memory_format=torch.channels_last) for t in (x, weight)])
                seen.append([t.is_contiguous() for t in (x, weight)])
            return super().forward(x)

    network = Spy()
    fitted = fit(network)
    assert seen == [[True, True], [False, False]] * 9
    assert all(w.is_contiguous() for w in (*fitted.network_.parameters(), *fitted.network_.buffers()))
    assert all(w.is_contiguous() for w in network.parameters())
    again = ts.load(fitted.save(tmp_path / "net"), network=Spy())
    np.testing.assert_array_equal(again.decision_function(FLOATS), fitted.decision_function(FLOATS))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_weights_are_ordinary_after_an_error_too(error):
    class Stop(Callback):
        def on_batch_end(self, state):
            self.module = state.module
            raise error("stop")

    stop = Stop()
    with pytest.raises(error):
        fit(Small(), callbacks=[stop])
    assert all(w.is_contiguous() for w in stop.module.parameters())


def test_early_stopping_brings_ordinary_weights_back():
    fitted = fit(Small(norm=True), valid=0.3, early_stopping=ts.EarlyStopping(patience=1), scoring="accuracy")
    assert all(w.is_contiguous() for w in fitted.network_.parameters())


@pytest.mark.parametrize(
    ("network", "runtime", "reason"),
    [
        (Small(lambda x: x.view(len(x), -1)), {}, "the network cannot compute it (view size is not compatible"),
        (Small(lambda x: x.as_strided((len(x), 128), (128, 1))), {}, "the network computes something else with it"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), {}, "the network has no convolutions"),
        (Small(groups=8), {}, "grouped and transposed convolutions are not quicker"),
        (Small(kind=nn.ConvTranspose2d), {}, "grouped and transposed convolutions are not quicker"),
        (Small(), {"precision": "float64"}, "not quicker in float64"),
    ],
    ids=["view", "strides", "no convolution", "groups", "transposed", "float64"],
)
def test_where_it_does_not_help_or_work_it_is_off_with_the_reason(off, network, runtime, reason):
    fitted, plain = fit(network, runtime=runtime), off(network, runtime=runtime)
    value, why = fitted.runtime_.reasons["memory_format"]
    assert value == "contiguous" and why.startswith(reason)
    np.testing.assert_array_equal(fitted.decision_function(FLOATS), plain.decision_function(FLOATS))


def test_tables_are_not_spoken_of():
    fitted = ts.TorchClassifier(max_epochs=1, runtime="cpu").fit(RNG.normal(size=(40, 3)), Y)
    assert "memory_format" not in fitted.runtime_.reasons


def test_the_trial_leaves_no_trace(off):
    calls = []

    class Count(Small):
        def forward(self, x):
            calls.append((self.training, len(x)))
            return super().forward(x)

    def noise(x, generator):
        return x + 0.1 * torch.randn(x.shape, generator=generator)

    fitted, plain = fit(Count(norm=True), augment=(noise,)), off(Small(norm=True), augment=(noise,))
    assert fitted.runtime_.reasons["memory_format"][0] == "channels_last"
    np.testing.assert_allclose(fitted.decision_function(FLOATS), plain.decision_function(FLOATS), atol=1e-5)
    assert sum(n for training, n in calls if training) == 3 * len(Y)


def test_compiled_images_are_filled_up_in_their_order(monkeypatch, off):
    strides = set()

    def stand_in(function, **options):
        def call(x, y, w):
            strides.add((tuple(x.shape), x.stride()))
            return function(x, y, w)

        return call

    monkeypatch.setattr(torch, "compile", stand_in)
    fast, plain = fit(Small(), runtime={"compile": True}), off(Small())
    assert strides == {((16, 3, 8, 8), (192, 1, 24, 3))}
    np.testing.assert_allclose(fast.decision_function(FLOATS), plain.decision_function(FLOATS), atol=1e-5)


def test_parts():
    images, table = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3)
    assert has_images({"a": table, "image": images}) and not has_images(table)
    moved = channels_last({"a": table, "image": images})
    assert moved["a"] is table and moved["image"].stride() == (48, 1, 12, 3)
    net, decisions = Small(), decide()
    given = copy.deepcopy(net.state_dict())
    assert choose_layout(net, decisions, lambda: torch.randn(2, 3, 8, 8))
    assert not net.first.weight.is_contiguous()
    ordinary(net)
    assert all(torch.equal(w, given[name]) and w.is_contiguous() for name, w in net.state_dict().items())
    deep = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv2d(2, 2, 3))
    layout._convert(deep, torch.channels_last)  # five dimensions are left alone
    assert deep[0].weight.is_contiguous() and not deep[1].weight.is_contiguous()
