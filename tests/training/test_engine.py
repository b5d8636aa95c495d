"""The loop: the same weights as a plain torch loop, early stopping to the letter, and no silent NaN."""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchstrata as ts
from torchstrata.batches.loader import Rows
from torchstrata.batches.samplers import plan_batches
from torchstrata.errors import ConfigError, NonFiniteError
from torchstrata.training import engine
from torchstrata.training.callbacks import HOOKS, Callback, GradientNorm
from torchstrata.training.engine import Evaluation, train
from torchstrata.training.loss import resolve_loss
from torchstrata.training.runtime import Seeds
from torchstrata.training.state import copy_weights

N, P = 47, 3
SGD = ts.optim.SGD(lr=0.1, fused=False)


def make_rows(*, weights=False, dtype=torch.float32, n=N, seed=0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, P, generator=generator).to(dtype)
    y = (x[:, 0] + 0.5 * torch.randn(n, generator=generator) > 0).to(dtype)
    return Rows(x, y, torch.randint(0, 4, (n,), generator=generator).to(dtype) if weights else None)


def make_net(*, seed=0, norm=None, dropout=0.0, dtype=torch.float32) -> nn.Module:
    torch.manual_seed(seed)
    return ts.MLP((5,), norm=norm, dropout=dropout)({"number": (P,)}, 1).to(dtype)


def fit(net=None, rows=None, *, runtime=None, batch_size=10, seed=7, sampler=None, **settings):
    net, rows = net or make_net(), rows or make_rows()
    decisions = (runtime or ts.Runtime("cpu", threads=1)).decide(parameters=50, batch_rows=batch_size)
    sampler = sampler or ts.RandomBatchSampler(batch_size)
    seeds = Seeds(seed)
    defaults = {"loss": ts.losses.cross_entropy, "optimizer": SGD, "max_epochs": 3}
    with decisions.active(seeds.dropout):
        return train(
            net,
            rows,
            plan=plan_batches(sampler, len(rows), rows.y.numpy()),
            decisions=decisions,
            seeds=seeds,
            **{**defaults, **settings},
        )


def flat(net) -> torch.Tensor:
    return torch.cat([w.detach().flatten().double() for w in (*net.parameters(), *net.buffers())])


def draws(epoch, *, n=N, batch_size=10, seed=7, sampler=None):
    return (sampler or ts.RandomBatchSampler(batch_size))(n, None, epoch=epoch, seed=Seeds(seed).batches)


def plain_loop(net, rows, optimizer, *, epochs=3, after_step=None, after_epoch=None, clip=None, **drawn):
    """The loop as every tutorial has it."""
    losses = []
    net.train()
    for epoch in range(1, epochs + 1):
        total = mass = 0.0
        for batch in draws(epoch, n=len(rows), **drawn):
            optimizer.zero_grad()
            w = None if rows.weight is None else rows.weight[batch]
            reduction = "mean" if w is None else "none"
            value = F.binary_cross_entropy_with_logits(net(rows.x[batch])[:, 0], rows.y[batch], reduction=reduction)
            value = value if w is None else (value * w).sum() / w.sum()
            value.backward()
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            if after_step:
                after_step.step()
            size = len(batch) if w is None else float(w.sum())
            total, mass = total + value.item() * size, mass + size
        if after_epoch:
            after_epoch.step()
        losses.append(total / mass)
    return losses


# --- the same as a plain loop


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "RMSprop"])
def test_same_weights_as_a_plain_torch_loop(optimizer, norm, weights):
    # double precision: a bias before a norm has a gradient of rounding noise, which adaptive optimizers blow up
    rows, net = make_rows(weights=weights, dtype=torch.float64), make_net(norm=norm, dtype=torch.float64)
    plain = copy.deepcopy(net)
    reference = getattr(torch.optim, optimizer)(plain.parameters(), lr=0.05)
    losses = plain_loop(plain, rows, reference)
    state = fit(net, rows, optimizer=getattr(ts.optim, optimizer)(lr=0.05))
    torch.testing.assert_close(flat(net), flat(plain), rtol=0, atol=1e-7)
    assert [row["train_loss"] for row in state.history] == pytest.approx(losses, abs=1e-9)


def test_bitwise_the_same_as_a_plain_torch_loop():
    rows, net = make_rows(), make_net()
    plain = copy.deepcopy(net)
    plain_loop(plain, rows, torch.optim.SGD(plain.parameters(), lr=0.1))
    fit(net, rows)
    assert torch.equal(flat(net), flat(plain))


