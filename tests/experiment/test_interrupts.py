"""Ctrl-C, SIGTERM and SIGKILL at random moments of fits, searches and benchmarks: real processes, real signals."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

import torchstrata as ts
from torchstrata.experiment.store import Store
from torchstrata.testing import DebugLearner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are forked, and looked up in /proc")
PHASES = {
    "fit": ["planning", "training", "between epochs", "shutting down"],
    "tune": ["planning", "training", "between cells", "shutting down"],
    "resample": ["planning", "training", "writing", "between cells", "shutting down"],
    "benchmark": ["planning", "training", "writing", "between cells", "shutting down"],
    "pool": ["planning", "training", "writing", "between cells", "shutting down"],
}
STORING = ("resample", "benchmark", "pool")


class Server:
    """Children that get signals; see interrupt_server.py."""

    def __init__(self):
        script = Path(__file__).with_name("interrupt_server.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.ended: dict[int, tuple[int, float]] = {}
        self.lasts: dict[str, float] = {}
        assert self.process.stdout.readline() == "ready\n"

    def start(self, **order) -> int:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        while len(words := self.process.stdout.readline().split()) != 1:
            self._note(words)
        return int(words[0])

    def wait(self, child: int) -> tuple[int, float]:
        while child not in self.ended:
            self._note(self.process.stdout.readline().split())
        return self.ended.pop(child)

    def _note(self, words: list[str]) -> None:
        self.ended[int(words[0])] = (int(words[1]), float(words[2]))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def server():
    made = Server()
    yield made
    made.close()


class Run:
    """One child: what it is told, and what it left behind."""

    def __init__(self, server: Server, folder: Path, kind: str, **order):
        folder.mkdir(parents=True)
        self.folder, self.kind, self.server = folder, kind, server
        self.order = {
            "kind": kind, "folder": str(folder), "store": str(folder / "store"), "signal": "", "phase": "",
            "delay": 0.0, "gaps": [], "start": "fork", "again": False, "quick": True, "seed": 0, **order,
        }  # fmt: skip
        self.pid = server.start(**self.order)
        self.code, self.over = server.wait(self.pid)
        self.sent = self._sent()
        self.phase = self.sent[-1][1] if self.sent else ""

    def _sent(self) -> list[tuple[float, str]]:
        path = self.folder / "sent"
        lines = path.read_bytes().rstrip(b"\0").decode().splitlines() if path.exists() else []
        return [(float(when), phase) for when, _, phase in (line.partition(" ") for line in lines)]

    def lines(self, word: str) -> list[list[str]]:
        lines = [line.split() for line in (self.folder / "log").read_text().splitlines()]
        return [line[1:] for line in lines if line[0] == word]

    def __str__(self) -> str:
        errors = (self.folder / "stderr").read_text()[-3000:]
        return f"{self.kind}, sent {self.sent}, code {self.code}, over {self.over}, order {self.order}\n{errors}"


class Trial:
    """One kind of call, its run without a signal, and how its signals are spread over it."""

    def __init__(self, server: Server, folder: Path, kind: str):
        self.server, self.folder, self.kind = server, folder, kind
        seed = random.SystemRandom().randrange(10**6)
        print(f"{kind}: seed of the moments {seed}")
        self.draw, self.hit, self.slow, self.n = random.Random(seed), collections.Counter(), [], 0
        self.whole = [Run(server, folder / f"whole{i}", kind, seed=i) for i in (0, 1)]
        assert [run.code for run in self.whole] == [0, 0], self.whole[0]
        self.tables = tables(self.whole[0].order["store"]) if kind in STORING else []
        self.lasts = max(float(run.lines("done")[0][0]) - float(run.lines("begun")[0][0]) for run in self.whole)

    def interrupted(self, name: str = "SIGINT", **order) -> Run | None:
        """Send a signal: every other one at any moment, the others in each phase in turn."""
        self.n += 1
        phases = PHASES[self.kind]
        phase = phases[self.n // 2 % len(phases)] if self.n % 2 else ""
        delay = self.draw.choice([0.0, self.draw.uniform(0.0, 0.004)]) if phase else self.draw.uniform(0.0, self.lasts)
        settings = {
            "phase": phase,
            "delay": delay,
            "seed": self.n // 2,
            "start": "exec" if self.n % 20 == 4 else "fork",
        }
        run = Run(self.server, self.folder / f"run{self.n}", self.kind, signal=name, **{**settings, **order})
        if not run.sent or run.phase == "before":  # over before its moment came, or not begun
            return None
        self.hit[run.phase] += 1
        return run

    def after_the_call(self, run: Run) -> bool:
        """Say whether the signal may have come when the call had returned, where it is not ours to answer."""
        return bool(run.lines("done") or run.lines("digest")) and run.phase == "shutting down"

    def ends_within(self, run: Run, bound: float, since: float) -> None:
        """Expect an end in time; where others use the machine, in units of what it takes to end at all."""
        took = run.over - since
        self.slow.append(took)
        if took > bound:
            controls = [
                Run(self.server, self.folder / f"control{self.n}.{i}", "nothing", quick=False) for i in range(3)
            ]
            control = max(other.over - float(other.lines("raised")[0][0]) for other in controls)
            assert took < bound + 10 * control, f"{took:.2f} s, control {control:.2f} s: {run}"

    def stores_what_is_finished(self, run: Run) -> None:
        keys = set(Store(run.order["store"]).names("cells"))
        begun, scored = [words[0] for words in run.lines("writes")], len(run.lines("scored"))
        assert set(begun) == keys and len(begun) == len(keys), f"a write was cut, or begun twice: {run}"
        assert not list(Path(run.order["store"]).glob("cells/*.bad")), run
        if run.lines("told"):  # what the exception says is what is stored
            assert int(run.lines("told")[0][0]) == len(keys), run
        in_flight = 2 if self.kind == "pool" else run.phase == "training"
        assert len(keys) <= scored <= len(keys) + in_flight, f"{scored} scored, {len(keys)} stored: {run}"

    def goes_on_to_the_same(self, run: Run) -> None:
        if self.kind in STORING:
            folder = run.folder.with_name(run.folder.name + "again")
            again = Run(self.server, folder, self.kind, store=run.order["store"])
            assert again.code == 0, again
            for one, two in zip(tables(run.order["store"]), self.tables, strict=True):
                pd.testing.assert_frame_equal(one, two, check_exact=True)
        else:
            known = [other.lines("digest")[0] for other in self.whole]
            assert [words in known for words in run.lines("digest")] == [True], run

    def tell(self) -> None:
        slow = sorted(self.slow)
        late = f", ends after {slow[len(slow) // 2]:.2f} s in the middle, {slow[-1]:.2f} s at most" if slow else ""
        print(f"{self.kind}: {sum(self.hit.values())} signals, {dict(self.hit)}{late}")

    def every_phase_was_hit(self) -> None:
        if sum(self.hit.values()) >= 4 * len(PHASES[self.kind]):
            assert not set(PHASES[self.kind]) - set(self.hit), f"never hit: {self.hit}"


def tables(folder: str | Path) -> list[pd.DataFrame]:
    """All tables but what no two runs have in common."""
    result = ts.load_result(folder)
    scores = result.scores
    errors = result.errors.drop(columns="traceback")
    return [scores[~scores.measure.str.endswith("_seconds")].reset_index(drop=True), result.predictions, errors]


def in_session(session: int) -> list[int]:
    """List the processes that a child started and that still run, whoever is their parent by now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = path.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(number) == session and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def nobody_is_left(run: Run, within: float = 5.0) -> None:
    while (left := in_session(run.pid)) and time.monotonic() < run.over + within:
        time.sleep(0.02)
    assert not left, f"{left} outlive their parent: {run}"


