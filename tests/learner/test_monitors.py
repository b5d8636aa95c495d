from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

import torchstrata as ts

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9 has no callbacks")

X, Y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2


class Recorder:
    """Writes down what it is told, and stops where it should."""

    max_propagation_depth = None

    def __init__(self, stop_after=None):
        self.seen, self.stop_after, self.accuracies = [], stop_after, []

    def setup(self, estimator, context):
        self.seen.append("setup")

    def teardown(self, estimator, context):
        self.seen.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.seen.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.seen.append(("end", context.task_name, context.task_id))
        if fitted_estimator is not None and context.task_name == "epoch":
            self.accuracies.append(fitted_estimator.predict_proba(X)[:, 1])
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


def learner(**settings):
    return ts.TorchClassifier(ts.Linear(), **{"max_epochs": 3, "random_state": 0, **settings})


def test_an_epoch_is_a_sub_context_of_the_fit():
    recorder = Recorder()
    learner().set_callbacks(recorder).fit(X, Y)
    epochs = [(what, "epoch", i) for i in range(3) for what in ("begin", "end")]
    assert recorder.seen == ["setup", ("begin", "fit", 0), *epochs, ("end", "fit", 0), "teardown"]


def test_a_callback_sees_a_fitted_estimator_and_can_stop():
    recorder = Recorder(stop_after=2)
    fitted = learner().set_callbacks(recorder).fit(X, Y)
    assert len(fitted.history_) == 2 and fitted.stop_reason_ == "a callback of scikit-learn"
    one = learner(max_epochs=1).fit(X, Y).predict_proba(X)[:, 1]
    np.testing.assert_array_equal(recorder.accuracies[0], one)
    np.testing.assert_array_equal(recorder.accuracies[1], fitted.predict_proba(X)[:, 1])


def test_teardown_comes_also_after_an_error_and_the_fit_is_the_same_without():
    recorder = Recorder()
    with pytest.raises(ts.ConfigError):
        learner(loss="amu").set_callbacks(recorder).fit(X, Y)
    watched = learner().set_callbacks(Recorder()).fit(X, Y)
    np.testing.assert_array_equal(watched.predict_proba(X), learner().fit(X, Y).predict_proba(X))


def test_the_progress_bar_works_in_a_search():
    search = GridSearchCV(learner(), {"optimizer__lr": [0.01, 0.1]}, cv=2)
    if not hasattr(search, "set_callbacks"):
        pytest.skip("this scikit-learn's searches pass no callbacks on")
    search.set_callbacks(callback.ProgressBar()).fit(X, Y)
    assert search.best_score_ > 0
