"""Memory runs out in one cell: it is recorded, the process lives on, and no other cell notices."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

import torchstrata as ts
from torchstrata.errors import ConfigError, is_out_of_memory
from torchstrata.experiment.score import Split
from torchstrata.learner.many import fit_many

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not limit the address space")
PHASES = ("fit", "predict", "preprocessing")
# Megabytes above what is in use. The hungry cell asks for 256, of which what the process has freed before may give a
# part; every other fit needs 6 for a moment. So up to 150 are too few, and 320 are enough. Spread for the first ones.
LEVELS = (8, 320, 48, 12, 512, 96, 16, 144, 20, 64, 360, 24, 80, 32, 112, 400, 40, 128, 56, 150)
ENOUGH = 320
TOLD = {
    "fit": "memory ran out in fit",
    "predict": "memory ran out in predict",
    "preprocessing": "memory ran out in fit, while rows were prepared",
}
BYTES = {"torch": "8388608 bytes", "numpy": "8.00 MiB", "python": "", "at once": f"{256 * 2**20} bytes"}


class Server:
    """A process that carries out benchmarks short of memory; itself, it has all there is."""

    def __init__(self, folder: Path):
        self.folder, self.count = folder, 0
        command = [sys.executable, str(Path(__file__).with_name("memory_server.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def carry_out(self, **order):
        """Return the result; the process that carried it out must have ended as it should."""
        self.count += 1
        out = str(self.folder / f"{self.count}.zip")
        plain = {"phase": "fit", "fold": 0, "level": None, "kind": "", "trial": False, "way": "encoder", "n_jobs": 1}
        self.process.stdin.write(json.dumps({**plain, "out": out, **order}) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "0\n", order
        return ts.load_result(out)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("memory"))
    yield server
    with server.process:  # closes its pipes, and so it ends
        server.process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(server):
    """What comes out where nobody is hungry, by the way the rows are prepared."""
    ways = {way: server.carry_out(way=way, phase="preprocessing") for way in ("encoder", "pipeline")}
    for result in ways.values():
        assert (result.statuses["status"] == "ok").all()
    return {way: cells_of(result) for way, result in ways.items()}


def cells_of(result):
    """Predictions and scores of each cell, to the last bit; no times."""
    keys = ["learner", "fold"]
    scores = result.scores[result.scores["measure"] == "roc_auc"].set_index(keys)["value"]
    predicted = {key: rows.drop(columns=keys).to_dict("list") for key, rows in result.predictions.groupby(keys)}
    return {key: (float(value).hex(), predicted.get(key)) for key, value in scores.items()}


def order_of(phase, number):
    """One of twenty ways to run out of memory in a phase; what asks for it, where and how follows from the number."""
    place = number + PHASES.index(phase)
    return {
        "phase": phase,
        "level": LEVELS[number],
        "kind": list(BYTES)[place % 4],
        "fold": (place // 4 + number) % 4,
        "trial": phase == "fit" and place % 2 == 1,  # in the trial of two rows, before any training
        "way": "pipeline" if phase == "preprocessing" and number % 3 == 1 else "encoder",
    }


def check(result, order, undisturbed):
    statuses = result.statuses.set_index(["learner", "fold"]).to_dict("index")
    assert len(statuses) == 12
    ended, found = statuses.pop(("hungry", order["fold"])), cells_of(result)
    assert {one["status"] for one in statuses.values()} == {"ok"}, statuses
    for key in statuses:
        assert found[key] == undisturbed[key], (order, key)
    if order["level"] >= ENOUGH:
        assert ended["status"] == "ok" and found["hungry", order["fold"]] == undisturbed["hungry", order["fold"]]
        return
    told = TOLD["fit" if order["way"] == "pipeline" else order["phase"]]
    assert ended["status"] == "oom" and (ended["message"] == told or ended["message"].startswith(f"{told}: ")), ended
    assert BYTES[order["kind"]] in ended["message"]
    assert "eat" in result.errors["traceback"].item()


@linux
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.repeats(20)
def test_a_cell_that_wants_too_much_ends_as_oom(server, undisturbed, phase, repeat):
    order = order_of(phase, repeat)
    check(server.carry_out(**order), order, undisturbed[order["way"]])


@linux
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.repeats(20)
def test_so_it_does_in_worker_processes(server, undisturbed, phase, repeat):
    order = order_of(phase, repeat)
    result = server.carry_out(n_jobs=2, **order)
    check(result, order, undisturbed[order["way"]])
    assert (result.statuses["attempts"] == 1).all()  # no process died of it


@linux
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("level", "status"), [(100, "oom"), (450, "ok"), (1000, "ok")])
def test_real_networks_of_too_many_weights(server, undisturbed, level, status):
    """64 MB of weights, as much for gradients, twice that for Adam: one fold fits into 450 MB, but
    not beside the networks of the other folds, which their scores wait for."""
    result = server.carry_out(phase="wide", width=4000, level=level)
    statuses = result.statuses.groupby("learner")["status"].unique().map(list).to_dict()
    assert statuses == {"hungry": [status], "mlp": ["ok"], "dummy": ["ok"]}
    found = cells_of(result)
    assert all(found[key] == value for key, value in undisturbed["encoder"].items() if key[0] != "hungry")
    if status == "oom":
        assert result.errors["message"].str.contains("memory ran out in fit: .*you tried to allocate [0-9]+").all()


# without a limit: what is raised stands for it


def no_memory(*args, **kwargs):
    raise MemoryError


@pytest.fixture
def task():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60), "y": np.tile(["n", "p"], 30)})
    return ts.Task(frame, target="y", name="made")


@pytest.mark.parametrize("learner", [LogisticRegression(), ts.TorchClassifier(ts.Linear(), max_epochs=2)])
@pytest.mark.parametrize("fallback", [None, DummyClassifier()])
@pytest.mark.parametrize("part", ["train", "test"])
def test_rows_of_a_split_that_cannot_be_made_cost_one_cell(task, learner, fallback, part, monkeypatch):
    tests = np.arange(60).reshape(3, 20)
    cv = [(np.setdiff1d(np.arange(60), test), test) for test in tests]
    settings = {"cv": cv, "scoring": "accuracy", "progress": False, "fallback": fallback}
    clean = ts.benchmark(task, {"l": learner}, **settings)
    too_many = cv[1][part == "test"]

    def rows(self, index):
        if self.n_rows == 60 and np.array_equal(index, too_many):
            raise MemoryError
        return plain(self, index)

    plain = ts.Task.rows
    monkeypatch.setattr(ts.Task, "rows", rows)
    result = ts.benchmark(task, {"l": learner}, **settings)
    failed = result.errors
    assert len(failed) == 1 and failed["status"].item() == "oom"
    assert failed["message"].item().startswith("memory ran out in fit")
    if fallback is not None:  # it needs the rows too
        assert "the fallback failed too" in failed["message"].item()
    kept, before = (
        table[table["fold"] != 1].reset_index(drop=True) for table in (result.predictions, clean.predictions)
    )
    assert len(kept) == 40 and failed["fold"].item() == 1
    pd.testing.assert_frame_equal(kept, before)


def test_in_the_first_check_it_is_no_wrong_setting(task, monkeypatch):
    """Before the first fit, every learner is tried: one that has no memory then may have it later."""
    monkeypatch.setattr(ts.TorchClassifier, "check_fit", no_memory)
    result = ts.benchmark(task, ts.TorchClassifier(ts.Linear(), max_epochs=1), cv=3, scoring="accuracy", progress=False)
    assert (result.statuses["status"] == "ok").all()


def test_a_network_that_has_no_memory_is_not_refused_as_wrong():
    class Large(torch.nn.Module):
        def __init__(self, words):
            super().__init__()
            self.layer, self.words = torch.nn.Linear(2, 1), words

        def forward(self, x):
            raise RuntimeError(self.words)

    X, y = np.arange(16.0).reshape(8, 2), np.tile([0, 1], 4)
    said = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
    with pytest.raises(RuntimeError, match="8 bytes") as raised:
        ts.TorchClassifier(Large(said)).fit(X, y)
    assert not isinstance(raised.value, ConfigError)
    with pytest.raises(ConfigError, match="shapes do not fit"):
        ts.TorchClassifier(Large("shapes do not fit")).fit(X, y)


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (ImportError("No module named 'out'"), False),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_means_that_memory_ran_out(error, means):
    assert is_out_of_memory(error) == means


# fits that are prepared and trained together


class Held:
    pass


class Hungry(ts.Callback):
    """Runs out of memory in an epoch, holding something; others look whether it is still held."""

    def __init__(self, at, held, epoch=1):
        self.at, self.held, self.epoch = at, held, epoch

    def __call__(self):
        mine = Held()
        self.held.append(weakref.ref(mine))
        raise MemoryError

    def on_epoch_end(self, state):
        if self.at and state.epoch == self.epoch:
            self()


class Looks(ts.Callback):
    def __init__(self, held, seen):
        self.held, self.seen = held, seen

    def on_epoch_end(self, state):
        gc.collect()
        self.seen += [ref() is None for ref in self.held]


def learner(*callbacks, **settings):
    made = {"max_epochs": 3, "random_state": 0, "callbacks": callbacks, **settings}
    return ts.TorchClassifier(ts.MLP((4,)), **made)


def test_what_a_failed_fit_held_is_let_go_before_the_others_end():
    rng = np.random.default_rng(0)
    given = {"X": rng.normal(size=(40, 3)), "y": np.tile([0, 1], 20)}
    held, seen = [], []
    done = fit_many([learner(Hungry(True, held)), learner(Looks(held, seen)), learner()], [given] * 3)
    assert isinstance(done[0].error, MemoryError) and len(held) == 2  # among the others, and by itself
    assert done[1].error is None and done[2].error is None
    assert seen == [True] * 3


def test_one_that_runs_short_beside_others_is_fitted_by_itself(monkeypatch):
    """Two of four networks are too many at a time: each is fitted as it would be alone."""
    rng = np.random.default_rng(0)
    given = {"X": rng.normal(size=(40, 3)), "y": np.tile([0, 1], 20)}
    alone = [learner(random_state=seed).fit(**given) for seed in range(4)]
    prepared = []
    plain = ts.TorchClassifier._prepare

    def prepare(self, *args, **kwargs):
        if sum(ref() is not None for ref in prepared) >= 2:
            raise MemoryError
        job = plain(self, *args, **kwargs)
        prepared.append(weakref.ref(job))
        return job

    monkeypatch.setattr(ts.TorchClassifier, "_prepare", prepare)
    done = fit_many([learner(random_state=seed) for seed in range(4)], [given] * 4)
    assert [one.error for one in done] == [None] * 4
    why = [one.learner.runtime_.reasons["vectorize"][1] for one in done]
    assert why[2:] == ["memory ran out beside others"] * 2 and "together" not in why[3]
    for one, other in zip(done[2:], alone[2:], strict=True):
        np.testing.assert_array_equal(one.learner.decision_function(given["X"]), other.decision_function(given["X"]))


def test_memory_for_one_at_a_time_is_enough(monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), np.tile([0, 1], 30)
    monkeypatch.setattr("torchstrata.learner.many.train_many", no_memory)
    search = ts.GridSearchCV(learner(), {"optimizer__lr": [0.01, 0.1]}, cv=3).fit(X, y)
    assert search.vectorized_["why"].eq("memory ran out when they trained together").all()
    alone = ts.GridSearchCV(learner(), {"optimizer__lr": [0.01, 0.1]}, cv=3)
    monkeypatch.undo()
    alone.fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def test_networks_too_large_to_train_together_are_not_all_prepared_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    given = {"X": rng.normal(size=(40, 3)), "y": np.tile([0, 1], 20)}
    monkeypatch.setattr("torchstrata.training.many.WEIGHTS_TOGETHER", 30)
    most, jobs = [], []
    plain = ts.TorchClassifier._prepare

    def prepare(self, *args, **kwargs):
        gc.collect()
        most.append(sum(ref() is not None for ref in jobs))
        job = plain(self, *args, **kwargs)
        jobs.append(weakref.ref(job.module))
        return job

    monkeypatch.setattr(ts.TorchClassifier, "_prepare", prepare)
    done = fit_many([learner(random_state=seed) for seed in range(4)], [given] * 4)
    why = {one.learner.runtime_.reasons["vectorize"] for one in done}
    assert why == {(1, "more networks would not fit into memory")}
    assert most[:4] == [0, 0, 0, 0]


def test_a_split_is_made_when_it_is_asked_for(task):
    split = Split(task, np.arange(40), np.arange(40, 60))
    assert split.train is split.train and split.train.n_rows == 40 and split.test.n_rows == 20