def test_stratified_batches_reach_the_network():
    rows, net = make_rows(), make_net()
    plain, strata = copy.deepcopy(net), rows.y.numpy()
    sampler = ts.StratifiedBatchSampler(3)
    plain_loop(
        plain,
        rows,
        torch.optim.SGD(plain.parameters(), lr=0.1),
        sampler=lambda n, _, **k: sampler(n, strata, **k),
    )
    fit(net, rows, sampler=sampler)
    assert torch.equal(flat(net), flat(plain))


def test_clip_norm_equals_torchs():
    rows, net = make_rows(), make_net()
    plain = copy.deepcopy(net)
    plain_loop(plain, rows, torch.optim.SGD(plain.parameters(), lr=0.1), clip=0.05)
    fit(net, rows, runtime=ts.Runtime("cpu", threads=1, clip_norm=0.05))
    torch.testing.assert_close(flat(net), flat(plain), rtol=0, atol=1e-7)
    free = make_net()
    fit(free, rows)
    assert not torch.allclose(flat(free), flat(net), atol=1e-4)


@pytest.mark.parametrize("n", [40, 47])
def test_accumulated_batches_are_one_larger_batch(n):
    # 10 rows at a time; the last group of an epoch may have fewer batches, whose mean counts all the same
    rows = make_rows(n=40)
    nets = [make_net(), make_net()]
    order = ts.RandomBatchSampler("all", shuffle=False)
    parts = {40: [10] * 4, 47: [10, 10, 20]}[n]

    def small(n, strata, *, epoch, seed):
        return np.split(order(n)[0], np.cumsum(parts)[:-1])

    def large(n, strata, *, epoch, seed):
        return np.split(order(n)[0], [20])

    fit(nets[0], rows, sampler=small, runtime=ts.Runtime("cpu", threads=1, accumulate=2))
    fit(nets[1], rows, sampler=large)
    torch.testing.assert_close(flat(nets[0]), flat(nets[1]), rtol=0, atol=1e-6)


def test_a_schedule_counts_updates_not_batches():
    seen = []

    class Look(Callback):
        def on_batch_end(self, state):
            seen.append(state.optimizer.param_groups[0]["lr"])

    one_cycle = ts.schedules.LinearLR(start_factor=1.0, end_factor=0.5, per="step")
    fit(runtime=ts.Runtime("cpu", threads=1, accumulate=2), schedule=one_cycle, callbacks=[Look()])
    updates = 3 * math.ceil(5 / 2)
    reference = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.LinearLR(reference, 1.0, 0.5, total_iters=updates)
    expected = []
    for _ in range(3):
        for step in range(1, 6):
            if step % 2 == 0 or step == 5:
                reference.step()
                scheduler.step()
            expected.append(reference.param_groups[0]["lr"])
    assert seen == expected
    assert seen[-1] == pytest.approx(0.05)


@pytest.mark.parametrize("per", ["step", "epoch"])
def test_schedules_equal_torchs_in_the_loop(per):
    rows, net = make_rows(), make_net()
    plain = copy.deepcopy(net)
    reference = torch.optim.SGD(plain.parameters(), lr=0.1)
    total = 15 if per == "step" else 3
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(reference, total)
    plain_loop(plain, rows, reference, **{f"after_{per}": scheduler})
    state = fit(net, rows, schedule=ts.schedules.CosineAnnealingLR(per=per))
    assert torch.equal(flat(net), flat(plain))
    if per == "epoch":
        assert [r["lr"] for r in state.history] == pytest.approx([0.1, 0.075, 0.025])


@pytest.mark.parametrize("name", [n for n in ts.optim.NAMES if n not in ("SparseAdam", "Muon", "LBFGS")])
def test_every_optimizer_fits(name):
    net = make_net()
    optimizer = getattr(ts.optim, name)()
    state = fit(net, optimizer=optimizer.replace(lr=0.01 if name != "Adadelta" else 1.0), max_epochs=8)
    assert state.history[-1]["train_loss"] < state.history[0]["train_loss"]


