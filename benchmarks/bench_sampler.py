"""A stratified epoch against torch.randperm and against the samplers of others, after the one-time set-up.

    python benchmarks/bench_sampler.py [--rows 100000 1000000] [--strata 2 100] [--repeats 15] [--no-peers]

Goal of issue 3: at most 1.0 times torch.randperm(n) for n = 10^5 to 10^7 with 2 and 100 strata, and at most 24 bytes a
row. Two strata are one of 10 % and one of 90 %; a hundred are equally large.

The peers do less or other things, so read the column "what it does". Each gives row numbers only:
pandas       `groupby(stratum).sample(frac=1)`, then batches by each row's number within its stratum.
imbalanced-learn  the rule of BalancedBatchGenerator, whose class needs keras: its RandomUnderSampler, shuffle.
LibAUC       the rule of DualSampler, written out here: half of every batch positive, classes walked through in turn.
metric-learning   the package's MPerClassSampler, an epoch of n rows.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from timing import interleave, markdown, versions

from torchstrata import StratifiedBatchSampler

BATCH = 32
SLOW = 100_000  # peers that loop in Python are not asked for more rows


def make_strata(n: int, n_strata: int) -> np.ndarray:
    shares = [0.1, 0.9] if n_strata == 2 else None
    return np.random.default_rng(0).choice(n_strata, size=n, p=shares)


def pandas_groupby(strata: np.ndarray) -> Callable[[], object]:
    frame = pd.DataFrame({"stratum": strata})
    sizes = frame["stratum"].map(frame["stratum"].value_counts())
    n_batches = int(frame["stratum"].value_counts().min()) // 2

    def epoch() -> pd.Series:
        shuffled = frame.groupby("stratum").sample(frac=1)
        numbers = shuffled.groupby("stratum").cumcount() + 1
        batch = -(-numbers * n_batches // sizes.loc[shuffled.index])
        return batch.sort_values(kind="stable").index

    return epoch


def imbalanced_learn(strata: np.ndarray) -> Callable[[], object] | None:
    try:
        from imblearn.under_sampling import RandomUnderSampler
    except ImportError:
        return None
    rows = np.arange(len(strata))[:, None]

    def epoch() -> list[np.ndarray]:
        sampler = RandomUnderSampler()
        sampler.fit_resample(rows, strata)
        kept = np.random.permutation(sampler.sample_indices_)
        return np.split(kept, np.arange(BATCH, len(kept), BATCH))

    return epoch


def dual_sampler(strata: np.ndarray) -> Callable[[], object] | None:
    if strata.max() > 1:
        return None
    classes = [np.flatnonzero(strata == s) for s in (0, 1)]
    half = BATCH // 2

    def epoch() -> np.ndarray:
        n_batches = max(len(rows) // half for rows in classes)
        walks = [np.random.permutation(rows) for rows in classes]
        at = [0, 0]
        order = np.empty(n_batches * BATCH, dtype=np.int64)
        for b in range(n_batches):
            for c in (0, 1):
                if at[c] + half > len(walks[c]):
                    np.random.shuffle(walks[c])
                    at[c] = 0
                start = b * BATCH + c * half
                order[start : start + half] = walks[c][at[c] : at[c] + half]
                at[c] += half
        return order

    return epoch


def m_per_class(strata: np.ndarray) -> Callable[[], object] | None:
    try:
        from pytorch_metric_learning.samplers import MPerClassSampler
    except ImportError:
        return None
    sampler = MPerClassSampler(strata, m=4, batch_size=None, length_before_new_iter=len(strata))
    return lambda: list(sampler)


PEERS = {
    "pandas groupby": (pandas_groupby, "the same batches"),
    "imbalanced-learn rule": (imbalanced_learn, "rows of the smallest class, as many of the others"),
    "LibAUC DualSampler rule": (dual_sampler, "half positive, minority repeats; two classes only"),
    "MPerClassSampler": (m_per_class, "4 rows a class, drawn anew for every batch; rows may never come"),
}


def bytes_a_row(n: int, strata: np.ndarray) -> float:
    """What the plan keeps and the peak of a draw, by tracemalloc."""
    StratifiedBatchSampler(2).plan(n, strata).draw(0, 0)  # what is imported on first use does not count
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    plan = StratifiedBatchSampler(2).plan(n, strata)
    tracemalloc.reset_peak()
    drawn = plan.draw(0, 0)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert len(drawn[0]) == n
    return peak / n


def compare(n: int, n_strata: int, repeats: int, *, peers: bool) -> list[list[object]]:
    strata = make_strata(n, n_strata)
    started = time.perf_counter()
    plan = StratifiedBatchSampler(2).plan(n, strata)
    setup = time.perf_counter() - started
    epochs = itertools.count()
    contestants: dict[str, Callable[[], object]] = {
        "torch.randperm": lambda: torch.randperm(n),
        "torchstrata": lambda: plan.draw(next(epochs), 0),
    }
    what = {"torch.randperm": "no strata, no batches", "torchstrata": "every row once, k = 2 of every stratum a batch"}
    seconds = interleave(contestants, repeats=repeats)
    found = {}
    if peers and n <= SLOW:  # apart from the two above, whose ratio they would spoil by emptying the caches
        made = {name: (make(strata), text) for name, (make, text) in PEERS.items()}
        found = {name: run for name, (run, _) in made.items() if run is not None}
        what |= {name: text for name, (_, text) in made.items()}
        later = interleave({"torch.randperm": contestants["torch.randperm"], **found}, repeats=3)
        seconds |= {name: later[name] for name in found}
        reference = dict.fromkeys(found, later["torch.randperm"])
    rows = []
    for name, own in seconds.items():
        base = reference[name] if name in found else seconds["torch.randperm"]
        ratio = statistics.median(s / r for s, r in zip(own, base, strict=True))
        best = f"{min(own) / n * 1e9:.1f}"
        rows.append([f"{n:,}", n_strata, name, f"{ratio:.2f}", f"{statistics.median(own) * 1e3:.2f}", best, what[name]])
    rows[1][-1] = f"{rows[1][-1]}; set-up once {setup * 1e3:.0f} ms, {bytes_a_row(n, strata):.1f} bytes a row"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--strata", type=int, nargs="+", default=[2, 100])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the peers
    rows = []
    for n, n_strata in itertools.product(args.rows, args.strata):
        repeats = max(5, args.repeats * min(4, 1_000_000 // n)) if n <= 1_000_000 else 5
        rows += compare(n, n_strata, repeats, peers=not args.no_peers)
    header = ["rows", "strata", "what", "times torch.randperm (median)", "median ms", "best ns a row", "what it does"]
    print(markdown(header, rows))
    print(f"\n{versions('torch', 'numpy', 'pandas', 'imbalanced-learn', 'pytorch-metric-learning')}")


if __name__ == "__main__":
    main()
