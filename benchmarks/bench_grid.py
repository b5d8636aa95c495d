"""Depth, width and optimizer: torchstrata against the idiomatic loop on every cell of a grid.

    python benchmarks/bench_grid.py [--repeats 3] [--threads 1] [--epochs 20] [--cells 0,4x100,16x400] [--quick]

2000 x 1000, batch 32, hidden layers {0, 4, 8, 16} x width {100, 200, 400}, {sgd, adamw}, one thread, 20 epochs; no
hidden layer is a linear network, which has no width. Whole fits, from arrays to a fitted model, against TensorDataset,
DataLoader and torch.optim. Goal of issue 4: never slower in any cell (R's mlr3torch is 1.0 to 3.6 times slower on this
grid).
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch
from loops import Shape, idiomatic
from timing import goal, interleave, markdown, options, ratios, versions

import torchstrata as ts

CELLS = ["0", *(f"{layers}x{width}" for layers, width in itertools.product((4, 8, 16), (100, 200, 400)))]
OPTIMIZERS = {"sgd": ts.optim.SGD(lr=1e-3), "adamw": ts.optim.AdamW(lr=1e-3)}


def shape_of(cell: str) -> Shape:
    """Read "4x100" as four hidden layers of width 100, and "0" as none."""
    layers, _, width = cell.partition("x")
    return Shape(n=2000, p=1000, hidden=(int(width or 0),) * int(layers))


def ours(X: np.ndarray, y: np.ndarray, shape: Shape, *, epochs: int, optimizer: str) -> None:
    network = ts.MLP(shape.hidden) if shape.hidden else ts.Linear()
    ts.TorchClassifier(
        network, optimizer=OPTIMIZERS[optimizer], batch_size=shape.batch, max_epochs=epochs, encoder=None,
        random_state=0, runtime="cpu",
    ).fit(X, y)  # fmt: skip


def measure(cell: str, optimizer: str, *, epochs: int, repeats: int, clock: str) -> list[object]:
    """Return a row of the table."""
    shape = shape_of(cell)
    X, y = shape.rows(0)
    settings = {"epochs": epochs, "optimizer": optimizer}
    contestants = {
        "idiomatic": functools.partial(idiomatic, X, y, shape, **settings),
        "torchstrata": functools.partial(ours, X, y, shape, **settings),
    }
    for run in contestants.values():  # a short fit warms up as well as a long one
        run.func(X, y, shape, epochs=1, optimizer=optimizer)
    seconds = interleave(contestants, repeats=repeats, warm_up=0, clock=clock)
    ratio = ratios(seconds, "idiomatic")["torchstrata"]
    return [cell, optimizer, f"{ratio:.2f}", *(f"{min(seconds[name]):.2f}" for name in contestants)]


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--cells", default=",".join(CELLS), help=f"of {','.join(CELLS)}")
    parser.add_argument("--optimizers", default="sgd,adamw")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    epochs, repeats = (2, 1) if args.quick else (args.epochs, args.repeats)
    rows = []
    for cell, optimizer in itertools.product(args.cells.split(","), args.optimizers.split(",")):
        rows.append(measure(cell, optimizer, epochs=epochs, repeats=repeats, clock=args.clock))
    print(f"2000 x 1000, batch 32, {epochs} epochs, {args.threads} thread(s), {args.clock} clock\n")
    header = [
        "hidden layers x width",
        "optimizer",
        "times as fast (median)",
        "idiomatic, best s",
        "torchstrata, best s",
    ]
    print(markdown(header, rows) + "\n")
    print(goal("worst cell", min(float(row[2]) for row in rows), 1.0))
    print(versions("torch", "numpy"))


if __name__ == "__main__":
    main()
