"""One fit of MLP(100, 100) on the shape of sonar against the peers, interleaved in one run.

    python benchmarks/bench_fit.py [--repeats 15] [--threads 1] [--dropout 0.1] [--quick]
    python benchmarks/bench_fit.py --per-step [--epochs 150]

The first form times whole fits of 10 epochs, from arrays to a fitted model: the idiomatic loop (TensorDataset,
DataLoader, AdamW), torchstrata, scikit-learn's MLPClassifier, skorch and Lightning. The second times the training loop
alone: a fit of many epochs less a fit of few, by the number of steps between; there a lean eager loop, a loop in numpy
and a C kernel (floor.c) stand beside.

Goals of issue 4: a fit at least 2.5 times as fast as the idiomatic loop, 3 times skorch, 3.5 times Lightning; a step at
least 8 times as fast as the idiomatic one, 2.5 times MLPClassifier's, and at most 1.6 times as long as the C kernel's.
MLPClassifier has no dropout, and skorch and Lightning shuffle and report as they do by default, less what prints.
"""

from __future__ import annotations

import functools
import logging
import statistics
import warnings
from collections.abc import Callable

import floor
import numpy as np
import torch
from loops import Shape, draw_orders, draw_weights, idiomatic, lean, module, numpy_steps
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits
from timing import goal, installed, interleave, markdown, options, ratios, versions
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import torchstrata as ts

SHAPE, EPOCHS, FEW = Shape(), 10, 10
Fit = Callable[[int], object]  # epochs -> anything


def ours(X: np.ndarray, y: np.ndarray, dropout: float, epochs: int) -> ts.TorchClassifier:
    """Fit with torchstrata, its own choice of path and threads."""
    network = ts.MLP(SHAPE.hidden, dropout=dropout)
    learner = ts.TorchClassifier(
        network, batch_size=SHAPE.batch, max_epochs=epochs, encoder=None, random_state=0, runtime="cpu"
    )
    return learner.fit(X, y)


def sklearn_mlp(X: np.ndarray, y: np.ndarray, epochs: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MLPClassifier(
            SHAPE.hidden, batch_size=SHAPE.batch, max_iter=epochs, n_iter_no_change=epochs, random_state=0
        ).fit(X, y)


def skorch_net(X: np.ndarray, y: np.ndarray, dropout: float, epochs: int) -> None:
    from skorch import NeuralNetBinaryClassifier

    torch.manual_seed(0)
    NeuralNetBinaryClassifier(
        module(SHAPE, dropout), max_epochs=epochs, batch_size=SHAPE.batch, optimizer=torch.optim.AdamW, lr=1e-3,
        train_split=None, verbose=0, iterator_train__shuffle=True,
    ).fit(X, y)  # fmt: skip


def lightning_fit(X: np.ndarray, y: np.ndarray, dropout: float, epochs: int) -> None:
    """Fit with Lightning, without logger, checkpoints and progress bar."""
    trainer, network = _lightning()
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.tensor(X), torch.tensor(y)), batch_size=SHAPE.batch, shuffle=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(max_epochs=epochs).fit(network(module(SHAPE, dropout)), loader)


