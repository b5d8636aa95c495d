"""Splitters: coverage, disjointness, balance, groups, and nothing of the test rows in a fitted model."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import model_selection as ms
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import torchstrata as ts
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.splits import planned_splits, splits_of

Bootstrap, FromColumn, InSample = ts.splitters.Bootstrap, ts.splitters.FromColumn, ts.splitters.InSample


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


# --- Bootstrap --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(n=st.integers(8, 60), seed=st.integers(0, 99), size=st.sampled_from([0.5, 1.0, 1.7]), grouped=st.booleans())
def test_bootstrap_tests_what_was_not_drawn(n, seed, size, grouped):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 2, n), rng.integers(0, n // 2, n) if grouped else None
    cv = Bootstrap(4, size=size, random_state=seed)
    found = list(cv.split(np.zeros((n, 1)), labels, groups))
    again = list(cv.split(np.zeros((n, 1)), labels, groups))
    assert len(found) == cv.get_n_splits() == 4
    for (train, test), (train_again, _) in zip(found, again, strict=True):
        assert train.tolist() == train_again.tolist()
        assert set(train) | set(test) == set(range(n)) and not set(train) & set(test) and len(set(test)) == len(test)
        if grouped:
            assert not set(groups[train]) & set(groups[test])
            for group in set(groups[train]):  # a group comes as a whole, each of its rows as often
                assert len(set(np.bincount(train, minlength=n)[groups == group])) == 1
        else:
            wanted = sum(round(size * count) for count in np.bincount(labels) if count)
            assert abs(len(train) - wanted) <= 1


def test_bootstrap_keeps_class_counts_and_leaves_a_third_out():
    labels = np.repeat([0, 1], [900, 100])
    shares = []
    for train, test in Bootstrap(300).split(np.zeros((1000, 1)), labels):
        assert np.bincount(labels[train]).tolist() == [900, 100]
        shares.append(len(test) / 1000)
    # the limit of (1 - 1/n)**n; the standard error is 0.01 / sqrt(300)
    assert abs(np.mean(shares) - np.exp(-1)) < 0.003
    for _, test in Bootstrap(200).split(np.zeros(8), [0, 0, 0, 0, 0, 0, 1, 1]):
        assert (test >= 6).any()  # of two rows, one is tested


def test_bootstrap_counts_distinct_rows_and_intervals_use_them():
    result = ts.benchmark(made(), DummyClassifier(), cv=Bootstrap(5), scoring="accuracy", progress=False)
    splits = result.splits
    assert (splits["n_train"] == 60).all() and (splits["n_distinct"] < 60).all()
    assert (splits["n_distinct"] + splits["n_test"] == 60).all()
    assert result._ratio()["made"] == pytest.approx((splits["n_test"] / splits["n_distinct"]).median())


def test_copies_of_a_row_do_not_validate_their_twin():
    frame = pd.DataFrame({"x": np.arange(40.0), "y": np.arange(40) % 7 / 3})
    task = ts.Task(frame, target="y")
    train, _ = splits_of(task, Bootstrap(1))[0]
    from torchstrata.learner.parts import read_parts

    learner = ts.TorchRegressor(ts.Linear(), valid=0.3)
    some = task.rows(train)
    parts = read_parts(learner, some, None, sample_weight=None, stratum=None, valid_set=None, seed=0, stratify=False)
    fitted, valid = (set(part.X["x"]) for part in parts)
    assert fitted and valid and not fitted & valid and len(fitted | valid) == len(set(train))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"n_repeats": 0}, "n_repeats must be a whole number >= 1"), ({"size": 0}, "size must be a share"),
     ({"n_repeats": True}, "got True"), ({"size": "all"}, "got 'all'")],
)  # fmt: skip
def test_bootstrap_refuses_what_cannot_work(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Bootstrap(**arguments)
    with pytest.raises(DataError, match="at least 2 groups, got 1"):
        list(Bootstrap(1).split(np.zeros(4), None, [7, 7, 7, 7]))


# --- InSample, FromColumn ---------------------------------------------------------------------------------------------


def test_in_sample_says_what_it_is():
    task = made()
    with pytest.warns(UserWarning, match="how well learners remember"):
        result = ts.benchmark(
            task, DecisionTreeClassifier(random_state=0), cv=InSample(), scoring="accuracy", progress=False
        )
    assert result.aggregate("accuracy")["mean"].tolist() == [1.0]
    assert result.splits["in_sample"].tolist() == [True] and np.isnan(result.aggregate("accuracy")["low"]).all()
    assert repr(InSample()) == "InSample()" and InSample().get_n_splits() == 1


def test_a_column_prescribes_the_folds():
    splits = planned_splits(made(), FromColumn("fold"))
    assert [s.columns["test_subset"] for s in splits] == [0, 1, 2, 3, 4]
    for k, split in enumerate(splits):
        assert (split.test % 5 == k).all() and len(split.test) == 12 and len(split.train) == 48
    first = planned_splits(made(), FromColumn("fold", test=[2], train=[0, 1]))
    assert len(first) == 1 and set(first[0].train % 5) == {0, 1} and set(first[0].test % 5) == {2}
    few = planned_splits(made(), FromColumn("fold", train=[0, 1]))
    assert [sorted(set(s.train % 5)) for s in few] == [[1], [0], [0, 1], [0, 1], [0, 1]]
    (named,) = planned_splits(made(), FromColumn("s", test="u"))
    assert named.columns == {"test_subset": "u"} and len(named.train) == 30


def test_missing_values_of_the_column_always_train():
    frame = pd.DataFrame(
        {"x": np.arange(9.0), "y": np.arange(9) / 2, "when": [1.0, 2.0, np.nan] * 3, "k": [0, 1, -1] * 3}
    )
    task = ts.Task(frame, target="y", features=["x"])
    for column in ("when", "k"):
        splits = planned_splits(task, FromColumn(column))
        assert [s.test.tolist() for s in splits] == [[0, 3, 6], [1, 4, 7]]
        assert [s.train.tolist() for s in splits] == [[1, 2, 4, 5, 7, 8], [0, 2, 3, 5, 6, 8]]
    expected = list(ms.PredefinedSplit(frame["k"]).split())
    ours = list(FromColumn("k").split(frame))
    assert all((a == c).all() and (b == d).all() for (a, b), (c, d) in zip(ours, expected, strict=True))
    assert FromColumn("k").get_n_splits(frame) == 2


def test_a_fold_column_among_the_features_is_refused_unless_meant():
    frame = pd.DataFrame({"x": np.arange(12.0), "year": np.arange(12) % 3, "y": np.arange(12) / 5})
    with pytest.raises(ConfigError, match=r"'year' is a feature, which tells learners.*subset='year'"):
        planned_splits(ts.Task(frame, target="y"), FromColumn("year"))
    meant = ts.Task(frame, target="y", features=["x", "year"], subset="year")
    assert len(planned_splits(meant, FromColumn("year"))) == 3


def test_wrong_columns_are_refused():
    with pytest.raises(DataError, match="Did you mean 'fold'"):
        planned_splits(made(), FromColumn("folds"))
    with pytest.raises(DataError, match="'s' has no value 'w'"):
        planned_splits(made(), FromColumn("s", test="w"))
    with pytest.raises(ConfigError, match="cannot be both"):
        FromColumn("s", test="u", train=["u", "v"])
    with pytest.raises(ConfigError, match="PredefinedSplit"):
        FromColumn(np.arange(4))
    with pytest.raises(DataError, match=r"give split\(\) a DataFrame"):
        list(FromColumn("s").split(np.zeros((4, 2))))
    with pytest.raises(DataError, match=r"group \d+ is in both parts"):
        planned_splits(made(group="g"), FromColumn("fold"))


def test_they_work_in_scikit_learn():
    X = pd.DataFrame({"x": np.r_[np.zeros(20), np.ones(20)], "fold": np.arange(40) % 4})
    y = np.repeat([0, 1], 20)
    for cv, n in (
        (Bootstrap(3), 3),
        (FromColumn("fold"), 4),
        (InSample(), 1),
        (ts.splitters.SameOther(2, subset="fold"), 24),
    ):
        scores = ms.cross_val_score(LogisticRegression(), X, y, cv=cv)
        assert scores.tolist() == [1.0] * n and cv.get_n_splits(X, y) == n
        search = ms.GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=cv).fit(X, y)
        assert search.n_splits_ == n and clone(search).cv is not None
        assert pickle.loads(pickle.dumps(cv)).get_n_splits(X, y) == n
    groups = np.arange(40) // 2
    assert len(ms.cross_val_score(LogisticRegression(), X, y, cv=Bootstrap(3), groups=groups)) == 3
    assert repr(Bootstrap(3, size=0.5)) == "Bootstrap(n_repeats=3, random_state=0, size=0.5, stratify=True)"


# --- D2, D3: no peeking -----------------------------------------------------------------------------------------------

LEARNERS = {
    "linear": ts.TorchClassifier(ts.Linear(), max_epochs=3, random_state=0),
    "mlp": ts.TorchClassifier(ts.MLP((8,)), max_epochs=3, batch_size=8, random_state=0),
    "stratified": ts.TorchClassifier(
        ts.MLP((8,)), max_epochs=3, batch_sampler=ts.StratifiedBatchSampler(2), loss="aum", random_state=0
    ),
    "early": ts.TorchClassifier(
        ts.MLP((8,)), max_epochs=6, valid=0.3, early_stopping=ts.EarlyStopping(2), random_state=0, batch_size=16
    ),
    "tree": DecisionTreeClassifier(random_state=0),
    "sklearn": LogisticRegression(),
}


def weights_of(fitted):
    if hasattr(fitted, "network_"):
        return b"".join(t.detach().numpy().tobytes() for t in fitted.network_.state_dict().values())
    state = fitted.tree_.__getstate__() if hasattr(fitted, "tree_") else {"coef": fitted.coef_, "b": fitted.intercept_}
    return b"".join(np.asarray(v).tobytes() for v in state.values())


@pytest.mark.parametrize("name", list(LEARNERS))
def test_shuffled_test_rows_leave_the_model_byte_identical(name):
    rng = np.random.default_rng(5)
    task = made(60, stratum="y")
    frame = pd.concat([task.X, task.y], axis=1)
    frame["c"] = rng.choice(["r", "s", "t"], 60)
    numeric = name in ("tree", "sklearn")
    for fold, (train, test) in enumerate(splits_of(task, 3)):
        other = frame.copy()
        other.loc[test, ["x", "z"]] = 1e6 * rng.normal(size=(len(test), 2))  # would move any mean, scale or bin edge
        other.loc[test, "c"] = "never seen"
        other.loc[test, "y"] = rng.permutation(frame.loc[test, "y"].to_numpy())
        fitted = []
        for table in (frame, other):
            features = ["x", "z"] if numeric else ["x", "z", "c"]
            part = ts.Task(table, target="y", features=features, stratum="y").rows(train)
            learner = clone(LEARNERS[name])
            fitted.append(learner.fit(part.X, part.y) if numeric else learner.fit(part))
        assert weights_of(fitted[0]) == weights_of(fitted[1]), f"fold {fold}"


def test_a_canary_in_the_test_rows_is_not_found():
    """A column that says the class in the test rows alone: who scores above chance by it has seen test rows."""
    rng = np.random.default_rng(7)
    n, found = 400, []
    labels = rng.choice(["a", "b"], n)
    frame = pd.DataFrame(
        {"noise": rng.normal(size=n), "canary": rng.normal(size=n), "row": np.arange(n) % 2, "y": labels}
    )
    plain = ts.Task(frame, target="y", features=["noise", "canary"])
    for train, test in splits_of(plain, 4):
        marked = frame.copy()
        marked.loc[test, "canary"] = np.where(labels[test] == "b", 1.0, -1.0)
        task = ts.Task(marked, target="y", features=["noise", "canary"])
        learners = {name: LEARNERS[name] for name in ("linear", "mlp", "early", "tree")}
        result = ts.benchmark(task, learners, cv=[(train, test)], scoring="roc_auc", progress=False)
        found.append(result.scores.query("measure == 'roc_auc'").set_index("learner")["value"])
    # the sign of a weight on noise is a coin flip, so a learner may score 0 or 1 on a fold, but not always 1
    assert (pd.concat(found, axis=1).min(axis=1) < 0.6).all()


def test_regressions_and_dummies_run_over_bootstrap():
    result = ts.benchmark(numbers(group="g"), DummyRegressor(), cv=Bootstrap(4), scoring="neg_mean_absolute_error",
                          progress=False)  # fmt: skip
    assert result.scores["value"].notna().all() and len(result.errors) == 0
