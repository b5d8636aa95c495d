"""What the splits of SameOther say: is training on other, or all, subsets better than on the same one?

After Hocking and others (2024), SOAK: Same/Other/All K-fold cross-validation for estimating similarity of patterns in
data subsets, arXiv:2410.08643.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.errors import ConfigError
from torchstrata.plots.measures import holm, paired_test, spread

# Columns of the table of splits that tell conditions apart: a mean over several of them would mix unlike things.
CONDITIONS = ["test_subset", "trained_on", "size"]
_NUMBERS = [
    "mean", "mean_same", "difference", "low", "high", "p_value", "p_corrected", "p_holm", "n", "folds", "n_train",
    "n_train_same",
]  # fmt: skip


def conditions(table: Any) -> list[str]:
    """Find the columns whose values must not be averaged over.

    Parameters
    ----------
    table : DataFrame or mapping
        Scores, splits, or what a splitter says of one split.

    Returns
    -------
    list of str
        Those of SameOther; empty for all other splitters.
    """
    return CONDITIONS if set(CONDITIONS) <= set(table) else []


def soak(scores: pd.DataFrame, splits: pd.DataFrame, *, grid: Sequence[str], level: float = 0.95) -> pd.DataFrame:
    """Test, for each subset, training on other and on all subsets against training on the same.

    Parameters
    ----------
    scores : DataFrame
        Long scores of one measure.
    splits : DataFrame
        With the columns of SameOther.
    grid : sequence of str
        Grid columns, without the conditions.
    level : float
        Level of confidence.

    Returns
    -------
    DataFrame
        As :meth:`BenchmarkResult.same_other` says.

    Raises
    ------
    ConfigError
        If the splits are not those of SameOther, or do not train on the same subset and another set.
    """
    if not conditions(scores) or not {"same"} < set(scores["trained_on"].dropna()):
        raise ConfigError(
            "This compares training on the same subset with training on others, so it needs splits of "
            "cv=ts.splitters.SameOther(...) that train on 'same' and on 'other' or 'all'."
        )
    known = scores.dropna(subset=["trained_on"])  # another task of the result may have been split otherwise
    rows = _fill_equal(known.merge(splits[["task", "fold", "test_fold", "n_train", "n_test"]], on=["task", "fold"]))
    keys = ["task", "learner", *grid, "test_subset", "size"]
    # the random choices of rows within a fold share their test rows: they are no further folds
    of_fold = rows.groupby([*keys, "trained_on", "test_fold"], dropna=False, sort=False)
    folds = of_fold[["value", "n_train", "n_test"]].mean(skipna=False).reset_index()
    found = []
    for key, group in folds.groupby(keys, dropna=False, sort=False):
        wide = group.pivot(index="test_fold", columns="trained_on")
        there = [name for name in ("other", "all") if name in wide["value"] and "same" in wide["value"]]
        found += [(*key, other, *_difference(wide, other, level)) for other in there]
    out = pd.DataFrame(found, columns=[*keys, "trained_on", *(name for name in _NUMBERS if name != "p_holm")])
    out["p_holm"] = np.nan
    for _, rows in out.groupby(["task", "size"]):
        out.loc[rows.index, "p_holm"] = holm(rows["p_corrected"])
    return out[[*keys, "trained_on", *_NUMBERS]]


def _fill_equal(rows: pd.DataFrame) -> pd.DataFrame:
    """Take the training set that was the smallest, and was not thinned, for its own equal."""
    key = ["task", "test_subset", "test_fold", "trained_on"]
    thinned = rows.loc[rows["size"] == "equal", key].drop_duplicates()
    if not len(thinned):
        return rows
    full = rows[(rows["size"] == "full") & rows["task"].isin(thinned["task"])]  # another task may not have been thinned
    there = pd.MultiIndex.from_frame(full[key]).isin(pd.MultiIndex.from_frame(thinned))
    return pd.concat([rows, full[~there].assign(size="equal")], ignore_index=True)


def _difference(wide: pd.DataFrame, other: str, level: float) -> tuple:
    both = wide["value"][[other, "same"]].dropna()
    values = (both[other] - both["same"]).to_numpy(dtype=float)
    n, ratio = len(values), float((wide["n_test"]["same"] / wide["n_train"]["same"]).median())
    mean = float(values.mean()) if n else np.nan
    half = spread(float(values.std(ddof=1)) if n > 1 else np.nan, n, ratio, level)
    tests = paired_test(values, ratio=0.0), paired_test(values, ratio=ratio)  # a ratio of 0 is the usual t-test
    means = (float(both[name].mean()) if n else np.nan for name in (other, "same"))
    sizes = (float(wide["n_train"][name].mean()) for name in (other, "same"))
    return *means, mean, mean - half, mean + half, *tests, n, len(wide), *sizes
