from __future__ import annotations

import json
import os
import string

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchstrata.data import atomic
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment import archive
from torchstrata.experiment.result import BenchmarkResult, load_result

AWKWARD = {
    "i": pd.Series([1, -(2**62), 0], dtype="int64"),
    "f": [0.1 + 0.2, np.nan, -np.inf],
    "f32": pd.Series([0.1, np.nan, 3.0], dtype="float32"),
    "b": [True, False, True],
    "b_or_none": pd.Series([True, None, np.nan], dtype=object),
    "text": ["a", "", "NaN"],
    "text_missing": ["a", None, "None"],
    "mixed": pd.Series([(10, 20), None, 1], dtype=object),
    "nested": pd.Series([((1, "a"), None), 1.5, True], dtype=object),
    "traceback": ['File "x", line 1\n  é, 漢\n', "a\r\nb\x00", "\x85 \u2028"],
    "surrogate": pd.Series(["\ud800", "b", "c"], dtype=object),
}

FORMATS = ["csv", "parquet"]


def equal(a: BenchmarkResult, b: BenchmarkResult) -> None:
    for name in ("scores", "history", "predictions", "errors", "splits"):
        pd.testing.assert_frame_equal(getattr(a, name), getattr(b, name), check_exact=True)
    assert (a.tasks, a.learners, a.info) == (b.tasks, b.learners, b.info)


def same_cell(a: object, b: object) -> bool:
    return type(a) is type(b) and (a == b or a != a)


def round_trip(table: pd.DataFrame, format: str, folder) -> pd.DataFrame:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    archive.save_tables(folder, {"t": table}, facts={}, format=format)
    return archive.load_tables(folder)[0]["t"]


@pytest.mark.parametrize("format", FORMATS)
def test_every_dtype_comes_back(tmp_path, format):
    table = pd.DataFrame(AWKWARD)
    back = round_trip(table, format, tmp_path)
    assert list(back.dtypes.map(str)) == list(table.dtypes.map(str))
    for name in table:
        pairs = zip(table[name].tolist(), back[name].tolist(), strict=True)
        assert all(same_cell(a, b) for a, b in pairs), name  # None stays None and NaN stays NaN


@pytest.mark.parametrize("format", FORMATS)
def test_empty_tables_keep_their_columns_and_dtypes(tmp_path, format):
    table = pd.DataFrame(AWKWARD).iloc[:0]
    pd.testing.assert_frame_equal(round_trip(table, format, tmp_path / "a"), table)
    assert round_trip(pd.DataFrame(), format, tmp_path / "b").shape == (0, 0)


def test_other_dtypes_are_kept_as_values(tmp_path):
    table = pd.DataFrame({"c": pd.Categorical(["x", None]), "n": pd.array([1, None], dtype="Int64"), "o": [{1}, "a"]})
    back = round_trip(table, "csv", tmp_path)
    assert back["c"].tolist()[0] == "x" and back["n"].tolist()[0] == 1 and back["o"].tolist() == ["{1}", "a"]


text = st.text(
    st.one_of(st.sampled_from(string.printable + "é漢\x00\u2028"), st.characters(exclude_categories=["Cs"])), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(text, st.floats(), st.one_of(st.none(), st.booleans(), st.floats(), text)), max_size=4))
def test_any_text_and_number_survive_csv(rows):
    table = pd.DataFrame(rows, columns=["text, with\ncomma", "number", "any"]).astype({"number": float, "any": object})
    encoded, columns = archive.encode(table)
    back = archive.decode(archive._from_bytes(archive._to_bytes(encoded, "csv"), ".csv"), columns)
    assert list(back.dtypes) == list(table.dtypes)
    for name in table:
        assert all(same_cell(a, b) for a, b in zip(table[name].tolist(), back[name].tolist(), strict=True))


