from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchstrata.errors import DataError
from torchstrata.plots import critical_difference


def ranks(values, groups=None, names=None) -> pd.DataFrame:
    n = len(values)
    return pd.DataFrame({"learner": names or [f"l{i}" for i in range(n)], "rank": values, "groups": groups or [()] * n})


def bars(plot) -> list[tuple[float, float]]:
    return [tuple(line.get_xdata()) for line in plot.axes[0].lines if line.get_linewidth() == 2.6]


def test_learners_are_sorted_and_a_bar_joins_each_group():
    plot = critical_difference(ranks([3.0, 1.5, 2.0, 3.5], [(2,), (1,), (1, 2), (3,)]))
    assert plot.table["learner"].tolist() == ["l1", "l2", "l0", "l3"]
    assert len(bars(plot)) == 2  # of the third group there is one learner alone
    texts = [t.get_text() for t in plot.axes[0].texts]
    assert "l1 (1.50)" in texts and "l3 (3.50)" in texts


def test_groups_may_be_text_and_a_difference_is_drawn():
    table = ranks([1.0, 2.0, 3.0], ["1", "1, 2", "2"]).assign(critical_difference=1.2, n_tasks=9)
    plot = critical_difference(table)
    texts = [t.get_text() for t in plot.axes[0].texts]
    assert len(bars(plot)) == 2 and "critical difference 1.20" in texts and "mean rank,\n9 tasks" in texts


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 24), st.sampled_from([3.35, 7.0]), st.integers(1, 60))
def test_all_names_lie_inside_the_picture(n, width, letters):
    names = [("name " * 20)[:letters].strip() + f" {i}" for i in range(n)]
    plot = critical_difference(ranks([1 + i * (n - 1) / n for i in range(n)], [(1,)] * n, names), width=width)
    plot.figure.draw_without_rendering()
    edge = plot.figure.bbox
    for text in plot.axes[0].texts:
        box = text.get_window_extent()
        assert edge.x0 - 2 <= box.x0 and box.x1 <= edge.x1 + 2 and edge.y0 - 2 <= box.y0 and box.y1 <= edge.y1 + 2


@pytest.mark.parametrize("values", [[1.0], [0.5, 2.0], [1.0, 2.5], [1.0, float("nan")]])
def test_impossible_ranks_are_refused(values):
    with pytest.raises(DataError, match="expected at least two"):
        critical_difference(ranks(values))


def test_ranks_with_scores_of_a_fallback_say_so():
    table = pd.DataFrame({"learner": ["a", "b", "c"], "rank": [1.0, 2.0, 3.0], "groups": [()] * 3, "filled": [0, 2, 1]})
    told = [" ".join(text.get_text().split()) for text in critical_difference(table).axes[0].texts]
    assert {"a (1.00)", "b (2.00; fallback on 2 tasks)", "c (3.00; fallback on 1 task)"} <= set(told)
