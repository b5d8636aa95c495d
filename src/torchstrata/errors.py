"""How we say no: the error classes, and the two sentences most of them need.

Every message says where, what was expected, what came, and what to type next. The classes derive from the built-in
errors that scikit-learn's conventions ask for, so ``except ValueError`` keeps working.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Iterator


class DataError(ValueError):
    """The data cannot be used as they are: a column, a row or a target value is named in the message."""


class ConfigError(ValueError):
    """A setting cannot work; raised before any training and never replaced by a fallback."""


class DataWorkerError(RuntimeError):
    """A process that loads rows died, or gave none for too long; the batch is named in the message."""


class NonFiniteError(RuntimeError):
    """A loss became NaN or infinite during training.

    Parameters
    ----------
    message : str
        What happened, with epoch and step.
    epoch, step : int
        Where it happened: epochs count from 1, steps within the epoch from 1.
    history : list of dict
        The rows of the history up to the last complete epoch.
    """

    def __init__(self, message: str, *, epoch: int = 0, step: int = 0, history: list[dict] | None = None):
        super().__init__(message)
        self.epoch, self.step, self.history = epoch, step, list(history or [])

    def __reduce__(self):
        return _rebuild_non_finite, (self.args[0], self.epoch, self.step, self.history)


def _rebuild_non_finite(message: str, epoch: int, step: int, history: list[dict]) -> NonFiniteError:
    return NonFiniteError(message, epoch=epoch, step=step, history=history)


def did_you_mean(name: object, known: Iterable[object], *, most: int = 20) -> str:
    """Finish an error message about an unknown name.

    Parameters
    ----------
    name : object
        What was typed.
    known : iterable
        What would have been understood.
    most : int
        At most so many known names are listed.

    Returns
    -------
    str
        ``"Did you mean 'x'? Known: ..."``, or only the known names where none is near.

    Examples
    --------
    >>> did_you_mean("diagnosys", ["diagnosis", "radius"])
    "Did you mean 'diagnosis'? Known: 'diagnosis', 'radius'."
    """
    names = [str(k) for k in known]
    by_lower = {k.lower(): k for k in reversed(names)}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    guess = f"Did you mean {by_lower[near[0]]!r}? " if near else ""
    shown = ", ".join(repr(k) for k in names[:most])
    rest = f", ... ({len(names)} in all)" if len(names) > most else ""
    return f"{guess}Known: {shown}{rest}."


def missing_extra(package: str, extra: str, purpose: str) -> ImportError:
    """Make the error for an optional dependency that is not installed.

    Parameters
    ----------
    package : str
        The package that could not be imported.
    extra : str
        The extra of torchstrata that brings it.
    purpose : str
        What it is needed for, as the beginning of a sentence.

    Returns
    -------
    ImportError
        To be raised by the caller, ``from None``.
    """
    return ImportError(f"{purpose} needs {package}, which is not installed: pip install 'torchstrata[{extra}]'")


# torch says it with a RuntimeError on a CPU, and with its own OutOfMemoryError, which is one, on an accelerator; the
# loader of a library says it with an ImportError
_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc", "bad allocation",
              "failed to map segment", "can't start new thread")  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, in the main memory or on an accelerator.

    Parameters
    ----------
    error : BaseException
        What was raised.

    Returns
    -------
    bool
        True for a MemoryError, and for what torch and the system say in its place.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    True
    >>> is_out_of_memory(ValueError("out of memory"))
    False
    """
    if isinstance(error, MemoryError):
        return True
    told = str(error).lower()
    kinds = (RuntimeError, OSError, ImportError)
    return isinstance(error, kinds) and any(words in told for words in _NO_MEMORY)


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it, each once.

    Parameters
    ----------
    error : BaseException or None
        The last of them.

    Yields
    ------
    BaseException
        The last one first.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def empty_frames(error: BaseException | None) -> None:
    """Drop what the frames of an error and of those that led to it hold: batches, gradients, whole networks.

    The lines stay, so that it can still be put into words.

    Parameters
    ----------
    error : BaseException or None
        Its frames are emptied.
    """
    for one in chain_of(error):
        traceback.clear_frames(one.__traceback__)
