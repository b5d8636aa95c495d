from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV

from torchstrata.errors import DataError
from torchstrata.plots import settings as draw_settings
from torchstrata.plots import tuning


@settings(max_examples=20)
@given(st.lists(st.floats(-5, 5) | st.just(float("nan")), min_size=1, max_size=20), st.booleans())
def test_the_best_so_far_is_that(values, greater):
    if np.isnan(values).all():
        with pytest.raises(DataError, match="No trial has a value"):
            tuning(pd.DataFrame({"value": values}))
        return
    best = tuning(pd.DataFrame({"value": values}), greater=greater).table["best"].tolist()
    for i, found in enumerate(best):
        seen = [v for v in values[: i + 1] if not np.isnan(v)]
        assert np.isnan(found) if not seen else found == (max if greater else min)(seen)


def test_searches_of_scikit_learn_are_drawn():
    search = GridSearchCV(DummyClassifier(), {"strategy": ["prior", "uniform"], "random_state": [0, 1]}, cv=2)
    search.fit(np.zeros((20, 1)), np.arange(20) % 2)
    table = tuning(search.cv_results_).table
    assert table["value"].tolist() == search.cv_results_["mean_test_score"].tolist()
    assert table["strategy"].tolist() == list(search.cv_results_["param_strategy"])
    names = [t.get_text() for t in draw_settings(search.cv_results_).axes[0].get_xticklabels()]
    assert sorted(n.replace("\n", "") for n in names) == ["random_state", "strategy"]


def test_each_search_counts_its_own_trials():
    table = tuning(pd.DataFrame({"label": list("aabb"), "value": [3.0, 1.0, 2.0, 5.0]})).table.sort_values("label")
    assert table["trial"].tolist() == [0, 1, 0, 1] and table["best"].tolist() == [3.0, 3.0, 2.0, 5.0]


def test_the_best_line_goes_through_its_settings():
    trials = pd.DataFrame({"lr": [0.001, 0.01, 0.1], "loss": ["aum", "ce", "aum"], "value": [0.5, 0.9, 0.7]})
    axis = draw_settings(trials).axes[0]
    (best,) = [line for line in axis.lines if line.get_label() == "the best"]
    assert list(best.get_ydata()) == pytest.approx([0.5, 1.0])  # lr on a logarithmic scale; "ce" after "aum"


def test_settings_refuse_what_does_not_vary():
    with pytest.raises(DataError, match="No setting varies"):
        draw_settings(pd.DataFrame({"lr": [1, 1], "value": [0.1, 0.2]}))
    with pytest.raises(DataError, match="Did you mean 'lr'"):
        draw_settings(pd.DataFrame({"lr": [1, 2], "value": [0.1, 0.2]}), columns=["lrr"])
    with pytest.raises(DataError, match="no column 'value'"):
        tuning(pd.DataFrame({"lr": [1]}))


def test_failed_trials_are_marked_at_the_foot():
    plot = tuning(pd.DataFrame({"value": [0.2, np.nan, 0.3]}))
    assert [list(line.get_xdata()) for line in plot.axes[0].lines if line.get_marker() == "x"] == [[1]]
    assert "a failed trial" in [t.get_text() for t in plot.figure.legends[0].get_texts()]
    plot.to_png()


def test_trials_that_missed_folds_are_hollow():
    plot = tuning(pd.DataFrame({"value": [0.5, 0.7], "note": ["", "1 of 3 folds failed"]}))
    assert "some folds failed" in [text.get_text() for text in plot.figure.legends[0].get_texts()]
    hollow = [line for line in plot.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert [line.get_ydata().tolist() for line in hollow] == [[0.7]]
