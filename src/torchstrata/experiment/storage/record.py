"""One finished cell as one line of JSON, and back exactly; a checksum at its end.

The line is for programs (:mod:`torchstrata.experiment.store`) and for SQL: tables are columns, settings and scores are
structures, NaN is null. What JSON cannot say (dtypes, infinities, categories) stands beside it under ``dtypes``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.experiment.archive import plain

FORMAT_VERSION = 1
_NO_ERROR = {"status": "ok", "error": "", "message": "", "traceback": ""}  # text in every file, for readers of columns
_TAIL = len(b',"sha256":"') + 64 + len(b'"}\n')


@dataclasses.dataclass(frozen=True)
class Planned:
    """A cell as a plan names it.

    Parameters
    ----------
    key : str
        Under which its outcome is stored; empty without a store.
    task, learner : str
        Names.
    fold : int
        Number of the split.
    settings : dict
        Values of the grid's columns.
    n_train, n_test : int
        Rows.
    """

    key: str
    task: str
    learner: str
    fold: int
    settings: dict[str, Any]
    n_train: int
    n_test: int

    @classmethod
    def of(cls, cell: Any, key: str = "") -> Planned:
        """Name a cell of :mod:`torchstrata.experiment.plan`."""
        return cls(key, cell.task, cell.learner, cell.fold, cell.variant, len(cell.train), len(cell.test))

    @property
    def keys(self) -> dict[str, Any]:
        """What names the cell in every table."""
        return {"task": self.task, "learner": self.learner, "fold": self.fold, **self.settings}

    def to_json(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return {**vars(self), "settings": {name: pack(value) for name, value in self.settings.items()}}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Planned:
        """Undo :meth:`to_json`; what else stands there is left out."""
        settings = {name: unpack(value) for name, value in read["settings"].items()}
        named: dict[str, Any] = {name: read[name] for name in _CELL}
        return cls(**{**named, "settings": settings})


_CELL = tuple(field.name for field in dataclasses.fields(Planned))
_ABOUT = ("attempts", "fallback", "fallback_key", "timeout", "finished", "run")


@dataclasses.dataclass(frozen=True)
class Columns:
    """A table as lists, with what is needed to make it a table again.

    Parameters
    ----------
    values : dict of str to list
        Column to its cells, as JSON holds them.
    dtypes : dict of str to dict
        Column to its dtype.
    """

    values: dict[str, list[Any]]
    dtypes: dict[str, dict[str, Any]]

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), ()))


@dataclasses.dataclass(frozen=True)
class Record:
    """What one cell left behind, read from its file.

    The attributes that an Outcome has too mean the same.

    Parameters
    ----------
    cell : Planned
        Which.
    scores : dict of str to float
        Measures and costs.
    history, predictions : Columns
        Long tables without the keys.
    error : dict or None
        status, error, message, traceback.
    warnings : list of str
        What was warned of.
    runtime : dict
        Decisions of a torch learner.
    seconds : float
        Its share of the time.
    about : dict
        What else the line holds: attempts, fallback, fallback_key, timeout, finished, run.
    """

    cell: Planned
    scores: dict[str, float]
    history: Columns
    predictions: Columns
    error: dict[str, str] | None
    warnings: list[str]
    runtime: dict[str, Any]
    seconds: float
    about: dict[str, Any]

    @property
    def status(self) -> str:
        """How it ended: ok, or the status of its error."""
        return self.error["status"] if self.error else "ok"


def to_line(cell: Planned, outcome: Any, about: Mapping[str, Any]) -> bytes:
    """Write an outcome as one line.

    Parameters
    ----------
    cell : Planned
        Which.
    outcome : Outcome
        What is stored.
    about : mapping
        When, by which run, under which conditions.

    Returns
    -------
    bytes
        JSON with its checksum; :func:`from_line` reads it.
    """
    tables = {name: to_columns(getattr(outcome, name)) for name in ("history", "predictions")}
    return seal(
        {
            "format_version": FORMAT_VERSION,
            **cell.to_json(),
            "scores": {name: _number(float(value)) for name, value in outcome.scores.items()},
            "seconds": outcome.seconds,
            **(outcome.error or _NO_ERROR),
            "warnings": outcome.warnings,
            **about,
            **{name: columns.values for name, columns in tables.items()},
            "runtime": plain(outcome.runtime),
            "dtypes": {name: columns.dtypes for name, columns in tables.items()},
        }
    )


def from_line(content: bytes) -> Record:
    """Read what :func:`to_line` wrote.

    Parameters
    ----------
    content : bytes
        A file.

    Returns
    -------
    Record
        The same outcome.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    read = unseal(content)
    cell = Planned.from_json(read)
    return Record(
        cell,
        scores={name: _float(value) for name, value in read["scores"].items()},
        history=Columns(read["history"], read["dtypes"]["history"]),
        predictions=Columns(read["predictions"], read["dtypes"]["predictions"]),
        error=None if read["status"] == "ok" else {name: read[name] for name in _NO_ERROR},
        warnings=read["warnings"],
        runtime=read["runtime"],
        seconds=read["seconds"],
        about={name: read[name] for name in _ABOUT if name in read},
    )


