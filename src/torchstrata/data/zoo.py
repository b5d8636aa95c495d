"""Ready tasks by name: scikit-learn's own at once, OpenML's fetched once into a checked cache."""

from __future__ import annotations

import numbers
import os
import re
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pandas as pd

from torchstrata.data.cache import VARIABLE, cache_folder, recall, store
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError, did_you_mean


@dataclass(frozen=True)
class Entry:
    """A data set known by name.

    Attributes
    ----------
    rows, features, classes : int
        Its size; no classes means regression.
    target : tuple of str
        The target's column name; for files put by hand the first that is there.
    data_id : int or None
        Its number on OpenML; None for those bundled with scikit-learn.
    positive : str or None
        The positive class.
    subset : str or None
        A column that parts the rows in files put by hand, and so is no feature.
    """

    rows: int
    features: int
    classes: int
    target: tuple[str, ...]
    data_id: int | None = None
    positive: str | None = None
    subset: str | None = None


KNOWN = {
    "breast_cancer": Entry(569, 30, 2, ("diagnosis",), positive="malignant"),
    "wine": Entry(178, 13, 3, ("cultivar",)),
    "iris": Entry(150, 4, 3, ("species",)),
    "digits": Entry(1797, 64, 10, ("digit",)),
    "diabetes": Entry(442, 10, 0, ("progression",)),
    "sonar": Entry(208, 60, 2, ("Class",), data_id=40),
    "spam": Entry(4601, 57, 2, ("class",), data_id=44),
    "adult": Entry(48842, 14, 2, ("income", "class"), data_id=1590, subset="split"),
}


def load_task(name: str | int, *, data_id: int | None = None, cache: str | os.PathLike | None = None) -> Task:
    """Return a ready task; classification tasks have their target as stratum.

    Parameters
    ----------
    name : str or int
        A name of `list_tasks`; an OpenML number (``40`` or ``"openml:40"``); or any OpenML name (``"openml:irish"``
        where it resembles a name of ours).
    data_id : int, optional
        The OpenML number of a data set to be stored as ``name``.
    cache : str or path, optional
        Folder for fetched data. Default: the environment variable TORCHSTRATA_DATA, else ``~/.cache/torchstrata``.
        A file ``<name>.csv`` put there by hand serves for the known names.

    Returns
    -------
    Task

    Raises
    ------
    ConfigError
        If the name is misspelt or no name at all.
    DataError
        If the data cannot be fetched, with where to put them by hand; if a stored file is damaged.

    Examples
    --------
    >>> load_task("iris")
    Task 'iris': 150 rows, 4 features (4 numbers), target 'species' (classification: 'setosa' 50, ...)
        stratum 'species'
    """
    stem, wanted = _identify(name, data_id)
    entry = KNOWN.get(stem)
    if entry is not None and entry.data_id is None:
        return _bundled(stem, entry)
    folder = cache_folder(cache)
    found = recall(folder, stem)
    if found is None:
        _refuse_typo(name, stem, data_id)
        _fetch(folder, stem, wanted)
        found = recall(folder, stem)
    assert found is not None  # _fetch stored it or raised
    frame, facts = found
    if not facts:
        return _by_hand(stem, entry, frame, folder)
    _check_source(stem, facts, wanted, folder)
    return _ready(frame, stem, target=facts["target"], positive=entry.positive if entry else None)


def list_tasks(*, cache: str | os.PathLike | None = None) -> pd.DataFrame:
    """List the tasks that `load_task` knows by name.

    Parameters
    ----------
    cache : str or path, optional
        The folder of fetched data, as in `load_task`.

    Returns
    -------
    pandas.DataFrame
        Index: name. Columns: kind, rows, features, classes, source, and available: "bundled", "cached" or "to fetch".
    """
    folder = cache_folder(cache)
    table = []
    for name, entry in KNOWN.items():
        cached = "cached" if (folder / f"{name}.csv").is_file() else "to fetch"
        source = "scikit-learn" if entry.data_id is None else f"openml:{entry.data_id}"
        table.append(
            {
                "name": name,
                "kind": "classification" if entry.classes else "regression",
                "rows": entry.rows,
                "features": entry.features,
                "classes": entry.classes,
                "source": source,
                "available": "bundled" if entry.data_id is None else cached,
            }
        )
    return pd.DataFrame(table).set_index("name")


