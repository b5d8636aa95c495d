"""Compiled steps: one shape, the same results, and a fit that goes on where no compiler works.

torch.compile itself takes 20 to 60 seconds on a CPU, so most tests put a stand-in in its place.
"""

from __future__ import annotations

import copy
import functools
import os
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.batches.loader import Rows
from torchstrata.batches.samplers import plan_batches
from torchstrata.errors import ConfigError
from torchstrata.network.dropout import Dropout
from torchstrata.training import compiled
from torchstrata.training.callbacks import Callback
from torchstrata.training.compiled import Filled, fill, fill_weight
from torchstrata.training.engine import Evaluation, train
from torchstrata.training.loss import resolve_loss
from torchstrata.training.runtime import Seeds

N, P = 47, 3  # batches of 10, 10, 10, 10 and 7 rows


def make_rows(*, weights=False, n=N, dtype=torch.float32) -> Rows:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, P, generator=generator).to(dtype)
    y = (x[:, 0] + 0.5 * torch.randn(n, generator=generator) > 0).to(dtype)
    return Rows(x, y, torch.randint(0, 4, (n,), generator=generator).to(dtype) if weights else None)


def make_net(*, n_outputs=1, **settings) -> nn.Module:
    torch.manual_seed(0)
    return ts.MLP((5,), **settings)({"number": (P,)}, n_outputs)


def fit(net, rows=None, *, on=True, runtime=None, batch_size=10, sampler=None, **settings):
    rows = make_rows() if rows is None else rows
    runtime = (runtime or ts.Runtime("cpu", threads=1)).replace(compile=on)
    decisions = runtime.decide(parameters=50, batch_rows=batch_size)
    # what is not written out anyway, so that the uncompiled fit goes through autograd too
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    defaults = {"loss": ts.losses.cross_entropy, "optimizer": optimizer, "max_epochs": 3}
    plan = plan_batches(sampler or ts.RandomBatchSampler(batch_size), len(rows), rows.y.numpy())
    with decisions.active(5):
        state = train(net, rows, plan=plan, decisions=decisions, seeds=Seeds(7), **{**defaults, **settings})
    return state, decisions


def flat(net) -> torch.Tensor:
    return torch.cat([w.detach().flatten().double() for w in (*net.parameters(), *net.buffers())])


class StandIn:
    """In the place of torch.compile: remembers what it was given, and what its function is called with."""

    def __init__(self):
        self.options, self.calls = [], []

    def __call__(self, function, **options):
        self.options.append(options)

        def call(x, y, w):
            self.calls.append((x, y, w))
            return function(x, y, w)

        return call


@pytest.fixture
def stand_in(monkeypatch):
    made = StandIn()
    monkeypatch.setattr(torch, "compile", made)
    return made


def both(net, rows=None, **settings):
    """Fit twice, uncompiled and compiled; return networks, states and the reason."""
    nets = [net, copy.deepcopy(net)]
    plain, _ = fit(nets[0], rows, on=False, **settings)
    fast, decisions = fit(nets[1], rows, **settings)
    return nets, [plain, fast], decisions.reasons["compile"]


def check_same(nets, states, tolerance=1e-6):
    torch.testing.assert_close(flat(nets[0]), flat(nets[1]), rtol=0, atol=tolerance)
    a, b = ([{k: v for k, v in row.items() if k != "seconds"} for row in s.history] for s in states)
    for one, other in zip(a, b, strict=True):
        assert one == pytest.approx(other, abs=tolerance)


# --- filled up


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "aum", "pairwise_squared_hinge"])
def test_every_batch_has_one_shape_and_the_fit_is_the_same(stand_in, loss, weights):
    loss = resolve_loss(loss, "regression" if loss == "mse" else "classification")
    nets, states, (on, why) = both(make_net(), make_rows(weights=weights), loss=loss)
    check_same(nets, states)
    assert on and "the first call took" in why and "every batch has 10 rows, smaller ones are filled up" in why
    assert stand_in.options == [{"dynamic": False}]
    assert {(tuple(x.shape), tuple(y.shape), tuple(w.shape)) for x, y, w in stand_in.calls} == {((10, P), (10,), (10,))}
    assert len(stand_in.calls) == 1 + 3 * 5  # the trial, and a call a step


