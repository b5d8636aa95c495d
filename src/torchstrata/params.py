"""Params: an immutable value with named settings.

A part of a learner (a network blueprint, an optimizer, a sampler) is such a value. It can be the default of a
parameter, be shared by all learners and be a key in a dictionary, because nothing can edit it: ``replace`` makes
another one.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, Self

from torchstrata.errors import ConfigError, did_you_mean


class Params:
    """Base of the parts: a frozen dataclass that answers ``get_params`` as scikit-learn's estimators do.

    Subclasses are decorated with ``@dataclasses.dataclass(frozen=True)`` and check their settings in
    ``__post_init__``, so a wrong one is refused where it is typed.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name.

        Parameters
        ----------
        deep : bool
            Whether to include the settings of parts within, as ``name__setting``.

        Returns
        -------
        dict
            Name to value.
        """
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}  # type: ignore[arg-type]
        return nested_params(own) if deep else own

    def replace(self, **changes: Any) -> Self:
        """Return another value with some settings changed.

        Parameters
        ----------
        **changes
            New settings; ``part__setting`` reaches into a part.

        Returns
        -------
        Params
            A new value; this one stays as it is.

        Raises
        ------
        ConfigError
            If a name is not a setting.
        """
        own = self.get_params(deep=False)
        return type(self)(**replace_nested(own, changes, type(self).__name__))

    def __sklearn_clone__(self) -> Self:
        return self  # immutable: a copy would be indistinguishable

    def __repr__(self) -> str:
        signature = inspect.signature(type(self)).parameters
        shown = []
        for position, (name, value) in enumerate(self.get_params(deep=False).items()):
            parameter = signature[name]
            positional = parameter.kind is not parameter.KEYWORD_ONLY
            if parameter.default is parameter.empty:
                shown.append(repr(value) if positional else f"{name}={value!r}")
            elif (positional and position == 0) or (value is not parameter.default and value != parameter.default):
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def nested_params(own: dict[str, Any]) -> dict[str, Any]:
    """Add the settings of the parts among some values, as ``name__setting``.

    Parameters
    ----------
    own : dict
        Name to value.

    Returns
    -------
    dict
        The same, and one entry for each setting of each value that answers ``get_params``.
    """
    out = dict(own)
    for name, value in own.items():
        if hasattr(value, "get_params") and not isinstance(value, type):
            out.update({f"{name}__{key}": inner for key, inner in value.get_params().items()})
    return out


def replace_nested(own: dict[str, Any], changes: dict[str, Any], owner: str) -> dict[str, Any]:
    """Apply changes by name, replacing parts where a name reaches into one.

    Parameters
    ----------
    own : dict
        The present settings.
    changes : dict
        New settings, plain (``lr``) or nested (``optimizer__lr``). Plain ones are applied first.
    owner : str
        Whose settings these are, for the message.

    Returns
    -------
    dict
        All settings, changed.

    Raises
    ------
    ConfigError
        If a name is unknown, or a name reaches into something that has no settings.
    """
    out = dict(own)
    inner: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, _, tail = name.partition("__")
        if head not in out:
            # the words "Invalid parameter" and "Valid parameters are" are what scikit-learn's users search for
            raise ConfigError(
                f"Invalid parameter {head!r} for {owner}. Valid parameters are: {sorted(out)!r}. "
                + did_you_mean(head, out)
            )
        if tail:
            inner.setdefault(head, {})[tail] = value
        else:
            out[head] = value
    for head, settings in inner.items():
        out[head] = _replace_part(out[head], settings, f"{owner}.{head}")
    return out


def _replace_part(part: Any, settings: dict[str, Any], where: str) -> Any:
    if isinstance(part, Params):
        return part.replace(**settings)
    if hasattr(part, "set_params") and not isinstance(part, type):
        from sklearn.base import clone  # only for foreign estimators (an encoder, say), which are edited: copy first

        return clone(part).set_params(**settings)
    raise ConfigError(
        f"{where} is {part!r}, which has no settings to reach by name ({', '.join(sorted(settings))}). "
        "Give a part with settings first, for example optimizer=ts.optim.AdamW()."
    )
