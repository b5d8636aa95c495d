"""Where a written-out step spends its time, and how its cost grows with width, rows of a batch and networks at a time.

    python benchmarks/bench_growth.py [--repeats 7] [--threads 1]

Processor time, which a busy machine disturbs less than the clock on the wall.

Three tables: the parts of one step on the shape of sonar, microseconds a step for one network over widths and batch
sizes, and microseconds a network and step over the number of networks that train as one program.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from timing import markdown, versions

import torchstrata as ts
from torchstrata.batches.loader import Rows
from torchstrata.batches.samplers import plan_batches
from torchstrata.data.encode import Shapes
from torchstrata.network.dropout import seeded
from torchstrata.training.dense import Dense
from torchstrata.training.loss import resolve_loss
from torchstrata.training.many import Fit, train_many
from torchstrata.training.runtime import Runtime, Seeds
from torchstrata.training.stack import Member
from torchstrata.training.state import TrainState

INPUTS, EPOCHS, STEPS = 60, 10, 6
LOSS, OPTIMIZER = resolve_loss("cross_entropy", "classification"), ts.optim.AdamW(lr=1e-3)


def median_us(run: Callable[[], object], *, repeats: int, calls: int) -> float:
    """Median over rounds of the time of one call, in microseconds."""
    run()
    found = []
    for _ in range(repeats):
        started = time.process_time()
        for _ in range(calls):
            run()
        found.append((time.process_time() - started) / calls * 1e6)
    return statistics.median(found)


def make_fit(seed: int, *, hidden: tuple[int, ...], batch: int, dropout: float = 0.0) -> Fit:
    """A fit of STEPS full batches an epoch."""
    n, generator = STEPS * batch, torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, INPUTS, generator=generator), torch.randint(0, 2, (n,), generator=generator).float()
    module = ts.MLP(hidden, dropout=dropout)(Shapes({"number": (INPUTS,)}), 1)
    decisions = Runtime("cpu", threads=torch.get_num_threads()).decide(parameters=1, batch_rows=batch)
    plan = plan_batches(ts.RandomBatchSampler(batch), n, None)
    return Fit(module, Rows(x, y), LOSS, OPTIMIZER, plan, EPOCHS, decisions, Seeds(seed))


def parts_of_a_step(repeats: int, dropout: float) -> list[list[object]]:
    """Time the parts of a step of one network."""
    fit = make_fit(0, hidden=(100, 100), batch=32, dropout=dropout)
    state = TrainState(fit.module, None, EPOCHS)
    with seeded(fit.module, 0):
        dense = Dense([Member(state, fit.rows, fit.loss, fit.optimizer, None, STEPS)])
        draw = fit.plan.draw(1, 0)
        # first: the parts below move the weights far away, where numbers are no longer those of a fit
        whole = median_us(lambda: dense.epoch([draw]), repeats=repeats, calls=5) / STEPS
        layout = dense.rows.layout([draw])
        of_x, of_y = dense.rows.index(layout, [draw])
        x = layout.split(dense.rows.take(of_x), 0, STEPS)[0]
        outputs = dense.blocks.flat.new_empty(layout.n_places, 1)
        out, tape = layout.split(outputs, 0, STEPS)[0], dense._tapes[32]
        masks = [dense._masks(layer, layout, 0, STEPS)[0] for layer in dense.layers[:-1]]
        step = median_us(lambda: dense._step(0, x, masks, out), repeats=repeats, calls=20)
        per_step = {
            "forward": lambda: dense._forward(x, tape, masks, out),
            "gradient at the outputs": lambda: dense.head.gradient(0, out, tape.slope),
            "backward": lambda: dense._backward(x, tape, masks),
            "update (AdamW)": lambda: dense.movers[0](),
        }
        per_epoch = {
            "draw the batches": lambda: fit.plan.draw(2, 0),
            "gather rows": lambda: layout.split(dense.rows.take(of_x), 0, STEPS),
            "gather targets": lambda: dense.head.begin(layout, of_y),
            "draw the masks": lambda: [dense._masks(layer, layout, 0, STEPS) for layer in dense.layers[:-1]],
            "losses of the epoch": lambda: dense.head.losses(outputs),
        }
        rows: list[list[object]] = [[n, f"{median_us(f, repeats=repeats, calls=200):.1f}"] for n, f in per_step.items()]
        for name, run in per_epoch.items():
            rows.append([f"{name} (an epoch, / {STEPS})", f"{median_us(run, repeats=repeats, calls=50) / STEPS:.1f}"])
    return [*rows, ["a whole step", f"{step:.1f}"], ["a whole epoch, by step", f"{whole:.1f}"]]


def growth(repeats: int) -> list[list[object]]:
    """Microseconds a step, one network."""
    rows: list[list[object]] = []
    for width in (25, 50, 100, 200, 400):
        row: list[object] = [width]
        for batch in (8, 32, 128, 512):
            fits = [make_fit(0, hidden=(width, width), batch=batch) for _ in range(repeats)]
            row.append(f"{statistics.median(_seconds([fit]) for fit in fits) / EPOCHS / STEPS * 1e6:.0f}")
        rows.append(row)
    return rows


def together(repeats: int) -> list[list[object]]:
    """Microseconds a network and step, K networks at a time."""
    rows: list[list[object]] = []
    for k in (1, 2, 4, 8, 16, 32, 64):
        row: list[object] = [k]
        for hidden, dropout in (((20,), 0.0), ((100, 100), 0.0), ((100, 100), 0.1), ((256, 256), 0.0)):
            found = []
            for _ in range(repeats):
                fits = [make_fit(i, hidden=hidden, batch=32, dropout=dropout) for i in range(k)]
                found.append(_seconds(fits) / EPOCHS / STEPS / k * 1e6)
            row.append(f"{statistics.median(found):.0f}")
        rows.append(row)
    return rows


def _seconds(fits: list[Fit]) -> float:
    started = time.process_time()
    for found in train_many(fits):
        if isinstance(found, Exception):
            raise found
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    plain, dropped = parts_of_a_step(args.repeats, 0.0), parts_of_a_step(args.repeats, 0.1)
    print("Microseconds, one MLP(100, 100) on 60 inputs, batch 32\n")
    rows = [[name, a, b] for (name, a), (_, b) in zip(plain, dropped, strict=True)]
    print(markdown(["part", "no dropout", "dropout 0.1"], rows))
    print("\nMicroseconds a step, one MLP(width, width), by rows of a batch\n")
    print(markdown(["width", "8", "32", "128", "512"], growth(args.repeats)))
    print("\nMicroseconds a network and step, K networks in one program, batch 32\n")
    header = ["K", "MLP(20)", "MLP(100, 100)", "the same, dropout 0.1", "MLP(256, 256)"]
    print(markdown(header, together(args.repeats)))
    print(f"\n{versions('torch', 'numpy')}")


if __name__ == "__main__":
    main()
