"""Task: roles, views, kinds, and the refusal of what cannot be used."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"
N = 60
needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no folder {SHARED}")


def table(**columns) -> pd.DataFrame:
    """60 rows: a number, a category, a text target; columns may be added or replaced."""
    own = {"a": np.arange(N) * 1.5, "b": ["u", "v", "w"] * 20, "y": ["p", "q"] * 30}
    return pd.DataFrame(own | columns)


def make(*, target="y", settings=None, **columns) -> Task:
    return Task(table(**columns), target=target, **(settings or {}))


# --- roles


def test_default_features_are_the_columns_without_a_role():
    task = Task(
        table(s=1, g=2, w=1.0, u=3, o=range(N)), target="y", stratum="s", group="g", weight="w", subset="u", order="o"
    )
    assert task.feature_names == ["a", "b"]
    assert task.target_names == ["y"]


def test_listed_column_keeps_its_other_role():
    task = Task(table(), target="y", stratum=["b", "y"], features=["b", "a"])
    assert list(task.X.columns) == ["b", "a"]
    assert list(task.strata.columns) == ["b", "y"]


def test_columns_of_roles_come_in_row_order_with_fresh_index():
    frame = table(g=np.arange(N) // 2, w=np.arange(N) + 1, u=["even", "odd"] * 30)
    frame.index = [f"id{i}" for i in range(N)]
    task = Task(frame, target="y", stratum="y", group="g", weight="w", subset="u").rows([5, 4, 5])
    for column in (task.y, task.strata, task.groups, task.weights, task.subsets, task.X):
        assert column.index.tolist() == [0, 1, 2]
    assert task.y.tolist() == task.strata.tolist() == ["q", "p", "q"]
    assert task.groups.tolist() == [2, 2, 2]
    assert task.weights.tolist() == [6.0, 5.0, 6.0]
    assert task.weights.dtype == np.float64
    assert task.subsets.tolist() == ["odd", "even", "odd"]
    assert task.row_ids.tolist() == [5, 4, 5]


def test_absent_roles_are_none():
    task = make()
    assert task.strata is None and task.groups is None and task.weights is None and task.subsets is None


def test_order_sorts_stably():
    frame = table(o=[2, 1, 1] * 20)
    task = Task(frame, target="y", order="o")
    expected = sorted(range(N), key=lambda i: frame["o"][i])
    assert task.row_ids.tolist() == expected
    assert task.X["a"].tolist() == frame["a"].iloc[expected].tolist()
    view = task.rows([50, 0])
    assert view.with_roles(stratum="y").row_ids.tolist() == [expected[50], expected[0]]  # not sorted again
    again = task.with_roles(order=["b", "a"], features="a")
    assert again.X["a"].tolist() == frame.sort_values(["b", "a"])["a"].tolist()


def test_several_targets_are_regressed_together():
    task = Task(table(z=np.arange(N) % 7), target=["z", "a"])
    assert task.kind == "regression" and "2 targets" in task.kind_reason
    assert list(task.y.columns) == ["z", "a"]
    assert task.classes is None and task.n_classes is None and task.positive is None
    assert isinstance(Task(table(), target=["a"]).y, pd.Series)


# --- kind, classes, positive


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (["p", "q"] * 30, "classification", "text"),
        ([True, False] * 30, "classification", "true or false"),
        (pd.Categorical([5.5, 6.5] * 30), "classification", "category"),
        (np.arange(N) / 7, "regression", "fractional"),
        (np.arange(N) % 20, "classification", "20 distinct whole numbers"),
        (np.arange(N) % 21, "regression", "21 distinct whole numbers"),
        ((np.arange(N) % 2).astype(float), "classification", "2 distinct whole numbers"),
        (pd.array([1, 0] * 30, dtype="Int64"), "classification", "2 distinct"),
    ],
)
def test_kind_is_decided_by_the_values(values, kind, reason):
    task = make(y=values)
    assert task.kind == kind
    assert reason in task.kind_reason
    assert "'y'" in task.kind_reason


def test_kind_given_wins():
    assert make(y=np.arange(N) % 3, settings={"kind": "regression"}).kind == "regression"
    assert make(y=np.arange(N), settings={"kind": "classification"}).n_classes == N


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["z", "a"] * 30, ["a", "z"]),
        ([1, -1] * 30, [-1, 1]),
        ([1.0, 0.0] * 30, [0.0, 1.0]),
        ([True, False] * 30, [False, True]),
        (pd.Categorical(["z", "a"] * 30, categories=["z", "a", "unused"]), ["a", "z"]),
        (pd.array(["z", "a"] * 30, dtype="string"), ["a", "z"]),
        (pd.array([9, 5] * 30, dtype="Int16"), [5, 9]),
    ],
)
def test_classes_are_sorted_and_the_second_is_positive(values, classes):
    task = make(y=values)
    assert task.classes.tolist() == classes
    assert task.positive == classes[1]
    assert task.class_counts().to_dict() == dict.fromkeys(classes, 30)
    assert make(y=values, settings={"positive": classes[0]}).positive == classes[0]


def test_positive_from_a_command_line_is_text():
    assert make(y=[0, 1] * 30, settings={"positive": "0"}).positive == 0


def test_counts_and_minority_proportion():
    task = make(y=["p"] * 45 + ["q"] * 15)
    assert task.class_counts().tolist() == [45, 15]
    assert task.minority_proportion == 0.25
    view = task.rows(range(45))
    assert view.class_counts().to_dict() == {"p": 45, "q": 0}
    assert view.minority_proportion == 0.0
    assert view.positive == "q"
    with pytest.raises(DataError, match="regression"):
        Task(table(), target="a").class_counts()


# --- views


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_rows_compose_like_lists(data):
    task = make()
    first = data.draw(st.lists(st.integers(0, N - 1), min_size=1, max_size=80))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), max_size=80))
    view = task.rows(first).rows(np.array(second, dtype=np.int64))
    expected = [first[i] for i in second]
    assert view.row_ids.dtype == np.int64
    assert view.row_ids.tolist() == expected
    assert view.X["a"].tolist() == [1.5 * i for i in expected]
    assert view.y.tolist() == ["pq"[i % 2] for i in expected]
    assert view.n_rows == len(view) == len(expected)
    assert sum(view.class_counts()) == len(expected)


@pytest.mark.parametrize(
    "indices", [range(9, 2, -2), [9, 7, 5, 3], slice(9, 2, -2), np.array([9, 7, 5, 3], dtype="u1")]
)
def test_rows_accepts_whatever_names_rows(indices):
    assert make().rows(indices).row_ids.tolist() == [9, 7, 5, 3]


def test_rows_accepts_masks():
    task = make()
    mask = task.X["a"] > 80
    assert task.rows(mask).row_ids.tolist() == task.rows(mask.tolist()).row_ids.tolist() == [54, 55, 56, 57, 58, 59]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([60], "row 60 is out of range; positions go from 0 to 59"),
        ([0, -1], "row -1 is out of range"),
        ([True] * 59, "59 entries for 60 rows"),
        ([0.5], "whole numbers"),
        (3, "one row: rows"),
        ([[1, 2]], "2 dimensions"),
        (["p"], "whole numbers"),
    ],
)
def test_rows_refuses_what_names_no_rows(indices, message):
    with pytest.raises(DataError, match=message):
        make().rows(indices)


def test_view_shares_the_table_and_empty_view_has_columns():
    task = make()
    view = task.rows([1, 2], name="two")
    assert view._frame is task._frame
    assert view.name == "two" and task.name == "task"
    assert task.rows([]).X.shape == (0, 2)


@needs_shared_data
def test_sonar_thinned_as_in_the_blog():
    task = Task.from_csv(SHARED / "sonar.csv", target="Class", stratum="Class")
    assert task.name == "sonar" and task.n_rows == 208 and len(task.feature_names) == 60
    thin = task.rows(range(207, 84, -1))
    assert thin.y.tolist() == ["M"] * 111 + ["R"] * 12
    assert task.minority_proportion == 97 / 208


@needs_shared_data
def test_adult_reads_question_marks_as_missing():
    task = Task.from_csv(SHARED / "adult.csv", target="income", stratum=["income", "sex"], subset="split")
    assert task.n_rows == 48842
    assert task.class_counts().to_dict() == {"<=50K": 37155, ">50K": 11687}
    assert task.positive == ">50K"
    assert task.X["workclass"].isna().sum() > 0 and not (task.X["workclass"] == "?").any()
    assert "split" not in task.feature_names


# --- immutable


def test_nothing_can_be_set_or_deleted():
    task = make()
    with pytest.raises(AttributeError, match="with_roles"):
        task.name = "other"
    with pytest.raises(AttributeError, match="with_roles"):
        task.anything = 1
    with pytest.raises(AttributeError):
        del task._rows
    for values in (task.row_ids, task.classes):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = values[1]


def test_what_a_task_hands_out_is_not_the_task():
    frame, features = table(), ["a", "b"]
    task = Task(frame, target="y", features=features)
    before = task.fingerprint()
    frame.loc[:, "a"] = -1.0
    features.append("y")
    X, y = task.X, task.y
    X.loc[:, "a"] = -2.0
    y[:] = "p"
    assert task.fingerprint() == before
    assert task.with_roles(stratum="y").feature_names == ["a", "b"]


def test_with_roles_makes_another_task():
    task = make()
    other = task.with_roles(stratum="b", name="other", positive="p")
    assert (other.name, other.positive, other.feature_names) == ("other", "p", ["a"])
    assert (task.name, task.positive, task.feature_names, task.strata) == ("task", "q", ["a", "b"], None)
    assert other.with_roles(stratum=None).feature_names == ["a", "b"]
    assert other.with_roles(target="b", stratum="y").positive is None  # three classes: 'p' is forgotten
    with pytest.raises(ConfigError, match="Did you mean 'stratum'"):
        task.with_roles(strata="b")


def test_with_roles_on_a_view_finds_the_classes_of_its_rows():
    view = Task(table(), target="b").rows([i for i in range(N) if i % 3])
    assert view.classes.tolist() == ["u", "v", "w"]
    assert view.with_roles().classes.tolist() == ["v", "w"]
    assert view.with_roles().positive == "w"
    with pytest.raises(DataError, match="one class"):
        view.rows([0, 2]).with_roles(stratum="b")


def test_pickle_keeps_everything():
    task = Task(table(), target="y", stratum="y", name="toy").rows([4, 3, 3])
    copy = pickle.loads(pickle.dumps(task))
    assert copy.fingerprint() == task.fingerprint()
    assert repr(copy) == repr(task)
    assert copy.row_ids.tolist() == [4, 3, 3]
    with pytest.raises(AttributeError):
        copy.name = "x"


# --- fingerprint, describe, repr


def test_fingerprint_sees_values_roles_rows_and_meaning_but_no_name():
    task = make()
    same = [
        make(),
        task.with_roles(name="x"),
        task.rows(range(N)),
        Task(table().set_index("a", drop=False), target="y"),
    ]
    assert {t.fingerprint() for t in same} == {task.fingerprint()}
    changed = table()
    changed.loc[59, "a"] += 1e-9
    others = [
        Task(changed, target="y"),
        task.with_roles(stratum="y"),
        task.with_roles(positive="p"),
        task.with_roles(features=["b", "a"]),
        task.rows(range(N - 1)),
        task.rows(range(N - 1, -1, -1)),
        Task(table(), target="b"),
    ]
    assert len({t.fingerprint() for t in [task, *others]}) == len(others) + 1


def test_fingerprint_ignores_columns_without_a_role():
    assert Task(table(c=1), target="y", features="a").fingerprint() == make(settings={"features": ["a"]}).fingerprint()


def test_fingerprint_is_the_same_in_another_process_without_torch():
    code = """
