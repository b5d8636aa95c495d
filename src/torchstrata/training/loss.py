"""What a loss is: a function of output, target and weights that also says what the rest must know.

Its link (how an output becomes a prediction), how many outputs it wants, whether a constant added to all outputs
changes it, and which classes a batch must hold. Called with settings instead of tensors it returns itself with those
settings: ``aum(margin=1.0)`` is a loss again.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from torchstrata.errors import ConfigError, DataError, did_you_mean
from torchstrata.params import Params, replace_nested


@dataclasses.dataclass(frozen=True)
class LossTraits:
    """What a loss says about itself.

    Parameters
    ----------
    kind : {"classification", "regression"}
        Which targets it is for.
    link : {"logit", "identity", "log", "none"}
        How outputs become predictions: probabilities by the logistic function or softmax, the outputs themselves, their
        exponential, or scores that are no probabilities.
    outputs : {"logits", "one", "classes", "targets", "mean_and_variance"}
        ``"logits"``: one for two classes, otherwise one a class. ``"one"``: two classes only. ``"classes"``: always one
        a class. ``"targets"``: one a target. ``"mean_and_variance"``: two for the one target; the first is the
        prediction.
    shift_invariant : bool
        Whether adding a constant to all outputs leaves the loss unchanged; then the head needs no bias.
    needs_both_classes : bool
        Whether a batch of one class teaches nothing.
    counts_setting : str
        Name of the setting that holds the class counts of all training rows; empty where the loss needs none. Where it
        is None a learner fills it in by :func:`with_class_counts`; a loss that is called by itself counts its batch.
    """

    kind: str = "classification"
    link: str = "logit"
    outputs: str = "logits"
    shift_invariant: bool = False
    needs_both_classes: bool = False
    counts_setting: str = ""


class Loss(Params):
    """A loss function with its traits and settings.

    Parameters
    ----------
    function : callable
        ``(output, target, sample_weight=None, *, settings) -> scalar``.
    traits : LossTraits
        What it says about itself.
    settings : dict, optional
        Values of the function's keyword-only arguments.
    """

    __name__: str

    def __init__(self, function: Callable[..., Tensor], traits: LossTraits, settings: dict[str, Any] | None = None):
        self.function, self.traits = function, traits
        self._settings = dict(settings or {})
        functools.update_wrapper(self, function)

    def __call__(self, output: Any = None, target: Any = None, sample_weight: Any = None, **settings: Any) -> Any:
        """Compute the loss, or return the loss with other settings where no tensors are given."""
        if output is None:
            return self.replace(**settings)
        if settings:
            return self.function(output, target, sample_weight, **{**self._settings, **settings})
        return self.function(output, target, sample_weight, **self._settings)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name.

        Parameters
        ----------
        deep : bool
            Not used: settings of losses are plain values.

        Returns
        -------
        dict
            Name to value, defaults included.
        """
        signature = inspect.signature(self.function).parameters.values()
        return {
            p.name: self._settings.get(p.name, p.default) for p in signature if p.kind is inspect.Parameter.KEYWORD_ONLY
        }

    def replace(self, **changes: Any) -> Loss:
        """Return the loss with other settings.

        Parameters
        ----------
        **changes
            New settings.

        Returns
        -------
        Loss
            A new value.
        """
        return Loss(self.function, self.traits, replace_nested(self.get_params(), changes, self.__name__))

    def __repr__(self) -> str:
        defaults = {p.name: p.default for p in inspect.signature(self.function).parameters.values()}
        changed = [f"{name}={value!r}" for name, value in self.get_params().items() if value != defaults[name]]
        return f"{self.__name__}({', '.join(changed)})" if changed else self.__name__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and (self.__name__, self.get_params()) == (other.__name__, other.get_params())

    def __hash__(self) -> int:
        return hash((self.__name__, repr(self)))

    def __reduce__(self):
        return _named_loss, (self.function.__module__, self.__name__, self._settings)


