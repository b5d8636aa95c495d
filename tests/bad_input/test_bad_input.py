"""What learners must refuse, after RELIABILITY 11: with its type and words, before any step, leaving no trace."""

import copy
import dataclasses
import datetime
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from sklearn.exceptions import NotFittedError

import torchstrata as ts
from torchstrata.learner import base

N = 40
RNG = np.random.default_rng(11)
CLEAN = pd.DataFrame(RNG.normal(size=(N, 4)).round(3), columns=list("abcd"))
LABELS = np.arange(N) % 2
NUMBERS = RNG.normal(size=N)


def cell(value, column="c", row=5):
    """Put a value into one cell."""

    def change(X):
        X = X.astype({column: object}) if not isinstance(value, float) else X.copy()
        X.loc[row, column] = value
        return X

    return change


@dataclasses.dataclass
class Case:
    """One input that must be refused by fit; numbers are rows of the table in RELIABILITY 11."""

    name: str
    error: type
    message: str
    X: Callable[[pd.DataFrame], Any] = lambda X: X
    y: Any = None
    fit: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    kinds: tuple = ("classifier", "regressor")
    containers: tuple = ("numpy", "pandas", "polars")


TABLES = ("pandas", "polars")
ANY = ("any",)  # the case brings its own container
C, R = ("classifier",), ("regressor",)

