import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import torchstrata as ts
from torchstrata.learner.parts import read_parts

N = 60
X = np.arange(2.0 * N).reshape(N, 2)
Y = np.where(np.arange(N) % 6 == 0, "r", "m")


def parts(learner=None, X=X, y=Y, **given):
    learner = learner or ts.TorchClassifier(valid=0.25)
    stratify = isinstance(learner, ts.TorchClassifier)
    given = {"sample_weight": None, "stratum": None, "valid_set": None, "seed": 0, **given}
    return read_parts(learner, X, y, stratify=stratify, **given)


def test_without_validation_all_rows_train():
    train, valid = parts(ts.TorchClassifier())
    assert len(train.X) == N and valid is None
    assert parts(ts.TorchClassifier(valid="test"))[1] is None


def test_a_ratio_is_stratified_disjoint_and_in_order():
    train, valid = parts()
    assert len(valid.X) == 15 and len(train.X) == 45
    ids = np.r_[train.X[:, 0], valid.X[:, 0]] / 2
    assert sorted(ids.tolist()) == list(range(N))
    assert (np.diff(train.X[:, 0]) > 0).all() and (np.diff(valid.X[:, 0]) > 0).all()
    assert (valid.y == "r").sum() in (2, 3) and (train.y == "r").sum() in (7, 8)
    rows = (valid.X[:, 0] / 2).astype(int)
    np.testing.assert_array_equal(valid.y, Y[rows])


def test_the_seed_decides_the_split():
    assert np.array_equal(parts()[1].X, parts()[1].X)
    assert not np.array_equal(parts()[1].X, parts(seed=1)[1].X)


def test_weights_and_strata_go_with_their_rows():
    stratum = pd.DataFrame({"s": np.arange(N) % 3})
    train, valid = parts(sample_weight=np.arange(N) + 1, stratum=stratum)
    for part in (train, valid):
        rows = part.X[:, 0] / 2
        np.testing.assert_array_equal(part.weight, rows + 1)
        np.testing.assert_array_equal(part.stratum["s"], rows % 3)
    assert np.bincount(valid.stratum["s"]).tolist() == [5, 5, 5]  # strata and classes both


@pytest.mark.parametrize("make", [list, np.array, pd.Series, pl.Series], ids=lambda m: m.__name__)
def test_containers_of_strata(make):
    train, _ = parts(stratum=make([i % 2 for i in range(N)]))
    np.testing.assert_array_equal(np.asarray(train.stratum), (train.X[:, 0] / 2) % 2)


@pytest.mark.parametrize(
    "table", [pd.DataFrame(X, columns=["a", "b"], index=np.arange(N)[::-1]), pl.DataFrame(X, schema=["a", "b"])]
)
def test_tables_are_split_by_position(table):
    train, valid = parts(X=table)
    np.testing.assert_array_equal(train.X["a"], parts()[0].X[:, 0])
    np.testing.assert_array_equal(valid.X["b"], parts()[1].X[:, 1])


def test_a_regression_is_split_at_random():
    train, valid = parts(ts.TorchRegressor(valid=0.25), y=X[:, 0])
    assert len(valid.X) == 15
    np.testing.assert_array_equal(train.y, train.X[:, 0])


