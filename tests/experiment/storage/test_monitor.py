from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

import torchstrata as ts
from torchstrata.errors import DataError
from torchstrata.experiment.progress import duration, state
from torchstrata.experiment.storage.lease import Lease
from torchstrata.experiment.storage.monitor import Status, status_of_store
from torchstrata.experiment.store import Store


@pytest.fixture
def store(tmp_path):
    frame = pd.DataFrame({"a": np.arange(40.0), "y": np.tile(["n", "p"], 20)})
    task = ts.Task(frame, target="y", name="made")
    learners = {"one": DummyClassifier(), "two": DummyClassifier(strategy="uniform")}
    ts.benchmark(task, learners, cv=4, scoring="accuracy", store=tmp_path, progress=False)
    return Store(tmp_path)


def test_claims_are_told_from_cells_that_nobody_works_on(store):
    keys = [cell.key for cell in store.plans()[0][0].cells]
    for key in keys[:3]:
        store.path("cells", key).unlink()
    with Lease(store, jobs=3) as lease:
        assert lease.claim(keys[0]) and lease.claim(keys[1])
        lease.claim(keys[7])  # finished: a claim that is about to be given back
        found = status_of_store(store.folder)
        assert found.cells.status.tolist() == ["claimed", "claimed", "missing"] + ["ok"] * 5
        assert found.working == {str(lease.worker): 2} and found.jobs == 3 and not found.gone
        assert any("2 cells claimed" in line for line in found.lines())
        store.path("workers", lease.worker.name).unlink()
        found = status_of_store(store.folder)
        assert found.cells.status.tolist()[:3] == ["stale", "stale", "missing"] and not found.working
    counts = status_of_store(store.folder).counts()
    assert counts.cells.tolist() == [4, 4] and counts.missing.sum() == 3 and counts.ok.sum() == 5


def test_the_time_left_is_that_of_like_cells():
    rows = [("t", "slow", "ok", 10.0), ("t", "slow", "missing", math.nan), ("t", "fast", "ok", 1.0)]
    rows += [("t", "fast", "claimed", math.nan), ("t", "new", "missing", math.nan)]
    cells = pd.DataFrame(rows, columns=["task", "learner", "status", "seconds"]).assign(fold=0)
    found = Status(None, cells, {"a": 1}, {}, [], jobs=2)
    assert found.seconds_left == pytest.approx((10 + 1 + 5.5) / 2)
    assert Status(None, cells[cells.status != "ok"], {}, {}, [], 0).seconds_left is None
    assert Status(None, cells[cells.status == "ok"], {}, {}, [], 0).seconds_left == 0.0


def test_looking_changes_nothing(store):
    store.path("cells", store.names("cells")[0]).write_bytes(b"{}")
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    time.sleep(0.01)
    found = status_of_store(store.folder)
    assert found.cells.status.eq("damaged").sum() == 1 and len(found.damaged) == 1
    with pytest.warns(UserWarning, match="is damaged"):
        ts.load_result(store.folder)
    assert before == {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    with pytest.raises(DataError, match="expected a folder that benchmark"):
        status_of_store(store.folder / "cells")


def test_durations_and_states_for_people():
    assert [duration(s) for s in (3, 100, 6000, 200_000)] == ["about 3 s", "about 2 min", "about 2 h", "about 2 days"]
    assert state(0, None) == "" and state(2, lambda: 3) == "3 running, 2 failed"
