from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from sklearn.base import clone

from torchstrata.errors import ConfigError, NonFiniteError
from torchstrata.testing import DebugLearner

X, Y = np.arange(20.0).reshape(10, 2), np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"error_train": 1.0}, RuntimeError),
        ({"error_train": 1.0, "raise_class": "SystemExit"}, SystemExit),
        ({"error_train": 1.0, "raise_class": "ConfigError"}, ConfigError),
        ({"nan_loss_at": 2}, NonFiniteError),
        ({"alloc_gb": 1e9}, MemoryError),
        ({"signal": "SIGINT"}, KeyboardInterrupt),
    ],
)
def test_it_fails_in_fit_as_told(how, error):
    with pytest.raises(error):
        DebugLearner(**how).fit(X, Y)


def test_it_misbehaves_in_predict_as_told():
    with pytest.raises(RuntimeError, match="fails in predict"):
        DebugLearner(error_predict=1.0).fit(X, Y).predict(X)
    assert len(DebugLearner(wrong_length=2).fit(X, Y).predict(X)) == 12
    assert set(DebugLearner(wrong_classes=True).fit(X, Y).predict(X)) == {"no such class"}
    proba = DebugLearner(missing_predictions=3).fit(X, Y).predict_proba(X)
    assert np.isnan(proba).all(1).tolist() == [True] * 3 + [False] * 7


def test_it_misbehaves_where_told_alone():
    learner = DebugLearner(error_train=1.0, wrong_length=1, when=lambda X: X[0, 0] > 0)
    fitted = learner.fit(X, Y)
    assert len(fitted.predict(X)) == 10
    with pytest.raises(RuntimeError):
        clone(learner).fit(X[1:], Y[1:])
    late = DebugLearner(wrong_length=1, when=lambda X: len(X) == 10)
    assert len(late.fit(X, Y).predict(X)) == 11 and len(late.fit(X[1:], Y[1:]).predict(X)) == 10


def test_it_misbehaves_once(tmp_path):
    learner = DebugLearner(error_train=1.0, once=tmp_path / "once")
    with pytest.raises(RuntimeError):
        learner.fit(X, Y)
    assert learner.fit(X, Y).predict(X).tolist() == [0] * 10
    other = DebugLearner(error_train=1.0, when=lambda X: False, once=tmp_path / "other")
    other.fit(X, Y)
    assert not (tmp_path / "other").exists(), "what does not misbehave leaves no trace"


def test_probabilities_come_from_the_seed():
    def fails(seed):
        try:
            DebugLearner(error_train=0.5, random_state=seed).fit(X, Y)
        except RuntimeError:
            return True
        return False

    found = [fails(seed) for seed in range(40)]
    assert found == [fails(seed) for seed in range(40)] and 8 < sum(found) < 32


def test_a_signal_reaches_this_process():
    caught = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
    try:
        fitted = DebugLearner(signal="SIGUSR1").fit(X, Y)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught == [signal.SIGUSR1] and fitted.pid_ == os.getpid() and fitted.n_fits_ == 1
