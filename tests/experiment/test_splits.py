"""Splits of a task: every splitter of scikit-learn, coverage, disjointness, balance, groups, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import model_selection as ms
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GroupKFold, KFold, StratifiedShuffleSplit

import torchstrata as ts
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.splits import splits_of

Bootstrap, FromColumn = ts.splitters.Bootstrap, ts.splitters.FromColumn


def made(n=60, classes=2, **roles) -> ts.Task:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": rng.normal(size=n), "z": rng.normal(size=n), "y": [chr(97 + i % classes) for i in range(n)]}
    )
    frame["g"], frame["s"], frame["fold"] = (
        np.arange(n) // 3,
        np.where(np.arange(n) % 4 < 2, "u", "v"),
        np.arange(n) % 5,
    )
    return ts.Task(frame, target="y", features=["x", "z"], name="made", **roles)


def numbers(n=40, **roles) -> ts.Task:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.normal(size=n), "y": rng.normal(size=n), "g": np.arange(n) // 4})
    return ts.Task(frame, target="y", features=["x"], name="numbers", **roles)


def make_task(counts=(30, 12), **roles) -> ts.Task:
    labels = np.repeat([chr(97 + i) for i in range(len(counts))], counts)
    n = len(labels)
    frame = pd.DataFrame({"x": np.arange(n) % 7.0, "z": np.sin(np.arange(n)), "g": np.arange(n) // 3, "y": labels})
    return ts.Task(frame, target="y", name="made", **roles)


# --- every splitter of scikit-learn -----------------------------------------------------------------------------------

CLASSES = [
    ms.KFold(4, shuffle=True, random_state=0), ms.StratifiedKFold(4), ms.RepeatedKFold(n_splits=3, random_state=0),
    ms.RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0), ms.ShuffleSplit(3, random_state=0),
    ms.StratifiedShuffleSplit(3, random_state=0), ms.TimeSeriesSplit(4), ms.PredefinedSplit(np.arange(60) // 2 % 3),
]  # fmt: skip
GROUPS = [
    ms.GroupKFold(4), ms.StratifiedGroupKFold(4, shuffle=True, random_state=0), ms.LeaveOneGroupOut(),
    ms.LeavePGroupsOut(19), ms.GroupShuffleSplit(3, random_state=0),
]  # fmt: skip
NUMBERS = [ms.LeaveOneOut(), ms.LeavePOut(2), ms.KFold(3), ms.TimeSeriesSplit(3), ms.PredefinedSplit(np.arange(40) % 4)]


def test_the_lists_name_every_splitter_of_scikit_learn():
    names = {type(cv).__name__ for cv in [*CLASSES, *GROUPS, *NUMBERS]}
    classes = [getattr(ms, name) for name in dir(ms) if isinstance(getattr(ms, name), type)]
    splitters = {c.__name__ for c in classes if hasattr(c, "split") and not c.__name__.startswith("Base")}
    assert splitters == names


@pytest.mark.parametrize("cv", CLASSES, ids=lambda cv: type(cv).__name__)
def test_splitters_of_rows_and_classes(cv):
    check_same_rows(made(), cv)


@pytest.mark.parametrize("cv", GROUPS, ids=lambda cv: type(cv).__name__)
def test_splitters_of_groups(cv):
    task = made(group="g")
    if isinstance(cv, ms.LeavePGroupsOut | ms.LeaveOneGroupOut):
        check_same_rows(task, cv)
        return
    for train, test in check_same_rows(task, cv):
        assert not set(task.groups.iloc[train]) & set(task.groups.iloc[test])
    with pytest.raises(DataError, match=r"The task has no groups: task.with_roles\(group='...'\)"):
        splits_of(made(), cv)


@pytest.mark.parametrize("cv", NUMBERS, ids=lambda cv: type(cv).__name__)
def test_splitters_of_a_regression(cv):
    check_same_rows(numbers(), cv)


def check_same_rows(task, cv):
    groups = None if task.groups is None else task.groups
    expected = list(cv.split(np.zeros((task.n_rows, 1)), task.y, groups))
    found = splits_of(task, cv)
    assert len(found) == len(expected) == cv.get_n_splits(np.zeros((task.n_rows, 1)), task.y, groups)
    for (a, b), (c, d) in zip(found, expected, strict=True):
        assert a.tolist() == c.tolist() and b.tolist() == d.tolist()
    return found


def test_a_whole_benchmark_with_a_splitter_of_scikit_learn_and_one_of_ours():
    for cv in (ms.RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0), Bootstrap(6), FromColumn("fold")):
        result = ts.benchmark(made(), DummyClassifier(), cv=cv, scoring="accuracy", progress=False)
        assert len(result.splits) == len(result.scores.query("measure == 'accuracy'")) == len(splits_of(made(), cv))
        assert result.info["cv"].startswith(type(cv).__name__)


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (ms.KFold, r"cv is the class KFold; make one: cv=KFold\(\.\.\.\)"),
        (3.5, "cv must be a number of folds"),
        ("5", "cv must be a number of folds"),
    ],
)
def test_what_is_no_splitter_is_refused(cv, message):
    with pytest.raises(ConfigError, match=message):
        splits_of(made(), cv)


def test_rows_in_both_parts_are_refused():
    with pytest.raises(DataError, match=r"fold 1: 2 of 30 test rows train, too \(first: row 28\).*InSample"):
        splits_of(made(), [(np.arange(30), np.arange(30, 60)), (np.arange(30), np.arange(28, 58))])


# --- D1: 3,000 random cases, by brute force ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_cases", [160, pytest.param(3000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_random_cases(n_cases):
    rng = np.random.default_rng(12)
    cases = refused = 0
    while cases < n_cases:
        n, classes = int(rng.integers(12, 80)), int(rng.integers(2, 5))
        labels = rng.integers(0, classes, n)
        labels[:classes] = np.arange(classes)
        frame = pd.DataFrame({"x": np.arange(n, dtype=float), "y": labels.astype(str)})
        frame["g"] = rng.integers(0, max(6, n // 3), n)
        plain = ts.Task(frame, target="y", features=["x"])
        for task in (plain, plain.with_roles(group="g")):
            for k in (2, 3, 4, 5):
                cases += 1
                if np.bincount(labels).min() < k:
                    refused += 1
                    with pytest.raises(DataError, match="stratified resampling needs"):
                        splits_of(task, k)
                elif task is plain:
                    check_case(labels, None, splits_of(task, k), k)
                else:
                    check_grouped(task, labels, frame["g"].to_numpy(), k)
    assert refused < n_cases / 3


def check_grouped(task, labels, groups, k):
    try:  # whether groups leave every class in every part, only the splitter knows
        splits = splits_of(task, k)
    except DataError as error:
        told = str(error)
    else:
        check_case(labels, groups, splits, k)
        return
    assert "no row of class" in told or "groups" in told or "members" in told


def check_case(labels, groups, splits, k):
    assert sorted(np.concatenate([test for _, test in splits]).tolist()) == list(range(len(labels)))
    assert len(splits) == k
    counts = []
    for train, test in splits:
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(labels)))
        assert set(labels[train]) == set(labels[test]) == set(labels)
        if groups is not None:
            assert not set(groups[train]) & set(groups[test])
        counts.append(np.bincount(labels[test], minlength=labels.max() + 1))
    if groups is None:
        assert (np.max(counts, axis=0) - np.min(counts, axis=0)).max() <= 1


def test_several_strata_are_crossed_and_differ_by_one_at_most():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"x": rng.normal(size=300), "y": rng.choice(list("pn"), 300)})
    frame["a"], frame["b"] = rng.choice(["u", "v"], 300), rng.choice([1, 2, 3], 300)
    task = ts.Task(frame, target="y", features=["x"], stratum=["a", "b"])
    tables = [frame.iloc[test].groupby(["y", "a", "b"]).size() for _, test in splits_of(task, 4)]
    counts = pd.concat(tables, axis=1).fillna(0)
    assert len(counts) == 12 and (counts.max(axis=1) - counts.min(axis=1)).max() <= 1


# --- folds of a number, and lists ---


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


def test_a_splitter_that_parts_groups_is_refused():
    task = make_task(counts=(60, 60), group="g")
    given = list(KFold(3, shuffle=True, random_state=0).split(np.zeros(120)))
    with pytest.raises(DataError, match=r"fold 0: group \d+ is in both parts. Use cv=5"):
        splits_of(task, given)
    assert len(splits_of(task.with_roles(group=None), KFold(3, shuffle=True, random_state=0))) == 3
    assert len(splits_of(task.rows(np.random.default_rng(0).permutation(120)), GroupKFold(3))) == 3


def test_a_test_row_counts_once():
    with pytest.raises(DataError, match="a row more than once"):
        splits_of(make_task(), [(np.arange(20, 42), np.r_[0:20, 0:20])])
