"""Rows a second of padded batches: ours against a plain DataLoader with pad_sequence, in the same run.

Both give every row once, in shuffled batches of 32, padded to the longest of the batch, with the lengths. What is
timed is the loading alone. The ratio is what counts; the rows a second depend on the machine.

    python benchmarks/bench_sequences.py
"""

import itertools
import time

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from torchstrata.batches.loader import Rows
from torchstrata.batches.samplers import RandomBatchSampler
from torchstrata.data.encode import Encoder
from torchstrata.learner.tensors import encode

BATCH, REPEATS = 32, 5


def collate(items):
    sequences, labels = zip(*items, strict=True)
    return pad_sequence(sequences, batch_first=True), torch.tensor([len(s) for s in sequences]), torch.tensor(labels)


def seconds(run):
    run()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def measure(n, longest, channels, tokens):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, longest + 1, n)
    cells = [rng.integers(0, 1000, k) if tokens else rng.normal(size=(k, channels)).astype(np.float32) for k in lengths]
    labels = rng.integers(0, 2, n)
    items = [(torch.from_numpy(cell), int(label)) for cell, label in zip(cells, labels, strict=True)]
    loader = DataLoader(items, batch_size=BATCH, shuffle=True, collate_fn=collate)
    frame = pd.DataFrame({"x": cells})
    started = time.perf_counter()
    rows = Rows(encode(Encoder().fit(frame), frame, torch.float32), torch.from_numpy(labels))
    once = time.perf_counter() - started
    plan = RandomBatchSampler(BATCH).plan(n)

    epochs = itertools.count()

    def ours():
        for _ in rows.epoch(*plan.draw(next(epochs), 0)):
            pass

    def theirs():
        for _ in loader:
            pass

    mine, other = seconds(ours), seconds(theirs)
    return {
        "cells": "tokens" if tokens else f"{channels} channels",
        "rows": n,
        "longest": longest,
        "torchstrata rows/s": round(n / mine),
        "DataLoader rows/s": round(n / other),
        "times as fast": round(other / mine, 1),
        "encoding once, s": round(once, 3),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [(5000, 30, 2, False), (5000, 200, 8, False), (2000, 1000, 16, False), (5000, 60, 1, True)]
    print(pd.DataFrame([measure(*case) for case in cases]).to_string(index=False))
