"""Tables of other libraries and unusual columns: accepted as what they are, or refused by name."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from torchstrata.data.task import Task
from torchstrata.errors import DataError

N = 60


def table(**columns) -> pd.DataFrame:
    """60 rows: a number, a category, a text target; columns may be added or replaced."""
    own = {"a": np.arange(N) * 1.5, "b": ["u", "v", "w"] * 20, "y": ["p", "q"] * 30}
    return pd.DataFrame(own | columns)


def make(*, target="y", settings=None, **columns) -> Task:
    return Task(table(**columns), target=target, **(settings or {}))


POLARS = {
    "time": [datetime.datetime(2020, 1, 1), None] * 5,
    "zone": pl.Series([datetime.datetime(2020, 1, 1), None] * 5).dt.replace_time_zone("Europe/Paris"),
    "date": [datetime.date(2020, 1, 1), None] * 5,
    "enum": pl.Series(["a", None] * 5, dtype=pl.Enum(["b", "a"])),
    "cat": pl.Series(["a", None] * 5, dtype=pl.Categorical),
    "decimal": pl.Series(["1.5", None] * 5).cast(pl.Decimal(10, 2)),
    "text": ["x", None] * 5,
    "bool": [True, None] * 5,
    "int": [1, None] * 5,
    "y": ["k", "l"] * 5,
}


def test_polars_columns_keep_their_kinds():
    task = Task(pl.DataFrame(POLARS), target="y")
    facts = task.describe()
    assert [facts[f"features: {k}"] for k in ("numbers", "categories", "booleans", "datetimes")] == [2, 3, 1, 3]
    assert facts["missing cells"] == "45 (50.00%)"
    assert task.X["int"].dropna().tolist() == [1.0] * 5
    assert task.X["decimal"][0] == 1.5
    assert task.y.tolist() == ["k", "l"] * 5


def test_polars_and_pandas_give_the_same_task():
    assert Task(pl.DataFrame(table().to_dict("list")), target="y").fingerprint() == make().fingerprint()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"k": 1}, "dicts"),
        ([1], "lists"),
        (b"k", "bytes"),
        (datetime.timedelta(1), "timedelta"),
        (datetime.time(1), "time"),
    ],
)
def test_polars_cells_without_a_kind_are_refused_only_where_used(cell, message):
    frame = pl.DataFrame({"x": [1.0, 2.0], "q": [cell] * 2, "y": ["a", "b"]})
    with pytest.raises(DataError, match=f"'q' contains {message}"):
        Task(frame, target="y")
    assert Task(frame, target="y", features="x").n_rows == 2


def test_arrow_tables_and_arrow_backed_columns():
    pa = pytest.importorskip("pyarrow")
    arrow = pa.table({"n": [1, None, 3], "s": ["a", "b", None], "y": ["k", "l", "k"]})
    assert Task(arrow, target="y").describe()["missing cells"] == "2 (33.33%)"
    backed = arrow.to_pandas(types_mapper=pd.ArrowDtype)
    backed["t"] = pd.array([datetime.datetime(2020, 1, 1)] * 3, dtype=pd.ArrowDtype(pa.timestamp("us")))
    backed["d"] = pd.array([1, 2, 3], dtype=pd.ArrowDtype(pa.decimal128(5, 1)))
    task = Task(backed, target="y", weight="d")
    assert task.classes.tolist() == ["k", "l"]
    assert task.weights.tolist() == [1.0, 2.0, 3.0]
    facts = task.describe()
    assert [facts[f"features: {k}"] for k in ("numbers", "categories", "datetimes")] == [1, 1, 1]
    with pytest.raises(DataError, match="'y' contains bytes"):
        Task(arrow.set_column(2, "y", pa.array([b"a", b"b", b"a"])).to_pandas(types_mapper=pd.ArrowDtype), target="y")


@pytest.mark.parametrize(
    "values",
    [
        pd.array([1, None] * 30, dtype="Int64"),
        pd.array([True, None] * 30, dtype="boolean"),
        pd.array(["x", None] * 30, dtype="string"),
        pd.Categorical(["x", None] * 30),
        pd.cut(np.arange(N), 5),
        pd.date_range("2020", periods=N, tz="UTC"),
        [datetime.date(2020, 1, 1), None] * 30,
        np.zeros(N, dtype="float16"),
        np.arange(N, dtype="uint64"),
        pd.Series([1, 2.5, None] * 20, dtype=object),
        pd.Series([True, None] * 30, dtype=object),
        pd.arrays.SparseArray([0.0, 1.0] * 30),
    ],
    ids=lambda values: str(getattr(values, "dtype", "dates")),
)
def test_unusual_but_usable_features_are_accepted(values):
    task = make(c=values)
    assert task.feature_names == ["a", "b", "c"]
    assert len(task.fingerprint()) == 64
    task.describe()


@pytest.mark.parametrize("name", ["", "a.b", "größe", "x y", "[0]"])
def test_any_text_is_a_column_name(name):
    assert make(**{name: np.arange(N)}).feature_names == ["a", "b", name]


def test_datetimes_of_mixed_zones_are_refused():
    aware = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    with pytest.raises(DataError, match="'c' cannot be read as datetimes"):
        make(c=pd.Series([aware, datetime.datetime(2020, 1, 1)] * 30, dtype=object))
