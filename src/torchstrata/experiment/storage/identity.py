"""What makes two fits the same fit: a key of data, rows, learner, settings, seed and measures.

A stored cell is used again only under the key it was computed for. The key is the same in every process and on every
machine, and it tells apart what could change a result: a value of the data, a row of the split, a setting at any depth,
the code of a function or class of your own. What cannot be told apart is refused, never guessed.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.errors import ConfigError
from torchstrata.experiment.plan import Cell

KEY_VERSION = 1
# Code of these is known by name; of all others by what it does, because it is edited between two runs.
_LIBRARIES = ("torchstrata", "torch", "torchvision", "sklearn", "numpy", "scipy", "pandas", "builtins", "functools")
_PLAIN = (str, int, bool, type(None))


def cell_key(cell: Cell, data: str, scoring: str) -> str:
    """Return the key under which the outcome of a cell is stored.

    Parameters
    ----------
    cell : Cell
        Which fit.
    data : str
        Fingerprint of its task.
    scoring : str
        Digest of the measures.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    ConfigError
        If a setting of the learner cannot be told apart from others.
    """
    parts = [KEY_VERSION, cell.task, data, cell.learner, cell.fold, _settings(cell.variant), split_digest(cell)]
    try:
        learner = digest(cell.estimator)
    except ConfigError as error:
        raise ConfigError(f"learner {cell.learner!r} cannot be stored: {error}") from None
    text = json.dumps([*parts, learner, cell.seed, scoring])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _settings(settings: Mapping[str, Any]) -> list[list[Any]]:
    """Settings in the order of their names: the order in which a grid lists them changes nothing."""
    return [[name, describe(settings[name])] for name in sorted(settings)]


def split_digest(cell: Cell) -> str:
    """Return a digest of the rows that train and test.

    Parameters
    ----------
    cell : Cell
        Which fit.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    return _rows_digest(cell.train.tobytes(), cell.test.tobytes())


@functools.lru_cache(maxsize=4)  # the cells of a fold follow one another
def _rows_digest(train: bytes, test: bytes) -> str:
    head = f"{len(train)} {len(test)} ".encode()
    return hashlib.sha256(head + train + test).hexdigest()[:32]


