"""What splitters share."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import torchstrata as ts
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment import splitting


def test_combinations_are_numbered_without_gaps():
    codes = splitting.cross(["a", "a", "b", "b"], [1, 2, 1, 1], [0.5, 0.5, 0.5, 0.5])
    assert codes.tolist() == [0, 1, 2, 2] and splitting.cross(list("ba")).tolist() == [1, 0]


def test_folds_are_balanced_by_class_and_strata():
    frame = pd.DataFrame({"x": range(8), "y": list("ppnnppnn"), "s": list("aaaabbbb")})
    task = ts.Task(frame, target="y", features=["x"])
    assert len(np.unique(splitting.classes_and_strata(task))) == 2
    assert len(np.unique(splitting.classes_and_strata(task.with_roles(stratum="s")))) == 4
    numbers = ts.Task(frame.assign(y=np.arange(8) / 7), target="y", features=["x"])
    assert splitting.classes_and_strata(numbers) is None
    assert len(np.unique(splitting.classes_and_strata(numbers.with_roles(stratum="s")))) == 2


def test_only_classes_are_balanced():
    assert splitting.to_balance([3, 1, 3]).tolist() == [1, 0, 1]
    assert splitting.to_balance(["b", "a"]).tolist() == [1, 0]
    assert splitting.to_balance([0.5, 1.5]) is None and splitting.to_balance(None) is None
    assert splitting.to_balance(np.zeros((3, 2))) is None


def test_missing_labels_are_refused_with_their_row():
    assert splitting.codes_of(["u", "t", "u"], where="groups").tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="groups: row 1 is missing"):
        splitting.codes_of(["u", None, "t"], where="groups")


def test_labels_become_what_json_holds():
    values = [np.int64(3), np.float64(0.5), np.bool_(True), "text", pd.Timestamp("2020-01-02"), (1, 2)]
    plain = [splitting.plain_label(value) for value in values]
    assert json.loads(json.dumps(plain)) == [3, 0.5, True, "text", "2020-01-02 00:00:00", "(1, 2)"]
    assert all(type(a) is type(b) for a, b in zip(plain[:4], [3, 0.5, True, "text"], strict=True))


def test_counts_are_whole_and_lists_are_lists():
    assert splitting.whole_number(np.int64(3), 1, "folds") == 3
    for wrong in (True, 0, 2.0, "3", None):
        with pytest.raises(ConfigError, match="folds must be a whole number >= 1"):
            splitting.whole_number(wrong, 1, "folds")
    assert splitting.several(None) is None and splitting.several("ab") == ["ab"] and splitting.several((1, 2)) == [1, 2]
    assert splitting.n_rows([1, 2]) == splitting.n_rows(np.zeros((2, 5))) == 2


def test_columns_are_found_by_name():
    frame = pd.DataFrame({"when": [3, 4]}, index=[7, 8])
    assert splitting.column_of(frame, "when", "X").to_dict() == {0: 3, 1: 4}
    with pytest.raises(DataError, match="Did you mean 'when'"):
        splitting.column_of(frame, "wen", "X")
    polars = pytest.importorskip("polars")
    assert splitting.column_of(polars.DataFrame({"when": [3, 4]}), "when", "X").tolist() == [3, 4]
