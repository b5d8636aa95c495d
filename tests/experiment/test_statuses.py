from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline

from torchstrata.errors import NonFiniteError
from torchstrata.experiment import statuses
from torchstrata.testing import DebugLearner


def raised(make):
    try:
        make()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def cpu_allocation():
    torch.empty(2**60, dtype=torch.uint8)


def numpy_allocation():
    np.empty(2**62, dtype=np.uint8)


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (cpu_allocation, "oom"),
        (numpy_allocation, "oom"),
        (lambda: raise_(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")), "oom"),
        (lambda: raise_(OSError(12, "Cannot allocate memory")), "oom"),
        (lambda: raise_(NonFiniteError("the loss became nan")), "nonfinite"),
        (lambda: raise_(ValueError("this group ran out of memory verses")), "error_predict"),
        (lambda: raise_(RuntimeError("shapes do not fit")), "error_predict"),
        (lambda: raise_(SystemExit(1)), "error_predict"),
    ],
)
def test_errors_have_a_status(make, status):
    """The messages of torch and NumPy are the real ones: they are raised here."""
    about = statuses.describe(raised(make), "error_predict")
    assert about["status"] == status and status in statuses.STATUSES
    assert about["error"] in about["traceback"] and set(about) == {"status", "error", "message", "traceback"}


def raise_(error):
    raise error


def test_what_the_frames_hold_is_let_go():
    class Big:
        pass

    seen = []

    def inner():
        held = Big()
        seen.append(weakref.ref(held))
        raise ValueError("inner")

    def outer():
        also = Big()
        seen.append(weakref.ref(also))
        try:
            inner()
        except ValueError as error:
            raise RuntimeError("outer") from error

    error = raised(outer)
    gc.collect()
    assert all(ref() is not None for ref in seen)
    about = statuses.describe(error, "error_train")
    gc.collect()
    assert all(ref() is None for ref in seen)
    assert "inner" in about["traceback"] and error.__traceback__ is None and error.__cause__.__traceback__ is None


def test_an_error_that_caused_itself_does_not_hang():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    statuses.let_go(first)


def test_seeds_are_set_where_there_is_none():
    pipeline = make_pipeline(DummyClassifier(), DummyClassifier(random_state=5))
    made = statuses.seeded(pipeline, 7)
    seeds = [step.random_state for _, step in made.steps]
    assert seeds == [7, 5] and pipeline.steps[0][1].random_state is None


def test_a_fallback_that_fails_is_told_and_costs_nothing_else(task):
    import torchstrata as ts

    learners = {"bad": DebugLearner(error_train=1.0), "good": DebugLearner()}
    calls = {"n": 0}

    def only_the_check(X):
        calls["n"] += 1
        return calls["n"] > 1

    # the fallback stands in once before anything runs; later it fails
    fallback = DebugLearner(error_train=1.0, when=only_the_check)
    result = ts.benchmark(task, learners, cv=2, scoring="accuracy", fallback=fallback, progress=False)
    bad = result.statuses[result.statuses["learner"] == "bad"]
    assert bad["status"].eq("error_train").all() and bad["fallback"].eq("").all()
    assert bad["message"].str.contains("the fallback failed too: RuntimeError").all()
    assert result.scores.query("learner == 'bad' and measure == 'accuracy'")["value"].isna().all()
    assert result.statuses[result.statuses["learner"] == "good"]["status"].eq("ok").all()


@pytest.fixture
def task():
    import torchstrata as ts

    return ts.load_task("breast_cancer").rows(range(100))
