"""Columns of arrays: what is one, tables of named arrays, tokens, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchstrata as ts
from torchstrata.data.arrays import clean_arrays, fit_arrays, holds_arrays, is_several, table_of, transform_arrays


def column(*cells, name="x"):
    out = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        out[i] = cell
    return pd.Series(out, name=name)


def clean(*cells):
    return clean_arrays(column(*cells), where="X", row_ids=np.arange(len(cells)))


def roundtrip(train, test=None):
    learnt = fit_arrays(train)
    return learnt, transform_arrays(train if test is None else test, learnt)


def test_what_holds_arrays():
    assert holds_arrays(column(np.ones(2))) and holds_arrays(column(None, torch.ones(2)))
    assert not any(map(holds_arrays, [column([1]), column("a"), pd.Series([1.0]), column(), column(np.array(1.0))]))


def test_cells_become_arrays_of_one_kind():
    same = column(np.ones(2), np.zeros(3))
    assert clean_arrays(same, where="X", row_ids=np.arange(2)) is same
    made = clean(torch.ones(2, requires_grad=True), np.array([1, 2, 3]), np.array([True]))
    assert [cell.tolist() for cell in made] == [[1.0, 1.0], [1.0, 2.0, 3.0], [1.0]]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ((np.ones(2), None), "row 1 is None; only the first size"),
        ((np.ones(2), [1.0]), r"row 1 is \[1.0\]"),
        ((np.ones((2, 3)), np.ones((2, 4))), r"of shape \(any, 3\), and row 1 is one of shape \(2, 4\)"),
        ((np.ones(2), np.ones((2, 1))), r"row 1 is one of shape \(2, 1\)"),
        ((np.array(["a"]), np.ones(1)), "arrays of text"),
        ((np.array([1j]), np.array([2j])), "complex128; make them numbers or text"),
    ],
)
def test_cells_that_do_not_fit_are_named(cells, message):
    with pytest.raises(ts.DataError, match=message):
        clean(*cells)


def test_one_shape_is_stacked_and_unequal_lengths_are_not():
    learnt, stacked = roundtrip(column(np.ones((2, 3)), np.zeros((2, 3))))
    assert learnt.row_shape == (2, 3) and stacked.shape == (2, 2, 3)
    learnt, ragged = roundtrip(column(np.ones((2, 3)), np.zeros((0, 3)), np.full((1, 3), 2.0)))
    assert learnt.row_shape == (None, 3) and ragged.lengths.tolist() == [2, 0, 1]
    assert ragged.values[:, 0].tolist() == [1, 1, 2]
    learnt, ragged = roundtrip(column(np.ones(2), np.zeros(3)))
    assert learnt.row_shape == (None, 1) and ragged.values.shape == (5, 1)
    assert fit_arrays(column(np.ones(2), np.zeros(2)), ragged=True).row_shape == (None, 1)


@given(st.lists(st.lists(st.integers(-5, 300), max_size=6), min_size=1, max_size=8), st.booleans())
def test_tokens_are_numbered_as_categories_are(rows, as_text):
    cells = [np.array(row, dtype=np.int64) for row in rows]
    if not any(map(len, cells)):
        with pytest.raises(ts.DataError, match="no step"):
            fit_arrays(column(*cells))
        return
    made = [cell.astype(str) if as_text else cell for cell in cells]
    learnt, ragged = roundtrip(column(*made))
    values = np.concatenate(made)
    assert learnt.n_levels == len(set(values.tolist())) + 1 and ragged.values.min() >= 1
    assert [learnt.levels[i - 1] for i in ragged.values] == values.tolist()
    unknown = np.array(["new", str(values[0])]) if as_text else np.array([1000, values[0]])
    assert transform_arrays(column(unknown), learnt).values.tolist() == [0, ragged.values[0]]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (np.ones(3), np.ones(4), r"length 4 \(row 0\), and all had length 3 at fit.*ts.Encoder\(sequences=\('x',\)"),
        (np.ones((3, 2)), np.ones((3, 1)), r"shape \(any, 1\); at fit \(any, 2\)"),
        (np.array([1, 2]), np.array(["a"]), r"tokens \(whole numbers\) at fit and holds text"),
        (np.array([1, 2]), np.array([0.5]), "holds numbers now"),
        (np.ones(2), np.array(["a", "b"]), "held numbers at fit and holds text"),
        (np.ones((2, 2), np.uint8), np.ones((2, 2)), "held bytes at fit, taken divided by 255"),
        (np.ones(3), np.array([1, np.nan, 1]), r"NaN.*column 'x' \(row 0\)"),
        (np.ones(3), np.array([1, 1e300, 1]), "too large for float32"),
    ],
)
def test_what_is_another_at_predict_is_refused(train, test, message):
    with pytest.raises(ts.DataError, match=message):
        transform_arrays(column(test), fit_arrays(column(train, train)))


def test_the_row_of_a_ragged_column_is_named():
    cells = column(np.ones((2, 1)), np.ones((0, 1)), np.array([[1.0], [np.inf]]))
    with pytest.raises(ts.DataError, match=r"\(row 2\)"):
        roundtrip(cells)


@pytest.mark.parametrize("name", ["number", "category", "a_lengths"])
def test_names_with_a_meaning_are_refused(name):
    with pytest.raises(ts.DataError, match="rename it"):
        fit_arrays(column(np.ones(2), name=name))


def test_a_table_of_named_arrays():
    frame = table_of(
        {
            "number": np.arange(6.0).reshape(3, 2),
            "category": np.array([["a", "b"], ["c", "b"], ["a", "d"]]),
            "city": ["x", "y", "x"],
            "image": torch.zeros(3, 1, 2, 2),
            "text": [np.array([1, 2]), np.array([3]), np.array([], dtype=int)],
            "more": pd.DataFrame({"age": [1, 2, 3]}, index=[7, 8, 9]),
        },
        where="X",
    )
    columns = ["number_0", "number_1", "category_0", "category_1", "city", "image", "text", "age"]
    assert list(frame) == columns and list(frame.index) == [0, 1, 2]
    shapes = ts.Encoder().fit(frame).shapes_
    assert dict(shapes) == {"number": (3,), "category": (3,), "image": (1, 2, 2), "text": (None,)}
    assert shapes.sequences == {"text": 4} and shapes.levels == (3, 3, 3)


def test_tables_that_cannot_be():
    with pytest.raises(ts.DataError, match=r"different numbers of rows: \{'a': 3, 'b': 2\}"):
        table_of({"a": np.ones((3, 1, 1)), "b": np.ones((2, 1, 1))}, where="X")
    with pytest.raises(ts.DataError, match="two columns are called 'b'"):
        table_of({"a": pd.DataFrame({"b": [1]}), "b": [1]}, where="X")
    with pytest.raises(ts.DataError, match="first dimension is the row"):
        table_of({"a": 3, "b": np.ones((1, 2))}, where="X")
    assert is_several({"a": np.ones((2, 2))}) and is_several({"a": [np.ones(2)]})
    assert not is_several({"a": np.ones(2), "b": [1, 2]}) and not is_several([np.ones((2, 2))])


def test_arrays_in_a_task():
    images = [np.full((2, 2), i, np.float32) for i in range(6)]
    frame = pd.DataFrame({"image": images, "a": np.arange(6.0), "y": ["p", "q"] * 3})
    task = ts.Task(frame, target="y")
    assert "1 array" in repr(task) and task.describe()["features: arrays"] == 1
    assert task.rows([4, 1]).X["image"].iloc[0][0, 0] == 4
    other = ts.Task(frame.assign(image=[*images[:5], images[0]]), target="y")
    assert task.fingerprint() == ts.Task(frame.copy(), target="y").fingerprint() != other.fingerprint()
    with pytest.raises(ts.DataError, match="stratum 'image' holds arrays, which can be features only"):
        ts.Task(frame, target="y", stratum="image")


def test_a_column_named_as_sequence_must_be_one():
    frame = pd.DataFrame({"a": [1.0, 2.0], "s": [np.ones(2), np.zeros(2)]})
    assert ts.Encoder(sequences=("s",)).fit(frame).shapes_.sequences == {"s": 0}
    with pytest.raises(ts.ConfigError, match="sequences names 'a'"):
        ts.Encoder(sequences=("a",)).fit(frame)
    with pytest.raises(ts.ConfigError, match="add a comma"):
        ts.Encoder(sequences="s").fit(frame)


@pytest.mark.parametrize(
    "empty", [np.array([]), np.array([], dtype=object), np.array([], dtype=int), np.array([], str)]
)
@pytest.mark.parametrize(
    "full",
    [np.array([3, 1]), np.array(["b", "a"]), np.array(["b", "a"], dtype=object), np.array([1.5, 0.5]), np.ones((2, 3))],
)
def test_a_row_without_steps_is_of_the_kind_of_the_others(full, empty):
    learnt, made = roundtrip(clean(empty, full, empty))
    expected, alone = roundtrip(clean(full, full[:1]))
    assert learnt == dataclasses.replace(expected, ragged=True)
    assert made.lengths.tolist() == [0, len(full), 0] and np.array_equal(made.values, alone.values[: len(full)])
    none = transform_arrays(clean(empty), learnt)  # all rows of a prediction may be empty
    assert none.lengths.tolist() == [0] and none.values.shape == (0, *learnt.shape)
    assert none.values.dtype.kind == made.values.dtype.kind


def test_a_column_without_any_step_is_refused():
    with pytest.raises(ts.DataError, match="column 'x' holds no step in any of 2 rows"):
        fit_arrays(clean(np.array([]), np.array([])))


def test_texts_of_no_words_are_fitted_and_predicted():
    texts = [np.array(["bad", "film"]), np.array([]), np.array(["good"])] * 10
    net = ts.Graph(ts.layers.Head()(ts.layers.PoolSteps()(ts.layers.Embedding(4)(ts.Input("sequence")))))
    learner = ts.TorchClassifier(net, max_epochs=1, random_state=0).fit(texts, [0, 1, 1] * 10)
    assert np.array_equal(learner.predict_proba([np.array([])]), learner.predict_proba(texts)[1:2])
