"""Center and scale: what they are, and what constant and tiny columns do."""

import numpy as np
import pytest
from sklearn.preprocessing import RobustScaler, StandardScaler

import torchstrata as ts
from torchstrata.data.scaling import center_and_scale

X = np.random.default_rng(0).lognormal(size=(101, 3))


@pytest.mark.parametrize(("scaling", "reference"), [("standard", StandardScaler()), ("robust", RobustScaler())])
def test_columns_that_vary_are_scaled_as_scikit_learn_does(scaling, reference):
    center, scale = center_and_scale(X, scaling)
    np.testing.assert_allclose((X - center) / scale, reference.fit_transform(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scaling", ["standard", "robust"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e30, -7.0])
def test_a_constant_column_becomes_zero_and_stays_small(scaling, value):
    center, scale = center_and_scale(np.full((1000, 1), value), scaling)
    assert np.isinf(scale).all()
    assert ((np.array([[value + 5.0]]) - center) / scale == 0).all()


def test_quartiles_that_agree_leave_half_the_range():
    center, scale = center_and_scale(np.array([[0.0]] * 9 + [[4.0]]), "robust")
    assert (center, scale) == ([0.0], [2.0])


def test_a_typing_error_is_guessed():
    with pytest.raises(ts.ConfigError, match="Did you mean 'standard'"):
        ts.Encoder(scaling="standart").fit(X)


def test_auto_is_standard_with_a_wide_clip_and_its_settings_are_reached_by_name():
    learner = ts.TorchClassifier(ts.Linear(), max_epochs=1).fit(X, np.arange(101) % 2)
    assert learner.encoder_.get_params()["scaling"] == "standard"
    rows = learner.encoder_.transform(X * 1e6)["number"]
    assert np.abs(rows).max() <= 10.0
    assert ts.TorchClassifier().set_params(encoder__scaling="robust").encoder.scaling == "robust"
