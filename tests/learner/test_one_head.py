"""One head of a fitted learner is an estimator of its own, and has scorers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import is_classifier, is_regressor
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import get_scorer, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = np.column_stack([X[:, 0], np.where(X[:, 1] > 0, 9, 4), np.digitize(X[:, 2], [-0.5, 0.5])])
LOSS = {"size": "huber", "two": "cross_entropy", "three": "cross_entropy"}


@pytest.fixture(scope="module")
def fitted():
    return ts.TorchRegressor(ts.MLP((16,)), loss=LOSS, max_epochs=15, random_state=0).fit(X, Y)


def test_each_head_is_an_estimator(fitted):
    size, two, three = (fitted.head(name) for name in LOSS)
    assert is_regressor(size) and is_classifier(two) and is_classifier(three)
    assert two.classes_.tolist() == [4, 9] and three.classes_.tolist() == [0, 1, 2]
    assert two.decision_function(X).shape == (120,) and three.decision_function(X).shape == (120, 3)
    for head in (two, three):
        proba = head.predict_proba(X)
        np.testing.assert_allclose(proba.sum(1), 1)
        np.testing.assert_array_equal(head.predict(X), head.classes_[proba.argmax(1)])
    np.testing.assert_array_equal(np.column_stack([h.predict(X) for h in (size, two, three)]), fitted.predict(X))
    mean = np.mean([size.score(X, Y[:, 0]), two.score(X, Y[:, 1]), three.score(X, Y[:, 2])])
    assert fitted.score(X, Y) == pytest.approx(mean)


@pytest.mark.parametrize(("head", "measure"), [("two", "roc_auc"), ("three", "neg_log_loss"), ("size", "r2")])
def test_a_scorer_of_a_head_is_scikit_learns_on_its_column(fitted, head, measure):
    scorer, column = ts.head_scorer(head, measure), list(LOSS).index(head)
    wanted = get_scorer(measure)(fitted.head(head), X, Y[:, column])
    assert scorer(fitted, X, Y) == wanted and scorer.__name__ == f"{head}_{measure}"
    assert pickle.loads(pickle.dumps(scorer))(fitted, X, Y) == wanted


def test_in_training_it_is_the_same():
    made = ts.TorchRegressor(loss=LOSS, max_epochs=3, random_state=0, scoring=ts.head_scorer("two", "roc_auc"))
    made.fit(X[:80], Y[:80], valid_set=(X[80:], Y[80:]))
    found = roc_auc_score(Y[80:, 1] == 9, made.head("two").decision_function(X[80:]))
    assert made.history_["valid_two_roc_auc"].iloc[-1] == pytest.approx(found)


def test_of_a_pipeline():
    made = make_pipeline(StandardScaler(), ts.TorchRegressor(loss=LOSS, max_epochs=2, random_state=0)).fit(X, Y)
    inner = StandardScaler().fit_transform(X)
    assert ts.head_scorer("size", "r2")(made, X, Y) == made[-1].head("size").score(inner, Y[:, 0])


def test_what_has_no_such_head_says_so(fitted):
    with pytest.raises(ts.ConfigError, match=r"no head 'tow'\. Did you mean 'two'"):
        fitted.head("tow")
    with pytest.raises(ts.ConfigError, match="has no heads: give one for each column of y"):
        ts.TorchRegressor(max_epochs=1).fit(X, Y[:, 0]).head("two")
    with pytest.raises(ts.ConfigError, match="DummyRegressor has no heads"):
        ts.head_scorer("two", "accuracy")(DummyRegressor().fit(X, Y), X, Y)
    with pytest.raises(NotFittedError):
        ts.TorchRegressor(loss=LOSS).head("two")
