"""Activations and normalisations by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchstrata.errors import ConfigError
from torchstrata.network.activations import ACTIVATIONS, NORMS, check_activation, make_activation


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_name_makes_a_module_of_its_own(name):
    check_activation(name, "X")
    one, other = make_activation(name), make_activation(name)
    assert one is not other
    assert one(torch.zeros(2, 3)).shape == (2, 3)


def test_a_function_makes_the_module():
    check_activation(nn.ReLU6, "X")
    assert isinstance(make_activation(nn.ReLU6), nn.ReLU6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("rellu", "X: unknown activation 'rellu'. Did you mean 'relu'"),
        (nn.ReLU(), "the class, not an instance"),
        (None, "activation must be a name or a function that returns a module"),
    ],
)
def test_others_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        check_activation(given, "X")


@pytest.mark.parametrize("name", NORMS)
def test_norms_take_a_width(name):
    assert NORMS[name](3)(torch.randn(4, 3)).shape == (4, 3)