def test_rows_that_fill_up_have_weight_zero_and_are_copies(stand_in):
    rows = make_rows(weights=True)
    rows = Rows(rows.x, rows.y, rows.weight + 1)
    fit(make_net(), rows, max_epochs=1)
    x, y, w = stand_in.calls[-1]
    assert w[:7].gt(0).all() and w[7:].eq(0).all()
    assert torch.equal(x[7:], x[6:7].expand(3, P)) and torch.equal(y[7:], y[6:7].expand(3))
    full = stand_in.calls[1]
    assert full[2].gt(0).all()


def test_equal_batches_need_no_weights_and_are_bitwise_the_same(stand_in):
    nets, states, (_, why) = both(make_net(), make_rows(n=40))
    check_same(nets, states, 0)
    assert all(w is None for *_, w in stand_in.calls)
    assert "every batch has 10 rows" in why and "filled" not in why


def test_several_classes_and_dicts_of_inputs(stand_in):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.levels = nn.Linear(P, 3), nn.Embedding(4, 3)

        def forward(self, x):
            return self.a(x["number"]) + self.levels(x["category"])

    rows = make_rows()
    levels = torch.arange(N) % 4
    nets, states, _ = both(Two(), Rows({"number": rows.x, "category": levels}, torch.arange(N) % 3))
    check_same(nets, states)
    assert {len(x["category"]) for x, *_ in stand_in.calls} == {10}


def test_kept_outputs_are_those_of_real_rows(stand_in):
    seen = []

    def measure(output, split, order):
        seen.append((split, tuple(output.shape), order is not None and len(order)))
        return {"mean": float(output.mean())}

    class Look(Callback):
        def on_batch_end(self, state):
            assert len(state.output) == len(state.target) == len(state.rows)

    evaluation = Evaluation(measure, first="mean", valid=make_rows(n=9), train_scores=True)
    nets, states, _ = both(make_net(), evaluation=evaluation, callbacks=[Look()], max_epochs=2)
    check_same(nets, states)
    assert seen == [("train", (N, 1), N), ("valid", (9, 1), False)] * 4


@pytest.mark.parametrize("settings", [{"accumulate": 2}, {"clip_norm": 0.1}, {"precision": "bfloat16"}], ids=str)
def test_with_what_a_step_also_does(stand_in, settings):
    nets, states, _ = both(make_net(), make_rows(weights=True), runtime=ts.Runtime("cpu", threads=1, **settings))
    # bfloat16 rounds other sums of a larger batch another way
    check_same(nets, states, 1e-2 if "precision" in settings else 1e-6)


def test_lbfgs_and_line_search_look_again_at_real_rows(stand_in):
    double = {"runtime": ts.Runtime("cpu", threads=1, precision="float64")}  # a search in it blows up what is rounded
    optimizer = ts.optim.LBFGS(lr=0.02, max_iter=3)
    nets, states, _ = both(make_net().double(), make_rows(dtype=torch.float64), optimizer=optimizer, **double)
    check_same(nets, states)
    torch.manual_seed(0)
    linear = nn.Linear(P, 1, bias=False)
    nets, states, _ = both(linear, loss=ts.losses.aum, optimizer=ts.optim.AUMLineSearch(), batch_size=30)
    check_same(nets, states, 1e-5)


def test_augmentations_see_real_rows_and_their_stream_is_as_without(stand_in):
    sizes = []

    def noise(x, generator):
        sizes.append(len(x))
        return x + torch.randn(x.shape, generator=generator)

    nets, states, _ = both(make_net(), augment=[noise], max_epochs=2)
    check_same(nets, states)
    assert set(sizes) == {10, 7}
    assert {len(x) for x, *_ in stand_in.calls} == {10}


