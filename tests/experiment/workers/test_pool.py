from __future__ import annotations

import collections
import importlib.util
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.experiment.workers import worker as workers
from torchstrata.testing import DebugLearner


def beside(name):
    """Load what the tests of this folder and of its parent share."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


faulty, quick_start = beside("faulty"), beside("quick_start")
QUIET = {"scoring": "accuracy", "progress": False}


@pytest.fixture(scope="module")
def task():
    return faulty.make_task()


def run(task, learners, **settings):
    return ts.benchmark(task, learners, cv=faulty.splits(task), **{**QUIET, **settings})


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids, within=10.0):
    end = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_a_process_that_died_by_accident_is_no_failure(task, tmp_path):
    """Killed once, a cell is begun again, and nothing differs from a run without accidents."""
    undisturbed = run(task, {"a": DebugLearner(), "b": DebugLearner()})
    accident = faulty.misbehaving(task, 1, signal="SIGKILL", once=tmp_path / "once")
    result = run(task, {"a": accident, "b": DebugLearner()}, n_jobs=2)
    assert (tmp_path / "once").exists() and result.errors.empty
    pd.testing.assert_frame_equal(result.predictions, undisturbed.predictions, check_exact=True)
    attempts = result.statuses.set_index(["learner", "fold"])["attempts"]
    assert attempts.to_dict() == {("a", 0): 1, ("a", 1): 2, ("a", 2): 1, ("b", 0): 1, ("b", 1): 1, ("b", 2): 1}


@pytest.fixture
def by_fork(monkeypatch):
    """Start workers in milliseconds; every tenth time as a program does, which takes seconds."""
    quick_start.prepare()
    monkeypatch.setattr(quick_start.loky, "fork_exec", quick_start.by_fork)
    return monkeypatch


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked, and looked up in /proc")
def test_workers_killed_at_random_moments_change_nothing(task, by_fork, times):
    """Starting, busy or with nothing to do: what a worker was doing is begun once more, and no table differs."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the kills: {seed}")
    draw, met = random.Random(seed), collections.Counter()
    learners = {"a": DebugLearner(sleep_train=0.03), "b": DebugLearner(sleep_train=0.01), "net": net()}
    undisturbed = run(task, learners, vectorize=False)
    started = time.monotonic()
    run(task, learners, vectorize=False, n_jobs=2)
    lasts = time.monotonic() - started

    def kill(after, wait):
        while wait and not any(worker.job for worker in list(workers._living)) and time.monotonic() < started + lasts:
            time.sleep(0.001)
        time.sleep(after)
        found = [worker for worker in list(workers._living) if worker.process.pid and alive(worker.process.pid)]
        if found:
            one = draw.choice(found)
            met["starting" if not one.ready else "busy" if one.job else "idle"] += 1
            os.kill(one.process.pid, signal.SIGKILL)

    turn = 0
    while met.total() < times(100):
        turn += 1
        if turn % 3 == 0:
            workers.end_all()  # so that some are met while they start
        by_fork.setattr(quick_start.loky, "fork_exec", quick_start.by_exec if turn % 30 == 9 else quick_start.by_fork)
        wait, started = turn % 4 > 0, time.monotonic()  # most of them meet one at work
        killer = threading.Thread(target=kill, args=(draw.uniform(0.0, 0.2 if wait else lasts), wait))
        killer.start()
        result = run(task, learners, vectorize=False, n_jobs=2)
        killer.join()
        assert result.errors.empty, f"seed {seed}, {met}: {result.errors}"
        pd.testing.assert_frame_equal(result.predictions, undisturbed.predictions, check_exact=True)
        assert result.statuses["attempts"].max() <= 2 and result.statuses["attempts"].sum() <= 9 + 1
    print(f"{met.total()} kills: {dict(met)}")
    assert met["busy"] and (met.total() < 100 or met["starting"]), f"never met: {met}"
    workers.end_all()


def net():
    return ts.TorchClassifier(ts.Linear(), max_epochs=2, random_state=0)


@pytest.mark.slow
def test_of_cells_trained_as_one_program_the_culprit_alone_is_killed(task):
    """A scorer that ends the process for one learning rate of one fold, and one that hangs for another."""
    here, splits = os.getpid(), faulty.splits(task)

    def deadly(learner, X, y):
        rate = getattr(getattr(learner, "optimizer", None), "lr", None)
        if os.getpid() != here and rate == 0.1 and X["row"].iloc[0] == splits[1][1][0]:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.getpid() != here and rate == 0.2 and X["row"].iloc[0] == splits[2][1][0]:
            time.sleep(600)
        return accuracy_score(y, learner.predict(X))

    grid = ts.grid(ts.TorchClassifier(ts.Linear(), max_epochs=2), optimizer__lr=[0.05, 0.1, 0.2])
    undisturbed = run(task, {"net": grid}, scoring={"deadly": deadly})
    assert undisturbed.info["together"][0]["cells"] == 9 and undisturbed.errors.empty
    result = run(task, {"net": grid}, scoring={"deadly": deadly}, n_jobs=2, timeout=10.0)
    assert result.info["runtime"]["processes"] == [2, "one thread each, so that they share the cores; threads: 1"]
    errors = result.errors.set_index(["fold", "optimizer__lr"])
    assert errors["status"].to_dict() == {(1, 0.1): "killed", (2, 0.2): "timeout"}
    scores, clean = (r.scores.query("measure == 'deadly'")["value"].tolist() for r in (result, undisturbed))
    assert sum(score != score for score in scores) == 2
    assert all(score != score or score == wanted for score, wanted in zip(scores, clean, strict=True))


