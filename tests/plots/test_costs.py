from __future__ import annotations

import pandas as pd
import pytest

from torchstrata.errors import ConfigError
from torchstrata.plots import cost


def scores(**learners: tuple[float, float]) -> pd.DataFrame:
    rows = [("t", n, k, m, v) for n, both in learners.items() for k in (0, 1)
            for m, v in zip(("roc_auc", "fit_seconds"), both, strict=True)]  # fmt: skip
    return pd.DataFrame(rows, columns=["task", "learner", "fold", "measure", "value"])


def test_the_front_holds_those_that_no_other_beats_in_both():
    table = cost(scores(a=(0.9, 5.0), b=(0.8, 1.0), c=(0.7, 2.0), d=(0.95, 50.0), e=(0.9, 6.0))).table
    assert set(table.loc[table["front"], "label"]) == {"a", "b", "d"}


def test_equals_share_the_front():
    assert cost(scores(a=(0.9, 5.0), b=(0.9, 5.0))).table["front"].all()


def test_costs_are_means_over_folds_and_a_panel_each(tables):
    made = tables()["scores"]
    plot = cost(made)
    assert [axis.get_xlabel() for axis in plot.axes] == ["seconds of a fit", "epochs of a fit"]
    spent = plot.table.set_index(["cost", "label"])["spent"]
    rows = made[(made["measure"] == "fit_seconds") & (made["learner"] == "linear")]
    assert spent["fit_seconds", "linear"] == pytest.approx(rows["value"].mean())
    assert set(spent["epochs"].index) == {"mlp, stratified", "mlp, random"}  # others have no epochs
    assert plot.axes[0].get_ylim() == plot.axes[1].get_ylim()


def test_ten_times_the_cost_makes_the_axis_logarithmic():
    assert cost(scores(a=(0.9, 0.1), b=(0.8, 5.0))).axes[0].get_xscale() == "log"
    assert cost(scores(a=(0.9, 1.0), b=(0.8, 5.0))).axes[0].get_xscale() == "linear"


def test_wrong_names_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'fit_seconds'"):
        cost(scores(a=(0.9, 0.1)), costs=["fit_second"])
    with pytest.raises(ConfigError, match="is a cost"):
        cost(scores(a=(0.9, 0.1)), measure="fit_seconds")
    with pytest.raises(ConfigError, match="No learner has 'epochs'"):
        cost(scores(a=(0.9, 0.1)), costs=["epochs"])


def test_a_mean_over_some_folds_says_so(tables):
    plot = cost(tables(fail=[("sonar", "linear", 1)])["scores"])
    assert set(plot.table.query("label == 'linear'")["note"]) == {"1 of 5 folds failed"}
    assert "linear (1 of 5 folds failed)" in [text.get_text() for text in plot.figure.legends[0].get_texts()]