def test_streamed_rows_are_filled_up_too(stand_in):
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(47, P)).astype(np.float32), rng.integers(1, 4, 47).astype(float)
    y = (X[:, 0] > 0).astype(int)
    losses = []
    for on in (True, False):
        runtime = ts.Runtime("cpu", threads=1, compile=on, loading="streamed")
        made = ts.TorchClassifier(
            ts.MLP((5,)), encoder=None, batch_size=10, max_epochs=2, runtime=runtime, random_state=0
        )
        losses.append(made.fit(X, y, sample_weight=w).history_["train_loss"])
    np.testing.assert_allclose(*losses, atol=1e-6)
    assert {len(x) for x, *_ in stand_in.calls} == {10}


# --- not filled up


class OfBatch(nn.Module):
    """Centres its inputs by the mean of the batch: a row depends on the others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(P, 1)

    def forward(self, x):
        return self.inner(x - x.mean(0))


def blunt(output, target, sample_weight=None):
    """Takes weights and ignores them."""
    return (output[:, 0] - target).square().mean()


@pytest.mark.parametrize(
    ("net", "loss", "reason"),
    [
        (lambda: make_net(norm="batch"), ts.losses.cross_entropy, "BatchNorm1d has statistics of a batch"),
        (OfBatch, ts.losses.cross_entropy, "the output of a row depends on other rows"),
        (make_net, lambda o, t: (o[:, 0] - t).square().mean(), "the loss takes no weights of rows"),
        (make_net, blunt, "a row of weight zero changes the loss"),
    ],
    ids=["batch norm", "rows that meet", "no weights", "weights ignored"],
)
def test_what_filling_up_would_change_keeps_its_shapes(stand_in, net, loss, reason):
    nets, states, (on, why) = both(net(), loss=resolve_loss(loss, "classification"))
    check_same(nets, states, 0)
    assert on and "shapes may change, for" in why and reason in why
    assert stand_in.options == [{"dynamic": True}]
    assert {len(y) for _, y, _ in stand_in.calls} == {10, 7}


def test_a_batch_larger_than_any_of_the_first_epoch(stand_in):
    def growing(n, strata, *, epoch, seed):
        return np.split(np.arange(n), [20, 40] if epoch == 1 else [25, 40])

    nets, states, _ = both(make_net(), sampler=growing, max_epochs=3)
    check_same(nets, states)
    assert [len(y) for _, y, _ in stand_in.calls[1:]] == [20, 20, 20, 25, 25, 25, 25, 25, 25]


# --- the trial call


def test_the_trial_leaves_no_trace(stand_in):
    """Buffers, torch's generators and the streams of dropout are as if there had been none."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(P, 5), nn.BatchNorm1d(5), Dropout(0.3), nn.Dropout(0.2))
            self.head = nn.Linear(5, 1)

        def forward(self, x):
            return self.head(self.body(x))

    nets, states, _ = both(Own())
    check_same(nets, states, 0)


def test_only_what_trains_gets_a_gradient_in_the_trial(stand_in):
    nets, states, _ = both(make_net(), trainable={0: "2.*", 1: "*"})
    check_same(nets, states)


# --- no compiler


@pytest.mark.parametrize("when", ["at once", "first call", "backward"])
def test_without_a_compiler_the_fit_goes_on(monkeypatch, when):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, grad):
            raise OSError("no compiler\nand a long story")

    def broken(function, **options):
        if when == "at once":
            raise OSError("no compiler\nand a long story")

        def call(x, y, w):
            output, value = function(x, y, w)
            torch.randn(3)
            if when == "first call":
                raise OSError("no compiler\nand a long story")
            return output, Broken.apply(value)

        return call

    monkeypatch.setattr(torch, "compile", broken)
    net = make_net(norm="batch", dropout=0.4)
    with pytest.warns(UserWarning, match=r"torch.compile failed \(OSError: no compiler\).*C\+\+ compiler") as caught:
        nets, states, reason = both(net)
    check_same(nets, states, 0)
    assert reason == (False, "torch.compile failed: OSError: no compiler")
    (message,) = [str(w.message) for w in caught]
    assert "goes on uncompiled, with the same result" in message and "compile=False" in message


def test_an_error_of_the_loss_is_not_blamed_on_the_compiler(stand_in):
    with pytest.raises(ConfigError, match="expected a scalar tensor"):  # and no warning, which would be an error here
        fit(make_net(), loss=resolve_loss(lambda o, t: o, "classification"))
    assert stand_in.options == []


