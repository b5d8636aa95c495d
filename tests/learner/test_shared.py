"""What learners on the same rows prepare once."""

from __future__ import annotations

import gc

import numpy as np
import pandas as pd

import torchstrata as ts
from torchstrata.data.encode import Encoder
from torchstrata.learner import base
from torchstrata.learner.many import answering, fit_many
from torchstrata.learner.shared import NOTHING, Shared

X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list("abc"))
Y = np.arange(60) % 2


def test_the_same_objects_give_the_same_result_and_others_do_not():
    shared, made = Shared(), []
    a, b = [1], [1]

    def make(of):
        return lambda: made.append(of) or object()

    first = shared.once("x", (a, "name", 3, (a, None)), make(1))
    assert shared.once("x", (a, "name", 3, (a, None)), make(2)) is first
    different = [
        (b, "name", 3, (a, None)),
        (a, "other", 3, (a, None)),
        (a, "name", 4, (a, None)),
        (a, "name", 3, (b, None)),
    ]
    assert all(shared.once("x", of, make(of)) is not first for of in different)
    assert shared.once("y", (a, "name", 3, (a, None)), make(3)) is not first
    assert len(made) == 6


def test_objects_are_held_so_that_no_other_takes_their_identity():
    shared = Shared()
    results = [shared.once("x", ([i],), lambda i=i: i) for i in range(100)]
    gc.collect()
    assert results == list(range(100))


def test_a_learner_alone_makes_everything_anew():
    assert NOTHING.once("x", (1,), object) is not NOTHING.once("x", (1,), object)


def test_an_encoder_is_fitted_once_for_all_learners_on_the_same_rows(monkeypatch):
    fitted = []
    fit = Encoder.fit
    monkeypatch.setattr(Encoder, "fit", lambda self, *args: fitted.append(1) or fit(self, *args))
    other = X + 1
    learners = [ts.TorchClassifier(max_epochs=1, random_state=i) for i in range(6)]
    fit_many(learners, [{"X": X if i < 4 else other, "y": Y} for i in range(6)])
    assert len(fitted) == 2
    assert learners[0].encoder_ is learners[3].encoder_ is not learners[4].encoder_
    assert list(learners[3].feature_names_in_) == ["a", "b", "c"] and learners[5].n_features_in_ == 3
    assert learners[2].classes_.tolist() == [0, 1]


def test_a_validation_split_is_that_of_each_seed_and_ratio():
    learners = [
        ts.TorchClassifier(max_epochs=1, valid=valid, random_state=seed)
        for valid, seed in ((0.2, 1), (0.2, 2), (0.4, 1))
    ]
    fit_many(learners, [{"X": X, "y": Y}] * 3)
    alone = [
        ts.TorchClassifier(max_epochs=1, valid=v, random_state=s).fit(X, Y) for v, s in ((0.2, 1), (0.2, 2), (0.4, 1))
    ]
    losses = [learner.history_.valid_loss[0] for learner in learners]
    assert np.allclose(losses, [one.history_.valid_loss[0] for one in alone], rtol=1e-5) and len(set(losses)) == 3


def test_answers_are_remembered_only_while_asked_for(monkeypatch):
    learner = ts.TorchClassifier(max_epochs=1, random_state=0).fit(X, Y)
    calls, compute = [], base.compute_outputs
    monkeypatch.setattr(base, "compute_outputs", lambda *args: calls.append(1) or compute(*args))
    with answering(learner, Shared()):
        one, two = learner.predict_proba(X), learner.decision_function(X)
        learner.predict(X)
        assert len(calls) == 1
    learner.predict(X)
    assert len(calls) == 2 and "_shared" not in vars(learner)
    assert np.allclose(one[:, 1], 1 / (1 + np.exp(-two)))
