"""Embeddings of numbers: equal to those of the authors' package, and to their definitions."""

from __future__ import annotations

import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError
from torchstrata.network.columns import ColumnBins, quantile_edges
from torchstrata.network.embeddings import EMBEDDINGS, as_embedding, sized
from torchstrata.network.nodes import Spec

L = ts.layers
NUMBERS = Shapes({"number": (5,)})


def authors():
    return pytest.importorskip("rtdl_num_embeddings")


def periodic_of(e):
    return lambda n, size, **s: e.PeriodicEmbeddings(n, size, **{"lite": False, **s})


LINEAR = [
    (L.LinearEmbedding(7), lambda e, n: e.LinearEmbeddings(n, 7)),
    (L.LinearEmbedding(activation="relu"), lambda e, n: e.LinearReLUEmbeddings(n)),
    (L.PeriodicEmbedding(), lambda e, n: periodic_of(e)(n, 24)),
    (L.PeriodicEmbedding(lite=True), lambda e, n: periodic_of(e)(n, 24, lite=True)),
    (L.PeriodicEmbedding(8, activation=None), lambda e, n: periodic_of(e)(n, 8, activation=False)),
    (
        L.PeriodicEmbedding(6, n_frequencies=5, frequency_init_scale=3.0),
        lambda e, n: periodic_of(e)(n, 6, n_frequencies=5, frequency_init_scale=3.0),
    ),
]


@pytest.mark.parametrize(("ours", "make"), LINEAR, ids=[repr(ours) for ours, _ in LINEAR])
def test_linear_and_periodic_equal_the_authors(ours, make, copies):
    theirs = copies.shake(make(authors(), 5))
    mine = ours.module(5)
    copies.copy_embedding(theirs, mine)
    check_same(theirs, mine, copies.rows_of(NUMBERS))


def check_same(theirs, mine, x):
    """Outputs and gradients, of the weights that both have."""
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted, got = theirs(a), mine(b)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(3))
    (wanted * weight).sum().backward()
    (got * weight).sum().backward()
    torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-4)
    if sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in theirs.parameters()):
        mine_grads = sorted(p.grad.double().norm().item() for p in mine.parameters())
        their_grads = sorted(p.grad.double().norm().item() for p in theirs.parameters())
        np.testing.assert_allclose(mine_grads, their_grads, rtol=1e-4)


