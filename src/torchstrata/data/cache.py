"""The folder of fetched data sets: complete files only, each with its checksum."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from torchstrata.data.atomic import write_atomic
from torchstrata.data.files import existing_file, read_csv
from torchstrata.errors import DataError

VARIABLE = "TORCHSTRATA_DATA"


def cache_folder(cache: str | os.PathLike | None = None) -> Path:
    """Return the folder of fetched data sets, which need not exist yet.

    Parameters
    ----------
    cache : str or path, optional
        A folder. Default: the environment variable TORCHSTRATA_DATA, else ``~/.cache/torchstrata``.

    Returns
    -------
    pathlib.Path
    """
    return Path(cache or os.environ.get(VARIABLE) or "~/.cache/torchstrata").expanduser()


def store(folder: Path, name: str, frame: pd.DataFrame, facts: dict[str, Any]) -> None:
    """Write ``<name>.csv`` and ``<name>.json`` so that a reader sees a complete data set or none.

    Parameters
    ----------
    folder : pathlib.Path
        Made if need be.
    name : str
        The files' stem.
    frame : pandas.DataFrame
        The table. Columns other than numbers are kept as categories of text.
    facts : dict
        What the JSON keeps beside ``sha256`` and ``categories``: ``target`` and ``source``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    categories = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c]) or frame[c].dtype == bool]
    # repr of a float reads back as the same float
    data = frame.to_csv(index=False, lineterminator="\n").encode()
    facts = {**facts, "categories": categories, "sha256": hashlib.sha256(data).hexdigest()}
    # JSON first: a kill in between leaves no CSV, so the data set counts as absent and is fetched again
    write_atomic(folder / f"{name}.json", json.dumps(facts, indent=1).encode())
    write_atomic(folder / f"{name}.csv", data)


def recall(folder: Path, name: str) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Read a stored data set, or one that was put into the folder by hand.

    Parameters
    ----------
    folder : pathlib.Path
        The cache folder.
    name : str
        The files' stem.

    Returns
    -------
    (pandas.DataFrame, dict) or None
        The table and what the JSON says, an empty dict where there is none; None where there is no CSV file.

    Raises
    ------
    DataError
        If a file is damaged: with its name and what to do.
    """
    csv, described = folder / f"{name}.csv", folder / f"{name}.json"
    if not csv.is_file():
        return None
    if not described.is_file():
        return read_csv(csv), {}
    facts = _read_facts(described)
    found = hashlib.sha256(csv.read_bytes()).hexdigest()
    if found != facts["sha256"]:
        raise _damaged(csv, f"its SHA-256 is {found[:12]}..., {described.name} says {str(facts['sha256'])[:12]}...")
    text = dict.fromkeys(facts["categories"], str)
    frame = read_csv(csv, na_values=("",), keep_default_na=False, dtype=text)
    return frame.astype(dict.fromkeys(facts["categories"], "category")), facts


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(existing_file(path).read_bytes())
    except ValueError as error:
        raise _damaged(path, f"it is not JSON ({error})") from None
    lacking = {"target", "sha256", "categories"} - set(facts if isinstance(facts, dict) else ())
    if lacking:
        raise _damaged(path, f"it says nothing about {', '.join(sorted(lacking))}")
    return facts


def _damaged(path: Path, why: str) -> DataError:
    both = f"{path.with_suffix('.csv').name} and {path.with_suffix('.json').name}"
    return DataError(f"file {str(path)!r} is damaged: {why}. Delete {both} and load it again to fetch a fresh copy.")
