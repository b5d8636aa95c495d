"""How often do tests find a difference between two learners that have none? (docs/comparing.md quotes this.)

Two classifiers of one column each, the nearest class mean; the columns are drawn alike, so neither is better. Every
draw is a new table of 200 rows. A test at 0.05 should find a difference in 5 % of the draws.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedKFold

from torchstrata.plots.measures import paired_test

SPLITTERS = {
    "5 folds": (StratifiedKFold(5, shuffle=True, random_state=0), 5),
    "10 folds": (StratifiedKFold(10, shuffle=True, random_state=0), 10),
    "10 times 10 folds": (RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0), 10),
}


def accuracy(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    low, high = x[train][y[train] == 0].mean(), x[train][y[train] == 1].mean()
    return float(((np.abs(x[test] - high) < np.abs(x[test] - low)) == y[test]).mean())


def main(draws: int) -> None:
    print(f"found at 0.05, share of {draws} draws | t-test | corrected t-test")
    for name, (splitter, k) in SPLITTERS.items():
        rng, found = np.random.default_rng(0), np.zeros(2)
        for _ in range(draws):
            y = np.repeat([0, 1], 100)
            x = rng.normal(size=(200, 2)) + 0.8 * y[:, None]
            splits = splitter.split(x, y)
            gaps = [accuracy(x[:, 0], y, *parts) - accuracy(x[:, 1], y, *parts) for parts in splits]
            found += [paired_test(gaps, ratio=0.0) < 0.05, paired_test(gaps, ratio=1 / (k - 1)) < 0.05]
        print(f"{name} | {found[0] / draws:.3f} | {found[1] / draws:.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    main(parser.parse_args().draws)
