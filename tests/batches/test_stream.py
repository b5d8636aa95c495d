"""Rows that are fetched batch by batch: the order asked for, whatever the number of workers, and errors that name."""

from __future__ import annotations

import os
import pickle
import signal
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from torchstrata.batches import stream
from torchstrata.batches.bytewise import Bytes
from torchstrata.batches.loader import Rows, move, n_rows, pick
from torchstrata.batches.source import Source
from torchstrata.batches.stream import Loader, Stream
from torchstrata.errors import DataError, DataWorkerError

N = 40
X = np.arange(N * 3, dtype=np.float64).reshape(N, 3)
IMAGES = (np.arange(N * 12) % 256).astype(np.uint8).reshape(N, 3, 2, 2)


class Items(Dataset):
    """Row by row."""

    def __init__(self, x=X, y=None):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] if self.y is None else (torch.from_numpy(np.asarray(self.x[i])), self.y[i])


class Batched(Items):
    """A batch at a time; row 0 alone is read for its shape."""

    def __getitems__(self, rows):
        return [Items.__getitem__(self, i) for i in rows]

    def __getitem__(self, i):
        raise AssertionError("single rows were asked for")


class Noisy(Items):
    def __getitem__(self, i):
        return self.x[i] + torch.rand(1).numpy() + np.random.rand()


class Deadly(Items):
    """Does something to the process that reads row 17."""

    def __init__(self, what):
        super().__init__()
        self.what, self.home = what, os.getpid()

    def __getitem__(self, i):
        if i == 17 and os.getpid() != self.home:
            self.what()
        return self.x[i]


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def sleep():
    time.sleep(100)


def leave():
    os._exit(3)


def epoch_of(data, order, bounds, workers=0, **settings):
    with_workers = Loader(Source(data), workers)
    made = Stream(with_workers, **settings)
    try:
        return list(made.batches(np.asarray(order), np.asarray(bounds)))
    finally:
        made.close()


def memory_map(folder, values):
    path = folder / "x.dat"
    values.tofile(path)
    return np.memmap(path, dtype=values.dtype, mode="r", shape=values.shape)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kind", ["array", "memmap", "items", "batched", "pairs", "images"])
def test_batches_hold_exactly_the_rows_asked_for(kind, workers, tmp_path):
    x = IMAGES if kind == "images" else X
    data = {
        "array": x,
        "memmap": memory_map(tmp_path, x),
        "items": Items(),
        "batched": Batched(),
        "pairs": Batched(x, np.arange(N)),
        "images": Items(IMAGES),
    }[kind]
    order = np.random.default_rng(0).permutation(N)
    got = epoch_of(data, order, [0, 7, 14, 15, N], workers)
    assert [len(g) for g in got] == [7, 7, 1, 25]
    wanted = torch.from_numpy(x[order]).float() / (255 if kind == "images" else 1)
    assert torch.equal(torch.cat(got), wanted) and got[0].dtype == torch.float32


@settings(max_examples=30)
@given(st.data())
def test_a_stream_is_a_tensor_of_all_rows_to_who_iterates(data):
    """Views of views, repeated rows, any bounds: the same as resident rows."""
    n = data.draw(st.integers(1, 30))
    x = np.random.default_rng(n).normal(size=(n, 2))
    view = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)))
    order = np.array(data.draw(st.lists(st.integers(0, len(view) - 1), min_size=1, max_size=20)))
    cuts = np.array(sorted(data.draw(st.sets(st.integers(1, len(order)), max_size=4)) | {0, len(order)}))
    y, w = torch.arange(float(len(view))), torch.rand(len(view))
    streamed = Rows(Stream(Loader(Source(Items(x))))[view].as_type(torch.float64), y, w)
    resident = Rows(torch.from_numpy(x[view]), y, w)
    assert len(streamed) == len(resident) == n_rows(streamed.x) and streamed.by_batch and not resident.by_batch
    for got, wanted in zip(streamed.epoch(order, cuts), resident.epoch(order, cuts), strict=True):
        for a, b in zip(got, wanted, strict=True):
            assert torch.equal(a, b)
    assert torch.equal(pick(streamed.x, slice(0, 2)), resident.x[:2])
    assert torch.equal(torch.cat(list(streamed.x.chunks(4))), resident.x)


