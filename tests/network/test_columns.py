"""Modules that look at each column: categories as vectors and one-hot, tables as matrices and tokens."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchstrata.network.columns import (
    CategoryVectors,
    ColumnAffine,
    EmbeddedNumbers,
    FlatTable,
    OneHotColumns,
    Tokens,
    starts_of,
)

LEVELS = (4, 2, 6)


def categories(copies):
    return copies.rows_of(copies.MIXED)["category"]


@pytest.mark.parametrize("bias", [True, False])
def test_category_vectors_equal_the_authors(copies, bias):
    authors = pytest.importorskip("rtdl_revisiting_models")
    theirs = authors.CategoricalEmbeddings(list(LEVELS), 5, bias)
    ours = CategoryVectors(LEVELS, 5, bias=bias)
    copies.set_(ours.weight, torch.cat([e.weight for e in theirs.embeddings]))
    if bias:
        copies.set_(ours.bias, theirs.bias)
    x = categories(copies)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
    for out in (ours(x), theirs(x)):
        out.square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, torch.cat([e.weight.grad for e in theirs.embeddings]))


def test_vectors_of_unknown_categories_begin_at_zero():
    ours = CategoryVectors(LEVELS, 5)
    zero = (ours.weight == 0).all(1)
    assert zero.nonzero().ravel().tolist() == starts_of(LEVELS).tolist() == [0, 4, 6]


def test_one_hot_equals_torch_without_the_unknown(copies):
    x = categories(copies)
    wanted = torch.cat([nn.functional.one_hot(x[:, j], n)[:, 1:] for j, n in enumerate(LEVELS)], 1)
    got = OneHotColumns(LEVELS)(x)
    assert (x == 0).any()
    assert torch.equal(got, wanted.float())
    assert OneHotColumns(LEVELS).double()(x).dtype == torch.float64
    assert OneHotColumns((2,))(torch.tensor([[0], [1]])).tolist() == [[0], [1]]


def test_one_hot_of_many_tables_at_once(copies):
    x = torch.stack([categories(copies), categories(copies).flip(0)])
    module = OneHotColumns(LEVELS)
    assert torch.equal(torch.func.vmap(module)(x), torch.stack([module(x[0]), module(x[1])]))


def test_a_flat_table_has_numbers_then_levels(copies):
    x = copies.rows_of(copies.MIXED)
    flat = FlatTable(copies.MIXED)
    assert flat.sizes == [1, 1, 1, 3, 1, 5]
    assert torch.equal(flat(x)[:, :3], x["number"])
    assert torch.equal(flat(x)[:, 3:], OneHotColumns(LEVELS)(x["category"]))
    numbers = copies.rows_of(copies.NUMBERS)
    assert FlatTable(copies.NUMBERS)(numbers) is numbers


def test_embedded_numbers_leave_categories_alone(copies):
    x = copies.rows_of(copies.MIXED)
    embedding = ColumnAffine(3, 4)
    got = EmbeddedNumbers(embedding)(x)
    assert torch.equal(got["number"], embedding(x["number"]).reshape(40, 12))
    assert got["category"] is x["category"]
    assert torch.equal(EmbeddedNumbers(embedding)(x["number"]), got["number"])


def test_tokens_stand_in_order(copies):
    x = copies.rows_of(copies.MIXED)
    numbers, vectors = ColumnAffine(3, 4), CategoryVectors(LEVELS, 4)
    tokens = Tokens(numbers, vectors, 4)
    got = tokens(x)
    assert torch.equal(got[:, 0], tokens.row.expand(40, 4))
    assert torch.equal(got[:, 1:4], numbers(x["number"]))
    assert torch.equal(got[:, 4:], vectors(x["category"]))
    assert torch.equal(Tokens(numbers, vectors, 4, class_token=False)(x), got[:, 1:])
    assert torch.equal(Tokens(numbers, None, 4, class_token=False)(x["number"]), got[:, 1:4])
    assert torch.equal(Tokens(None, vectors, 4, class_token=False)(x["category"]), got[:, 4:])
