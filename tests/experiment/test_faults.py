"""Failures in every place: each cell ends in its status, and no other cell notices."""

from __future__ import annotations

import html
import importlib.util
from pathlib import Path

import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts
from torchstrata.experiment.report import write_report
from torchstrata.testing import DebugLearner

_spec = importlib.util.spec_from_file_location("faulty", Path(__file__).with_name("faulty.py"))
faulty = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(faulty)

MEASURES = ["accuracy", "roc_auc"]


@pytest.fixture(scope="module")
def task():
    return faulty.make_task()


@pytest.fixture(scope="module")
def clean(task):
    return compared(task, {"clean": DebugLearner()})


def compared(task, learners, **settings):
    return ts.benchmark(task, learners, cv=faulty.splits(task), scoring=MEASURES, progress=False, **settings)


def cells_of(result):
    """Predictions and scores of every cell, without times."""
    measured = result.scores[result.scores["measure"].isin(MEASURES)].groupby(["learner", "fold"])["value"]
    scores = {key: values.tolist() for key, values in measured}
    predicted = result.predictions.groupby(["learner", "fold"])
    tables = {key: rows.drop(columns=["learner", "fold"]).to_dict("list") for key, rows in predicted}
    return {key: (values, tables.get(key)) for key, values in scores.items()}


def check(result, expected, clean, fallback):
    """Compare statuses with what was told, and every other cell with the run in which nothing fails."""
    statuses = result.statuses.set_index(["learner", "fold"]).to_dict("index")
    assert len(statuses) == len(expected) * faulty.FOLDS
    found, undisturbed = cells_of(result), cells_of(clean)
    for (name, fold), ended in statuses.items():
        where, status = expected[name]
        if fold == where and status != "ok":
            assert (ended["status"], ended["fallback"]) == (status, fallback), (name, ended)
            assert ended["message"]
            assert pd.notna(found[name, fold][0]).all() == pd.notna(found[name, fold][0]).any() == bool(fallback)
        else:
            assert (ended["status"], ended["fallback"], ended["message"]) == ("ok", "", ""), (name, ended)
            assert found[name, fold] == undisturbed["clean", fold]
    failed = {(n, w, s) for n, (w, s) in expected.items() if s != "ok"}
    assert set(result.errors[["learner", "fold", "status"]].itertuples(index=False, name=None)) == failed


def told(result, fallback):
    """Every mean over part of the folds, or with a fallback's scores in it, says so."""
    failures = result.errors.groupby("learner").size()
    board = result.leaderboard("roc_auc").set_index("learner")["roc_auc"]
    for row in result.aggregate("roc_auc").itertuples():
        failed = failures.get(row.learner, 0)
        by = ", filled by fallback" if fallback else ""
        assert row.note == (f"{failed} of 3 folds failed{by}" if failed else "")
        assert row.n == (3 if fallback else 3 - failed)
        assert board[row.learner].endswith(f"({row.note})") == bool(row.note)


@pytest.mark.filterwarnings("ignore:.*DebugLearner warns")
@pytest.mark.parametrize("fallback", [None, DummyClassifier()], ids=["none", "dummy"])
def test_errors_in_this_process(task, clean, fallback):
    faults = {f"{name}, fold {fold}": (fold, how, status) for name, (how, status) in faulty.RAISED.items()
              for fold in range(faulty.FOLDS)}  # fmt: skip
    learners = {name: faulty.misbehaving(task, fold, **how) for name, (fold, how, _) in faults.items()}
    result = compared(task, learners, fallback=fallback)
    name = "" if fallback is None else "DummyClassifier"
    check(result, {n: (fold, status) for n, (fold, _, status) in faults.items()}, clean, name)
    told(result, name)
    assert (result.statuses["attempts"] == 1).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*DebugLearner warns")
@pytest.mark.parametrize("shift", range(faulty.FOLDS))
@pytest.mark.parametrize("fallback", [None, DummyClassifier()], ids=["none", "dummy"])
def test_errors_and_deaths_in_workers(task, clean, fallback, shift):
    """The worst that a learner can do, in each fold, among the other faults."""
    faults = {}
    for place, (name, (how, status)) in enumerate({**faulty.DEADLY, **faulty.RAISED}.items()):
        faults[name] = ((place + shift) % faulty.FOLDS, how, status)
    learners = {name: faulty.misbehaving(task, fold, **how) for name, (fold, how, _) in faults.items()}
    result = compared(task, learners, fallback=fallback, n_jobs=2, timeout=8.0)
    name = "" if fallback is None else "DummyClassifier"
    check(result, {n: (fold, status) for n, (fold, _, status) in faults.items()}, clean, name)
    told(result, name)
    statuses = result.statuses
    assert (statuses["attempts"] == 1 + (statuses["status"] == "killed")).all()
    messages = result.errors.set_index("learner")["message"]
    assert "SIGKILL (signal 9)" in messages["SIGKILL"] and "SIGSEGV (signal 11)" in messages["SIGSEGV"]
    assert "exit code 3" in messages["exit code"] and "timeout=8 s" in messages["hangs"]


def test_a_report_and_a_comparison_tell_of_the_fallback(task, tmp_path):
    always = DebugLearner(error_train=1.0)
    learners = {"once": faulty.misbehaving(task, 1, error_train=1.0), "good": LogisticRegression(), "always": always}
    result = compared(task, learners, fallback=DummyClassifier())
    page = write_report(result, tmp_path / "report.html").read_text()
    assert "1 of 3 folds failed, filled by fallback" in page and "3 of 3 folds failed, filled by fallback" in page
    assert "4 cells failed; a fallback's scores stand in for 4 of them; means say so." in html.unescape(page)
    assert "3 (1 by fallback)" in page
    tests = result.compare("roc_auc").set_index("learner")
    assert tests["best"].eq("good").all() and tests["filled"].to_dict() == {"once": 1, "always": 3}
    assert "filled" not in compared(task, {"a": DebugLearner(), "b": DebugLearner()}).compare("roc_auc")
    assert "1 of 3 folds failed, filled by fallback" in result._repr_html_()


def test_a_wrong_setting_stops_before_the_first_fit(task, tmp_path):
    """Nothing is fitted where anything cannot work, whatever stands before it in the list."""
    begun = tmp_path / "begun"
    spy = DebugLearner(error_train=1.0, once=begun)
    for wrong, message in [
        (LogisticRegression(C=-1.0), "learner 'wrong' on task 'made': The 'C' parameter"),
        (ts.TorchClassifier(loss="amu"), "learner 'wrong' on task 'made': unknown loss 'amu'"),
        (make_pipeline(StandardScaler(), ts.TorchClassifier(optimizer="adm")), "learner 'wrong' .*adm"),
        (make_pipeline(StandardScaler(), LogisticRegression(C=-1.0)), "The 'C' parameter"),
    ]:
        with pytest.raises(ValueError, match=message):
            compared(task, {"spy": spy, "wrong": wrong})
    with pytest.raises(ValueError, match=r"fallback .*cannot stand in on task 'made': measure 'roc_auc'"):
        compared(task, {"spy": spy}, fallback=LinearLabels())
    assert not begun.exists()


class LinearLabels(DebugLearner):
    """A learner with labels alone, so no ROC curve."""

    predict_proba = property(doc="absent")

    def predict(self, X):
        return [0] * len(X)
