from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from torchstrata.errors import DataError
from torchstrata.plots import composition, style


def batches(n=12, **columns) -> pd.DataFrame:
    table = pd.DataFrame({"M": [9] * n, "R": [1] * n} | columns)
    return table.assign(batch_size=table.sum(axis="columns"))


def test_the_smallest_stratum_lies_at_the_bottom_in_its_colour():
    plot = composition(batches())
    assert list(plot.table.columns) == ["R", "M"]
    bars = plot.axes[0].patches
    assert [bar.get_y() for bar in bars[:12]] == [0] * 12 and [bar.get_height() for bar in bars[:12]] == [1] * 12
    assert [bar.get_y() for bar in bars[12:]] == [1] * 12
    assert to_hex(bars[0].get_facecolor()) == style.PALETTE[1].lower()


def test_one_of_ten_is_written_in_its_bar():
    plot = composition(batches())
    assert [t.get_text() for t in plot.axes[0].texts] == ["1"] * 12 + ["9"] * 12


def test_nothing_is_written_where_there_is_no_room():
    assert not composition(batches(200)).axes[0].texts
    texts = [t.get_text() for t in composition(batches(M=[500] * 12)).axes[0].texts]
    assert texts == ["500"] * 12


def test_texts_stay_inside_their_bars():
    plot = composition(batches(5, x=[3, 0, 20, 1, 7]), width=3.5)
    plot.figure.draw_without_rendering()
    boxes = [bar.get_window_extent() for bar in plot.axes[0].patches]
    for text in plot.axes[0].texts:
        center = text.get_window_extent()
        assert any(
            b.x0 <= center.x0 and center.x1 <= b.x1 and b.y0 - 2 <= center.y0 and center.y1 <= b.y1 + 2 for b in boxes
        )


def test_legend_counts_rows_and_crossed_strata_have_names():
    table = pd.DataFrame([[1, 20]], columns=pd.MultiIndex.from_tuples([("R", "f"), ("M", "m")]))
    plot = composition(table)
    assert [t.get_text() for t in plot.figure.legends[0].get_texts()] == ["R, f (1 row)", "M, m (20 rows)"]


def test_many_strata_have_as_many_colours():
    plot = composition(pd.DataFrame([list(range(1, 21))], columns=[f"s{i}" for i in range(20)]))
    assert len({to_hex(bar.get_facecolor()) for bar in plot.axes[0].patches}) == 20


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (pd.DataFrame(), "no batch or no stratum"),
        (pd.DataFrame({"batch_size": [3]}), "no batch or no stratum"),
        (batches(2, R=[1, -1]), "negative or missing"),
        (batches(2, R=[1, np.nan]), "negative or missing"),
    ],
)
def test_impossible_tables_are_refused(table, match):
    with pytest.raises(DataError, match=match):
        composition(table)
