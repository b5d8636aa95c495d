"""A network of middle size: 50,000 x 100, MLP(256, 256), batch 1024.

    python benchmarks/bench_middle.py [--repeats 5] [--threads 1 2] [--epochs 3] [--quick]

Whole fits, from arrays to a fitted model: the idiomatic loop (TensorDataset, DataLoader, AdamW), a lean eager loop,
torchstrata in float32 and in bfloat16 (autocast), scikit-learn's MLPClassifier. Goal of issue 4: torchstrata at least
2 times as fast as the idiomatic loop.
"""

from __future__ import annotations

import functools
import warnings

import numpy as np
import torch
from loops import Shape, idiomatic, lean
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits
from timing import goal, interleave, markdown, options, ratios, versions

import torchstrata as ts

SHAPE = Shape(n=50_000, p=100, hidden=(256, 256), batch=1024)


def ours(X: np.ndarray, y: np.ndarray, epochs: int, precision: str) -> None:
    ts.TorchClassifier(
        ts.MLP(SHAPE.hidden), batch_size=SHAPE.batch, max_epochs=epochs, encoder=None, random_state=0,
        runtime=ts.Runtime("cpu", precision=precision),
    ).fit(X, y)  # fmt: skip


def sklearn_mlp(X: np.ndarray, y: np.ndarray, epochs: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MLPClassifier(
            SHAPE.hidden, batch_size=SHAPE.batch, max_iter=epochs, n_iter_no_change=epochs, random_state=0
        ).fit(X, y)


def measure(threads: int, *, epochs: int, repeats: int, clock: str) -> None:
    """Print the table of one number of threads."""
    X, y = SHAPE.rows(0)
    contestants = {
        "idiomatic loop": functools.partial(idiomatic, X, y, SHAPE, epochs=epochs),
        "lean eager loop": functools.partial(lean, X, y, SHAPE, epochs=epochs),
        "torchstrata, float32": functools.partial(ours, X, y, epochs, "float32"),
        "torchstrata, bfloat16": functools.partial(ours, X, y, epochs, "bfloat16"),
        "MLPClassifier": functools.partial(sklearn_mlp, X, y, epochs),
    }
    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        seconds = interleave(contestants, repeats=repeats, clock=clock)
    found = ratios(seconds, "idiomatic loop")
    rows = [[name, f"{value:.2f}", f"{min(seconds[name]):.2f}"] for name, value in found.items()]
    print(f"{SHAPE}, AdamW, {epochs} epoch(s), {threads} thread(s), {clock} clock\n")
    print(markdown(["contestant", "times as fast as the idiomatic loop (median)", "best s"], rows) + "\n")
    print(goal("against the idiomatic loop", found["torchstrata, float32"], 2.0))
    print(f"{versions('torch', 'numpy', 'scikit-learn')}\n")


def main() -> None:
    parser = options(__doc__, repeats=5)
    parser.set_defaults(threads=[1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    next(a for a in parser._actions if a.dest == "threads").nargs = "+"
    args = parser.parse_args()
    epochs, repeats = (1, 1) if args.quick else (args.epochs, args.repeats)
    for threads in args.threads:  # the time of the process counts every thread, so it says nothing of two
        measure(threads, epochs=epochs, repeats=repeats, clock=args.clock if threads == 1 else "wall")


if __name__ == "__main__":
    main()
