"""The backend of joblib that trains the fits of a search together."""

from __future__ import annotations

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import make_classification
from sklearn.model_selection import KFold, cross_validate

import torchstrata as ts
from torchstrata.experiment.stacking import Call, StackingBackend, shared_out


@pytest.fixture(scope="module")
def rows():
    return make_classification(n_samples=60, n_features=5, random_state=0)


def learner(**settings):
    return ts.TorchClassifier(ts.MLP((5,)), max_epochs=2, random_state=0, **settings)


def test_parts_keep_fits_of_one_shape_and_split_together(rows):
    calls = []
    splits = list(KFold(2).split(rows[0]))
    for i, hidden in enumerate([(4,), (6,), (4,), (6,)]):
        parameters = {"network__hidden": hidden, "random_state": i}
        for j, (train, test) in enumerate(splits):
            place = {"candidate_progress": (i, 4), "split_progress": (j, 2)}
            model = learner().set_params(**parameters)
            calls.append(Call(print, (model, *rows), dict(place, train=train, test=test, parameters=parameters)))
    parts = [[call.place for call in part] for part in shared_out(calls, workers=2)]
    assert parts == [[(0, 0), (2, 0), (0, 1), (2, 1)], [(1, 0), (3, 0), (1, 1), (3, 1)]]


def test_the_backend_carries_out_other_calls_as_they_are():
    with parallel_config(backend=StackingBackend()):
        assert Parallel()(delayed(pow)(i, 2) for i in range(30)) == [i**2 for i in range(30)]
        with pytest.raises(ZeroDivisionError):
            Parallel()(delayed(divmod)(1, i) for i in (1, 0))


def test_other_functions_of_scikit_learn_profit_too(rows):
    plain = cross_validate(learner(), *rows, cv=4, return_estimator=True)
    with parallel_config(backend=StackingBackend()):
        stacked = cross_validate(learner(), *rows, cv=4, return_estimator=True)
    np.testing.assert_allclose(stacked["test_score"], plain["test_score"], atol=1e-6)
    for one, other in zip(stacked["estimator"], plain["estimator"], strict=True):
        assert one.runtime_.reasons["vectorize"][0] == 4
        np.testing.assert_allclose(one.predict_proba(rows[0]), other.predict_proba(rows[0]), atol=1e-5)


def test_a_failing_call_leaves_nothing_behind(rows):
    backend = StackingBackend()
    with parallel_config(backend=backend):
        with pytest.raises(ZeroDivisionError):
            Parallel()(delayed(divmod)(1, i) for i in (1, 0, 1))
        assert Parallel()(delayed(abs)(i) for i in (-1, 2)) == [1, 2]
    assert [answer.value for answer in backend.answers] == [1, 2]
