"""Predictions of MLP(100, 100) with 60 inputs: one row, and 10,000 rows, beside the bare module call and the peers.

    python benchmarks/bench_predict.py [--repeats 15] [--clock cpu] [--quick]

Goal of issue 4: one row through the learner in at most 3 times the bare module call (under no_grad).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.neural_network import MLPClassifier
from timing import goal, installed, interleave, markdown, options, ratios, versions

import torchstrata as ts

BARE = "bare module call"


def learners(X: np.ndarray, y: np.ndarray, names: list[str]) -> dict[str, Any]:
    """Fitted on the same rows; how well does not matter here."""
    ours = {"network": ts.MLP((100, 100)), "max_epochs": 1, "random_state": 0, "runtime": "cpu"}
    made = {
        "array": ts.TorchClassifier(**ours, encoder=None).fit(X, y),
        "encoded": ts.TorchClassifier(**ours).fit(pd.DataFrame(X, columns=names), y),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made["sklearn"] = MLPClassifier((100, 100), max_iter=1, random_state=0).fit(X, y)
    if installed("skorch>=1.2"):
        from skorch import NeuralNetBinaryClassifier

        net = NeuralNetBinaryClassifier(
            made["array"].network_, max_epochs=1, train_split=None, verbose=0, batch_size=-1
        )
        made["skorch"] = net.fit(X.astype(np.float32), y.astype(np.float32))
    return made


def contestants(made: dict[str, Any], rows: np.ndarray, names: list[str]) -> dict[str, Callable[[], object]]:
    """Everybody predicts the same rows."""
    single, frame = rows.astype(np.float32), pd.DataFrame(rows, columns=names)
    tensor, network = torch.from_numpy(single), made["array"].network_

    def bare() -> torch.Tensor:
        with torch.no_grad():
            return network(tensor)

    out: dict[str, Callable[[], object]] = {
        BARE: bare,
        "torchstrata decision_function, array": lambda: made["array"].decision_function(rows),
        "torchstrata predict, array": lambda: made["array"].predict(rows),
        "torchstrata predict, DataFrame, default encoder": lambda: made["encoded"].predict(frame),
        "MLPClassifier predict, array": lambda: made["sklearn"].predict(rows),
    }
    if "skorch" in made:
        out["skorch predict, array"] = lambda: made["skorch"].predict(single)
    return out


def repeated(run: Callable[[], object], times: int) -> Callable[[], object]:
    return lambda: [run() for _ in range(times)]


def main() -> None:
    args = options(__doc__).parse_args()
    torch.set_num_threads(args.threads)
    repeats = 3 if args.quick else args.repeats
    rng = np.random.default_rng(0)
    X, names = rng.normal(size=(10_000, 60)), [f"c{i}" for i in range(60)]
    made = learners(X[:500], (X[:500, 0] > 0).astype(int), names)
    for n, times in ((1, 100), (10_000, 1)):
        each = {name: repeated(run, times) for name, run in contestants(made, X[:n], names).items()}
        seconds = interleave(each, repeats=repeats, clock=args.clock)
        found = {name: 1 / value for name, value in ratios(seconds, BARE).items()}
        table = [[name, f"{value:.2f}", f"{min(seconds[name]) / times * 1e6:,.0f}"] for name, value in found.items()]
        print(f"{n:,} row(s) of 60 numbers, {args.clock} time, {repeats} rounds of {times}\n")
        print(markdown(["contestant", "times as long as the bare call (median)", "best microseconds"], table))
        if n == 1:
            for name in [name for name in found if name.startswith("torchstrata")]:
                print(goal(name, found[name], 3.0, at_least=False))
        print()
    print(versions("torch", "numpy", "pandas", "scikit-learn", "skorch"))


if __name__ == "__main__":
    main()
