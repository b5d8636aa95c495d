"""Tables to files and back, exactly: every dtype, None beside NaN, and tuples as values of settings.

A folder holds one file per table and ``result.json``, which is written last and names them with their checksums: a
folder without it, or with another file than it names, is not a result and is not read as one.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from torchstrata.data.atomic import write_atomic
from torchstrata.errors import ConfigError, DataError, did_you_mean, missing_extra

FORMAT, FORMAT_VERSION, SETTINGS = "torchstrata-result", 1, "result.json"

# characters that CSV readers change or refuse (a bare carriage return, NUL, halves of surrogate pairs)
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def plain(value: Any) -> Any:
    """Turn a value into what JSON holds.

    Parameters
    ----------
    value : object
        Mappings, sequences, NumPy scalars and arrays are understood.

    Returns
    -------
    object
        Dictionaries with text keys, lists, text, numbers, booleans and None; text of anything else.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def save_tables(
    folder: str | Path,
    tables: Mapping[str, pd.DataFrame],
    *,
    facts: Mapping[str, Any],
    format: Literal["csv", "parquet"],
) -> Path:
    """Write tables and facts into a folder.

    Parameters
    ----------
    folder : str or Path
        Made where it does not exist; files of the same names are replaced.
    tables : mapping
        Name to table.
    facts : mapping
        What JSON holds.
    format : {"csv", "parquet"}
        Of the tables.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ConfigError
        If the format is unknown, or the folder is a file.
    """
    if format not in ("csv", "parquet"):
        raise ConfigError(f"Unknown format {format!r}. {did_you_mean(format, ['csv', 'parquet'])}")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; a result is saved as a folder. Give another name.")
    if (folder / "store.json").exists():
        raise ConfigError(f"{folder} is the store of a benchmark; save into another folder, which holds the tables.")
    folder.mkdir(parents=True, exist_ok=True)
    described = {}
    for name, table in tables.items():
        encoded, columns = encode(table)
        content = _to_bytes(encoded, format)
        write_atomic(folder / f"{name}.{format}", content)
        described[name] = {
            "file": f"{name}.{format}",
            "sha256": hashlib.sha256(content).hexdigest(),
            "columns": columns,
        }
    settings = {"format": FORMAT, "format_version": FORMAT_VERSION, "tables": described, **facts}
    write_atomic(folder / SETTINGS, json.dumps(settings, indent=1).encode())
    return folder


def load_tables(folder: str | Path) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Read what :func:`save_tables` wrote.

    Parameters
    ----------
    folder : str or Path
        A saved result.

    Returns
    -------
    tables : dict
        Name to table.
    facts : dict
        The facts, as saved.

    Raises
    ------
    DataError
        If this is no saved result, a file is missing or was changed, or a newer torchstrata wrote it.
    """
    folder = Path(folder)
    settings = _read_settings(folder)
    tables = {name: _read_table(folder, about) for name, about in settings.pop("tables").items()}
    return tables, {k: v for k, v in settings.items() if k not in ("format", "format_version")}


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    if not path.is_file():
        what = "has no result.json" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
        raise DataError(
            f"No saved result: {folder} {what}. Expected a folder written by "
            "result.save(folder) or benchmark(..., store=folder)."
        )
    try:
        settings = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}. Save the result again.") from error
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise DataError(f"{path} was not written by result.save(): its 'format' is not {FORMAT!r}.")
    if settings["format_version"] > FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {settings['format_version']}, this torchstrata reads up to {FORMAT_VERSION}: "
            "pip install -U torchstrata"
        )
    return settings


def _read_table(folder: Path, about: dict[str, Any]) -> pd.DataFrame:
    path = folder / Path(about["file"]).name  # never a file outside of the folder
    if not path.is_file():
        raise DataError(f"{path} is missing from the saved result; copy the folder again, or save the result again.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise DataError(
            f"{path} is not the file that was saved (its checksum differs): it was edited, or saving was interrupted. "
            "Save the result again."
        )
    return decode(_from_bytes(content, path.suffix), about["columns"])


def _to_bytes(table: pd.DataFrame, format: str) -> bytes:
    if format == "csv":
        return table.to_csv(index=False, lineterminator="\n").encode()
    buffer = io.BytesIO()
    with _parquet():
        table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _from_bytes(content: bytes, suffix: str) -> pd.DataFrame:
    if suffix == ".parquet":
        with _parquet():
            return pd.read_parquet(io.BytesIO(content))
    if not content.strip():
        return pd.DataFrame()
    # as text, so that nothing is guessed: the settings say what each column is
    return pd.read_csv(io.BytesIO(content), dtype=object, keep_default_na=False, na_filter=False)


@contextmanager
def _parquet() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise missing_extra("pyarrow", "parquet", "A result saved as Parquet") from None


def encode(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, dict[str, str]]]:
    """Turn each column into numbers, booleans or plain text, and say how to turn it back.

    Parameters
    ----------
    table : DataFrame
        Any table with text as column names.

    Returns
    -------
    encoded : DataFrame
        The same columns.
    columns : dict
        Column to its dtype, and ``"json": "yes"`` where each cell is written as JSON.
    """
    columns, encoded = {}, {}
    for name in table.columns:
        column = table[name]
        kind = str(column.dtype)
        simple = column.dtype.kind in "iufb" and isinstance(column.dtype, np.dtype)
        # by Python's re: where pyarrow is installed, pandas would hand the pattern to it, and it knows no surrogates
        text = kind == "str" and not column.isna().any() and not any(map(_UNSAFE.search, column))
        columns[str(name)] = {"dtype": kind if simple or kind == "str" else "object"}
        if not simple and not text:
            columns[str(name)]["json"] = "yes"
            column = pd.Series([json.dumps(_pack(v)) for v in column.astype(object)], dtype=object)
        encoded[str(name)] = column.reset_index(drop=True)
    return pd.DataFrame(encoded, index=range(len(table))), columns


def decode(table: pd.DataFrame, columns: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Undo :func:`encode`.

    Parameters
    ----------
    table : DataFrame
        Columns as text (from CSV) or as encoded (from Parquet).
    columns : mapping
        What :func:`encode` said.

    Returns
    -------
    DataFrame
        The table that was encoded; dtypes other than numbers, booleans and text come back as objects.
    """
    out = {}
    for name, about in columns.items():
        cells = table[name].tolist() if len(table) else []
        if "json" in about:
            cells = [_unpack(json.loads(cell)) for cell in cells]
        elif about["dtype"] == "bool":
            cells = [cell in (True, "True") for cell in cells]
        elif about["dtype"].startswith("float"):
            cells = [np.nan if cell == "" else float(cell) for cell in cells]
        elif about["dtype"].startswith(("int", "uint")):
            cells = [int(cell) for cell in cells]
        out[name] = pd.Series(cells, dtype=about["dtype"])
    return pd.DataFrame(out, columns=list(columns), index=range(len(table)))


def _pack(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        return {"tuple": [_pack(v) for v in value]}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _unpack(value: Any) -> Any:
    return tuple(map(_unpack, value["tuple"])) if isinstance(value, dict) else value