# --- CUDA graphs


@pytest.mark.parametrize(
    ("device", "why_not", "graphs", "mode", "said"),
    [
        ("cpu", "", "", None, "filled up"),
        ("cuda", "", "", "reduce-overhead", "; CUDA graphs"),
        ("cuda", "", "accumulate=2", None, "no CUDA graphs, for accumulate=2"),
        ("cuda", "the loss takes no weights of rows", "", None, "no CUDA graphs, for shapes change"),
    ],
)
def test_graphs_where_shapes_stay(device, why_not, graphs, mode, said):
    options, how = compiled._options(torch.device(device), {10, 7}, why_not, graphs)
    assert options.get("mode") == mode and options["dynamic"] == bool(why_not)
    assert how.endswith(said)


def test_what_a_graph_would_write_anew_is_copied(monkeypatch):
    marks, memory = [], (torch.zeros(4, 1), torch.zeros(()))
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(1))

    def step(x, y, w):
        for tensor in memory:
            tensor += 1
        return memory

    filled = Filled(step, torch.ones(4), weighted=True, graphs=True)
    kept = [filled(torch.zeros(n, 2), torch.zeros(n), None) for n in (4, 3)]
    assert [(len(output), output[0].item(), value.item()) for output, value in kept] == [(4, 1, 1), (3, 2, 2)]
    assert len(marks) == 2


def test_fill_keeps_types_and_channels_last():
    images = torch.randn(3, 2, 4, 4).contiguous(memory_format=torch.channels_last)
    assert fill(images, 5).is_contiguous(memory_format=torch.channels_last)
    assert fill(torch.arange(3), 4).tolist() == [0, 1, 2, 2]
    assert fill_weight(torch.tensor([0.5]), 3).tolist() == [0.5, 0.0, 0.0]


# --- the compiler itself


def learner(**runtime):
    return ts.TorchClassifier(
        ts.MLP((8,)), max_epochs=3, runtime=ts.Runtime("cpu", threads=1, **runtime), random_state=0
    )


def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(105, 10)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def compare():
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    X, y = table()
    fast, plain = learner(compile=True).fit(X, y), learner().fit(X, y)
    again = learner(compile=True).fit(X, y)
    assert fast.runtime_.reasons["compile"][0] is True, fast.runtime_.reasons["compile"]
    np.testing.assert_allclose(fast.history_["train_loss"], plain.history_["train_loss"], atol=1e-6)
    np.testing.assert_allclose(fast.predict_proba(X), plain.predict_proba(X), atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1  # the last batch, and the second fit, made no other program
    return fast, again


@pytest.mark.slow
def test_torchs_own_tracing_makes_one_program(monkeypatch):
    """Traced and differentiated by torch, but run without a compiler: some seconds."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, on the import of its tracer
        compare()


@pytest.mark.slow
def test_a_tenth_network_is_compiled_too(monkeypatch):
    """Torch stops after eight programs of one code, without a word to the user."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch.compiler.reset()
    counters.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for width in range(2, 12):
            fit(nn.Sequential(nn.Linear(P, width), nn.ReLU(), nn.Linear(width, 1)), max_epochs=1)
    assert counters["stats"]["unique_graphs"] == 10


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("TORCHSTRATA_COMPILE"), reason="20 to 60 s; set TORCHSTRATA_COMPILE=1 to run it")
def test_compiled_for_real():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fast, _ = compare()
    print(fast.runtime_)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_give_the_same_fit():
    X, y = table()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nets = [
            ts.TorchClassifier(ts.MLP((8,)), max_epochs=5, runtime=ts.Runtime("cuda", compile=on), random_state=0).fit(
                X, y
            )
            for on in (True, False)
        ]
    assert nets[0].runtime_.reasons["compile"][1].endswith("CUDA graphs")
    np.testing.assert_allclose(*(net.history_["train_loss"] for net in nets), atol=1e-4)
    np.testing.assert_allclose(*(net.predict_proba(X) for net in nets), atol=1e-3)
