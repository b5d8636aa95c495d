"""Callbacks: which hooks there are, in which order, and the built-in ones."""

from __future__ import annotations

import logging
import math
import sys

import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.training.callbacks import HOOKS, Callback, GradientNorm, Hooks, Progress, TimeLimit
from torchstrata.training.state import TrainState


def make_state(**fields) -> TrainState:
    net = nn.Linear(2, 1)
    state = TrainState(net, torch.optim.SGD(net.parameters()), 5)
    for name, value in fields.items():
        setattr(state, name, value)
    return state


def named(name, log, weight=0.0):
    class Named(Callback):
        def on_epoch_end(self, state):
            log.append(name)

    made = Named()
    made.weight = weight
    return made


def test_order_is_weight_then_position():
    log = []
    hooks = Hooks([named("c", log, 2), named("a", log), named("d", log, 2), named("b", log), named("first", log, -1)])
    hooks.call("on_epoch_end", make_state())
    assert log == ["first", "a", "b", "c", "d"]


def test_only_written_hooks_are_called():
    hooks = Hooks([named("a", [])])
    assert [h for h in HOOKS if hooks.has(h)] == ["on_epoch_end"]
    assert not Hooks([]).has(*HOOKS)
    hooks.call("on_fit_begin", make_state())


def test_a_misspelt_hook_is_an_error_where_it_is_written():
    with pytest.raises(ConfigError, match=r"Wrong.on_epoch_ends is no hook. Did you mean 'on_epoch_end'"):

        class Wrong(Callback):
            def on_epoch_ends(self, state):
                pass


def test_what_is_no_callback_is_refused():
    class Loose:
        def on_batch_ends(self, state):
            pass

    class Duck:
        def on_batch_end(self, state):
            pass

    assert Hooks([Duck()]).has("on_batch_end")
    with pytest.raises(ConfigError, match=r"Loose.on_batch_ends is no hook. Did you mean 'on_batch_end'"):
        Hooks([Loose()])
    with pytest.raises(ConfigError, match=r"callbacks holds the class Duck; give an instance: Duck\(\)"):
        Hooks([Duck])
    with pytest.raises(ConfigError, match="has no hook; it needs one of"):
        Hooks([3])


def test_state_of_a_callback_comes_back():
    callback = Callback()
    assert callback.state_dict() == {}
    callback.load_state_dict({"seen": 3})
    assert callback.seen == 3


# --- Progress

ROW = {"epoch": 2, "train_loss": 0.51234567, "lr": 0.001, "seconds": 1.5}


def test_progress_logs_where_there_is_no_terminal(caplog, capsys):
    caplog.set_level(logging.INFO, "torchstrata")
    Progress().on_epoch_end(make_state(epoch=2, history=[ROW]))
    assert caplog.messages == ["epoch 2/5  train_loss 0.5123  lr 0.001  1.50 s"]
    assert capsys.readouterr().err == ""


def test_progress_prints_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    Progress().on_epoch_end(make_state(epoch=2, history=[ROW]))
    assert capsys.readouterr().err == "epoch 2/5  train_loss 0.5123  lr 0.001  1.50 s\n"


def test_progress_every_so_many_epochs_and_at_the_end(caplog):
    caplog.set_level(logging.INFO, "torchstrata")
    progress = Progress(every=2)
    for epoch in range(1, 6):
        progress.on_epoch_end(make_state(epoch=epoch, history=[{**ROW, "epoch": epoch}]))
    assert [m.split("/")[0] for m in caplog.messages] == ["epoch 2", "epoch 4", "epoch 5"]
    with pytest.raises(ConfigError, match="every must be an int >= 1, got 0"):
        Progress(0)


# --- TimeLimit


def test_time_limit_stops_after_its_time(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("torchstrata.training.callbacks.time.monotonic", lambda: clock[0])
    limit, state = TimeLimit(10), make_state()
    limit.on_fit_begin(state)
    clock[0] = 109.9
    limit.on_epoch_end(state)
    assert not state.stop
    clock[0] = 110.0
    limit.on_epoch_end(state)
    assert state.stop == "time limit of 10 s"


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_time_limit_must_be_positive(seconds):
    with pytest.raises(ConfigError, match="seconds must be positive"):
        TimeLimit(seconds)


# --- GradientNorm


def test_gradient_norm_is_the_mean_over_the_epoch():
    state, norm = make_state(history=[{"epoch": 1}]), GradientNorm()
    norm.on_epoch_begin(state)
    for scale in (1.0, 3.0):
        state.module.weight.grad = torch.tensor([[3.0, 0.0]]) * scale
        state.module.bias.grad = torch.tensor([4.0]) * scale
        norm.on_backward_end(state)
    norm.on_epoch_end(state)
    assert state.history[-1]["gradient_norm"] == pytest.approx(10.0)


def test_built_in_callbacks_are_public():
    assert ts.callbacks.TimeLimit is TimeLimit
    assert ts.Callback is Callback
