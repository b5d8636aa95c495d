from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, LeaveOneOut
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.experiment import benchmark as module
from torchstrata.testing import DebugLearner

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def task() -> ts.Task:
    rng = np.random.default_rng(0)
    y = np.repeat(["neg", "pos"], [60, 20])
    frame = pd.DataFrame({"a": rng.normal(size=80) + (y == "neg"), "b": rng.normal(size=80), "y": y})
    frame["c"] = np.where(rng.random(80) < 0.5, "u", "v")
    return ts.Task(frame, target="y", stratum="y", name="made")


def small(**settings) -> ts.TorchClassifier:
    return ts.TorchClassifier(ts.Linear(), **{"max_epochs": 3, **settings})


def test_tables_hold_every_cell_once(task):
    learners = {"dummy": DummyClassifier(), "net": ts.grid(small(), optimizer__lr=[0.01, 0.1])}
    result = ts.benchmark(task, learners, cv=4, scoring=["roc_auc", "accuracy"], **QUIET)
    scores = result.scores
    assert (scores.groupby(["learner", "fold", "optimizer__lr", "measure"], dropna=False).size() == 1).all()
    assert len(scores[scores.measure == "roc_auc"]) == 3 * 4
    assert set(scores[scores.learner == "net"].measure) >= {
        "roc_auc",
        "accuracy",
        "fit_seconds",
        "epochs",
        "best_epoch",
    }
    history = result.history
    assert len(history) == 2 * 4 * 3 and history.groupby(["fold", "optimizer__lr"]).best.sum().eq(1).all()
    predictions = result.predictions
    assert (predictions.groupby(["learner", "optimizer__lr", "row"], dropna=False).size() == 1).all()
    assert set(predictions.truth) == {"neg", "pos"} and result.errors.empty
    assert result.tasks["made"]["class_counts"] == {"neg": 60, "pos": 20}


def test_scores_are_those_of_the_predictions_and_mean_the_positive_class(task):
    for positive in ("pos", "neg"):
        turned = task.with_roles(positive=positive)
        result = ts.benchmark(turned, {"net": small(max_epochs=20)}, cv=3, scoring=["roc_auc", "recall"], **QUIET)
        for fold, rows in result.predictions.groupby("fold"):
            of_fold = result.scores[result.scores.fold == fold].set_index("measure").value
            score = of_fold["roc_auc"]
            assert score == pytest.approx(roc_auc_score(rows.truth == positive, rows.score))
            recall = of_fold["recall"]
            hits = (rows.predicted == positive)[rows.truth == positive].mean()
            assert recall == pytest.approx(hits)


def test_same_result_for_any_number_of_jobs_and_beside_other_learners(task):
    settings = {"cv": 3, "scoring": "roc_auc", **QUIET}
    one = ts.benchmark(task, {"net": small(), "dummy": DummyClassifier()}, **settings)
    two = ts.benchmark(task, {"net": small(), "dummy": DummyClassifier()}, n_jobs=2, **settings)
    alone = ts.benchmark(task, {"net": small()}, **settings)
    pd.testing.assert_frame_equal(one.predictions, two.predictions)
    net = one.predictions.query("learner == 'net'").dropna(axis=1).reset_index(drop=True)
    pd.testing.assert_frame_equal(net, alone.predictions.dropna(axis=1))


