from __future__ import annotations

import numpy as np
import pandas as pd
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchstrata.data.strata import stratum_codes
from torchstrata.errors import DataError


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), min_size=1, max_size=40))
def test_rows_share_a_number_exactly_if_they_share_all_values(rows):
    codes, labels = stratum_codes(pd.DataFrame(rows, columns=["x", "y", "z"]))
    assert [labels[c] for c in codes] == [", ".join(map(str, row)) for row in rows]
    assert sorted(set(codes)) == list(range(len(labels))) and len(set(labels)) == len(labels)
    assert labels == [", ".join(map(str, row)) for row in sorted(set(rows))]


@pytest.mark.parametrize("make", [list, np.array, pd.Series, pd.Categorical, polars.Series])
def test_one_column_of_any_library(make):
    codes, labels = stratum_codes(make(["M", "R", "M"]))
    assert codes.tolist() == [0, 1, 0] and labels == ["M", "R"]


def test_many_columns_of_many_levels():
    rng = np.random.default_rng(0)
    codes, labels = stratum_codes(rng.integers(0, 200, (500, 10)))
    assert len(labels) == 500 and codes.max() == 499


@pytest.mark.parametrize("strata", [["a", None], [1.0, np.nan], pd.DataFrame({"x": ["a", "b"], "y": ["c", None]})])
def test_a_missing_value_is_named(strata):
    with pytest.raises(DataError, match="stratum of row 1 is missing"):
        stratum_codes(strata)


def test_what_is_no_strata():
    with pytest.raises(DataError, match="no columns"):
        stratum_codes(pd.DataFrame(index=range(3)))
    with pytest.raises(DataError, match=r"task\.with_roles\(stratum="):
        stratum_codes(None)
    with pytest.raises(DataError, match="one or two dimensions"):
        stratum_codes(np.zeros((2, 2, 2)))
