"""Runs fits, searches and benchmarks in forked children that get signals: imports cost seconds, a fork milliseconds.

A line on standard input is a JSON object (see ``Order`` in test_interrupts.py). The answer is the number of the child;
when it has ended, a line with its number, exit code and the time follows. A thread of the child sends the signal, at a
random moment or when it sees the main thread in a phase, and writes down where the main thread was.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import json
import mmap
import os
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import quick_start
from joblib.externals.loky.backend import fork_exec
from sklearn.dummy import DummyClassifier

import torchstrata as ts
from torchstrata.experiment.store import Store
from torchstrata.testing import DebugLearner

FOLDS, NAP = 2, 0.02
ENTRIES = {"fit": "learner.base.fit", "tune": "experiment.search.fit"}


def made(n: int = 60, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    y = np.repeat(["n", "p"], [n - n // 3, n // 3])
    return pd.DataFrame({"a": rng.normal(size=n) + shift + (y == "p"), "b": rng.normal(size=n), "y": y})


class Log:
    """Lines of a child, written in one piece each."""

    def __init__(self, folder: str):
        self.path = Path(folder, "log")

    def __call__(self, *words: object) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())
        os.close(handle)

    def count(self, word: str) -> int:
        return self.path.read_text().count(f"{word} ") if self.path.exists() else 0


class Told:
    """A scorer: the last of a cell's, so it says that the cell is finished; not when scorers are tried before."""

    def __init__(self, log: Log):
        self.log, self.planned_by = log, os.getpid()

    def __call__(self, learner: object, X: object, y: object) -> float:
        if os.getpid() != self.planned_by or self.log.count("prepared"):
            self.log("scored", type(learner).__name__)
        return 1.0


# what is interrupted


def compare(order: dict, log: Log) -> None:
    several = order["kind"] in ("benchmark", "pool")
    net = ts.TorchClassifier(ts.MLP((8,)), max_epochs=6, batch_size=16, random_state=0)
    learners = {"net": net, "naps": DebugLearner(sleep_train=NAP), "dummy": DummyClassifier()}
    tasks = {f"t{i}": ts.Task(made(shift=i), target="y") for i in range(2 if several else 1)}
    settings = {
        "cv": FOLDS,
        "progress": False,
        "vectorize": False,
        "scoring": {"roc_auc": "roc_auc", "told": Told(log)},
    }
    jobs = 2 if order["kind"] == "pool" else 1
    write, prepare = Store.write, Store.prepare

    def ready(self: Store) -> None:
        prepare(self)
        log("prepared", jobs)

    def told(self: Store, cell: object, *rest: object) -> None:
        log("writes", cell.key)
        write(self, cell, *rest)

    Store.write, Store.prepare = told, ready
    begin(order, log)
    try:
        if several:
            ts.benchmark(tasks, learners, store=order["store"], n_jobs=jobs, **settings)
        else:
            grid = ts.grid(net, max_epochs=[4, 6])
            ts.resample(tasks["t0"], grid, store=order["store"], **settings)
    except KeyboardInterrupt as stop:
        log("raised", time.monotonic())
        if hasattr(stop, "result"):
            log("told", int(stop.result.statuses["status"].eq("ok").sum()))
        raise
    log("done", time.monotonic())


def digest(learner: ts.TorchClassifier, X: pd.DataFrame) -> str:
    weights = b"".join(w.detach().numpy().tobytes() for w in learner.network_.state_dict().values())
    return hashlib.sha256(weights + learner.predict(X).astype("U").tobytes()).hexdigest()


def net(epochs: int = 25, **settings: object) -> ts.TorchClassifier:
    return ts.TorchClassifier(
        ts.MLP((8,), dropout=0.1),
        max_epochs=epochs,
        batch_size=16,
        valid=0.3,
        scoring="roc_auc",
        random_state=0,
        **settings,
    )


def fit(order: dict, log: Log) -> None:
    data = made(90)
    X, y = data[["a", "b"]], data["y"]
    written_out = order["seed"] % 2
    learner = net() if written_out else net(optimizer="NAdam")
    before = state_of_process()
    begin(order, log)
    try:
        learner.fit(X, y)
    except KeyboardInterrupt:
        log("raised", time.monotonic())
        if not order["again"]:
            raise
        assert state_of_process() == before
        if hasattr(learner, "network_"):
            kept = digest(learner, X)
            whole = net(len(learner.history_)) if written_out else net(len(learner.history_), optimizer="NAdam")
            assert digest(whole.fit(X, y), X) == kept, "it keeps the weights of its last whole epoch"
            log("kept", len(learner.history_))
        else:
            assert not [name for name in vars(learner) if name.endswith("_")]
        learner.fit(X, y)
    else:
        log("done", time.monotonic())
    log("digest", written_out, digest(learner, X))


def tune(order: dict, log: Log) -> None:
    data = made(90)
    X, y = data[["a", "b"]], data["y"]
    learner = ts.TorchClassifier(ts.MLP((8,)), max_epochs=15, batch_size=16, random_state=0)
    search = ts.GridSearchCV(learner, {"optimizer__lr": [1e-3, 1e-2, 1e-1], "network__dropout": [0.0, 0.2]}, cv=3)
    before = state_of_process()
    begin(order, log)
    try:
        search.fit(X, y)
    except KeyboardInterrupt:
        log("raised", time.monotonic())
        if not order["again"]:
            raise
        assert state_of_process() == before
        assert not hasattr(search, "best_estimator_") and not [n for n in vars(learner) if n.endswith("_")]
        search.fit(X, y)
    else:
        log("done", time.monotonic())
    scores = search.cv_results_["mean_test_score"].tolist()
    log("digest", hashlib.sha256((digest(search.best_estimator_, X) + repr(scores)).encode()).hexdigest())