def test_muon_and_sparse_adam_fit_where_they_can():
    torch.manual_seed(0)
    matrix = nn.Linear(P, 1, bias=False)
    state = fit(matrix, optimizer=ts.optim.Muon(lr=0.05), max_epochs=5)
    assert state.history[-1]["train_loss"] < state.history[0]["train_loss"]

    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.levels = nn.Embedding(4, 1, sparse=True)

        def forward(self, x):
            return self.levels(x)

    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 4, (40,), generator=generator)
    state = fit(Levels(), Rows(levels, (levels > 1).float()), optimizer=ts.optim.SparseAdam(lr=0.1), max_epochs=5)
    assert state.history[-1]["train_loss"] < state.history[0]["train_loss"]


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_equals_torchs(line_search):
    rows, net = make_rows(), make_net()
    plain = copy.deepcopy(net)
    reference = torch.optim.LBFGS(plain.parameters(), lr=0.5, max_iter=5, line_search_fn=line_search)
    scheduler = torch.optim.lr_scheduler.StepLR(reference, 2, 0.5)
    for epoch in range(1, 4):
        for batch in draws(epoch, batch_size=30):

            def closure(batch=batch):
                reference.zero_grad()
                value = F.binary_cross_entropy_with_logits(plain(rows.x[batch])[:, 0], rows.y[batch])
                value.backward()
                return value

            reference.step(closure)
            scheduler.step()
    optimizer = ts.optim.LBFGS(lr=0.5, max_iter=5, line_search_fn=line_search)
    fit(net, rows, optimizer=optimizer, batch_size=30, schedule=ts.schedules.StepLR(2, 0.5, per="step"))
    torch.testing.assert_close(flat(net), flat(plain), rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", [{"accumulate": 2}, {"clip_norm": 1.0}, {"precision": "float16"}], ids=str)
def test_lbfgs_refuses_what_it_cannot_do(settings):
    with pytest.raises(ConfigError, match="LBFGS looks at the loss several times"):
        fit(optimizer=ts.optim.LBFGS(), runtime=ts.Runtime("cpu", **settings))


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "RMSprop"])
@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16", "float16"])
def test_precisions_learn_much_the_same(precision, optimizer):
    dtype = torch.float64 if precision == "float64" else torch.float32
    runtime = ts.Runtime("cpu", threads=1, precision=precision, clip_norm=1.0)
    net = make_net(dtype=dtype)
    state = fit(net, make_rows(dtype=dtype), runtime=runtime, optimizer=getattr(ts.optim, optimizer)(lr=0.01))
    plain = ts.Runtime("cpu", threads=1, clip_norm=1.0)  # clipped alike: only the precision differs
    reference = fit(make_net(), runtime=plain, optimizer=getattr(ts.optim, optimizer)(lr=0.01))
    assert {p.dtype for p in net.parameters()} == {dtype}
    losses = [row["train_loss"] for row in state.history]
    assert losses == pytest.approx([row["train_loss"] for row in reference.history], rel=0.05)
    if precision != "float32":
        assert losses != [row["train_loss"] for row in reference.history]


# --- history, seeds, state


def test_history_has_a_row_an_epoch():
    state = fit(max_epochs=4)
    assert [row["epoch"] for row in state.history] == [1, 2, 3, 4]
    assert all(list(row) == ["epoch", "train_loss", "lr", "seconds"] for row in state.history)
    assert all(row["lr"] == 0.1 and row["seconds"] > 0 for row in state.history)
    assert (state.best_epoch, math.isnan(state.best_score), state.stop) == (4, True, "")


def test_no_epochs_leave_the_initial_weights():
    net = make_net()
    before = flat(net)
    state = fit(net, max_epochs=0, schedule=ts.schedules.OneCycleLR(0.1))
    assert torch.equal(flat(net), before)
    assert (state.history, state.best_epoch) == ([], 0)
    assert not net.training


def test_same_seed_same_weights_and_another_seed_others():
    nets = [make_net(dropout=0.5) for _ in range(3)]
    for net, seed in zip(nets, (7, 7, 8), strict=True):
        fit(net, seed=seed)
    assert torch.equal(flat(nets[0]), flat(nets[1]))
    assert not torch.equal(flat(nets[0]), flat(nets[2]))


def test_dropout_has_its_own_stream():
    def look(net):
        rows_seen, masks = [], []

        class Look(Callback):
            def on_batch_end(self, state):
                rows_seen.append(state.rows.tolist())
                masks.append(state.output.detach().flatten().tolist())

        fit(net, callbacks=[Look()])
        return rows_seen, masks

    with_dropout, without = look(make_net(dropout=0.5)), look(make_net())
    assert with_dropout[0] == without[0]
    assert with_dropout[1] != without[1]


def test_global_state_is_as_it_was():
    rows, net = make_rows(), make_net(dropout=0.5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), torch.get_num_threads()
    fit(net, rows, runtime=ts.Runtime("cpu", threads=2), callbacks=[GradientNorm()])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    assert before[2] == torch.get_num_threads()