def with_class_counts(given: Any, counts: Any) -> Any:
    """Give a loss the class counts of the training rows, where it wants them and has none.

    Parameters
    ----------
    given : loss
        As of :func:`resolve_loss`.
    counts : sequence of float
        Rows, or sums of weights, of each class in the order of the class numbers.

    Returns
    -------
    loss
        Another loss with this setting, or the same one where nothing is to be set.
    """
    if hasattr(given, "bound_to"):  # heads, each with its own classes
        return given.bound_to(counts)
    setting = given.traits.counts_setting
    if not setting or not isinstance(given, Loss) or given.get_params()[setting] is not None:
        return given
    return given.replace(**{setting: tuple(float(count) for count in counts)})


def known_losses() -> dict[str, Loss]:
    """Return all losses by name.

    Returns
    -------
    dict of str to Loss
        Those of ``ts.losses``, and any registered since.
    """
    importlib.import_module("torchstrata.training.losses")  # its import registers them
    return LOSSES


def _named_loss(module: str, name: str, settings: dict[str, Any]) -> Loss:
    importlib.import_module(module)  # its import registers the loss
    loss = LOSSES[name]
    return Loss(loss.function, loss.traits, settings) if settings else loss


LOSSES: dict[str, Loss] = {}


def loss(**traits: Any) -> Callable[[Callable[..., Tensor]], Loss]:
    """Register a function as a loss under its name.

    Parameters
    ----------
    **traits
        Fields of :class:`LossTraits`.

    Returns
    -------
    callable
        A decorator that returns a :class:`Loss`.
    """

    def register(function: Callable[..., Tensor]) -> Loss:
        made = LOSSES[function.__name__] = Loss(function, LossTraits(**traits))
        return made

    return register


