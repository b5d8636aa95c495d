"""X3: whatever table comes, the outcome is a fit with finite predictions, or a refusal in words."""

import contextlib
import os
import warnings
from datetime import datetime

import numpy as np
import pandas as pd
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import torchstrata as ts

EXAMPLES = int(os.environ.get("TORCHSTRATA_EXAMPLES", "300"))
FLOATS = (
    st.floats(allow_nan=True, allow_infinity=True) | st.floats(-10, 10) | st.sampled_from([0.0, 1.0, 5e-324, 1e308])
)
WORDS = st.sampled_from(["a", "b", "ü", "", "NA", "1.5", "1,5", "x" * 30])
DATES = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))
CELLS = {
    "float": FLOATS,
    "small": st.integers(-3, 3),
    "int": st.integers(-(2**62), 2**62),
    "bool": st.booleans(),
    "word": WORDS,
    "date": DATES,
    "mixed": st.one_of(
        FLOATS, WORDS, st.none(), st.booleans(), DATES, st.binary(max_size=2), st.just([1]), st.just({})
    ),
}
NUMERIC = (
    "float64",
    "float32",
    "float16",
    "Float64",
    "int8",
    "Int64",
    "uint64",
    "boolean",
    "object",
    "string",
    "category",
)


@st.composite
def columns(draw, n, sane):
    kind = draw(st.sampled_from([kind for kind in CELLS if not sane or kind != "mixed"]))
    cell = st.floats(-1e6, 1e6) if sane and kind == "float" else CELLS[kind]
    if draw(st.booleans()):
        cell = cell | st.none()
    values = draw(st.lists(cell, min_size=n, max_size=n))
    column = pd.Series(values, dtype=object if kind == "mixed" else None)
    if draw(st.booleans()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(TypeError, ValueError, OverflowError):  # not every column can be of every type
                column = column.astype(draw(st.sampled_from(NUMERIC)))
    return column


@st.composite
def frames(draw, sane):
    """A table; a sane one has names, rows, columns and no odd cells, so that most of them can be fitted."""
    n, p = draw(st.integers(10, 50) if sane else st.integers(0, 50)), draw(st.integers(1 if sane else 0, 6))
    names = draw(
        st.lists(st.text(max_size=3) | st.sampled_from(["a", "b", "y"]) | st.integers(0, 3), min_size=p, max_size=p)
    )
    if sane or draw(st.booleans()):
        names = [f"{i}{name}" for i, name in enumerate(names)]
    made = [draw(columns(n, sane)) for _ in range(p)]
    frame = pd.concat(made, axis=1) if made else pd.DataFrame(index=range(n))
    frame.columns = names
    return frame


LABELS = st.sampled_from([0, 1]) | st.sampled_from(["u", "v", "w"]) | st.booleans() | st.sampled_from([0, 1, None])


@st.composite
def targets(draw, n, cls, sane):
    if sane:
        cell = st.floats(-1e3, 1e3) if cls is ts.TorchRegressor else st.sampled_from(["u", "v"]) | st.just("w")
    else:
        cell = draw(st.sampled_from([st.sampled_from([0, 1]), st.sampled_from(["u", "v"]), LABELS, FLOATS]))
    return draw(st.lists(cell, min_size=n, max_size=n))


def as_container(frame, container):
    if container == "polars":
        return pl.DataFrame(
            {str(name): frame.iloc[:, i].to_list() for i, name in enumerate(frame.columns)}, strict=False
        )
    return frame.to_numpy() if container == "numpy" else frame


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_a_fit_or_a_refusal_in_words(data):
    sane = data.draw(st.sampled_from([True, True, False]))
    frame = data.draw(frames(sane))
    cls = data.draw(st.sampled_from([ts.TorchClassifier, ts.TorchRegressor]))
    y = data.draw(targets(len(frame), cls, sane))
    encoder = data.draw(st.sampled_from(["auto", "auto", "auto", None]))
    valid = data.draw(st.sampled_from([None, None, 0.3]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            X = as_container(frame, data.draw(st.sampled_from(["pandas", "pandas", "polars", "numpy"])))
        except Exception:
            return  # the library of the container refuses to make such a table
        learner = cls(ts.MLP((3,)), max_epochs=1, batch_size=16, random_state=0, encoder=encoder, valid=valid)
        error = refusal(learner, X, y)
        if error is not None:
            assert len(str(error)) > 10 and on_purpose(error), repr(error)
            assert not [name for name in vars(learner) if name.endswith("_")]
            return
        predicted = learner.predict(X)
    assert predicted.shape == (len(frame),)
    if cls is ts.TorchClassifier:
        assert set(predicted.tolist()) <= set(learner.classes_.tolist()) <= set(y)
        assert np.isfinite(learner.decision_function(X)).all()
    else:
        assert np.isfinite(predicted).all()


def refusal(learner, X, y):
    try:
        learner.fit(X, y)
    except (ValueError, TypeError) as error:
        return error
    return None


def on_purpose(error):
    """The line that raised stands in this library or in scikit-learn, or the words are known to be clear."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    return "torchstrata" in file or "sklearn" in file or "must be a string or a real number" in str(error)
