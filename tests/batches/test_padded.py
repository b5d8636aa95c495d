"""Padded batches hold what pad_sequence gives, and blocks for prediction put rows of like length together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from torchstrata.batches.bytewise import Bytes
from torchstrata.batches.padded import Inputs, Padded, padded_width

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=30)


def rows_of(lengths, tail=(2,)):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn((n, *tail), generator=generator) for n in lengths]


def padded(rows):
    return Padded(torch.cat(rows), np.array([len(row) for row in rows], dtype=np.int64))


@given(LENGTHS, st.integers(1, 8), st.booleans())
def test_a_batch_is_what_pad_sequence_gives(lengths, batch, tokens):
    rows = rows_of(lengths)
    if tokens:
        rows = [(row[:, 0] * 10).long() for row in rows]
    order = np.random.default_rng(0).permutation(len(rows))
    bounds = np.array([*range(0, len(rows), batch), len(rows)])
    for (x, length), begin in zip(padded(rows).batches(order, bounds), bounds, strict=False):
        chosen = [rows[i] for i in order[begin : begin + batch]]
        wanted = pad_sequence(chosen, batch_first=True)
        assert length.tolist() == [len(row) for row in chosen]
        assert torch.equal(x[:, : wanted.shape[1]], wanted) and x.shape[1] == max(1, wanted.shape[1])


@given(LENGTHS, st.integers(0, 5))
def test_an_accelerator_gathers_what_a_cpu_copies(lengths, absent):
    made = padded(rows_of(lengths))
    order = np.concatenate([np.arange(len(lengths)), np.full(absent, -1)])
    args = order, [len(lengths), absent][: 1 + (absent > 0)], [max(1, *lengths, 3), 2]
    args = (args[0], args[1], args[2][: len(args[1])])
    for one, other in zip(made._copied(*args), made._gathered(*args), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


@given(LENGTHS, LENGTHS, st.sampled_from([1, 4, 64]))
def test_blocks_hold_every_row_once_with_a_width_of_its_own(one, other, block):
    n = min(len(one), len(other))
    a, b = rows_of(one[:n]), rows_of(other[:n], (1,))
    inputs = Inputs({"a": padded(a), "b": padded(b), "number": torch.arange(1.0, n + 1)[:, None]})
    chunks, places = list(inputs.chunks(block)), inputs.places(block)
    assert all(len(value) == block for chunk in chunks for value in chunk.values())
    row = torch.cat([chunk["number"] for chunk in chunks])[:, 0]
    assert torch.equal(row[places], torch.arange(1.0, n + 1)) and (row > 0).sum() == n
    for chunk in chunks:
        for i, number in enumerate(chunk["number"][:, 0].long().tolist()):
            for name, rows in (("a", a), ("b", b)):
                length = 0 if not number else len(rows[number - 1])
                assert chunk[name + "_lengths"][i] == length
                assert not number or chunk[name].shape[1] == padded_width(np.array([length]))[0]
                assert torch.equal(chunk[name][i, :length], rows[number - 1][:length])
                assert not chunk[name][i, length:].any()


@given(st.integers(0, 10**6))
def test_widths_are_few_and_not_much_too_wide(length):
    width = int(padded_width(np.array([length]))[0])
    assert max(1, length) <= width <= max(1, length * 1.5)
    assert len(np.unique(padded_width(np.arange(1, 2049)))) == 22  # 1, then 2 for each of ten doublings, and 2048's


def test_inputs_of_several_kinds():
    images = torch.arange(3 * 4, dtype=torch.uint8).view(3, 1, 2, 2)
    inputs = Inputs({"image": Bytes(images, torch.float32), "s": padded(rows_of([2, 1, 3]))})
    assert inputs.shape == (3, 1, 2, 2) and inputs.why == "sequences are padded"
    picked = inputs.pick(torch.tensor([1, 0]))
    assert torch.equal(picked["image"], images[[1, 0]].float() / 255) and picked["s"].shape == (2, 2, 2)
    assert sorted(inputs.to("cpu").pick(slice(2, 3))) == ["image", "s", "s_lengths"]
    assert Inputs({"image": Bytes(images, torch.float32)}).why == Bytes.why


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_on_a_device():
    rows = rows_of([3, 0, 5])
    x, length = next(padded(rows).to("cuda").batches(np.arange(3), np.array([0, 3])))
    assert x.is_cuda and torch.equal(x.cpu(), pad_sequence(rows, batch_first=True)) and length.tolist() == [3, 0, 5]
