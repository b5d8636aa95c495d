"""network(): boxes, arrows, and the table behind them."""

from __future__ import annotations

import pandas as pd
import pytest

import torchstrata as ts
from torchstrata.errors import DataError

L = ts.layers


def graph():
    x = ts.Input("number")
    stem = L.Linear(8, name="stem")(x)
    hidden = L.Linear(8, name="hidden")(L.ReLU()(stem))
    return ts.Graph(L.Head()(L.Concat()(L.Add()(stem, hidden), L.Flatten()(ts.Input("image")))))


def summary():
    return graph().summary({"number": (5,), "image": (1, 4, 4)}, 2)


def test_a_layer_stands_below_all_that_it_reads():
    plot = ts.plots.network(summary())
    at = plot.table.set_index("layer")
    for name, inputs in at["inputs"].items():
        assert all(at.loc[source, "row"] < at.loc[name, "row"] for source in inputs.split(", ") if source)
    assert not at.duplicated(["row", "place"]).any()
    assert list(plot.table.columns) == [*summary().columns, "row", "place"]


def test_there_is_a_box_for_each_layer_and_an_arrow_for_each_reading():
    plot = ts.plots.network(summary())
    axis = plot.axes[0]
    assert len(axis.patches) == len(plot.table)
    wires = sum(len(inputs.split(", ")) for inputs in plot.table["inputs"] if inputs)
    texts = [text.get_text() for text in axis.texts]
    assert texts.count("") == wires
    assert {"stem: Linear", "ReLU", "(8,), 48 weights", "number: Input"} <= set(texts)


def test_boxes_and_their_texts_stay_inside():
    long = ts.Chain([L.Linear(8, name="a_very_long_name_that_says_everything_there_is_to_say"), L.Head()])
    plot = ts.plots.network(long.summary({"number": (5,)}, 2), width=3.5)
    plot.figure.draw_without_rendering()
    boxes = [patch.get_window_extent() for patch in plot.axes[0].patches]
    for text in plot.axes[0].texts:
        if text.get_text():
            extent = text.get_window_extent()
            assert any(b.x0 <= extent.x0 and extent.x1 <= b.x1 for b in boxes)
    assert any(text.get_text().endswith("…") for text in plot.axes[0].texts)


def test_the_same_table_gives_the_same_file(tmp_path):
    assert ts.plots.network(summary()).to_svg() == ts.plots.network(summary()).to_svg()
    assert ts.plots.network(summary(), height=2).save(tmp_path / "a.png").stat().st_size > 0


def test_what_is_no_summary_is_refused():
    with pytest.raises(DataError, match=r"lacks \['output_shape'\]"):
        ts.plots.network(summary().drop(columns="output_shape"))
    with pytest.raises(DataError, match="has no layer"):
        ts.plots.network(summary().head(0))
    with pytest.raises(DataError, match="'relu' reads 'stem', which is not above"):
        ts.plots.network(summary().query("layer != 'stem'"))
    assert isinstance(summary(), pd.DataFrame)