CASES = [
    Case("1 no rows", ValueError, r"Found array with 0 sample\(s\) \(shape=\(0, 4\)\) while a minimum of",
         lambda X: X[:0], y=[]),
    Case("2 no columns", ValueError, r"0 feature\(s\) \(shape=\(40, 0\)\) while a minimum of 1 is required",
         lambda X: X[[]],
         containers=("numpy", "pandas")),
    Case("3 one dimension", ValueError, "Expected 2D array, got 1D array instead.*Reshape your data",
         lambda X: X["a"].to_numpy(), containers=ANY),
    Case("3 a series", ValueError, "Expected a 2-dim|Expected 2D", lambda X: X["a"], containers=ANY),
    Case("4 three dimensions", ValueError, "Found array with dim > 2: use a network for images",
         lambda X: X.to_numpy().reshape(N, 2, 2), containers=ANY),
    *[Case(f"5 {v!r}", TypeError, "X must be a DataFrame or a 2-D array, got", lambda X, v=v: v, containers=ANY)
      for v in (None, "data.csv", 3, 2.5, b"x", True)],
    Case("6 ragged", ValueError, "rows 0 and 1 have lengths 2 and 1", lambda X: [[1, 2], [3]] * 20, containers=ANY),
    Case("7 dict", TypeError, r"X is a dict; pass pd.DataFrame\(X\)", lambda X: X.to_dict("list"), containers=ANY),
    Case("8 generator", TypeError, "X is a generator; pass a list or an array", lambda X: (r for r in X.to_numpy()),
         containers=ANY),
    *[Case(f"9 sparse {make.__name__}", TypeError, r"Sparse data was passed.*X.toarray\(\) \(would need",
           lambda X, make=make: make(X.to_numpy()), containers=ANY)
      for make in (scipy.sparse.csr_matrix, scipy.sparse.csr_array, scipy.sparse.coo_matrix)],
    Case("10 complex", ValueError, "Complex data not supported", lambda X: X + 1j, containers=("numpy", "pandas")),
    Case("11 NaN without encoder", ValueError, "Input X contains NaN", cell(np.nan), settings={"encoder": None}),
    Case("12 inf", ValueError, "Input X contains infinity", cell(np.inf), containers=("numpy",)),
    Case("12 inf by name", ts.DataError, r"Input X contains infinity \(inf\): column 'c' \(row 5\)", cell(np.inf),
         containers=TABLES),
    Case("12 -inf by name", ts.DataError, r"column 'c' \(row 5\)", cell(-np.inf), containers=TABLES),
    Case("13 beyond float32", ts.DataError, r"column 2 has values beyond float32 \(1e\+300 in row 5\); rescale",
         cell(1e300), containers=("numpy",)),
    Case("13 beyond float32 by name", ts.DataError, r"column 'c' has values beyond float32 \(first 1e\+300, row 5\)",
         cell(1e300), containers=TABLES),
    Case("13 beyond float32 without encoder", ts.DataError, "column 'c' has values beyond float32", cell(1e300),
         settings={"encoder": None}, containers=TABLES),
    Case("14 nothing observed", ts.DataError, "no feature varies", lambda X: X[["a"]].assign(a=np.nan)),
    Case("16 text among numbers", ts.DataError, r"column 'b' mixes.*1 non-numeric value, first 'oops' \(row 5\)",
         cell("oops", "b"), containers=("pandas",)),
    Case("17 numbers as text", ts.DataError, r"column 'b' is text but looks numeric.*pd.to_numeric",
         lambda X: X.assign(b=X.b.map(str)), containers=TABLES),
    Case("18 decimal comma", ts.DataError, "column 'b' is text but looks numeric.*,",
         lambda X: X.assign(b=X.b.map(str).str.replace(".", ",")), containers=TABLES),
    Case("19 dict in an array", TypeError, "argument must be a string or a real number, not 'dict'",
         lambda X: np.array([[{}, 1.0], *X[["a", "b"]].to_numpy().tolist()[1:]], dtype=object),
         containers=ANY),
    Case("19 dict in a cell", ts.DataError, "column 'b' contains dicts",
         lambda X: X.assign(b=[{"p": i} for i in range(N)]),
         containers=TABLES),
    Case("19 list in a cell", ts.DataError, "column 'b' contains lists", lambda X: X.assign(b=[[i] for i in range(N)]),
         containers=TABLES),
    Case("20 datetime without encoder", ts.DataError, "column 'b' is a datetime and encoder=None",
         lambda X: X.assign(b=pd.date_range("2020-01-01", periods=N)), settings={"encoder": None}, containers=TABLES),
    Case("20 text without encoder", ts.DataError, "column 'b' is a category and encoder=None",
         lambda X: X.assign(b=["u", "v"] * 20), settings={"encoder": None}, containers=TABLES),
    Case("20 text without encoder in an array", ts.DataError, "X holds text or dates and encoder=None",
         lambda X: X.assign(b=["u", "v"] * 20), settings={"encoder": None}, containers=("numpy",)),
    Case("21 timedelta", ts.DataError, r"column 'b' contains timedelta.*total_seconds",
         lambda X: X.assign(b=[datetime.timedelta(i) for i in range(N)]), containers=TABLES),
    Case("21 period", ts.DataError, "column 'b' contains period",
         lambda X: X.assign(b=pd.period_range("2020", periods=N)),
         containers=("pandas",)),
    Case("21 interval", ts.DataError, "column 'b' contains interval", lambda X: X.assign(b=pd.interval_range(0, N)),
         containers=("pandas",)),
    Case("22 bytes", ts.DataError, "column 'b' contains bytes; decode it",
         lambda X: X.assign(b=[b"x%d" % i for i in range(N)]),
         containers=TABLES),
    Case("23 duplicate names", ts.DataError, r"duplicate column names: 'a' \(positions 0, 3\)",
         lambda X: X.set_axis(list("abca"), axis=1), containers=("pandas",)),
    Case("23 duplicate names without encoder", ts.DataError, "duplicate column names: 'a'",
         lambda X: X.set_axis(list("abca"), axis=1), settings={"encoder": None}, containers=("pandas",)),
    Case("24 mixed names", TypeError, "Feature names are only supported if all input features have string names",
         lambda X: X.set_axis(["a", "b", "c", 3], axis=1), containers=("pandas",)),
    Case("25 MultiIndex", ts.DataError, "columns are a MultiIndex; flatten",
         lambda X: X.set_axis(pd.MultiIndex.from_product([["p", "q"], [1, 2]]), axis=1), containers=("pandas",)),
    Case("29 all columns constant", ts.DataError, "no feature varies in these 40 rows", lambda X: X * 0 + 1),
    Case("31 identifier", ts.DataError, r"'b' has 40 categories \(> max_categories 30\).*drop it or raise the limit",
         lambda X: X.assign(b=[f"id {i}" for i in range(N)]), settings={"encoder": ts.Encoder(max_categories=30)},
         containers=TABLES),
    Case("38 masked", ValueError, "Input X contains NaN", lambda X: np.ma.array(X.to_numpy(), mask=np.eye(N, 4)),
         settings={"encoder": None}, containers=ANY),
    Case("40 indexes differ", ts.DataError, r"different indexes \(first difference at position 0", lambda X: X,
         y="shifted", containers=("pandas",)),
    Case("lazy frame", TypeError, r"lazy LazyFrame; pass frame.collect\(\)",
         lambda X: pl.DataFrame(X.to_dict("list")).lazy(),
         containers=ANY),
    # y
    Case("42 no y", ts.DataError, "requires y to be passed, but the target y is None", y="none"),
    Case("43 y shorter", ValueError, r"inconsistent numbers of samples: \[40, 30\]", y=LABELS[:30]),
    Case("43 y longer", ValueError, r"inconsistent numbers of samples: \[40, 80\]", y=np.tile(LABELS, 2)),
    Case("44 y empty", ValueError, r"inconsistent numbers of samples: \[40, 0\]", y=[]),
    Case("45 y NaN", ValueError, "Input y contains NaN", y=np.where(np.arange(N) == 3, np.nan, LABELS)),
    Case("45 y None", ts.DataError, r"Input y contains NaN \(1 missing labels, first rows \[3\]\)",
         y=["u" if i % 2 else "v" for i in range(3)] + [None] + ["u", "v"] * 18, kinds=C),
    Case("45 y None among numbers", ValueError, "Input y contains NaN", y=[1.0, None] * 20),
    Case("46 y inf", ValueError, "Input y contains infinity", y=np.where(np.arange(N) == 3, np.inf, LABELS)),
    Case("46 y too large", ts.DataError, "y has values too large to standardise", y=NUMBERS * 1e200, kinds=R),
    Case("47 one class", ts.DataError, r"y has one class \(\[0\]\); classification needs at least 2 classes",
         y=LABELS * 0,
         kinds=C),
    Case("48 y continuous", ValueError, "Unknown label type: continuous", y=NUMBERS, kinds=C),
    Case("49 y of two columns", ValueError, "y should be a 1d array, got an array of shape", y=np.c_[LABELS, LABELS],
         kinds=C),
    Case("49 y of three dimensions", ValueError, "dim 3|1d array", y=np.zeros((N, 2, 2))),
    Case("51 mixed labels", ts.DataError, r"Mix of label input types \(string and number\)", y=[1, "a"] * 20, kinds=C),
    Case("51 text for a regressor", ts.DataError, "y holds text.*TorchClassifier takes labels", y=["u", "v"] * 20,
         kinds=R),
    Case("55 identifier as y", ts.DataError, "80 classes for 80 rows; is it an identifier", lambda X: pd.concat([X, X]),
         y=[f"id {i}" for i in range(80)], kinds=C),
    Case("sparse y", TypeError, "Sparse data", y=scipy.sparse.csr_matrix(LABELS[:, None])),
    Case("complex y", ValueError, "[Cc]omplex", y=LABELS + 1j),
    Case("56 class of one row, split", ts.DataError, "valid=0.25 cannot split 40 rows with every class",
         y=np.where(np.arange(N) == 3, "b", "a"), settings={"valid": 0.25}, kinds=C),
    Case("57 no stratum", ts.ConfigError, r"needs a stratum.*pass fit\(X, y, stratum=y\)",
         settings={"batch_sampler": ts.StratifiedBatchSampler(1)}),
    Case("57 stratum missing", ts.DataError, "the stratum of row 3 is missing",
         fit={"stratum": [None if i == 3 else "s" for i in range(N)]},
         settings={"batch_sampler": ts.StratifiedBatchSampler(1)}),
    Case("57 stratum shorter", ValueError, "inconsistent numbers of samples", fit={"stratum": LABELS[:30]}),
    Case("60 aum of three classes", ts.DataError, "for two classes; y has 3 classes", y=np.arange(N) % 3,
         settings={"loss": "aum"}, kinds=C),
    Case("60 aum of a regression", ts.ConfigError, "loss aum is for classification", settings={"loss": "aum"}, kinds=R),
    Case("62 one row", ValueError, r"1 sample\(s\) \(shape=\(1, 4\)\)|1 sample", lambda X: X[:1], y=[1]),
    Case("64 validation without a class", ts.DataError, "leaves a class without a row to validate",
         y=np.where(np.arange(N) < 2, "b", "a"), settings={"valid": 0.05}, kinds=C),
    Case("66 weights shorter", ValueError, r"sample_weight.shape == \(30,\), expected \(40,\)",
         fit={"sample_weight": np.ones(30)}),
    Case("66 weights 2-d", ValueError, "Sample weights must be 1D", fit={"sample_weight": np.ones((N, 2))}),
    Case("67 weights negative", ValueError, "Negative values in data passed to `sample_weight`",
         fit={"sample_weight": np.r_[-1.0, np.ones(N - 1)]}),
    Case("67 weights NaN", ValueError, "sample_weight contains NaN", fit={"sample_weight": np.r_[np.nan,
         np.ones(N - 1)]}),
    Case("68 weights zero", ValueError, "non-zero|zero", fit={"sample_weight": np.zeros(N)}),
    Case("69 class of weight zero", ts.DataError, "class 1 has total weight 0", fit={"sample_weight": 1 - LABELS},
         kinds=C),
    Case("69 third class of weight zero", ts.DataError, "class 2 has total weight 0", y=np.arange(N) % 3,
         fit={"sample_weight": (np.arange(N) % 3 < 2) * 1.0}, kinds=C),
    # settings (more of them in tests/learner/test_settings.py)
    *[Case(f"81 batch_size {b!r}", ts.ConfigError, "batch_size must be an int >= 1, 'all' or 'auto', got",
         settings={"batch_size": b},
           containers=("pandas",)) for b in (0, -1, 2.5, "a", True)],
    Case("83 unknown loss", ts.ConfigError, "unknown loss 'amu'. Did you mean 'aum'", settings={"loss": "amu"},
         containers=("pandas",)),
    Case("85 measure not there", ts.ConfigError, "unknown measure 'roc_acu'.*Did you mean 'roc_auc'",
         settings={"scoring": "roc_acu"}, containers=("pandas",)),
    Case("87 no such device", ts.ConfigError, "unknown device 'gpu'", settings={"runtime": "gpu"},
         containers=("pandas",)),
    Case("88 wrong output shape", ts.ConfigError, r"returned shape \(2, 3\) for 2 rows, expected \(2, 1\)",
         settings={"network": torch.nn.Linear(4, 3)}),
    Case("89 output of another type", ts.ConfigError, "returned tuple|returned str|expected a torch.nn.Module",
         settings={"network": lambda shapes, n: "net"}, containers=("pandas",)),
    Case("90 nothing trains", ts.ConfigError, "no trainable parameters",
         settings={"network": torch.nn.Linear(4, 1).requires_grad_(False)}),
]  # fmt: skip