def state_of_process() -> tuple:
    """What a fit changes for its time, and puts back."""
    import torch

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    settings = (torch.get_num_threads(), handlers, torch.is_grad_enabled(), warnings.filters[:3])
    return settings, hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()


def nothing(order: dict, log: Log) -> None:
    """The control: what it takes to end at all."""
    log("raised", time.monotonic())
    raise KeyboardInterrupt


WORK = {"fit": fit, "tune": tune, "resample": compare, "benchmark": compare, "pool": compare, "nothing": nothing}


# where the main thread is


def phase_of(kind: str, log: Log, thread: int) -> str:
    frame, names = sys._current_frames().get(thread), set()
    while frame is not None:
        names.add(f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_name}".removeprefix("torchstrata."))
        frame = frame.f_back
    if ENTRIES.get(kind, "experiment.benchmark.benchmark") not in names:
        return "shutting down" if log.count("done") or log.count("raised") else "before"
    if kind == "fit":
        return _of_fit(names)
    return _of_search(names, log) if kind == "tune" else _of_comparison(names, log)


def _of_fit(names: set[str]) -> str:
    if "learner.base._prepare" in names:
        return "planning"
    if "training.engine.train" not in names:
        return "shutting down" if "learner.base._keep" in names else "planning"
    return (
        "between epochs"
        if any(
            name.startswith("training.record.") and "epoch" not in name for name in names - {"training.record.settling"}
        )
        else "training"
    )


def _of_search(names: set[str], log: Log) -> str:
    if "training.many.train_many" in names or "training.engine.train" in names:
        return "training"
    if "experiment.stacking._scored" in names:
        return "between cells"
    return "planning" if names & {"experiment.stacking.check", "learner.base._prepare"} else "shutting down"


def _of_comparison(names: set[str], log: Log) -> str:
    if "experiment.storage.sharing._keep" in names:
        return "writing"
    if names & {"experiment.workers.worker.keep", "experiment.statuses.finished"}:
        return "shutting down"
    if names & {"experiment.run.run_group", "experiment.workers.pool._listen"}:
        return "training"
    if "experiment.storage.sharing.carry_out" in names:
        return "between cells"
    return "shutting down" if log.count("scored") else "planning"


def send(order: dict, log: Log, page: mmap.mmap, begun: float) -> None:
    """Send signals to this very process; a page of memory says when and where, even after SIGKILL."""
    main, number, lines = threading.main_thread().ident, getattr(signal, order["signal"]), b""
    if order["phase"]:
        while (seen := phase_of(order["kind"], log, main)) != order["phase"]:
            time.sleep(0.0003)
    time.sleep(max(0.0, order["delay"] if order["phase"] else begun + order["delay"] - time.monotonic()))
    for nap in (0.0, *order["gaps"]):
        time.sleep(nap)
        seen = phase_of(order["kind"], log, main)
        lines += f"{time.monotonic()} {seen}\n".encode()
        page[: len(lines)] = lines
        os.kill(os.getpid(), number)


def begin(order: dict, log: Log) -> None:
    begun = time.monotonic()
    log("begun", begun)
    if order["signal"]:
        with open(Path(order["folder"], "sent"), "w+b") as file:
            file.truncate(4096)
            page = mmap.mmap(file.fileno(), 4096)
        threading.Thread(target=send, args=(order, log, page, begun), daemon=True).start()


def child(order: dict) -> None:
    os.setsid()
    folder = Path(order["folder"])
    log = Log(str(folder))
    errors = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(errors, 2)
    os.dup2(errors, 1)  # the pipe is the server's; loky prints empty lines when a parent dies while it starts a worker
    fork_exec.fork_exec = quick_start.by_fork if order["start"] == "fork" else quick_start.by_exec
    try:
        WORK[order["kind"]](order, log)
        code = 0
    except BaseException as error:
        if not order["quick"]:
            raise
        traceback.print_exc()
        code = error.code if isinstance(error, SystemExit) else -1 if isinstance(error, KeyboardInterrupt) else 1
    # all that Python does at its end, but for taking apart what was imported: half a second
    threading._shutdown()
    atexit._run_exitfuncs()
    if code < 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


# the server


def warm_up() -> None:
    warnings.simplefilter("ignore")
    data = made(30)
    net(1, optimizer="NAdam").fit(data[["a", "b"]], data["y"])
    ts.GridSearchCV(net(1), {"optimizer__lr": [1e-2, 1e-1]}, cv=2).fit(data[["a", "b"]], data["y"])
    task = ts.Task(data, target="y")
    ts.benchmark(task, [net(1), DummyClassifier()], cv=2, scoring=["accuracy", "roc_auc"], progress=False)
    import torchstrata.experiment.workers.pool
    import torchstrata.experiment.workers.workbench  # noqa: F401

    quick_start.prepare()
    gc.collect()
    gc.freeze()  # else every child that ends looks through all that was imported: a second


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warm_up()
    print("ready", flush=True)
    while True:
        if select.select([sys.stdin], [], [], 0.002)[0]:
            line = sys.stdin.buffer.raw.readline()  # unbuffered: what is read ahead, select does not see
            if not line:
                return
            pid = os.fork()
            if pid == 0:
                child(json.loads(line))  # and it ends as a program ends
                return
            print(pid, flush=True)
        reap()


def reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        print(pid, os.waitstatus_to_exitcode(status), time.monotonic(), flush=True)


if __name__ == "__main__":
    main()
