"""Shapes: what a network is built from, and the rows that it shows for a moment."""

import copy
import pickle

import numpy as np
import pytest

from torchstrata.data.encode import Encoder
from torchstrata.data.shapes import Shapes

SHAPES = Shapes({"number": (3,), "category": (2,)}, levels=(4, 5))


def test_rows_are_shown_within_the_block_only():
    rows, kept = {"number": object()}, []
    with SHAPES.showing(rows, "target") as shown:
        kept.append(shown)
        assert shown.rows is rows
        assert shown.target == "target"
        assert (dict(shown), shown.levels) == (dict(SHAPES), (4, 5))
        assert SHAPES.rows is None
    assert kept[0].rows is kept[0].target is None


def test_an_error_takes_the_rows_away_too():
    kept = []

    def fail():
        with SHAPES.showing({"number": 1}) as shown:
            kept.append(shown)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert kept[0].rows is None


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda shapes: pickle.loads(pickle.dumps(shapes))])
def test_copies_keep_the_levels(twin):
    made = twin(SHAPES)
    assert (made, made.levels, made.rows) == (SHAPES, (4, 5), None)


def test_the_encoder_makes_them():
    assert Encoder().fit(np.array([[1.0, 2.0], [3.0, 4.0]])).shapes_ == Shapes({"number": (2,)})
