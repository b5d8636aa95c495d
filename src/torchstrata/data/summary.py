"""What a task says of itself: the line, the look and the sum of its values."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from torchstrata.data.roles import ROLES, Roles
from torchstrata.data.tables import column_kind
from torchstrata.data.target import Meaning, plain

if TYPE_CHECKING:
    from torchstrata.data.task import Task

MOST_CLASSES_SHOWN = 10
_PLURAL = {
    "number": "numbers",
    "boolean": "booleans",
    "category": "categories",
    "datetime": "datetimes",
    "array": "arrays",
}


def one_look(task: Task, frame: pd.DataFrame) -> str:
    """Return the task as one line, and a second one for its roles.

    Parameters
    ----------
    task : Task
        The task.
    frame : pandas.DataFrame
        Its table.

    Returns
    -------
    str
    """
    kinds = Counter(column_kind(frame[name]) for name in task.feature_names)
    shown = ", ".join(f"{n} {kind if n == 1 else _PLURAL[kind]}" for kind, n in kinds.items())
    sizes = f"{_count(task.n_rows, 'row')}, {_count(len(task.feature_names), 'feature')} ({shown})"
    target = ", ".join(map(repr, task.target_names))
    line = f"Task {task.name!r}: {sizes}, target {target} ({_classes_shown(task)})"
    roles = ", ".join(f"{role} {', '.join(map(repr, names))}" for role, names in task.roles.given().items())
    return f"{line}\n    {roles}" if roles else line


def facts(task: Task) -> pd.Series:
    """Return what a task is, one entry a fact.

    Parameters
    ----------
    task : Task
        The task.

    Returns
    -------
    pandas.Series of object
        Rows, features by kind, missing cells, target, classes or range, roles.
    """
    X = task.X
    kinds = Counter(column_kind(X[name]) for name in X)
    missing = int(X.isna().to_numpy().sum())
    out: dict[str, Any] = {"rows": task.n_rows, "features": X.shape[1]}
    out |= {f"features: {_PLURAL[kind]}": n for kind, n in kinds.items()}
    out["missing cells"] = f"{missing} ({missing / max(X.size, 1):.2%})"
    out |= {"target": ", ".join(task.target_names), "kind": task.kind, "kind because": task.kind_reason}
    out |= _class_facts(task) if task.kind == "classification" else _range_facts(task)
    out |= {role: ", ".join(columns) for role, columns in task.roles.given().items()}
    return pd.Series(out, name=task.name, dtype=object)


def count_classes(labels: pd.Series, classes: np.ndarray) -> pd.Series:
    """Count the rows of each class.

    Parameters
    ----------
    labels : pandas.Series
        The target.
    classes : numpy.ndarray
        The classes in sorted order.

    Returns
    -------
    pandas.Series of int64
        Index: the classes; 0 for one without rows.
    """
    counts = Counter(np.asarray(labels).tolist())
    index = pd.Index(classes.copy(), name=labels.name)
    return pd.Series([counts[plain(c)] for c in classes], index=index, name="count", dtype="int64")


def fingerprint(frame: pd.DataFrame, rows: np.ndarray, roles: Roles, meaning: Meaning) -> str:
    """Return a SHA-256 of values, roles and meaning that is the same in any process.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    rows : numpy.ndarray of int64
        The rows that count, in their order.
    roles : Roles
        The columns that count.
    meaning : Meaning
        Kind, classes and positive class.

    Returns
    -------
    str
        Hexadecimal.
    """
    classes = None if meaning.classes is None else [repr(plain(c)) for c in meaning.classes]
    columns = {role: getattr(roles, role) for role in ROLES}
    heads = {"roles": columns, "kind": meaning.kind, "classes": classes, "positive": repr(meaning.positive)}
    digest = hashlib.sha256(json.dumps(heads, sort_keys=True).encode())
    for name in roles.used():
        column = frame[name].iloc[rows]
        if column_kind(column) == "array":
            for cell in column:
                digest.update(f"{cell.dtype.str} {cell.shape}".encode())
                digest.update(str(cell.tolist()).encode() if cell.dtype == object else cell.tobytes())
            continue
        hashes = pd.util.hash_pandas_object(column, index=False)
        digest.update(hashes.to_numpy("<u8").tobytes())
    return digest.hexdigest()


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _classes_shown(task: Task) -> str:
    if task.classes is None:
        return task.kind
    counts = task.class_counts()
    shown = ", ".join(f"{plain(c)!r} {n}" for c, n in counts.head(MOST_CLASSES_SHOWN).items())
    more = f", ... ({len(counts)} classes)" if len(counts) > MOST_CLASSES_SHOWN else ""
    positive = f"; positive {task.positive!r}" if len(counts) == 2 else ""
    return f"{task.kind}: {shown}{more}{positive}"


def _class_facts(task: Task) -> dict[str, Any]:
    counts = task.class_counts()
    out: dict[str, Any] = {"classes": len(counts)}
    out |= {f"class {plain(c)!r}": int(n) for c, n in counts.head(MOST_CLASSES_SHOWN).items()}
    out["minority proportion"] = round(task.minority_proportion, 6)
    return out | ({"positive": task.positive} if len(counts) == 2 else {})


def _range_facts(task: Task) -> dict[str, Any]:
    y = task.y
    targets = [y] if isinstance(y, pd.Series) else [y[name] for name in y]
    return {f"range of {t.name!r}": f"{t.min():g} to {t.max():g}, mean {t.mean():g}" for t in targets if len(t)}