@settings(max_examples=30)
@given(n=st.integers(1, 200), size=st.integers(1, 70), bytes_held=st.integers(1, 3000))
def test_chunks_hold_multiples_and_all_rows(n, size, bytes_held):
    made, before = Stream(Loader(Source(np.arange(n * 2.0).reshape(n, 2)))), stream.CHUNK_BYTES
    try:
        stream.CHUNK_BYTES = bytes_held
        got = list(made.chunks(size))
    finally:
        stream.CHUNK_BYTES = before
    assert torch.cat(got)[:, 0].tolist() == list(np.arange(n) * 2.0)
    assert all(len(part) % size == 0 for part in got[:-1])
    assert all(len(part) <= max(size, bytes_held // 16) for part in got)


def test_bytes_stay_bytes_until_the_batch():
    x = torch.from_numpy(IMAGES)
    made = Bytes(x, torch.float32)
    assert made.x.dtype == torch.uint8 and made.shape == x.shape and made.ndim == 4 and len(made) == N
    rows = Rows(made, torch.arange(N)).to("cpu")
    (got, y, w), _ = rows.epoch(np.arange(N)[::-1].copy(), np.array([0, 10, N]))
    assert w is None and torch.equal(got, x.flip(0)[:10].float() / 255) and y[0] == N - 1
    assert torch.equal(torch.cat(list(made.chunks(16))), x / 255)
    assert move(made, "meta").x.device.type == "meta" and "bytes" in rows.by_batch
    # a table of bytes is a table of numbers
    assert torch.equal(epoch_of(IMAGES.reshape(N, -1), [3], [0, 1])[0], x.reshape(N, -1)[3:4].float())


def test_what_a_dataset_draws_depends_on_seed_epoch_and_batch_only():
    def draw(workers, seed=1):
        made = Stream(Loader(Source(Noisy()), workers))
        made.seed = seed
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        try:
            epochs = [torch.cat(list(made.batches(np.arange(N), np.array([0, 30, N])))) for _ in range(2)]
            epochs += [torch.cat(list(made.chunks(16))), torch.cat(list(made.chunks(16)))]
        finally:
            made.close()
        assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()
        return epochs

    here, there, two, other = draw(0), draw(1), draw(2), draw(0, seed=2)
    for a, b, c in zip(here, there, two, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    assert not torch.equal(here[0], here[1]) and not torch.equal(here[0], other[0])
    assert torch.equal(here[2], here[3])  # what validates is the same every epoch


def test_workers_live_until_closed_and_serve_all_views():
    loader = Loader(Source(Items()), 2)
    train, valid = Stream(loader)[np.arange(30)], Stream(loader)[np.arange(30, N)]
    pids = set()
    for _ in range(3):
        list(train.batches(np.arange(30), np.arange(0, 31, 5)))
        assert torch.equal(torch.cat(list(valid.chunks(4))), torch.from_numpy(X[30:]).float())
        pids.add(tuple(p.pid for p in loader._running._workers))
    # an epoch that nobody finishes does not end up in the next
    next(iter(train.batches(np.arange(30), np.arange(0, 31, 5))))
    assert torch.equal(torch.cat(list(valid.chunks(4))), torch.from_numpy(X[30:]).float())
    processes = loader._running._workers
    assert len(pids) == 1 and all(p.is_alive() for p in processes)
    valid.close()
    train.close()
    assert not any(p.is_alive() for p in processes)
    assert len(torch.cat(list(valid.chunks(4)))) == N - 30  # closed is not broken
    valid.close()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("what", "said"), [(kill, "a worker was killed by SIGKILL"), (leave, "exit code 3")])
def test_a_worker_that_dies_is_an_error_that_names_the_batch(what, said, workers):
    started = time.monotonic()
    with pytest.raises(DataWorkerError, match=rf"stopped at batch [1-4] of 4, rows \[.*({said}).*workers=0"):
        epoch_of(Deadly(what), np.arange(N), [0, 10, 20, 30, N], workers)
    assert time.monotonic() - started < 30


def test_a_worker_that_hangs_is_an_error_too(monkeypatch):
    monkeypatch.setattr(stream, "TIMEOUT", 2.0)
    with pytest.raises(DataWorkerError, match=r"at batch 2 of 4, rows \[10, 11, 12\].*no batch came within 2 s"):
        epoch_of(Deadly(sleep), np.arange(N), [0, 10, 20, 30, N], 1)


class Odd(Items):
    def __init__(self, what, batched=False):
        super().__init__()
        self.what = what
        if batched:
            self.__getitems__ = lambda rows: [self[i] for i in rows]

    def __getitem__(self, i):
        return self.what(i) if i == 17 else self.x[i]


def no_file(i):
    raise FileNotFoundError("17.png")


class Short(Items):
    def __getitems__(self, rows):
        return [self.x[i] for i in rows][: max(1, len(rows) - 2)]


class Together(Items):
    def __getitems__(self, rows):
        if len(rows) > 1:
            raise RuntimeError("no memory")
        return [self.x[i] for i in rows]


class BadPair(Items):
    def __getitems__(self, rows):
        if 17 in rows:
            raise ValueError("broken")
        return [self.x[i] for i in rows]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Odd(no_file), r"X \(Odd\): row 17 cannot be read: FileNotFoundError: 17.png"),
        (Odd(lambda i: X[i, :2]), r"row 17 has shape \(2,\), row 0 has \(3,\)"),
        (Odd(lambda i: X[i] * np.nan), r"contains NaN, infinity or a value too large for float32: row 17 of X"),
        (Odd(lambda i: X[i] * 1e300), r"too large for float32: row 17"),
        (Odd(lambda i: np.array(list("abc"))), r"row 17 holds <U1 values, row 0 float64"),
        (Odd(lambda i: X[i].astype(np.uint8)), r"row 17 holds uint8 values, row 0 float64"),
        (Odd(lambda i: {"x": 1}), r"row 17 has shape \(\)"),
        (Short(), r"__getitems__ returned 8 items for 10 rows \(rows 0, 1, 2, ...\), expected a list"),
        (Together(), r"rows 0, 1, 2, ... cannot be read together, but can one by one: RuntimeError: no memory"),
        (BadPair(), r"row 17 cannot be read: ValueError: broken"),
        (np.where(np.arange(N)[:, None] == 17, np.inf, X), r"NaN, infinity .* row 17 of X \(ndarray\)"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(data, message, workers):
    with pytest.raises(DataError, match=message):
        epoch_of(data, np.arange(N), [0, 10, 20, 30, N], workers)


class NoLength(Dataset):
    pass


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (NoLength(), "a NoLength without a length"),
        (Items(X[:0]), r"0 sample\(s\) \(an empty Dataset\)"),
        (X[:0], r"0 sample\(s\) \(shape=\(0, 3\)\)"),
        (Items([{"x": 1}]), "row 0 is object, expected numbers"),
        (Items(["a"]), "row 0 is <U1, expected numbers"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(data, message):
    with pytest.raises((TypeError, DataError), match=message):
        Source(data)


def test_all_rows_at_once():
    x, y = Source(Batched(X, np.arange(N))).read()
    assert np.array_equal(x, X) and y.tolist() == list(range(N))
    assert Source(Batched(X, np.arange(N))).labels().tolist() == list(range(N))
    assert Source(Items()).read()[1] is None and Source(Items()).labels() is None
    assert Source(Items(torch.ones(3, 2, dtype=torch.bfloat16))).read()[0].dtype == np.float32
    assert Source(Items([np.ones(2, int), np.ones(2) / 2])).read()[0].tolist() == [[1, 1], [0.5, 0.5]]
    assert Source(Items(IMAGES)).n_bytes == IMAGES.nbytes


def test_a_memmap_travels_by_name(tmp_path):
    values = np.arange(300_000.0).reshape(-1, 3)
    source = Source(memory_map(tmp_path, values))
    packed = pickle.dumps(Loader(source, 2))
    assert len(packed) < 2000
    assert np.array_equal(pickle.loads(packed).source.fetch(np.array([7, 3])), values[[7, 3]])