def contain(table, container):
    if container == "any" or not isinstance(table, pd.DataFrame) or container == "pandas":
        return table
    if container == "numpy":
        return table.to_numpy()
    return pl.DataFrame({name: table[name].to_list() for name in table.columns})


def target(case, kind, X):
    if isinstance(case.y, str) and case.y == "none":
        return None
    if isinstance(case.y, str) and case.y == "shifted":
        return pd.Series(LABELS, index=np.arange(N) + 3)
    if case.y is not None:
        return case.y
    return LABELS if kind == "classifier" else NUMBERS


def fingerprint(*values):
    """Bytes of the inputs; things that cannot be pickled are passed over."""
    out = []
    for value in values:
        try:
            table = isinstance(value, pd.DataFrame)
            out.append(pickle.dumps((list(value.columns), value.to_numpy().tolist()) if table else value))
        except (TypeError, pickle.PicklingError, AttributeError):
            out.append(b"")
    return out


@pytest.fixture
def trainings(monkeypatch):
    """Every training that begins; before it there is no step, whatever carries them out."""
    begun = []
    monkeypatch.setattr(base, "train", lambda *a, _train=base.train, **k: (begun.append(1), _train(*a, **k))[1])
    return begun


LEARNERS = {"classifier": ts.TorchClassifier, "regressor": ts.TorchRegressor}
GRID = [
    pytest.param(case, kind, container, id=f"{case.name}-{kind}-{container}")
    for case in CASES
    for kind in case.kinds
    for container in case.containers
]


