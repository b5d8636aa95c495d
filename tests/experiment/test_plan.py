from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GroupKFold, KFold, StratifiedShuffleSplit

import torchstrata as ts
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.plan import cells, grid, name_learners, name_tasks, splits_of


def make_task(counts=(30, 12), **roles) -> ts.Task:
    labels = np.repeat([chr(97 + i) for i in range(len(counts))], counts)
    n = len(labels)
    frame = pd.DataFrame({"x": np.arange(n) % 7.0, "z": np.sin(np.arange(n)), "g": np.arange(n) // 3, "y": labels})
    return ts.Task(frame, target="y", name="made", **roles)


def test_folds_cover_every_row_once_and_keep_the_classes():
    task = make_task()
    splits = splits_of(task, 3)
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(42))
    for train, test in splits:
        assert not set(train) & set(test)
        assert task.rows(test).class_counts().tolist() == [10, 4]


def test_folds_keep_groups_together_and_strata_apart():
    task = make_task(counts=(60, 60), group="g")
    for train, test in splits_of(task, 4):
        assert not set(task.groups.iloc[train]) & set(task.groups.iloc[test])
        assert (task.rows(test).class_counts() > 0).all()
    frame = pd.DataFrame({"x": np.arange(80.0), "s": list("ab") * 40, "y": list("ppnn") * 20})
    crossed = ts.Task(frame, target="y", stratum="s")
    for _, test in splits_of(crossed, 4):
        part = crossed.rows(test)
        assert (pd.crosstab(part.y, part.strata) == 5).all().all()


def test_regression_folds_and_any_splitter():
    frame = pd.DataFrame({"x": np.arange(20.0), "y": np.linspace(0.1, 2, 20)})
    task = ts.Task(frame, target="y")
    assert [len(test) for _, test in splits_of(task, 5)] == [4] * 5
    given = list(StratifiedShuffleSplit(2, random_state=0).split(np.zeros((42, 1)), make_task().y))
    ours = splits_of(make_task(), StratifiedShuffleSplit(2, random_state=0))
    for (a, b), (c, d) in zip(given, ours, strict=True):
        assert (a == c).all() and (b == d).all()
    assert len(splits_of(make_task(), given)) == 2


def test_splits_that_cannot_be_fair_are_refused_with_fold_and_fix():
    with pytest.raises(DataError, match=r"smallest class has 3 rows.*5-fold stratified resampling needs 5.*cv=3"):
        splits_of(make_task(counts=(30, 3)), 5)
    with pytest.raises(DataError, match=r"fold 0: the training part has no row of class 'a'|no row of class 'b'"):
        splits_of(make_task(), KFold(3))  # the classes are sorted
    with pytest.raises(DataError, match="cannot split 42 rows into 50 folds"):
        splits_of(make_task(), 50)
    with pytest.raises(ConfigError, match="at least 2 folds"):
        splits_of(make_task(), 1)


def test_grid_makes_all_combinations_and_refuses_wrong_ones():
    made = grid(ts.TorchClassifier(), loss=["cross_entropy", "aum"], optimizer__lr=[1e-3, 1e-2, 1e-1])
    variants = list(made.variants())
    assert len(variants) == len(made) == 6
    assert variants[1][0] == {"loss": "cross_entropy", "optimizer__lr": 1e-2}
    assert variants[1][1].optimizer.lr == 1e-2 and made.learner.optimizer.lr == 1e-3
    with pytest.raises(ConfigError, match="Did you mean 'optimizer__lr'"):
        grid(ts.TorchClassifier(), optimiser__lr=[1])
    with pytest.raises(ConfigError, match=r"write max_epochs=\[5\]"):
        grid(ts.TorchClassifier(), max_epochs=5)
    with pytest.raises(ConfigError, match="lr must be a positive"):
        grid(ts.TorchClassifier(), optimizer__lr=[0.1, -1.0])
    with pytest.raises(ConfigError, match="at least one setting"):
        grid(ts.TorchClassifier())


def double(shapes, n_outputs):
    return None


def test_variants_by_a_function_have_the_same_name_and_seed_in_every_process():
    made = grid(ts.TorchClassifier(), network=[double, lambda shapes, n_outputs: None, ts.MLP((3,))])
    shown = [settings["network"] for settings, _ in made.variants()]
    assert shown[0] == "double" and "<lambda>" in shown[1] and not any("0x" in name for name in shown)
    with pytest.raises(ConfigError, match="twice"):
        grid(ts.TorchClassifier(), network=[double, double])


def test_names_are_unique_and_things_are_what_they_should_be():
    with pytest.raises(ConfigError, match=r"learner id 'DummyClassifier' used twice: give a dict"):
        name_learners([DummyClassifier(), DummyClassifier()])
    with pytest.raises(ConfigError, match="task id 'made' used twice"):
        name_tasks([make_task(), make_task()])
    with pytest.raises(ConfigError, match=r"is a DataFrame; make it a ts\.Task"):
        name_tasks({"t": pd.DataFrame()})
    with pytest.raises(ConfigError, match="expected a scikit-learn estimator"):
        name_learners({"l": DummyClassifier})
    for names in (name_tasks, name_learners):
        with pytest.raises(ConfigError, match="at least one"):
            names([])


def test_all_learners_of_a_fold_see_the_same_rows_and_seeds_depend_on_names_alone():
    one = cells({"t": make_task()}, {"a": DummyClassifier(), "b": DummyClassifier()}, 3)
    two = cells({"t": make_task()}, {"b": DummyClassifier()}, 3)
    by_fold = {c.fold: c for c in one if c.learner == "a"}
    for cell in one:
        assert (cell.train == by_fold[cell.fold].train).all() and (cell.test == by_fold[cell.fold].test).all()
    assert [c.seed for c in one if c.learner == "b"] == [c.seed for c in two]
    assert len({c.seed for c in one}) == 6


def test_a_value_twice_in_a_grid_is_refused_before_the_run():
    for twice in ([0.1, 0.1], [1, 1.0]):
        with pytest.raises(ConfigError, match=r"optimizer__lr has the value .* twice"):
            grid(ts.TorchClassifier(), optimizer__lr=twice)


def test_splits_of_any_kind_become_positions():
    task = make_task()
    even = np.arange(42) % 2 == 0
    ((train, test),) = splits_of(task, [(even, ~even)])
    assert train.tolist() == list(range(0, 42, 2)) and test.tolist() == list(range(1, 42, 2))
    assert len(splits_of(task, np.int64(3))) == 3
    for (a, b), (c, d) in zip(splits_of(task, np.int64(3)), splits_of(task, 3), strict=True):
        assert (a == c).all() and (b == d).all()
    with pytest.raises(DataError, match="row 99 is out of range"):
        splits_of(task, [(np.arange(42), [99])])
    for wrong in (None, True, "5"):
        with pytest.raises(ConfigError, match="cv must be a number of folds"):
            splits_of(task, wrong)
    with pytest.raises(ConfigError, match="makes no split"):
        splits_of(task, [])


def test_an_iterator_of_splits_serves_every_task():
    tasks = {"a": make_task(), "b": make_task()}
    planned = cells(tasks, {"d": DummyClassifier()}, iter(splits_of(make_task(), 3)))
    assert [(cell.task, cell.fold) for cell in planned] == [(t, k) for t in "ab" for k in range(3)]


def test_a_splitter_that_parts_groups_is_refused():
    task = make_task(counts=(60, 60), group="g")
    given = list(KFold(3, shuffle=True, random_state=0).split(np.zeros(120)))
    with pytest.raises(DataError, match=r"fold 0: group \d+ is in both parts. Use cv=5"):
        splits_of(task, given)
    assert len(splits_of(task.with_roles(group=None), KFold(3, shuffle=True, random_state=0))) == 3
    assert len(splits_of(task.rows(np.random.default_rng(0).permutation(120)), GroupKFold(3))) == 3
