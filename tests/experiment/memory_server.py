"""Runs benchmarks in which one cell wants more memory than there is: imports cost seconds, a fork milliseconds.

A line on standard input is a JSON object: out, phase, fold, level, kind, trial, way, width, n_jobs. With one job the
benchmark runs in a forked child whose address space is limited to ``level`` megabytes above what it uses; with more it
runs here, and each worker process limits itself so, as soon as it has imported what a fit needs. The answer is an exit
code, after the result lies in the file ``out``.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
import warnings

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline
from torch import nn

import torchstrata as ts

MEGABYTE = 2**20
WANTED = 256  # megabytes that the hungry cell asks for
EVERYDAY = 6  # and those that every other fit of its learner needs for a moment, so that what is not let go shows
FOLDS, ROWS = 4, 24
PIECES = {"torch": 8 * MEGABYTE, "numpy": 8 * MEGABYTE, "python": 2**16, "at once": WANTED * MEGABYTE}


def eat(kind: str) -> None:
    """Ask for the memory piece by piece, so that next to nothing is left when it ends; hold it until the end."""
    makes = {
        "torch": lambda n: torch.empty(n, dtype=torch.uint8),
        "numpy": lambda n: np.empty(n, dtype=np.uint8),
        "python": bytearray,
        "at once": lambda n: torch.empty(n, dtype=torch.uint8),
    }
    held = []
    for _ in range(WANTED * MEGABYTE // PIECES[kind]):
        held.append(makes[kind](PIECES[kind]))  # noqa: PERF401 - it must be held when the next one fails


class Glutton(TransformerMixin, BaseEstimator):
    """An encoder that passes numbers on, the row's number last, and may want memory for a certain row."""

    def __init__(self, kind: str = "", row: int = -1, level: int = 0, run: str = ""):
        self.kind, self.row, self.level, self.run = kind, row, level, run

    def fit(self, X, y=None):
        limit_once(self.run, self.level)
        np.ones(EVERYDAY * MEGABYTE, dtype=np.uint8)
        if self.kind and self.row in set(X["row"]):
            eat(self.kind)
        return self

    def transform(self, X):
        return X[["a", "b", "row"]].to_numpy(np.float32)


class Net(nn.Module):
    """A layer; wants memory in training, in prediction, or in the trial of two rows, where a certain row comes."""

    def __init__(self, n_outputs: int, kind: str, row: int, when: str):
        super().__init__()
        self.layer, self.kind, self.row, self.when = nn.Linear(2, n_outputs), kind, row, when

    def forward(self, x):
        if self.kind and bool((x[:, -1] == self.row).any()):
            now = "fit" if self.training else "trial" if len(x) == 2 else "predict"
            if now == self.when:
                eat(self.kind)
        return self.layer(x[:, :-1])


class Network:
    """The recipe of a Net."""

    def __init__(self, kind: str = "", row: int = -1, when: str = ""):
        self.given = kind, row, when

    def __call__(self, shapes, n_outputs):
        return Net(n_outputs, *self.given)


def limit(level: int | None) -> None:
    """Allow so many megabytes above what is used just now, or all."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = hard if level is None else used + level * MEGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def limit_once(run: str, level: int) -> None:
    """In a worker, once a run: after all is imported, for a module that is half imported helps nobody."""
    if not run or run.startswith(f"{os.getpid()} ") or os.environ.get("LIMITED_IN") == run:
        return  # the first check of all learners is made here
    limit(None)
    if "LIMITED_IN" not in os.environ:
        os.environ["LIMITED_IN"] = run
        warm()
    os.environ["LIMITED_IN"] = run
    limit(level or None)


def warm() -> None:
    plain = ts.TorchClassifier(Network(), encoder=Glutton(), max_epochs=1, random_state=0)
    ts.benchmark(task(), {"a": plain, **others()}, cv=splits(), scoring=["roc_auc"], progress=False)


def task() -> ts.Task:
    rng = np.random.default_rng(0)
    n = FOLDS * ROWS
    y = np.tile(["n", "p", "p"], n // 3)
    frame = pd.DataFrame({"a": rng.normal(size=n) + (y == "p"), "b": rng.normal(size=n), "row": np.arange(n), "y": y})
    return ts.Task(frame, target="y", features=["a", "b", "row"], name="made")


def splits() -> list:
    """Each fold trains on rows of its own, and is tested on those of the next: a row trains in one, tests in one."""
    parts = np.arange(FOLDS * ROWS).reshape(FOLDS, ROWS)
    return [(parts[fold], parts[(fold + 1) % FOLDS]) for fold in range(FOLDS)]


def others() -> dict:
    return {"mlp": ts.TorchClassifier(ts.MLP((4,)), max_epochs=2, random_state=0), "dummy": DummyClassifier()}


def hungry(order: dict) -> BaseEstimator:
    """The learner that wants too much in one phase of one fold."""
    train, test = splits()[order["fold"]]
    row = int(test[5] if order["phase"] == "predict" else train[0] if order["trial"] else train[5])
    run = f"{os.getpid()} {order['out']}" if order["n_jobs"] > 1 else ""
    limited = {"level": order["level"] or 0, "run": run}
    common = {"max_epochs": 2, "batch_size": 8, "random_state": 0}
    if order["phase"] == "wide":  # nothing made up: a network with so many weights, in all folds
        return ts.TorchClassifier(
            ts.MLP((order["width"], order["width"])), encoder=Glutton(**limited), **{**common, "max_epochs": 1}
        )
    if order["phase"] != "preprocessing":
        when = "trial" if order["trial"] else order["phase"]
        return ts.TorchClassifier(Network(order["kind"], row, when), encoder=Glutton(**limited), **common)
    glutton = Glutton(order["kind"], row, **limited)
    if order["way"] == "encoder":
        return ts.TorchClassifier(Network(), encoder=glutton, **common)
    return make_pipeline(glutton, ts.TorchClassifier(Network(), encoder=None, **common))


def carry_out(order: dict) -> None:
    learners = {"hungry": hungry(order), **others()}
    settings = {"cv": splits(), "scoring": ["roc_auc"], "progress": False}
    here = order["n_jobs"] == 1
    made = task()
    if here and order["level"]:
        limit(order["level"])
    try:
        result = ts.benchmark(made, learners, n_jobs=order["n_jobs"], **settings)
    finally:
        if here:
            limit(None)
    result.save(order["out"])


def main() -> None:
    warnings.simplefilter("ignore")
    warm()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["n_jobs"] > 1:
            print(tried(order), flush=True)
            continue
        child = os.fork()
        if child == 0:
            code = tried(order)
            sys.stderr.flush()
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def tried(order: dict) -> int:
    try:
        carry_out(order)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main()