def weighted_mean(values: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Average over rows.

    Parameters
    ----------
    values : Tensor, shape (n,) or (n, k)
        One value a row, or a row of values that are averaged first.
    sample_weight : Tensor of shape (n,), optional
        Weights; rows of weight zero do not count.

    Returns
    -------
    Tensor
        A scalar; zero where all weights are zero.
    """
    if sample_weight is None:
        return values.mean()
    per_row = values.flatten(1).mean(1) if values.ndim > 1 else values
    weight = sample_weight.to(per_row.dtype)
    return torch.dot(per_row, weight) / weight.sum().clamp_min(torch.finfo(per_row.dtype).tiny)


_TORCH_TRAITS = {
    "CrossEntropyLoss": LossTraits("classification", "logit", "classes"),
    "BCEWithLogitsLoss": LossTraits("classification", "logit", "one"),
    "MSELoss": LossTraits("regression", "identity", "targets"),
    "L1Loss": LossTraits("regression", "identity", "targets"),
    "HuberLoss": LossTraits("regression", "identity", "targets"),
    "SmoothL1Loss": LossTraits("regression", "identity", "targets"),
}


@dataclasses.dataclass(frozen=True)
class TorchModuleLoss:
    """A ``torch.nn`` loss, weighted by rows.

    Parameters
    ----------
    module : torch.nn.Module
        With a ``reduction`` attribute, as torch's losses have; a mean becomes a weighted mean, a sum a weighted sum.
    traits : LossTraits
        What it says about itself.
    """

    module: torch.nn.Module
    traits: LossTraits

    def __call__(self, output: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Compute the loss; without weights exactly as the module does."""
        several = self.traits.kind == "classification" and output.ndim > 1 and output.shape[1] > 1
        if several or self.traits.outputs == "classes":
            target = target.long()
        else:
            target = target.to(output.dtype).view_as(output)
        if sample_weight is None:
            return self.module(output, target)
        each = _each(self.module)(output, target)
        if self.module.reduction == "sum":
            return torch.tensordot(sample_weight.to(each.dtype), each, 1).sum()
        of_class = getattr(self.module, "weight", None) if several else None
        if of_class is None:
            return weighted_mean(each, sample_weight)
        # torch's mean divides by the weights of the classes of the rows: their losses hold these weights already
        weight = sample_weight.to(each.dtype)
        return torch.dot(each, weight) / torch.dot(of_class[target], weight).clamp_min(torch.finfo(each.dtype).tiny)


def _each(module: torch.nn.Module) -> torch.nn.Module:
    each: Any = copy.copy(module)  # shallow: shares buffers such as class weights
    each.reduction = "none"
    return each


@dataclasses.dataclass(frozen=True)
class PlainLoss:
    """A user's function as a loss; weights are refused where it cannot take them.

    Parameters
    ----------
    function : callable
        ``(output, target)`` or ``(output, target, sample_weight)``.
    traits : LossTraits
        What the rest may assume.
    """

    function: Callable[..., Tensor]
    traits: LossTraits

    def __call__(self, output: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Compute the loss."""
        if sample_weight is None:
            return self.function(output, target)
        try:
            inspect.signature(getattr(self.function, "forward", self.function)).bind(output, target, sample_weight)
        except TypeError:
            raise ConfigError(
                f"loss {_name(self)} takes no weights of rows: make it (output, target, sample_weight=None), "
                "or fit without sample_weight and class_weight"
            ) from None
        return self.function(output, target, sample_weight)


def resolve_loss(given: Any, kind: str) -> Any:
    """Turn what the user gave as ``loss`` into a callable with traits.

    Parameters
    ----------
    given : str, Loss, torch.nn.Module, callable or dict
        A name in this module, one of its losses, a torch loss or a function of output and target; a dict of these is
        one for each column of y, :class:`~torchstrata.training.several.Heads`.
    kind : {"classification", "regression"}
        What the learner is for.

    Returns
    -------
    callable
        ``(output, target, sample_weight=None) -> scalar`` with an attribute ``traits``.

    Raises
    ------
    ConfigError
        If the name is unknown, or the loss is for the other kind of target.
    """
    if isinstance(given, str):
        losses = known_losses()
        if given not in losses:
            raise ConfigError(f"unknown loss {given!r}. {did_you_mean(given, losses)}")
        given = losses[given]
    if isinstance(given, Mapping):
        from torchstrata.training.several import Heads  # it reads this module

        given = Heads(given)
    if isinstance(given, type):
        raise ConfigError(f"loss is the class {given.__name__}; give an instance: {given.__name__}()")
    if isinstance(given, torch.nn.Module) and hasattr(given, "reduction"):
        fallback = LossTraits(kind, _link_of(kind), _outputs_of(kind))
        given = TorchModuleLoss(given, _TORCH_TRAITS.get(type(given).__name__, fallback))
    elif not hasattr(given, "traits"):
        if not callable(given):
            raise ConfigError(f"loss must be a name, a function or a torch module, got {given!r}")
        inner = getattr(given, "func", given)  # functools.partial of one of ours keeps its traits
        traits = getattr(inner, "traits", None) or LossTraits(kind, _link_of(kind), _outputs_of(kind))
        given = PlainLoss(given, traits)
    if given.traits.kind != kind:
        fitting = [name for name, each in known_losses().items() if each.traits.kind == kind]
        fitting.sort(key=lambda name: name not in ("cross_entropy", "mse"))  # the usual one first
        raise ConfigError(f"loss {_name(given)} is for {given.traits.kind}; for {kind} use one of {fitting}")
    return given


def _link_of(kind: str) -> str:
    return "logit" if kind == "classification" else "identity"


def _outputs_of(kind: str) -> str:
    return "logits" if kind == "classification" else "targets"


def _name(given: Any) -> str:
    inner = getattr(given, "module", getattr(given, "function", given))
    return repr(given) if isinstance(given, Loss) else getattr(inner, "__name__", type(inner).__name__)


def count_outputs(traits: LossTraits, n_classes: int, n_targets: int) -> int:
    """Say how many outputs a network needs for a loss.

    Parameters
    ----------
    traits : LossTraits
        Of the loss.
    n_classes, n_targets : int
        Of the data.

    Returns
    -------
    int
        Number of outputs.

    Raises
    ------
    DataError
        If a loss for two classes meets more, or one for a single target several.
    """
    if traits.outputs == "mean_and_variance":
        if n_targets > 1:
            raise DataError(f"this loss is for one target; y has {n_targets} columns. Use loss='mse'")
        return 2
    if traits.outputs == "targets":
        return n_targets
    if traits.outputs == "one" and n_classes > 2:
        raise DataError(f"this loss is for two classes; y has {n_classes} classes. Use loss='cross_entropy'")
    return n_classes if traits.outputs == "classes" or n_classes > 2 else 1
