"""network(): boxes, arrows, and the table behind them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

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


def boxes_of(axis):
    return [patch for patch in axis.patches if isinstance(patch, FancyBboxPatch)]


def arrows_of(axis):
    return [patch for patch in axis.patches if isinstance(patch, FancyArrowPatch)]


def wired(reads):
    """A summary in which layer i reads those that are listed; each of them comes before it."""
    names = [f"n{i}" for i in range(len(reads))]
    inputs = [", ".join(names[j] for j in sorted(each)) for each in reads]
    return pd.DataFrame(
        {"layer": names, "kind": "Add", "inputs": inputs, "output_shape": "(8,)", "parameters": range(len(reads))}
    )


GRAPHS = st.integers(1, 14).flatmap(
    lambda n: st.tuples(*[st.sets(st.integers(0, i - 1), max_size=3) if i else st.just(set()) for i in range(n)])
)


@pytest.mark.timeout(120)
@settings(max_examples=25, deadline=None)
@given(GRAPHS)
def test_no_wire_passes_behind_a_box_and_no_box_behind_another(reads):
    plot = ts.plots.network(wired(reads))
    axis, at = plot.axes[0], plot.table.set_index("layer")
    for _, row in at.groupby("row"):
        assert (row["place"].sort_values().diff().dropna() > 1 - 1e-3).all()
    boxes = {name: patch.get_bbox() for name, patch in zip(at.index, boxes_of(axis), strict=True)}
    ends = [(source, name) for name, inputs in at["inputs"].items() for source in inputs.split(", ") if source]
    for (source, name), arrow in zip(ends, arrows_of(axis), strict=True):
        line = arrow._path_original.interpolated(1).to_polygons(closed_only=False)[0]
        x, y = (np.interp(np.linspace(0, len(line) - 1, 400), range(len(line)), part) for part in line.T)
        assert boxes[source].contains(x[0], y[0] - 0.01) and boxes[name].contains(x[-1], y[-1] + 0.01)
        for other, box in boxes.items():
            inside = (box.x0 - 0.02 < x) & (x < box.x1 + 0.02) & (box.y0 + 1e-6 < y) & (y < box.y1 - 1e-6)
            assert not inside.any(), (source, name, other)
    for box in boxes.values():
        assert axis.get_xlim()[0] <= box.x0 and box.x1 <= axis.get_xlim()[1]


def test_a_line_is_straight_and_branches_lie_on_both_sides_of_what_joins_them():
    block = wired([set(), {0}, {1}, {2}, {0, 3}, {4}])
    assert not ts.plots.network(block).table["place"].any()  # what is skipped is not moved aside
    assert ts.plots.network(block).figure.get_figwidth() < 3
    fork = ts.plots.network(wired([set(), set(), {0}, {1}, {2}, {3, 4}, {5}])).table["place"].tolist()
    left, right = fork[0], fork[1]
    assert fork == [left, right, left, right, left, 0, 0] and left == -right


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
    wires = sum(len(inputs.split(", ")) for inputs in plot.table["inputs"] if inputs)
    assert len(boxes_of(axis)) == len(plot.table) and len(arrows_of(axis)) == wires
    texts = [text.get_text() for text in axis.texts]
    assert {"stem: Linear", "ReLU", "(8,), 48 weights", "number: Input"} <= set(texts)


def test_boxes_and_their_texts_stay_inside():
    long = ts.Chain([L.Linear(8, name="a_very_long_name_that_says_everything_there_is_to_say"), L.Head()])
    plot = ts.plots.network(long.summary({"number": (5,)}, 2), width=3.5)
    plot.figure.draw_without_rendering()
    boxes = [patch.get_window_extent() for patch in boxes_of(plot.axes[0])]
    for text in plot.axes[0].texts:
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
