"""Courses: our own schedules over the whole fit, of the learning rate, weight decay and dropout."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.network.dropout import Dropout
from torchstrata.training.schedules import Scheduled, resolve_schedule


def course(schedule, steps=64):
    """What multiplies the learning rate at each step of a fit."""
    optimizer = torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=0.2)
    scheduled, seen = Scheduled(schedule, optimizer, epochs=4, steps=steps), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"] / 0.2)
        optimizer.step()
        scheduled.after_step()
    return seen


def test_coslog_has_cycles_each_twice_as_long():
    found = course(ts.schedules.CosLog(4), steps=960)
    zeros = [i for i in range(1, 959) if found[i] <= min(found[i - 1], found[i + 1])]
    assert zeros == [64, 192, 448]  # (2^k - 1) / 15 of 960
    assert found[0] == 0
    assert max(found) == pytest.approx(1, abs=1e-4)
    expected = [0.5 - 0.5 * math.cos(2 * math.pi * math.log2(1 + 15 * i / 960)) for i in range(960)]
    assert found == pytest.approx(expected)


def test_flat_then_half_a_cosine():
    found = course(ts.schedules.FlatCos(0.25))
    assert found[:17] == [1] * 17
    assert found[40] == pytest.approx(0.5)
    assert found[63] == pytest.approx(0.0, abs=1e-2)
    assert all(a > b for a, b in itertools.pairwise(found[16:]))


def network_with_dropout():
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Dropout(0.4), torch.nn.Linear(3, 1), Dropout(0.2))


def test_several_settings_follow_their_courses():
    net = network_with_dropout()
    groups = [{"params": net[0].parameters(), "weight_decay": 0.3}, {"params": net[2].parameters(), "lr": 0.5}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.1)
    given = ts.schedules.Combined(
        lr=ts.schedules.CosLog(1), weight_decay=ts.schedules.FlatCos(0.0), dropout=ts.schedules.FlatCos()
    )
    scheduled = Scheduled(given, optimizer, epochs=2, steps=8, module=net)
    seen = []
    for _ in range(8):
        seen.append([(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] + [net[1].p, net[3].p])
        optimizer.step()
        scheduled.after_step()
    for i, (first, second, one, other) in enumerate(seen):
        lr, decay, dropout = (c.factor(i / 8) for c in (given.lr, given.weight_decay, given.dropout))
        assert first == pytest.approx((0.1 * lr, 0.3 * decay))
        assert second == pytest.approx((0.5 * lr, 0.1 * decay))
        assert (one, other) == pytest.approx((0.4 * dropout, 0.2 * dropout))
    assert net[1].p == 0
    scheduled.release()
    assert (net[1].p, net[3].p) == (0.4, 0.2)


def test_a_fit_follows_them_and_puts_the_dropout_back():
    class Watch(ts.Callback):
        def __init__(self):
            self.seen = []

        def on_epoch_end(self, state):
            self.seen.append((state.optimizer.param_groups[0]["weight_decay"], state.module[2].p))

    watch = Watch()
    schedule = ts.schedules.Combined(weight_decay=ts.schedules.FlatCos(), dropout=ts.schedules.FlatCos())
    learner = ts.TorchClassifier(
        ts.MLP((4,), dropout=0.5),
        optimizer="adamw",
        schedule=schedule,
        max_epochs=4,
        callbacks=(watch,),
        random_state=0,
    ).fit(torch.randn(40, 3), torch.arange(40) % 2)
    assert [round(p / 0.5, 6) for _, p in watch.seen] == [round(d / 0.01, 6) for d, _ in watch.seen]
    assert watch.seen[1] == pytest.approx((0.01, 0.5))
    assert watch.seen[3] == pytest.approx((0, 0), abs=1e-9)
    assert learner.network_[2].p == 0.5
    assert learner.runtime_.reasons["steps"] == ("autograd", "a schedule of weight decay or dropout set")


def test_a_course_of_the_rate_alone_can_be_written_out():
    X, y = torch.randn(40, 3), torch.arange(40) % 2
    given = {"schedule": ts.schedules.CosLog(2), "max_epochs": 4, "random_state": 0}
    ours = ts.TorchClassifier(ts.MLP((4,)), **given).fit(X, y)
    hooked = ts.TorchClassifier(ts.MLP((4,)), **given, callbacks=(ts.callbacks.GradientNorm(),)).fit(X, y)
    assert ours.runtime_.reasons["steps"][0] == "written out"
    assert hooked.runtime_.reasons["steps"][0] == "autograd"
    torch.testing.assert_close(ours.decision_function(X), hooked.decision_function(X), rtol=1e-5, atol=1e-6)
    assert ours.history_["lr"].tolist() == pytest.approx(hooked.history_["lr"].tolist())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ts.schedules.CosLog(0), "cycles must be an int in"),
        (lambda: ts.schedules.FlatCos(1.0), r"flat must be a number in \[0, 1\)"),
        (lambda: ts.schedules.Combined(lr=0.1), "lr must be a course such as"),
        (lambda: ts.schedules.Combined(dropout=ts.schedules.StepLR(3)), "dropout must be a course such as"),
        (lambda: resolve_schedule("CosLg"), "Did you mean 'CosLog'"),
    ],
)
def test_courses_that_cannot_be(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_what_has_no_weight_decay_cannot_move_it():
    optimizer = torch.optim.LBFGS([torch.zeros(2, requires_grad=True)])
    with pytest.raises(ConfigError, match="LBFGS has no weight_decay for a schedule to move"):
        ts.schedules.Combined(weight_decay=ts.schedules.FlatCos())(optimizer)