import sys
import numpy as np, pandas as pd
sys.modules["torch"] = None
from torchstrata.data.task import Task
from torchstrata.data import imbalance, zoo
frame = pd.DataFrame({"a": np.arange(60) * 1.5, "b": ["u", "v", "w"] * 20, "y": ["p", "q"] * 30})
print(Task(frame, target="y").fingerprint())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == make().fingerprint()


def test_describe_tells_rows_kinds_missing_and_balance():
    frame = table(c=[True, False, None] * 20, t=pd.date_range("2020", periods=N), y=["p"] * 45 + ["q"] * 15)
    facts = Task(frame, target="y", stratum="y", name="toy").describe()
    assert facts.name == "toy"
    assert facts["rows"] == 60 and facts["features"] == 4
    assert [facts[f"features: {k}"] for k in ("numbers", "categories", "booleans", "datetimes")] == [1, 1, 1, 1]
    assert facts["missing cells"] == "20 (8.33%)"
    assert facts["class 'p'"] == 45 and facts["minority proportion"] == 0.25 and facts["positive"] == "q"
    assert facts["stratum"] == "y"
    assert Task(frame, target="a").describe()["range of 'a'"] == "0 to 88.5, mean 44.25"


def test_repr_is_at_most_two_lines():
    task = Task(table(), target="y", stratum=["y", "b"], name="toy")
    assert repr(task).splitlines() == [
        "Task 'toy': 60 rows, 1 feature (1 number), target 'y' (classification: 'p' 30, 'q' 30; positive 'q')",
        "    stratum 'y', 'b'",
    ]
    assert (
        repr(Task(table(), target="a").rows([0]))
        == "Task 'task': 1 row, 2 features (2 categories), target 'a' (regression)"
    )
