"""Encoder: a table -> arrays of numbers and of category indices, fitted on training rows only.

torch is not needed here; a learner makes tensors of the arrays without copying.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils.validation import check_is_fitted

from torchstrata.data.tables import as_floats, clean, column_kind, name_rows, to_pandas
from torchstrata.errors import DataError

FLOAT32_MAX = float(np.finfo(np.float32).max)


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
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], levels: tuple[int, ...] = ()):
        super().__init__(shapes)
        self.levels = tuple(levels)

    def __repr__(self) -> str:
        return f"Shapes({dict(self)!r}, levels={self.levels})" if self.levels else f"Shapes({dict(self)!r})"


class Encoder(TransformerMixin, BaseEstimator):
    """Turn a table into numbers and category indices.

    Numbers and booleans: missing values become the median, then robust scaling by median and quartiles, then a smooth
    clip. Columns whose quartiles agree are scaled by half their range instead. Datetimes become five numbers: the time,
    month, day, weekday and hour. Categories and text: indices from 1; 0 is the slot of values not seen in training;
    missing is a level of its own. Columns that do not vary in the training rows are dropped, and stay dropped.

    Parameters
    ----------
    clip : float or None
        Scaled numbers x become ``x / sqrt(1 + (x / clip)**2)``, so that none is beyond +-clip; None leaves them.
    max_categories : int
        A column with more levels is refused: it is an identifier more often than a feature.

    Attributes
    ----------
    kinds_ : dict of str to str
        Kind of each column that was seen, by name.
    number_names_, category_names_ : list of str
        Columns of the two outputs, in order.
    dropped_features_ : list of str
        Columns that do not vary in the training rows.
    shapes_ : Shapes
        What a network is built from.

    Notes
    -----
    Robust scaling with a smooth clip is the preprocessing of RealMLP: Holzmueller, D., Grinsztajn, L. and
    Steinwart, I. (2024). Better by default: strong pre-tuned MLPs and boosted trees on tabular data. NeurIPS.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"age": [20, 30, None, 60], "city": ["Rome", "Oslo", "Rome", "Oslo"]})
    >>> encoded = Encoder().fit_transform(table)
    >>> encoded["number"].shape, encoded["category"].ravel().tolist()
    ((4, 1), [2, 1, 2, 1])
    """

    def __init__(self, *, clip: float | None = 3.0, max_categories: int = 10_000):
        self.clip = clip
        self.max_categories = max_categories

    def fit(self, X: Any, y: Any = None) -> Encoder:
        """Learn medians, scales and levels.

        Parameters
        ----------
        X : DataFrame or array of shape (n, p)
            Training rows.
        y : object
            Not used.

        Returns
        -------
        Encoder
            This one, fitted.

        Raises
        ------
        DataError
            If a column cannot be used, or none varies.
        """
        table = self._table(X)
        self.names_ = list(table.columns)
        self.kinds_ = {name: column_kind(table[name]) for name in self.names_}
        varying = [name for name in self.names_ if table[name].nunique(dropna=False) > 1]
        self.dropped_features_ = [name for name in self.names_ if name not in varying]
        if not varying:
            raise DataError(f"no feature varies in these {len(table)} rows: {self.names_[:5]} hold one value each")
        self.number_names_ = [name for name in varying if self.kinds_[name] != "category"]
        self.category_names_ = [name for name in varying if self.kinds_[name] == "category"]
        self._fit_numbers(table)
        self._fit_categories(table)
        shapes = {"number": (len(self.center_),), "category": (len(self.category_names_),)}
        levels = tuple(len(c) + 1 for c in self.ordinal_.categories_) if self.category_names_ else ()
        self.shapes_ = Shapes({name: shape for name, shape in shapes.items() if shape[0]}, levels)
        return self

    def transform(self, X: Any) -> dict[str, np.ndarray]:
        """Encode rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n, p)
            Rows with the columns of ``fit``, in any order where they have names.

        Returns
        -------
        dict of str to ndarray
            ``"number"``: float64, shape (n, numbers); ``"category"``: int64, shape (n, categories). Each only where
            there are such columns.

        Raises
        ------
        DataError
            If a column changed its kind, or holds infinite or too large numbers.
        """
        check_is_fitted(self, "shapes_")
        table = self._table(X)
        missing = [name for name in self.names_ if name not in table.columns]
        if missing:
            raise DataError(f"columns {missing[:5]} were there at fit and are missing now")
        self._check_kinds(table)
        out: dict[str, np.ndarray] = {}
        if self.number_names_:
            out["number"] = self._scaled(self.imputer_.transform(self._numbers(table)))
        if self.category_names_:
            out["category"] = self._indices(table)
        return out

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        return tags

    def _table(self, X: Any) -> pd.DataFrame:
        if isinstance(X, np.ndarray):
            table = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
        else:
            table = to_pandas(X, where="X")
        rows = np.arange(len(table))
        return pd.DataFrame(
            {name: clean(table[name], where="X", row_ids=rows) for name in table.columns}, index=table.index
        )

    def _check_kinds(self, table: pd.DataFrame) -> None:
        for name in self.number_names_ + self.category_names_:
            now, then = column_kind(table[name]), self.kinds_[name]
            numeric = {"number", "boolean"}
            if now != then and not {now, then} <= numeric and not table[name].isna().all():
                raise DataError(f"column {name!r} was {then} at fit and is {now} now; make it {then} again")

    def _fit_numbers(self, table: pd.DataFrame) -> None:
        numbers = self._numbers(table)
        self.imputer_ = SimpleImputer(strategy="median", keep_empty_features=True)
        filled = self.imputer_.fit_transform(numbers) if self.number_names_ else numbers
        self.center_ = np.median(filled, axis=0)
        low, high = np.quantile(filled, [0.25, 0.75], axis=0)
        half_range = (filled.max(axis=0) - filled.min(axis=0)) / 2
        scale = np.where(high > low, high - low, half_range)
        self.scale_ = np.where(scale > 0, scale, 1.0)

    def _scaled(self, filled: np.ndarray) -> np.ndarray:
        scaled = (filled - self.center_) / self.scale_
        if self.clip is not None:
            scaled = scaled / np.sqrt(1 + np.square(scaled / self.clip))
        return scaled

    def _numbers(self, table: pd.DataFrame) -> np.ndarray:
        columns: list[np.ndarray] = []
        for name in self.number_names_:
            column = table[name]
            if self.kinds_[name] == "datetime":
                columns += _date_parts(column)
            else:
                columns.append(_finite(as_floats(column), name))
        return np.column_stack(columns) if columns else np.empty((len(table), 0))

    def _fit_categories(self, table: pd.DataFrame) -> None:
        for name in self.category_names_:
            levels = table[name].nunique()
            if levels > self.max_categories:
                raise DataError(
                    f"column {name!r} has {levels} categories (> max_categories {self.max_categories}), "
                    f"{levels / len(table):.1%} of the rows differ; drop it or raise the limit"
                )
        if self.category_names_:
            self.ordinal_ = OrdinalEncoder(
                handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
            ).fit(_texts(table, self.category_names_))

    def _indices(self, table: pd.DataFrame) -> np.ndarray:
        codes = self.ordinal_.transform(_texts(table, self.category_names_)).astype(np.int64) + 1
        for j, categories in enumerate(self.ordinal_.categories_):
            # scikit-learn keeps a missing level last; -2 + 1 marks it here
            place = len(categories) if _has_missing(categories) else 0
            codes[codes[:, j] == -1, j] = place
        return codes


def _texts(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    # text, so that a category of numbers in one frame and of text in another are the same, and none for missing
    columns = []
    for name in names:
        column = table[name].astype(object)
        columns.append(column.map(str).where(column.notna(), None).to_numpy(dtype=object))
    return np.column_stack(columns)


def _has_missing(categories: np.ndarray) -> bool:
    return len(categories) > 0 and categories[-1] is None


def _finite(values: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        bad = np.isinf(values)
        large = np.abs(values) > FLOAT32_MAX
    rows = np.arange(len(values))
    if bad.any():
        raise DataError(f"Input X contains infinity (inf): column {name!r} ({name_rows(bad, rows)})")
    if large.any():
        raise DataError(
            f"column {name!r} has values too large for float32 (first {values[large][0]:g}, {name_rows(large, rows)}); "
            "rescale it"
        )
    return values


def _date_parts(column: pd.Series) -> list[np.ndarray]:
    times = pd.to_datetime(column, utc=True)
    seconds = (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    parts = [seconds, times.dt.month, times.dt.day, times.dt.dayofweek, times.dt.hour]
    return [part.to_numpy(dtype="float64", na_value=np.nan) for part in parts]