@pytest.mark.slow
def test_the_limit_ends_a_cell_and_no_other(task):
    learners = {"hangs": faulty.misbehaving(task, 1, sleep_train=600.0), "ok": DebugLearner()}
    started = time.monotonic()
    result = run(task, learners, timeout=3.0)
    assert result.errors[["learner", "fold", "status"]].values.tolist() == [["hangs", 1, "timeout"]]
    assert "it took longer than timeout=3 s" in result.errors["message"].iloc[0]
    assert time.monotonic() - started < 100 and result.statuses["attempts"].eq(1).all()
    with pytest.raises(RuntimeError, match=r"learner 'hangs', fold 1: ended after .* timeout=3 s"):
        run(task, learners, timeout=3.0, on_error="raise")


def test_a_task_is_sent_to_each_worker_once(task, monkeypatch):
    sent, send = [], workers.Worker.send

    def spy(self, kind, content=b""):
        sent.append(kind)
        send(self, kind, content)

    monkeypatch.setattr(workers.Worker, "send", spy)
    run(task, {"a": DebugLearner(), "b": DebugLearner()}, n_jobs=2)
    assert sent.count("job") == 6 and 1 <= sent.count("task") == sent.count("begin") <= 2


def test_errors_that_end_the_run_come_through(task):
    with pytest.raises(ZeroDivisionError, match="fails in fit") as caught:
        run(task, DebugLearner(error_train=1.0, raise_class="ZeroDivisionError"), n_jobs=2, on_error="raise")
    assert "in a worker process" in caught.value.__notes__[0] and "debug.py" in caught.value.__notes__[0]
    with pytest.raises(ConfigError, match="fails in fit"):
        run(task, DebugLearner(error_train=1.0, raise_class="ConfigError"), n_jobs=2)

    class Awkward(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    class Raises(DebugLearner):
        def fit(self, X, y):
            raise Awkward(1, 2)

    with pytest.raises(RuntimeError, match="Awkward: 1 and 2"):
        run(task, {"raises": Raises()}, n_jobs=2, on_error="raise")


def test_what_cannot_travel_is_said_before_the_first_fit(task, tmp_path):
    spy = DebugLearner(error_train=1.0, once=tmp_path / "begun")
    locked = DebugLearner(when=threading.Lock().acquire)
    with pytest.raises(ConfigError, match=r"learner 'locked' cannot be sent to a worker process: TypeError.*n_jobs=1"):
        run(task, {"spy": spy, "locked": locked}, n_jobs=2)
    assert not (tmp_path / "begun").exists()


def test_what_a_worker_cannot_read_is_a_failure_of_its_cell(task):
    result = run(task, {"unreadable": DebugLearner(when=Unreadable()), "ok": DebugLearner()}, n_jobs=2)
    errors = result.errors
    assert errors["learner"].eq("unreadable").all() and len(errors) == 3
    assert errors["message"].str.contains("a worker process cannot read it: ZeroDivisionError").all()


class Unreadable:
    """It is pickled by a call that cannot be made."""

    def __call__(self, X):
        return False

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        import operator

        return operator.truediv, (1, 0)


def test_ctrl_c_keeps_what_is_finished_and_ends_the_workers(task, tmp_path):
    begun = tmp_path / "pids"
    begun.mkdir()

    def note(X):
        (begun / str(os.getpid())).touch()
        return True

    learners = {"done": DebugLearner(), "hangs": DebugLearner(sleep_train=600.0, when=note)}

    for code, wanted in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)):
        threading.Thread(target=interrupt_when_busy, args=(begun, code), daemon=True).start()
        with pytest.raises(wanted) as stopped:
            run(task, learners, n_jobs=2)
        ended = stopped.value.result.statuses.set_index(["fold", "learner"])["status"]
        assert ended.tolist() == ["ok", "interrupted"] * 2 + ["interrupted"] * 2  # both workers hang before fold 2
        assert gone([int(path.name) for path in begun.iterdir()])
        for path in begun.iterdir():
            path.unlink()
    assert stopped.value.code == 143


def interrupt_when_busy(begun, code):
    while len(list(begun.iterdir())) < 2:
        time.sleep(0.05)
    os.kill(os.getpid(), code)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_worker_outlives_a_parent_that_is_killed(tmp_path):
    """SIGKILL leaves the parent no last word: its workers notice by themselves, even while they train."""
    script = f"""
        import os, pathlib, sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        import faulty, torchstrata as ts
        from torchstrata.testing import DebugLearner

        def note(X):
            pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()
            return True

        task = faulty.make_task()
        ts.benchmark(task, DebugLearner(sleep_train=600.0, when=note), cv=3, n_jobs=2, progress=False)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        end = time.monotonic() + 120
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
            assert parent.poll() is None
            time.sleep(0.05)
        pids = [int(path.name) for path in tmp_path.iterdir()]
        assert len(pids) == 2 and all(map(alive, pids))
    finally:
        parent.kill()
        parent.wait()
    assert gone(pids, within=5.0)
