"""Block and Choice: layers several times, and one of several, as values whose every number has a name."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any, Self

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.network.naming import as_layer, check_name
from torchstrata.network.nodes import Layer, Step
from torchstrata.params import nested_params, replace_nested

_MOST = 1000  # so that no file can ask for more layers than memory holds


@dataclasses.dataclass(frozen=True, repr=False)
class Container(Layer):
    """Base of what holds layers: their settings are reached by their names."""

    def parts(self) -> dict[str, Layer]:
        """Return the layers within, by name.

        Returns
        -------
        dict of str to Layer
            Each is a setting of this value.
        """
        raise TypeError(f"{type(self).__name__} is abstract")

    def with_parts(self, parts: dict[str, Layer]) -> Self:
        """Return the same with other layers.

        Parameters
        ----------
        parts : dict of str to Layer
            All of them, by the names of :meth:`parts`.

        Returns
        -------
        Container
            Another value.
        """
        raise TypeError(f"{type(self).__name__} is abstract")

    @property
    def uses_rows(self) -> bool:  # type: ignore[override]
        """Whether a layer within looks at the training rows."""
        return any(part.uses_rows for part in self.parts().values())

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name.

        Parameters
        ----------
        deep : bool
            Whether to include the layers by name, and their settings as ``layer__setting``.

        Returns
        -------
        dict
            Name to value.
        """
        own = super().get_params(deep=False)
        return {**nested_params(own), **nested_params(self.parts())} if deep else own

    def replace(self, **changes: Any) -> Self:
        """Return another value with some settings changed.

        Parameters
        ----------
        **changes
            New settings; ``layer=`` puts another layer in the place of one, ``layer__setting=`` reaches into it.

        Returns
        -------
        Container
            A new value; this one stays as it is.

        Raises
        ------
        ConfigError
            If a name is neither a setting nor a layer.
        """
        own = super().get_params(deep=False)
        mine = {name: value for name, value in changes.items() if name.partition("__")[0] in own}
        rest = {name: value for name, value in changes.items() if name not in mine}
        made = super().replace(**mine) if mine else self
        if not rest:
            return made
        parts = made.parts()
        changed = replace_nested({**own, **parts}, rest, type(self).__name__)
        return made.with_parts({name: as_layer(changed[name], f"{type(self).__name__}.{name}") for name in parts})

    def _own_names(self) -> list[str]:
        return [field.name for field in dataclasses.fields(self)]


@dataclasses.dataclass(frozen=True, repr=False)
class Block(Layer):
    """The same layers several times, one after the other.

    Parameters
    ----------
    body : Layer
        A layer, a chain, or a graph of one input.
    repeat : int, optional
        How often, at most 1000; 0 leaves the block out. None is as often as ``vary`` says, else once.
    vary : dict of str to list, optional
        A setting of the body to its value in each repetition, at least as many as there are repetitions. In a chain,
        ``layer__setting``, or the setting alone where one layer has it.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If a setting is unknown, or has fewer values than repetitions.

    Examples
    --------
    >>> from torchstrata.network import layers
    >>> from torchstrata.network.graph import Chain
    >>> body = Chain([layers.Linear(64), layers.ReLU()])
    >>> chain = Chain([Block(body, repeat=2, vary={"out_features": [64, 32]}), layers.Head()])
    >>> chain.summary({"number": (30,)}, 2)[["layer", "output_shape", "parameters"]]
                  layer output_shape  parameters
    0             input        (30,)           0
    1    block_1_linear        (64,)        1984
    2      block_1_relu        (64,)           0
    3    block_2_linear        (32,)        2080
    4      block_2_relu        (32,)           0
    5              head         (2,)          66
    """

    body: Layer
    repeat: int | None = None
    vary: Any = None

    def __post_init__(self) -> None:
        as_layer(self.body, "Block")
        vary = self.vary.items() if isinstance(self.vary, Mapping) else self.vary or ()
        try:
            object.__setattr__(self, "vary", tuple((str(name), tuple(values)) for name, values in vary))
        except (TypeError, ValueError):
            raise ConfigError(
                f"Block: vary must be a dict of lists, {{'out_features': [64, 32]}}, got {vary!r}"
            ) from None
        self._check_repeat()
        for name, values in self.vary:
            if len(values) < self.times:
                raise ConfigError(
                    f"Block: vary has {len(values)} values of {name!r} and there are {self.times} repeats"
                )
        self.bodies()

    def _check_repeat(self) -> None:
        given = self.repeat
        if given is None:
            return
        if isinstance(given, bool) or not isinstance(given, numbers.Integral) or not 0 <= given <= _MOST:
            raise ConfigError(f"Block: repeat must be an int from 0 to {_MOST} or None, got {given!r}")
        object.__setattr__(self, "repeat", int(given))

    @property
    def uses_rows(self) -> bool:  # type: ignore[override]
        """Whether a layer within looks at the training rows."""
        return self.body.uses_rows

    @property
    def times(self) -> int:
        """How often the body is there."""
        if self.repeat is not None:
            return int(self.repeat)
        return max((len(values) for _, values in self.vary), default=1)

    @property
    def reads(self) -> tuple[int, int | None]:
        """One node: each body reads the one before."""
        return (1, 1)

    def bodies(self) -> list[Layer]:
        """Return the layers that are built.

        Returns
        -------
        list of Layer
            The body with the settings of each repetition.
        """
        names = {name: _setting_of(self.body, name) for name, _ in self.vary}
        if not names:
            return [self.body] * self.times
        return [self.body.replace(**{names[n]: v[i] for n, v in self.vary}) for i in range(self.times)]

    def steps(self, name: str, sources: tuple[str, ...]) -> tuple[list[Step], str]:
        """Write out the repetitions, numbered from 1."""
        self.check_reads(len(sources))
        out: list[Step] = []
        for i, body in enumerate(self.bodies(), 1):
            steps, last = body.steps(f"{name}_{i}", sources)
            out, sources = out + steps, (last,)
        return out, sources[0]

    def __repr__(self) -> str:
        vary = f"vary={ {name: list(values) for name, values in self.vary}!r}" if self.vary else ""
        shown = [repr(self.body), "" if self.repeat is None else f"repeat={self.repeat}", vary]
        return f"Block({', '.join(filter(None, [*shown, self.name and f'name={self.name!r}']))})"