def test_groups_of_a_task_stay_together():
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": np.arange(N) % 2, "g": np.arange(N) // 4})
    for target, learner in (("y", ts.TorchClassifier(valid=0.25)), ("b", ts.TorchRegressor(valid=0.25))):
        task = ts.Task(frame, target=target, features=["a"], group="g")
        train, valid = parts(learner, X=task, y=None)
        groups = [set((part.X["a"].to_numpy() / 2).astype(int) // 4) for part in (train, valid)]
        assert not groups[0] & groups[1] and 8 <= len(valid.X) <= 24


def test_a_task_brings_its_roles_and_arguments_win():
    frame = pd.DataFrame({"a": X[:, 0], "y": Y, "w": np.arange(N) + 1.0})
    task = ts.Task(frame, target="y", stratum="y", weight="w")
    train, _ = parts(ts.TorchClassifier(), X=task, y=None)
    assert train.X.columns.tolist() == ["a"] and train.y.tolist() == Y.tolist()
    assert train.weight.tolist() == frame.w.tolist() and train.stratum.tolist() == Y.tolist()
    assert (parts(ts.TorchClassifier(), X=task, y=None, sample_weight=np.ones(N))[0].weight == 1).all()


def test_a_validation_set_is_a_pair_or_a_task():
    learner = ts.TorchClassifier(valid=0.25)
    train, valid = parts(learner, valid_set=(X[:5], Y[:5]))
    assert len(train.X) == N and len(valid.X) == 5
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y})
    train, valid = parts(
        learner, X=frame[["a", "b"]], valid_set=ts.Task(frame[["b", "y", "a"]], target="y").rows(range(7))
    )
    assert valid.X.columns.tolist() == ["a", "b"] and len(valid.y) == 7
    data = torch.utils.data.TensorDataset(torch.tensor(X[:5]), torch.arange(5) % 2)
    assert len(parts(learner, y=np.arange(N) % 2, valid_set=(data, None))[1].y) == 5


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"y": None}, ts.DataError, "TorchClassifier requires y to be passed, but the target y is None"),
        ({"y": Y[:50]}, ValueError, r"inconsistent numbers of samples: \[60, 50\]"),
        ({"stratum": Y[:50]}, ValueError, "inconsistent numbers of samples"),
        ({"sample_weight": np.ones(50)}, ValueError, r"sample_weight.shape == \(50,\), expected \(60,\)"),
        ({"valid_set": X}, ts.ConfigError, r"valid_set must be a pair \(X, y\) or a Task, got ndarray"),
        ({"valid_set": (X[:5], Y[:4])}, ValueError, "inconsistent numbers of samples"),
        ({"valid_set": (X[:5, :1], Y[:5])}, ValueError, "X has 1 features, but TorchClassifier is expecting 2"),
        ({"valid_set": (X[:5], None)}, ts.DataError, "requires y to be passed"),
        (
            {"y": np.where(np.arange(N) == 3, "lone", "m")},
            ts.DataError,
            "valid=0.25 cannot split 60 rows with every class",
        ),
        ({"y": np.where(np.arange(N) == 3, None, Y)}, ts.DataError, "Input y contains NaN"),
    ],
)
def test_what_cannot_be_read(given, error, message):
    with pytest.raises(error, match=message):
        parts(**given)


def test_a_class_without_a_validation_row():
    y = np.where(np.arange(N) < 2, "few", "m")
    with pytest.raises(ts.DataError, match=r"valid=0.05 leaves a class without a row to validate \(3 of 60 rows"):
        parts(ts.TorchClassifier(valid=0.05), y=y)


def test_a_label_only_validation_rows_have():
    with pytest.raises(ts.DataError, match=r"label 'new' \(row 1\) is none of the classes of the training rows"):
        ts.TorchClassifier().fit(X, Y, valid_set=(X[:2], ["m", "new"]))


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.4, 0.6, 0.8, 0.9])
def test_groups_leave_the_share_that_was_asked_for(ratio):
    n = 400
    frame = pd.DataFrame({"x": np.arange(float(n)), "y": np.arange(n) // 2 % 2, "g": np.arange(n) // 2})
    train, valid = parts(ts.TorchClassifier(valid=ratio), ts.Task(frame, target="y", group="g"), None)
    assert abs(len(valid.X) / n - ratio) < 0.02
    assert not set(train.X["x"] // 2) & set(valid.X["x"] // 2) and len(train.X) + len(valid.X) == n


def test_a_validation_task_brings_its_weights():
    frame = pd.DataFrame({"x": np.arange(N), "y": Y, "w": np.arange(1.0, N + 1)})
    task = ts.Task(frame, target="y", weight="w")
    _, valid = parts(None, task, None, valid_set=task.rows(range(30)))
    np.testing.assert_array_equal(valid.weight, np.arange(1.0, 31))
    assert parts(None, task, None, valid_set=(task.X, task.y))[1].weight is None


def test_a_class_of_one_row_is_named():
    y = np.where(np.arange(N) == 7, "rare", Y)
    with pytest.raises(ts.DataError, match="every class and stratum in both parts: class 'rare' has one row"):
        parts(y=y)


def test_rows_of_weight_zero_are_absent():
    weight = np.where(np.arange(N) < 50, 2.0, 0.0)
    train = parts(ts.TorchClassifier(), sample_weight=weight)[0]
    present = train.present()
    assert (len(present.X), len(present.y), present.weight.tolist()) == (50, 50, [2.0] * 50)
    assert present.present() is present
    whole = parts(ts.TorchClassifier())[0]
    assert whole.present() is whole
