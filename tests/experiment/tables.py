"""A made-up result of a benchmark: fast, no training, every awkward thing in it on request."""

from __future__ import annotations

import numpy as np
import pandas as pd

LEARNERS = {"boosting": 1.2, "mlp, stratified": 1.5, "mlp, random": 1.3, "linear": 1.0, "dummy": 0.0}


def tables(
    *,
    tasks=("sonar",),
    learners=LEARNERS,
    folds=5,
    grid=None,
    fail=(),
    rows=200,
    positive_share=0.15,
    epochs=20,
    seed=0,
) -> dict:
    """Return the arguments of BenchmarkResult.

    `learners`: name to how far its scores lie apart; `grid`: learner to {column: values}; `fail`: task, learner, fold.
    """
    rng = np.random.default_rng(seed)
    made: dict[str, list] = {"scores": [], "history": [], "predictions": [], "errors": [], "splits": []}
    columns = list(dict.fromkeys(c for settings in (grid or {}).values() for c in settings))
    for task in tasks:
        truth = np.where(np.arange(rows) < rows * positive_share, "R", "M")
        of_fold = rng.permutation(rows) % folds
        made["splits"] += [
            {"task": task, "fold": k, "n_train": int((of_fold != k).sum()), "n_test": int((of_fold == k).sum())}
            for k in range(folds)
        ]
        for learner, skill in learners.items():
            for setting in _settings((grid or {}).get(learner, {}), columns):
                for fold in range(folds):
                    key = {"task": task, "learner": learner, "fold": fold, **setting}
                    failed = (task, learner, fold) in fail
                    _cell(made, key, skill, truth, np.flatnonzero(of_fold == fold), failed, epochs, rng)
    keys = ["task", "learner", "fold", *columns]
    empty = {"errors": [*keys, "status", "error", "message", "traceback"], "history": [*keys, "epoch", "train_loss"]}
    frames = {name: pd.DataFrame(found, columns=None if found else empty[name]) for name, found in made.items()}
    return {**frames, **_facts(tasks, learners, rows, truth)}


def _settings(grid: dict, columns: list[str]) -> list[dict]:
    found = [dict.fromkeys(columns)]
    for name, values in grid.items():
        found = [{**one, name: value} for one in found for value in values]
    return found


def _cell(made, key, skill, truth, test, failed, epochs, rng) -> None:
    score = skill * (truth[test] == "R") + rng.normal(size=len(test)) if skill else np.zeros(len(test))
    higher = score[truth[test] == "R"][:, None] - score[truth[test] == "M"][None]
    values = {
        "roc_auc": float((np.sign(higher) * 0.5 + 0.5).mean()),
        "accuracy": float(((score > 1.2) == (truth[test] == "R")).mean()),
        "neg_log_loss": float(-0.5 + 0.1 * skill + 0.02 * rng.normal()),
        "fit_seconds": float(0.2 + 0.3 * skill + 0.02 * rng.random()),
        "epochs": float(epochs) if "mlp" in key["learner"] else np.nan,
    }
    for measure, value in values.items():
        made["scores"].append({**key, "measure": measure, "value": np.nan if failed else value})
    if failed:
        lines = "Traceback (most recent call last):\n  File \"x.py\", line 1\nValueError: <b>boom</b> & 'bust'"
        made["errors"].append(
            {**key, "status": "error_train", "error": "ValueError", "message": "<b>boom</b> & 'bust'",
             "traceback": lines}
        )  # fmt: skip
        return
    for i, row in enumerate(test):
        made["predictions"].append(
            {**key, "row": int(row), "truth": truth[row], "predicted": "R" if score[i] > 1.2 else "M",
             "score": score[i], "prob_R": 1 / (1 + np.exp(-score[i])), "prob_M": 1 / (1 + np.exp(score[i]))}
        )  # fmt: skip
    if "mlp" in key["learner"] or key["learner"] == "linear":
        _history(made, key, epochs + 3 * key["fold"], rng)


def _history(made, key, epochs, rng) -> None:
    at = np.arange(1, epochs + 1)
    speed = 0.12 * rng.uniform(0.8, 1.2)
    train = 0.65 * np.exp(-speed * at) + 0.05
    valid = 0.55 * np.exp(-speed * at) + 0.15 + 0.006 * at + 0.01 * rng.normal(size=epochs)
    best = int(valid.argmin())
    for i in range(epochs):
        made["history"].append(
            {**key, "epoch": i + 1, "train_loss": train[i], "valid_loss": valid[i], "lr": 1e-3, "seconds": 0.01,
             "valid_roc_auc": 1 - valid[i] / 2, "best": i == best}
        )  # fmt: skip


def _facts(tasks, learners, rows, truth) -> dict:
    counts = {name: int((truth == name).sum()) for name in ("M", "R")}
    about = {
        "kind": "classification", "n_rows": rows, "n_features": 60, "classes": ["M", "R"], "positive": "R",
        "class_counts": counts, "missing": 3, "target": "Class", "fingerprint": "0123abcd",
    }  # fmt: skip
    info = {
        "versions": {"torchstrata": "0.1.0", "python": "3.11.2"}, "seed": 1, "threads": 1, "device": "cpu",
        "started": "2026-11-21T10:00:00", "seconds": 12.5, "command": "torchstrata benchmark sonar.csv --target Class",
    }  # fmt: skip
    return {
        "tasks": {task: dict(about) for task in tasks},
        "learners": {name: f"TorchClassifier(network=MLP((100,)), note={name!r})" for name in learners},
        "info": info,
    }
