from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from torchstrata.errors import DataError
from torchstrata.plots import precision_recall, roc


def predictions(score, truth=(0, 0, 1, 1), **changes) -> pd.DataFrame:
    return pd.DataFrame({"task": "t", "learner": "a", "fold": 0, "truth": truth, "score": score} | changes)


def test_a_perfect_ranking_goes_through_the_corner():
    table = roc(predictions([-5.0, -1.0, 3.0, 40.0])).table
    assert (table["tpr"] == 1).all() and (table["auc"] == 1).all()


def test_constant_scores_lie_on_the_diagonal():
    table = roc(predictions([0.3] * 4)).table
    assert table["tpr"].tolist() == pytest.approx(table["fpr"].tolist()) and (table["auc"] == 0.5).all()


def test_areas_are_those_of_each_fold_and_never_mixed(tables):
    table = tables()["predictions"]
    # another scale in every fold: the areas of the folds stay, the area of all mixed would not
    table["score"] = table["score"] * 10.0 ** table["fold"] + table["fold"]
    found = roc(table, positive="R").table.groupby("label")["auc"].first()
    for learner, rows in table.groupby("learner"):
        each = [roc_auc_score(f["truth"] == "R", f["score"]) for _, f in rows.groupby("fold")]
        assert found[learner] == pytest.approx(np.mean(each))


def test_the_mean_is_vertical():
    both = pd.concat([predictions([1, 2, 3, 4]), predictions([4, 3, 2, 1], fold=1)])
    table = roc(both).table
    assert table.loc[table["fpr"] == 0.25, "tpr"].item() == 0.5
    assert table.loc[table["fpr"] == 1.0, "tpr"].item() == 1.0
    assert table["low"].between(0, 1).all() and (table["low"] <= table["tpr"]).all()


def test_the_positive_class_is_found_by_its_name():
    text = predictions([1, 2, 3, 4], truth=["n", "n", "y", "y"])
    assert roc(text, positive={"t": "y"}).table["auc"][0] == 1 and roc(text, positive="n").table["auc"][0] == 0
    assert roc(predictions([1, 2, 3, 4], truth=[7, 7, 8, 8]), positive="8").table["auc"][0] == 1
    with pytest.raises(DataError, match="Which class is positive"):
        roc(text)
    with pytest.raises(DataError, match="No fold has finite scores and both classes"):
        roc(text, positive="typo")


def test_folds_that_cannot_be_drawn_are_counted(tables):
    table = tables(fail=[("sonar", "linear", 1)])["predictions"]
    table.loc[(table["learner"] == "dummy") & (table["fold"] == 0), "score"] = np.nan
    found = roc(table, positive="R").table.groupby("label")[["n", "folds"]].first()
    assert found.loc[["linear", "dummy", "boosting"]].to_numpy().tolist() == [[4, 5], [4, 5], [5, 5]]
    one_class = pd.concat([predictions([1, 2, 3, 4]), predictions([1, 2, 3, 4], truth=[0] * 4, fold=1)])
    plot = roc(one_class)
    assert (plot.table["n"] == 1).all()
    assert "1 of 2 folds left out" in plot.axes[0].get_legend().get_texts()[0].get_text()


def test_no_scores_is_an_error():
    with pytest.raises(DataError, match="No prediction has a score"):
        roc(predictions([np.nan] * 4))


def test_legends_hold_the_area_with_its_interval(tables):
    two = tables(learners={"_a": 1.5, "b$": 1.0})["predictions"]
    plot = roc(two, positive="R", ratio={"sonar": 0.25})
    first = plot.table.iloc[0]
    text = plot.axes[0].get_legend().get_texts()[0].get_text()
    assert f"{first['auc']:.3f} [{first['auc_low']:.3f},\u00a0{first['auc_high']:.3f}]" in text
    assert len(plot.axes[0].get_legend().get_texts()) == 2


def test_many_learners_get_a_panel_each_with_titles_inside_the_picture(tables):
    many = {f"learner number {i} with a long name": 0.2 * i for i in range(10)}
    plot = roc(tables(learners=many, folds=3, epochs=2)["predictions"], positive="R")
    assert len(plot.axes) == 10 and plot.axes[0].get_xlim() == plot.axes[9].get_xlim()
    plot.figure.draw_without_rendering()
    for axis in plot.axes:
        box = axis.get_tightbbox()
        assert box.y1 <= plot.figure.bbox.height + 1 and box.x1 <= plot.figure.bbox.width + 1


def test_average_precision_is_the_area_under_the_drawn_steps(tables):
    table = tables()["predictions"]
    one = table[(table["fold"] == 0) & (table["learner"] == "linear")]
    drawn = precision_recall(one, positive="R").table
    assert drawn["ap"][0] == pytest.approx(average_precision_score(one["truth"] == "R", one["score"]))
    assert drawn["precision"].mean() == pytest.approx(drawn["ap"][0], abs=0.01)  # 200 steps, 6 positives


@pytest.mark.parametrize("score", [[1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1], [1, 3, 2, 4]])
def test_precision_at_a_recall_is_that_of_the_highest_threshold_that_reaches_it(score):
    drawn = precision_recall(predictions(score)).table.set_index("recall")["precision"]
    truth = np.array([0, 0, 1, 1])
    for recall in (0.5, 1.0):
        chosen = [np.array(score) >= cut for cut in sorted(set(score), reverse=True)]
        reach = next(c for c in chosen if truth[c].sum() >= 2 * recall)
        assert drawn[recall] == pytest.approx(truth[reach].mean())


def test_scores_without_information_have_the_share_of_positives(tables):
    table = precision_recall(tables()["predictions"], positive="R").table
    dummy = table[table["label"] == "dummy"]
    assert dummy["precision"].tolist() == pytest.approx(dummy["positives"].tolist())
