"""Heads: several targets, each with a loss and a weight of its own, of one network."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.params import Params, nested_params, replace_nested
from torchstrata.training.loss import LossTraits, count_outputs, resolve_loss, with_class_counts


@dataclasses.dataclass(frozen=True)
class HeadTraits(LossTraits):
    """What a loss of several heads says about itself.

    Parameters
    ----------
    heads : tuple of (str, LossTraits)
        The traits of the loss of each head, in the order of the columns of y.
    """

    heads: tuple[tuple[str, LossTraits], ...] = ()


@dataclasses.dataclass(frozen=True, repr=False)
class Heads(Params):
    """Several targets, each with a loss and a weight of its own: ``sum of weight * loss`` over the heads.

    The network has the outputs of all heads side by side, in this order. A head whose loss is for classification gets
    one output for two classes and one a class for more; its column of y holds whole numbers, one a class.

    Parameters
    ----------
    losses : dict of str to loss
        Name of each column of y, in their order, to its loss: a name in ``ts.losses``, one of these, a torch loss, or a
        function ``(output, target, sample_weight=None) -> scalar``.
    weights : dict of str to float, optional
        Weights of heads; 1 where none is given.

    Raises
    ------
    ConfigError
        If a loss is unknown or gives scores that are no probabilities, a weight is none, or there is no head.

    Examples
    --------
    >>> heads = Heads({"price": "mse", "kind": "cross_entropy"}, weights={"kind": 0.5})
    >>> heads.replace(price="huber", kind__label_smoothing=0.1)
    Heads({'price': 'huber', 'kind': cross_entropy(label_smoothing=0.1)}, weights={'kind': 0.5})
    """

    losses: Any
    weights: Any = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "losses", _pairs(self.losses, "losses"))
        object.__setattr__(self, "weights", _pairs(self.weights or (), "weights"))
        if not self.losses:
            raise ConfigError("Heads needs a loss for each column of y: ts.Heads({'price': 'mse', 'kind': ...})")
        names = [name for name, _ in self.losses]
        for name in names:
            if not name.isidentifier() or "__" in name or name in ("losses", "weights"):
                raise ConfigError(f"Heads: a head's name must be a word without '__', no 'losses', got {name!r}")
        for name, weight in self.weights:
            if name not in names:
                raise ConfigError(f"Heads: weights names {name!r}, which is no head. {did_you_mean(name, names)}")
            if isinstance(weight, bool) or not isinstance(weight, numbers.Real) or not 0 <= float(weight) < np.inf:
                raise ConfigError(f"Heads: the weight of {name!r} must be a finite number >= 0, got {weight!r}")
        self.resolved()

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name.

        Parameters
        ----------
        deep : bool
            Whether to include the losses by the names of their heads, and their settings as ``head__setting``.

        Returns
        -------
        dict
            Name to value.
        """
        own = super().get_params(deep=False)
        return {**own, **nested_params(self._by_name())} if deep else own

    def replace(self, **changes: Any) -> Heads:
        """Return the same with other settings.

        Parameters
        ----------
        **changes
            ``losses``, ``weights``, a head by its name, or a setting of its loss, ``head__setting``.

        Returns
        -------
        Heads
            A new value.
        """
        own = {**super().get_params(deep=False), **self._by_name()}
        inside = {name.partition("__")[0] for name in changes if "__" in name}
        for name in inside & set(self._by_name()):
            if isinstance(own[name], str):  # a name has no settings; the loss it stands for has
                own[name] = dict(self.resolved())[name]
        changed = replace_nested(own, changes, "Heads")
        heads = _pairs(changes["losses"], "losses") if "losses" in changes else self.losses
        return Heads([(name, changed.get(name, loss)) for name, loss in heads], weights=changed["weights"])

    def _by_name(self) -> dict[str, Any]:
        return dict(self.losses)

    def resolved(self) -> list[tuple[str, Any]]:
        """Return the losses as functions with traits.

        Returns
        -------
        list of (str, loss)
            By the names of the heads, in their order.
        """
        return [(name, _resolve(name, given)) for name, given in self.losses]

    @property
    def traits(self) -> HeadTraits:
        """For regressors; the link names the losses, so that targets which differ are told apart."""
        resolved = self.resolved()
        link = ", ".join(f"{name}={loss!r}" for name, loss in resolved)
        heads = tuple((name, loss.traits) for name, loss in resolved)
        return HeadTraits("regression", f"heads({link})", "heads", heads=heads)

    def __call__(self, output: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Compute the loss where each head has one output; a learner knows the sizes of the others."""
        return self.bound_to([np.empty(0)] * len(self.losses))(output, target, sample_weight)

    def bound_to(self, counts: Sequence[np.ndarray]) -> BoundHeads:
        """Return the loss for known classes.

        Parameters
        ----------
        counts : sequence of ndarray
            For each head the (weighted) number of rows of each class; empty for numbers.

        Returns
        -------
        BoundHeads
            Knows which outputs belong to which head.
        """
        weights, at = dict(self.weights), 0
        parts: list[_Part] = []
        for (name, loss), of_class in zip(self.resolved(), counts, strict=True):
            size = count_outputs(loss.traits, len(of_class), 1)
            loss = with_class_counts(loss, of_class) if len(of_class) else loss
            parts.append(_Part(loss, float(weights.get(name, 1.0)), at, at + size))
            at += size
        return BoundHeads(self, self.traits, tuple(parts))

    def __repr__(self) -> str:
        weights = f", weights={dict(self.weights)!r}" if self.weights else ""
        return f"Heads({self._by_name()!r}{weights})"


@dataclasses.dataclass(frozen=True)
class _Part:
    loss: Any
    weight: float
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class BoundHeads:
    """:class:`Heads` whose classes are known.

    Parameters
    ----------
    heads : Heads
        As given.
    traits : HeadTraits
        Of them.
    parts : tuple
        Loss, weight and outputs of each head.
    """

    heads: Heads
    traits: HeadTraits
    parts: tuple[_Part, ...]

    @property
    def links(self) -> tuple[tuple[int, str], ...]:
        """How many outputs each head has, and how they become predictions."""
        named = ((part.stop - part.start, part.loss.traits.link) for part in self.parts)
        return tuple((size, "softmax" if link == "logit" else link) for size, link in named)

    def __call__(self, output: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Compute the loss of outputs of shape (n, outputs of all heads), targets of shape (n, heads)."""
        total = output.new_zeros(())
        for column, part in enumerate(self.parts):
            several = part.stop - part.start > 1
            wanted = target[:, column].long() if several and part.loss.traits.kind == "classification" else None
            value = part.loss(
                output[:, part.start : part.stop] if several else output[:, part.start],
                target[:, column] if wanted is None else wanted,
                sample_weight,
            )
            total = total + part.weight * value
        return total

    def __repr__(self) -> str:
        return repr(self.heads)


def _pairs(given: Any, what: str) -> tuple[tuple[str, Any], ...]:
    try:
        return tuple((str(name), value) for name, value in (given.items() if isinstance(given, Mapping) else given))
    except (TypeError, ValueError):
        raise ConfigError(f"Heads: {what} must be a dict by the names of y's columns, got {given!r}") from None


def _resolve(name: str, given: Any) -> Any:
    try:
        loss = resolve_loss(given, "regression")
    except ConfigError as error:
        if "is for classification" not in str(error):
            raise ConfigError(f"head {name!r}: {error}") from None
        loss = resolve_loss(given, "classification")
    if isinstance(loss, Heads) or loss.traits.link == "none":
        raise ConfigError(
            f"head {name!r}: {given!r} gives scores that are no probabilities, or holds heads itself; for classes use "
            "'cross_entropy', 'focal' or 'logit_adjusted'"
        )
    return loss
