from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.experiment import checks, plan, run, together
from torchstrata.testing import DebugLearner


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    y = np.repeat(["neg", "pos"], [40, 20])
    return ts.Task(pd.DataFrame({"a": rng.normal(size=60) + (y == "pos"), "y": y}), target="y", name="made")


def planned(task, learners, folds=3):
    tasks = {"made": task}
    made = plan.cells(tasks, plan.name_learners(learners), folds)
    return made, tasks, checks.check_scoring("roc_auc", tasks, made)


def found(outcomes):
    ordered = sorted(outcomes, key=lambda o: (o.cell.learner, o.cell.fold, repr(o.cell.settings)))
    return [(o.cell.keys, o.status, o.scores["roc_auc"], o.predictions.to_dict("list")) for o in ordered]


@pytest.mark.slow
def test_backends_and_numbers_of_jobs_give_the_same(task):
    """One by one, so that there is no group of another size: equal to the last bit."""
    learners = {
        "net": ts.grid(ts.TorchClassifier(ts.MLP((4,)), max_epochs=2), optimizer__lr=[0.01, 0.1]),
        "logistic": LogisticRegression(),
        "fails": DebugLearner(error_train=0.5),
    }
    cells, tasks, scorers = planned(task, learners)
    groups = together.together(cells, vectorize=False)
    here = found(run.run_cells(groups, tasks, scorers))
    assert len(here) == 12 and {status for _, status, _, _ in here} == {"ok", "error_train"}
    for settings in ({"n_jobs": 2}, {"n_jobs": 4, "backend": "threading"}, {"n_jobs": 2, "backend": "sequential"}):
        assert repr(found(run.run_cells(groups, tasks, scorers, **settings))) == repr(here), settings


def test_a_group_that_fails_as_a_whole_is_carried_out_one_by_one(task, monkeypatch):
    from torchstrata.learner import many

    cells, tasks, scorers = planned(task, {"net": ts.TorchClassifier(ts.Linear(), max_epochs=2)})
    groups = together.together(cells)
    assert [len(group.cells) for group in groups] == [3]
    alone = found(run.run_cells(together.together(cells, vectorize=False), tasks, scorers))

    def too_much(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(many, "fit_many", too_much)
    assert found(run.run_cells(groups, tasks, scorers)) == alone


def test_each_outcome_says_how_long_it_took(task):
    cells, tasks, scorers = planned(task, {"sleeps": DebugLearner(sleep_train=0.05, sleep_predict=0.05)})
    for outcome in run.run_cells(together.together(cells), tasks, scorers):
        assert 0.1 < outcome.seconds < 5 and outcome.attempts == 1 and outcome.status == "ok"


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), float("nan"), True, "10"])
def test_a_limit_is_a_positive_number(wrong):
    with pytest.raises(ConfigError, match="timeout must be a positive number of seconds a cell"):
        run.run_cells([], {}, {}, timeout=wrong)


def test_a_limit_needs_processes(task):
    with pytest.raises(ConfigError, match=r"timeout needs processes that can be ended: backend='loky'"):
        ts.benchmark(task, DummyClassifier(), cv=2, timeout=5, n_jobs=2, backend="threading", progress=False)


def test_blocks_are_small_and_hold_each_cell_once(task, monkeypatch):
    monkeypatch.setattr(run, "AT_A_TIME", 4)
    cells, *_ = planned(task, {"net": ts.grid(ts.TorchClassifier(), optimizer__lr=[0.1, 0.2, 0.3])})
    parts = run.blocks(together.together(cells)[0], task)
    assert [len(part.cells) for part in parts] == [4, 4, 1]
    assert {id(cell) for part in parts for cell in part.cells} == {id(cell) for cell in cells}
    folds = [cell.fold for part in parts for cell in part.cells]
    assert folds == sorted(folds)
    monkeypatch.setattr(run, "BYTES_AT_A_TIME", 1)
    assert all(len(part.cells) == 1 for part in run.blocks(together.together(cells)[0], task))


def test_a_fallback_has_the_seed_of_its_cell(task):
    learners = {"fails": DebugLearner(error_train=1.0)}
    settings = {"cv": 3, "scoring": "roc_auc", "fallback": DummyClassifier(strategy="stratified"), "progress": False}
    first, second = (ts.benchmark(task, learners, **settings) for _ in range(2))
    pd.testing.assert_frame_equal(first.predictions, second.predictions)


def test_a_fallback_gets_the_weights(task):
    frame = pd.DataFrame({"a": task.X["a"], "y": task.y, "w": np.where(task.y == "pos", 1e6, 1.0)})
    weighted = ts.Task(frame, target="y", weight="w", name="weighted")
    result = ts.benchmark(
        weighted, DebugLearner(error_train=1.0), cv=2, scoring="accuracy", fallback=DummyClassifier(), progress=False
    )
    assert set(result.predictions["predicted"]) == {"pos"}  # rarer, and a million times as heavy