def was_raised(trial: Trial, run: Run) -> None:
    """Expect that Ctrl-C came through to the program, unless the call had returned."""
    if trial.after_the_call(run):
        return
    assert run.lines("raised") and not run.lines("done"), f"swallowed: {run}"
    # with 1 instead of by the signal, Python ends where something calls exec at exit, as what torch imports may
    assert run.code == 0 if run.order["again"] else run.code in (-signal.SIGINT, 1), run


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["fit", "tune"])
def test_ctrl_c_in_a_fit_and_a_search(server, tmp_path, times, kind):
    """It is raised, the process ends at once, what it changed is put back, and the next fit is the same."""
    trial = Trial(server, tmp_path, kind)
    while sum(trial.hit.values()) < times(50):
        run = trial.interrupted(again=bool(trial.draw.random() < 0.5))
        if run is None:
            continue
        was_raised(trial, run)
        if run.lines("digest"):
            trial.goes_on_to_the_same(run)
        else:
            trial.ends_within(run, 2.0, run.sent[0][0])
    trial.tell()
    trial.every_phase_was_hit()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["resample", "pool"])
def test_ctrl_c_in_a_benchmark(server, tmp_path, times, kind):
    """It is raised, the process ends at once with its workers, what is finished is stored, the rest is done later."""
    trial = Trial(server, tmp_path, kind)
    while sum(trial.hit.values()) < times(50):
        run = trial.interrupted()
        if run is not None:
            was_raised(trial, run)
            trial.ends_within(run, 2.0, run.sent[0][0])
            nobody_is_left(run)
            trial.stores_what_is_finished(run)
            trial.goes_on_to_the_same(run)
    trial.tell()
    trial.every_phase_was_hit()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kind", "full"), [("fit", 17), ("benchmark", 17), ("pool", 16)])
