"""Runs benchmarks in forked children that a test may kill: imports cost seconds, a fork costs milliseconds.

A line on standard input is a JSON object: folder, out, log, sleep, and kill (before or after which call of a function
of ``os`` in the store it kills itself). The answer is the number of the child; when it has ended, a line with its
number and exit code follows.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import warnings

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier

import torchstrata as ts
from torchstrata.testing import DebugLearner


class Logged(DebugLearner):
    """Writes a line for each fit that begins, and waits as long as a file says so."""

    def __init__(self, *, log=None, sleep_train=0.0, error_train=0.0, random_state=None):
        self.log = log
        super().__init__(sleep_train=sleep_train, error_train=error_train, random_state=random_state)

    def fit(self, X, y):
        with open(self.log, "a") as file:
            file.write(f"{len(X)} {np.asarray(X).sum():.6f} {self.error_train}\n")
        while os.path.exists(f"{self.log}.hold"):
            time.sleep(0.01)
        return super().fit(X, y)


def tasks() -> dict:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60), "y": np.repeat(["n", "p"], [40, 20])})
    return {f"t{i}": ts.Task(frame.assign(a=frame.a + i), target="y") for i in range(3)}


def learners(log: str, sleep: float) -> dict:
    slow = Logged(log=log, sleep_train=sleep, random_state=0)
    bad = Logged(log=log, sleep_train=sleep, error_train=1.0, random_state=0)
    return {"slow": slow, "bad": bad, "dummy": DummyClassifier()}


def kill_at(folder: str, name: str, when: str, number: int) -> None:
    """Kill this process at the n-th call of a function on a path in the store, or on any open file."""
    real, left = getattr(os, name), [number]

    def called(first, *args, **kwargs):
        left[0] -= isinstance(first, int) or os.fspath(first).startswith(folder)
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(first, *args, **kwargs)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(os, name, called)


def carry_out(order: dict) -> None:
    if "kill" in order:
        kill_at(order["folder"], *order["kill"])
    settings = {"cv": 5, "scoring": ["accuracy", "roc_auc"], "progress": False}
    made = learners(order["log"], order["sleep"])
    result = ts.benchmark(tasks(), made, store=order["folder"], **settings)
    result.save(order["out"])


def main() -> None:
    warnings.simplefilter("ignore")
    ts.benchmark(tasks()["t0"], DummyClassifier(), cv=2, scoring="accuracy", progress=False)  # imports, once
    print("ready", flush=True)
    while True:
        if select.select([sys.stdin], [], [], 0.002)[0]:
            line = sys.stdin.buffer.raw.readline()  # unbuffered: what is read ahead, select does not see
            if not line:
                return
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    carry_out(json.loads(line))
                    code = 0
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            print(child, flush=True)
        reap()


def reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        print(pid, os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
