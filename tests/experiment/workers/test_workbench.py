from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import get_scorer

import torchstrata as ts
from torchstrata.experiment.plan import cells
from torchstrata.experiment.statuses import ended
from torchstrata.experiment.together import Group
from torchstrata.experiment.workers import workbench
from torchstrata.testing import DebugLearner


class Bench:
    """A workbench without a process, and what it sent."""

    def __init__(self, task, *, on_error="record", fallback=None):
        self.sent = []
        self.bench = workbench._Bench(lambda *message: self.sent.append(message))
        scorers = {"accuracy": get_scorer("accuracy")}
        self.bench.take("begin", pickle.dumps((scorers, fallback, on_error)))
        self.bench.take("task", b"made\n" + pickle.dumps(task))

    def work(self, group, failure=None):
        self.bench.take("job", pickle.dumps((group, failure)))
        sent, self.sent[:] = list(self.sent), []
        return sent


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=40), "y": np.repeat(["n", "p"], [30, 10])})
    return ts.Task(frame, target="y", name="made")


def group(task, learner, fold=0):
    return Group([cells({"made": task}, {"debug": learner}, 2)[fold]], "alone")


def test_each_outcome_is_sent_as_it_is_there(task):
    sent = Bench(task).work(group(task, DebugLearner()))
    assert [message[0] for message in sent] == ["started", "outcome", "done"]
    _, place, outcome = sent[1]
    assert place == 0 and outcome.cell is None and outcome.status == "ok"


def test_a_task_is_read_once_and_forgotten_at_the_end(task):
    bench = Bench(task)
    bench.work(group(task, DebugLearner()))
    first = bench.bench.tasks["made"]
    bench.work(group(task, DebugLearner(), 1))
    assert bench.bench.tasks["made"] is first and not isinstance(first, bytes)
    bench.bench.take("end", b"")
    assert not bench.bench.tasks and bench.bench.settings is None


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "ZeroDivisionError"])
def test_errors_that_end_the_run_are_sent_with_their_traceback(task, error):
    bench = Bench(task, on_error="raise")
    sent = bench.work(group(task, DebugLearner(error_train=1.0, raise_class=error)))
    kind, raised, told = sent[-1]
    assert kind == "raised" and type(raised).__name__ == error and "debug.py" in told and raised.__traceback__ is None
    assert bench.work(group(task, DebugLearner()))[-1] == ("done",), "it goes on"


def test_a_job_that_cannot_be_read_is_said(task):
    bench = Bench(task)
    bench.bench.take("job", b"nonsense")
    assert bench.sent[0][0] == "unread" and "UnpicklingError" in bench.sent[0][1]


def test_an_outcome_that_cannot_be_sent_is_a_failure(task):
    bench = Bench(task)

    def send(kind, *rest):
        if kind == "outcome" and len(rest[1].predictions):
            raise TypeError("cannot pickle '_thread.lock' object")
        bench.sent.append((kind, *rest))

    bench.bench.send = send
    outcome = bench.work(group(task, DebugLearner()))[1][2]
    assert outcome.status == "error_predict" and np.isnan(outcome.scores["accuracy"])
    assert outcome.error["message"].startswith("what it predicted cannot be sent from its process: cannot pickle")


def test_the_fallback_of_a_cell_that_was_killed(task):
    failure = ended("killed", "its process was ended by SIGKILL")
    bench = Bench(task, fallback=DummyClassifier())
    outcome = bench.work(group(task, DebugLearner(signal="SIGKILL")), failure)[1][2]
    assert outcome.status == "killed" and outcome.fallback == "DummyClassifier"
    assert outcome.scores["accuracy"] == 0.75 and outcome.error == failure