@functools.cache
def _lightning() -> tuple[Callable, type]:
    import pytorch_lightning as pl

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Network(pl.LightningModule):
        """A network with its loss and optimizer, as Lightning wants them."""

        def __init__(self, inner: nn.Module):
            super().__init__()
            self.inner, self.loss = inner, nn.BCEWithLogitsLoss()

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            return self.loss(self.inner(batch[0]).squeeze(1), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return functools.partial(pl.Trainer, accelerator="cpu", devices=1, **quiet), Network


def numpy_fit(X: np.ndarray, y: np.ndarray, dropout: float, epochs: int) -> None:
    numpy_steps(X, y, draw_weights(SHAPE, 1, 0)[0], draw_orders(SHAPE, 1, epochs, 0)[0], SHAPE, dropout=dropout)


def floor_fit(X: np.ndarray, y: np.ndarray, dropout: float, epochs: int) -> None:
    weights, order = draw_weights(SHAPE, 1, 0), draw_orders(SHAPE, 1, epochs, 0)
    floor.train(X, y, weights, order, shape=SHAPE, lr=[1e-3], dropout=dropout)


def peers(X: np.ndarray, y: np.ndarray, dropout: float) -> dict[str, Fit]:
    """Contestants of both forms; those that are not installed are named and left out."""
    there = installed("skorch>=1.2", "pytorch-lightning>=2.6.6")  # 2.6.2 and 2.6.3 were malicious
    found: dict[str, Fit] = {
        "idiomatic loop": lambda epochs: idiomatic(X, y, SHAPE, epochs=epochs, dropout=dropout),
        "torchstrata": functools.partial(ours, X, y, dropout),
    }
    if not dropout:
        found["MLPClassifier"] = functools.partial(sklearn_mlp, X, y)
    if "skorch" in there:
        found["skorch"] = functools.partial(skorch_net, X, y, dropout)
    if "pytorch-lightning" in there:
        found["Lightning"] = functools.partial(lightning_fit, X, y, dropout)
    return found


def by_hand(X: np.ndarray, y: np.ndarray, dropout: float) -> dict[str, Fit]:
    """Loops that only the training loop alone is compared with."""
    found: dict[str, Fit] = {
        "lean eager loop": lambda epochs: lean(X, y, SHAPE, epochs=epochs, dropout=dropout),
        "numpy": functools.partial(numpy_fit, X, y, dropout),
        "MLPClassifier": functools.partial(sklearn_mlp, X, y),  # a step without dropout, for it has none
    }
    try:
        floor.library()
        found["C kernel"] = functools.partial(floor_fit, X, y, dropout)
    except floor.NoCompilerError as error:
        print(error)
    return found


def whole_fits(contestants: dict[str, Fit], repeats: int, clock: str) -> None:
    seconds = interleave(
        {n: functools.partial(f, EPOCHS) for n, f in contestants.items()}, repeats=repeats, clock=clock
    )
    found = ratios(seconds, "idiomatic loop")
    rows = [[name, f"{value:.2f}", f"{min(seconds[name]) * 1e3:.1f}"] for name, value in found.items()]
    print(markdown(["contestant", "times as fast as the idiomatic loop (median)", "best ms"], rows) + "\n")
    print(goal("against the idiomatic loop", found["torchstrata"], 2.5))
    for name, wanted in (("skorch", 3.0), ("Lightning", 3.5)):
        if name in found:
            print(goal(f"against {name}", ratios(seconds, name)["torchstrata"], wanted))


def single_steps(contestants: dict[str, Fit], repeats: int, clock: str, epochs: int) -> None:
    """Time fits of many epochs and of few, and divide the difference by the steps between."""
    runs = {(n, e): functools.partial(f, e) for n, f in contestants.items() for e in (FEW, FEW + epochs)}
    seconds = interleave(runs, repeats=repeats, clock=clock)
    steps = epochs * SHAPE.steps
    each = {
        n: [(long - short) / steps for long, short in zip(seconds[n, FEW + epochs], seconds[n, FEW], strict=True)]
        for n in contestants
    }
    found = ratios(each, "idiomatic loop")
    rows = [[n, f"{found[n]:.2f}", f"{statistics.median(each[n]) * 1e6:.0f}"] for n in found]
    print(markdown(["contestant", "times as fast a step (median)", "median µs a step"], rows) + "\n")
    print(goal("against the idiomatic loop", found["torchstrata"], 8))
    print(goal("against MLPClassifier", ratios(each, "MLPClassifier")["torchstrata"], 2.5))
    if "C kernel" in found:
        slower = 1 / ratios(each, "C kernel")["torchstrata"]
        print(goal("time of a step over that of the C kernel", slower, 1.6, at_least=False))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--dropout", type=float, default=None, help="default: 0 for fits, 0.1 for steps")
    parser.add_argument("--per-step", action="store_true", help="time the training loop alone")
    parser.add_argument("--epochs", type=int, default=150, help="of the long fits, with --per-step")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dropout = args.dropout if args.dropout is not None else (0.1 if args.per_step else 0.0)
    repeats, epochs = (3, 30) if args.quick else (args.repeats, args.epochs)
    X, y = SHAPE.rows(0)
    with threadpool_limits(args.threads):
        contestants = peers(X, y, dropout)
        print(f"{SHAPE}, AdamW, dropout {dropout:g}, {args.threads} thread(s), {args.clock} clock\n")
        if args.per_step:
            for name in ("skorch", "Lightning"):
                contestants.pop(name, None)
            single_steps(contestants | by_hand(X, y, dropout), repeats, args.clock, epochs)
        else:
            whole_fits(contestants, repeats, args.clock)
        print(f"\ntorchstrata's steps: {': '.join(map(str, ours(X, y, dropout, 1).runtime_.reasons['steps']))}")
    print(versions("torch", "numpy", "scikit-learn", "skorch", "pytorch-lightning"))


if __name__ == "__main__":
    main()
