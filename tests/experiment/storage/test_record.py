from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchstrata.experiment.score import Outcome
from torchstrata.experiment.storage.record import (
    Planned,
    from_line,
    pack,
    seal,
    to_columns,
    to_line,
    to_table,
    unpack,
    unseal,
)

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
        seal({"x": columns.values, "dtypes": columns.dtypes})  # all of it is JSON, without NaN
        pd.testing.assert_frame_equal(to_table(columns), table, check_exact=True)

    check()


@given(st.none() | st.booleans() | st.integers() | FLOATS | st.text() | st.tuples(FLOATS, st.tuples(st.text())))
def test_settings_come_back_exactly(value):
    assert repr(unpack(pack(value))) == repr(value)


def test_an_outcome_comes_back():
    cell = Planned("k" * 32, "t", "l", 3, {"lr": 0.1, "hidden": (3, math.inf), "none": None}, 20, 10)
    history = pd.DataFrame({"epoch": [1, 2], "loss": [0.1, math.nan]})
    error = {"status": "error_train", "error": "E", "message": "m", "traceback": "t"}
    for told in (None, error):
        outcome = Outcome(
            None, {"a": math.nan, "b": math.inf, "c": 0.1}, history, pd.DataFrame(), told, ["w"], {"d": ["x", "y"]}
        )
        found = from_line(to_line(cell, outcome, {"timeout": 0.0}))
        assert found.cell == cell and found.error == told and found.status == (told or {"status": "ok"})["status"]
        assert repr(found.scores) == repr(outcome.scores)
        assert found.warnings == ["w"] and found.runtime == {"d": ["x", "y"]} and found.about == {"timeout": 0.0}
        pd.testing.assert_frame_equal(to_table(found.history), history)
        assert len(found.predictions) == 0


@given(st.binary(max_size=300))
def test_what_is_no_line_is_refused(content):
    with pytest.raises(ValueError, match="checksum"):
        unseal(content)


def test_a_line_that_grew_is_refused():
    line = seal({"a": np.float64(1.0).item()})
    assert unseal(line) == {"a": 1.0}
    for changed in (line + b"\n", line + line, b" " + line, line[:-1], line.replace(b"1.0", b"1.1")):
        with pytest.raises(ValueError, match="checksum"):
            unseal(changed)
