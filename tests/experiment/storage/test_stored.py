from __future__ import annotations

import collections
import os
import threading

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor

import torchstrata as ts
from torchstrata.experiment import collect
from torchstrata.experiment.storage import reading, record, resume, stored
from torchstrata.experiment.storage.stored import Kept
from torchstrata.experiment.store import Store
from torchstrata.testing import DebugLearner

LEARNERS = {"one": DummyClassifier(), "two": DummyClassifier(strategy="uniform", random_state=0)}
LEARNERS["bad"] = DebugLearner(error_train=1.0)


@pytest.fixture(scope="module")
def task() -> ts.Task:
    rng = np.random.default_rng(0)
    return ts.Task(pd.DataFrame({"a": rng.normal(size=40), "y": np.tile(["n", "p"], 20)}), target="y", name="made")


@pytest.fixture
def reads(monkeypatch) -> collections.Counter:
    """How often each file of a cell was read."""
    found, before = collections.Counter(), reading.read_file

    def counting(path):
        found[os.path.basename(path)] += "cells" in path
        return before(path)

    monkeypatch.setattr(reading, "read_file", counting)
    return found


def run(task, folder, **settings):
    return ts.benchmark(task, LEARNERS, cv=4, scoring="accuracy", store=folder, progress=False, **settings)


def assert_equal(one, two) -> None:
    for name in ("scores", "history", "predictions", "errors", "splits", "statuses"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name), check_exact=True, obj=name)
    assert one.info["store"] == two.info["store"]


def test_each_cell_is_read_once_whatever_was_there(task, tmp_path, reads):
    run(task, tmp_path)
    assert len(reads) == 12 and set(reads.values()) == {1}, "its own are read back, so that damage is seen"
    reads.clear()
    again = run(task, tmp_path)
    assert len(reads) == 12 and set(reads.values()) == {1}, "those that were there are not read again at the end"
    assert_equal(again, ts.load_result(tmp_path))
    for path in sorted((tmp_path / "cells").iterdir())[::3]:
        path.unlink()
    reads.clear()
    half = run(task, tmp_path)
    assert len(reads) == 12 and set(reads.values()) == {1}
    assert_equal(half, ts.load_result(tmp_path))


def between(monkeypatch, change) -> None:
    """Do something once after the first reading, before the last."""
    before, done = resume._results, []

    def later(*args):
        if not done:
            done.append(change())
        return before(*args)

    monkeypatch.setattr(resume, "_results", later)


def test_a_cell_that_another_process_has_replaced_is_read_again(task, tmp_path, monkeypatch):
    run(task, tmp_path)
    store = Store(tmp_path)
    key = next(k for k in store.names("cells") if store.read(k).status != "ok")
    facts = record.unseal(store.path("cells", key).read_bytes())
    newer = record.seal({**facts, "message": "another failure"})
    between(monkeypatch, lambda: store._write(store.path("cells", key), newer))
    found = run(task, tmp_path)
    assert (found.errors.message == "another failure").sum() == 1
    assert_equal(found, ts.load_result(tmp_path))


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_cell_that_is_lost_while_a_run_goes_on_is_made_again(task, tmp_path, monkeypatch, how):
    whole = run(task, tmp_path)
    path = min((tmp_path / "cells").iterdir())

    def lose():
        if how == "damaged":
            (tmp_path / "damaged").write_bytes(path.read_bytes()[:-9])
            os.replace(tmp_path / "damaged", path)
        else:
            path.unlink()

    between(monkeypatch, lose)
    if how == "damaged":
        with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
            found = run(task, tmp_path)
        assert path.with_name(path.name + ".bad").exists()
    else:
        found = run(task, tmp_path)
    assert found.info["store"]["missing"] == 0 and path.exists()
    pd.testing.assert_frame_equal(found.predictions, whole.predictions, check_exact=True)
    assert_equal(found, ts.load_result(tmp_path))


@pytest.mark.parametrize("room", [-1, 0, 20, 60])
def test_what_there_is_no_room_for_is_read_again(task, tmp_path, monkeypatch, reads, room):
    run(task, tmp_path)
    monkeypatch.setattr(stored, "KEPT", room)
    reads.clear()
    found = run(task, tmp_path)
    assert len(reads) == 12 and max(reads.values()) == 2
    assert (min(reads.values()) == 1) == (room >= 0)
    assert_equal(found, ts.load_result(tmp_path))


def test_ctrl_c_in_the_middle_of_a_cell_spoils_no_result(task, tmp_path, monkeypatch):
    run(task, tmp_path)
    store = Store(tmp_path)
    (plan,), _ = store.plans()
    kept, there = Kept(plan), store.numbered("cells")
    found = [store.read(cell.key) for cell in plan.cells]
    kept.add(found[0], there[plan.cells[0].key])
    assert kept.holds(there) and not kept.holds({})

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(kept.collected), "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.add(found[1], there[plan.cells[1].key])
    monkeypatch.undo()
    assert not kept.holds(there)
    result = stored.result_of(store, plan, {}, [], kept=kept)
    pd.testing.assert_frame_equal(result.predictions, ts.load_result(tmp_path).predictions)
    assert result.info["store"]["finished"] == 12


@pytest.mark.parametrize("kind", ["category", "int", "bool", "float", "Int64", "string", "object"])
def test_tables_that_are_put_together_in_parts_are_the_same(tmp_path, monkeypatch, kind):
    label = np.tile([3, 4], 20)
    values = {
        "category": pd.Categorical(label.astype(str), ["z", "4", "3"]),
        "int": label,
        "bool": label == 3,
        "float": np.linspace(0.0, 1.0, 40),
        "Int64": pd.array(label, dtype="Int64"),
        "string": pd.array(label.astype(str), dtype="string"),
        "object": label.astype(str).astype(object),
    }
    task = ts.Task(pd.DataFrame({"a": np.arange(40.0), "y": values[kind]}), target="y", name="made")
    learner = DummyRegressor() if kind == "float" else DummyClassifier()
    whole = ts.benchmark(task, learner, cv=8, store=tmp_path, progress=False)
    monkeypatch.setattr(collect, "_AT_ONCE", 12)  # five rows a cell
    assert_equal(ts.load_result(tmp_path), whole)


def test_several_on_one_store_return_the_same(task, tmp_path):
    """What others finish is kept as it is noticed."""
    results: dict[int, ts.BenchmarkResult] = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: run(task, tmp_path)})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for result in results.values():
        assert_equal(result, ts.load_result(tmp_path))
