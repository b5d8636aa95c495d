"""A stratified epoch against torch.randperm, after the one-time set-up.

    python benchmarks/bench_sampler.py [--rows 1000000] [--strata 2] [--repeats 15]

Goal of issue 2: 10^6 rows in at most 2 times torch.randperm(10**6).
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
import torch
from timing import interleave, markdown, ratios, versions

from torchstrata import StratifiedBatchSampler


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--strata", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    shares = np.r_[[0.1 / max(1, args.strata - 1)] * (args.strata - 1), 0.9]
    strata = rng.choice(args.strata, size=args.rows, p=shares / shares.sum())
    started = time.perf_counter()
    plan = StratifiedBatchSampler(2).plan(args.rows, strata)
    setup = time.perf_counter() - started
    epochs = itertools.count()
    seconds = interleave(
        {"torch.randperm": lambda: torch.randperm(args.rows), "stratified epoch": lambda: plan.draw(next(epochs), 0)},
        repeats=args.repeats,
    )
    found = ratios(seconds, "torch.randperm")
    rows = [[name, f"{1 / value:.2f}", f"{min(seconds[name]) * 1e3:.1f}"] for name, value in found.items()]
    print(f"{args.rows:,} rows, {args.strata} strata, {len(plan.bounds) - 1:,} batches\n")
    print(markdown(["what", "time in units of torch.randperm (median)", "best ms"], rows))
    print(f"\nset-up, once: {setup / min(seconds['torch.randperm']):.1f} times torch.randperm")
    print(f"\n{versions('torch', 'numpy')}")


if __name__ == "__main__":
    main()
