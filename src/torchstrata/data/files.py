"""CSV and Parquet files become DataFrames; what goes wrong silently in other readers is an error here."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.data.tables import check_unique, to_pandas
from torchstrata.errors import DataError, did_you_mean, missing_extra

_ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"
OTHER_SEPARATORS = (";", "\t", "|", ",")
# Before 3.1 pandas' default parser is off by one unit in the last place, so a CSV would not equal its Parquet twin;
# since then the default is exact and asking for it is deprecated.
_PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])
_EXACT: dict[str, Any] = {"float_precision": "round_trip"} if _PANDAS < (3, 1) else {}


def read_csv(
    path: str | os.PathLike,
    *,
    sep: str = ",",
    na_values: Sequence[str] = ("?",),
    keep_default_na: bool = True,
    dtype: Mapping[str, type] | None = None,
) -> pd.DataFrame:
    """Read a CSV file with one header line.

    Parameters
    ----------
    path : str or path
        The file, plain or compressed (.gz, .zip, ...).
    sep : str
        The separator.
    na_values : sequence of str
        Cells that mean "missing", beside the empty cell.
    keep_default_na : bool
        Whether pandas' own list ("NA", "NaN", "None", ...) means missing too.
    dtype : mapping, optional
        Column name to type, where pandas should not guess.

    Returns
    -------
    pandas.DataFrame
        Rows 0..n-1. A column of text that holds nothing but ISO 8601 dates is one of datetimes. A first column without
        a name that counts the rows is left out, with a warning: it is the index
        that some program wrote, and on a sorted file it would give the target away.

    Raises
    ------
    DataError
        If the file is absent, empty, no text, has duplicate names in its header or rows longer than it.
    """
    path = existing_file(path)
    where = f"file {str(path)!r}"
    try:
        header = pd.read_csv(path, sep=sep, header=None, nrows=1, dtype=str, keep_default_na=False)
        # pandas would rename the second 'a' to 'a.1' and say nothing
        check_unique([str(name) for name in header.iloc[0]], where=where)
        frame = _read_rows(path, sep=sep, na_values=list(na_values), keep_default_na=keep_default_na, dtype=dtype)
    except pd.errors.EmptyDataError:
        raise DataError(f"{where}: the file is empty; expected a header line and rows.") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(f"{where}: not a table: {str(error).strip()} (sep={sep!r})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text ({error}); convert it: iconv -f latin1 -t utf-8") from None
    _check_separator(frame, sep, where)
    frame = _with_datetimes(frame, given=dtype or ())
    return _without_index(frame, first_name=str(header.iloc[0, 0]), where=where)


def read_parquet(path: str | os.PathLike) -> pd.DataFrame:
    """Read a Parquet file with pyarrow, or with polars where pyarrow is not installed.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    pandas.DataFrame
        Rows 0..n-1, without the index that pandas may have stored.

    Raises
    ------
    DataError
        If the file is absent or damaged.
    ImportError
        If neither package is installed.
    """
    path = existing_file(path)
    where = f"file {str(path)!r}"
    try:
        frame = _read_parquet(path, where)
    except (ImportError, DataError):
        raise
    except Exception as error:  # each package has its own error for a damaged file, none of them importable here
        raise DataError(f"{where}: not a readable Parquet file: {error}") from error
    return frame.drop(columns=[c for c in frame.columns if str(c).startswith("__index_level_")])


def existing_file(path: str | os.PathLike) -> Path:
    """Return the path of a file that is there.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DataError
        If there is no such file: with the nearest name in its folder.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder; expected one file.")
    if not path.parent.is_dir():
        raise DataError(f"file {str(path)!r} not found: there is no folder {str(path.parent)!r}.")
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    raise DataError(f"file {str(path)!r} not found. {did_you_mean(path.name, names, most=5) if names else ''}".rstrip())


def stem(path: str | os.PathLike) -> str:
    """Return a file's name without its endings, to call a task by.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    str
    """
    name = Path(path).name
    for ending in (".gz", ".bz2", ".zip", ".xz", ".zst", ".csv", ".tsv", ".txt", ".parquet"):
        name = name.removesuffix(ending)
    return name or "task"


def _read_rows(path: Path, *, sep: str, na_values: list[str], keep_default_na: bool, dtype) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Length of header", pd.errors.ParserWarning)
        # index_col=False: otherwise rows longer than the header silently shift every column by one.
        return pd.read_csv(
            path,
            sep=sep,
            na_values=na_values,
            keep_default_na=keep_default_na,
            dtype=dict(dtype) if dtype else None,
            index_col=False,
            low_memory=False,
            **(_EXACT if len(sep) == 1 else {}),
        )


def _with_datetimes(frame: pd.DataFrame, *, given: Collection[str]) -> pd.DataFrame:
    """Read ISO dates, which would be categories otherwise: a level for every day."""
    found = {}
    for name in frame.columns.difference(list(given), sort=False):
        column = frame[name]
        if column.dtype.kind not in "OU" or not column.notna().any():
            continue
        texts = column.dropna().astype(str)
        if texts.str.fullmatch(_ISO_DATE).all():
            with contextlib.suppress(ValueError):  # the 31st of June, or several time zones: text after all
                found[name] = pd.to_datetime(column, format="ISO8601")
    return frame.assign(**found) if found else frame


def _check_separator(frame: pd.DataFrame, sep: str, where: str) -> None:
    """Refuse a file that came out as one column because its separator is another one."""
    if frame.shape[1] != 1:
        return
    header = str(frame.columns[0])
    for other in OTHER_SEPARATORS:
        if other != sep and other in header:
            raise DataError(f"{where}: one column {header[:60]!r} with sep={sep!r}; try sep={other!r}.")


def _without_index(frame: pd.DataFrame, *, first_name: str, where: str) -> pd.DataFrame:
    if first_name.strip() or not len(frame) or not pd.api.types.is_integer_dtype(frame.iloc[:, 0].dtype):
        return frame
    first = frame.iloc[:, 0].to_numpy()
    if first[0] not in (0, 1) or not np.array_equal(first, np.arange(first[0], first[0] + len(first))):
        return frame
    warnings.warn(f"{where}: the first column has no name and counts the rows; left out as the index", stacklevel=4)
    return frame.iloc[:, 1:]


def _read_parquet(path: Path, where: str) -> pd.DataFrame:
    if importlib.util.find_spec("pyarrow") is not None:
        return pd.read_parquet(path, engine="pyarrow").reset_index(drop=True)
    try:
        import polars
    except ImportError:
        raise missing_extra("pyarrow or polars", "parquet", "Reading Parquet") from None
    return to_pandas(polars.read_parquet(path), where=where)