def test_sigterm_ends_with_143(server, tmp_path, times, kind, full):
    trial = Trial(server, tmp_path, kind)
    while sum(trial.hit.values()) < times(full):
        run = trial.interrupted("SIGTERM")
        if run is None:
            continue
        # outside the call it is the system that ends the process, which a shell calls 143 too
        outside = run.phase == "shutting down" and (run.lines("done") or run.phase == "before")
        assert run.code == 143 or (outside and run.code in (-signal.SIGTERM, 0)), run
        trial.ends_within(run, 2.0, run.sent[0][0])
        nobody_is_left(run)
        if kind != "fit":
            trial.stores_what_is_finished(run)
            trial.goes_on_to_the_same(run)
    trial.tell()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kind", "full"), [("fit", 4), ("benchmark", 6), ("pool", 10)])
def test_a_second_ctrl_c_ends_at_once(server, tmp_path, times, kind, full):
    trial, done = Trial(server, tmp_path, kind), 0
    while done < times(full):
        run = trial.interrupted(gaps=[trial.draw.choice([0.0, 0.001, 0.01, 0.05]) * trial.draw.random()])
        if run is None or len(run.sent) < 2:  # it had ended before the second
            continue
        done += 1
        assert run.code in (-signal.SIGINT, 1) or trial.after_the_call(run), run
        trial.ends_within(run, 0.5, run.sent[1][0])
        nobody_is_left(run)
        if kind != "fit":
            assert not list(Path(run.order["store"]).glob("cells/*.bad")), run
            trial.goes_on_to_the_same(run)
    trial.tell()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_worker_outlives_a_parent_that_is_killed_and_the_store_goes_on(server, tmp_path, times):
    trial, kills = Trial(server, tmp_path, "pool"), 0
    while kills < times(50):
        run = trial.interrupted("SIGKILL")
        if run is None:
            continue
        kills += run.code == -signal.SIGKILL
        nobody_is_left(run)
        store = Store(run.order["store"])
        assert all(store.read(key) is not None for key in store.names("cells")), run
        trial.goes_on_to_the_same(run)
    trial.tell()
    trial.every_phase_was_hit()


# in this process


