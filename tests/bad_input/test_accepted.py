"""What predict must refuse, and what fit and predict must accept, after RELIABILITY 11."""

import io

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch

import torchstrata as ts

N = 40
RNG = np.random.default_rng(11)
CLEAN = pd.DataFrame(RNG.normal(size=(N, 4)).round(3), columns=list("abcd"))
LABELS = np.arange(N) % 2
NUMBERS = RNG.normal(size=N)
LEARNERS = {"classifier": ts.TorchClassifier, "regressor": ts.TorchRegressor}
TABLES, ANY = ("pandas", "polars"), ("any",)


def cell(value):
    """Put a number into one cell."""
    return lambda X: X.assign(c=np.where(np.arange(len(X)) == 5, value, X.c))


def contain(table, container):
    if container == "polars":
        return pl.DataFrame({name: table[name].to_list() for name in table.columns})
    return table.to_numpy() if container == "numpy" else table


PREDICT = [
    ("70 fewer columns", ValueError, "X has 3 features, but .* is expecting 4 features|yet now missing",
         lambda X: X[["a", "b", "c"]]),
    ("71 more columns", ValueError, "X has 5 features, but .* expecting 4|unseen at fit time",
         lambda X: X.assign(z=1.0)),
    ("77 no rows", ValueError, r"Found array with 0 sample\(s\)", lambda X: X[:0]),
    ("12 inf", ValueError, "infinity", cell(np.inf)),
    ("13 beyond float32", ValueError, "beyond float32", cell(1e300)),
]  # fmt: skip
PREDICT_TABLES = [
    ("72 reordered", ValueError, "same order as they were in fit", lambda X: X[list("dcba")]),
    ("73 renamed", ValueError, "unseen at fit time:\n- zz\nFeature names seen at fit time, yet now missing:\n- a",
     lambda X: X.rename(columns={"a": "zz"})),
    ("75 text now", ts.DataError, "column 'b' was number at fit and is category now",
         lambda X: X.assign(b=["u", "v"] * 20)),
    ("75 dates now", ts.DataError, "column 'b' was number at fit and is datetime now",
     lambda X: X.assign(b=pd.date_range("2020-01-01", periods=N))),
    ("23 duplicates", ts.DataError, "duplicate column names", lambda X: X.set_axis(list("abca"), axis=1)),
]  # fmt: skip
PREDICT_ANY = [
    ("78 one row", ValueError, "Reshape your data", lambda X: X.to_numpy()[0]),
    ("9 sparse", TypeError, "Sparse data", lambda X: scipy.sparse.csr_matrix(X.to_numpy())),
    ("5 none", TypeError, "got NoneType", lambda X: None),
    ("10 complex", ValueError, "Complex data not supported", lambda X: X.to_numpy() * 1j),
]


@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize(
    ("error", "message", "change", "container"),
    [
        pytest.param(*case[1:], container, id=f"{case[0]}-{container}")
        for cases, containers in (
            (PREDICT, ("numpy", "pandas", "polars")),
            (PREDICT_TABLES, TABLES),
            (PREDICT_ANY, ANY),
        )
        for case in cases
        for container in containers
        if not (case[0].startswith("23") and container == "polars")
    ],
)
def test_predict_refuses_and_stays_fitted(kind, error, message, change, container):
    train = contain(CLEAN, container if container != "any" else "numpy")
    learner = LEARNERS[kind](max_epochs=1, random_state=0).fit(train, LABELS)
    before = learner.predict(train)
    with pytest.raises(error, match=message):
        learner.predict(contain(change(CLEAN.copy()), container))
    np.testing.assert_array_equal(learner.predict(train), before)


# accepted

MASK = np.eye(N, 4, dtype=bool)
ACCEPTED = {
    "11 NaN": lambda X: X.mask(MASK),
    "14 one column without values": lambda X: X.assign(e=np.nan),
    "20 datetimes": lambda X: X.assign(t=pd.date_range("2020-01-01", periods=N)),
    "26 odd names": lambda X: X.set_axis(["", "größe", "a.b", "x y"], axis=1),
    "29 constant column": lambda X: X.assign(a=3.0),
    "34 category": lambda X: X.assign(c=pd.Categorical(["u", "v"] * 20, categories=["w", "v", "u"])),
    "35 bool": lambda X: X > 0,
    "35 int8": lambda X: (X * 10).astype("int8"),
    "35 uint64": lambda X: (X.abs() * 10).astype("uint64"),
    "35 float16": lambda X: X.astype("float16"),
    "39 string index": lambda X: X.set_axis([f"r{i % 7}" for i in range(N)]),
}


@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize("container", ["numpy", "pandas", "polars"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name, container, kind):
    if container == "numpy" and ("20" in name or "34" in name):
        pytest.skip("an array has no such columns")
    X = contain(ACCEPTED[name](CLEAN.copy()), container)
    learner = LEARNERS[kind](max_epochs=1, random_state=0).fit(X, LABELS)
    assert np.isfinite(learner.predict(X)).all() and len(learner.predict(X)) == N


def test_accepted_arrays():
    array = CLEAN.to_numpy()
    wanted = ts.TorchRegressor(max_epochs=1, random_state=0).fit(array, NUMBERS).predict(array)
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    frozen = array.copy()
    frozen.flags.writeable = False
    for same in (
        np.asfortranarray(array),
        frozen,
        np.load(file),
        torch.tensor(array, requires_grad=True),
        array[::-1][::-1],
    ):
        got = ts.TorchRegressor(max_epochs=1, random_state=0).fit(same, NUMBERS).predict(same)
        np.testing.assert_array_equal(got, wanted)


def test_epochs_zero_is_the_initial_model():
    assert len(ts.TorchClassifier(max_epochs=0).fit(CLEAN, LABELS).history_) == 0


def test_misspelt_setting_says_invalid_parameter():
    with pytest.raises(
        ValueError, match=r"Invalid parameter 'foo' for TorchClassifier. Valid parameters are: \['augment'"
    ):
        ts.TorchClassifier().set_params(foo=1)


@pytest.mark.parametrize("lr", [0, -1.0, float("nan"), float("inf")])
def test_82_learning_rates(lr):
    with pytest.raises(ts.ConfigError, match="lr must be a positive finite number"):
        ts.optim.AdamW(lr=lr)
