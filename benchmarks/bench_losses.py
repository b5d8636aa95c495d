"""AUM beside torch.sort and BCE, and the losses of all pairs beside their definition.

    python benchmarks/bench_losses.py [--repeats 15]

Goals of issue 3: AUM forward plus backward at 10^6 rows in at most 1.5 times torch.sort alone, at 100 rows in at most 4
times BCEWithLogits forward plus backward; pairwise losses that grow as n log n.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable

import numpy as np
import torch
from timing import interleave, markdown, ratios, versions
from torch.nn import functional as F

import torchstrata as ts
from torchstrata.training.linesearch import aum_along, best_step


def rows(n: int, share: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(n, generator=generator) < share).float()
    labels[:2] = torch.tensor([0.0, 1.0])
    return torch.randn(n, generator=generator) + labels, labels


def both_ways(loss: Callable, scores: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        leaf = scores.detach().requires_grad_()
        loss(leaf, labels).backward()

    return run


def repeated(run: Callable[[], object], times: int) -> Callable[[], None]:
    def runs() -> None:
        for _ in range(times):
            run()

    return runs


def squared_hinge_by_definition(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    up = labels > 0.5
    return (1 - (scores[up][:, None] - scores[~up])).clamp_min(0).square().mean()


def logistic_by_definition(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    up = labels > 0.5
    return F.softplus(-(scores[up][:, None] - scores[~up])).mean()


def aum_beside_its_peers(repeats: int) -> list[list[object]]:
    out: list[list[object]] = []
    weight = torch.rand(1_000_000, generator=torch.Generator().manual_seed(1))
    for kind, change in {"distinct": lambda s: s, "tied (100 values)": lambda s: (s * 20).round() / 20}.items():
        scores, labels = rows(1_000_000)
        scores = change(scores)
        seconds = interleave(
            {
                "torch.sort": lambda s=scores: torch.sort(s),
                "aum": both_ways(ts.losses.aum, scores, labels),
                "aum, weighted": both_ways(lambda o, t: ts.losses.aum(o, t, weight), scores, labels),
            },
            repeats=repeats,
        )
        found = ratios(seconds, "torch.sort")
        ours = ("aum", "aum, weighted")
        out += [["10^6", f"{name}, {kind}", "torch.sort", f"{1 / found[name]:.2f}", "1.5"] for name in ours]
    scores, labels = rows(100, share=0.3)
    seconds = interleave(
        {
            "bce": repeated(both_ways(F.binary_cross_entropy_with_logits, scores, labels), 100),
            "aum": repeated(both_ways(ts.losses.aum, scores, labels), 100),
        },
        repeats=5 * repeats,
    )
    out.append(["100", "aum", "BCEWithLogits", f"{1 / ratios(seconds, 'bce')['aum']:.2f}", "4"])
    return out


def pairs_beside_their_definition(repeats: int) -> list[list[object]]:
    out: list[list[object]] = []
    for name, definition in {
        "pairwise_squared_hinge": squared_hinge_by_definition,
        "pairwise_logistic": logistic_by_definition,
    }.items():
        ours, before = getattr(ts.losses, name), None
        for n in (1_000, 10_000, 100_000, 1_000_000):
            scores, labels = rows(n)
            contestants = {"ours": both_ways(ours, scores, labels)}
            if n <= 10_000:
                contestants["definition"] = both_ways(definition, scores, labels)
            seconds = interleave(contestants, repeats=max(3, repeats // 3))
            median = statistics.median(seconds["ours"])
            times = "-" if "definition" not in seconds else f"{1 / ratios(seconds, 'ours')['definition']:.1f}"
            growth = "-" if before is None else f"{median / before:.1f}"
            out.append([name, f"{n:,}", f"{median * 1e3:.1f}", growth, times])
            before = median
    return out


def line_search(repeats: int) -> list[list[object]]:
    out: list[list[object]] = []
    for n in (300, 1_000, 3_000):
        rng = np.random.default_rng(0)
        positive = rng.random(n) < 0.3
        line = (rng.normal(size=n) + positive, rng.normal(size=n), positive)
        seconds = interleave(
            {
                "table": lambda line=line: aum_along(*line),
                "best by AUC": lambda line=line: best_step(*line),
                "best by AUC, first n": lambda line=line, n=n: best_step(*line, max_steps=n),
                "best by AUM": lambda line=line: best_step(*line, by="aum"),
            },
            repeats=max(2, repeats // 5),
        )
        crossings = len(aum_along(*line))
        cells = [f"{statistics.median(s) * 1e3:.1f}" for s in seconds.values()]
        per = statistics.median(seconds["best by AUC"]) / (crossings * math.log2(n)) * 1e9
        out.append([f"{n:,}", f"{crossings:,}", *cells, f"{per:.1f}"])
    return out


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("Forward plus backward, single thread, medians of interleaved ratios\n")
    print(markdown(["rows", "what", "in units of", "ratio", "goal"], aum_beside_its_peers(args.repeats)))
    print("\nAll pairs, 10 % positives: ten times the rows should cost little more than ten times as much\n")
    header = ["loss", "rows", "ms", "times that of a tenth of the rows", "definition / ours"]
    print(markdown(header, pairs_beside_their_definition(args.repeats)))
    print("\nExact line search, milliseconds\n")
    header = ["rows", "breakpoints", "table", "best by AUC", "best by AUC, first n", "best by AUM"]
    print(markdown([*header, "ns a crossing and log2 n"], line_search(args.repeats)))
    print(f"\n{versions('torch', 'numpy')}")


if __name__ == "__main__":
    main()
