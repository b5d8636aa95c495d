"""A fit on streamed rows is the fit on the same rows in memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

import torchstrata as ts
from torchstrata.errors import DataWorkerError
from torchstrata.learner import loading

N = 90
RNG = np.random.default_rng(0)
Y = np.where(np.arange(N) % 3 == 0, "rare", "usual")
X = RNG.normal(size=(N, 4)).astype(np.float32) + (Y == "rare")[:, None]
IMAGES = RNG.integers(0, 256, size=(N, 1, 4, 4), dtype=np.uint8)


class Items(Dataset):
    def __init__(self, x, y=None):
        self.x, self.y, self.home = x, y, os.getpid()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] if self.y is None else (self.x[i], self.y[i])


class Batched(Items):
    calls: list = []  # noqa: RUF012 - of this process

    def __getitems__(self, rows):
        self.calls.append(len(rows))
        return [Items.__getitem__(self, i) for i in rows]


def conv(shapes, n_outputs):
    assert shapes == {"image": (1, 4, 4)}
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(16, n_outputs),
    )


def learner(loading="streamed", workers=0, **settings):
    runtime = ts.Runtime("cpu", loading=loading, workers=workers)
    # a plain network, so that resident rows go through autograd as well and the sums are the same
    base = {"network": ts.MLP((6,), dropout=0.2), "max_epochs": 3, "random_state": 0, "encoder": None}
    return ts.TorchClassifier(**{**base, "runtime": runtime, **settings})


def same(a, b, x):
    pd.testing.assert_frame_equal(a.history_.drop(columns="seconds"), b.history_.drop(columns="seconds"))
    np.testing.assert_array_equal(a.decision_function(x), b.decision_function(x))


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kind", ["table", "images"])
def test_streamed_is_resident_whatever_the_number_of_workers(kind, workers):
    """Weights, strata, sampler, dropout, validation, early stopping and scores included."""
    x = X if kind == "table" else IMAGES
    settings = {
        "network": conv if kind == "images" else ts.MLP((6,), dropout=0.2),
        "batch_sampler": ts.StratifiedBatchSampler(2),
        "valid": 0.3,
        "scoring": ["roc_auc", "accuracy"],
        "early_stopping": ts.EarlyStopping(2),
        "augment": [lambda x, generator: x + torch.rand(x.shape, generator=generator) / 10],
    }
    rows = {"stratum": Y, "sample_weight": np.arange(N) % 4 / 2}
    resident = learner("resident", **settings).fit(x, Y, **rows)
    streamed = learner("streamed", workers, **settings).fit(Items(x), Y, **rows)
    assert streamed.runtime_.reasons["loading"][0] == "streamed"
    assert resident.runtime_.reasons["loading"] == ("resident", "as given")
    same(streamed, resident, x)
    np.testing.assert_array_equal(streamed.predict(Items(x)), resident.predict(x))
    np.testing.assert_array_equal(streamed.predict_proba(Batched(x)), resident.predict_proba(x))


def test_a_loss_that_ranks_is_calibrated_on_streamed_rows():
    settings = {"loss": "aum", "batch_sampler": ts.StratifiedBatchSampler(2), "augment": [lambda x, g: x]}
    streamed = learner(workers=1, **settings).fit(Batched(X), Y, stratum=Y)
    same(streamed, learner("resident", **settings).fit(X, Y, stratum=Y), X)


def test_regression_and_a_separate_valid_set(tmp_path):
    path, target = tmp_path / "x.npy", X @ [1.0, 2.0, 3.0, 4.0]
    np.save(path, X)
    mapped = np.load(path, mmap_mode="r")

    def make(loading):
        return ts.TorchRegressor(ts.MLP((5,)), max_epochs=2, encoder=None, random_state=0, trainable="*",
                                 runtime=ts.Runtime("cpu", loading=loading, precision="float64"))  # fmt: skip

    streamed = make("streamed").fit(mapped, target, valid_set=(Items(X[:20]), target[:20]))
    resident = make("resident").fit(X, target, valid_set=(X[:20], target[:20]))
    pd.testing.assert_frame_equal(
        streamed.history_.drop(columns="seconds"), resident.history_.drop(columns="seconds"), rtol=1e-12
    )
    np.testing.assert_allclose(streamed.predict(mapped), resident.predict(X), rtol=1e-12)


def test_a_batch_is_one_call():
    Batched.calls = calls = []
    learner(batch_size=32, max_epochs=2).fit(Batched(X), Y)
    assert calls.count(32) == 4 and calls.count(26) == 2 and max(calls) <= 32
    Batched.calls = calls = []
    learner("auto").fit(Batched(X, Y))
    assert sum(calls) <= N + 5  # X and y in one pass; single rows for the shape


class Noisy(Items):
    """Draws, as a Dataset that augments does."""

    def __getitem__(self, i):
        return self.x[i] + np.float32(np.random.rand()) + torch.rand(4).numpy()


def test_what_a_dataset_draws_belongs_to_the_fit():
    def losses(workers, seed):
        made = learner(workers=workers, random_state=seed, valid=0.3, max_epochs=2).fit(Noisy(X), Y)
        return made.history_[["train_loss", "valid_loss"]].to_numpy()

    np.testing.assert_array_equal(losses(0, 0), losses(2, 0))
    np.testing.assert_array_equal(losses(0, 0), losses(0, 0))
    assert (losses(0, 0) != losses(0, 1)).all()


# what is decided, and why


def reason(made, x, y=Y):
    return made.fit(x, y).runtime_.reasons["loading"]


def test_the_decision_and_its_reason(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert reason(learner("auto"), X) == ("resident", "the rows are in memory already")
    assert reason(learner("auto"), TensorDataset(torch.tensor(X))) == ("resident", "the rows are in memory already")
    assert reason(learner("auto"), pd.DataFrame(X))[1].startswith("a DataFrame is a table in memory")
    assert reason(learner("auto"), Items(X)) == ("resident", "a Items of 0.0 MB is smaller than 1,073.7 MB: read once")
    assert reason(learner(), X) == ("streamed", "as given; no workers")
    monkeypatch.setattr(loading, "RESIDENT_BELOW", 1000)
    assert reason(learner("auto", 1), Items(X)) == (
        "streamed",
        "a Items of 0.0 MB is not smaller than 0.0 MB; 1 worker",
    )
    assert reason(learner("auto"), mapped)[0] == "streamed"
    assert reason(learner("auto"), X)[0] == "resident"
    why = reason(learner("auto", encoder="auto"), Items(X))
    assert why == ("resident", "encoder='auto' reads whole columns; encoder=None passes numbers through")
    assert reason(learner("auto", encoder="auto", network=conv), Items(IMAGES))[0] == "streamed"
    assert "loading: streamed" in repr(learner().fit(X, Y).runtime_)


@pytest.mark.parametrize(
    ("made", "x", "message"),
    [
        (learner(encoder="auto"), Items(X), "loading='streamed' cannot work: encoder='auto' reads whole columns"),
        (learner(), pd.DataFrame(X), "a DataFrame is a table in memory; only a Dataset, an array or a memmap"),
        (learner(), X.tolist(), "a list is a table in memory"),
        (learner(), X.astype(str), "the array holds <U32 values"),
    ],
)
def test_streaming_what_cannot_be_streamed_is_refused(made, x, message):
    with pytest.raises(ts.ConfigError, match=message):
        made.fit(x, Y)
    with pytest.raises(ts.ConfigError, match=r"unknown loading 'stream'.*Did you mean 'streamed'"):
        ts.Runtime(loading="stream")


def test_predicting_what_cannot_be_streamed_is_no_error():
    fitted = learner().fit(X, Y)
    np.testing.assert_array_equal(fitted.predict(X.tolist()), fitted.predict(Items(X)))


def test_labels_of_a_dataset():
    wanted = learner().fit(X, Y)
    codes = (Y == "usual").astype(int)
    for data in (Batched(X, Y), Items(X, Y)):
        same(learner().fit(data), wanted, X)
    for how in ("streamed", "resident"):
        fitted = learner(how).fit(TensorDataset(torch.tensor(X), torch.tensor(codes)))
        assert fitted.classes_.tolist() == [0, 1]
        np.testing.assert_array_equal(fitted.predict(TensorDataset(torch.tensor(X))), fitted.predict(X))
    with pytest.raises(ts.DataError, match="requires y to be passed"):
        learner().fit(Items(X))


# bytes


@pytest.mark.parametrize("wrap", [np.array, torch.tensor, Items, Batched])
def test_images_of_bytes_stay_bytes_and_are_divided_on_the_device(wrap):
    settings = {"network": conv, "valid": 0.2}
    floats = learner("auto", **settings).fit(IMAGES / np.float32(255), Y)
    fitted = learner("auto", **settings).fit(wrap(IMAGES), Y)
    np.testing.assert_array_equal(fitted.history_["train_loss"], floats.history_["train_loss"])
    np.testing.assert_array_equal(fitted.predict_proba(wrap(IMAGES)), floats.predict_proba(IMAGES / np.float32(255)))
    assert "steps" in fitted.runtime_.reasons and fitted.runtime_.reasons["steps"][0] == "autograd"
    with pytest.raises(ts.DataError, match="images were bytes at fit, taken divided by 255, and X is float64 now"):
        fitted.predict(IMAGES.astype(float))
    with pytest.raises(ts.DataError, match="images were no bytes at fit, taken as they are, and X is uint8 now"):
        floats.predict(wrap(IMAGES))


def test_bytes_are_remembered_by_a_file(tmp_path):
    fitted = learner("auto", network=conv).fit(IMAGES, Y)
    again = ts.load(fitted.save(tmp_path / "model"), network=conv)
    np.testing.assert_array_equal(again.predict_proba(IMAGES), fitted.predict_proba(IMAGES))
    with pytest.raises(ts.DataError, match="images were bytes at fit"):
        again.predict(IMAGES / 255)


# what goes wrong


class Deadly(Items):
    """Ends the process that reads row 50, unless it is the one that fits."""

    def __getitem__(self, i):
        if i == 50 and os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.x[i]


def children():
    """Return the processes that load; joblib's, of other tests in this process, are none."""
    return [p for p in multiprocessing.active_children() if "loky" not in type(p).__module__]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_ends_the_fit_with_an_error(workers):
    made, started = learner(workers=workers), time.monotonic()
    with pytest.raises(DataWorkerError, match=r"loading X \(Deadly\) stopped .*batch \d.*SIGKILL.*workers=0"):
        made.fit(Deadly(X), Y)
    assert time.monotonic() - started < 30 and not children()
    assert not hasattr(made, "network_")
    fitted = learner(workers=workers).fit(Items(X), Y)
    with pytest.raises(DataWorkerError, match="SIGKILL"):
        fitted.predict(Deadly(X))
    assert not children()


