from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from torchstrata.errors import ConfigError, DataError
from torchstrata.plots import calibration


def predictions(p, hit, **changes) -> pd.DataFrame:
    p = np.asarray(p, dtype=float)
    truth = np.where(hit, "R", "M")
    told = {"truth": truth, "predicted": np.where(p > 0.5, "R", "M"), "prob_M": 1 - p, "prob_R": p}
    return pd.DataFrame({"task": "t", "learner": "a", "fold": 0, **told} | changes)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=40), st.integers(2, 12))
def test_one_fold_gives_scikit_learns_curve_in_the_right_bins(pairs, bins):
    p, hit = map(np.array, zip(*pairs, strict=True))
    table = calibration(predictions(p, hit), positive="R", bins=bins).table
    observed, predicted = calibration_curve(hit, p, n_bins=bins, pos_label=True)
    assert table["observed"].tolist() == pytest.approx(observed.tolist())
    assert table["predicted"].tolist() == pytest.approx(predicted.tolist())
    assert table["rows"].sum() == len(p) and table["bin"].is_unique
    assert ((table["left"] - 1e-9 <= table["predicted"]) & (table["predicted"] <= table["right"] + 1e-9)).all()
    assert table["low"].isna().all()  # one fold has no interval


def test_bins_are_averaged_over_the_folds_that_fill_them():
    both = pd.concat([predictions([0.05, 0.95], [0, 1]), predictions([0.05, 0.06], [1, 1], fold=1)])
    table = calibration(both, positive={"t": "R"}).table.set_index("bin")
    assert table["n"].to_dict() == {0: 2, 9: 1} and table["observed"].to_dict() == {0: 0.5, 9: 1.0}
    assert table["low"][0] == 0 and table["high"][0] == 1 and table["rows"].to_dict() == {0: 3, 9: 1}


def test_the_brier_score_is_the_mean_over_folds(tables):
    made = tables()["predictions"]
    found = calibration(made, positive="R").table.groupby("label")["brier"].first()
    for learner, rows in made.groupby("learner"):
        each = [brier_score_loss(f["truth"] == "R", f["prob_R"], pos_label=True) for _, f in rows.groupby("fold")]
        assert found[learner] == pytest.approx(np.mean(each))


def test_of_several_classes_it_is_the_predicted_one():
    told = {"truth": list("abca"), "predicted": list("abbc"), "prob_a": [0.8, 0.1, 0.2, 0.1],
            "prob_b": [0.1, 0.7, 0.55, 0.3], "prob_c": [0.1, 0.2, 0.25, 0.6]}  # fmt: skip
    table = calibration(pd.DataFrame({"task": "t", "learner": "l", "fold": 0, **told}), bins=2).table
    assert table[["predicted", "observed", "rows"]].to_numpy().ravel().tolist() == pytest.approx([0.6625, 0.5, 4])


def test_what_cannot_be_drawn_is_refused(tables):
    with pytest.raises(DataError, match="no probability of 'X'"):
        calibration(tables()["predictions"], positive="X")
    with pytest.raises(DataError, match="No prediction has a probability"):
        calibration(tables()["predictions"].drop(columns=["prob_R", "prob_M"]))
    with pytest.raises(ConfigError, match="at least 2"):
        calibration(tables()["predictions"], bins=1)


def test_of_several_classes_the_brier_score_is_scikit_learns(tables):
    rng = np.random.default_rng(0)
    proba, truth = rng.dirichlet([1, 1, 1], 60), rng.integers(0, 3, 60)
    table = pd.DataFrame(proba, columns=["prob_0", "prob_1", "prob_2"])
    table = table.assign(task="t", learner="a", fold=np.arange(60) % 2, truth=truth, predicted=proba.argmax(axis=1))
    expected = np.mean([brier_score_loss(truth[f], proba[f]) for f in (table["fold"] == 0, table["fold"] == 1)])
    assert calibration(table).table["brier"].iloc[0] == pytest.approx(expected)


def test_folds_that_are_missing_or_a_fallbacks_are_told(tables):
    table = tables(fail=[("sonar", "linear", 1)])["predictions"]
    notes = calibration(table).table.drop_duplicates("label").set_index("label")["note"]
    assert notes["linear"] == "1 of 5 folds left out" and notes["dummy"] == ""
    marked = table.assign(folds=5, filled=(table["learner"] == "dummy") & (table["fold"] < 2))
    plot = calibration(marked)
    notes = plot.table.drop_duplicates("label").set_index("label")["note"]
    assert notes["dummy"] == "2 of 5 folds filled by fallback"
    shown = " ".join(text.get_text() for axis in plot.axes for text in axis.texts)
    assert "filled by fallback" in " ".join(shown.split())