def columns_with_ties(n=200):
    """Columns with all bins, with few, with one bin (a boolean), and far from zero."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n, 4, generator=generator)
    x[:, 1] = torch.randint(4, (n,), generator=generator).float()
    x[:, 2] = torch.randint(2, (n,), generator=generator).float()
    x[:, 3] = 50 + 0.1 * x[:, 3]
    return x


@pytest.mark.parametrize("n_bins", [2, 7, 48])
def test_bins_are_the_authors_quantiles(n_bins):
    x = columns_with_ties()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a column with one bin
        theirs = authors().compute_bins(x, n_bins)
    ours = quantile_edges(x, n_bins)
    assert [len(edges) for edges in ours] == [len(edges) for edges in theirs]
    for mine, edges in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.float(), edges, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The .-th feature has just two bin edges")
@pytest.mark.parametrize("n_bins", [2, 7, 48])
def test_piecewise_linear_encoding_equals_the_authors(n_bins, copies):
    x = columns_with_ties()
    mine = L.PiecewiseLinearEncoding(n_bins).module(4, x)
    theirs = authors().PiecewiseLinearEncoding(copies.bins_of(mine))
    new = columns_with_ties(60) * 1.5  # beyond the edges, too
    got = mine(new)
    assert got.shape == (60, 4, n_bins)
    flat = torch.cat([got[:, i, mine.slope[i] > 0] for i in range(4)], 1)
    # theirs keep the last bin of a column at the end, as ours do once the gaps are gone
    torch.testing.assert_close(flat, theirs(new), rtol=1e-5, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The .-th feature has just two bin edges")
@pytest.mark.parametrize("version", ["A", "B"])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_piecewise_linear_embedding_equals_the_authors(version, activation, copies):
    x = columns_with_ties()[:, :3]
    mine = L.PiecewiseLinearEmbedding(6, n_bins=9, version=version, activation=activation).module(3, x)
    theirs = authors().PiecewiseLinearEmbeddings(
        copies.bins_of(mine.bins), 6, activation=activation is not None, version=version
    )
    copies.shake(theirs)
    copies.copy_embedding(theirs, mine)
    check_same(theirs, mine, columns_with_ties(60)[:, :3])


def test_version_b_begins_linear(copies):
    x = copies.rows_of(NUMBERS)
    module = L.PiecewiseLinearEmbedding(4).module(5, x)
    torch.testing.assert_close(module(x), module.straight(x))


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_initial_weights_are_those_of_the_authors(name):
    """Of the same spread: uniform within the same bound, or normal of the same deviation."""
    e, n = authors(), 400
    x = torch.randn(300, n)
    make = {
        "linear": lambda: e.LinearEmbeddings(n, 32),
        "linear_relu": lambda: e.LinearReLUEmbeddings(n, 32),
        "periodic": lambda: e.PeriodicEmbeddings(n, lite=False),
        "piecewise_linear": lambda: e.PiecewiseLinearEmbeddings(e.compute_bins(x), 16, activation=False, version="B"),
        "piecewise_linear_encoding": lambda: torch.nn.Identity(),
    }[name]
    ours, theirs = EMBEDDINGS[name].module(n, x), make()
    got, wanted = (sorted((p.numel(), p.std().item()) for p in module.parameters()) for module in (ours, theirs))
    assert [size for size, _ in got] == [size for size, _ in wanted]
    np.testing.assert_allclose([std for _, std in got], [std for _, std in wanted], rtol=0.03)


# --- definitions


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=10),
    st.integers(1, 12),
)
def test_encoding_is_what_its_definition_says(rows, new, n_bins):
    column, at = torch.tensor(rows)[:, None], torch.tensor(new)[:, None]
    module = ColumnBins(1, n_bins, column)
    edges = quantile_edges(column, n_bins)[0].numpy()
    assert (np.diff(edges) > 0).all()
    assert len(edges) - 1 <= min(n_bins, max(len(rows) - 1, 0))
    wanted = np.zeros((len(new), n_bins))
    last = len(edges) - 2
    for i, value in enumerate(np.float64(at[:, 0].numpy())):
        for j in range(last + 1):
            share = (value - edges[j]) * min(1 / (edges[j + 1] - edges[j]), 1e30)
            below, above = (-math.inf if j == 0 else 0.0), (math.inf if j == last else 1.0)
            wanted[i, j] = min(max(share, below), above)
    got = module(at)[:, 0].double().numpy()
    assert np.isfinite(got).all()
    inside = np.abs(wanted) <= 1
    np.testing.assert_allclose(got[inside], wanted[inside], atol=2e-2)
    np.testing.assert_allclose(got, wanted, rtol=2e-2, atol=2e-2)


def test_a_narrow_bin_far_from_zero_keeps_its_digits():
    column = 1000 + torch.arange(0, 9, dtype=torch.float32)[:, None] / 1024
    module = ColumnBins(1, 8, column)
    got = module(column[3:4] + 0.5 / 1024)[0, 0]
    assert got.tolist() == [1, 1, 1, 0.5, 0, 0, 0, 0]


def test_size_does_not_depend_on_the_data():
    shapes = {}
    for column in (torch.randn(100, 1), torch.zeros(100, 1), torch.randint(2, (100, 1)).float(), torch.randn(1, 1)):
        module = L.PiecewiseLinearEmbedding(4).module(1, column)
        shapes[tuple((name, tuple(t.shape)) for name, t in module.state_dict().items())] = 1
        assert torch.isfinite(module(torch.tensor([[-2.0], [0.0], [1e30]]))).all()
    empty = L.PiecewiseLinearEmbedding(4).module(1)
    shapes[tuple((name, tuple(t.shape)) for name, t in empty.state_dict().items())] = 1
    assert len(shapes) == 1


def test_a_column_of_one_value_gives_nothing():
    encoding = L.PiecewiseLinearEncoding(5).module(1, torch.full((30, 1), 2.0))
    assert encoding(torch.tensor([[2.0], [-7.0]])).abs().sum() == 0


def test_weights_of_a_fit_load_into_a_module_without_rows(copies):
    x = copies.rows_of(NUMBERS)
    ours = copies.shake(L.PiecewiseLinearEmbedding(4).module(5, x))
    with torch.device("meta"):
        other = L.PiecewiseLinearEmbedding(4).module(5)
    other.load_state_dict(ours.state_dict(), assign=True)
    assert torch.equal(other(x), ours(x))


def test_double_rows_make_double_bins(copies):
    x = copies.rows_of(NUMBERS).double()
    assert L.PiecewiseLinearEncoding().module(5, x).left.dtype == torch.float64


# --- as layers of a graph


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_inferred_shape_is_the_real_shape(name, copies):
    layer = EMBEDDINGS[name]
    chain = ts.Chain([layer, L.Flatten(), L.Head()])
    table = chain.summary(NUMBERS, 2)
    assert table["output_shape"][1] == f"(5, {layer.width})"
    x = copies.rows_of(NUMBERS)
    net = chain(copies.showing(NUMBERS, x), 2)
    assert net[0](x).shape == (40, 5, layer.width)
    assert net(x).shape == (40, 2)
    assert table["parameters"].sum() == sum(p.numel() for p in net.parameters())
    assert pickle.loads(pickle.dumps(net))(x).equal(net(x))


def test_a_graph_gets_its_bins_from_the_training_rows(copies):
    x = copies.rows_of(NUMBERS)
    by_name = ts.Graph(L.Head()(L.Flatten()(L.PiecewiseLinearEncoding(4)(ts.Input("number")))))
    in_block = ts.Chain([ts.Block(L.PiecewiseLinearEncoding(4)), L.Flatten(), L.Head()])
    wanted = L.PiecewiseLinearEncoding(4).module(5, x)
    for blueprint in (by_name, in_block):
        assert blueprint.uses_rows
        module = next(m for m in blueprint(copies.showing(NUMBERS, x), 1).modules() if isinstance(m, ColumnBins))
        assert torch.equal(module.left, wanted.left)
    assert not ts.Chain([L.PeriodicEmbedding(), L.Flatten(), L.Head()]).uses_rows


def test_no_rows_stay_behind_in_what_is_remembered_of_shapes(copies):
    import gc
    import weakref

    x = torch.randn(50, 5)
    alive = weakref.ref(x)
    net = ts.Chain([L.PiecewiseLinearEncoding(4), L.Flatten(), L.Head()])(copies.showing(NUMBERS, x), 1)
    del x
    gc.collect()
    assert alive() is None
    assert net is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L.LinearEmbedding(0), "LinearEmbedding: size must be an int >= 1, got 0"),
        (lambda: L.PeriodicEmbedding(2.5), "PeriodicEmbedding: size must be an int >= 1"),
        (lambda: L.PeriodicEmbedding(n_frequencies=None), "n_frequencies must be an int >= 1, got None"),
        (lambda: L.PeriodicEmbedding(frequency_init_scale=0), "frequency_init_scale must be a positive finite number"),
        (lambda: L.PeriodicEmbedding(frequency_init_scale=float("nan")), "must be a positive finite number, got nan"),
        (lambda: L.PeriodicEmbedding(lite=True, activation=None), "lite=True needs an activation"),
        (lambda: L.PeriodicEmbedding(activation="rleu"), "unknown activation 'rleu'. Did you mean 'relu'"),
        (lambda: L.PeriodicEmbedding(n_frequency=3), "n_frequency.*Did you mean 'n_frequencies'"),
        (lambda: L.PiecewiseLinearEncoding(True), "n_bins must be an int >= 1, got True"),
        (lambda: L.PiecewiseLinearEmbedding(version="C"), "version must be 'A' or 'B', got 'C'"),
        (lambda: as_embedding("periodc", "MLP"), "MLP: unknown embedding 'periodc'. Did you mean 'periodic'"),
        (lambda: as_embedding(L.ReLU(), "MLP"), "embedding must be None, a name .* or a layer"),
        (lambda: as_embedding(3, "MLP"), "got 3"),
        (lambda: sized(L.LinearEmbedding(7), 8, "X: d_block"), "X: d_block is 8 and its embedding .* size 7"),
        (lambda: L.PeriodicEmbedding().build([Spec((3, 3))], 1), r"takes rows of shape \(numbers,\), got \(3, 3\)"),
        (lambda: L.PeriodicEmbedding().build([Spec((3,), levels=(2, 2, 2))], 1), r"read them by ts.Input\('number'\)"),
        (
            lambda: ts.Chain([L.Linear(4), L.PiecewiseLinearEncoding(), L.Flatten(), L.Head()])(NUMBERS, 1),
            "takes its bins from the training rows, so it must read an input itself",
        ),
        (
            lambda: ts.Chain([L.PeriodicEmbedding(), L.Flatten(), L.Head()])(
                Shapes({"number": (2,), "category": (1,)}, levels=(3,)), 1
            ),
            r"takes numbers: read them by ts.Input\('number'\)",
        ),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_typed(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_name_becomes_a_value_with_settings():
    network = ts.MLP((4,), embedding="periodic").replace(embedding__n_frequencies=3)
    assert network.embedding == L.PeriodicEmbedding(n_frequencies=3)
    assert network.get_params()["embedding__frequency_init_scale"] == 0.01
    learner = ts.TorchClassifier(ts.MLP(embedding="piecewise_linear")).set_params(network__embedding__n_bins=5)
    assert learner.network.embedding.n_bins == 5
    assert ts.MLP().embedding is None


def test_a_fit_takes_its_bins_from_the_rows_that_train(copies):
    X, y = load_breast_cancer(return_X_y=True)
    learner = ts.TorchClassifier(
        ts.MLP((8,), embedding=L.PiecewiseLinearEmbedding(3, n_bins=6)), valid=0.3, max_epochs=1, random_state=0
    ).fit(X, y)
    bins = next(m for m in learner.network_.modules() if isinstance(m, ColumnBins))
    encoded = torch.from_numpy(learner.encoder_.transform(X)["number"]).float()
    ends = torch.stack([edges[[0, -1]] for edges in copies.bins_of(bins)])
    assert (ends[:, 0] >= encoded.min(0).values - 1e-6).all()
    assert (ends[:, 1] <= encoded.max(0).values + 1e-5).all()
    assert ((ends[:, 1] - ends[:, 0]) < (encoded.max(0).values - encoded.min(0).values) - 1e-3).any()
    assert learner._shapes.rows is None
