"""Sentences about a result claim no more than its tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.neighbors import KNeighborsRegressor

import torchstrata as ts
from torchstrata.experiment.presentation import verdict

TASKS = tuple(f"task{i}" for i in range(8))


def said(tables, **settings) -> str:
    return " ".join(verdict.headline(ts.BenchmarkResult(**tables(**settings))))


def test_many_tasks_are_told_by_ranks(tables):
    text = said(tables, tasks=TASKS)
    assert "Over 8 tasks, “mlp, stratified” had the best average rank" in text
    # the others are less than a critical difference behind, and are not named
    assert text.endswith("by more than the critical difference of 2.16 before “dummy” (Nemenyi's test).")


def test_two_learners_are_told_by_signed_ranks(tables):
    text = said(tables, tasks=TASKS, learners={"a": 1.0, "b": 0.0})
    assert "Over 8 tasks, “a” was better on 8, equal on 0, worse on 0 (Wilcoxon's signed ranks: p = 0.0078)." in text


def test_learners_alike_are_not_told_apart(tables):
    text = said(tables, tasks=TASKS[:4], learners={"a": 1.0, "b": 1.0, "c": 1.0})
    assert "Friedman's test does not tell the ranks from chance" in text


def test_one_task_has_no_ranks_and_missing_folds_are_named(tables):
    assert "Over" not in said(tables)
    text = said(tables, tasks=TASKS, fail=[("task2", "linear", 1)])
    assert "Over 8 tasks (1 learner left out that missed folds)" in text


def test_subsets_are_told_by_same_and_other():
    rng = np.random.default_rng(1)
    x, person = rng.uniform(-10, 10, 300), np.arange(300) % 3
    frame = pd.DataFrame({"x": x, "y": (x**2 + 3 * person) * (-1.0) ** person, "person": person})
    task = ts.Task(frame, target="y", subset="person", name="people")
    learners = {"nearest": KNeighborsRegressor(2), "featureless": DummyRegressor()}
    result = ts.benchmark(
        task, learners, cv=ts.splitters.SameOther(5), scoring="neg_mean_absolute_error", progress=False
    )
    text = " ".join(verdict.headline(result))
    assert text.startswith("2 learners on people, compared by neg_mean_absolute_error over 45 splits.")
    assert "“nearest” trained on the other subsets instead of the tested one was worse on 3 of 3 subsets" in text
    assert "“nearest” trained on all subsets" in text and "had the highest mean" not in text


def test_scores_of_training_rows_are_called_that():
    task = ts.load_task("iris")
    with pytest.warns(UserWarning, match="how well learners remember"):
        result = ts.benchmark(task, DummyRegressor() if task.kind == "regression" else ts.TorchClassifier(max_epochs=1),
                              cv=ts.splitters.InSample(), scoring="accuracy", progress=False)  # fmt: skip
    assert "Rows that trained were tested" in " ".join(verdict.headline(result))


def test_p_values_are_written_for_people():
    assert [verdict.write_p(p) for p in (0.0123, 0.5, 0.0001)] == ["p = 0.012", "p = 0.5", "p < 0.001"]


def test_the_best_mean_says_of_which_folds_it_is(tables):
    failed = [("sonar", name, fold) for fold, name in enumerate(("good", "bad"))]
    assert "(1 of 5 folds failed)." in said(tables, learners={"good": 3.0, "bad": 0.5}, fail=failed)


def test_learners_without_two_common_folds_are_not_compared(tables):
    failed = [("sonar", "bad", fold) for fold in range(5)]
    text = said(tables, learners={"good": 3.0, "soso": 1.0, "bad": 0.5}, fail=failed)
    assert "less than two folds with “bad”" in text and "One fold" not in text
    assert "“bad” includes 0" not in text and "the others includes 0" not in text


def test_a_lead_over_scores_of_a_fallback_says_so(tables):
    made = tables(learners={"good": 3.0, "bad": 0.5})
    ended = made["scores"].drop_duplicates(["task", "learner", "fold"])[["task", "learner", "fold"]]
    stood = [
        "Dummy" if name == "bad" and fold < 2 else ""
        for name, fold in zip(ended["learner"], ended["fold"], strict=True)
    ]
    ended = ended.assign(status="ok", seconds=1.0, attempts=1, message="", fallback=stood)
    assert "difference to “bad” (a fallback in 2 folds)" in " ".join(
        verdict.headline(ts.experiment.result.BenchmarkResult(**made, statuses=ended))
    )
