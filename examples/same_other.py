"""Do two subsets of a table follow one pattern? Train on the same, on the other, on both, and compare.

Two clinics measure the same thing. In the first study they mean the same by it; in the second one clinic wrote the
scale upside down. SameOther finds out: where the pattern is the same, rows of the other clinic do no harm and may help;
where it is not, they ruin the scores.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts
from torchstrata.experiment.presentation import verdict


def clinics(*, upside_down: bool, n: int = 240) -> ts.Task:
    """Make a table of two clinics, of which the second is four times as large."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 6)), columns=[f"marker{i}" for i in range(6)])
    frame["clinic"] = np.where(np.arange(n) % 5 == 0, "small", "large")
    signal = frame[["marker0", "marker1", "marker2"]].sum(axis=1) + rng.normal(size=n)
    flipped = (frame["clinic"] == "small") & upside_down
    frame["ill"] = np.where(np.where(flipped, -signal, signal) > 0, "yes", "no")
    name = "upside down" if upside_down else "one pattern"
    return ts.Task(frame, target="ill", subset="clinic", stratum="ill", name=name)


def main(folds: int, epochs: int) -> ts.BenchmarkResult:
    """Compare on both studies and print what came out."""
    tasks = [clinics(upside_down=False), clinics(upside_down=True)]
    learners = {
        "mlp": ts.TorchClassifier(ts.MLP((16,)), max_epochs=epochs, optimizer=ts.optim.AdamW(lr=0.01)),
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
    }
    cv = ts.splitters.SameOther(folds, sizes=0)  # sizes=0: also of equal numbers of rows
    result = ts.benchmark(tasks, learners, cv=cv, scoring="roc_auc")
    table = result.same_other("roc_auc")
    columns = [
        "task",
        "learner",
        "test_subset",
        "size",
        "trained_on",
        "n_train_same",
        "n_train",
        "difference",
        "p_corrected",
    ]
    print(table[columns].round(3).to_string(index=False))
    print(*verdict.headline(result), sep="\n")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=15)
    given = parser.parse_args()
    main(given.folds, given.epochs)
