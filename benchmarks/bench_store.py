"""What a store costs: a cell written, a finished benchmark called again, an index of 100,000 cells read.

Run: python benchmarks/bench_store.py [number of records]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier

import torchstrata as ts
from torchstrata.experiment.score import Outcome
from torchstrata.experiment.storage import record
from torchstrata.experiment.storage.monitor import status_of_store
from torchstrata.experiment.storage.plans import Plan
from torchstrata.experiment.storage.record import Planned
from torchstrata.experiment.store import Store


def timed(what: str, function, *, per: int = 1, unit: str = "s"):
    started = time.perf_counter()
    found = function()
    seconds = (time.perf_counter() - started) / per
    print(f"{what:<58}{seconds * (1e6 if unit == 'us' else 1):>10.2f} {unit}", flush=True)
    return found


def outcome(rows: int) -> Outcome:
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(rows) < 0.5, "yes", "no")
    table = pd.DataFrame({"row": np.arange(rows), "truth": labels, "predicted": labels, "score": rng.normal(size=rows)})
    history = pd.DataFrame({"epoch": np.arange(1, 4), "train_loss": rng.random(3)})
    return Outcome(None, {"roc_auc": 0.9, "fit_seconds": 0.1}, history, table if rows else pd.DataFrame())


def index(folder: Path, n: int) -> None:
    """The files are written without flushing each to the disk: reading is what is measured."""
    store = Store(folder)
    store.prepare()
    cells = [Planned(f"{i:032x}", "t", f"l{i % 10}", i // 10, {"lr": float(i % 7)}, 90, 10) for i in range(n)]
    about = {"attempts": 1, "fallback": "", "fallback_key": "", "timeout": 0.0, "finished": "", "run": "r"}
    done = outcome(10)
    for cell in cells:
        store.path("cells", cell.key).write_bytes(record.to_line(cell, done, about))
    splits = [{"task": "t", "fold": i, "n_train": 90, "n_test": 10, "digest": ""} for i in range(n // 10)]
    store.keep(Plan(cells, {"t": {}}, {f"l{i}": "" for i in range(10)}, ["roc_auc"], splits, "now"), {})


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        store, about = Store(Path(folder) / "one"), {"attempts": 1}
        store.prepare()
        for rows in (0, 1_000, 10_000):
            done = outcome(rows)
            cells = [Planned(f"{i:032x}", "t", "l", i, {}, 90, 10) for i in range(50)]
            timed(
                f"write a cell of {rows} predictions, flushed to the disk",
                lambda cells=cells, done=done: [store.write(cell, done, about) for cell in cells],
                per=50,
                unit="us",
            )
        frame = pd.DataFrame({"a": np.arange(100.0), "y": np.tile(["n", "p"], 50)})
        task, learners = ts.Task(frame, target="y"), {f"d{i}": DummyClassifier() for i in range(20)}
        settings = {"cv": 5, "scoring": "accuracy", "progress": False}
        ts.benchmark(task, learners, **settings)
        timed("100 dummies without a store", lambda: ts.benchmark(task, learners, **settings))
        kept = Path(folder) / "two"
        timed("100 dummies into a store", lambda: ts.benchmark(task, learners, store=kept, **settings))
        timed("100 dummies that are there", lambda: ts.benchmark(task, learners, store=kept, **settings))
        large = Path(folder) / "large"
        timed(f"(make {n} cells)", lambda: index(large, n))
        found = timed(f"the state of a store of {n} cells, every checksum", lambda: status_of_store(large))
        assert len(found.cells) == n
        assert not found.open.any()
        timed(f"load_result of {n} cells", lambda: ts.load_result(large))


if __name__ == "__main__":
    main()