def _identify(name: Any, data_id: int | None) -> tuple[str, dict[str, Any]]:
    """Return the stem of the files, and what to ask OpenML for."""
    if isinstance(name, numbers.Integral) and not isinstance(name, bool):
        name = f"openml:{int(name)}"
    if not isinstance(name, str) or not re.fullmatch(r"(openml:)?[\w(][\w().+-]*", name):
        raise ConfigError(f"load_task: {name!r} is no name of a data set. {did_you_mean(name, KNOWN)}")
    given, openml, plain_name = name, name.startswith("openml:"), name.removeprefix("openml:")
    stem = given.replace(":", "-")
    if data_id is not None:
        if stem in KNOWN and KNOWN[stem].data_id is None:
            raise ConfigError(f"load_task: {stem!r} comes with scikit-learn; load_task('openml:{data_id}') is another.")
        return stem, {"data_id": int(data_id)}
    if openml and plain_name.isdigit():
        return stem, {"data_id": int(plain_name)}
    if stem in KNOWN and KNOWN[stem].data_id is not None:
        return stem, {"data_id": KNOWN[stem].data_id}
    return stem, {"name": plain_name}


def _refuse_typo(name: Any, stem: str, data_id: int | None) -> None:
    """Refuse what resembles a name of ours: asking OpenML for "sonra" takes long and ends in a worse message."""
    if stem in KNOWN or data_id is not None or stem.startswith("openml-"):
        return
    answer = did_you_mean(name, KNOWN)
    if answer.startswith("Did you mean"):
        raise ConfigError(f"load_task: unknown task {name!r}. {answer} From OpenML by its name: 'openml:{name}'.")


def _fetch(folder: Path, stem: str, wanted: dict[str, Any]) -> None:
    from sklearn.datasets import fetch_openml

    source = f"openml:{next(iter(wanted.values()))}"
    try:
        # cache=False: scikit-learn's own copy would be a second one without a checksum
        bunch = fetch_openml(**wanted, as_frame=True, cache=False, n_retries=2, delay=0.5)
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(_fetch_failed(folder, stem, source, error)) from error
    targets = list(bunch.target_names or [])
    if not targets:
        raise DataError(f"load_task: {source} names no target; fetch it yourself and say Task(frame, target=...).")
    store(folder, stem, bunch.frame, {"target": targets if len(targets) > 1 else targets[0], "source": source})


def _fetch_failed(folder: Path, stem: str, source: str, error: Exception) -> str:
    path = str(folder.absolute() / f"{stem}.csv")
    what = (
        f"target column {KNOWN[stem].target[0]!r}" if stem in KNOWN else f"to be read with Task.from_csv({path!r}, ...)"
    )
    folder_now = repr(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else "not set"
    return (
        f"load_task: {stem!r} could not be fetched ({source}: {type(error).__name__}: {error}). Without a network, put "
        f"the file by hand at {path} (a CSV with a header, {what}). The folder is named by the environment variable "
        f"{VARIABLE} (now {folder_now}; default ~/.cache/torchstrata). {did_you_mean(stem, KNOWN)}"
    )


def _by_hand(stem: str, entry: Entry | None, frame: pd.DataFrame, folder: Path) -> Task:
    if entry is None:
        path = str(folder / f"{stem}.csv")
        raise DataError(
            f"load_task: {path!r} has no .json to name its target; say Task.from_csv({path!r}, target=...)."
        )
    target = next((name for name in entry.target if name in frame), entry.target[0])
    subset = entry.subset if entry.subset in frame else None
    return _ready(frame, stem, target=target, positive=entry.positive, subset=subset)


def _check_source(stem: str, facts: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    source = f"openml:{next(iter(wanted.values()))}"
    if facts.get("source", source) != source:
        raise DataError(
            f"load_task: {str(folder / stem)!r}.csv came from {facts['source']}, not {source}; choose another name."
        )


def _ready(frame: pd.DataFrame, name: str, *, target: str | list[str], **settings: Any) -> Task:
    task = Task(frame, target=target, name=name, **settings)
    return task.with_roles(stratum=target) if task.kind == "classification" else task


def _bundled(name: str, entry: Entry) -> Task:
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")(as_frame=True)
    target = entry.target[0]
    frame = bunch.frame.rename(columns={"target": target})
    if entry.classes and name != "digits":  # the digits' classes are the digits themselves
        frame[target] = bunch.target_names.astype(object)[frame[target].to_numpy()]
    kind = "classification" if entry.classes else "regression"
    return Task(
        frame, target=target, stratum=target if entry.classes else None, positive=entry.positive, name=name, kind=kind
    )