class Slow(Items):
    def __getitem__(self, i):
        time.sleep(0.001)
        return self.x[i]


@pytest.mark.parametrize(("workers", "delay"), [(1, 0.02), (1, 0.3), (2, 0.1), (2, 0.5)])
def test_a_worker_killed_at_any_time_ends_the_fit_with_an_error(workers, delay):
    def kill():
        while not children():
            time.sleep(0.01)
        time.sleep(delay)
        os.kill(children()[-1].pid, signal.SIGKILL)

    killer, started = threading.Thread(target=kill), time.monotonic()
    killer.start()
    with pytest.raises(DataWorkerError, match="SIGKILL"):
        learner(workers=workers, max_epochs=1000, valid=0.3).fit(Slow(X), Y)
    killer.join()
    assert time.monotonic() - started < 30 and not children()


@pytest.mark.parametrize("workers", [0, 1])
def test_rows_that_cannot_be_used_are_named_and_nobody_stays(workers):
    bad = X.copy()
    bad[33, 1] = np.nan
    made = learner(workers=workers)
    with pytest.raises(ts.DataError, match=r"Input X contains NaN.*row 33 of X \(Items\)"):
        made.fit(Items(bad), Y)
    fitted = learner(workers=workers).fit(Items(X), Y)
    with pytest.raises(ts.DataError, match=r"row 33"):
        fitted.predict(Items(bad))
    with pytest.raises(ValueError, match="X has 3 features, but TorchClassifier is expecting 4"):
        fitted.predict(Items(X[:, :3]))
    assert not children()


