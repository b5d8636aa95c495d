from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchstrata.experiment.storage.columns import Columns, is_number, pack, to_array, to_columns, to_table, unpack

FLOATS = st.floats(width=64)
COLUMNS = {
    "float": st.lists(FLOATS).map(lambda v: pd.Series(v, dtype="float64")),
    "float32": st.lists(st.floats(width=32)).map(lambda v: pd.Series(v, dtype="float32")),
    "int": st.lists(st.integers(-(2**63), 2**63 - 1)).map(lambda v: pd.Series(v, dtype="int64")),
    "uint8": st.lists(st.integers(0, 255)).map(lambda v: pd.Series(v, dtype="uint8")),
    "bool": st.lists(st.booleans()).map(lambda v: pd.Series(v, dtype="bool")),
    "text": st.lists(st.text()).map(lambda v: pd.Series(v, dtype="str")),
    "object": st.lists(st.none() | st.text() | st.integers() | FLOATS | st.tuples(st.integers(), FLOATS)).map(
        lambda v: pd.Series(v, dtype=object)
    ),
    "category": st.lists(st.sampled_from(["b", "a", None])).map(
        lambda v: pd.Series(pd.Categorical(v, ["b", "a", "z"]))
    ),
    "numbers": st.lists(st.sampled_from([3, 1])).map(lambda v: pd.Series(pd.Categorical(v, [3, 1, 2], ordered=True))),
    "Int64": st.lists(st.none() | st.integers(-9, 9)).map(lambda v: pd.Series(v, dtype="Int64")),
    "boolean": st.lists(st.none() | st.booleans()).map(lambda v: pd.Series(v, dtype="boolean")),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_come_back_exactly(kind):
    @given(COLUMNS[kind])
    def check(column):
        table = column.rename("x").to_frame()
        columns = to_columns(table)
        text = json.dumps([columns.values, columns.dtypes], allow_nan=False)  # all of it is JSON, without NaN
        back = to_table(Columns(*json.loads(text)))
        if kind == "object":  # pandas takes two NaN within tuples for different
            assert back["x"].dtype == object and back.index.equals(table.index)
            assert [repr(value) for value in back["x"]] == [repr(value) for value in table["x"]]
        else:
            pd.testing.assert_frame_equal(back, table, check_exact=True)

    check()


@given(st.none() | st.booleans() | st.integers() | FLOATS | st.text() | st.tuples(FLOATS, st.tuples(st.text())))
def test_settings_come_back_exactly(value):
    assert repr(unpack(pack(value))) == repr(value)


@given(st.lists(st.none() | FLOATS | st.sampled_from(["inf", "-inf"])), st.sampled_from(["float64", "float32"]))
def test_numbers_are_read_as_one_by_one(cells, dtype):
    with np.errstate(over="ignore"):
        alone = np.array([math.nan if cell is None else float(cell) for cell in cells], dtype=dtype)
        np.testing.assert_array_equal(to_array(cells, {"dtype": dtype}), alone)


def test_numpy_s_numbers_are_told_from_pandas():
    assert all(is_number({"dtype": name}) for name in ("int64", "uint8", "float32", "bool"))
    others = ("Int64", "boolean", "Float64", "interval[int64, right]", "int64[pyarrow]", "float[pyarrow]", "str")
    assert not any(is_number({"dtype": name}) for name in others)
