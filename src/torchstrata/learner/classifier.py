"""TorchClassifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metaestimators import available_if

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.learner.base import TorchLearner
from torchstrata.learner.calibration import calibrate, count_matching_threshold, decisions_of, probabilities
from torchstrata.learner.job import Job
from torchstrata.learner.measures import ClassResponse
from torchstrata.learner.parts import Part
from torchstrata.learner.targets import number_labels, read_classes, read_labels
from torchstrata.network.tabular import MLP
from torchstrata.training import optim
from torchstrata.training.loss import LossTraits, count_outputs, known_losses
from torchstrata.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Labels:
    """The classes of the training rows.

    Parameters
    ----------
    classes : ndarray
        In sorted order.
    """

    classes: np.ndarray
    _last: list[np.ndarray] = dataclasses.field(default_factory=list, repr=False, compare=False)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return class numbers.

        Parameters
        ----------
        y : ndarray of shape (n,)
            Labels.

        Returns
        -------
        ndarray of int64
            0..k-1.
        """
        if not (self._last and self._last[0] is y):  # a fit asks several times, and so do fits on the same rows
            self._last[:] = [y, number_labels(y, self.classes)]
        return self._last[1]

    truth = encode

    def forget(self) -> None:
        """Let go of the labels that were encoded last: a fitted learner, and its pickle, hold no training rows."""
        self._last.clear()

    def n_outputs(self, traits: LossTraits) -> int:
        """Return how many outputs the network needs."""
        return count_outputs(traits, len(self.classes), 1)

    def response(
        self, output: torch.Tensor, traits: LossTraits, truth: np.ndarray, weight: np.ndarray | None
    ) -> BaseEstimator:
        """Return outputs in the shape of a fitted classifier; scores without a threshold get that of these rows."""
        decision = decisions_of(output)
        if traits.link != "none":
            return ClassResponse(decision, probabilities(decision))
        return ClassResponse(decision - count_matching_threshold(decision, truth == 1, weight), None)

    def class_counts(self, part: Part) -> np.ndarray:
        """Return the (weighted) number of rows of each class."""
        return np.bincount(self.encode(part.y), weights=part.weight, minlength=len(self.classes))

    def weigh(self, part: Part, class_weight: Any, train: Part) -> np.ndarray | None:
        """Return weights of rows, times those of their classes; what is balanced are the rows that train."""
        if class_weight is None:
            return part.weight
        if isinstance(class_weight, str) and class_weight == "balanced":
            totals = self.class_counts(train)
            by_class = totals.sum() / (len(totals) * totals)
        else:
            by_class = self._given(class_weight)
        codes = self.encode(part.y)
        return by_class[codes] if part.weight is None else by_class[codes] * part.weight

    def _given(self, class_weight: Any) -> np.ndarray:
        if not isinstance(class_weight, Mapping):
            raise ConfigError(
                f"class_weight must be 'balanced', a dict of class to weight or None, got {class_weight!r}"
            )
        known = self.classes.tolist()
        unknown = [label for label in class_weight if label not in known]
        if unknown:
            raise ConfigError(f"class_weight: {unknown[0]!r} is no class of y. {did_you_mean(unknown[0], known)}")
        by_class = np.array([float(class_weight.get(label, 1.0)) for label in known])
        if not (np.isfinite(by_class) & (by_class >= 0)).all() or not by_class.any():
            raise ConfigError(f"class_weight must hold finite numbers >= 0, not all zero, got {class_weight!r}")
        return by_class


