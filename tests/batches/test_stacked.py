"""Rows of many fits side by side."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchstrata import RandomBatchSampler, StratifiedBatchSampler
from torchstrata.batches.loader import Rows
from torchstrata.batches.stacked import Layout, StackedRows

SIZES = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=5), min_size=1, max_size=5)


def bounds_of(sizes):
    return [np.concatenate([[0], np.cumsum(each)]) for each in sizes]


@given(sizes=SIZES)
def test_every_row_has_its_own_place_in_its_own_block(sizes):
    layout = Layout(bounds_of(sizes))
    assert layout.sizes.tolist() == [
        max((s[b] for s in sizes if b < len(s)), default=0) for b in range(max(map(len, sizes)))
    ]
    taken = np.concatenate([layout.places(k) for k in range(len(sizes))])
    assert len(set(taken.tolist())) == len(taken) == sum(map(sum, sizes)) and taken.max() < layout.n_places
    for k, own in enumerate(sizes):
        step = np.searchsorted(layout.starts, layout.places(k), side="right") - 1
        assert step.tolist() == np.repeat(np.arange(len(own)), own).tolist()
        within = layout.places(k) - layout.starts[step]
        assert ((within // layout.sizes[step]) == k).all()
    assert layout.padded == (layout.n_places > len(taken))
    assert layout.present(torch.float64).nonzero().flatten().tolist() == sorted(taken.tolist())


@given(sizes=SIZES, places=st.integers(1, 40))
def test_chunks_cover_all_steps_once_and_blocks_have_their_shapes(sizes, places):
    layout = Layout(bounds_of(sizes))
    chunks = list(layout.chunks(places))
    assert [a for a, _ in chunks] == [0, *[b for _, b in chunks[:-1]]] and chunks[-1][1] == len(layout.sizes)
    for first, last in chunks:
        assert last == first + 1 or layout.starts[last] - layout.starts[first] <= places
        part = torch.arange(layout.starts[first], layout.starts[last])[:, None]
        blocks = layout.blocks(part, first, last)
        assert [tuple(b.shape) for b in blocks] == [(len(sizes), s, 1) for s in layout.sizes[first:last].tolist()]
        assert torch.cat([b.flatten() for b in blocks]).equal(part.flatten())


@given(sizes=SIZES)
def test_sums_are_those_of_each_batch(sizes):
    layout = Layout(bounds_of(sizes))
    rng = np.random.default_rng(0)
    values = np.zeros(layout.n_places)
    expected = np.zeros(layout.counts.shape)
    for k, own in enumerate(sizes):
        given_values = rng.normal(size=sum(own))
        values[layout.places(k)] = given_values
        expected[: len(own), k] = np.add.reduceat(given_values, bounds_of([own])[0][:-1])
    np.testing.assert_allclose(layout.sums(values), expected, atol=1e-12)


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=4), seed=st.integers(0, 5), weighted=st.booleans())
def test_what_stands_at_a_place_is_the_row_of_its_fit(counts, seed, weighted):
    rows = []
    for k, n in enumerate(counts):
        x = torch.arange(n, dtype=torch.float64)[:, None] + 100 * (k + 1)
        rows.append(Rows(x, x[:, 0], x[:, 0] if weighted and k % 2 else None))
    stacked = StackedRows([r.x for r in rows], rows)
    draws = [RandomBatchSampler(5).plan(n).draw(1, seed) for n in counts]
    layout = stacked.layout(draws)
    of_x, of_y = stacked.index(layout, draws)
    x, y = stacked.take(of_x), stacked.y[of_y]
    for k, (order, _) in enumerate(draws):
        places = layout.places(k)
        assert x[places, 0].tolist() == y[places].tolist() == rows[k].x[order, 0].tolist()
        if stacked.weight is not None:
            own = rows[k].weight
            assert stacked.weight[of_y][places].tolist() == ([1.0] * len(order) if own is None else own[order].tolist())
    empty = np.setdiff1d(np.arange(layout.n_places), np.concatenate([layout.places(k) for k in range(len(counts))]))
    assert not x[empty].any() and not y[empty].any()
    assert stacked.weight is None or not stacked.weight[of_y][empty].any()


def test_inputs_that_are_one_object_are_kept_once():
    x, other = torch.ones(50, 3), torch.ones(50, 3)
    rows = [Rows(x, x[:, 0]), Rows(other, x[:, 0]), Rows(x, x[:, 0])]
    stacked = StackedRows([r.x for r in rows], rows)
    assert len(stacked.x) == 101 and len(stacked.y) == 151  # and a row of zeros each


def test_the_same_bounds_are_laid_out_once():
    strata = np.arange(40) % 4 == 0
    plan = StratifiedBatchSampler(2).plan(40, strata)
    rows = [Rows(torch.ones(40, 1), torch.ones(40))] * 2
    stacked = StackedRows([r.x for r in rows], rows)
    first = stacked.layout([plan.draw(1, 0), plan.draw(1, 1)])
    assert stacked.layout([plan.draw(2, 0), plan.draw(2, 1)]) is first


def test_inputs_of_several_names():
    x = {"number": torch.ones(4, 2), "category": torch.ones(4, 1, dtype=torch.int64)}
    rows = [Rows(x, torch.ones(4))] * 2
    stacked = StackedRows([r.x for r in rows], rows)
    taken = stacked.take(torch.tensor([0, 4]))
    assert taken["number"].tolist() == [[1, 1], [0, 0]] and taken["category"].tolist() == [[1], [0]]
