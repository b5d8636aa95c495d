"""Every learning-rate schedule of torch as a value: torch's own class with torch's own arguments."""

from __future__ import annotations

import functools
import inspect

import pytest
import torch
from torch.optim import lr_scheduler

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.training.schedules import NAMES, Scheduled, resolve_schedule

EPOCHS, STEPS = 6, 24


def triangle(step):
    return 1 / (1 + step)


ARGUMENTS = {
    "ConstantLR": {"factor": 0.5, "total_iters": 3},
    "CosineAnnealingLR": {"T_max": 4},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
    "ExponentialLR": {"gamma": 0.8},
    "LambdaLR": {"lr_lambda": triangle},
    "LinearLR": {"total_iters": 3},
    "MultiStepLR": {"milestones": [2, 4]},
    "MultiplicativeLR": {"lr_lambda": triangle},
    "OneCycleLR": {"max_lr": 0.3, "total_steps": 24},
    "PolynomialLR": {"total_iters": 4, "power": 2.0},
    "ReduceLROnPlateau": {"patience": 0, "factor": 0.5},
    "StepLR": {"step_size": 2},
}
LOSSES = [1.0, 0.9, 0.95, 0.8, 0.85, 0.9]


def make_optimizer():
    return torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=0.2, momentum=0.9)


def rates(given, *, epochs=EPOCHS, updates=STEPS // EPOCHS) -> list[float]:
    """The rate of every update of a fit."""
    optimizer = make_optimizer()
    scheduled = Scheduled(given, optimizer, epochs=epochs, steps=epochs * updates)
    seen = []
    for epoch in range(epochs):
        for _ in range(updates):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduled.after_step()
        scheduled.after_epoch(LOSSES[epoch])
    return seen


def rates_of_torch(name, arguments, per) -> list[float]:
    optimizer = make_optimizer()
    scheduler = getattr(lr_scheduler, name)(optimizer, **arguments)
    seen = []
    for update in range(STEPS):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        ends_epoch = (update + 1) % (STEPS // EPOCHS) == 0
        if name == "ReduceLROnPlateau":
            if ends_epoch:
                scheduler.step(LOSSES[update // (STEPS // EPOCHS)])
        elif per == "step" or ends_epoch:
            scheduler.step()
    return seen


def test_every_scheduler_that_takes_an_optimizer_and_numbers_is_there():
    known = {
        name
        for name, value in vars(lr_scheduler).items()
        if inspect.isclass(value) and issubclass(value, lr_scheduler.LRScheduler) and not name.startswith("_")
    }
    assert known - set(NAMES) <= {"LRScheduler", "SequentialLR", "ChainedScheduler"}
    assert set(ARGUMENTS) == set(NAMES)


@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize("name", NAMES)
def test_equals_torchs_own_class(name, per):
    if (name, per) == ("ReduceLROnPlateau", "step"):
        with pytest.raises(ConfigError, match="ReduceLROnPlateau: per must be 'epoch'"):
            ts.schedules.ReduceLROnPlateau(per="step")
        return
    ours = rates(getattr(ts.schedules, name)(**ARGUMENTS[name], per=per))
    assert ours == rates_of_torch(name, ARGUMENTS[name], per)
    assert len(set(ours)) > 1


@pytest.mark.parametrize("name", NAMES)
def test_moves_by_epoch_unless_torch_means_steps(name):
    value = getattr(ts.schedules, name)(**ARGUMENTS[name])
    assert value.per == ("step" if name in ("OneCycleLR", "CyclicLR") else "epoch")
    assert rates(value) == rates_of_torch(name, ARGUMENTS[name], value.per)


@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("CosineAnnealingLR", "T_max"),
        ("LinearLR", "total_iters"),
        ("PolynomialLR", "total_iters"),
        ("ConstantLR", "total_iters"),
        ("OneCycleLR", "total_steps"),
    ],
)
def test_totals_left_out_are_the_length_of_the_fit(name, total, per):
    other = {"max_lr": 0.3} if name == "OneCycleLR" else {}
    length = EPOCHS if per == "epoch" else STEPS
    assert rates(getattr(ts.schedules, name)(**other, per=per)) == rates_of_torch(name, {**other, total: length}, per)


def test_no_epochs_are_possible():
    assert rates(ts.schedules.CosineAnnealingLR(), epochs=0) == []


def test_a_function_of_an_optimizer_moves_by_epoch():
    given = functools.partial(lr_scheduler.StepLR, step_size=2)
    assert rates(given) == rates(ts.schedules.StepLR(step_size=2))
    assert rates(None) == [0.2] * STEPS


def test_a_value_is_a_function_of_an_optimizer():
    optimizer = make_optimizer()
    made = ts.schedules.StepLR(step_size=2)(optimizer)
    assert type(made) is lr_scheduler.StepLR
    assert resolve_schedule(ts.schedules.StepLR(step_size=2)) == ts.schedules.StepLR(step_size=2)
    assert resolve_schedule("CosineAnnealingLR") == ts.schedules.CosineAnnealingLR()


def test_plateau_waits_where_the_loss_is_not_known():
    optimizer = make_optimizer()
    scheduled = Scheduled(ts.schedules.ReduceLROnPlateau(patience=0, factor=0.5), optimizer, epochs=4, steps=4)
    for loss in (1.0, None, None, 1.0):
        scheduled.after_epoch(loss)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert scheduled.scheduler.num_bad_epochs == 0
    assert scheduled.scheduler.last_epoch == 2


def test_rates_in_place_of_the_optimizers_keep_the_factors_of_groups():
    for name, arguments in {"OneCycleLR": {"max_lr": 0.3}, "CyclicLR": {"base_lr": 0.1, "max_lr": 0.3}}.items():
        parameters = [torch.zeros(2, requires_grad=True) for _ in range(2)]
        optimizer = torch.optim.SGD([{"params": [p]} for p in parameters], lr=0.2, momentum=0.9)
        optimizer.param_groups[1]["lr_factor"] = 6.0
        scheduled = Scheduled(getattr(ts.schedules, name)(**arguments), optimizer, epochs=1, steps=10)
        for _ in range(9):
            first, second = (group["lr"] for group in optimizer.param_groups)
            assert second == pytest.approx(6 * first)
            optimizer.step()
            scheduled.after_step()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("CosinAnnealingLR", "unknown schedule 'CosinAnnealingLR'. Did you mean 'CosineAnnealingLR'"),
        ("StepLR", r"schedule 'StepLR' needs settings: give ts.schedules.StepLR\(...\).*step_size"),
        (3, "schedule must be a value such as"),
        (ts.schedules.StepLR, "schedule is the class StepLR; give a value"),
    ],
)
def test_what_is_no_schedule_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        resolve_schedule(given)


def test_a_scheduler_of_another_optimizer_is_refused():
    with pytest.raises(ConfigError, match="schedule must be a value"):
        resolve_schedule(lr_scheduler.StepLR(make_optimizer(), 2))


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="StepLR: per must be 'epoch' or 'step', got 'batch'"):
        ts.schedules.StepLR(step_size=1, per="batch")
    with pytest.raises(ConfigError, match=r"OneCycleLR\(0.1, pct_start=7\): Expected float between 0 and 1"):
        Scheduled(ts.schedules.OneCycleLR(0.1, pct_start=7), make_optimizer(), epochs=1, steps=1)
