"""Many networks at once: 10 folds x 10 seeds x 2 learning rates of the MLP on sonar's shape, and the price of a step.

    python benchmarks/bench_many.py [--repeats 5] [--quick]
    python benchmarks/bench_many.py --per-step [--models 50] [--dropout 0.1]

The first form runs 200 fits of 10 epochs, and 50 (one learning rate, five seeds), end to end: splits, fits, predictions
and scores, as tables. `ts.benchmark` with and without `vectorize`, in one process and in two; idiomatic loops in
joblib's processes; and the same learner fitted one by one with no benchmark around. Times are counted in idiomatic
fits: the time of one idiomatic loop, one thread, in the same round. Workers are started before the clock is.

The second times a step of one of K networks, one thread: a lean loop by hand, torch.func.vmap, batched products under
autograd, the C kernel (floor.c, one network after another), and torchstrata's fits of many epochs less those of few.

Goals of issue 4: 200 fits in at most the time of 12 idiomatic fits on 2 cores, 50 fits in at most 4. A stacked step was
measured there at 6.7 times the lean loop, vmap at 2.0, batched products at 3.0, the C kernel at 8.1.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import floor
import joblib
import numpy as np
import pandas as pd
import torch
from loops import Shape, batched, draw_orders, draw_weights, idiomatic, lean, vmapped
from sklearn.model_selection import StratifiedKFold
from timing import goal, interleave, markdown, options, ratios, versions

import torchstrata as ts

SHAPE, EPOCHS, RATES = Shape(), 10, (1e-3, 3e-3)
FOLDS = StratifiedKFold(10, shuffle=True, random_state=0)


@dataclasses.dataclass(frozen=True)
class Size:
    """How many fits: ten folds, some seeds and learning rates."""

    seeds: int
    rates: int

    @property
    def fits(self) -> int:
        """Number of fits."""
        return 10 * self.seeds * self.rates


def learner(epochs: int = EPOCHS, dropout: float = 0.0) -> ts.TorchClassifier:
    network = ts.MLP(SHAPE.hidden, dropout=dropout)
    return ts.TorchClassifier(
        network, batch_size=SHAPE.batch, max_epochs=epochs, encoder=None, random_state=0, runtime="cpu"
    )


@functools.cache
def task() -> ts.Task:
    X, y = SHAPE.rows(0)
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(SHAPE.p)])
    return ts.Task(frame.assign(Class=np.where(y > 0, "M", "R")), target="Class", positive="M", name="sonar-shaped")


def ours(size: Size, n_jobs: int, *, stacked: bool) -> ts.BenchmarkResult:
    """Run all fits through the benchmark."""
    grid = ts.grid(learner(), optimizer__lr=list(RATES[: size.rates]), random_state=list(range(size.seeds)))
    how = "auto" if stacked else False
    return ts.benchmark(
        task(), grid, cv=FOLDS, scoring="roc_auc", n_jobs=n_jobs, vectorize=how, on_error="raise", progress=False
    )


def ours_by_hand(size: Size) -> None:
    """Fit and score one by one, with nothing around."""
    X, y = SHAPE.rows(0)
    for train, test, seed, lr in _all(size):
        fitted = learner().set_params(random_state=seed, optimizer__lr=lr).fit(X[train], y[train])
        fitted.decision_function(X[test])


def idiomatic_jobs(size: Size, n_jobs: int) -> None:
    """Run all fits as idiomatic loops in processes of joblib."""
    joblib.Parallel(n_jobs=n_jobs)(
        joblib.delayed(idiomatic_fit)(train, test, seed, lr) for train, test, seed, lr in _all(size)
    )


def idiomatic_fit(train: np.ndarray, test: np.ndarray, seed: int = 0, lr: float = 1e-3) -> np.ndarray:
    """Fit on the rows of a fold and return the outputs of the others."""
    torch.set_num_threads(1)
    X, y = SHAPE.rows(0)
    shape = dataclasses.replace(SHAPE, n=len(train))
    model = idiomatic(X[train], y[train], shape, epochs=EPOCHS, seed=seed, lr=lr)
    with torch.no_grad():
        return model(torch.from_numpy(X[test])).numpy()


def _all(size: Size) -> Iterator[tuple[np.ndarray, np.ndarray, int, float]]:
    X, y = SHAPE.rows(0)
    for train, test in FOLDS.split(X, y):
        for seed in range(size.seeds):
            for lr in RATES[: size.rates]:
                yield train, test, seed, lr


def one_fit(times: int = 5) -> None:
    """Run the unit that all else is counted in."""
    train, test, *_ = next(_all(Size(1, 1)))
    for _ in range(times):
        idiomatic_fit(train, test)


def contestants(size: Size, *, slow: bool) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    for jobs in (1, 2):
        found[f"ts.benchmark, vectorize='auto', n_jobs={jobs}"] = functools.partial(ours, size, jobs, stacked=True)
    if slow:
        for jobs in (1, 2):
            found[f"ts.benchmark, vectorize=False, n_jobs={jobs}"] = functools.partial(ours, size, jobs, stacked=False)
        found["ts learner, one by one"] = functools.partial(ours_by_hand, size)
        found["idiomatic loops, joblib n_jobs=2"] = functools.partial(idiomatic_jobs, size, 2)
    return found


def end_to_end(size: Size, wanted: float, *, repeats: int, slow: bool) -> None:
    """Print the table of one number of fits."""
    runs = contestants(size, slow=slow)
    for run in runs.values():  # import what is imported late, start the workers
        run.func(Size(1, 1), *run.args[1:], **run.keywords)
    seconds = interleave({"unit": one_fit, **runs}, repeats=repeats, warm_up=0)
    units = {n: statistics.median(5 * s / u for s, u in zip(seconds[n], seconds["unit"], strict=True)) for n in runs}
    rows = [[n, f"{units[n]:.1f}", f"{min(seconds[n]):.2f}"] for n in runs]
    unit = statistics.median(seconds["unit"]) / 5 * 1e3
    print(f"\n{size.fits} fits, {EPOCHS} epochs; an idiomatic fit takes {unit:.0f} ms\n")
    print(markdown(["contestant", "idiomatic fits (median)", "best s"], rows) + "\n")
    quickest = min(units[n] for n in runs if n.startswith("ts.benchmark"))
    print(goal(f"{size.fits} fits in idiomatic fits", quickest, wanted, at_least=False))


# the price of a step


def ours_stacked(models: int, epochs: int, dropout: float, *, stacked: bool) -> None:
    """Fit K seeds on one split, end to end; the difference between many and few epochs is the price of steps."""
    everything = np.arange(SHAPE.n)
    grid = ts.grid(learner(epochs, dropout), random_state=list(range(models)))
    how = "auto" if stacked else False
    split = [(everything, everything[:20])]
    ts.benchmark(task(), grid, cv=split, scoring="roc_auc", vectorize=how, on_error="raise", progress=False)


def floor_fits(models: int, epochs: int, dropout: float) -> None:
    X, y = SHAPE.rows(0)
    weights, order = draw_weights(SHAPE, models, 0), draw_orders(SHAPE, models, epochs, 0)
    floor.train(X, y, weights, order, shape=SHAPE, lr=[1e-3] * models, dropout=dropout)


def step_contestants(models: int, dropout: float) -> dict[str, tuple[Callable[[int], Any], int]]:
    """Name to (epochs -> anything, networks that are fitted)."""
    X, y = SHAPE.rows(0)
    many = {"models": models, "dropout": dropout}
    found: dict[str, tuple[Callable[[int], Any], int]] = {
        "lean loop by hand": (lambda epochs: lean(X, y, SHAPE, epochs=epochs, dropout=dropout), 1),
        "vmap of functional_call": (lambda epochs: vmapped(X, y, SHAPE, epochs=epochs, **many), models),
        "batched products, autograd": (lambda epochs: batched(X, y, SHAPE, epochs=epochs, **many), models),
        "torchstrata, one by one": (lambda epochs: ours_stacked(4, epochs, dropout, stacked=False), 4),
        "torchstrata, stacked": (lambda epochs: ours_stacked(models, epochs, dropout, stacked=True), models),
    }
    try:
        floor.library()
        found["C kernel"] = (lambda epochs: floor_fits(models, epochs, dropout), models)
    except floor.NoCompilerError as error:
        print(error)
    return found


def per_step(models: int, dropout: float, *, epochs: int, repeats: int, clock: str) -> None:
    """Print the price of a step of one of K networks."""
    few, made = 2, step_contestants(models, dropout)
    runs = {(n, e): functools.partial(run, e) for n, (run, _) in made.items() for e in (few, few + epochs)}
    seconds = interleave(runs, repeats=repeats, clock=clock)
    each = {
        n: [
            (a - b) / (epochs * SHAPE.steps * k) for a, b in zip(seconds[n, few + epochs], seconds[n, few], strict=True)
        ]
        for n, (_, k) in made.items()
    }
    found = ratios(each, "lean loop by hand")
    rows = [[n, f"{found[n]:.2f}", f"{statistics.median(each[n]) * 1e6:.1f}"] for n in found]
    print(f"{SHAPE}, K={models}, dropout {dropout:g}, one thread, {clock} clock\n")
    print(markdown(["contestant", "times the lean loop (median)", "median µs per network and step"], rows) + "\n")


def main() -> None:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--per-step", action="store_true", help="the price of a step instead of whole benchmarks")
    parser.add_argument("--models", type=int, default=50, help="networks at once, with --per-step")
    parser.add_argument("--dropout", type=float, default=0.1, help="with --per-step")
    parser.add_argument("--epochs", type=int, default=20, help="of the long fits, with --per-step")
    parser.add_argument("--only-benchmark", action="store_true", help="leave out the slow contestants")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    started, repeats = time.perf_counter(), 1 if args.quick else args.repeats
    if args.per_step:
        per_step(
            args.models,
            args.dropout,
            epochs=5 if args.quick else args.epochs,
            repeats=max(repeats, 3),
            clock=args.clock,
        )
    else:
        print(f"{SHAPE}, AdamW, one torch thread a process")
        end_to_end(Size(5, 1), 4, repeats=repeats, slow=not args.only_benchmark)
        end_to_end(Size(10, 2), 12, repeats=repeats, slow=not (args.quick or args.only_benchmark))
    print(f"\n{versions('torchstrata', 'torch', 'numpy', 'scikit-learn', 'joblib')}")
    print(f"{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