def test_any_estimator_takes_part_and_gets_weights_and_strata(task):
    frame = task.X.assign(y=task.y, w=np.where(task.y == "pos", 3.0, 1.0)).drop(columns="c")
    weighted = ts.Task(frame, target="y", weight="w", stratum="y", name="weighted")
    spy = DebugLearner(save_X=True)
    seen = []
    original = DebugLearner.fit

    def fit(self, X, y, *, sample_weight=None, stratum=None):
        seen.append((np.asarray(sample_weight).tolist(), list(stratum)))
        return original(self, X, y, sample_weight=sample_weight, stratum=stratum)

    learners = {"pipe": make_pipeline(StandardScaler(), LogisticRegression()), "spy": spy}
    learners["strat"] = make_pipeline(StandardScaler(), small(batch_sampler=ts.StratifiedBatchSampler(2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DebugLearner, "fit", fit)
        result = ts.benchmark(weighted, learners, cv=3, scoring="roc_auc", **QUIET)
    assert result.errors.empty and len(seen) == 3
    assert all(w == [3.0 if s == "pos" else 1.0 for s in strata] for w, strata in seen)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"error_train": 1.0}, "error_train"),
        ({"error_predict": 1.0}, "error_predict"),
        ({"nan_loss_at": 3}, "nonfinite"),
        ({"error_train": 1.0, "raise_class": "MemoryError"}, "oom"),
        ({"error_train": 1.0, "raise_class": "SystemExit"}, "error_train"),
        ({"wrong_length": 1}, "error_predict"),
        ({"missing_predictions": 2}, "error_predict"),
    ],
)
def test_a_failing_learner_costs_no_other_cell(task, fault, status):
    settings = {"cv": 3, "scoring": "accuracy", **QUIET}
    clean = ts.benchmark(task, {"good": small()}, **settings)
    result = ts.benchmark(task, {"bad": DebugLearner(**fault), "good": small()}, **settings)
    assert result.errors.status.tolist() == [status] * 3 and result.errors.learner.eq("bad").all()
    assert result.errors.traceback.str.contains("Traceback").all()
    bad = result.scores.query("learner == 'bad' and measure == 'accuracy'")
    assert len(bad) == 3 and bad.value.isna().all()
    good = result.predictions.query("learner == 'good'").reset_index(drop=True)
    pd.testing.assert_frame_equal(good, clean.predictions, check_dtype=False)
    assert result.aggregate("accuracy").set_index("learner").loc["bad", "note"] == "3 of 3 folds failed"


def test_fallback_fills_in_and_the_failure_stays_on_record(task):
    result = ts.benchmark(
        task, {"bad": DebugLearner(error_train=1.0)}, cv=3, scoring="accuracy", fallback=DummyClassifier(), **QUIET
    )
    assert result.scores.query("measure == 'accuracy'").value.between(0.7, 0.8).all() and len(result.errors) == 3


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_keeps_what_is_finished(task, n_jobs):
    learners = {
        "good": small(),
        "stops": DebugLearner(error_train=1.0, raise_class="KeyboardInterrupt"),
        "late": small(),
    }
    with pytest.raises(KeyboardInterrupt) as stopped:
        ts.benchmark(task, learners, cv=3, scoring="accuracy", n_jobs=n_jobs, **QUIET)
    result = stopped.value.result
    scores = result.scores.query("measure == 'accuracy'")
    assert len(scores) == 9 and scores.value.notna().sum() == 9 - len(result.errors)
    assert result.errors.status.eq("interrupted").all() and "stops" in set(result.errors.learner)
    if n_jobs == 1:
        assert scores.value.notna().sum() == 6  # "good" and "late" are one program, and came first


def test_two_halves_of_a_grid_make_the_whole(task):
    def half(rates):
        return ts.benchmark(task, {"net": ts.grid(small(), optimizer__lr=rates)}, cv=3, scoring="roc_auc", **QUIET)

    both, whole = half([0.1]) + half([0.2]), half([0.1, 0.2])
    keys = ["fold", "optimizer__lr", "measure"]
    left, right = (
        r.scores.query("measure == 'roc_auc'").sort_values(keys).reset_index(drop=True) for r in (both, whole)
    )
    pd.testing.assert_frame_equal(left, right)


def test_settings_are_kept_with_their_defaults(task):
    text = ts.benchmark(task, {"net": small()}, cv=3, scoring="roc_auc", **QUIET).learners["net"]
    assert "batch_size='auto'" in text and "loss='cross_entropy'" in text and "max_epochs=3" in text


def test_measures_for_numbers_are_refused_on_classes(task):
    for name in ("r2", "neg_mean_absolute_error", "neg_max_error"):
        with pytest.raises(ConfigError, match=r"is for regression.*Measures that fit"):
            ts.benchmark(task, {"net": small()}, cv=3, scoring=name, **QUIET)


def test_on_error_raise_and_wrong_settings_end_the_run(task):
    with pytest.raises(RuntimeError, match="fails in fit"):
        ts.benchmark(task, DebugLearner(error_train=1.0), cv=3, scoring="accuracy", on_error="raise", **QUIET)
    with pytest.raises(ConfigError, match="fails in fit"):
        ts.benchmark(task, DebugLearner(error_train=1.0, raise_class="ConfigError"), cv=3, scoring="accuracy", **QUIET)
    with pytest.raises(ConfigError, match="on_error must be"):
        ts.benchmark(task, DummyClassifier(), on_error="ignore", **QUIET)


