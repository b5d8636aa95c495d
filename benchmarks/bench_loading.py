"""Batches of one epoch, shuffled, without any training: rows a second beside a torch DataLoader.

    python benchmarks/bench_loading.py [--repeats 7] [--clock cpu] [--images images.zip] [--quick]

100,000 x 100 floats in batches of 256, and 10,000 images of 3 x 32 x 32 bytes in batches of 64, which arrive as floats
in [0, 1]. The peer is the DataLoader of the tutorials, which fetches and converts one item after the other. Goals of
issue 4: at least 5 times its rows a second on the floats, 2 times on the images. With --clock cpu the time of worker
processes does not count; look at wall time for those.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Callable

import numpy as np
import torch
from timing import goal, interleave, markdown, options, ratios, versions
from torch.utils.data import DataLoader, Dataset, TensorDataset

from torchstrata import RandomBatchSampler
from torchstrata.batches.bytewise import Bytes
from torchstrata.batches.loader import Rows
from torchstrata.batches.source import Source
from torchstrata.batches.stream import Loader, Stream

PEER = "DataLoader, per item"


class Items(Dataset):
    """An array, row by row; what the tutorials call ToTensor is the division."""

    def __init__(self, x: np.ndarray, y: torch.Tensor, *, divide: bool = False):
        self.x, self.y, self.divide = x, y, divide

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.from_numpy(self.x[i])
        return (x.float() / 255 if self.divide else x), self.y[i]


class Batched(Items):
    """The same, a batch at a time."""

    def __getitems__(self, rows: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(zip(torch.from_numpy(self.x[rows]), self.y[rows], strict=True))


def consume(batches: object) -> int:
    """Walk through all batches, as a loop that trains would."""
    return sum(len(x) for x, *_ in batches)  # type: ignore[attr-defined]


def epoch(rows: Rows, batch: int) -> Callable[[], int]:
    """One epoch of ours: the draw of the batches is part of it."""
    numbers = iter(range(1, 10**9))

    def run() -> int:
        drawn = RandomBatchSampler(batch)(len(rows), epoch=next(numbers), seed=0)
        return consume(rows.epoch(np.concatenate(drawn), np.cumsum([0, *map(len, drawn)])))

    return run


def measure(title: str, x: np.ndarray, batch: int, wanted: float, args: argparse.Namespace) -> None:
    """Print the table of one data set."""
    y, images = torch.arange(len(x)), x.dtype == np.uint8
    peer: Dataset = Items(x, y, divide=True) if images else TensorDataset(torch.from_numpy(x), y)
    whole = Bytes(torch.from_numpy(x), torch.float32) if images else torch.from_numpy(x)
    loaders = {
        "streamed, array": Loader(Source(x)),
        "streamed, Dataset with __getitems__": Loader(Source(Batched(x, y))),
        "streamed, Dataset item by item": Loader(Source(Items(x, y))),
        "streamed, array, 1 worker": Loader(Source(x), 1),
    }
    contestants = {PEER: lambda: consume(DataLoader(peer, batch_size=batch, shuffle=True))}
    contestants["resident"] = epoch(Rows(whole, y), batch)
    contestants |= {name: epoch(Rows(Stream(loader), y), batch) for name, loader in loaders.items()}
    try:
        seconds = interleave(contestants, repeats=args.repeats, clock=args.clock)
    finally:
        for loader in loaders.values():
            loader.close()
    found = ratios(seconds, PEER)
    table = [[name, f"{value:.1f}", f"{len(x) / min(seconds[name]):,.0f}"] for name, value in found.items()]
    print(f"{title}, batch {batch}, {args.clock} time, {args.repeats} rounds\n")
    print(markdown(["contestant", "times the rows a second of the DataLoader (median)", "best rows a second"], table))
    for name in ("resident", "streamed, array"):
        print(goal(name, found[name], wanted))
    print()


def pictures(path: str | None) -> np.ndarray:
    """10,000 images: of a zip file where one is given, repeated if they are fewer, else noise."""
    if path is None:
        return np.random.default_rng(0).integers(0, 256, size=(10_000, 3, 32, 32), dtype=np.uint8)
    from PIL import Image

    with zipfile.ZipFile(path) as packed:
        names = [name for name in packed.namelist() if name.endswith((".jpg", ".png"))][:10_000]
        read = [np.asarray(Image.open(io.BytesIO(packed.read(name))).convert("RGB")) for name in names]
    return np.resize(np.stack(read).transpose(0, 3, 1, 2), (10_000, 3, 32, 32))


def main() -> None:
    parser = options(__doc__, repeats=7)
    parser.add_argument("--images", help="zip file of 32 x 32 images, such as CIFAR-10's; noise where none is given")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.repeats = 2 if args.quick else args.repeats
    floats = np.random.default_rng(0).normal(size=(10_000 if args.quick else 100_000, 100)).astype(np.float32)
    measure(f"{len(floats):,} x 100 float32", floats, 256, 5.0, args)
    measure("10,000 x 3 x 32 x 32 uint8", pictures(args.images), 64, 2.0, args)
    print(versions("torch", "numpy"))


if __name__ == "__main__":
    main()
