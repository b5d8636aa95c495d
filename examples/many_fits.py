"""Sixty cross-validated fits of a small network as one program, against one by one: the same scores, much sooner.

    python examples/many_fits.py

Folds, seeds and learning rates are numbers: cells of a benchmark that differ only in those are trained together, and
the result says which ones were, and why others were not.
"""

import time

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts

task = ts.load_task("breast_cancer")
network = ts.TorchClassifier(ts.MLP((64, 64), dropout=0.1), max_epochs=10)
learners = {
    "network": ts.grid(network, optimizer__lr=[1e-3, 1e-2], random_state=[0, 1, 2, 3, 4, 5]),
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
}


def timed(vectorize):
    """Run the benchmark and say how long it took."""
    started = time.perf_counter()
    result = ts.benchmark(task, learners, cv=5, scoring="roc_auc", vectorize=vectorize, progress=False)
    return result, time.perf_counter() - started


together, seconds = timed("auto")
alone, longer = timed(False)
print(f"65 fits: together {seconds:.1f} s, one by one {longer:.1f} s\n")

for row in together.info["together"]:
    print(f"{row['learner']}: {row['cells']} fits in {row['groups']} group(s): {row['why']}")

key = ["learner", "fold", "optimizer__lr", "random_state"]
scores = [r.scores.query("measure == 'roc_auc'").sort_values(key)["value"].to_numpy() for r in (together, alone)]
print(f"\nlargest difference of a score: {np.abs(scores[0] - scores[1]).max():.1e}")
print(together.aggregate("roc_auc", by=["learner", "optimizer__lr"]).to_string(index=False))
