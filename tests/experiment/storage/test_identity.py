from __future__ import annotations

import functools
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.experiment.storage.identity import describe, digest

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def exact(value):
    """Equality that tells 1, 1.0 and True apart, and 0.0 from -0.0."""
    return repr(value)


@given(PLAIN, PLAIN)
def test_equal_digests_are_equal_values(one, two):
    assert (digest(one) == digest(two)) == (exact(one) == exact(two))


def twice(x):
    return 2 * x


def thrice(x):
    return 3 * x


def made(k):
    return lambda x: k * x


class Own(LogisticRegression):
    scale = 1.0

    def fit(self, X, y):
        return super().fit(X * self.scale, y)


class Edited(LogisticRegression):
    scale = 1.0

    def fit(self, X, y):
        return super().fit(X * self.scale + 1, y)


Edited.__qualname__ = "Own"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (ts.TorchClassifier(), ts.TorchClassifier(max_epochs=11)),
        (ts.TorchClassifier(), ts.TorchRegressor()),
        (ts.TorchClassifier(ts.MLP((3,))), ts.TorchClassifier(ts.MLP((4,)))),
        (ts.TorchClassifier(ts.MLP((3,), dropout=0.1)), ts.TorchClassifier(ts.MLP((3,), dropout=0.2))),
        (ts.TorchClassifier(optimizer=ts.optim.SGD(lr=0.1)), ts.TorchClassifier(optimizer=ts.optim.SGD(lr=0.2))),
        (ts.TorchClassifier(loss=ts.losses.aum), ts.TorchClassifier(loss=ts.losses.aum(margin=0.5))),
        (ts.losses.focal(gamma=1.0), ts.losses.focal(gamma=2.0)),
        (make_pipeline(StandardScaler(), LogisticRegression()), make_pipeline(LogisticRegression())),
        (make_pipeline(StandardScaler(), LogisticRegression(C=1.0)), make_pipeline(LogisticRegression(C=2.0))),
        (twice, thrice),
        (made(2), made(3)),
        (functools.partial(twice), functools.partial(thrice)),
        (functools.partial(twice, x=1), functools.partial(twice, x=2)),
        (Own(), Edited()),
        (get_scorer("roc_auc"), get_scorer("accuracy")),
        (make_scorer(twice), make_scorer(twice, greater_is_better=False)),
        (np.zeros(3), np.zeros(3, "float32")),
        (np.array([1, 2, 3]), np.array([1, 2, 4])),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.array(["a", 1], dtype=object), np.array(["a", 2], dtype=object)),
        (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1, 2]})),
        (pd.Series([1, 2]), pd.Series([2, 1])),
        (np.random.default_rng(0), np.random.default_rng(1)),
        ({1, 2}, {1, 3}),
        (True, 1),
        ((1, 2), [1, 2]),
        (len, sum),
        ("a".upper, "b".upper),
    ],
)
def test_what_could_change_a_fit_changes_the_digest(one, two):
    assert digest(one) != digest(two)
    assert digest(one) == digest(one) and digest(two) == digest(two)


def test_modules_and_tensors_by_their_weights():
    import torch

    def net(seed, scale=1.0):
        torch.manual_seed(seed)
        made = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        made.scale = scale
        return made

    state = torch.get_rng_state()
    digests = [digest(net(0)), digest(net(0)), digest(net(1)), digest(net(0, scale=2.0)), digest(net(0).double())]
    torch.set_rng_state(state)
    assert digests[0] == digests[1] and len(set(digests)) == 4
    weights = torch.arange(6.0)
    assert digest(weights) != digest(weights.reshape(2, 3)) and digest(weights[::2]) == digest(weights[::2].clone())
    assert digest(weights.bfloat16()) != digest(weights.half())


def test_what_changes_nothing_changes_no_digest():
    assert digest(np.float64(0.1)) == digest(0.1) and digest(np.int64(3)) == digest(3)
    assert digest({1, 2, 3}) == digest({3, 2, 1})
    learner = ts.TorchClassifier(ts.MLP((3,)))
    assert digest(learner) == digest(ts.TorchClassifier(ts.MLP((3,)))) == digest(learner.set_params(max_epochs="auto"))
    cyclic = {"a": 1}
    cyclic["self"] = cyclic
    assert digest(cyclic) == digest(cyclic)


@pytest.mark.slow
def test_the_same_in_every_process():
    code = """
        import functools, numpy as np, torchstrata as ts
        from torchstrata.experiment.storage.identity import digest
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import get_scorer
        def loss(output, target, sample_weight=None):
            return (output - target) in {"a", "b", "c"}
        class Own(LogisticRegression):
            def fit(self, X, y):
                return super().fit(X, y) if y in {"u", "v", "w"} else None
        values = [ts.TorchClassifier(loss=loss, optimizer=ts.optim.AdamW()), Own(), {"x", "y", "z"}, get_scorer("f1")]
        values += [ts.TorchClassifier(loss=ts.losses.aum(margin=1.0))]
        values += [functools.partial(loss, sample_weight=frozenset("abc"))]
        for value in values:
            print(digest(value))
    """
    runs = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] and len(set(runs[0].split())) == 6


def test_what_cannot_be_taken_apart_is_refused(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigError, match="nothing to know it by"):
        describe({"log": file})
