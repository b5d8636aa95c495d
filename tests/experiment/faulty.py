"""What the tests of failures share: a task whose rows can be told apart, and learners that misbehave in one fold."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

import torchstrata as ts
from torchstrata.testing import DebugLearner

FOLDS = 3
FAR = 1e9  # gigabytes that no machine has


def make_task() -> ts.Task:
    rng = np.random.default_rng(0)
    y = np.repeat(["neg", "pos"], [40, 20])
    frame = pd.DataFrame({"row": np.arange(60.0), "a": rng.normal(size=60) + (y == "pos"), "y": y})
    return ts.Task(frame, target="y", name="made")


def splits(task: ts.Task) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(StratifiedKFold(FOLDS).split(task.X, task.y))


def in_fold(task: ts.Task, fold: int):
    """Say of training rows whether they are those of a fold: they lack its first test row."""
    absent = float(splits(task)[fold][1][0])
    return lambda X: absent not in set(X["row"])


def misbehaving(task: ts.Task, fold: int, **how) -> DebugLearner:
    return DebugLearner(when=in_fold(task, fold), **how)


# what to tell the learner, and the status that must come of it
RAISED = {
    "raises": ({"error_train": 1.0}, "error_train"),
    "exits": ({"error_train": 1.0, "raise_class": "SystemExit"}, "error_train"),
    "raises in predict": ({"error_predict": 1.0}, "error_predict"),
    "nan predictions": ({"missing_predictions": 2}, "error_predict"),
    "a row too many": ({"wrong_length": 1}, "error_predict"),
    "other classes": ({"wrong_classes": True}, "error_predict"),
    "nan loss": ({"nan_loss_at": 3}, "nonfinite"),
    "memory": ({"alloc_gb": FAR}, "oom"),
    "torch's memory": ({"error_train": 1.0, "raise_class": "MemoryError"}, "oom"),
    "a warning": ({"warn": 1.0}, "ok"),
}
DEADLY = {
    "SIGKILL": ({"signal": "SIGKILL"}, "killed"),
    "SIGSEGV": ({"signal": "SIGSEGV"}, "killed"),
    "exit code": ({"exit_code": 3}, "killed"),
    "hangs": ({"sleep_train": 600.0}, "timeout"),
}
