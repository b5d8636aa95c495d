"""The columns of a table as RealMLP sees them."""

from __future__ import annotations

import numpy as np
import torch

import torchstrata as ts
from torchstrata.network.realmlp_columns import OneHot, Vectors, Waves


def test_one_hot_columns_are_scaled_as_numbers_are():
    """Against scikit-learn's one-hot columns and the encoder's own scaling."""
    category = torch.tensor([[1, 1], [2, 1], [2, 2], [1, 3], [1, 3], [1, 3], [1, 4], [0, 0]])
    layer = OneHot([(0, 3), (1, 5)])
    layer.set_initial(category)
    column = (category[:, 1, None] == torch.arange(1, 5)).double().numpy()
    sign = np.array([1, -1, -1, 1, 1, 1, 1, 0.0])[:, None]
    expected = ts.Encoder().fit_transform(np.hstack([sign, column]))["number"]
    np.testing.assert_allclose(layer(category).numpy(), expected, rtol=1e-6, atol=1e-6)


def test_values_not_seen_have_no_vector():
    layer = Vectors([(1, 4), (2, 3)], 5)
    out = layer(torch.tensor([[9, 0, 0], [9, 3, 2]]))
    assert out.shape == (2, 10)
    assert (out[0] == 0).all()
    assert (out[1] == layer.weight[[3, 6]].flatten()).all()


def test_waves_have_the_number_last():
    layer = Waves(2, ts.RealMLP(n_frequencies=4, number_size=3))
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(layer(x)[:, -2:], x)
    assert layer(x).shape == (2, 6)
