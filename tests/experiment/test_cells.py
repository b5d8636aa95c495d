from __future__ import annotations

import pandas as pd
from sklearn.dummy import DummyClassifier

import torchstrata as ts
from torchstrata.experiment import cells
from torchstrata.testing import DebugLearner


def made(**settings):
    task = ts.load_task("iris")
    learners = {"a": ts.grid(DebugLearner(random_state=0), error_train=[0.0, 1.0]), "b": DebugLearner()}
    return ts.benchmark(task, learners, cv=3, scoring="accuracy", progress=False, **settings)


def test_statuses_are_equal_to_errors_and_hold_every_cell():
    result = made()
    statuses = result.statuses
    keys = ["task", "learner", "fold", "error_train"]
    assert statuses.columns.tolist() == [*keys, *cells.COLUMNS]
    assert len(statuses) == 9 and not statuses.duplicated(keys).any()
    failed = statuses[statuses["status"] != "ok"].reset_index(drop=True)
    pd.testing.assert_frame_equal(failed[[*keys, "status", "message"]], result.errors[[*keys, "status", "message"]])
    assert (statuses["attempts"] == 1).all() and (statuses["seconds"] > 0).all()


def test_a_result_made_without_statuses_tells_them_from_its_scores():
    for settings in ({}, {"fallback": DummyClassifier()}):
        whole = made(**settings)
        parts = {name: getattr(whole, name) for name in ("scores", "errors", "splits")}
        read = ts.BenchmarkResult(**parts).statuses
        left, right = whole.statuses, read
        right["fallback"] = right["fallback"].replace("fallback", "DummyClassifier")
        pd.testing.assert_frame_equal(
            left.drop(columns="seconds"), right.drop(columns="seconds"), check_dtype=False
        )  # fmt: skip


def test_statuses_survive_saving_and_adding(tmp_path):
    result = made(fallback=DummyClassifier())
    result.save(tmp_path / "run")
    again = ts.load_result(tmp_path / "run")
    pd.testing.assert_frame_equal(again.statuses, result.statuses)
    assert again.aggregate("accuracy")["note"].tolist() == result.aggregate("accuracy")["note"].tolist()
    both = again + result
    pd.testing.assert_frame_equal(both.statuses, result.statuses)


def test_means_over_learners_count_filled_folds_once():
    result = made(fallback=DummyClassifier())
    pooled = result.aggregate("accuracy", by="task")
    assert pooled["note"].tolist() == ["3 of 3 folds failed, filled by fallback"]
    costs = result.aggregate("predict_seconds")
    assert costs["note"].eq("").all()


def test_a_result_without_scores_has_no_statuses():
    empty = pd.DataFrame(columns=["task", "learner", "fold", "measure", "value"])
    assert ts.BenchmarkResult(empty).statuses.empty


def test_predictions_know_how_many_folds_there_are_and_which_are_a_fallbacks():
    result = made(fallback=DummyClassifier())
    table = result._predictions(None)
    assert (table["folds"] == result.splits["fold"].nunique()).all()
    stood_in = result.statuses.query("fallback != ''")[["learner", "fold"]].drop_duplicates()
    marked = table[table["filled"]][["learner", "fold"]].drop_duplicates()
    assert len(marked) and set(marked.itertuples(index=False, name=None)) == set(
        stood_in.itertuples(index=False, name=None)
    )
    notes = result.plot(kind="confusion").table.drop_duplicates("label").set_index("label")["note"]
    assert (notes != "").sum() == marked["learner"].nunique()