class Fails(ts.callbacks.Callback):
    """Raise something in the second epoch, or press Ctrl-C."""

    def __init__(self, what=None):
        self.what = what

    def on_epoch_end(self, state):
        if state.epoch == 2 and self.what == "signal":
            signal.raise_signal(signal.SIGINT)
        elif state.epoch == 2 and self.what:
            raise self.what


def data():
    return [[float(i % 7), float(i % 3)] for i in range(40)], [i % 2 for i in range(40)]


@pytest.mark.parametrize(
    ("what", "raised"),
    [
        (None, None),
        (ZeroDivisionError(), ZeroDivisionError),
        (SystemExit(3), SystemExit),
        ("signal", KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("how", ["fit", "benchmark"])
def test_handlers_of_the_program_are_there_after_a_fit(what, raised, how):
    def own(number, frame):
        raise KeyboardInterrupt(f"{number} came")

    learner = ts.TorchClassifier(ts.Linear(), max_epochs=3, callbacks=(Fails(what),))
    before = {number: signal.signal(number, own) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(raised) if raised else contextlib.nullcontext() as caught:
            if how == "fit":
                learner.fit(*data())
            else:
                frame = pd.DataFrame(data()[0], columns=["a", "b"]).assign(y=data()[1])
                ts.benchmark(ts.Task(frame, target="y"), learner, cv=2, progress=False, on_error="raise")
        assert [signal.getsignal(number) for number in before] == [own, own]
        if what == "signal":
            assert str(caught.value) == "2 came", "it is the program's handler that was called"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_ctrl_c_in_the_middle_of_an_epoch_leaves_the_last_whole_one():
    class Presses(ts.callbacks.Callback):
        def on_batch_end(self, state):
            if (state.epoch, state.step) == (3, 2):
                signal.raise_signal(signal.SIGINT)

    settings = {"batch_size": 10, "random_state": 0}
    made = ts.TorchClassifier(ts.Linear(), max_epochs=5, callbacks=(Presses(),), **settings)
    with pytest.raises(KeyboardInterrupt):
        made.fit(*data())
    whole = ts.TorchClassifier(ts.Linear(), max_epochs=2, callbacks=(Presses(),), **settings).fit(*data())
    assert made.history_["epoch"].tolist() == [1, 2]
    assert made.predict_proba(data()[0]).tolist() == whole.predict_proba(data()[0]).tolist()


def test_a_fit_and_a_benchmark_in_a_thread(tmp_path):
    """Python knows signals in the main thread only."""
    found, errors = [], []
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def elsewhere():
        try:
            learner = ts.TorchClassifier(ts.Linear(), max_epochs=3, random_state=0).fit(*data())
            found.append(learner.predict(data()[0]).tolist())
            frame = pd.DataFrame(data()[0], columns=["a", "b"]).assign(y=data()[1])
            result = ts.benchmark(ts.Task(frame, target="y"), learner, cv=2, progress=False, store=tmp_path / "store")
            found.append(result.errors.empty)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    while thread.is_alive():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        thread.join(0.01)
    assert not errors, errors
    assert (
        found[1]
        and found[0]
        == ts.TorchClassifier(ts.Linear(), max_epochs=3, random_state=0).fit(*data()).predict(data()[0]).tolist()
    )


def test_a_learner_that_swallows_ctrl_c_is_no_outcome(tmp_path):
    """Some learners take Ctrl-C for the end of their fit; a half-trained one would be compared as if it were whole."""

    class Swallows(DebugLearner):
        def fit(self, X, y):
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            return super().fit(X, y)

    frame = pd.DataFrame(data()[0], columns=["a", "b"]).assign(y=data()[1])
    learners = {"one": DebugLearner(), "swallows": Swallows()}
    with pytest.raises(KeyboardInterrupt) as caught:
        ts.benchmark(ts.Task(frame, target="y"), learners, cv=2, progress=False, store=tmp_path / "store")
    assert caught.value.result.statuses.query("learner == 'swallows'")["status"].eq("interrupted").all()
    assert caught.value.result.statuses["status"].eq("ok").sum() == 1, "what was finished before is kept"
