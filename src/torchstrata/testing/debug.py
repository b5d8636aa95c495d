"""DebugLearner: an estimator that fails, hangs or returns nonsense on demand.

Modelled on ``classif.debug`` of mlr3: whoever claims that a failure in one cell costs nothing else needs a learner that
fails when told to.
"""

from __future__ import annotations

import builtins
import os
import pathlib
import signal as signals
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted

from torchstrata.errors import ConfigError, NonFiniteError


class DebugLearner(ClassifierMixin, BaseEstimator):
    """A classifier that predicts the share of each class, and misbehaves as told.

    Parameters
    ----------
    error_train, error_predict, warn : float
        Probability of an error in fit, of one in predict, of a warning in fit; drawn from ``random_state``.
    nan_loss_at : int, optional
        Fit ends with a :class:`NonFiniteError` at this step.
    sleep_train, sleep_predict : float
        Seconds.
    exit_code : int, optional
        Fit ends the process with ``os._exit``.
    signal : str, optional
        Fit sends itself this signal, such as ``"SIGKILL"`` or ``"SIGSEGV"``: in this very process, where no other was
        made for it.
    alloc_gb : float
        Fit asks for so much memory; 1e9 is more than any machine gives.
    missing_predictions : int
        So many of the first predictions are NaN.
    wrong_length : int
        Predict returns so many rows too many (or too few).
    wrong_classes : bool
        Predict returns labels that fit never saw.
    raise_class : str
        Name of the built-in exception to raise; ``"ConfigError"`` for a wrong setting.
    save_X : bool
        Keep what fit and predict were given as ``X_train_`` and ``X_predict_``.
    when : callable, optional
        Misbehave only where ``when(X)`` is true of the training rows: in one fold, say, that lacks a certain row.
    once : str or Path, optional
        A file: misbehave only where it does not exist yet, and write it then; a second attempt succeeds.
    random_state : int, optional
        For the probabilities.

    Attributes
    ----------
    pid_ : int
        Of the process that fitted.
    n_fits_ : int
        How often this instance was fitted.

    Examples
    --------
    >>> DebugLearner(error_train=1.0).fit([[0.0], [1.0]], [0, 1])
    Traceback (most recent call last):
    ...
    RuntimeError: DebugLearner fails in fit, as told
    """

    def __init__(
        self,
        *,
        error_train: float = 0.0,
        error_predict: float = 0.0,
        warn: float = 0.0,
        nan_loss_at: int | None = None,
        sleep_train: float = 0.0,
        sleep_predict: float = 0.0,
        exit_code: int | None = None,
        signal: str | None = None,
        alloc_gb: float = 0.0,
        missing_predictions: int = 0,
        wrong_length: int = 0,
        wrong_classes: bool = False,
        raise_class: str = "RuntimeError",
        save_X: bool = False,
        when: Callable[[Any], bool] | None = None,
        once: str | pathlib.Path | None = None,
        random_state: int | None = None,
    ):
        self.error_train = error_train
        self.error_predict = error_predict
        self.warn = warn
        self.nan_loss_at = nan_loss_at
        self.sleep_train = sleep_train
        self.sleep_predict = sleep_predict
        self.exit_code = exit_code
        self.signal = signal
        self.alloc_gb = alloc_gb
        self.missing_predictions = missing_predictions
        self.wrong_length = wrong_length
        self.wrong_classes = wrong_classes
        self.raise_class = raise_class
        self.save_X = save_X
        self.when = when
        self.once = once
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, sample_weight: Any = None, stratum: Any = None) -> DebugLearner:
        """Learn the share of each class, or misbehave.

        Parameters
        ----------
        X, y : array-like
            Rows and labels.
        sample_weight, stratum : array-like, optional
            Kept with ``save_X``.

        Returns
        -------
        DebugLearner
            This one.
        """
        self.acts_ = self._is_to_act(X)
        if self.acts_:
            self._misbehave(np.random.default_rng(self.random_state))
        self.classes_ = unique_labels(y)
        self.share_ = np.array([np.mean(np.asarray(y) == label) for label in self.classes_])
        self.n_features_in_ = np.shape(X)[1]
        self.pid_, self.n_fits_ = os.getpid(), getattr(self, "n_fits_", 0) + 1
        if self.save_X:
            self.X_train_, self.sample_weight_, self.stratum_ = X, sample_weight, stratum
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the share of each class for every row, or misbehave.

        Parameters
        ----------
        X : array-like
            Rows.

        Returns
        -------
        ndarray of shape (n, k)
            Shares.
        """
        check_is_fitted(self, "share_")
        if self.save_X:
            self.X_predict_ = X
        if not self.acts_:
            return np.tile(self.share_, (len(X), 1))
        time.sleep(self.sleep_predict)
        if self.error_predict and np.random.default_rng(self.random_state).random() < self.error_predict:
            raise self._error("predict")
        proba = np.tile(self.share_, (len(X) + self.wrong_length, 1))
        proba[: self.missing_predictions] = np.nan
        return proba

    def predict(self, X: Any) -> np.ndarray:
        """Return the most frequent class for every row, or misbehave.

        Parameters
        ----------
        X : array-like
            Rows.

        Returns
        -------
        ndarray of shape (n,)
            Labels.
        """
        proba = self.predict_proba(X)
        labels = self.classes_[np.nan_to_num(proba).argmax(1)]
        if self.wrong_classes and self.acts_:
            return np.full(len(labels), "no such class", dtype=object)
        return labels

    def _is_to_act(self, X: Any) -> bool:
        if self.when is not None and not self.when(X):
            return False
        if self.once is None:
            return True
        try:
            pathlib.Path(self.once).open("x").close()
        except FileExistsError:
            return False
        return True

    def _misbehave(self, rng: np.random.Generator) -> None:
        time.sleep(self.sleep_train)
        if rng.random() < self.warn:
            warnings.warn("DebugLearner warns, as told", stacklevel=3)
        if self.alloc_gb:
            np.ones(int(self.alloc_gb * 2**27))
        if self.signal is not None:
            os.kill(os.getpid(), getattr(signals, self.signal))
        if self.exit_code is not None:
            os._exit(self.exit_code)
        if self.nan_loss_at is not None:
            raise NonFiniteError(
                f"the loss became nan at epoch 1, step {self.nan_loss_at}, as told", epoch=1, step=self.nan_loss_at
            )
        if self.error_train and rng.random() < self.error_train:
            raise self._error("fit")

    def _error(self, where: str) -> BaseException:
        known = {"ConfigError": ConfigError, **vars(builtins)}
        return known[self.raise_class](f"DebugLearner fails in {where}, as told")
