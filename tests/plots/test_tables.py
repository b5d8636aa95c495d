from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from torchstrata.errors import ConfigError, DataError
from torchstrata.plots.tables import (
    best_label,
    grid_columns,
    need_columns,
    only,
    setting_column,
    share_of,
    short_names,
    summary,
    with_label,
)


def scores(**columns) -> pd.DataFrame:
    return pd.DataFrame(
        {"task": "t", "learner": "a", "fold": [0, 1], "measure": "roc_auc", "value": [0.8, 0.9]} | columns
    )


def test_grid_columns_are_those_nobody_else_owns():
    table = scores(loss="aum", optimizer__lr=0.1, train_roc_auc=1.0, prob_x=0.5, lr=0.1)
    assert grid_columns(table) == ["loss", "optimizer__lr"]


def test_a_label_names_only_settings_that_vary_within_the_learner():
    table = pd.DataFrame(
        {"learner": ["a", "a", "b", "dummy"], "loss": ["x", "x", "y", None], "o__lr": [0.1, 0.01, 1, np.nan]}
    )
    assert list(with_label(table)["label"]) == ["a, lr=0.1", "a, lr=0.01", "b", "dummy"]
    assert list(with_label(table, skip=["o__lr"])["label"]) == ["a", "a", "b", "dummy"]


def test_a_label_keeps_settings_of_several_types_apart():
    table = pd.DataFrame({"learner": "a", "hidden": [(10,), (10, 10), None, "wide"]})
    assert list(with_label(table)["label"]) == ["a, hidden=(10,)", "a, hidden=(10, 10)", "a", "a, hidden=wide"]


def test_short_names_stay_different():
    assert short_names(["net__lr", "optimizer__lr"]) == {"net__lr": "net__lr", "optimizer__lr": "optimizer__lr"}


def test_summary_says_how_many_folds_failed_and_keeps_dtypes():
    table = scores(value=[0.8, np.nan], o__lr=0.1)
    found = summary(table, keys=["learner", "o__lr", "measure"])
    assert found["note"].tolist() == ["1 of 2 folds failed"] and found["o__lr"].dtype == float
    assert found[["n", "folds"]].to_numpy().tolist() == [[1, 2]]


def test_summary_does_not_call_a_learner_without_epochs_failed():
    assert summary(scores(measure="epochs", value=np.nan), keys=["learner", "measure"])["note"].tolist() == [""]


def test_summary_takes_the_ratio_of_its_task():
    table = pd.concat([scores(), scores(task="u")])
    found = summary(table, keys=["task", "measure"], ratio={"t": 0.1, "u": 1.0})
    width = found["high"] - found["mean"]
    assert (list(found["task"]) == ["t", "u"] and width[0] < width[1]) or found["high"].tolist() == [1, 1]
    assert found["low"][0] > found["low"][1]


def test_errors_name_the_column_and_the_guess():
    with pytest.raises(DataError, match=r"scores has no column 'fold'.*Did you mean 'folds'"):
        need_columns(pd.DataFrame({"folds": []}), ["fold"], "scores")
    with pytest.raises(ConfigError, match=r"Unknown task 'T'.*Did you mean 't'"):
        only(scores(), "task", "T")


def test_columns_that_callbacks_write_are_no_settings():
    columns = ["task", "learner", "fold", "loss", "epoch", "train_loss", "useless_batches", "gradient_norm", "best"]
    assert grid_columns(pd.DataFrame(columns=columns)) == ["loss"]


def test_variants_with_close_values_have_labels_of_their_own():
    seeds = scores(learner="tree", random_state=[20260101, 20260102], fold=0)
    assert with_label(seeds)["label"].tolist() == ["tree, random_state=20260101", "tree, random_state=20260102"]
    close = scores(learner="ridge", alpha=[1.0000001, 1.0000002], fold=0)
    assert with_label(close)["label"].nunique() == 2
    types = scores(learner="tree", criterion=[1, "1"], fold=0)
    assert with_label(types)["label"].nunique() == 2


@pytest.mark.parametrize("name", ["lr", "best", "train_split", "prob_up", "seconds", "mean", "note"])
def test_a_setting_with_the_name_of_a_column_is_still_a_setting(name):
    column = setting_column(name)
    table = scores(learner="net", fold=0, **{column: [0.1, 0.2]})
    assert grid_columns(table) == [column] and setting_column("optimizer__lr") == "optimizer__lr"
    assert with_label(table)["label"].tolist() == [f"net, {name}=0.1", f"net, {name}=0.2"]


def test_the_share_of_test_rows_may_be_told_by_task_or_by_split():
    rows = pd.DataFrame({"task": "t", "fold": [0, 0, 1, 2], "truth": 1})  # predictions: two rows of fold 0
    assert share_of(None, rows) is None and share_of(0.3, rows) == 0.3 and share_of({"t": 0.25}, rows) == 0.25
    assert share_of({("t", 0): 0.1, ("t", 1): 0.2, ("t", 2): 0.3}, rows) == 0.2


def test_the_best_label_has_as_many_folds_as_any_other():
    wide = pd.DataFrame({"easy": [0.9, np.nan], "whole": [0.8, 0.7]})
    assert best_label(wide, greater=True) == best_label(wide, greater=False) == "whole"
