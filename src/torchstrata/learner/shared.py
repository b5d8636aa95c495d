"""What learners on the same rows prepare once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any


class Shared:
    """Results by what they were made from, for the time in which many learners are fitted.

    Objects are told apart by identity, so they are held here as long as their results are.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}
        self._held: list[Any] = []

    def once(self, what: str, of: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return what was made from these objects, or make it.

        Parameters
        ----------
        what : str
            Name of the result.
        of : tuple
            What it depends on; strings, numbers and tuples by value, other objects by identity.
        make : callable
            Makes it.

        Returns
        -------
        object
            The result; the same object for the same ``of``.
        """
        key = (what, _key(of))
        if key not in self._made:
            self._made[key] = make()
            self._held.append(of)
        return self._made[key]


def _key(one: Any) -> Hashable:
    if isinstance(one, tuple):
        return tuple(_key(each) for each in one)
    return one if isinstance(one, str | int | float | type) else id(one)


class Nothing(Shared):
    """For a learner that is fitted by itself: everything is made anew."""

    def once(self, what: str, of: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Make it."""
        return make()


NOTHING = Nothing()