def test_targets_of_the_loss_are_those_of_the_rows():
    rows = make_rows(weights=True)
    numbered = Rows(rows.x, torch.arange(N) / N, rows.weight)
    given, seen, losses = [], [], []

    def spy(output, target, sample_weight=None):
        given.append((target, sample_weight))
        return ts.losses.cross_entropy(output, target, sample_weight)

    class Look(Callback):
        def on_batch_begin(self, state):
            seen.append(state.rows.copy())

        def on_batch_end(self, state):
            assert state.target is given[-1][0]
            assert len(state.output) == len(state.rows)
            losses.append(state.loss.item())

    state = fit(rows=numbered, loss=spy, callbacks=[Look()])
    assert len(seen) == 3 * 5
    for (target, weight), index in zip(given, seen, strict=True):
        assert torch.equal(target, numbered.y[index])
        assert torch.equal(weight, numbered.weight[index])
    for epoch in range(3):
        assert sorted(np.concatenate(seen[5 * epoch : 5 * epoch + 5]).tolist()) == list(range(N))
    mass = [numbered.weight[index].sum().item() for index in seen[:5]]
    assert state.history[0]["train_loss"] == pytest.approx(np.average(losses[:5], weights=mass), rel=1e-6)


def test_augment_changes_training_inputs_in_order_and_can_be_repeated():
    def double(x, generator):
        return x * 2

    def noise(x, generator):
        return x + torch.randn(x.shape, generator=generator)

    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make_net()

        def forward(self, x):
            if self.training:
                seen.append(x.clone())
            return self.inner(x)

    rows = make_rows()
    fit(Spy(), rows, augment=[double, noise], max_epochs=1)
    generator = torch.Generator().manual_seed(Seeds(7).augment)
    for x, batch in zip(seen, draws(1), strict=True):
        assert torch.equal(x, rows.x[batch] * 2 + torch.randn(x.shape, generator=generator))
    assert torch.equal(rows.x, make_rows().x)


# --- evaluation and early stopping


def scripted(scores, *, rows=None, **settings) -> Evaluation:
    """Validation scores from a list, one an evaluation; the last one for ever."""
    given = iter(scores)
    last = [scores[-1]]

    def measure(output, split, order):
        last[0] = next(given, last[0])
        return {"score": last[0]}

    return Evaluation(measure, first="score", sign=1, valid=rows or make_rows(n=5, seed=1), **settings)


def test_early_stopping_to_the_letter():
    state = fit(
        max_epochs=100,
        evaluation=scripted([0.5], every=4),
        early_stopping=ts.EarlyStopping(patience=10),
    )
    assert (len(state.history), state.best_epoch, state.best_score) == (44, 4, 0.5)
    assert state.stop == "no improvement in 10 evaluations"
    assert [row["epoch"] for row in state.history if "valid_score" in row] == list(range(4, 45, 4))


def test_evaluates_every_m_epochs_and_at_the_end():
    state = fit(max_epochs=7, evaluation=scripted([0.1, 0.2, 0.3, 0.4], every=3))
    assert {row["epoch"]: row.get("valid_score") for row in state.history} == {
        1: None,
        2: None,
        3: 0.1,
        4: None,
        5: None,
        6: 0.2,
        7: 0.3,
    }


def test_nan_is_never_the_reference():
    state = fit(
        max_epochs=9,
        evaluation=scripted([math.nan, 0.5, math.nan, 0.4, 0.6, 0.1]),
        early_stopping=ts.EarlyStopping(patience=3),
    )
    assert (state.best_epoch, state.best_score, len(state.history)) == (5, 0.6, 8)


class Snapshots(Callback):
    """Weights after each epoch, at the end and at the exit."""

    def __init__(self):
        self.after, self.at_end, self.at_exit, self.best = [], None, None, []

    def on_epoch_end(self, state):
        self.after.append(copy_weights(state.module))
        self.best.append((state.best_epoch, state.best_score))

    def on_fit_end(self, state):
        self.at_end = copy_weights(state.module)
        self.settled = (state.best_epoch, state.best_score, state.module.training)

    def on_fit_exit(self, state):
        self.at_exit = copy_weights(state.module)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


SCORES = [0.125, 0.75, 0.25, 1.0, 0.5, 0.125]