@dataclasses.dataclass(frozen=True, repr=False)
class Choice(Container):
    """One of several layers, by name.

    Parameters
    ----------
    options : dict of str to Layer
        What there is.
    selected : str, optional
        Which is built; None is the first.
    name : str, optional
        By which settings, weights and errors call it.

    Raises
    ------
    ConfigError
        If the selected one is not there.

    Examples
    --------
    >>> from torchstrata.network import layers
    >>> act = Choice({"relu": layers.ReLU(), "gelu": layers.GELU()}, selected="relu", name="act")
    >>> act.replace(selected="gelu")
    Choice({'relu': ReLU(), 'gelu': GELU()}, selected='gelu', name='act')
    """

    options: Any
    selected: str | None = None

    def __post_init__(self) -> None:
        given = list(self.options.items()) if isinstance(self.options, Mapping) else self.options
        if not given or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in given):
            raise ConfigError(f"Choice takes a dict of layers, {{'relu': ts.layers.ReLU(), ...}}, got {self.options!r}")
        for name, _ in given:
            check_name(name, "Choice")
            if name in self._own_names():
                raise ConfigError(f"Choice: an option cannot be named {name!r}, which is a setting; say {name + '_'!r}")
        object.__setattr__(self, "options", tuple((name, as_layer(layer, f"Choice.{name}")) for name, layer in given))
        if self.selected is None:
            object.__setattr__(self, "selected", self.options[0][0])
        if self.selected not in self.parts():
            raise ConfigError(f"Choice: there is no {self.selected!r}. {did_you_mean(self.selected, self.parts())}")

    @property
    def uses_rows(self) -> bool:  # type: ignore[override]
        """Whether the selected layer looks at the training rows."""
        return self.parts()[str(self.selected)].uses_rows

    @property
    def reads(self) -> tuple[int, int | None]:
        """What the selected layer reads."""
        return self.parts()[str(self.selected)].reads

    def parts(self) -> dict[str, Layer]:
        """Return the options."""
        return dict(self.options)

    def with_parts(self, parts: dict[str, Layer]) -> Choice:
        """Return the same with other options."""
        return dataclasses.replace(self, options=tuple(parts.items()))

    def steps(self, name: str, sources: tuple[str, ...]) -> tuple[list[Step], str]:
        """Write out the selected one, under the name of the choice."""
        return self.parts()[str(self.selected)].steps(name, sources)

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"Choice({self.parts()!r}, selected={self.selected!r}{name})"


def _setting_of(body: Layer, name: str) -> str:
    """Find which layer of a chain has a setting that is named alone."""
    known = body.get_params()
    if name in known:
        return name
    ends = [key for key in known if key.endswith(f"__{name}") and "__" not in name]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ConfigError(f"Block: vary names {name!r}, which several layers have: say {' or '.join(map(repr, ends))}")
    raise ConfigError(f"Block: vary names {name!r}, which {body!r} has not. {did_you_mean(name, known)}")
