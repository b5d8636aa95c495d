"""Params: immutable values with named settings."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.params import Params, nested_params, replace_nested


@dataclasses.dataclass(frozen=True, repr=False)
class Inner(Params):
    size: int
    _: dataclasses.KW_ONLY
    rate: float = 0.5


@dataclasses.dataclass(frozen=True, repr=False)
class Outer(Params):
    part: Any = Inner(1)
    other: Any = None
    _: dataclasses.KW_ONLY
    name: str = "a"


def test_get_params_deep_and_shallow():
    assert Outer().get_params(deep=False) == {"part": Inner(1), "other": None, "name": "a"}
    assert Outer().get_params() == {
        "part": Inner(1),
        "other": None,
        "name": "a",
        "part__size": 1,
        "part__rate": 0.5,
    }


def test_nested_params_pass_over_classes():
    assert nested_params({"a": Inner, "b": Inner(2)}) == {"a": Inner, "b": Inner(2), "b__size": 2, "b__rate": 0.5}


def test_replace_makes_another_value_and_leaves_this_one():
    outer = Outer()
    changed = outer.replace(name="b", part__rate=0.25)
    assert changed == Outer(Inner(1, rate=0.25), name="b")
    assert outer == Outer()
    assert changed.part is not outer.part


def test_replace_takes_the_new_part_before_its_settings():
    assert Outer().replace(part__size=9, part=Inner(3, rate=0.1)).part == Inner(9, rate=0.1)


def test_nothing_can_be_assigned():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Inner(1).size = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"prat": 1},
            r"Invalid parameter 'prat' for Outer. Valid parameters are: \['name', 'other', 'part'\]. Did",
        ),
        ({"part__sise": 1}, "Invalid parameter 'sise' for Inner.*Did you mean 'size'"),
        ({"other__x": 1}, "Outer.other is None, which has no settings to reach by name \\(x\\)"),
    ],
)
def test_unknown_names_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Outer().replace(**changes)


def test_replace_copies_a_foreign_estimator_before_it_is_edited():
    scaler = StandardScaler()
    out = replace_nested({"encoder": scaler}, {"encoder__with_mean": False}, "Learner")
    assert out["encoder"].with_mean is False
    assert scaler.with_mean is True


def test_a_class_has_no_settings():
    with pytest.raises(ConfigError, match="no settings to reach by name"):
        replace_nested({"encoder": StandardScaler}, {"encoder__with_mean": False}, "Learner")


def test_repr_shows_what_was_chosen_and_reads_back():
    assert repr(Inner(3)) == "Inner(3)"
    assert repr(Inner(3, rate=0.1)) == "Inner(3, rate=0.1)"
    assert repr(ts.optim.AdamW(lr=0.1)) == "AdamW(lr=0.1)"
    for value in [
        ts.MLP(hidden=(3, 4), dropout=0.5),
        ts.Linear(),
        ts.StratifiedBatchSampler(2, shuffle=False),
        ts.RandomBatchSampler(8),
        ts.EarlyStopping(3, min_delta=0.1),
        ts.Runtime(threads=1),
    ]:
        assert eval(repr(value), vars(ts)) == value


@pytest.mark.parametrize(
    "value",
    [
        Outer(),
        ts.MLP(hidden=[3, 4]),
        ts.optim.SGD(lr=0.1, momentum=0.9),
        ts.schedules.StepLR(step_size=3),
        ts.StratifiedBatchSampler(3),
        ts.Runtime("cpu"),
        ts.EarlyStopping(2),
    ],
    ids=lambda v: type(v).__name__,
)
def test_values_are_equal_after_pickle_copy_and_clone_and_can_be_keys(value):
    assert clone(value) is value
    for twin in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value), value.replace()):
        assert twin == value
        assert {value: "found"}[twin] == "found"
