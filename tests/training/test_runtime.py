"""Where and how a fit runs, each decision with its reason; global state stays as it was."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.training import runtime
from torchstrata.training.runtime import ONE_THREAD_BELOW, SEED_STREAMS, Seeds, resolve_runtime


def decide(given=None, *, parameters=100, batch_rows=32):
    return (given or ts.Runtime("cpu")).decide(parameters=parameters, batch_rows=batch_rows)


def test_every_decision_has_a_reason():
    decisions = decide(ts.Runtime())
    assert set(decisions.reasons) == {"device", "threads", "precision", "compile"}
    assert all(why for _, why in decisions.reasons.values())
    shown = repr(decisions)
    assert all(f"{name}: {value} ({why})" in shown for name, (value, why) in decisions.reasons.items())


def test_small_steps_take_one_thread_and_large_ones_all(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert decide(parameters=ONE_THREAD_BELOW // 32 - 1).threads == 1
    assert decide(parameters=ONE_THREAD_BELOW // 32).threads == 4
    assert decide(ts.Runtime("cpu", threads=3)).threads == 3
    assert decide(ts.Runtime("cpu", threads=3)).reasons["threads"] == (3, "as given")


def global_state():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(), torch.get_num_threads()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("threads", [1, 2, None])
def test_active_leaves_global_state_as_it_was(threads, seed, fails):
    decisions = decide(ts.Runtime("cpu", threads=threads))
    before = global_state()
    try:
        with decisions.active(seed):
            assert torch.get_num_threads() == decisions.threads
            if seed is not None:
                torch.randn(10)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert global_state() == before


def test_active_seeds_dropout_alone():
    decisions = decide()
    draws = []
    for seed in (5, 5, 6):
        with decisions.active(seed):
            draws.append(torch.nn.functional.dropout(torch.ones(50)).tolist())
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_active_seeds_no_other_device(monkeypatch):
    def refuse(*args):
        raise AssertionError("generators of another device were seeded, which nobody puts back")

    monkeypatch.setattr(torch, "manual_seed", refuse)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    with decide().active(3):
        assert torch.initial_seed() == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "flaot32"}, "unknown precision 'flaot32'. Did you mean 'float32'"),
        ({"threads": 0}, "threads must be an int >= 1, got 0"),
        ({"threads": 1.5}, "threads must be an int"),
        ({"workers": -1}, "workers must be an int >= 0, got -1"),
        ({"accumulate": 0}, "accumulate must be an int >= 1, got 0"),
        ({"accumulate": True}, "accumulate must be an int >= 1, got True"),
        ({"clip_norm": 0.0}, "clip_norm must be a positive finite number or None, got 0.0"),
        ({"clip_norm": float("nan")}, "got nan"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        ts.Runtime(**settings)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cdua", "unknown device 'cdua'. Did you mean 'cuda'"),
        ("meta", "device 'meta' is not available"),
        (3.5, "unknown device 3.5"),
    ],
)
def test_devices_that_cannot_be_are_refused(device, message):
    with pytest.raises(ConfigError, match=message):
        decide(ts.Runtime(device))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"device 'cuda' is not available \(torch .*\); use 'cpu' or 'auto'"):
        decide(ts.Runtime("cuda"))


def test_auto_prefers_an_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    device, why = runtime._choose_device("auto")
    assert (device.type, why) == ("cuda", "auto: found a card")


def test_resolve():
    assert resolve_runtime("cpu") == ts.Runtime("cpu") == resolve_runtime(torch.device("cpu"))
    given = ts.Runtime(threads=2)
    assert resolve_runtime(given) is given
    with pytest.raises(ConfigError, match=r"runtime must be a device name or a ts.Runtime"):
        resolve_runtime(3)


@pytest.mark.parametrize("precision", runtime.PRECISIONS)
def test_precision_decides_types(precision):
    decisions = decide(ts.Runtime("cpu", precision=precision))
    net = nn.Linear(3, 2).to(decisions.dtype)
    with decisions.autocast():
        output = net(torch.zeros(1, 3, dtype=decisions.dtype))
    assert output.dtype == getattr(torch, precision)
    assert decisions.dtype == (torch.float64 if precision == "float64" else torch.float32)
    assert (decisions.scaler() is not None) == (precision == "float16")


@pytest.mark.parametrize("fails", [False, True])
def test_forked_puts_the_generators_back(fails):
    before = torch.get_rng_state()
    try:
        with decide().forked():
            torch.randn(3)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert torch.equal(torch.get_rng_state(), before)


def test_compile_is_off_and_promises_nothing():
    assert decide().reasons["compile"] == (False, "off by default: no gain for small networks on a CPU")
    assert decide(ts.Runtime("cpu", compile=True)).reasons["compile"] == (True, "as given")
    assert "20 to 60 seconds" in ts.Runtime.__doc__ and "MLPs gain nothing" in ts.Runtime.__doc__


# --- seeds


def test_seed_streams_differ_and_can_be_repeated():
    values = {(root, name): getattr(Seeds(root), name) for root in range(20) for name in SEED_STREAMS}
    assert len(set(values.values())) == len(values)
    assert values[3, "weights"] == Seeds(3).weights
    assert all(0 <= v < 2**32 for v in values.values())


def test_seeds_survive_pickle_and_refuse_unknown_streams():
    assert pickle.loads(pickle.dumps(Seeds(4))) == Seeds(4)
    with pytest.raises(AttributeError, match=r"no seed stream 'dropuot'. Did you mean 'dropout'"):
        Seeds(4).dropuot
