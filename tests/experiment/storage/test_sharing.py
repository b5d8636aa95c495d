"""Processes that are killed, and processes that share: real ones, on one folder."""

from __future__ import annotations

import collections
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

import torchstrata as ts
from torchstrata.experiment.plan import cells as planned_cells
from torchstrata.experiment.storage.lease import Lease
from torchstrata.experiment.storage.record import Planned, unseal
from torchstrata.experiment.storage.sharing import Conditions, Sharing
from torchstrata.experiment.store import Store
from torchstrata.experiment.together import Group

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked, which this system cannot")
CELLS = 3 * 3 * 5


class Server:
    """Children that carry out one benchmark; see store_server.py."""

    def __init__(self):
        script = Path(__file__).with_name("store_server.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.ended: dict[int, int] = {}
        assert self.process.stdout.readline() == "ready\n"

    def start(self, **order) -> int:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        while len(words := self.process.stdout.readline().split()) != 1:
            self.ended[int(words[0])] = int(words[1])
        return int(words[0])

    def wait(self, child: int) -> int:
        while child not in self.ended:
            self._note(self.process.stdout.readline())
        return self.ended[child]

    def hear(self, seconds: float) -> None:
        """Wait, and note who ends meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self.process.stdout], [], [], left)[0]:
                self._note(self.process.stdout.readline())

    def _note(self, line: str) -> None:
        pid, code = line.split()
        self.ended[int(pid)] = int(code)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def order(tmp_path):
    return {"folder": str(tmp_path / "store"), "out": str(tmp_path / "out"), "log": str(tmp_path / "log"), "sleep": 0.0}


def tables(folder: str | Path) -> list[pd.DataFrame]:
    """All tables but what no two runs have in common: times, and the lines of tracebacks."""
    result = ts.load_result(folder)
    scores = result.scores
    return [
        scores[~scores.measure.str.endswith("_seconds")].reset_index(drop=True),
        result.predictions,
        result.errors.drop(columns="traceback"),
        result.splits,
    ]


def assert_equal(folder: str | Path, other: str | Path) -> None:
    for one, two in zip(tables(folder), tables(other), strict=True):
        pd.testing.assert_frame_equal(one, two, check_exact=True)


def begun(order: dict) -> collections.Counter:
    return collections.Counter(Path(order["log"]).read_text().splitlines())


def finished(order: dict) -> dict[str, tuple[int, int]]:
    """Finished cells; one that was written again has another number."""
    folder = Path(order["folder"], "cells")
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.glob("*.json")} if folder.is_dir() else {}


def kill_while_it_works(server, order: dict, draw: random.Random) -> bool:
    """Start it, kill it at a random moment; False if it was done before."""
    child, before = server.start(**order), finished(order)
    workers = Path(order["folder"], "workers")
    while draw.random() < 0.99 and child not in server.ended and not any(workers.glob(f"*-{child}-*.json")):
        server.hear(0.01)  # most kills shall come while it works, some while it plans
    server.hear(draw.uniform(0.0, 0.3))
    if child not in server.ended:
        os.kill(child, signal.SIGKILL)
    killed = server.wait(child) == -signal.SIGKILL
    after = finished(order)
    assert {name: after.get(name) for name in before} == before, "what was finished is neither lost nor made again"
    return killed


def kill_until_done(server, order: dict, draw: random.Random, most: int) -> int:
    """Kill and resume until it is done or was killed often enough; check what came; say how often it was killed."""
    kills = 0
    while kills < most and len(finished(order)) < CELLS:
        kills += kill_while_it_works(server, order, draw)
    assert server.wait(server.start(**order)) == 0
    assert_equal(order["folder"], order["out"])
    assert len(finished(order)) == len(list(Path(order["folder"], "cells").iterdir())) == CELLS
    lines = Path(order["log"]).read_text().splitlines()
    assert len(lines) <= 30 + kills, "more than what was in flight was begun twice"
    one_after_another = [line for i, line in enumerate(lines) if not i or line != lines[i - 1]]
    assert len(one_after_another) == len(set(lines)) == 30, "a cell is begun again only when it was cut off"
    assert not list(Path(order["folder"], "claims").iterdir()) and not list(Path(order["folder"], "workers").iterdir())
    return kills


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_a_hundred_random_moments_it_ends_in_the_same_table(server, order, tmp_path, times):
    """Twenty a commit; in full RELIABILITY's S1. Where a table is done before, the next one begins."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the kills: {seed}")
    draw, kills, rounds = random.Random(seed), 0, 0
    whole = {**order, "folder": str(tmp_path / "whole"), "out": str(tmp_path / "whole_out"), "log": str(tmp_path / "l")}
    assert server.wait(server.start(**whole)) == 0
    enough = max(20, times(100))
    while kills < enough:
        this = {**order, **{name: f"{order[name]}{rounds}" for name in ("folder", "out", "log")}, "sleep": 0.12}
        kills, rounds = kills + kill_until_done(server, this, draw, enough - kills), rounds + 1
        for one, two in zip(tables(this["out"]), tables(whole["out"]), strict=True):
            pd.testing.assert_frame_equal(one, two, check_exact=True)
    print(f"{kills} kills in {rounds} tables")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("call", ["open", "fsync", "chmod", "replace", "link"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_call_of_the_writing_path_it_goes_on(server, order, call, when):
    """The moments that chance rarely meets: within the milliseconds in which a cell is claimed and written."""
    kills = 0
    for number in (1, 5, 25):  # marker, plan and splits come first, then cells
        code = server.wait(server.start(**order, kill=[call, when, number]))
        assert code in (0, -signal.SIGKILL)
        kills += code == -signal.SIGKILL
        for path in Path(order["folder"]).glob("*/*.json"):
            if path.parent.name != "workers":
                unseal(path.read_bytes())
    assert kills == 3, "it was not met"
    assert server.wait(server.start(**order)) == 0
    assert len(finished(order)) == CELLS and len(begun(order)) == 30 and begun(order).total() <= 30 + kills
    assert_equal(order["folder"], order["out"])
    assert not list(Path(order["folder"], "claims").iterdir()) and not list(Path(order["folder"], "workers").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("repeat", range(20))
def test_eight_processes_on_one_store_do_every_cell_once(server, order, tmp_path, repeat):
    order["sleep"] = 0.03
    children = [server.start(**{**order, "out": str(tmp_path / f"out{i}")}) for i in range(8)]
    assert [server.wait(child) for child in children] == [0] * 8
    assert len(list(Path(order["folder"], "cells").iterdir())) == CELLS
    counts = begun(order)
    assert len(counts) == 30 and set(counts.values()) == {1}
    by = {json.loads(path.read_text())["run"] for path in Path(order["folder"], "cells").iterdir()}
    assert len(by) > 1, "one process did all the work"
    for i in range(8):
        assert_equal(tmp_path / f"out{i}", order["folder"])


def test_a_process_takes_over_at_once_from_one_that_was_killed(server, order):
    hold = Path(order["log"] + ".hold")
    hold.touch()
    stuck = server.start(**order)
    while not (Path(order["log"]).exists() and Path(order["log"]).read_text()):
        time.sleep(0.01)
    second = server.start(**order)  # it does what the first has not claimed, and would wait for the rest
    assert len(list(Path(order["folder"], "claims").iterdir())) >= 1
    os.kill(stuck, signal.SIGKILL)
    hold.unlink()
    started = time.time()
    assert server.wait(second) == 0
    assert time.time() - started < 20, "a dead process on this machine is not waited for"
    assert begun(order).total() <= 31 and len(begun(order)) == 30
    assert ts.load_result(order["folder"]).info["store"]["finished"] == CELLS


def planned_on(store: Store) -> tuple[list[Group], dict]:
    """Sixty cells, each a group, and their keys."""
    task = ts.load_task("iris")
    learners = {"dummy": ts.grid(DummyClassifier(), random_state=list(range(12)))}
    cells = planned_cells({"iris": task}, learners, 5)
    keys = {
        id(cell): Planned(f"{i:032x}", cell.task, cell.learner, cell.fold, cell.settings, 1, 1)
        for i, cell in enumerate(cells)
    }
    return [Group([cell], "alone") for cell in cells], keys


def test_processes_that_share_begin_at_places_of_their_own(tmp_path):
    store = Store(tmp_path / "store")
    store.prepare()
    groups, keys = planned_on(store)
    with Lease(store) as first:
        alone = Sharing(store, first, Conditions(), keys)
        assert alone.take(groups, 1)[0] is not None and alone.lease.mine.keys() == {
            f"{0:032x}"
        }  # alone, in their order
        taken, begins = [], []
        with ExitStack() as stack:
            for _ in range(12):
                sharing = Sharing(store, stack.enter_context(Lease(store)), Conditions(), keys)
                (group,) = sharing.take(groups, 1)
                taken.append(sharing.key(group.cells[0]))
                begins.append(sharing.place % len(groups))
            assert len(set(taken)) == 12 and f"{0:032x}" not in taken
            found = [int(key, 16) for key in taken]
            # each the first free one from its place on
            for i, (place, cell) in enumerate(zip(begins, found, strict=True)):
                before = {0, *found[:i]}
                assert cell == next(c % 60 for c in range(place, place + 60) if c % 60 not in before)


def test_a_plan_is_walked_through_once_and_not_for_every_claim(tmp_path, monkeypatch):
    """Of 100,000 cells, looking through all of them for each would take hours."""
    store = Store(tmp_path / "store")
    store.prepare()
    groups, keys = planned_on(store)
    asked, key = [], Sharing.key
    monkeypatch.setattr(Sharing, "key", lambda self, cell: asked.append(1) or key(self, cell))
    with Lease(store) as lease:
        sharing, order = Sharing(store, lease, Conditions(), keys), []
        for _ in groups:
            ((cell,),) = (group.cells for group in sharing.take(groups, 1))
            order.append(keys[id(cell)])
            sharing.done[order[-1].key] = order[-1]
            lease.give_back(order[-1].key, finished=True)
        assert [planned.key for planned in order] == [keys[id(group.cells[0])].key for group in groups]
        assert len(asked) < 10 * len(groups)
        assert sharing.take(groups, 1) == []
