"""Activations and normalisations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from torchstrata.errors import ConfigError, did_you_mean

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}
NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def check_activation(given: Any, where: str) -> None:
    """Refuse what is no activation.

    Parameters
    ----------
    given : object
        A name in :data:`ACTIVATIONS`, or a function that returns a module.
    where : str
        Whose setting it is, for the message.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    if isinstance(given, str):
        if given not in ACTIVATIONS:
            raise ConfigError(f"{where}: unknown activation {given!r}. {did_you_mean(given, ACTIVATIONS)}")
    elif isinstance(given, nn.Module) or not callable(given):
        raise ConfigError(
            f"{where}: activation must be a name or a function that returns a module, such as torch.nn.ReLU "
            f"(the class, not an instance), got {given!r}"
        )


def make_activation(given: Any) -> nn.Module:
    """Make the module of an activation.

    Parameters
    ----------
    given : str or callable
        As of :func:`check_activation`.

    Returns
    -------
    torch.nn.Module
        A new one.
    """
    return ACTIVATIONS[given]() if isinstance(given, str) else given()
