"""One row a cell: how it ended. For results that were made without, it is read off their scores and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.plots.tables import grid_columns

_NOT_BEGUN = ("interrupted", "missing", "damaged")
COLUMNS = ["status", "seconds", "attempts", "fallback", "message"]


def ending(outcome: Any) -> dict[str, Any]:
    """Say how a cell ended.

    Parameters
    ----------
    outcome : Outcome or Record
        What it left behind.

    Returns
    -------
    dict
        status, seconds, attempts, fallback (class of the learner that stood in, else empty), message.
    """
    told = outcome.about if hasattr(outcome, "about") else vars(outcome)
    return {
        "status": outcome.status,
        "seconds": float(outcome.seconds),
        "attempts": int(told.get("attempts", outcome.status not in _NOT_BEGUN)),
        "fallback": str(told.get("fallback") or ""),
        "message": outcome.error["message"] if outcome.error else "",
    }


def statuses(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Say how each cell ended, as far as scores and errors tell.

    Parameters
    ----------
    tables : mapping
        The tables ``scores`` and ``errors`` of a result.

    Returns
    -------
    DataFrame
        The keys, status, seconds (of fit and predict), attempts, fallback ("fallback" where a cell failed and has
        scores), message.
    """
    scores, errors = tables["scores"], tables["errors"]
    keys = _keys(scores)
    if not len(scores):
        return pd.DataFrame(columns=[*keys, *COLUMNS])
    number = scores.groupby(keys, dropna=False, sort=False).ngroup()
    out = scores.loc[~number.duplicated(), keys].reset_index(drop=True)
    timed = scores["measure"].isin(["fit_seconds", "predict_seconds"])
    scored = scores["value"].notna().groupby(number).any()
    out["status"], out["seconds"] = "ok", scores["value"].where(timed, 0.0).groupby(number).sum()
    out["attempts"], out["fallback"], out["message"] = 1, "", ""
    failed = {_key(row): told for row, told in _rows(errors, keys, ["status", "message"])}
    for place, (row, _) in enumerate(_rows(out, keys, [])):
        if row in failed:
            status, message = failed[row]
            out.loc[place, ["status", "message", "fallback"]] = [status, message, "fallback" if scored[place] else ""]
    return out


def filled(scores: pd.DataFrame, ended: pd.DataFrame) -> pd.DataFrame:
    """Mark the scores that are a fallback's.

    Parameters
    ----------
    scores : DataFrame
        Long scores, or predictions.
    ended : DataFrame
        How each cell ended.

    Returns
    -------
    DataFrame
        The table, with a column ``filled`` of booleans if a fallback stood in for any cell.
    """
    stood_in = ended["fallback"].fillna("").astype(str) != ""
    if not stood_in.any():
        return scores
    keys = _keys(scores)
    replaced = set(_groups(ended[stood_in], keys)[1])
    place, cells = _groups(scores, keys)
    return scores.assign(filled=np.array([cell in replaced for cell in cells], dtype=bool)[place])


def with_folds(table: pd.DataFrame, ended: pd.DataFrame) -> pd.DataFrame:
    """Say of each row how many folds its learner was to have: a cell that failed leaves no row behind.

    Parameters
    ----------
    table : DataFrame
        Long table with the keys, such as predictions.
    ended : DataFrame
        How each cell ended.

    Returns
    -------
    DataFrame
        The table with a column ``folds``.
    """
    keys = [name for name in _keys(ended) if name != "fold"]
    place, cells_ = _groups(ended, keys)
    folds = dict(zip(cells_, np.bincount(place, minlength=len(cells_)).tolist(), strict=True))
    place, learners = _groups(table, keys)
    return table.assign(folds=np.array([folds.get(one, 0) for one in learners], dtype=int)[place])


def _groups(table: pd.DataFrame, keys: Sequence[str]) -> tuple[np.ndarray, list[tuple]]:
    """Number the combinations of keys, and list them; a table of predictions has many rows and few of these."""
    given = table.reindex(columns=list(keys))
    place = given.groupby(list(keys), dropna=False, sort=False).ngroup().to_numpy()
    first = given[~pd.Series(place).duplicated().to_numpy()]
    return place, [_key(row) for row in first.itertuples(index=False, name=None)]


def _keys(scores: pd.DataFrame) -> list[str]:
    return ["task", "learner", "fold", *grid_columns(scores)]


def _rows(table: pd.DataFrame, keys: Sequence[str], others: Sequence[str]) -> list[tuple[tuple, tuple]]:
    given = table.reindex(columns=list(keys))
    told = table[list(others)].itertuples(index=False, name=None) if others else [()] * len(table)
    return [(_key(row), told) for row, told in zip(given.itertuples(index=False, name=None), told, strict=True)]


def _key(row: Sequence[Any]) -> tuple:
    return tuple(None if value is None or value is pd.NA or value != value else value for value in row)
