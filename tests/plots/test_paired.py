from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchstrata.errors import ConfigError
from torchstrata.plots import differences
from torchstrata.plots.measures import interval


def scores(values: dict[str, list[float]], measure: str = "accuracy") -> pd.DataFrame:
    rows = [("t", name, k, measure, v) for name, each in values.items() for k, v in enumerate(each)]
    return pd.DataFrame(rows, columns=["task", "learner", "fold", "measure", "value"])


@settings(max_examples=15)
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=5))
def test_differences_are_those_of_the_same_folds(values):
    table = differences(scores({f"l{i}": v for i, v in enumerate(values)}), ratio=0.5).table
    means = [np.mean(v) for v in values]
    best = int(np.argmax(means))
    assert set(table["against"]) == {f"l{best}"} and len(table) == len(values) - 1
    for row in table.itertuples():
        found = np.subtract(values[int(row.label[1:])], values[best])
        assert row.values == pytest.approx(tuple(found))
        assert (row.mean, row.low, row.high) == pytest.approx(_three(interval(found, ratio=0.5)), nan_ok=True)
    assert (table["mean"] <= 1e-12).all() and table["mean"].is_monotonic_decreasing


def _three(found):
    return found.mean, found.low, found.high


def test_a_failed_fold_is_left_out_of_its_pair_and_named(tables):
    plot = differences(tables(fail=[("sonar", "linear", 1)])["scores"])
    row = plot.table.set_index("label").loc["linear"]
    assert (row["n"], row["folds"]) == (4, 5) and row["note"] == "1 of 5 folds failed"
    assert "linear\n(1 of 5 folds failed)" in [t.get_text() for t in plot.axes[0].get_yticklabels()]


def test_the_learner_with_fewer_folds_is_never_the_best():
    table = differences(scores({"lucky": [0.99, np.nan, np.nan], "whole": [0.8, 0.8, 0.8]})).table
    assert table["against"].tolist() == ["whole"] and table["n"].tolist() == [1]


def test_another_learner_may_be_the_one_compared_with():
    table = differences(scores({"a": [0.9, 0.9], "b": [0.8, 0.7], "c": [0.5, 0.6]}), against="c").table
    assert table.set_index("label")["mean"].to_dict() == pytest.approx({"a": 0.35, "b": 0.2})
    with pytest.raises(ConfigError, match="Did you mean 'c'"):
        differences(scores({"a": [0.9], "c": [0.5]}), against="cc")


def test_of_a_cost_the_smallest_is_the_best():
    table = differences(scores({"slow": [9.0, 8.0], "quick": [1.0, 2.0]}, "fit_seconds"), measure="fit_seconds").table
    assert table["against"].tolist() == ["quick"] and table["mean"].tolist() == [7.0]


def test_one_learner_alone_is_refused():
    with pytest.raises(ConfigError, match="at least two learners"):
        differences(scores({"a": [0.5, 0.6]}))


def test_the_panel_names_the_best_and_the_table_keeps_the_task(tables):
    plot = differences(tables(tasks=("sonar", "spam"))["scores"])
    assert [a.get_title(loc="left").startswith(t) for a, t in zip(plot.axes, ("sonar", "spam"), strict=True)] == [1, 1]
    assert "minus “" in plot.axes[0].get_title(loc="left") and set(plot.table["task"]) == {"sonar", "spam"}


def test_what_the_best_learner_missed_is_told_too(tables):
    scores = tables(learners={"good": 3.0, "bad": 0.5}, fail=[("sonar", "good", 0), ("sonar", "bad", 1)])["scores"]
    row = differences(scores).table.iloc[0]
    assert row["n"] == 3 and row["note"] == "1 of 5 folds failed; of “good”, 1 of 5 folds failed"
