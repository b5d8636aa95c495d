"""Encoder: a table -> arrays of numbers and of category indices, fitted on training rows only.

torch is not needed here; a learner makes tensors of the arrays without copying.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from torchstrata.data.arrays import fit_arrays, transform_arrays
from torchstrata.data.checks import FEW_CODES
from torchstrata.data.scaling import center_and_scale, check_scaling
from torchstrata.data.shapes import Shapes as Shapes
from torchstrata.data.tables import as_floats, check_unique, clean, column_kind, name_rows, to_pandas
from torchstrata.errors import ConfigError, DataError

FLOAT32_MAX = float(np.finfo(np.float32).max)
# A scaled number beyond this is an artefact of a tiny scale; it would overflow float32 later.
SCALED_MAX = 1e30
Table = dict[Any, pd.Series]  # clean columns by name: a DataFrame takes five times as long to hand out a column


class Encoder(TransformerMixin, BaseEstimator):
    """Turn a table into numbers and category indices.

    Numbers and booleans: missing values become the median, then scaling, then a smooth clip. Datetimes become five
    numbers: the time, month, day, weekday and hour. Categories and text: indices from 1; 0 is the slot of values not
    seen in training; missing is a level of its own. Columns that do not vary in the training rows are dropped for good.

    A column of arrays is an input of its own, under its name: cells of one shape are stacked as they are, those of
    unequal length are sequences, and vectors of whole numbers or text are sequences of tokens, which get indices as
    categories do.

    Columns are taken by name; where the rows of ``fit`` or these have no names, by position.

    Parameters
    ----------
    scaling : {"robust", "standard"}
        By median and quartiles, or by mean and standard deviation, as a learner's ``encoder="auto"`` does.
    clip : float or None
        Scaled numbers x become ``x / sqrt(1 + (x / clip)**2)``, none beyond +-clip; None leaves them.
    max_categories : int
        A column with more levels is refused: it is an identifier more often than a feature.
    sequences : sequence of str
        Columns of arrays whose lengths may differ, even if they do not in the training rows.

    Attributes
    ----------
    kinds_ : dict of str to str
        Kind of each column that was seen, by name.
    number_names_, category_names_ : list of str
        Columns of the two outputs, in order.
    dropped_features_ : list of str
        Columns that do not vary in the training rows, or hold no value there.
    levels_ : dict of str to list
        Levels of each category column as text, in the order of their indices; None, at the end, is missing.
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

    def __init__(
        self,
        *,
        scaling: str = "robust",
        clip: float | None = 3.0,
        max_categories: int = 10_000,
        sequences: Sequence[str] = (),
    ):
        self.scaling = scaling
        self.clip = clip
        self.max_categories = max_categories
        self.sequences = sequences

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
        ConfigError
            If a setting cannot work.
        """
        self._check_settings()
        frame, self._named = _read_table(X)
        plain = _plain_numbers(frame)
        table: Table = {} if plain is not None else _clean_table(frame)
        self.names_ = list(frame.columns)
        if plain is not None:
            self.kinds_ = dict.fromkeys(self.names_, "number")
            varying = (np.fmax.reduce(plain, axis=0) > np.fmin.reduce(plain, axis=0)).tolist()
        else:
            self.kinds_ = {name: column_kind(table[name]) for name in self.names_}
            for name, kind in self.kinds_.items():
                _check_column(table[name], kind)
            varying = [_varies(table[name], self.kinds_[name]) for name in self.names_]
        self.dropped_features_ = [name for name, varies in zip(self.names_, varying, strict=True) if not varies]
        if not any(varying):
            raise DataError(f"no feature varies in these {len(frame)} rows: {self.names_[:5]} hold one value each")
        kept = [name for name, varies in zip(self.names_, varying, strict=True) if varies]
        self.arrays_ = {
            name: fit_arrays(table[name], ragged=name in self.sequences)
            for name in kept
            if self.kinds_[name] == "array"
        }
        unknown = [name for name in self.sequences if name not in self.arrays_]
        if unknown:
            raise ConfigError(f"Encoder: sequences names {unknown[0]!r}, no column of arrays ({self.names_[:9]})")
        self.number_names_ = [name for name in kept if self.kinds_[name] not in ("category", "array")]
        self.category_names_ = [name for name in kept if self.kinds_[name] == "category"]
        self._fit_numbers(self._numbers(table) if plain is None else plain[:, varying])
        self._fit_categories(table)
        self._find_places()
        self.shapes_ = self._shapes()
        return self

    def transform(self, X: Any) -> dict[str, Any]:
        """Encode rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n, p)
            Rows with the columns of ``fit``, in any order where they have names.

        Returns
        -------
        dict of str to ndarray
            ``"number"``: float64, shape (n, numbers); ``"category"``: int64, shape (n, categories). Each only where
            there are such columns. A column of arrays under its own name, shape (n, ...), or a
            :class:`~torchstrata.data.arrays.Ragged` where lengths differ.

        Raises
        ------
        DataError
            If a column changed its kind, or holds infinite or too large numbers.
        """
        if not hasattr(self, "shapes_"):
            check_is_fitted(self, "shapes_")
        plain = self.transform_floats(X)
        if plain is not None:
            return {"number": plain}
        frame, named = _read_table(X)
        frame = self._by_name(frame) if named and self._named else self._by_position(frame)
        table = _clean_table(frame[[*self.number_names_, *self.category_names_, *self.arrays_]])
        self._check_kinds(table)
        out: dict[str, Any] = {}
        if self.number_names_:
            out["number"] = self._scaled(self.imputer_.transform(self._numbers(table)))
        if self.category_names_:
            out["category"] = self._indices(table)
        return out | {name: transform_arrays(table[name], learnt) for name, learnt in self.arrays_.items()}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        return tags

    def transform_floats(self, X: Any) -> np.ndarray | None:
        """Encode rows whose columns are all numbers, without looking at each column.

        For one row that takes a hundredth of the time; the numbers are the same.

        Parameters
        ----------
        X : object
            An array of floats or a DataFrame of floats and integers, with the columns of ``fit`` in their order.

        Returns
        -------
        ndarray of float64 or None
            None where :meth:`transform` must look closer, or say what is wrong.
        """
        places = self._places
        if places is not None and isinstance(X, pd.DataFrame) and list(X.columns) == self.names_:
            values = X.to_numpy()  # of one type where all are numbers, else of objects
            X = values.astype(np.float64, copy=False) if values.dtype.kind in "iuf" else None
        if places is None or type(X) is not np.ndarray or X.ndim != 2 or X.shape[1] != len(self.names_):
            return None
        if X.dtype not in (np.float64, np.float32):
            return None
        values = np.asarray(X if len(places) == X.shape[1] else X[:, places], dtype=np.float64)
        if not np.abs(values).max(initial=0.0) <= FLOAT32_MAX:
            values = np.where(np.isnan(values), self.imputer_.statistics_, values)
            if (np.abs(values) > FLOAT32_MAX).any():
                return None
        return self._scaled(values)

    def _shapes(self) -> Shapes:
        plain = {"number": len(self.center_), "category": len(self.category_names_)}
        shapes: dict[str, tuple[int | None, ...]] = {name: (size,) for name, size in plain.items() if size}
        shapes |= {name: learnt.row_shape for name, learnt in self.arrays_.items()}
        levels = tuple(len(self.levels_[name]) + 1 for name in self.category_names_)
        return Shapes(shapes, levels, {name: a.n_levels for name, a in self.arrays_.items() if a.ragged})

    def _find_places(self) -> None:
        """Note where the numbers stand in an array of floats; None where there is more than numbers."""
        plain = not self.category_names_ and not self.arrays_
        plain = plain and "datetime" not in {self.kinds_[name] for name in self.number_names_}
        kept = set(self.number_names_)
        self._places = [i for i, name in enumerate(self.names_) if name in kept] if plain else None

    def _check_settings(self) -> None:
        clip, most = self.clip, self.max_categories
        check_scaling(self.scaling)
        if clip is not None and not (isinstance(clip, numbers.Real) and 0 < float(clip) < np.inf):
            raise ConfigError(f"Encoder: clip must be a positive finite number or None, got {clip!r}")
        if isinstance(most, bool) or not isinstance(most, numbers.Integral) or int(most) < 1:
            raise ConfigError(f"Encoder: max_categories must be an int >= 1, got {most!r}")
        if isinstance(self.sequences, str):
            raise ConfigError(f"Encoder: sequences must be a tuple of names, got {self.sequences!r}: add a comma")

    def _by_name(self, table: pd.DataFrame) -> pd.DataFrame:
        missing = [name for name in self.names_ if name not in table.columns]
        if missing:
            raise DataError(f"columns {missing[:5]} were there at fit and are missing now")
        return table

    def _by_position(self, table: pd.DataFrame) -> pd.DataFrame:
        n_now, n_then = table.shape[1], len(self.names_)
        if n_now != n_then:
            raise DataError(f"X has {n_now} features, but Encoder is expecting {n_then} features as input")
        return table.set_axis(self.names_, axis=1)

    def _check_kinds(self, table: Table) -> None:
        for name in table:
            now, then = column_kind(table[name]), self.kinds_[name]
            numeric = {"number", "boolean"}
            if now != then and not {now, then} <= numeric and not table[name].isna().all():
                raise DataError(f"column {name!r} was {then} at fit and is {now} now; make it {then} again")

    def _fit_numbers(self, numbers: np.ndarray) -> None:
        from sklearn.impute import SimpleImputer  # it brings much of scikit-learn along

        self.imputer_ = SimpleImputer(strategy="median", keep_empty_features=True)
        filled = self.imputer_.fit_transform(numbers) if self.number_names_ else numbers
        self.center_, self.scale_ = center_and_scale(filled, self.scaling)

    def _scaled(self, filled: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            scaled = np.minimum(np.maximum((filled - self.center_) / self.scale_, -SCALED_MAX), SCALED_MAX)
        if self.clip is not None:
            scaled = scaled / np.sqrt(1 + np.square(scaled / self.clip))
        return scaled

    def _numbers(self, table: Table) -> np.ndarray:
        columns: list[np.ndarray] = []
        for name in self.number_names_:
            column = table[name]
            if self.kinds_[name] == "datetime":
                columns += date_parts(column)
            else:
                columns.append(_finite(as_floats(column), name))
        n_rows = len(next(iter(table.values())))
        return np.column_stack(columns) if columns else np.empty((n_rows, 0))

    def _fit_categories(self, table: Table) -> None:
        self.levels_: dict[str, list[str | None]] = {}
        for name in self.category_names_:
            levels: list[Any] = sorted({str(value) for value in table[name].dropna().unique()})
            if len(levels) > self.max_categories:
                raise DataError(
                    f"column {name!r} has {len(levels)} categories (> max_categories {self.max_categories}), "
                    f"{len(levels) / len(table[name]):.1%} of the rows differ; drop it or raise the limit"
                )
            self.levels_[name] = levels + [None] * bool(table[name].isna().any())

    def _indices(self, table: Table) -> np.ndarray:
        return np.column_stack([_codes(table[name], self.levels_[name]) for name in self.category_names_])


def _read_table(X: Any) -> tuple[pd.DataFrame, bool]:
    """Return a table with names, and whether they are its own."""
    if isinstance(X, np.ndarray):
        if X.ndim != 2:
            raise DataError(f"Expected 2D array, got {X.ndim}D array instead. Reshape your data")
        table = pd.DataFrame(X)
    else:
        table = to_pandas(X, where="X")
        check_unique(list(table.columns), where="X")
    named = all(isinstance(name, str) for name in table.columns)
    return (table if named else table.set_axis([f"x{i}" for i in range(table.shape[1])], axis=1)), named


def _plain_numbers(table: pd.DataFrame) -> np.ndarray | None:
    """Return a table of floats and integers as an array; None where a closer look is needed, or something is wrong."""
    if any(dtype.kind not in "iuf" or not isinstance(dtype, np.dtype) for dtype in table.dtypes):
        return None
    values = table.to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return None if (np.abs(values) > FLOAT32_MAX).any() else values


def _clean_table(table: pd.DataFrame) -> Table:
    rows = np.arange(len(table))
    return {name: clean(column, where="X", row_ids=rows) for name, column in table.items()}


def _varies(column: pd.Series, kind: str) -> bool:
    if kind == "array":
        return True
    if kind != "number":
        n_values = column.nunique(dropna=kind != "category")  # missing is a level of categories only
        return n_values > 1
    values = as_floats(column)
    seen = values[~np.isnan(values)]
    return bool((seen != seen[:1]).any())


def _check_column(column: pd.Series, kind: str) -> None:
    """Refuse infinite numbers, and numbers that came as text, which would be encoded as hundreds of categories."""
    if kind == "number":
        _finite(as_floats(column), column.name)
    if kind != "category" or isinstance(column.dtype, pd.CategoricalDtype):
        return
    texts = pd.Series(column.dropna().unique(), dtype=object).map(str)
    if len(texts) <= FEW_CODES:
        return
    if pd.to_numeric(texts.str.replace(",", ".", regex=False), errors="coerce").notna().all():
        raise DataError(
            f"column {column.name!r} is text but looks numeric (first {texts.iloc[0]!r}); convert it with "
            f"pd.to_numeric(X[{column.name!r}]), or if these are codes: X[{column.name!r}].astype('category')"
        )


def _codes(column: pd.Series, levels: list[str | None]) -> np.ndarray:
    # compared as text, so that a category of numbers in one table and of text in another are the same
    place = {level: i for i, level in enumerate(levels, 1)}
    codes, values = pd.factorize(column)
    places = [place.get(str(value), 0) for value in values] + [place.get(None, 0)]
    return np.array(places, dtype=np.int64)[codes]  # pandas gives missing values the code -1, hence the last place


def _finite(values: np.ndarray, name: Any) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        bad = np.isinf(values)
        large = np.abs(values) > FLOAT32_MAX
    rows = np.arange(len(values))
    if bad.any():
        raise DataError(
            f"Input X contains infinity (inf): column {name!r} ({name_rows(bad, rows)}); "
            "replace it by a number, or by NaN if it means missing"
        )
    if large.any():
        raise DataError(
            f"column {name!r} has values beyond float32 (first {values[large][0]:g}, {name_rows(large, rows)}); "
            "rescale it"
        )
    return values


def date_parts(column: pd.Series) -> list[np.ndarray]:
    """Make numbers of datetimes: the time, month, day, weekday and hour.

    Parameters
    ----------
    column : pandas.Series
        Datetimes, with or without time zone.

    Returns
    -------
    list of numpy.ndarray of float64
        Five; NaN where the datetime is missing. The time is in seconds since 1970, UTC.
    """
    times = pd.Series(pd.to_datetime(column, utc=True))
    seconds = (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    parts: list[pd.Series] = [seconds, times.dt.month, times.dt.day, times.dt.day_of_week, times.dt.hour]
    return [as_floats(part) for part in parts]