def test_the_spy_sees_a_training(trainings):
    ts.TorchClassifier(max_epochs=1).fit(CLEAN, LABELS)
    assert len(trainings) == 1


@pytest.mark.parametrize(("case", "kind", "container"), GRID)
def test_refused_before_training_without_a_trace(case, kind, container, trainings):
    X = contain(case.X(CLEAN.copy()), container)
    y = target(case, kind, X)
    settings = {"max_epochs": 1, "random_state": 0, **case.settings}
    learner = LEARNERS[kind](**settings)
    before, own = fingerprint(X, y, case.fit), dict(vars(learner))
    with pytest.raises(case.error, match=f"(?s){case.message}") as caught:
        learner.fit(X, y, **copy.copy(case.fit))
    if case.error not in (ValueError, TypeError):
        assert type(caught.value) is case.error
    assert not trainings
    assert fingerprint(X, y, case.fit) == before
    assert {name: value for name, value in vars(learner).items() if name != "_failure"} == own
    with pytest.raises(NotFittedError, match=f"last fit failed with {type(caught.value).__name__}: "):
        learner.predict(CLEAN)
    learner.set_params(**LEARNERS[kind]().get_params(deep=False))
    learner.set_params(max_epochs=1).fit(CLEAN, LABELS).predict(CLEAN)  # and a good fit follows
