"""ResultBase: what the methods of a BenchmarkResult that stand in other files rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pandas as pd


class ResultBase(ABC):
    """Tables with their keys. :class:`BenchmarkResult` has all of it."""

    _tables: dict[str, pd.DataFrame]

    @property
    @abstractmethod
    def grid_columns(self) -> list[str]:
        """Columns that tell the cells of a learner apart."""

    @abstractmethod
    def _measure(self, measure: str | None) -> str:
        """Return a measure that was taken: the one named, or the first."""

    @abstractmethod
    def _rows(self, measure: str | None) -> pd.DataFrame:
        """Return the scores of one measure, or of all."""
