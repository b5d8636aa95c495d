"""CSV and Parquet files: read exactly, or refused with the file's name."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from torchstrata.data.task import Task
from torchstrata.errors import DataError

N = 60
POLARS = {
    "date": [datetime.date(2020, 1, 1), None] * 5,
    "text": ["x", None] * 5,
    "int": [1, None] * 5,
    "y": ["k", "l"] * 5,
}


def table(**columns) -> pd.DataFrame:
    """60 rows: a number, a category, a text target; columns may be added or replaced."""
    own = {"a": np.arange(N) * 1.5, "b": ["u", "v", "w"] * 20, "y": ["p", "q"] * 30}
    return pd.DataFrame(own | columns)


def write(folder: Path, text: str, name: str = "toy.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_round_trip_is_exact(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.standard_normal(500) * 10.0 ** rng.integers(-30, 30, 500), "y": ["p", "q"] * 250})
    frame.to_csv(tmp_path / "toy.csv.gz", index=False)
    task = Task.from_csv(tmp_path / "toy.csv.gz", target="y")
    assert task.name == "toy"
    assert task.fingerprint() == Task.from_frame(frame, target="y").fingerprint()


def test_csv_missing_values_and_separator(tmp_path):
    path = write(tmp_path, "a;b;y\n1;?;p\n;u;q\n3;v;p\n-;v;p\n")
    task = Task.from_csv(path, target="y", sep=";", na_values=["?", "-"], name="mine", stratum="y")
    assert task.name == "mine"
    assert task.X.isna().sum().tolist() == [2, 1]
    assert task.X["a"].dtype == np.float64


def test_csv_columns_of_iso_dates_are_datetimes(tmp_path):
    head = "day,at,mixed,never,y\n"
    rows = "2020-01-0{0},2020-01-01T0{0}:30:00Z,2020-01-0{0},2020-02-3{1},p\n"
    text = head + "".join(rows.format(i, i % 2) for i in range(1, 9)) + ",,soon,,q\n"
    frame = Task.from_csv(write(tmp_path, text), target="y").X
    assert [column.dtype.kind for _, column in frame.items()] == ["M", "M", "O", "O"]
    assert frame["day"].isna().sum() == 1 and frame["at"].dt.hour[0] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("a,y\n", r"0 sample\(s\)"),
        ("a,b,a,y\n1,2,3,p\n", r"duplicate column names: 'a' \(positions 0, 2\)"),
        ("a;y\n1;p\n2;q\n", "try sep=';'"),
        ("a,y\n1,p,7\n2,q,8\n", "not a table: Length of header"),
        ("a,y\n1,p\n2,q,8,9\n", "not a table: .*Expected 2 fields in line 3, saw 4"),
        ("a,Y\n1,p\n2,q\n", "target 'y' is not a column. Did you mean 'Y'"),
    ],
)
def test_bad_csv_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        Task.from_csv(write(tmp_path, text), target="y")


def test_csv_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "toy.csv").write_bytes("a,y\nä,ö\n".encode("latin1"))
    with pytest.raises(DataError, match="not UTF-8"):
        Task.from_csv(tmp_path / "toy.csv", target="y")


def test_absent_file_is_refused_with_the_nearest_name(tmp_path):
    write(tmp_path, "a,y\n", "sonar.csv")
    with pytest.raises(DataError, match=r"Did you mean 'sonar\.csv'"):
        Task.from_csv(tmp_path / "sonra.csv", target="y")
    with pytest.raises(DataError, match="there is no folder"):
        Task.from_parquet(tmp_path / "no" / "sonar.parquet", target="y")
    with pytest.raises(DataError, match="is a folder"):
        Task.from_csv(tmp_path, target="y")


def test_csv_index_that_gives_the_target_away_is_left_out(tmp_path):
    table(y=["p"] * 30 + ["q"] * 30).to_csv(tmp_path / "toy.csv")
    with pytest.warns(UserWarning, match="counts the rows; left out"):
        task = Task.from_csv(tmp_path / "toy.csv", target="y")
    assert task.feature_names == ["a", "b"]


def test_parquet_through_whichever_package_is_there(tmp_path):
    pl.DataFrame(POLARS).write_parquet(tmp_path / "toy.parquet")
    task = Task.from_parquet(tmp_path / "toy.parquet", target="y", stratum="y")
    assert task.name == "toy" and task.n_rows == 10
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "toy.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"bad.parquet': not a readable Parquet file"):
        Task.from_parquet(tmp_path / "bad.parquet", target="y")


def test_parquet_without_pyarrow_and_polars_names_the_extra(tmp_path, monkeypatch):
    pl.DataFrame(POLARS).write_parquet(tmp_path / "toy.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert Task.from_parquet(tmp_path / "toy.parquet", target="y").n_rows == 10
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"torchstrata\[parquet\]"):
        Task.from_parquet(tmp_path / "toy.parquet", target="y")
