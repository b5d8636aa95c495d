from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.checks import thinned
from torchstrata.experiment.smoke import shortened, written
from torchstrata.testing import DebugLearner


@pytest.fixture(scope="module")
def task():
    return ts.load_task("breast_cancer")


def test_every_combination_is_tried_and_nothing_is_raised(task):
    net = ts.TorchClassifier(ts.MLP((4,)), max_epochs=500)
    learners = {
        "grid": ts.grid(net, loss=["cross_entropy", "amu"]),
        "in a pipeline": make_pipeline(StandardScaler(), net),
        "fails": DebugLearner(error_train=1.0),
        "wrong at fit": DebugLearner(error_train=1.0, raise_class="ConfigError"),
        "predicts": DebugLearner(error_predict=1.0),
        "refused": LogisticRegression(C=-1),
        "good": DummyClassifier(),
    }
    twin = task.rows(range(200), name="twin")
    tried = ts.smoke([task, twin], learners, scoring="accuracy")
    table = tried.table
    assert table.columns.tolist() == ["task", "learner", "loss", "status", "seconds", "full_seconds", "message"]
    assert len(table) == 2 * 8 and table["task"].tolist() == ["breast_cancer"] * 8 + ["twin"] * 8
    wanted = ["ok", "config", "ok", "error_train", "config", "error_predict", "config", "ok"]
    assert table["status"].tolist() == 2 * wanted
    assert (table["full_seconds"].notna() == (table["status"] == "ok")).all()
    assert table["message"].eq("").equals(table["status"].eq("ok"))
    assert len(tried.failures) == 10
    with pytest.raises(
        RuntimeError, match=r"10 of 16 combinations failed(?s:.*)grid, loss='amu' on breast_cancer: config"
    ):
        tried.raise_for_failures()
    assert "10 of 16 failed; the whole run takes about" in repr(tried)


def test_it_takes_two_epochs_and_few_rows(task):
    seen = []

    class Spy(DebugLearner):
        def fit(self, X, y, **kwargs):
            seen.append((len(X), np.bincount(y).tolist()))
            return super().fit(X, y)

    ts.smoke(task, Spy(), scoring="accuracy", rows=60)
    ((n, counts),) = seen
    assert 50 <= n <= 70 and min(counts) >= 20
    assert shortened(ts.TorchClassifier(max_epochs=50)).max_epochs == 2
    assert shortened(ts.TorchClassifier(max_epochs=1)).max_epochs == 1
    nested = GridSearchCV(make_pipeline(StandardScaler(), ts.TorchClassifier()), {})
    assert shortened(nested).estimator.steps[-1][1].max_epochs == 2
    assert nested.estimator.steps[-1][1].max_epochs == "auto", "the learner itself is as it was"


def test_the_estimate_counts_epochs_rows_and_folds(task):
    """A learner that sleeps a known time in every epoch, which is one batch."""

    class Slow(ts.Callback):
        def on_backward_end(self, state):
            time.sleep(0.02)

    learner = ts.TorchClassifier(ts.Linear(), max_epochs=40, batch_size=1000, callbacks=[Slow()])
    tried = ts.smoke(task, learner, cv=5, scoring="accuracy", rows=10_000)  # all rows
    assert 5 * 40 * 0.02 * 0.9 < tried.full_seconds < 5 * 40 * 0.02 * 8
    fewer = ts.smoke(task, learner.set_params(max_epochs=4), cv=5, scoring="accuracy", rows=10_000)
    assert fewer.full_seconds < tried.full_seconds / 2


def test_all_work_raises_nothing(task):
    tried = ts.smoke(task, DummyClassifier(), scoring="accuracy")
    tried.raise_for_failures()
    assert "all work" in repr(tried) and tried.failures.empty


def test_what_is_wrong_whatever_the_learners_is_raised(task):
    with pytest.raises(ConfigError, match="Did you mean 'accuracy'"):
        ts.smoke(task, DummyClassifier(), scoring="acuracy")
    with pytest.raises(DataError, match="folds"):
        ts.smoke(task, DummyClassifier(), cv=1000)
    for rows in (1, True, "all"):
        with pytest.raises(ConfigError, match="rows must be an int >= 2"):
            ts.smoke(task, DummyClassifier(), rows=rows)


def test_with_a_limit_it_outlives_a_crash(task):
    tried = ts.smoke(
        task, {"dies": DebugLearner(signal="SIGSEGV"), "ok": DebugLearner()}, scoring="accuracy", timeout=60
    )
    assert tried.table["status"].tolist() == ["killed", "ok"]


@pytest.mark.parametrize("n", [10, 60, 1000])
def test_thinned_rows_hold_every_class_and_stratum(n):
    rng = np.random.default_rng(n)
    frame = pd.DataFrame({"a": rng.normal(size=2000), "y": np.repeat(["rare", "common"], [25, 1975])})
    frame["s"] = np.where(rng.random(2000) < 0.5, "u", "v")
    task = ts.Task(frame, target="y", stratum="s")
    rows = rng.permutation(2000)[:1900]
    chosen = thinned(task, rows, n)
    part = task.rows(chosen)
    assert len(set(chosen.tolist())) == len(chosen) and set(chosen.tolist()) <= set(rows.tolist())
    assert (part.y.astype(str) + part.strata.astype(str)).nunique() == 4
    assert len(chosen) <= n + 4 * 20
    assert [r for r in rows.tolist() if r in set(chosen.tolist())] == chosen.tolist(), "in the order given"


def test_times_are_written_as_people_do():
    assert written(0.4) == "1 second" and written(600) == "10 minutes" and written(36_000) == "10.0 hours"
