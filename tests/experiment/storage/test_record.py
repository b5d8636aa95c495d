from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchstrata.experiment.score import Outcome
from torchstrata.experiment.storage.columns import to_table
from torchstrata.experiment.storage.record import NewerFormat, Planned, ending_of, from_line, seal, to_line, unseal


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


CELL = Planned("k" * 32, "t", "l", 0, {}, 20, 10)
ABOUT = {"attempts": 1, "fallback": "", "fallback_key": "", "timeout": 0.0, "finished": "", "run": "r"}
AWKWARD = (',"warnings":[', ',"dtypes":', "dtypes", "warnings", "seconds", "status", '\\",\\"warnings\\":[', '"}')
TEXT = st.sampled_from(AWKWARD) | st.text(max_size=5)


@given(
    st.dictionaries(TEXT, st.floats(), max_size=3),
    st.dictionaries(TEXT, st.lists(st.floats(), min_size=2, max_size=2), max_size=3),
    st.lists(TEXT, max_size=2),
    st.none() | TEXT,
    st.dictionaries(TEXT, TEXT | st.tuples(TEXT, TEXT), max_size=2),
)
def test_what_is_read_in_parts_is_what_is_read_whole(scores, table, told, message, settings_of):
    cell = Planned(CELL.key, "t", "l", 0, settings_of, 20, 10)
    error = message and {"status": "oom", "error": "E", "message": message, "traceback": message}
    tables = pd.DataFrame(table), pd.DataFrame({"dtypes": [1], "warnings": [2]})
    outcome = Outcome(None, scores, *tables, error or None, told, {"dtypes": {"dtypes": told}}, 1.5)
    line = to_line(cell, outcome, ABOUT)
    found, whole = from_line(line), unseal(line)
    assert ending_of(line, cell) == (whole["status"], whole["seconds"]) == (found.status, 1.5)
    assert found.cell == cell and from_line(line, cell).cell is cell
    assert found.history.values == whole["history"] and found.history.dtypes == whole["dtypes"]["history"]
    assert found.predictions.dtypes == whole["dtypes"]["predictions"] and found.runtime == whole["runtime"]
    assert repr(found.scores) == repr({name: float(value) for name, value in scores.items()})


def test_a_whole_line_that_is_not_this_cell_is_refused_in_words():
    line = to_line(CELL, Outcome(None, {}, pd.DataFrame(), pd.DataFrame()), ABOUT)
    other = Planned("o" * 32, "t", "l", 0, {}, 20, 10)
    newer = seal({**unseal(line), "format_version": 99})
    for read in (from_line, ending_of):
        with pytest.raises(ValueError, match="it is the cell kkkk"):
            read(line, other)
        for nothing in ({"key": CELL.key}, {"a": 1}, {"key": CELL.key, "status": "ok", "seconds": None}):
            with pytest.raises(ValueError, match="does not hold what a cell holds"):
                read(seal(nothing), CELL)
        with pytest.raises(NewerFormat, match="format version 99"):
            read(newer, CELL)
        for at in (0, len(line) // 2, len(line) - 2):
            with pytest.raises(ValueError, match="checksum"):
                read(line[:at] + bytes([line[at] ^ 4]) + line[at + 1 :], CELL)
