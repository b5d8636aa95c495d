"""Bad input: each case refused with the column, the rows and the fix."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchstrata.data.roles import ROLES
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError

N = 60


def table(**columns) -> pd.DataFrame:
    """60 rows: a number, a category, a text target; columns may be added or replaced."""
    own = {"a": np.arange(N) * 1.5, "b": ["u", "v", "w"] * 20, "y": ["p", "q"] * 30}
    return pd.DataFrame(own | columns)


def make(*, target="y", settings=None, **columns) -> Task:
    return Task(table(**columns), target=target, **(settings or {}))


BAD = {
    "array": (lambda: Task(np.zeros((3, 2)), target="y"), "got an ndarray; .*pd.DataFrame"),
    "dict": (lambda: Task({"y": [1]}, target="y"), r"got a dict; pass pd.DataFrame"),
    "duplicates": (
        lambda: Task(pd.concat([table(), table()[["a"]]], axis=1), target="y"),
        r"duplicate column names: 'a' \(positions 0, 3\)",
    ),
    "multiindex": (lambda: Task(pd.concat({"k": table()}, axis=1), target="y"), "MultiIndex; flatten"),
    "integer names": (lambda: Task(pd.DataFrame(np.zeros((3, 2))), target="y"), r"must be strings, got 0 \(int\)"),
    "no rows": (lambda: Task(table().iloc[:0], target="y"), r"0 sample\(s\) \(shape=\(0, 2\)\)"),
    "no features": (lambda: Task(table()[["y"]], target="y"), r"0 feature\(s\) \(shape=\(60, 0\)\)"),
    "unknown target": (lambda: make(target="yy"), "target 'yy' is not a column. Did you mean 'y'"),
    "unknown stratum": (
        lambda: make(settings={"stratum": ["y", "bb"]}),
        "stratum 'bb' is not a column. Did you mean 'b'",
    ),
    "unknown weight": (lambda: make(settings={"weight": "A"}), "weight 'A' is not a column. Did you mean 'a'"),
    "target as feature": (lambda: make(settings={"features": ["a", "y"]}), "'y' is also the target"),
    "twice": (lambda: make(settings={"features": ["a", "a"]}), "features names a column twice"),
    "target missing": (
        lambda: make(y=["p", None, "q"] * 20),
        r"target 'y' contains NaN: 20 missing values \(rows 1, 4, 7, ... \(20 in all\)\); drop",
    ),
    "target empty": (lambda: make(y=[None] * N), "whole column is empty"),
    "target infinite": (lambda: make(y=np.r_[np.arange(59.0), np.inf]), r"target 'y' contains infinity \(row 59\)"),
    "one class": (lambda: make(y="p"), r"target 'y' has one class \('p'\)"),
    "constant": (lambda: make(y=0.25), r"target 'y' is constant \(0.25 in all 60 rows\)"),
    "identifier": (lambda: make(y=[f"k{i}" for i in range(N)]), "60 classes for 60 rows: is 'y' an identifier"),
    "mixed labels": (lambda: make(y=["p", 1] * 30), "(?i)mix of label input types"),
    "text numbers as target": (lambda: make(y=[str(i / 8) for i in range(N)]), "'y' is text but looks numeric"),
    "datetime target": (lambda: make(y=pd.date_range("2020", periods=N)), "'y' is datetime"),
    "continuous classes": (
        lambda: make(y=np.arange(N) / 7, settings={"kind": "classification"}),
        "Unknown label type: continuous",
    ),
    "regression on text": (lambda: make(settings={"kind": "regression"}), "regression needs numbers"),
    "feature without values": (lambda: make(c=np.nan, d=None), "columns 'c', 'd' have no observed value"),
    "infinite feature": (lambda: make(c=np.r_[1, -np.inf, np.ones(58)]), r"column 'c' contains infinity \(row 1\)"),
    "beyond float32": (
        lambda: make(c=np.r_[1e300, np.arange(59)]),
        r"'c' has values beyond float32 \(largest 1e\+300; row 0\)",
    ),
    "text numbers": (lambda: make(c=[str(i) for i in range(N)]), "'c' is text but looks numeric .*pd.to_numeric"),
    "oops": (lambda: make(c=[1] * 59 + ["oops"]), r"1 non-numeric value, first 'oops' \(row 59\)"),
    "bytes": (lambda: make(c=[b"k"] * N), "'c' contains bytes; decode"),
    "lists": (lambda: make(c=[[1]] * N), "'c' contains lists"),
    "dicts": (lambda: make(c=[{}] * N), "'c' contains dicts"),
    "a single dict": (lambda: make(c=["k"] * 59 + [{}]), "'c' contains dicts"),
    "complex": (lambda: make(c=[1j] * N), "Complex data not supported"),
    "durations": (lambda: make(c=[datetime.timedelta(1)] * N), "'c' contains timedelta"),
    "periods": (lambda: make(c=pd.period_range("2020", periods=N)), "'c' contains period"),
    "stratum missing": (
        lambda: make(s=["k", None] * 30, settings={"stratum": "s"}),
        "stratum 's' contains NaN: 30 missing",
    ),
    "group missing": (lambda: make(s=[1, None] * 30, settings={"group": "s"}), "group 's' contains NaN"),
    "order missing": (lambda: make(s=[1, None] * 30, settings={"order": "s"}), "order 's' contains NaN"),
    "weight negative": (
        lambda: make(w=np.r_[1, -2, np.ones(58)], settings={"weight": "w"}),
        r"weight 'w' contains negative weights \(row 1, first -2\)",
    ),
    "weight nan": (lambda: make(w=np.r_[np.nan, np.ones(59)], settings={"weight": "w"}), r"'w' contains NaN \(row 0\)"),
    "weight inf": (lambda: make(w=np.r_[np.inf, np.ones(59)], settings={"weight": "w"}), "'w' contains infinity"),
    "weight text": (lambda: make(settings={"weight": "b"}), "weights must be numbers"),
    "weight zero": (lambda: make(w=0.0, settings={"weight": "w"}), "all sample weights are zero"),
    "weight zero for a class": (lambda: make(w=[0, 1] * 30, settings={"weight": "w"}), "class 'p' has total weight 0"),
    "positive": (lambda: make(settings={"positive": "r"}), r"positive='r' is not a class of 'y' \(classes: 'p', 'q'\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    make_bad, message = BAD[case]
    with pytest.raises(DataError, match=message) as caught:
        make_bad()
    assert str(caught.value).startswith("task 'task'")


def test_what_no_data_can_repair_is_a_config_error():
    for wrong in ({"kind": "classifcation"}, {"stratum": 3}, {"group": ["a", "b"]}, {"features": np.arange(2)}):
        with pytest.raises(ConfigError):
            make(settings=wrong)
    with pytest.raises(ConfigError, match="needs two classes, but 'b' has 3"):
        make(target="b", settings={"positive": "u"})
    with pytest.raises(ConfigError, match="regression"):
        make(target="a", settings={"positive": 1})
    with pytest.raises(ConfigError, match="cannot be classified together"):
        make(target=["a", "b"], settings={"kind": "classification"})


@pytest.mark.parametrize("frame", [None, "data.csv", 3, pl.DataFrame({"y": [1]}).lazy(), iter([1])])
def test_no_table_is_a_type_error(frame):
    with pytest.raises(TypeError, match="task 'task'"):
        Task(frame, target="y")


def test_partly_numeric_column_names_are_a_type_error():
    with pytest.raises(TypeError, match="string names"):
        Task(table().rename(columns={"a": 0}), target="y")


def test_rows_in_messages_are_those_of_the_original_table():
    frame = table(c=np.where(np.arange(N) == 40, np.inf, 1.0), o=-np.arange(N))
    view = Task(frame, target="y", features="a", order="o").rows(range(30))
    with pytest.raises(DataError, match=r"\(row 40\)"):
        view.with_roles(features=["a", "c"])


def test_a_copy_of_the_target_is_warned_of():
    with pytest.warns(UserWarning, match="column 'c' determines the target exactly"):
        make(c=table()["y"])
    with pytest.warns(UserWarning, match="column 'c' determines the target exactly"):
        make(y=np.arange(N) % 5, c=(np.arange(N) % 5).astype(float))
    make(c=["p", "q"] * 29 + ["p", "p"])  # one cell differs: no warning


def test_a_number_column_that_one_text_spoils_is_warned_of():
    with pytest.warns(UserWarning, match=r"'c' is text only because of 'n/k' \(row 59\).*na_values=\['n/k'\]"):
        make(c=[str(i) for i in range(59)] + ["n/k"])
    make(c=[str(i % 4) for i in range(N)])  # few codes are codes


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=2),
    st.binary(max_size=1),
    st.dates(),
    st.lists(st.integers(), max_size=1),
    st.just(pd.NA),
    st.just({}),
    st.complex_numbers(),
)
COLUMN = st.one_of(*(st.lists(cells, min_size=4, max_size=4) for cells in (CELLS, st.floats(), st.text(max_size=2))))


@given(
    columns=st.lists(COLUMN, max_size=3),
    target=COLUMN,
    other=COLUMN,
    role=st.sampled_from(ROLES),
    rows=st.integers(0, 4),
)
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore:.*determines the target exactly")
def test_any_table_is_a_task_or_refused(columns, target, other, role, rows):
    named = {f"c{i}": pd.Series(cells, dtype=object) for i, cells in enumerate([*columns, other])} | {"y": target}
    frame = pd.DataFrame(named).iloc[:rows]
    try:
        task = Task(frame, target="y", **({} if role == "target" else {role: [f"c{len(columns)}"]}))
    except (DataError, ConfigError) as error:
        message = str(error)
    else:
        message = "task 'task': " + repr(task.describe())
        assert len(task.fingerprint()) == 64
        assert task.X.shape == (rows, len(task.feature_names))
        assert not np.isinf(task.X.select_dtypes("number").to_numpy(dtype=float, na_value=np.nan)).any()
        assert task.kind == "regression" or task.class_counts().sum() == rows
    assert message.startswith("task 'task': ")