@pytest.mark.parametrize("format", FORMATS)
def test_a_result_comes_back_exactly(tables, tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    grid = {"mlp": {"loss": ["aum", None], "optimizer__lr": [0.1, 1e-17], "hidden": [(10,), (10, 10)], "flag": [True]}}
    learners = {"mlp": 1.0, "dummy": 0.0}
    result = BenchmarkResult(**tables(learners=learners, grid=grid, fail=[("sonar", "dummy", 1)], folds=3, epochs=2))
    folder = result.save(tmp_path / "deep" / "er", format=format)
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [f"{n}.{format}" for n in ("scores", "history", "predictions", "errors", "splits", "statuses")]
        + ["result.json"]
    )
    equal(load_result(str(folder)), result)
    pd.testing.assert_frame_equal(load_result(folder).leaderboard(), result.leaderboard())


def test_saving_over_a_result_replaces_it(tables, tmp_path):
    BenchmarkResult(**tables(folds=2, epochs=2, seed=1)).save(tmp_path)
    other = BenchmarkResult(**tables(folds=3, epochs=2, seed=2))
    other.save(tmp_path)
    equal(load_result(tmp_path), other)


def test_a_save_that_is_interrupted_is_noticed(tables, tmp_path, monkeypatch):
    BenchmarkResult(**tables(folds=2, epochs=2, seed=1)).save(tmp_path)
    real = archive.write_atomic
    monkeypatch.setattr(archive, "write_atomic", lambda p, c: real(p, c) if p.name != "splits.csv" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        BenchmarkResult(**tables(folds=3, epochs=2, seed=2)).save(tmp_path)
    with pytest.raises(DataError, match=r"scores.csv is not the file that was saved .*interrupted"):
        load_result(tmp_path)


def test_write_atomic_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "a"
    atomic.write_atomic(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        atomic.write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~atomic._umask()


@pytest.fixture
def saved(tables, tmp_path):
    return BenchmarkResult(**tables(folds=2, epochs=2)).save(tmp_path / "r")


def test_what_is_no_result_is_refused(saved, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_result(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no result\.json"):
        load_result(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        load_result(saved / "scores.csv")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s | {"format_version": 99}, "format version 99, this torchstrata reads up to 1"),
        (lambda s: s | {"format": "other"}, "not written by"),
        (lambda s: [], "not written by"),
    ],
)
def test_foreign_and_newer_settings_are_refused(saved, change, match):
    path = saved / "result.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DataError, match=match):
        load_result(saved)


def test_damage_is_refused(saved):
    scores = saved / "scores.csv"
    scores.write_text(scores.read_text().replace("0.5", "0.9"))
    with pytest.raises(DataError, match="checksum differs"):
        load_result(saved)
    scores.unlink()
    with pytest.raises(DataError, match=r"scores\.csv is missing"):
        load_result(saved)
    (saved / "result.json").write_text('{"format": ')
    with pytest.raises(DataError, match="is damaged"):
        load_result(saved)


def test_settings_cannot_lead_out_of_the_folder(saved, tmp_path):
    (tmp_path / "scores.csv").write_bytes((saved / "scores.csv").read_bytes())
    settings_ = json.loads((saved / "result.json").read_text())
    settings_["tables"]["scores"]["file"] = "../scores.csv"
    (saved / "scores.csv").unlink()
    (saved / "result.json").write_text(json.dumps(settings_))
    with pytest.raises(DataError, match="is missing"):
        load_result(saved)


def test_save_refuses_other_formats_and_files(tables, tmp_path):
    result = BenchmarkResult(**tables(folds=2, epochs=2))
    with pytest.raises(ConfigError, match=r"Unknown format 'parqet'. Did you mean 'parquet'"):
        result.save(tmp_path, format="parqet")
    (tmp_path / "f").write_text("")
    with pytest.raises(ConfigError, match="is a file; a result is saved as a folder"):
        result.save(tmp_path / "f")


def test_parquet_without_pyarrow_names_the_extra(tables, tmp_path, monkeypatch):
    def missing(*args, **kwargs):
        raise ImportError("no engine")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", missing)
    with pytest.raises(ImportError, match=r"pip install 'torchstrata\[parquet\]'"):
        BenchmarkResult(**tables(folds=2, epochs=2)).save(tmp_path, format="parquet")
