"""One finished cell as one line of JSON, and back exactly; a checksum at its end.

The line is for programs (:mod:`torchstrata.experiment.store`) and for SQL: tables are columns, settings and scores are
structures, NaN is null. What JSON cannot say (dtypes, infinities, categories) stands beside it under ``dtypes``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torchstrata.experiment.archive import plain
from torchstrata.experiment.storage.columns import Columns, number, pack, to_columns, unpack

FORMAT_VERSION = 1
_NO_ERROR = {"status": "ok", "error": "", "message": "", "traceback": ""}  # text in every file, for readers of columns
_NO_CELL = "it does not hold what a cell holds: {!r}"
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
        names = read["key"], read["task"], read["learner"], read["fold"]
        return cls(*names, settings, read["n_train"], read["n_test"])


_ABOUT = ("attempts", "fallback", "fallback_key", "timeout", "finished", "run")


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
            "scores": {name: number(float(value)) for name, value in outcome.scores.items()},
            "seconds": outcome.seconds,
            **(outcome.error or _NO_ERROR),
            "warnings": outcome.warnings,
            **about,
            **{name: columns.values for name, columns in tables.items()},
            "runtime": plain(outcome.runtime),
            "dtypes": {name: columns.dtypes for name, columns in tables.items()},
        }
    )


def from_line(content: bytes, cell: Planned | None = None) -> Record:
    """Read what :func:`to_line` wrote.

    Parameters
    ----------
    content : bytes
        A file.
    cell : Planned, optional
        Which cell it has to be.

    Returns
    -------
    Record
        The same outcome.

    Raises
    ------
    ValueError
        If it is damaged, or of another cell.
    """
    body = _checked(content)
    try:
        # dtypes stand last, and a thousand cells have the same: parsed once, they are also one object
        head, _, tail = body.rpartition(b',"dtypes":')
        read, dtypes = _parsed(head), _dtypes(tail)
    except ValueError:  # a column of that name
        read = _parsed(body)
        dtypes = read.get("dtypes", {})
    try:
        return Record(
            _same(read, cell) or Planned.from_json(read),
            scores={name: v if type(v) is float else _float(v) for name, v in read["scores"].items()},
            history=Columns(read["history"], dtypes["history"]),
            predictions=Columns(read["predictions"], dtypes["predictions"]),
            error=None if read["status"] == "ok" else {name: read[name] for name in _NO_ERROR},
            warnings=read["warnings"],
            runtime=read["runtime"],
            seconds=read["seconds"],
            about={name: read[name] for name in _ABOUT if name in read},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(_NO_CELL.format(error)) from None


def ending_of(content: bytes, cell: Planned) -> tuple[str, float]:
    """Read how a cell ended; its tables are checked and not parsed.

    Parameters
    ----------
    content : bytes
        A file.
    cell : Planned
        Which cell it has to be.

    Returns
    -------
    status : str
        As of :attr:`Record.status`.
    seconds : float
        Its share of the time.

    Raises
    ------
    ValueError
        If it is damaged, or of another cell.
    """
    body = _checked(content)
    try:
        # where this is no key of the line itself but stands deeper in it, what is before does not parse
        read = _parsed(body.partition(b',"warnings":[')[0])
    except NewerFormat:
        raise
    except ValueError:
        read = _parsed(body)
    try:
        _same(read, cell)
        return read["status"], float(read["seconds"])
    except (KeyError, TypeError) as error:
        raise ValueError(_NO_CELL.format(error)) from None


def _same(read: Mapping[str, Any], cell: Planned | None) -> Planned | None:
    if cell is not None and read["key"] != cell.key:
        raise ValueError(f"it is the cell {read['key']}")
    return cell


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
    return _parsed(_checked(content))


def _checked(content: bytes) -> bytes:
    """Return what stands before the checksum."""
    body = content[:-_TAIL]
    if content[-_TAIL:] != f',"sha256":"{hashlib.sha256(body).hexdigest()}"}}\n'.encode():
        raise ValueError(f"{len(content)} bytes, whose checksum is not the one written")
    return body


def _parsed(body: bytes) -> dict[str, Any]:
    facts = json.loads(body.decode() + "}")
    if facts.get("format_version", 1) > FORMAT_VERSION:
        raise NewerFormat(
            f"format version {facts['format_version']}, this torchstrata reads up to {FORMAT_VERSION}: "
            "pip install -U torchstrata"
        )
    return facts


@functools.lru_cache(maxsize=256)
def _dtypes(text: bytes) -> dict[str, dict[str, Any]]:
    return json.loads(text)


class NewerFormat(ValueError):
    """A file is whole, but a newer torchstrata wrote it."""


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)