@pytest.mark.parametrize(("min_delta", "best"), [(0.0, 4), (0.2499, 4), (0.25, 2), (0.3, 2)])
def test_restore_best_brings_exactly_these_weights(min_delta, best):
    net, snaps = make_net(norm="batch"), Snapshots()
    stopping = ts.EarlyStopping(patience=9, min_delta=min_delta)
    state = fit(net, max_epochs=6, evaluation=scripted(SCORES), early_stopping=stopping, callbacks=[snaps])
    assert (state.best_epoch, state.best_score) == (best, SCORES[best - 1])
    assert same(copy_weights(net), snaps.after[best - 1])
    assert not same(copy_weights(net), snaps.after[-1])
    assert same(snaps.at_end, snaps.after[best - 1])  # on_fit_end sees the weights that stay
    assert same(snaps.at_exit, snaps.after[best - 1])
    assert snaps.settled == (best, SCORES[best - 1], False)
    assert snaps.best[0] == (1, SCORES[0])
    assert snaps.best[2] == (2, SCORES[1])


def test_without_restore_the_last_weights_stay():
    net, snaps = make_net(), Snapshots()
    stopping = ts.EarlyStopping(patience=9, restore_best=False)
    fit(net, max_epochs=6, evaluation=scripted(SCORES), early_stopping=stopping, callbacks=[snaps])
    assert same(copy_weights(net), snaps.after[-1])


def test_weights_changed_at_the_end_of_the_fit_stay():
    class Average(Callback):
        def on_fit_end(self, state):
            with torch.no_grad():
                for p in state.module.parameters():
                    p.fill_(3.0)

    net = make_net()
    fit(net, evaluation=scripted(SCORES), early_stopping=ts.EarlyStopping(), callbacks=[Average()])
    assert all((p == 3).all() for p in net.parameters())


def test_measures_get_outputs_in_order():
    rows, valid, calls = make_rows(), make_rows(n=70, seed=3), []
    net = make_net(norm="batch", dropout=0.5)

    def measure(output, split, order):
        calls.append((output.clone(), split, None if order is None else order.copy()))
        return {"size": float(len(output))}

    evaluation = Evaluation(measure, "size", 1, valid, every=2, train_scores=True)
    state = fit(net, rows, evaluation=evaluation, max_epochs=4)
    assert [split for _, split, _ in calls] == ["train", "valid"] * 2
    for epoch, (output, _, order) in zip((2, 4), calls[::2], strict=True):
        assert order.tolist() == np.concatenate(draws(epoch)).tolist()
        assert output.shape == (N, 1)
    with torch.no_grad():
        torch.testing.assert_close(calls[-1][0], net.eval()(valid.x), rtol=0, atol=1e-6)
    assert [row.get("train_size") for row in state.history] == [None, N, None, N]
    assert [row.get("valid_size") for row in state.history] == [None, 70, None, 70]


def test_plateau_follows_the_validation_loss_only():
    def measure(output, split, order):
        return {"loss": 1.0}

    evaluation = Evaluation(measure, valid=make_rows(n=5), every=2)
    schedule = ts.schedules.ReduceLROnPlateau(patience=0, factor=0.5)
    state = fit(max_epochs=8, evaluation=evaluation, schedule=schedule)
    assert [row["lr"] for row in state.history] == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025]


def test_a_callback_stops_the_fit_after_the_epoch():
    class Stop(Callback):
        def on_batch_end(self, state):
            if state.epoch == 2:
                state.stop = "enough"

    state = fit(callbacks=[Stop()], max_epochs=9)
    assert (len(state.history), state.stop, state.best_epoch) == (2, "enough", 2)


# --- hooks


class Everything(Callback):
    def __init__(self, fail_at=None, error=RuntimeError):
        self.calls, self.fail_at, self.error = [], fail_at, error


def _record(hook):
    def call(self, state):
        self.calls.append(hook)
        if self.fail_at == hook:
            raise self.error("on purpose")

    return call


for _hook in HOOKS:
    setattr(Everything, _hook, _record(_hook))


def test_hooks_come_in_order():
    spy = Everything()
    fit(callbacks=[spy], max_epochs=2, batch_size=30, evaluation=scripted([0.5], every=2))
    batch = ["on_batch_begin", "on_backward_end", "on_batch_end"]
    assert spy.calls == [
        "on_fit_begin",
        *["on_epoch_begin", *batch * 2, "on_epoch_end"],
        *["on_epoch_begin", *batch * 2, "on_valid_begin", "on_valid_end", "on_epoch_end"],
        "on_fit_end",
        "on_fit_exit",
    ]