def test_nothing_is_fitted_before_everything_is_checked(task, monkeypatch):
    fits = []
    monkeypatch.setattr(module, "run_cells", lambda *a, **k: fits.append(1) or iter(()))
    plain = task.with_roles(stratum=None)
    stratified = {"net": small(batch_sampler=ts.StratifiedBatchSampler())}
    cases = [
        ((plain, stratified), {}, "learner 'net' on task 'made'.*needs a stratum"),
        ((task, {"net": small(loss="amu")}), {}, "Did you mean 'aum'"),
        ((task, {"net": small()}), {"scoring": "roc_acu"}, "Did you mean 'roc_auc'"),
        (
            (ts.load_task("iris"), {"net": small()}),
            {"scoring": "roc_auc"},
            "cannot be computed on task 'iris'.*roc_auc_ovr",
        ),
        ((ts.load_task("iris"), {"net": small(loss="aum")}), {}, "two classes; y has 3"),
        (
            (ts.load_task("diabetes"), {"net": small()}),
            {},
            "learner 'net' is a classifier, and task 'diabetes' is a regression",
        ),
    ]
    for (tasks, learners), settings, match in cases:
        with pytest.raises(ValueError, match=match):
            ts.benchmark(tasks, learners, cv=3, **settings, **QUIET)
    assert not fits


def test_regression_and_several_targets():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 2))
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": X @ [1, 2] + 0.1, "z": X @ [2, -1]})
    net = ts.TorchRegressor(ts.Linear(), max_epochs=40, optimizer=ts.optim.AdamW(lr=0.05))
    learners = {"net": net, "ols": LinearRegression(), "dummy": DummyRegressor()}
    for target in ("y", ["y", "z"]):
        task = ts.Task(frame, target=target, features=["a", "b"], name="r")
        result = ts.benchmark(task, learners, cv=3, **QUIET)
        means = result.aggregate("r2").set_index("learner")["mean"]
        assert means["ols"] > 0.999 and means["net"] > 0.9 and means["dummy"] < 0.1
        assert len(result.predictions) == 3 * 60 * (len(target) if isinstance(target, list) else 1)


def test_valid_test_takes_the_test_rows_for_curves(task):
    result = ts.resample(task, small(valid="test", scoring="roc_auc"), cv=3, scoring="roc_auc", **QUIET)
    last = result.history.query("epoch == 3").sort_values("fold").valid_roc_auc
    scores = result.scores.query("measure == 'roc_auc'").sort_values("fold").value
    np.testing.assert_allclose(last, scores)


def test_round_trip_through_a_folder(task, tmp_path):
    result = ts.benchmark(
        task, {"net": ts.grid(small(), optimizer__lr=[0.01, 0.1]), "d": DummyClassifier()}, cv=3, **QUIET
    )
    result.save(tmp_path / "run")
    again = ts.load_result(tmp_path / "run")
    for table in ("scores", "history", "predictions", "errors", "splits"):
        pd.testing.assert_frame_equal(getattr(result, table), getattr(again, table))


def test_labels_of_predictions_are_those_of_the_task(task):
    iris = ts.load_task("iris")
    result = ts.benchmark(iris, {"net": small(max_epochs=10)}, cv=3, scoring="accuracy", **QUIET)
    predictions = result.predictions
    assert set(predictions.predicted) <= set(iris.classes)
    assert {f"prob_{label}" for label in iris.classes} <= set(predictions)
    accuracy = (predictions.truth == predictions.predicted).groupby(predictions.fold).mean()
    np.testing.assert_allclose(accuracy, result.scores.query("measure == 'accuracy'").value)


def test_a_warning_of_a_learner_is_not_lost(task):
    for n_jobs in (1, 2):
        with pytest.warns(UserWarning, match=r"3 fits of 'DebugLearner' on 'made': UserWarning: DebugLearner warns"):
            result = ts.benchmark(task, DebugLearner(warn=1.0), cv=3, scoring="accuracy", n_jobs=n_jobs, **QUIET)
        assert [(w["learner"], w["fits"]) for w in result.info["warnings"]] == [("DebugLearner", 3)]