def digest(value: Any) -> str:
    """Return a digest of any value.

    Parameters
    ----------
    value : object
        As of :func:`describe`.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(describe(value)).encode()).hexdigest()


def describe(value: Any) -> Any:
    """Say in plain values what something is, the same in every process.

    Parameters
    ----------
    value : object
        Numbers, text, containers, arrays, tables, tensors, estimators, parts, functions, classes, and whatever pickle
        can take apart.

    Returns
    -------
    object
        What JSON holds. Equal for equal things; different wherever a fit could be.

    Raises
    ------
    ConfigError
        If something cannot be taken apart, such as an open file.
    """
    return _describe(value, ())


def _describe(value: Any, within: tuple[int, ...]) -> Any:
    if isinstance(value, enum.Enum):
        return ["enum", _name(type(value)), value.name]
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.generic) and value.dtype != object:
        return _describe(value.item(), within)  # a NumPy number is the number
    if type(value) in (float, complex, bytes):
        return [type(value).__name__, repr(value)]
    if id(value) in within:
        return ["again", len(within) - within.index(id(value))]
    within = (*within, id(value))
    for kind, how in _HOW:
        if isinstance(value, kind):
            return how(value, within)
    return _tensor(value, within) if _is_tensor(value) else _object(value, within)


def _several(values: Any, within: tuple[int, ...]) -> list[Any]:
    return [_describe(one, within) for one in values]


def _sequence(value: Any, within: tuple[int, ...]) -> Any:
    return [_name(type(value)), *_several(value, within)]


def _mapping(value: Any, within: tuple[int, ...]) -> Any:
    return [_name(type(value)), *([_describe(k, within), _describe(v, within)] for k, v in value.items())]


def _set(value: Any, within: tuple[int, ...]) -> Any:
    return ["set", *sorted(_several(value, within), key=json.dumps)]


def _array(value: np.ndarray, within: tuple[int, ...]) -> Any:
    if value.dtype.hasobject:
        return ["array", list(value.shape), *_several(value.ravel().tolist(), within)]
    return ["array", str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]


def _table(value: Any, within: tuple[int, ...]) -> Any:
    frame = value if isinstance(value, pd.DataFrame) else value.to_frame()
    names = _several([*frame.columns, *map(str, frame.dtypes)], within)
    hashes = pd.util.hash_pandas_object(frame).to_numpy("<u8")
    return [type(value).__name__, names, hashlib.sha256(hashes.tobytes()).hexdigest()]


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # who holds a tensor has imported it
    return torch is not None and isinstance(value, torch.Tensor)


def _tensor(value: Any, within: tuple[int, ...]) -> Any:
    torch = sys.modules["torch"]
    flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return ["tensor", str(value.dtype), list(value.shape), value.requires_grad, hashlib.sha256(flat).hexdigest()]


def _object(value: Any, within: tuple[int, ...]) -> Any:
    if hasattr(value, "get_params"):
        return [_class(type(value)), _mapping(value.get_params(deep=False), within)]
    try:
        reduced = value.__reduce_ex__(4)
    except (TypeError, NotImplementedError, AttributeError) as error:
        raise ConfigError(
            f"{value!r} in its settings has nothing to know it by ({error}). Give a value that can be pickled"
        ) from None
    if isinstance(reduced, str):  # a global, by its name
        return ["global", type(value).__module__, reduced]
    items = [list(part) if part is not None else None for part in reduced[3:5]]
    return [_class(type(value)), *_several([*reduced[:3], *items], within)]


def _function(value: Any, within: tuple[int, ...]) -> Any:
    name = f"{value.__module__}.{value.__qualname__}"
    if _is_library(value.__module__):
        # what is made in a function of a library has its settings in the closure only
        return ["function", name, _closure(value, within) if "<locals>" in name else None]
    about = [value.__defaults__, value.__kwdefaults__]
    return ["function", name, _code(value.__code__), _several(about, within), _closure(value, within)]


def _closure(value: Any, within: tuple[int, ...]) -> list[Any]:
    cells = value.__closure__ or ()
    return _several([cell.cell_contents for cell in cells if cell != types.CellType()], within)


def _builtin(value: Any, within: tuple[int, ...]) -> Any:
    owner = getattr(value, "__self__", None)
    bound = owner is not None and not isinstance(owner, types.ModuleType)
    return ["builtin", value.__qualname__, _describe(owner, within) if bound else value.__module__]


def _method(value: Any, within: tuple[int, ...]) -> Any:
    return ["method", _describe(value.__self__, within), value.__func__.__qualname__]


def _code(code: types.CodeType) -> list[Any]:
    """Say what code does; lines and comments are no part of it."""
    constants = [_code(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _constant(value: Any) -> Any:
    if isinstance(value, (tuple, frozenset)):
        parts = [json.dumps(_constant(one)) for one in value]
        return [type(value).__name__, sorted(parts) if isinstance(value, frozenset) else parts]
    return [type(value).__name__, repr(value)]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_library(module: str | None) -> bool:
    return (module or "builtins").partition(".")[0] in _LIBRARIES


def _class(kind: type, within: tuple[int, ...] = ()) -> Any:
    """Say which class; with the code of its methods, and of its bases, where it is no library's."""
    own = [base for base in kind.__mro__ if not _is_library(base.__module__)]
    return ["class", _name(kind), *([_name(base), _methods(base)] for base in own)]


def _methods(kind: type) -> list[Any]:
    found = []
    for name, held in sorted(vars(kind).items()):
        parts = [held.fget, held.fset] if isinstance(held, property) else [getattr(held, "__func__", held)]
        codes = [_code(part.__code__) for part in parts if isinstance(part, types.FunctionType)]
        if codes:
            found.append([name, codes])
        elif type(held) in (*_PLAIN, float) and not name.startswith("__"):
            found.append([name, _describe(held, ())])
    return found


_HOW: tuple[tuple[Any, Callable[[Any, tuple[int, ...]], Any]], ...] = (
    (types.FunctionType, _function),
    (types.MethodType, _method),
    (types.BuiltinFunctionType, _builtin),
    (type, _class),
    (np.ndarray, _array),
    ((pd.Series, pd.DataFrame, pd.Index), _table),
    ((list, tuple), _sequence),
    ((set, frozenset), _set),
    (Mapping, _mapping),
)