def seal(facts: Mapping[str, Any]) -> bytes:
    """Write facts as one line of JSON that ends with the SHA-256 of what stands before.

    Parameters
    ----------
    facts : mapping
        Not empty; what JSON holds, without NaN.

    Returns
    -------
    bytes
        The line.
    """
    body = json.dumps(facts, allow_nan=False, separators=(",", ":"))[:-1].encode()
    return body + f',"sha256":"{hashlib.sha256(body).hexdigest()}"}}\n'.encode()


def unseal(content: bytes) -> dict[str, Any]:
    """Read what :func:`seal` wrote.

    Parameters
    ----------
    content : bytes
        The line.

    Returns
    -------
    dict
        The facts.

    Raises
    ------
    ValueError
        If a byte of it is not what was written, or a newer torchstrata wrote it.
    """
    body = content[:-_TAIL]
    if content != body + f',"sha256":"{hashlib.sha256(body).hexdigest()}"}}\n'.encode():
        raise ValueError(f"{len(content)} bytes, whose checksum is not the one written")
    facts = json.loads(body + b"}")
    if facts.get("format_version", 1) > FORMAT_VERSION:
        raise NewerFormat(
            f"format version {facts['format_version']}, this torchstrata reads up to {FORMAT_VERSION}: "
            "pip install -U torchstrata"
        )
    return facts


class NewerFormat(ValueError):
    """A file is whole, but a newer torchstrata wrote it."""


def to_columns(table: pd.DataFrame) -> Columns:
    """Turn a table into lists.

    Parameters
    ----------
    table : DataFrame
        Any.

    Returns
    -------
    Columns
        :func:`to_table` undoes it.
    """
    packed = {str(name): _pack_column(table[name]) for name in table.columns}
    return Columns({name: cells for name, (cells, _) in packed.items()}, {n: dtype for n, (_, dtype) in packed.items()})


def _pack_column(column: pd.Series) -> tuple[list[Any], dict[str, Any]]:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        cells, dtypes = _pack_column(pd.Series(dtype.categories))
        codes = column.cat.codes.tolist()
        about = {"dtype": "category", "categories": cells, "of": dtypes, "ordered": bool(dtype.ordered)}
        return [None if code < 0 else cells[code] for code in codes], about
    if isinstance(dtype, np.dtype) and dtype.kind in "iub":
        return column.tolist(), {"dtype": str(dtype)}
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        finite = np.isfinite(column.to_numpy())
        cells = column.tolist()
        return cells if finite.all() else [_number(cell) for cell in cells], {"dtype": str(dtype)}
    if (isinstance(dtype, np.dtype) and dtype.kind != "O") or str(dtype).startswith(("datetime", "period", "interval")):
        column = column.astype(str)  # a date is known by its text
    if column.dtype != object:
        missing = column.isna().tolist()
        cells = [None if gone else pack(v) for gone, v in zip(missing, column.tolist(), strict=True)]
        return cells, {"dtype": str(column.dtype)}
    return [pack(value) for value in column], {"dtype": "object"}


def to_table(columns: Columns) -> pd.DataFrame:
    """Turn lists into the table they were.

    Parameters
    ----------
    columns : Columns
        From :func:`to_columns`; lists of several such tables, one after the other, if their dtypes are equal.

    Returns
    -------
    DataFrame
        With a fresh index.
    """
    made = {name: to_array(columns.values[name], dtype) for name, dtype in columns.dtypes.items()}
    return pd.DataFrame(made, columns=list(columns.dtypes), index=range(len(columns)))


def to_array(cells: Sequence[Any], about: Mapping[str, Any]) -> Any:
    """Turn the cells of a column into an array.

    Parameters
    ----------
    cells : sequence
        As JSON holds them.
    about : mapping
        Its dtype, as :class:`Columns` has it.

    Returns
    -------
    array
        NumPy's, or pandas' (a Series for objects) where the dtype is one of pandas'.
    """
    dtype = about["dtype"]
    if dtype == "category":
        categories = pd.Index(to_array(about["categories"], about["of"]))
        codes = {json.dumps(cell): code for code, cell in enumerate(about["categories"])}
        found = [-1 if cell is None else codes[json.dumps(cell)] for cell in cells]
        return pd.Categorical.from_codes(found, categories, ordered=about["ordered"])
    if dtype.startswith("float"):
        return np.array([_float(cell) for cell in cells], dtype=dtype)
    if dtype == "object":
        return pd.Series([unpack(cell) for cell in cells], dtype=object)  # of an array, pandas would make text
    if dtype.startswith(("int", "uint", "bool")) and "[" not in dtype and dtype != "boolean":
        return np.array(cells, dtype=dtype)
    return pd.array([unpack(cell) for cell in cells], dtype=dtype)


def _number(value: float) -> float | str | None:
    """Write a number as JSON can: NaN is null, infinities are text."""
    return value if math.isfinite(value) else None if value != value else str(value)


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)


def pack(value: Any) -> Any:
    """Turn a setting or a label into what JSON holds.

    Parameters
    ----------
    value : object
        None, a boolean, number, text, or a tuple of these; the text of anything else.

    Returns
    -------
    object
        :func:`unpack` undoes it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        return {"tuple": [pack(v) for v in value]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def unpack(value: Any) -> Any:
    """Undo :func:`pack`.

    Parameters
    ----------
    value : object
        From JSON.

    Returns
    -------
    object
        As it was.
    """
    if not isinstance(value, dict):
        return value
    return float(value["float"]) if "float" in value else tuple(map(unpack, value["tuple"]))
