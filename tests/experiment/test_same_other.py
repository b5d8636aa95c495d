"""SameOther: who trains whom, in equal numbers, and groups that never part."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import torchstrata as ts
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.same_other import thin
from torchstrata.experiment.splits import planned_splits

SameOther = ts.splitters.SameOther


def made(n=120, seed=0, **roles) -> ts.Task:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.normal(size=n), "region": rng.choice(["N", "S", "W"], n, p=[0.2, 0.3, 0.5])})
    frame["y"] = rng.choice(["no", "yes"], n)
    frame["g"] = np.arange(n) // 2
    return ts.Task(frame, target="y", features=["x"], subset="region", **roles)


def table(splits):
    rows = [{**s.columns, "n_train": len(s.train), "n_test": len(s.test)} for s in splits]
    return pd.DataFrame(rows)


def test_training_sets_are_the_same_the_other_and_all_subsets():
    task = made()
    region = task.subsets.to_numpy()
    tested = {name: [] for name in "NSW"}
    for split in planned_splits(task, SameOther(3)):
        name, which = split.columns["test_subset"], split.columns["trained_on"]
        assert set(region[split.test]) == {name} and not set(split.train) & set(split.test)
        expected = {"same": {name}, "other": set("NSW") - {name}, "all": set("NSW")}[which]
        assert set(region[split.train]) == expected
        if which == "same":
            tested[name] += split.test.tolist()
            assert len(split.train) + len(split.test) == (region == name).sum()
    for name, rows in tested.items():
        assert sorted(rows) == np.flatnonzero(region == name).tolist()


def test_all_training_sets_of_a_fold_leave_out_the_same_rows():
    by_fold = {}
    for split in planned_splits(made(), SameOther(3)):
        by_fold.setdefault((split.columns["test_subset"], split.columns["test_fold"]), {})[
            split.columns["trained_on"]
        ] = split
    for sets in by_fold.values():
        same, other, both = (sets[name] for name in ("same", "other", "all"))
        assert sorted([*same.train, *other.train]) == both.train.tolist()
        assert same.test.tolist() == other.test.tolist() == both.test.tolist()


def test_thinned_training_sets_have_equal_rows_and_come_from_the_full_ones():
    splits = planned_splits(made(), SameOther(3, sizes=2, n_seeds=2))
    full = {tuple(s.columns[c] for c in ("test_subset", "test_fold", "trained_on")): s for s in splits
            if s.columns["size"] == "full"}  # fmt: skip
    for split in splits:
        assert set(split.train) <= set(
            full[tuple(split.columns[c] for c in ("test_subset", "test_fold", "trained_on"))].train
        )
    shown = table(splits)
    least = shown[shown["size"] == "full"].groupby(["test_subset", "test_fold"])["n_train"].min()
    for size, factor in (("equal", 1), ("equal*0.5", 0.5), ("equal*0.25", 0.25)):
        rows = shown[shown["size"] == size]
        wanted = [int(least[key] * factor) for key in zip(rows["test_subset"], rows["test_fold"], strict=True)]
        assert rows["n_train"].tolist() == wanted
    assert sorted(shown["size"].unique()) == ["equal", "equal*0.25", "equal*0.5", "full"]
    # two random choices of each thinned set; the smallest set in full is its own equal
    counts = shown.groupby(["test_subset", "test_fold", "size"]).size().unstack()
    assert (counts["full"] == 3).all() and (counts["equal"] == 4).all() and (counts["equal*0.5"] == 6).all()
    seeds = [s.train.tolist() for s in splits if s.columns["size"] == "equal" and s.columns["trained_on"] == "all"]
    assert seeds[0] != seeds[1]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), n_splits=st.integers(2, 4), sizes=st.sampled_from([None, 0, 1]))
def test_groups_never_leak_and_never_part(seed, n_splits, sizes):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(60, 160))
    frame = pd.DataFrame({"x": np.arange(n) / 7, "y": np.arange(n) / 3, "s": rng.choice(list("abc"), n)})
    frame["g"] = rng.integers(0, n // 4, n)  # groups reach over subsets
    task = ts.Task(frame, target="y", features=["x"], subset="s", group="g")
    groups = frame["g"].to_numpy()
    whole = {}
    for split in planned_splits(task, SameOther(n_splits, sizes=sizes, random_state=seed)):
        assert not set(groups[split.train]) & set(groups[split.test])
        key = tuple(split.columns[c] for c in ("test_subset", "test_fold", "trained_on"))
        if split.columns["size"] == "full":
            whole[key] = split.train
        else:
            allowed = whole[key][np.isin(groups[whole[key]], groups[split.train])]
            assert split.train.tolist() == allowed.tolist()  # of a group, all rows that may train, or none


def test_folds_are_balanced_by_subset_and_class_and_strata():
    task = made(240, stratum="region")
    first = {s.columns["test_subset"]: [] for s in planned_splits(task, SameOther(4))}
    for split in planned_splits(task, SameOther(4, train_on=["same"])):
        first[split.columns["test_subset"]].append(task.rows(split.test).class_counts().tolist())
    for counts in first.values():
        assert np.ptp(np.array(counts), axis=0).max() <= 1


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 60), share=st.floats(0.05, 1), n_strata=st.integers(1, 4), seed=st.integers(0, 999))
def test_thinning_keeps_shares_within_a_row(n, share, n_strata, seed):
    rng = np.random.RandomState(seed)
    strata = rng.randint(n_strata, size=n + 10)
    rows = np.sort(rng.choice(n + 10, n, replace=False))
    size = max(1, int(share * n))
    kept = thin(rows, size, strata, np.arange(n + 10), rng)
    assert len(kept) == len(set(kept)) == size and set(kept) <= set(rows) and (np.diff(kept) > 0).all()
    before, after = (np.bincount(strata[r], minlength=n_strata) for r in (rows, kept))
    assert (np.abs(after - before * size / n) <= 1 + 1e-9).all() or size < np.count_nonzero(before)
    if size >= np.count_nonzero(before):
        assert (after[before > 0] > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_splits": 1}, "n_splits must be a whole number >= 2"),
        ({"train_on": ["same", "others"]}, "Did you mean 'other'"),
        ({"train_on": []}, "train_on must name"),
        ({"sizes": -1}, "sizes must be a whole number >= 0"),
        ({"ratio": 1.0}, "ratio must lie between"),
        ({"n_seeds": 0}, "n_seeds"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        SameOther(**arguments)


def test_tasks_that_cannot_be_split_are_refused():
    with pytest.raises(ConfigError, match=r"which column holds the subsets\? task.with_roles\(subset='...'\)"):
        planned_splits(made().with_roles(subset=None), SameOther(3))
    with pytest.raises(DataError, match="Did you mean 'region'"):
        planned_splits(made(), SameOther(3, subset="regoin"))
    north = made().rows(made().subsets == "N")
    with pytest.raises(DataError, match="all rows are of the subset 'N'"):
        planned_splits(north, SameOther(3))
    with pytest.raises(DataError, match=r"subset 'N' has \d+ rows of a class or stratum; 30 folds need 30"):
        planned_splits(made(), SameOther(30))
    with pytest.raises(DataError, match="7 labels for 120 rows"):
        planned_splits(made(), SameOther(3, subset=list("abababa")))
    with pytest.raises(ConfigError, match="needs subset="):
        list(SameOther(3).split(np.zeros((9, 1))))


def test_labels_a_row_do_instead_of_a_column():
    task = made()
    by_role = planned_splits(task, SameOther(3))
    for subset in ("region", task.subsets.tolist()):
        found = planned_splits(task.with_roles(subset=None), SameOther(3, subset=subset))
        assert [s.train.tolist() for s in found] == [s.train.tolist() for s in by_role]
    assert repr(SameOther(4, sizes=0)).startswith("SameOther(n_seeds=1, n_splits=4, random_state=0, ratio=0.5, sizes=0")
