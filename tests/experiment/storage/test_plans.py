from __future__ import annotations

import pytest

from torchstrata.experiment.storage import record
from torchstrata.experiment.storage.plans import Plan, united
from torchstrata.experiment.storage.record import Planned


def plan(*cells: Planned, started="1", learners=None, measures=("accuracy",)) -> Plan:
    tasks = {cell.task: {"n": 1} for cell in cells}
    splits = [{"task": task, "fold": 0, "n_train": 2, "n_test": 1, "digest": "d"} for task in tasks]
    named = {cell.learner: f"{cell.learner}()" for cell in cells}
    return Plan(list(cells), tasks, {**named, **(learners or {})}, list(measures), splits, started)


def cell(key: str, settings=None, *, task="t", learner="l", fold=0) -> Planned:
    return Planned(key, task, learner, fold, settings or {}, 2, 1)


def test_a_plan_comes_back_and_is_known_by_its_cells():
    one = plan(cell("a", {"lr": 0.1, "hidden": (3, 4), "inf": float("inf")}), cell("b"))
    again = Plan.from_line(one.to_line())
    assert again == one and again.id == one.id
    assert plan(cell("a")).id != plan(cell("b")).id and plan(cell("a"), started="2").id == plan(cell("a")).id
    with pytest.raises(ValueError, match="checksum"):
        Plan.from_line(one.to_line()[:-1])
    with pytest.raises((KeyError, TypeError)):
        Plan.from_line(record.seal({"task": "t"}))


def test_of_two_cells_of_one_name_the_later_plan_s_counts():
    old, new = plan(cell("a"), cell("b", fold=1)), plan(cell("c"), started="2")
    assert [c.key for c in united([old, new]).cells] == ["b", "c"]
    assert [c.key for c in united([new, old]).cells] == ["a", "b"], "they come the oldest first"
    assert [c.key for c in united([old]).cells] == ["a", "b"] and united([]).cells == []


def test_settings_are_told_apart_by_type_as_well():
    values = [1, 1.0, True, "1", None, (1,), (1.0,), 0.0, -0.0, float("nan")]
    one = plan(*(cell(f"a{i}", {"x": value}) for i, value in enumerate(values)))
    two = plan(*(cell(f"b{i}", {"x": value}) for i, value in enumerate(values[:4])), started="2")
    read = [Plan.from_line(each.to_line()) for each in (one, two)]
    assert [c.key for c in united(read).cells] == [f"a{i}" for i in range(4, 10)] + [f"b{i}" for i in range(4)]


def test_what_a_later_plan_contradicts_is_left_out():
    old = plan(cell("a"), cell("b", learner="m"))
    changed = plan(cell("c"), started="2", learners={"l": "l(other=True)"})
    both = united([old, changed])
    assert [c.key for c in both.cells] == ["b", "c"] and both.learners == {"l": "l(other=True)", "m": "m()"}
    assert both.started == "2" and both.measures == ["accuracy"] and len(both.splits) == 1
