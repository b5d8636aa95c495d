"""How we say no."""

from __future__ import annotations

import pickle

import pytest

from torchstrata.errors import ConfigError, DataError, NonFiniteError, did_you_mean, missing_extra


@pytest.mark.parametrize(
    ("name", "known", "guess"),
    [
        ("diagnosys", ["radius", "diagnosis"], "diagnosis"),
        ("CLASS", ["Class", "x"], "Class"),
        ("100o", [1000, 25], "1000"),
        ("amu", ["cross_entropy", "aum", "mse"], "aum"),
    ],
)
def test_did_you_mean_names_the_nearest(name, known, guess):
    assert did_you_mean(name, known).startswith(f"Did you mean {guess!r}? Known: ")


def test_did_you_mean_is_silent_where_nothing_is_near():
    assert did_you_mean("zzz", ["alpha", "beta"]) == "Known: 'alpha', 'beta'."


def test_did_you_mean_cuts_a_long_list_and_says_so():
    message = did_you_mean("q", [f"column{i}" for i in range(50)], most=3)
    assert message == "Known: 'column0', 'column1', 'column2', ... (50 in all)."


def test_did_you_mean_prefers_the_first_of_names_that_differ_in_case():
    assert "'Class'" in did_you_mean("clas", ["Class", "class"]).split("Known")[0]


def test_errors_are_those_that_scikit_learn_expects():
    assert issubclass(DataError, ValueError)
    assert issubclass(ConfigError, ValueError)
    assert issubclass(NonFiniteError, RuntimeError)


def test_non_finite_error_keeps_place_and_history_through_pickle():
    history = [{"epoch": 1, "train_loss": 0.5}]
    error = pickle.loads(pickle.dumps(NonFiniteError("loss became nan", epoch=2, step=3, history=history)))
    assert (str(error), error.epoch, error.step, error.history) == ("loss became nan", 2, 3, history)


def test_non_finite_error_does_not_share_the_history_list():
    history = [{"epoch": 1}]
    error = NonFiniteError("", history=history)
    history.append({"epoch": 2})
    assert len(error.history) == 1


def test_missing_extra_says_what_to_type():
    error = missing_extra("optuna", "tune", "Searching")
    assert isinstance(error, ImportError)
    assert str(error).startswith("Searching needs optuna")
    assert "pip install 'torchstrata[tune]'" in str(error)