def test_backward_end_comes_once_an_update():
    spy = Everything()
    fit(callbacks=[spy], max_epochs=2, runtime=ts.Runtime("cpu", threads=1, accumulate=2))
    assert spy.calls.count("on_batch_end") == 10
    assert spy.calls.count("on_backward_end") == 6


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_gradients_in_hooks_are_true_and_weights_change_after(precision):
    rows, net = make_rows(), make_net()

    class Look(Callback):
        def on_batch_begin(self, state):
            self.before = flat(state.module)

        def on_backward_end(self, state):
            assert torch.equal(flat(state.module), self.before)
            value = F.binary_cross_entropy_with_logits(state.module(rows.x[state.rows])[:, 0], rows.y[state.rows])
            expected = torch.autograd.grad(value, list(state.module.parameters()))
            for p, g in zip(state.module.parameters(), expected, strict=True):
                torch.testing.assert_close(p.grad, g, rtol=0, atol=1e-6 if precision == "float32" else 2e-3)

        def on_batch_end(self, state):
            assert not torch.equal(flat(state.module), self.before)

    fit(net, rows, callbacks=[Look()], max_epochs=1, runtime=ts.Runtime("cpu", threads=1, precision=precision))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("hook", [h for h in HOOKS if h != "on_fit_exit"])
def test_exit_comes_after_any_error_and_the_network_is_settled(hook, error):
    spy, net = Everything(hook, error), make_net()
    with pytest.raises(error, match="on purpose"):
        fit(net, callbacks=[spy], evaluation=scripted([0.5]))
    assert spy.calls.count("on_fit_exit") == 1
    assert spy.calls[-1] == "on_fit_exit"
    assert not net.training


def test_ctrl_c_keeps_the_best_so_far():
    class Interrupt(Callback):
        weight = 1.0

        def on_batch_end(self, state):
            if (state.epoch, state.step) == (4, 2):
                self.state = state
                raise KeyboardInterrupt

    net, snaps, interrupt = make_net(), Snapshots(), Interrupt()
    with pytest.raises(KeyboardInterrupt):
        fit(
            net,
            max_epochs=9,
            evaluation=scripted(SCORES),
            early_stopping=ts.EarlyStopping(),
            callbacks=[snaps, interrupt],
        )
    assert same(copy_weights(net), snaps.after[1])
    assert (interrupt.state.best_epoch, interrupt.state.best_score) == (2, SCORES[1])
    assert len(interrupt.state.history) == 3


def test_what_is_no_callback_is_refused_before_training():
    with pytest.raises(ConfigError, match="has no hook"):
        fit(callbacks=[3])


def test_gradient_norm_stands_in_the_history():
    state = fit(callbacks=[GradientNorm()], batch_size="all", max_epochs=2)
    net, rows = make_net(), make_rows()
    F.binary_cross_entropy_with_logits(net(rows.x)[:, 0], rows.y).backward()
    expected = torch.cat([p.grad.flatten() for p in net.parameters()]).norm().item()
    assert state.history[0]["gradient_norm"] == pytest.approx(expected, rel=1e-5)


# --- losses that are not finite


class Poison(torch.autograd.Function):
    """Pass the loss through; make it, or the gradient, ``bad``."""

    @staticmethod
    def forward(ctx, value, bad, where):
        ctx.bad, ctx.where = bad, where
        return value * bad if where == "loss" else value.clone()

    @staticmethod
    def backward(ctx, grad):
        return (grad if ctx.where == "loss" else grad * ctx.bad), None, None


def poisoned(epoch, step, bad, where, steps=5):
    """A loss that is bad at one step of one epoch."""
    count = [0]

    def loss(output, target, sample_weight=None):
        count[0] += 1
        value = ts.losses.cross_entropy(output, target, sample_weight)
        return Poison.apply(value, bad, where) if count[0] == (epoch - 1) * steps + step else value

    return loss


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("step", [1, 3, 5])
@pytest.mark.parametrize("epoch", [1, 3])
def test_non_finite_names_the_place_and_keeps_history_and_weights(epoch, step, where, bad, precision):
    net, snaps = make_net(norm="batch"), Snapshots()
    start = copy_weights(net)
    runtime = ts.Runtime("cpu", threads=1, precision=precision)
    with pytest.raises(NonFiniteError) as caught:
        fit(net, loss=poisoned(epoch, step, bad, where), max_epochs=6, callbacks=[snaps], runtime=runtime)
    error = caught.value
    # a bad gradient is seen in the loss of the next step, or in the weights after the last
    named = step if where == "loss" else min(step + 1, 5)
    assert (error.epoch, error.step) == (epoch, named)
    assert f"at epoch {epoch}, step {named} (lr 0.1)" in str(error)
    assert [row["epoch"] for row in error.history] == list(range(1, epoch))
    kept = snaps.after[-1] if epoch > 1 else start
    assert same(copy_weights(net), kept)
    assert same(snaps.at_exit, kept)
    assert torch.isfinite(flat(net)).all()
    assert snaps.at_end is None
    assert (f"the weights after epoch {epoch - 1} are kept" if epoch > 1 else "weights of the start") in str(error)


