"""Every optimizer of ``torch.optim`` as a value: torch's own arguments, called on parameters.

``AdamW(lr=1e-2)`` is immutable and answers ``get_params``, so ``set_params(optimizer__lr=...)`` works on a learner;
called with parameters it returns the torch optimizer. ``functools.partial(torch.optim.AdamW, lr=1e-2)`` serves as well.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.params import Params
from torchstrata.training.descent import AUMLineSearch as AUMLineSearch

# What stands here, an attribute of this module each; the classes are made below from torch's signatures.
NAMES = [
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "LBFGS",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
    "SparseAdam",
]


class TorchOptimizer(Params):
    """Base of the optimizers: builds the torch optimizer of the same name, fused where torch has it.

    Torch's own checks of the settings run when it is built; the learning rate is checked at once.

    Parameters
    ----------
    no_decay : None, "auto", str or list of str
        Of those that have a ``weight_decay``: which parameters it spares. None spares none, as torch; ``"auto"`` spares
        biases, the parameters of normalisations and whatever has one dimension; patterns of names are those of
        ``trainable=``. The learner reads the names in its network.
    """

    def __post_init__(self) -> None:
        settings = self.get_params(deep=False)
        lr, no_decay = settings["lr"], settings.get("no_decay")
        if not torch.is_tensor(lr) and not (isinstance(lr, numbers.Real) and 0 < float(lr) < math.inf):
            raise ConfigError(f"{type(self).__name__}: lr must be a positive finite number, got {lr!r}")
        several = isinstance(no_decay, list | tuple) and all(isinstance(pattern, str) for pattern in no_decay)
        if not (no_decay is None or isinstance(no_decay, str) or several):
            raise ConfigError(
                f"{type(self).__name__}: no_decay must be None, 'auto' or patterns of names such as ['*.bias'], "
                f"got {no_decay!r}"
            )

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """Build the torch optimizer.

        Parameters
        ----------
        parameters : iterable of Tensor or dict
            As torch's optimizers take them.

        Returns
        -------
        torch.optim.Optimizer
            Of the class of the same name.
        """
        parameters = list(parameters)
        settings = self.get_params(deep=False)
        if settings.pop("no_decay", None) is not None:
            raise ConfigError(
                f"{self!r}: no_decay goes by the names in a network, and parameters alone have none: give the "
                "optimizer to a learner, or call it without no_decay on groups of your own: "
                "[{'params': [...], 'weight_decay': 0.0}, ...]"
            )
        if "fused" in settings and settings["fused"] is None and _can_fuse(parameters, settings):
            settings["fused"] = True
        try:
            return getattr(torch.optim, type(self).__name__)(parameters, **settings)
        except ValueError as error:
            raise ConfigError(f"{self!r}: {error}") from error


def _can_fuse(parameters: list[Any], settings: dict[str, Any]) -> bool:
    if settings.get("foreach") or settings.get("differentiable") or not parameters:
        return False
    if settings.get("momentum"):
        return False  # torch's fused SGD breaks where parameters join later (trainable={0: ..., 3: ...})
    tensors = [t for p in parameters for t in (p["params"] if isinstance(p, dict) else [p])]
    return all(torch.is_tensor(t) and t.is_floating_point() and t.device.type in ("cpu", "cuda") for t in tensors)


_OURS = {
    "no_decay": "no_decay : None, 'auto' or patterns of parameter names that have no weight decay; 'auto': biases, "
    "normalisations, whatever has one dimension",
    "per": "per : 'epoch' or 'step'; when the schedule moves on",
}


def _value_class(source: type, base: type, skip: tuple[str, ...], module: str, **extra: Any) -> type:
    """Make a frozen dataclass whose fields are the arguments of a torch class."""
    fields: list[tuple[str, Any, Any]] = []
    for p in list(inspect.signature(source.__init__).parameters.values())[1:]:  # type: ignore[misc]
        if p.name in skip:
            continue
        required = p.default is inspect.Parameter.empty
        default = extra.pop(p.name, dataclasses.MISSING if required else p.default)
        fields.append((p.name, Any, dataclasses.field(default=default, kw_only=p.kind is p.KEYWORD_ONLY)))
    fields += [(name, Any, dataclasses.field(default=value, kw_only=True)) for name, value in extra.items()]
    made = dataclasses.make_dataclass(
        source.__name__, fields, bases=(base,), frozen=True, repr=False, namespace={"__module__": module}
    )
    made.__doc__ = (
        f"``torch.optim`` class {source.__name__} as a value, with torch's own arguments.\n\n"
        f"Parameters\n----------\n"
        + "\n".join(_OURS.get(name, f"{name} : see torch's documentation of {source.__name__}") for name, *_ in fields)
    )
    return made


for _name in NAMES:
    if hasattr(torch.optim, _name):
        _source = getattr(torch.optim, _name)
        _more = {"no_decay": None} if "weight_decay" in inspect.signature(_source.__init__).parameters else {}
        globals()[_name] = _value_class(_source, TorchOptimizer, ("params",), __name__, **_more)

if TYPE_CHECKING:
    AdamW: Callable[..., TorchOptimizer]
    SGD: Callable[..., TorchOptimizer]
    Adam: Callable[..., TorchOptimizer]


def resolve_optimizer(given: Any) -> Callable[[Iterable[Any]], torch.optim.Optimizer]:
    """Turn what the user gave as ``optimizer`` into a callable on parameters.

    Parameters
    ----------
    given : str or callable
        A name in this module (any case), one of its values, or a function of parameters.

    Returns
    -------
    callable
        ``(parameters) -> torch.optim.Optimizer``.

    Raises
    ------
    ConfigError
        If the name is unknown, or an optimizer object was given, which belongs to other parameters.
    """
    if isinstance(given, str):
        by_lower = {name.lower(): name for name in [*NAMES, "AUMLineSearch"]}
        if given.lower() not in by_lower:
            raise ConfigError(f"unknown optimizer {given!r}. {did_you_mean(given, by_lower)}")
        return globals()[by_lower[given.lower()]]()
    if isinstance(given, torch.optim.Optimizer):
        raise ConfigError(
            f"optimizer is a {type(given).__name__} of other parameters; give ts.optim.{type(given).__name__}(lr=...) "
            "or functools.partial of torch's class, which are called with the learner's own parameters"
        )
    if isinstance(given, type) and issubclass(given, Params):
        raise ConfigError(f"optimizer is the class {given.__name__}; give a value: ts.optim.{given.__name__}()")
    if not callable(given):
        raise ConfigError(f"optimizer must be a name or a function of parameters, got {given!r}")
    return given
