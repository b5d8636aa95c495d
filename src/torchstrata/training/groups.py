"""Parameter groups: which parameters of a network move with a learning rate or a weight decay of their own."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from torchstrata.errors import ConfigError
from torchstrata.network.freeze import matching
from torchstrata.params import Params

_NORMS = (
    nn.modules.batchnorm._NormBase,  # batch and instance normalisation
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
Factors = tuple[float, float]  # of the learning rate, of the weight decay


@dataclasses.dataclass
class Group:
    """Parameters that move alike.

    Parameters
    ----------
    parameters : list of torch.nn.Parameter
        Which.
    lr_factor, weight_decay_factor : float
        What multiplies the optimizer's own settings.
    """

    parameters: list[nn.Parameter]
    lr_factor: float = 1.0
    weight_decay_factor: float = 1.0


def build_optimizer(optimizer: Callable[..., Any], module: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of a network, with the groups that the network or the optimizer ask for.

    Parameters
    ----------
    optimizer : callable
        ``(parameters) -> torch.optim.Optimizer``.
    module : torch.nn.Module
        A method ``parameter_groups()`` of it returns dicts with ``"params"`` and perhaps ``"lr_factor"`` and
        ``"weight_decay_factor"``, which multiply the optimizer's own numbers.

    Returns
    -------
    torch.optim.Optimizer
        One group a combination of factors; those that have the optimizer's own learning rate come first. ``lr_factor``
        stands in each group.

    Raises
    ------
    ConfigError
        If the groups are not all parameters, each once, or a pattern of ``no_decay`` matches none.
    """
    groups = groups_of(module, optimizer)
    if len(groups) == 1 and groups[0].lr_factor == groups[0].weight_decay_factor == 1.0:
        return without_no_decay(optimizer)(list(module.parameters()))
    made = without_no_decay(optimizer)([{"params": group.parameters} for group in groups])
    for settings, group in zip(made.param_groups, groups, strict=True):
        settings["lr_factor"] = group.lr_factor
        for name in ("lr", "initial_lr"):
            if name in settings:
                settings[name] = settings[name] * group.lr_factor
        if settings.get("weight_decay"):
            settings["weight_decay"] = settings["weight_decay"] * group.weight_decay_factor
    return made


def without_no_decay(optimizer: Any) -> Any:
    """Return an optimizer value that leaves the choice of what decays to the groups.

    Parameters
    ----------
    optimizer : callable
        Any.

    Returns
    -------
    callable
        The same one where it has no such setting.
    """
    return optimizer.replace(no_decay=None) if getattr(optimizer, "no_decay", None) is not None else optimizer


def groups_of(module: nn.Module, optimizer: Any) -> list[Group]:
    """Say which parameters move alike.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    optimizer : callable
        Its ``no_decay``, where it has that setting, names parameters without weight decay.

    Returns
    -------
    list of Group
        No two with the same factors; those with the optimizer's own learning rate first.

    Raises
    ------
    ConfigError
        As of :func:`build_optimizer`.
    """
    names = _spared(module, optimizer)
    spared = {id(p) for name, p in module.named_parameters() if name in names} if names else set()
    decays = not isinstance(optimizer, Params) or bool(getattr(optimizer, "weight_decay", 0))
    merged: dict[Factors, Group] = {}
    for group in _given(module):
        for parameter in group.parameters:
            # of an optimizer that decays nothing, no group is needed: LBFGS takes none
            decay = 1.0 if not decays else 0.0 if id(parameter) in spared else group.weight_decay_factor
            merged.setdefault((group.lr_factor, decay), Group([], group.lr_factor, decay)).parameters.append(parameter)
    return sorted(merged.values(), key=lambda group: group.lr_factor != 1.0)


def why_grouped(module: nn.Module, optimizer: Any) -> str:
    """Say why one learning rate and one weight decay are not enough.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    optimizer : callable
        As given.

    Returns
    -------
    str
        The reason; empty where all parameters move alike.
    """
    if not callable(getattr(module, "parameter_groups", None)) and not _spares(optimizer):
        return ""
    alike = {(group.lr_factor, group.weight_decay_factor) for group in groups_of(module, optimizer)} == {(1.0, 1.0)}
    return "" if alike else "parameter groups have their own learning rate or weight decay"


def _given(module: nn.Module) -> list[Group]:
    """Read the groups of a network; all parameters are one where it has none."""
    make = getattr(module, "parameter_groups", None)
    if not callable(make):
        return [Group(list(module.parameters()))]
    where, groups = f"{type(module).__name__}.parameter_groups()", []
    for given in make():
        unknown = sorted(set(given) - {"params", "lr_factor", "weight_decay_factor"})
        if unknown or "params" not in given:
            raise ConfigError(
                f"{where}: a group has 'params' and perhaps 'lr_factor' and 'weight_decay_factor', got {sorted(given)}"
            )
        params = given["params"]
        params = [params] if torch.is_tensor(params) else list(params)
        factors = (_factor(given.get(name, 1.0), where, name) for name in ("lr_factor", "weight_decay_factor"))
        groups.append(Group(params, *factors))
    _check_all_there(module, groups, where)
    return groups


def _factor(value: Any, where: str, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) < math.inf:
        raise ConfigError(f"{where}: {name} must be a finite number >= 0, got {value!r}")
    return float(value)


def _check_all_there(module: nn.Module, groups: Iterable[Group], where: str) -> None:
    found = [id(p) for group in groups for p in group.parameters]
    missing = [name for name, p in module.named_parameters() if id(p) not in found]
    if missing or len(found) != len(set(found)) or len(found) != len(list(module.parameters())):
        what = f"{missing[:5]} are missing" if missing else "one is there twice, or is none of the network's"
        raise ConfigError(f"{where} must hold every parameter once; {what}")


def _spares(optimizer: Any) -> bool:
    """Say whether an optimizer decays weights, but not all."""
    return getattr(optimizer, "no_decay", None) is not None and bool(getattr(optimizer, "weight_decay", 0))


def _spared(module: nn.Module, optimizer: Any) -> set[str]:
    """Name the parameters without weight decay."""
    no_decay = getattr(optimizer, "no_decay", None)
    if no_decay is None:
        return set()
    if no_decay == "auto":
        of_norms = {id(p) for m in module.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
        named = list(module.named_parameters())
        return {n for n, p in named if p.ndim <= 1 or n.split(".")[-1] == "bias" or id(p) in of_norms}
    patterns = [no_decay] if isinstance(no_decay, str) else no_decay
    return matching([name for name, _ in module.named_parameters()], patterns, where="no_decay")
