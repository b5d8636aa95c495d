"""Shapes: what a network is built from, and, while a learner builds it, the encoded training rows."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any


class Shapes(dict):
    """What a network is built from: the shape of one row of each input, by name.

    ``shapes["number"]`` is ``(p,)`` for p numbers and ``shapes["category"]`` is ``(q,)`` for q category indices; only
    inputs that exist are there.

    Parameters
    ----------
    shapes : dict of str to tuple of int
        Name to shape, without the batch.
    levels : tuple of int
        How many indices each category column has, the unknown slot 0 included.
    sequences : dict of str to int, optional
        Inputs whose first size is None, for it differs from row to row, and how many indices their tokens have (0 where
        they hold numbers). The network gets them padded to the longest of the batch, and beside ``"name"`` the steps of
        each row, int64 of shape (n,), as ``"name_lengths"``.

    Attributes
    ----------
    rows : dict of str to Tensor, or None
        The encoded training rows, by input name, while a learner builds its network (see :meth:`showing`); None at all
        other times. A blueprint that sets initial values by the data reads them here and says so by a class attribute
        ``uses_rows = True``; without rows it builds a module of the same shapes, to load weights into.
    target : Tensor or None
        Their targets as the loss will get them, shown together with the rows.
    """

    rows: dict[str, Any] | None = None  # attributes of the class, so that what pickles wrote before still loads
    target: Any = None

    sequences: dict[str, int] = {}  # noqa: RUF012 - never changed; of the class for the same reason

    def __init__(
        self,
        shapes: Mapping[str, tuple[int | None, ...]],
        levels: tuple[int, ...] = (),
        sequences: Mapping[str, int] | None = None,
    ):
        super().__init__(shapes)
        self.levels = tuple(levels)
        self.sequences = dict(sequences or {})

    @contextlib.contextmanager
    def showing(self, rows: dict[str, Any] | None, target: Any = None) -> Iterator[Shapes]:
        """Show rows to a blueprint, for the time of a ``with`` block only.

        Parameters
        ----------
        rows : dict of str to Tensor, or None
            Encoded training rows, exactly as the network will get them.
        target : Tensor, optional
            Their targets.

        Yields
        ------
        Shapes
            A copy that shows them; who keeps it keeps no rows.
        """
        shown = copy.copy(self)
        shown.rows, shown.target = rows, target
        try:
            yield shown
        finally:
            shown.rows = shown.target = None

    def __repr__(self) -> str:
        levels = f", levels={self.levels}" if self.levels else ""
        sequences = f", sequences={self.sequences}" if self.sequences else ""
        return f"Shapes({dict(self)!r}{levels}{sequences})"
