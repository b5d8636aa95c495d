"""Which cells train as one program."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts
from torchstrata.experiment.plan import cells, name_learners
from torchstrata.experiment.run import shared_out
from torchstrata.experiment.together import table, together

QUIET = {"progress": False}
DOUBLE = ts.Runtime("cpu", precision="float64")


@pytest.fixture(scope="module")
def iris():
    return ts.load_task("iris")


def planned(task, learners, cv=3):
    return cells({task.name: task}, name_learners(learners), cv)


def groups_of(task, learners, **settings):
    return [len(group.cells) for group in together(planned(task, learners), **settings)]


def net(**settings):
    return ts.TorchClassifier(ts.MLP((4,)), max_epochs=2, runtime=DOUBLE, **settings)


def test_numbers_may_differ(iris):
    grid = ts.grid(
        net(loss="focal"), optimizer__lr=[0.1, 0.2], loss__gamma=[1.0, 2.0], random_state=[1, 2], max_epochs=[1, 2],
        network__dropout=[0.1, 0.2],
    )  # fmt: skip
    assert groups_of(iris, {"net": grid}) == [96]


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("network__hidden", [(4,), (5,)]),
        ("network__activation", ["relu", "tanh"]),
        ("batch_size", [16, 32]),
        ("loss", ["cross_entropy", "focal"]),
        ("optimizer", ["SGD", "AdamW"]),
        ("class_weight", [None, "balanced"]),
        ("encoder", ["auto", StandardScaler()]),
        ("runtime", ["cpu", DOUBLE]),
        ("valid", [None, 0.2]),
        ("scoring", ["accuracy", "neg_log_loss"]),
    ],
)
def test_other_settings_may_not(iris, setting, values):
    assert groups_of(iris, {"net": ts.grid(net(), **{setting: values})}) == [3, 3]


def test_learners_of_other_names_but_the_same_settings_are_one_program(iris):
    assert groups_of(iris, {"a": net(), "b": net(), "c": net(batch_size=8)}) == [6, 3]


def test_others_are_alone_and_say_why(iris):
    learners = {"dummy": DummyClassifier(), "pipe": make_pipeline(StandardScaler(), net()), "net": net()}
    found = table(together(planned(iris, learners))).set_index("learner")
    assert found.loc["dummy", "why"] == "DummyClassifier is no learner of this library"
    assert found.loc["pipe", "why"] == "Pipeline is no learner of this library"
    assert found.loc["net", ["cells", "groups"]].tolist() == [3, 1]


def test_tasks_are_not_mixed(iris):
    wine = ts.load_task("wine")
    both = cells({"iris": iris, "wine": wine}, name_learners({"net": net()}), 3)
    assert [{c.task for c in g.cells} for g in together(both)] == [{"iris"}, {"wine"}]


def test_it_can_be_switched_off(iris):
    assert groups_of(iris, {"net": net()}, vectorize=False) == [1, 1, 1]
    with pytest.raises(ts.ConfigError, match="vectorize must be 'auto' or False, got 'always'"):
        ts.benchmark(iris, net(), cv=3, vectorize="always", **QUIET)


def test_a_benchmark_is_the_same_one_by_one_together_and_in_processes(iris):
    learners = {
        "net": ts.grid(net(), optimizer__lr=[0.01, 0.1], random_state=[None, 1]),
        "drop": ts.TorchClassifier(ts.MLP((6, 5), dropout=0.3), max_epochs=3, runtime=DOUBLE),
        "stops": net(valid=0.3).set_params(max_epochs=30, early_stopping=ts.EarlyStopping(2), optimizer__lr=0.05),
        "dummy": DummyClassifier(),
    }
    scoring = ["accuracy", "neg_log_loss"]
    alone = ts.benchmark(iris, learners, cv=3, scoring=scoring, vectorize=False, **QUIET)
    for settings in ({}, {"n_jobs": 2}):
        result = ts.benchmark(iris, learners, cv=3, scoring=scoring, **settings, **QUIET)
        keys = [c for c in alone.scores if c not in ("value",)]
        for name in ("scores", "history", "predictions"):
            mine, theirs = (getattr(r, name) for r in (result, alone))
            if name == "scores":
                mine, theirs = (t[~t.measure.str.endswith("_seconds")].reset_index(drop=True) for t in (mine, theirs))
            assert list(mine.columns) == list(theirs.columns) and len(mine) == len(theirs)
            for column in mine.columns:
                if mine[column].dtype.kind != "f":
                    assert mine[column].equals(theirs[column]), (name, column)
                elif column != "seconds":
                    np.testing.assert_allclose(mine[column], theirs[column], rtol=1e-6, err_msg=f"{name}.{column}")
        assert set(keys) <= set(result.scores)
        by = {row["learner"]: row for row in result.info["together"]}
        assert by["net"]["cells"] == 12 and by["net"]["groups"] == 1 and by["dummy"]["groups"] == 3


def test_a_failing_cell_of_a_program_is_recorded_and_the_others_are_as_without_it(iris):
    learners = {"net": ts.grid(net(optimizer=ts.optim.SGD()), optimizer__lr=[0.1, 1e300, 0.2])}
    result = ts.benchmark(iris, learners, cv=3, scoring="accuracy", **QUIET)
    assert result.errors.status.tolist() == ["nonfinite"] * 3 and set(result.errors["optimizer__lr"]) == {1e300}
    fine = ts.benchmark(
        iris, {"net": ts.grid(net(optimizer=ts.optim.SGD()), optimizer__lr=[0.1, 0.2])}, cv=3, scoring="accuracy",
        **QUIET,
    )  # fmt: skip
    keys = ["fold", "optimizer__lr"]
    left, right = (
        r.scores.query("measure == 'accuracy' and optimizer__lr < 1").set_index(keys).sort_index()["value"]
        for r in (result, fine)
    )
    np.testing.assert_allclose(left, right, rtol=1e-9)
    replaced = ts.benchmark(iris, learners, cv=3, scoring="accuracy", fallback=DummyClassifier(), **QUIET)
    assert replaced.scores.query("measure == 'accuracy'").value.notna().all() and len(replaced.errors) == 3
    with pytest.raises(ts.NonFiniteError):
        ts.benchmark(iris, learners, cv=3, scoring="accuracy", on_error="raise", **QUIET)


def test_warnings_of_a_program_are_told_once_a_fit(iris):
    two = ts.load_task("breast_cancer")
    loose = ts.grid(ts.TorchClassifier(ts.Linear(), loss="aum", batch_size=4, max_epochs=1), optimizer__lr=[0.1, 0.2])
    with pytest.warns(UserWarning, match="learns nothing from a batch of one class"):
        result = ts.benchmark(two, {"loose": loose}, cv=3, scoring="roc_auc", **QUIET)
    assert sum(w["fits"] for w in result.info["warnings"] if "learns nothing" in w["message"]) == 6


def test_large_groups_are_shared_out_fold_by_fold(iris):
    (group,) = together(planned(iris, {"net": ts.grid(net(), optimizer__lr=[0.1, 0.2, 0.3, 0.4])}))
    parts = shared_out([group], 2)
    assert [len(p.cells) for p in parts] == [6, 6]
    assert [[c.fold for c in p.cells] for p in parts] == [[0, 0, 0, 0, 1, 1], [1, 1, 2, 2, 2, 2]]


def test_the_runtime_says_with_how_many(iris):
    result = ts.benchmark(iris, {"net": net()}, cv=3, scoring="accuracy", **QUIET)
    assert result.info["runtime"]["vectorize"] == [3, "3 networks of one shape trained as one program"]