def test_a_classifier_with_labels_alone_takes_part(task):
    votes = VotingClassifier([("a", DummyClassifier()), ("b", LogisticRegression())])
    result = ts.benchmark(task.with_roles(features=["a", "b"]), votes, cv=2, scoring="accuracy", **QUIET)
    assert result.errors.empty and "score" not in result.predictions


def test_a_search_gets_strata_and_weights(task):
    frame = task.X.assign(y=task.y, w=np.linspace(1, 2, len(task)))
    weighted = ts.Task(frame, target="y", stratum="y", weight="w")
    learner = small(batch_sampler=ts.StratifiedBatchSampler(2), random_state=0)
    search = GridSearchCV(learner, {"max_epochs": [2]}, cv=2)
    result = ts.benchmark(weighted, {"search": search, "alone": learner.set_params(max_epochs=2)}, cv=2, **QUIET)
    assert result.errors.empty
    scores = result.scores.query("measure == 'roc_auc'").pivot(index="fold", columns="learner", values="value")
    assert (scores["search"] == scores["alone"]).all()


def test_weights_that_a_learner_cannot_take_are_said(task):
    frame = task.X[["a", "b"]].assign(y=task.y, w=1.0)
    weighted = ts.Task(frame, target="y", weight="w")
    with pytest.warns(UserWarning, match="KNeighborsClassifier takes no sample_weight: fitted without weights"):
        ts.benchmark(weighted, KNeighborsClassifier(), cv=2, **QUIET)


def test_validation_rows_cannot_go_round_the_steps_of_a_pipeline(task):
    with pytest.raises(ConfigError, match="torchclassifier__valid='test' works for a learner that stands alone"):
        ts.benchmark(task, make_pipeline(StandardScaler(), small(valid="test")), cv=2, **QUIET)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scoring": []}, "scoring holds no measure"),
        ({"scoring": roc_auc_score}, "a dict of name to scorer"),
        ({"n_jobs": 0}, "n_jobs must be an int"),
        ({"n_jobs": "two"}, "n_jobs must be an int"),
    ],
)
def test_settings_that_cannot_work(task, settings, message):
    with pytest.raises(ConfigError, match=message):
        ts.benchmark(task, DummyClassifier(), cv=2, **settings, **QUIET)


def test_one_thing_that_is_no_task():
    with pytest.raises(ConfigError, match="task 'str' is a str"):
        ts.benchmark("iris", DummyClassifier(), **QUIET)


def test_the_command_can_be_typed_again(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/bin/torchstrata", "benchmark", "my data.csv", "--sep", ";"])
    assert module.environment()["command"] == "torchstrata benchmark 'my data.csv' --sep ';'"


def test_a_cell_that_was_run_twice_is_one(task):
    once, again = (ts.benchmark(task, {"a": small(random_state=0)}, cv=2, **QUIET) for _ in range(2))
    both = once + again
    assert both.scores.equals(once.scores) and len(both.history) == len(once.history)


@pytest.mark.parametrize("name", ["epochs", "predict_seconds", "task", "best", "a, b", "trained_on"])
def test_a_measure_must_not_be_named_like_a_column(name):
    with pytest.raises(ConfigError, match="cannot name a measure"):
        ts.benchmark(ts.load_task("iris"), DummyClassifier(), scoring={name: "accuracy"}, progress=False)


def test_a_measure_must_not_be_named_like_a_setting_that_varies():
    varied = ts.grid(DummyClassifier(), strategy=["prior", "uniform"])
    with pytest.raises(ConfigError, match="'strategy' is a measure in scoring and a setting"):
        ts.benchmark(ts.load_task("iris"), varied, scoring={"strategy": "accuracy"}, progress=False)


def test_a_measure_that_one_row_does_not_define_is_refused():
    task = ts.load_task("diabetes").rows(range(12))
    with pytest.raises(ConfigError, match="test part of one row; use fewer folds"):
        ts.benchmark(task, DummyRegressor(), cv=LeaveOneOut(), scoring="r2", progress=False)


def test_a_regressor_may_answer_with_a_column():
    class Column(DummyRegressor):
        def predict(self, X):
            return super().predict(X)[:, None]

    task = ts.load_task("diabetes")
    column, plain = (
        ts.benchmark(task, {"a": one}, cv=2, scoring="r2", progress=False) for one in (Column(), DummyRegressor())
    )
    assert column.errors.empty
    pd.testing.assert_frame_equal(column.predictions, plain.predictions)