def test_non_finite_keeps_the_best_weights_where_they_are_kept():
    net, snaps = make_net(), Snapshots()
    with pytest.raises(NonFiniteError, match="the weights after epoch 2 are kept"):
        fit(
            net,
            loss=poisoned(5, 1, math.nan, "loss"),
            max_epochs=9,
            evaluation=scripted(SCORES[:3]),
            early_stopping=ts.EarlyStopping(),
            callbacks=[snaps],
        )
    assert same(copy_weights(net), snaps.after[1])


def test_aum_raises_at_once_and_the_place_is_named():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = make_net(), 0

        def forward(self, x):
            self.calls += self.training
            return self.inner(x) * (math.nan if self.calls == 8 else 1.0)

    net = Broken()
    with pytest.raises(NonFiniteError, match="aum got a score that is NaN or infinite at epoch 2, step 3") as caught:
        fit(net, loss=ts.losses.aum)
    assert (caught.value.epoch, caught.value.step, len(caught.value.history)) == (2, 3, 1)
    assert net.calls == 8


def test_diverging_learning_rate_is_caught():
    with pytest.raises(NonFiniteError, match="clip the gradient"):
        fit(loss=ts.losses.mse, optimizer=ts.optim.SGD(lr=1e12), max_epochs=20)


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: 3.0,
        lambda o, t: (o[:, 0] - t) ** 2,
        lambda o, t: ((o[:, 0] - t) ** 2).mean(0, keepdim=True),
        lambda o, t: torch.tensor(1.0),
        lambda o, t: (o.mean(), 1),
    ],
    ids=["float", "vector", "one element", "constant", "tuple"],
)
def test_what_a_loss_must_return(loss):
    with pytest.raises(ConfigError, match="expected a scalar tensor that depends on the weights"):
        fit(loss=resolve_loss(loss, "classification"))


# --- freezing


def test_frozen_layers_and_their_statistics_stand_still_until_their_epoch():
    net, snaps = make_net(norm="batch"), Snapshots()
    names = [name for name, _ in (*net.named_parameters(), *net.named_buffers())]
    start = copy_weights(net)
    fit(net, trainable={0: "3.*", 2: "*"}, max_epochs=3, callbacks=[snaps], optimizer=ts.optim.AdamW(lr=0.01))

    def moved(a, b):
        return {n for n, x, y in zip(names, a, b, strict=True) if not torch.equal(x, y)}

    head = {"3.weight", "3.bias"}
    assert moved(start, snaps.after[0]) == head
    assert moved(snaps.after[0], snaps.after[1]) == head
    assert moved(snaps.after[1], snaps.after[2]) == set(names)
    assert all(p.requires_grad for p in net.parameters())
    assert not net.training


def test_what_the_user_froze_stays_frozen():
    net = make_net()
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    fit(net, optimizer=ts.optim.AdamW(lr=0.1, weight_decay=0.5))
    assert torch.equal(net[0].weight, before)
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


# --- nothing in a step waits for the device


def test_no_step_reads_from_the_device():
    tree = ast.parse(inspect.getsource(engine))
    (step,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "_Autograd"]
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(step)
        if isinstance(node, ast.Call)
    }
    assert "backward" in called, "the class that takes steps is another one now"
    assert not called & {"item", "float", "cpu", "tolist", "numpy", "bool", "int", "synchronize"}


def test_at_most_three_own_frames_from_train_to_backward():
    depth = []

    class Look(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, grad):
            frames = [f.frame for f in inspect.getouterframes(inspect.currentframe())]
            depth.append(sum("/torchstrata/" in f.f_code.co_filename for f in frames))
            return grad

    fit(loss=lambda o, t, w=None: Look.apply(ts.losses.cross_entropy(o, t, w)), max_epochs=1)
    assert set(depth) == {2}  # train and its step; the learner's fit is the third


