from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from torchstrata.errors import ConfigError, DataError
from torchstrata.plots import scores
from torchstrata.plots.measures import interval

GRID = {"mlp": {"loss": ["aum", "ce"], "optimizer__lr": [0.001, 0.01, 0.1]}}


def labels(axis) -> list[str]:
    return [text.get_text() for text in axis.get_yticklabels()]


def test_the_table_holds_what_is_drawn(tables):
    table = tables(tasks=("sonar", "spam"))["scores"]
    plot = scores(table, ratio={"sonar": 0.25, "spam": 0.5})
    rows = table[(table["task"] == "spam") & (table["learner"] == "linear") & (table["measure"] == "roc_auc")]
    found = plot.table.query("task == 'spam' and label == 'linear'").iloc[0]
    assert tuple(found[["mean", "std", "n", "low", "high"]]) == pytest.approx(
        interval(rows["value"], ratio=0.5, limits=(0, 1))
    )
    assert found["values"] == tuple(rows["value"])


def test_one_panel_a_task_best_on_top(tables):
    plot = scores(tables(tasks=("zeta", "alpha"))["scores"])
    assert [axis.get_title(loc="left") for axis in plot.axes] == ["zeta", "alpha"]
    for axis, task in zip(plot.axes, ["zeta", "alpha"], strict=True):
        means = plot.table[plot.table["task"] == task]
        assert labels(axis) == list(means.sort_values("mean", ascending=False)["label"])
        assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first label is on top


def test_costs_have_the_smallest_on_top(tables):
    plot = scores(tables()["scores"], measure="fit_seconds")
    assert labels(plot.axes[0])[0] == "dummy" and plot.table["mean"].is_monotonic_increasing


def test_every_fold_and_interval_is_drawn(tables):
    plot = scores(tables(learners={"a": 1.0}, folds=4)["scores"])
    dots, bar, mean = plot.axes[0].lines[-3:]
    row = plot.table.iloc[0]
    assert list(dots.get_xdata()) == list(row["values"])
    assert list(bar.get_xdata()) == [row["low"], row["high"]] and list(mean.get_xdata()) == [row["mean"]]


def test_failed_folds_are_named_at_the_learner(tables):
    fail = [("sonar", "linear", 1)] + [("sonar", "boosting", k) for k in range(5)]
    plot = scores(tables(fail=fail)["scores"])
    assert labels(plot.axes[0])[-1] == "boosting\n(5 of 5 folds failed)"  # without any score: last
    assert "linear\n(1 of 5 folds failed)" in labels(plot.axes[0])
    plot.to_png()


def test_a_color_column_lies_within_the_row(tables):
    plot = scores(tables(learners={"mlp": 1, "dummy": 0}, grid=GRID)["scores"], color="loss")
    assert set(plot.table["label"]) == {"mlp, lr=0.001", "mlp, lr=0.01", "mlp, lr=0.1", "dummy"}
    assert [t.get_text() for t in plot.figure.legends[0].get_texts()] == ["aum", "ce", "not set"]


def test_x_of_numbers_over_decades_is_logarithmic(tables):
    plot = scores(tables(learners={"mlp": 1, "dummy": 0}, grid=GRID)["scores"], x="optimizer__lr", color="loss")
    axis = plot.axes[0]
    assert axis.get_xscale() == "log" and axis.get_xlabel() == "optimizer__lr"
    drawn = [line for line in axis.lines if len(line.get_xdata()) == 3]
    assert len(drawn) == 2
    assert drawn[0].get_xdata() == pytest.approx([0.001, 0.01, 0.1], rel=0.1)
    assert [t.get_text() for t in axis.texts] == ["dummy"]  # the baseline has no x: a line across
    plot.figure.draw_without_rendering()
    assert {t.get_text() for t in axis.get_xticklabels()} >= {"0.001", "0.01", "0.1"}


def test_x_of_names_and_several_learners_get_a_panel_each(tables):
    grid = dict.fromkeys(("mlp", "linear"), GRID["mlp"])
    plot = scores(tables(learners={"mlp": 1, "linear": 1}, grid=grid)["scores"], x="loss", color="optimizer__lr")
    assert {axis.get_title(loc="left") for axis in plot.axes} == {"sonar: mlp", "sonar: linear"}
    assert [t.get_text() for t in plot.axes[0].get_xticklabels()] == ["aum", "ce"]


@pytest.mark.parametrize("width", [3.5, 7])
def test_many_long_names_are_not_cut_off_nor_overlap(tables, width):
    many = {f"a learner with quite a long name, number {i}": 0.1 * i for i in range(12)}
    plot = scores(tables(learners=many, folds=3, epochs=2)["scores"], width=width)
    plot.figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in plot.axes[0].get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0 and max(box.x1 for box in boxes) < plot.figure.bbox.width * 0.6
    assert all(above.y0 >= below.y1 - 1 for above, below in itertools.pairwise(boxes))
    assert len({t.get_text() for t in plot.axes[0].get_yticklabels()}) == 12


def test_names_are_text_and_no_formula(tables):
    scores(tables(learners={"a$b$": 1.0, "_c": 0.5, "$": 0.1}, folds=2, epochs=2)["scores"]).to_svg()


def test_a_single_fold_is_drawn_without_interval(tables):
    plot = scores(tables(learners={"a": 1.0}, folds=5)["scores"].query("fold == 0"))
    assert np.isnan(plot.table["low"]).all()
    plot.to_png()


def test_errors_name_what_is_wrong(tables):
    table = tables(learners={"mlp": 1.0}, grid=GRID, folds=2, epochs=2)["scores"]
    with pytest.raises(ConfigError, match=r"No grid column 'los'. Did you mean 'loss'"):
        scores(table, color="los")
    with pytest.raises(ConfigError, match=r"Unknown measure 'auc'.*'roc_auc'"):
        scores(table, measure="auc")
    with pytest.raises(DataError, match="scores has no column 'task'"):
        scores(pd.DataFrame())


def test_points_along_x_that_missed_folds_are_hollow(tables):
    made = tables(learners={"mlp": 1.0}, grid={"mlp": {"width": [8, 16]}})["scores"]
    made.loc[(made["width"] == 16) & (made["fold"] == 1), "value"] = np.nan
    plot = scores(made, measure="roc_auc", x="width")
    assert "some folds failed" in [text.get_text() for text in plot.figure.legends[0].get_texts()]
    hollow = [line for line in plot.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata().tolist() for line in hollow] == [[16.0]]


def test_notes_are_broken_like_names(tables):
    made = tables(fail=[("sonar", "linear", 1)])["scores"]
    names = [text.get_text() for text in scores(made, width=3.35).axes[0].get_yticklabels()]
    assert max(len(line) for name in names for line in name.split("\n")) <= 20
