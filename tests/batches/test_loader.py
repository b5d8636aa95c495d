"""Index arrays -> batches of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchstrata import RandomBatchSampler
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
