"""A small convolutional network on images of bytes: the ordinary order, channels last, and bfloat16.

    python benchmarks/bench_images.py [--repeats 7] [--clock cpu] [--threads 1] [--quick]

Random images of 3 x 32 x 32 bytes in batches of 128, whole fits of one epoch. A learner takes channels last by itself
where the network has convolutions; here it is turned off for the reference. Goals of issue 4 on a CPU: 1.2 times, and
with bfloat16 2.3 times. The latter needs a processor that multiplies tiles of bfloat16 (amx_bf16); the last line says
what this one has.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import torch
from timing import goal, interleave, markdown, options, ratios, versions
from torch import nn

import torchstrata as ts
from torchstrata.training import engine

ORDINARY, LAST, HALF, ORDINARY_HALF = "ordinary", "channels last", "channels last, bfloat16", "ordinary, bfloat16"
BATCH = 128


def small(shapes: dict, n_outputs: int) -> nn.Module:
    """Two convolutions, one hidden layer: what tutorials train on CIFAR-10."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 8 * 8, 128),
        nn.ReLU(),
        nn.Linear(128, n_outputs),
    )


def deep(shapes: dict, n_outputs: int) -> nn.Module:
    """Blocks of two convolutions with batch norm, then the mean of each map."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if before == after else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, n_outputs))


def fitting(network: Callable, X: np.ndarray, y: np.ndarray, name: str, threads: int) -> Callable[[], None]:
    """One fit of one epoch."""
    precision = "bfloat16" if "bfloat16" in name else "float32"
    learner = ts.TorchClassifier(
        network,
        max_epochs=1,
        batch_size=BATCH,
        encoder=None,
        random_state=0,
        runtime=ts.Runtime("cpu", threads=threads, precision=precision),
    )
    has_images = engine.has_images

    def run() -> None:
        engine.has_images = has_images if LAST in name else lambda x: False  # type: ignore[assignment]
        try:
            learner.fit(X, y)
        finally:
            engine.has_images = has_images
        found = learner.runtime_.reasons.get("memory_format", ("contiguous", ""))
        assert (found[0] == "channels_last") == (LAST in name), found

    return run


def instructions() -> list[str]:
    """What the processor has for bfloat16; Linux keeps it in a file."""
    file = pathlib.Path("/proc/cpuinfo")
    flags = set(file.read_text().split()) if file.exists() else set()
    return sorted(flags & {"amx_bf16", "avx512_bf16", "bf16"})


def main() -> None:
    args = options(__doc__, repeats=7).parse_args()
    torch.set_num_threads(args.threads)
    n, repeats = (BATCH * 4, 3) if args.quick else (BATCH * 8, args.repeats)
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), np.arange(n) % 10
    rows: list[list[object]] = []
    found = {}
    for network in (small, deep):
        contestants = {
            name: fitting(network, X, y, name, args.threads) for name in (ORDINARY, LAST, HALF, ORDINARY_HALF)
        }
        seconds = interleave(contestants, repeats=repeats, clock=args.clock)
        found[network.__name__] = times = ratios(seconds, ORDINARY)
        for name, own in seconds.items():
            rows.append([network.__name__, name, f"{n / np.median(own):,.0f}", f"{times[name]:.2f}"])
    print(f"\n{n} images of 3 x 32 x 32 bytes, batch {BATCH}, one epoch, {args.clock} time")
    print(markdown(["network", "how", "images / s", "times ordinary"], rows))
    print()
    print(goal("small network, channels last", found["small"][LAST], 1.2))
    print(goal("small network, channels last and bfloat16", found["small"][HALF], 2.3))
    print(versions("torch", "torchstrata"))
    print("instructions for bfloat16:", ", ".join(instructions()) or "none known")


if __name__ == "__main__":
    main()