class TorchClassifier(ClassifierMixin, TorchLearner):
    """A neural network as a scikit-learn classifier.

    Parameters
    ----------
    network : blueprint, torch.nn.Module, callable or str
        ``(shapes, n_outputs) -> torch.nn.Module``, such as ``ts.MLP(hidden=(100, 100))``; a module is copied.
    loss : str, loss or torch.nn.Module
        ``(output, target, sample_weight=None) -> scalar``, or a name in ``ts.losses``.
    optimizer : optimizer, callable or str
        ``(parameters) -> torch.optim.Optimizer``, such as ``ts.optim.AdamW(lr=1e-3)``.
    max_epochs : int or "auto"
        At most so many passes over the rows; 0 keeps the initial weights. ``"auto"`` is 60 for up to 2,000 rows, and
        fewer for more, but not less than 10; ``runtime_`` says how many.
    batch_size : int, "all" or "auto"
        Rows in a batch, where ``batch_sampler`` is None; ``"auto"`` is between 32 and 256, and larger for more rows.
    batch_sampler : sampler or callable, optional
        ``(n, strata, *, epoch, seed, ...) -> index arrays``, such as ``ts.StratifiedBatchSampler(1)``.
    valid : float or "test", optional
        Share of rows that validate, stratified; groups of a Task stay together. ``"test"`` uses the test rows of a
        benchmark (for curves, not for choices).
    scoring : str, callable or sequence of those
        scikit-learn scorers, computed during training; the first one decides early stopping.
    eval_every : int
        Evaluate every so many epochs, and after the last.
    early_stopping : EarlyStopping, optional
        When to stop.
    schedule : schedule, callable or str, optional
        ``(optimizer) -> scheduler``, such as ``ts.schedules.CosineAnnealingLR()``.
    callbacks : sequence of Callback
        Your code at the joints of the fit.
    augment : sequence of callable
        ``(x, generator) -> x`` on training batches.
    trainable : str, list of str or dict, optional
        Patterns of the parameters that train, by epoch where it is a dict.
    encoder : "auto", None or scikit-learn transformer
        Makes numbers of a table; None passes numeric arrays through.
    class_weight : dict or "balanced", optional
        Weights of classes.
    runtime : str or Runtime
        A device name, or device, threads, precision and more.
    random_state : int, RandomState or None
        Root of all seeds of the fit; None differs each time and is kept in ``seed_``.
    verbose : int
        Whether to report each epoch.

    Attributes
    ----------
    classes_ : ndarray
        Labels in sorted order; scores refer to ``classes_[1]`` where there are two.
    history_ : DataFrame
        One row an epoch: epoch, train_loss, lr, seconds, scores.
    best_epoch_, best_score_ : int, float
        By the first measure on validation rows; the last epoch and NaN without those. The weights in use are of this
        epoch where ``early_stopping`` restores the best, else of the last one.
    network_ : torch.nn.Module
        The fitted network.
    encoder_ : object
        Fitted on the rows that trained.
    runtime_ : Decisions
        Device, threads and so on, each with its reason.
    seed_ : int
        Root of the seeds.
    prior_, trained_prior_ : ndarray of shape (k,)
        Share of each class among the training rows, without and with ``class_weight``; for :func:`ts.correct_prior`.
    calibration_ : Calibration or None
        For losses that only rank: where the threshold lies, and which rows said so.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> import torchstrata as ts
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> learner = ts.TorchClassifier(max_epochs=5, random_state=1).fit(X, y)
    >>> learner.score(X, y) > 0.9
    True
    """

    _kind = "classification"

    def __init__(
        self,
        network: Any = MLP(hidden=(512,), activation="gelu", dropout=0.5),  # noqa: B008 - an immutable value
        *,
        loss: Any = "cross_entropy",
        optimizer: Any = optim.AdamW(lr=1e-3, weight_decay=0.1),  # noqa: B008
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        batch_sampler: Any = None,
        valid: Any = None,
        scoring: Any = (),
        eval_every: int = 1,
        early_stopping: Any = None,
        schedule: Any = None,
        callbacks: Any = (),
        augment: Any = (),
        trainable: Any = None,
        encoder: Any = "auto",
        class_weight: Any = None,
        runtime: Any = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.batch_sampler = batch_sampler
        self.valid = valid
        self.scoring = scoring
        self.eval_every = eval_every
        self.early_stopping = early_stopping
        self.schedule = schedule
        self.callbacks = callbacks
        self.augment = augment
        self.trainable = trainable
        self.encoder = encoder
        self.class_weight = class_weight
        self.runtime = runtime
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : DataFrame, array or tensor of shape (n, p), or Task
            Rows.

        Returns
        -------
        ndarray of shape (n,)
            Labels as in ``classes_``.
        """
        decision = self.decision_function(X)
        codes = (decision > 0).astype(int) if decision.ndim == 1 else decision.argmax(1)
        return self.classes_[codes]

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute scores.

        Parameters
        ----------
        X : DataFrame, array or tensor of shape (n, p), or Task
            Rows.

        Returns
        -------
        ndarray of float64, shape (n,) or (n, k)
            For two classes one score a row, above 0 for ``classes_[1]``; else one a class.
        """
        decision = decisions_of(self._outputs(X))
        return decision if self.calibration_ is None else decision - self.calibration_.threshold

    @available_if(lambda self: self._can_give_probabilities())
    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute probabilities.

        A loss that only ranks gives none by itself: its scores are calibrated on validation rows (``valid=0.2``), and
        without those this method does not exist.

        Parameters
        ----------
        X : DataFrame, array or tensor of shape (n, p), or Task
            Rows.

        Returns
        -------
        ndarray of float64, shape (n, k)
            Rows sum to one; columns as in ``classes_``.
        """
        decision = self.decision_function(X)
        if self.calibration_ is not None:
            decision = decision * self.calibration_.slope + self.calibration_.intercept
        return probabilities(decision)

    def _can_give_probabilities(self) -> bool:
        calibration = getattr(self, "calibration_", None)
        if calibration is not None and calibration.rows == "train":
            raise AttributeError(
                f"loss {self.loss!r} gives scores that are no probabilities, and there were no validation rows to "
                "calibrate them on: set valid=0.2, or use decision_function"
            )
        return True

    def _read_y(self, y: Any) -> np.ndarray:
        return read_labels(y)

    def _learn_target(self, part: Part, loss: Any) -> Labels:
        return Labels(read_classes(part.y, part.weight))

    def _know(self, target: Any) -> None:
        self.classes_ = target.classes

    def _keep(self, job: Job, state: TrainState) -> TorchClassifier:
        super()._keep(job, state)
        self.calibration_ = calibrate(job) if job.settings.loss.traits.link == "none" else None
        part, codes = job.parts[0], job.target.encode(job.parts[0].y)
        shown = np.bincount(codes, job.target.weigh(part, self.class_weight, part), minlength=len(self.classes_))
        counts = job.target.class_counts(part)
        self.prior_, self.trained_prior_ = counts / counts.sum(), shown / shown.sum()
        job.target.forget()  # type: ignore[attr-defined]
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        named = known_losses().get(self.loss) if isinstance(self.loss, str) else self.loss
        tags.classifier_tags.multi_class = getattr(getattr(named, "traits", None), "outputs", "") != "one"
        return tags
