from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from torchstrata.errors import DataError
from torchstrata.plots import confusion


def predictions(truth, predicted, **changes) -> pd.DataFrame:
    return pd.DataFrame({"task": "t", "learner": "a", "fold": 0, "truth": truth, "predicted": predicted} | changes)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("xyz")), min_size=1, max_size=30))
def test_counts_are_scikit_learns_and_shares_are_of_the_true_class(pairs):
    truth, predicted = zip(*pairs, strict=True)
    table = confusion(predictions(truth, predicted), classes=list("xyz")).table
    counts = table["count"].to_numpy().reshape(3, 3)
    assert (counts == confusion_matrix(truth, predicted, labels=list("xyz"))).all()
    sums = table.groupby("truth")["share"].sum(min_count=1)
    assert (np.isclose(sums, 1) | sums.isna()).all() and set(sums.index[sums.notna()]) == set(truth)


def test_folds_are_added_and_learners_have_a_panel_each(tables):
    plot = confusion(tables(tasks=("sonar", "spam"))["predictions"])
    assert len(plot.axes) == 10 and plot.table.groupby(["task", "label"])["count"].sum().eq(200).all()
    shown = [text.get_text() for text in plot.axes[0].texts]
    first = plot.table.iloc[0]
    assert shown[0] == f"{first['count']}\n{100 * first['share']:.0f} %"


def test_a_class_is_known_by_its_name_and_kept_in_order():
    table = confusion(predictions([1, 2, 10], ["1", "2", "10"])).table
    assert table["truth"].unique().tolist() == ["1", "10", "2"]  # of several types: sorted as text
    assert confusion(predictions([10, 2], [2, 2])).table["truth"].unique().tolist() == ["2", "10"]


def test_a_failed_prediction_counts_nowhere():
    assert confusion(predictions(["a", "b"], ["a", None])).table["count"].sum() == 1


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="class 'b', which is not among"):
        confusion(predictions(["a", "b"], ["a", "a"]), classes={"t": ["a"]})
    with pytest.raises(DataError, match="101 classes"):
        confusion(predictions(range(101), range(101)))
    with pytest.raises(DataError, match="no row"):
        confusion(predictions([], []))


def test_many_classes_are_drawn_without_numbers():
    plot = confusion(predictions([f"c{i:02d}" for i in range(60)], ["c00"] * 60))
    assert not plot.axes[0].texts and len(plot.table) == 3600


def test_folds_that_are_missing_are_told(tables):
    plot = confusion(tables(fail=[("sonar", "linear", 1)])["predictions"])
    notes = plot.table.drop_duplicates("label").set_index("label")["note"]
    assert notes["linear"] == "1 of 5 folds left out" and (notes.drop("linear") == "").all()
    assert "1 of 5 folds left out" in [" ".join(t.get_text().split()) for axis in plot.axes for t in axis.texts]
