"""Index arrays -> batches of tensors, and our samplers in a plain DataLoader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from torchstrata import RandomBatchSampler, StratifiedBatchSampler, torch_sampler
from torchstrata.batches import loader
from torchstrata.batches.loader import Rows, move, n_rows, pick, split

N = 23


def make_rows(*, weights=True, as_dict=False) -> Rows:
    x = torch.arange(N * 3, dtype=torch.float32).reshape(N, 3)
    inputs = {"number": x, "category": torch.arange(N)[:, None]} if as_dict else x
    return Rows(inputs, torch.arange(N) * 10.0, torch.arange(N) + 0.5 if weights else None)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("as_dict", [True, False])
@pytest.mark.parametrize("weights", [True, False])
def test_batches_hold_exactly_the_rows_asked_for(weights, as_dict, whole, monkeypatch):
    monkeypatch.setattr(loader, "GATHER_WHOLE_BELOW", 10**9 if whole else 0)
    rows = make_rows(weights=weights, as_dict=as_dict)
    batches = RandomBatchSampler(5)(N, seed=1)
    order, bounds = np.concatenate(batches), np.cumsum([0, *map(len, batches)])
    got = list(rows.epoch(order, bounds))
    assert len(got) == len(batches)
    for (x, y, w), batch in zip(got, batches, strict=True):
        number = x["number"] if as_dict else x
        assert torch.equal(number[:, 0], torch.from_numpy(batch) * 3.0)
        if as_dict:
            assert torch.equal(x["category"][:, 0], torch.from_numpy(batch))
        assert torch.equal(y, torch.from_numpy(batch) * 10.0)
        if weights:
            assert torch.equal(w, torch.from_numpy(batch) + 0.5)
        else:
            assert w is None


def test_rows_that_repeat_or_are_left_out_are_possible():
    (x, y, _), (_, z, _) = make_rows().epoch(np.array([4, 4, 0]), np.array([0, 2, 3]))
    assert y.tolist() == [40.0, 40.0]
    assert z.tolist() == [0.0]
    assert len(x) == 2


def test_to_moves_everything():
    rows = make_rows(as_dict=True).to("cpu")
    assert len(rows) == N
    meta = make_rows(as_dict=True).to("meta")
    assert {t.device.type for t in (*meta.x.values(), meta.y, meta.weight)} == {"meta"}
    assert make_rows(weights=False).to("cpu").weight is None


def test_small_helpers():
    x = {"a": torch.arange(6), "b": torch.arange(12).reshape(6, 2)}
    assert n_rows(x) == n_rows(x["b"]) == 6
    assert pick(x, slice(1, 3))["a"].tolist() == [1, 2]
    assert pick(x["a"], torch.tensor([5, 0])).tolist() == [5, 0]
    parts = split(x, [2, 4])
    assert [p["b"].shape for p in parts] == [(2, 2), (4, 2)]
    assert [len(p) for p in split(x["a"], [1, 5])] == [1, 5]
    assert move(x, "cpu")["a"].tolist() == list(range(6))


# --- torch_sampler

STRATA = ["M"] * 40 + ["R"] * 9
SET = TensorDataset(torch.arange(49))


def make_sampler(seed=3):
    return torch_sampler(StratifiedBatchSampler(1), STRATA, seed=seed)


def read(data) -> list[list[int]]:
    return [batch[0].tolist() for batch in data]


def drawn(epoch, seed=3) -> list[list[int]]:
    return [b.tolist() for b in StratifiedBatchSampler(1)(49, STRATA, epoch=epoch, seed=seed)]


@pytest.mark.parametrize("workers", [0, 2])
def test_plain_data_loader_gives_our_batches_epoch_after_epoch(workers):
    data = DataLoader(SET, batch_sampler=make_sampler(), num_workers=workers)
    assert len(data) == 9
    assert read(data) == drawn(0)
    assert read(data) == drawn(1)


def test_set_epoch_names_the_next():
    sampler = make_sampler()
    sampler.set_epoch(7)
    assert sampler.state_dict() == {"epoch": 7, "given": 0, "seed": 3}
    assert list(sampler) == drawn(7)
    assert list(sampler) == drawn(8)


def test_a_loop_that_broke_off_goes_on_with_the_next_epoch():
    data = DataLoader(SET, batch_sampler=make_sampler())
    for i, _ in enumerate(data):
        if i == 2:
            break
    assert read(data) == drawn(1)


@pytest.mark.parametrize("stop", range(1, 9))
def test_state_taken_between_batches_resumes_to_the_same_rows(stop):
    sampler = make_sampler()
    list(sampler)
    batches = iter(sampler)
    given = [next(batches) for _ in range(stop)]
    twin = make_sampler(seed=99)
    twin.load_state_dict(sampler.state_dict())
    assert given + list(twin) == drawn(1)
    assert list(twin) == drawn(2)


def test_state_of_a_complete_epoch_resumes_with_the_next():
    sampler = make_sampler()
    list(sampler)
    twin = make_sampler()
    twin.load_state_dict(sampler.state_dict())
    assert list(twin) == drawn(1)


def test_state_before_the_first_batch_resumes_at_the_start():
    twin = make_sampler()
    twin.load_state_dict(make_sampler().state_dict())
    assert list(twin) == drawn(0)


def test_resume_survives_a_data_loader():
    sampler = make_sampler()
    data = iter(DataLoader(SET, batch_sampler=sampler))
    given = [next(data)[0].tolist() for _ in range(4)]
    twin = make_sampler()
    twin.load_state_dict(sampler.state_dict())
    assert given + read(DataLoader(SET, batch_sampler=twin)) == drawn(0)


def test_plain_function_and_random_sampler_serve_too():
    halves = torch_sampler(lambda n, strata, *, epoch, seed: [range(n // 2), range(n // 2, n)], STRATA)
    assert [len(b) for b in halves] == [24, 25]
    assert sorted(i for batch in torch_sampler(RandomBatchSampler(10), STRATA) for i in batch) == list(range(49))
