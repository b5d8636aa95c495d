"""From outputs to labels and probabilities: links, thresholds, calibration, and corrections of the prior."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from torchstrata.errors import DataError
from torchstrata.learner.job import Job
from torchstrata.training.engine import predict_blocks


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How scores without a threshold become labels and probabilities.

    Parameters
    ----------
    threshold : float
        Above it a row is predicted positive: as many rows as are positive, among those it was fitted on.
    slope, intercept : float
        Probability = logistic(slope * (score - threshold) + intercept); Platt (1999).
    rows : {"valid", "train"}
        What it was fitted on.
    """

    threshold: float
    slope: float
    intercept: float
    rows: str


def decisions_of(output: torch.Tensor) -> np.ndarray:
    """Return outputs as scores: one a row for one output, else one a class.

    Parameters
    ----------
    output : Tensor of shape (n,), (n, 1) or (n, k)
        Of the network.

    Returns
    -------
    ndarray of float64
        Shape (n,) for one output, and for two (their difference); else (n, k).
    """
    output = output.detach().cpu()
    values = (output if output.dtype in (torch.float32, torch.float64) else output.double()).numpy().astype(np.float64)
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    return values[:, 1] - values[:, 0] if values.ndim == 2 and values.shape[1] == 2 else values


def probabilities(decision: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities.

    Parameters
    ----------
    decision : ndarray of shape (n,) or (n, k)
        Logits.

    Returns
    -------
    ndarray of shape (n, k)
        Logistic function or softmax; rows sum to one.
    """
    if decision.ndim == 1:
        decision = np.column_stack([np.zeros_like(decision), decision])
    shifted = np.exp(decision - decision.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def calibrate(job: Job) -> Calibration:
    """Fit threshold and probabilities on validation rows, or on training rows, which say where the threshold lies.

    Parameters
    ----------
    job : Job
        With the trained network.

    Returns
    -------
    Calibration
        What it was fitted on stands in it.
    """
    from sklearn.linear_model import LogisticRegression  # it takes longer to import than a small fit

    rows, which = (job.valid, "valid") if job.valid is not None else (job.rows, "train")
    with job.decisions.active(job.seeds.dropout):
        scores = decisions_of(predict_blocks(job.module, rows.x))
    positive = rows.y.cpu().numpy() > 0.5
    weight = np.ones(len(scores)) if rows.weight is None else rows.weight.cpu().double().numpy()
    threshold = count_matching_threshold(scores, positive, weight)
    kept = weight > 0
    if positive[kept].all() or not positive[kept].any():
        return Calibration(threshold, 1.0, 0.0, which)
    spread = float(scores[kept].std()) or 1.0
    standard = ((scores[kept] - threshold) / spread)[:, None]
    platt = LogisticRegression(C=1e6).fit(standard, positive[kept], sample_weight=weight[kept])
    slope = max(float(platt.coef_[0, 0]), 1e-6) / spread  # never turn the ranking round
    return Calibration(threshold, slope, float(platt.intercept_[0]), which)


def count_matching_threshold(scores: np.ndarray, positive: np.ndarray, weight: np.ndarray | None) -> float:
    """Find the score above which as much weight lies as positives have.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores.
    positive : ndarray of bool, shape (n,)
        Which rows are positive.
    weight : ndarray of shape (n,), optional
        Rows of weight zero are absent.

    Returns
    -------
    float
        Between two scores.
    """
    weight = np.ones(len(scores)) if weight is None else weight
    kept = weight > 0
    scores, positive, weight = scores[kept], positive[kept], weight[kept]
    if positive.all() or not positive.any():
        return float(np.median(scores))
    order = np.argsort(-scores, kind="stable")
    ranked, above = scores[order], np.cumsum(weight[order])
    last = min(int(np.searchsorted(above, weight[positive].sum() * (1 - 1e-9))), len(scores) - 2)
    return float((ranked[last] + ranked[last + 1]) / 2)


def correct_prior(proba: Any, *, trained: Any, wanted: Any) -> np.ndarray:
    """Turn probabilities for one share of the classes into those for another.

    After ``class_weight``, resampling or logit adjustment a network answers for the classes it was shown, not for
    those that occur. With ``trained=learner.trained_prior_, wanted=learner.prior_`` the answers are for the training
    data; with any other ``wanted`` they are for a population where the classes have that share.

    Parameters
    ----------
    proba : array-like of shape (n, k)
        From ``predict_proba``.
    trained, wanted : array-like of shape (k,)
        Shares of the classes; they need not sum to one.

    Returns
    -------
    ndarray of shape (n, k)
        Rows sum to one.

    Raises
    ------
    DataError
        If the shapes do not fit, or a trained share is not positive.

    References
    ----------
    Saerens, M., Latinne, P. and Decaestecker, C. (2002). Adjusting the outputs of a classifier to new a priori
    probabilities. Neural Computation 14(1).

    Examples
    --------
    >>> correct_prior([[0.5, 0.5]], trained=[0.5, 0.5], wanted=[0.9, 0.1]).tolist()
    [[0.9, 0.1]]
    """
    proba, old, new = (np.asarray(values, dtype=np.float64) for values in (proba, trained, wanted))
    if proba.ndim != 2 or old.shape != (proba.shape[1],) or new.shape != old.shape:
        raise DataError(
            f"proba must have shape (n, k), trained and wanted (k,); got {proba.shape}, {old.shape} and {new.shape}"
        )
    if not (old > 0).all() or not (new >= 0).all() or not new.any():
        raise DataError(f"shares must be positive: trained={old.tolist()}, wanted={new.tolist()}")
    corrected = proba * (new / new.sum()) / (old / old.sum())
    return corrected / corrected.sum(axis=1, keepdims=True)