def test_workers_end_after_fit_and_after_an_error_of_a_callback():
    class Breaks(ts.Callback):
        seen = 0

        def on_epoch_end(self, state):
            type(self).seen = len(children())
            if state.epoch == 2:
                raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        learner(workers=2, callbacks=[Breaks()]).fit(Items(X), Y)
    assert Breaks.seen == 2 and not children()
    learner(workers=2).fit(Items(X), Y)
    assert not children()


def test_few_rows():
    fitted = learner(workers=1).fit(Items(X), Y)
    assert fitted.predict(Items(X[:1])).tolist() == fitted.predict(X[:1]).tolist()
    with pytest.raises(ValueError, match="1 sample"):
        learner().fit(Items(X[:1]), Y[:1])
    with pytest.raises(ts.DataError, match=r"0 sample\(s\) \(an empty Dataset\)"):
        learner().fit(Items(X[:0]), Y[:0])
    with pytest.raises(ts.DataError, match=r"0 sample\(s\)"):
        fitted.predict(Items(X[:0]))
    with pytest.raises(ts.DataError, match=r"0 sample\(s\)"):
        fitted.predict(TensorDataset(torch.empty(0, 4)))


def test_datasets_in_memory():
    class NoLength(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(TypeError, match="NoLength without a length"):
        learner("auto").fit(NoLength(), Y)
    made = learner("auto").fit(TensorDataset(torch.tensor(X, dtype=torch.bfloat16), torch.arange(N) % 2))
    assert made.classes_.tolist() == [0, 1]
