"""The nineteen settings of a learner -> parts ready for use; whatever cannot work is refused here, before any data."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any

import numpy as np

from torchstrata.batches.samplers import RandomBatchSampler
from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.learner.measures import Measures, measures_for
from torchstrata.training.callbacks import Hooks, Progress
from torchstrata.training.loss import resolve_loss
from torchstrata.training.optim import resolve_optimizer
from torchstrata.training.runtime import Runtime, resolve_runtime
from torchstrata.training.schedules import resolve_schedule
from torchstrata.training.state import EarlyStopping

# Rows that a fit with max_epochs="auto" shows in all its epochs, and how few and many these may be (docs/quality.md).
SHOWN, FEWEST, MOST = 120_000, 10, 60


@dataclasses.dataclass(frozen=True)
class Settings:
    """Resolved settings.

    Parameters
    ----------
    loss, optimizer, schedule, sampler : callable
        As of the protocols.
    runtime : Runtime
        Where and how.
    measures : Measures
        What is scored.
    callbacks, augment : tuple
        In the user's order.
    """

    loss: Any
    optimizer: Any
    schedule: Any
    sampler: Any
    runtime: Runtime
    measures: Measures
    callbacks: tuple[Any, ...]
    augment: tuple[Any, ...]


def resolve_settings(learner: Any, kind: str, *, has_valid: bool) -> Settings:
    """Check and resolve the settings of a learner.

    Parameters
    ----------
    learner : TorchLearner
        Whose settings.
    kind : {"classification", "regression"}
        What it is for.
    has_valid : bool
        Whether there will be validation rows.

    Returns
    -------
    Settings
        Ready for use.

    Raises
    ------
    ConfigError
        Naming the setting, what was expected and what came.
    """
    if not (isinstance(learner.max_epochs, str) and learner.max_epochs == "auto"):
        _check_int("max_epochs", learner.max_epochs, least=0, more=" or 'auto'")
    _check_int("eval_every", learner.eval_every, least=1)
    _check_valid(learner.valid)
    stopping = learner.early_stopping
    if stopping is not None and not isinstance(stopping, EarlyStopping):
        raise ConfigError(f"early_stopping must be a ts.EarlyStopping(...) or None, got {stopping!r}")
    if stopping is not None and not has_valid:
        raise ConfigError("early_stopping needs validation rows: set valid=0.2, or pass fit(..., valid_set=(X, y))")
    loss = resolve_loss(learner.loss, kind)
    measures = measures_for(learner.scoring, kind, ranks_only=loss.traits.link == "none", stops=stopping is not None)
    callbacks = _several("callbacks", learner.callbacks)
    Hooks(callbacks)  # refuses what is no callback
    return Settings(
        loss,
        resolve_optimizer(learner.optimizer),
        resolve_schedule(learner.schedule),
        _sampler(learner),
        resolve_runtime(learner.runtime),
        measures,
        (*callbacks, Progress()) if learner.verbose else callbacks,
        _functions("augment", learner.augment),
    )


def _sampler(learner: Any) -> Any:
    if learner.batch_sampler is None:
        return RandomBatchSampler(learner.batch_size)
    if isinstance(learner.batch_sampler, type):
        name = learner.batch_sampler.__name__
        raise ConfigError(f"batch_sampler is the class {name}; give a value: ts.{name}(...)")
    if not callable(learner.batch_sampler):
        raise ConfigError(
            f"batch_sampler must be a sampler or a function of (n, strata), got {learner.batch_sampler!r}"
        )
    return learner.batch_sampler


def _check_int(name: str, value: Any, *, least: int, more: str = "") -> None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral) or value < least:
        raise ConfigError(f"{name} must be an int >= {least}{more}, got {value!r}")


def choose_epochs(given: int | str, n_rows: int) -> tuple[int, str]:
    """Choose how many epochs a fit has.

    Parameters
    ----------
    given : int or "auto"
        ``max_epochs`` of a learner.
    n_rows : int
        Rows that train.

    Returns
    -------
    tuple (int, str)
        The number, and why. ``"auto"`` shows about 120,000 rows in all, in 10 to 60 epochs: of few rows no network
        learns more after that, and of many it has learnt most before.

    Examples
    --------
    >>> choose_epochs("auto", 150)[0], choose_epochs("auto", 6_000)[0], choose_epochs("auto", 50_000)[0]
    (60, 20, 10)
    """
    if given != "auto":
        return int(given), "as given"
    epochs = min(MOST, max(FEWEST, SHOWN // n_rows))
    return epochs, f"{SHOWN:,} rows to be shown, {n_rows:,} an epoch, {FEWEST} to {MOST} epochs"


def _check_valid(valid: Any) -> None:
    if valid is None:
        return
    if isinstance(valid, str):
        if valid != "test":
            raise ConfigError(f"valid must be a ratio in (0, 1), None or 'test'. {did_you_mean(valid, ['test'])}")
    elif isinstance(valid, bool) or not isinstance(valid, numbers.Real) or not 0 < float(valid) < 1:
        raise ConfigError(f"valid must be a ratio in (0, 1), None or 'test', got {valid!r}")


def _several(name: str, given: Any) -> tuple[Any, ...]:
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        raise ConfigError(f"{name} must be a list or tuple, got {given!r}: write {name}=({given!r},)")
    return tuple(given)


def _functions(name: str, given: Any) -> tuple[Any, ...]:
    several = _several(name, given)
    for each in several:
        if not callable(each) or isinstance(each, type):
            raise ConfigError(f"{name} must hold functions (x, generator) -> x, got {each!r}")
    return several