def test_partials_of_torch_serve():
    net = make_net()
    plain = make_net()
    fit(net, optimizer=functools.partial(torch.optim.SGD, lr=0.1))
    fit(plain)
    assert torch.equal(flat(net), flat(plain))


# --- half precision, with all that a step also does


def half_learner(precision, loading, network, workers=0, **runtime):
    return ts.TorchClassifier(
        network,
        encoder=None,
        max_epochs=4,
        batch_size=16,
        # not written out, so that both precisions take autograd's steps
        optimizer=functools.partial(torch.optim.SGD, lr=0.1),
        valid=0.25,
        scoring="roc_auc",
        random_state=0,
        runtime=ts.Runtime("cpu", threads=1, precision=precision, loading=loading, workers=workers, **runtime),
    )


def weighted_table(n=101):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    return X, (X[:, 0] + 0.3 * rng.normal(size=n) > 0).astype(int), rng.integers(0, 4, n).astype(float)


@pytest.mark.parametrize("loss", ["cross_entropy", "aum", "pairwise_squared_hinge"])
@pytest.mark.parametrize("loading", ["resident", "streamed"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_with_weights_clipping_and_validation(precision, loading, loss):
    X, y, w = weighted_table()
    half, whole = (
        half_learner(p, loading, ts.MLP((5,)), clip_norm=0.5).set_params(loss=loss).fit(X, y, sample_weight=w)
        for p in (precision, "float32")
    )
    assert half.runtime_.reasons["loading"][0] == loading
    columns = ["train_loss", "valid_loss", "valid_roc_auc"]
    # the scaler begins at 65,536, where gradients of 1 overflow: it leaves out the first step of the pairwise loss
    behind = precision == "float16" and loss == "pairwise_squared_hinge"
    first, rtol = (1, 0.15) if behind else (0, 0.05)
    np.testing.assert_allclose(half.history_[columns][first:], whole.history_[columns][first:], rtol=rtol, atol=0.02)
    assert not half.history_["train_loss"].equals(whole.history_["train_loss"])
    assert {p.dtype for p in half.network_.parameters()} == {torch.float32}
    assert half.decision_function(X).dtype == whole.decision_function(X).dtype


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_streams_the_same_batches(precision):
    X, y, w = weighted_table()
    streamed, resident = (
        half_learner(precision, loading, ts.MLP((5,), dropout=0.2), accumulate=2).fit(X, y, sample_weight=w)
        for loading in ("streamed", "resident")
    )
    columns = ["train_loss", "valid_loss", "valid_roc_auc"]
    np.testing.assert_array_equal(streamed.history_[columns], resident.history_[columns])
    np.testing.assert_array_equal(streamed.decision_function(X), resident.decision_function(X))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_of_images_of_bytes(precision):
    y = np.arange(40) % 2
    X = np.random.default_rng(0).integers(0, 120, (40, 1, 8, 8)) + 100 * y[:, None, None, None]

    def network(shapes, n_outputs):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, n_outputs))

    half, whole = (
        half_learner(p, "resident", network, clip_norm=1.0).fit(X.astype(np.uint8), y) for p in (precision, "float32")
    )
    assert half.runtime_.reasons["memory_format"][0] == "channels_last"
    np.testing.assert_allclose(half.history_["train_loss"], whole.history_["train_loss"], rtol=0.05)
    assert half.history_["train_loss"].iloc[-1] < half.history_["train_loss"].iloc[0]


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_float16_leaves_out_steps_that_overflow_and_goes_on(clip_norm):
    """At first the scaled gradient is too large for float16; the scaler halves its factor until it fits."""
    net, seen = make_net(), []

    class Look(Callback):
        def on_batch_end(self, state):
            seen.append(flat(state.module))

    def large(output, target, sample_weight=None):
        return 1000 * ts.losses.cross_entropy(output, target, sample_weight)

    runtime = ts.Runtime("cpu", threads=1, precision="float16", clip_norm=clip_norm)
    settings = {"optimizer": ts.optim.SGD(lr=1e-5), "schedule": ts.schedules.LinearLR(per="step")}
    state = fit(net, make_rows(weights=True), runtime=runtime, loss=large, callbacks=[Look()], **settings)
    start = flat(make_net())
    assert torch.equal(seen[0], start) and not torch.equal(seen[-1], start)
    assert all(torch.isfinite(weights).all() for weights in seen)
    assert len(state.history) == 3
