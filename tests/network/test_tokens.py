"""Categories and whole tables as layers of a graph."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError
from torchstrata.network.nodes import Spec

L = ts.layers


def first_token(x):
    return x[:, 0]


@pytest.mark.parametrize("table", ["numbers", "mixed", "categories"])
@pytest.mark.parametrize("embedding", [None, "periodic", "piecewise_linear"])
def test_a_tokenizer_takes_any_table(copies, table, embedding):
    shapes, x = copies.TABLES[table], copies.rows_of(copies.TABLES[table])
    chain = ts.Chain([L.FeatureTokenizer(6, embedding=embedding), L.Flatten(), L.Head()])
    n = 1 + sum(shape[0] for shape in shapes.values())
    assert chain.summary(shapes, 2)["output_shape"][1] == f"({n}, 6)"
    net = chain(copies.showing(shapes, x), 2)
    assert net(x).shape == (40, 2)
    assert net[0](x).shape == (40, n, 6)
    assert chain.uses_rows is (embedding == "piecewise_linear")


def test_a_transformer_is_a_chain_of_layers(copies):
    """Tokens, attention of torch, the first token: as ts.FTTransformer is built, from parts."""
    x = copies.rows_of(copies.MIXED)
    chain = ts.Chain(
        [
            L.FeatureTokenizer(8),
            ts.Block(L.TransformerEncoderLayer(2, dim_feedforward=16, norm_first=True), repeat=2),
            L.Function(first_token),
            L.Head(),
        ]
    )
    net = chain(copies.MIXED, 3)
    assert net(x).shape == (40, 3)
    net(x).sum().backward()
    assert net[0].row.grad.abs().sum() > 0


def test_numbers_and_categories_meet_in_a_graph(copies):
    x = copies.rows_of(copies.MIXED)
    numbers = L.PeriodicEmbedding(6, n_frequencies=3)(ts.Input("number"))
    vectors = L.CategoryEmbedding(6)(ts.Input("category"))
    flags = L.OneHot()(ts.Input("category"))
    both = L.Flatten()(L.Concat()(numbers, vectors))
    graph = ts.Graph(L.Head()(L.Concat()(both, flags)))
    assert graph(copies.MIXED, 2)(x).shape == (40, 2)
    table = graph.summary(copies.MIXED, 2).set_index("kind")["output_shape"]
    assert (table["PeriodicEmbedding"], table["CategoryEmbedding"], table["OneHot"]) == ("(3, 6)", "(3, 6)", "(9,)")


def test_learners_fit_and_save_such_layers(tmp_path):
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"a": generator.normal(size=80), "b": generator.choice(["x", "y", None], 80)})
    y = (table["a"] > 0) ^ (table["b"] == "x")
    chain = ts.Chain(
        [
            L.FeatureTokenizer(8, embedding=L.PiecewiseLinearEmbedding(n_bins=5)),
            L.Flatten(),
            L.Linear(32),
            L.ReLU(),
            L.Head(),
        ]
    )
    settings = {"optimizer": ts.optim.AdamW(lr=0.01), "max_epochs": 60, "random_state": 0}
    learner = ts.TorchClassifier(chain, **settings).fit(table, y)
    assert learner.score(table, y) > 0.9
    loaded = ts.load(learner.save(tmp_path / "learner"))
    assert np.array_equal(loaded.predict_proba(table), learner.predict_proba(table))
    assert loaded.network == chain
    assert chain.replace(featuretokenizer__embedding__n_bins=3).layers[0].embedding.n_bins == 3


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_bins_of_a_table_are_of_the_training_rows_in_any_precision(precision):
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"a": generator.normal(size=40), "b": generator.choice(["x", "y"], 40)})
    chain = ts.Chain([L.FeatureTokenizer(4, embedding=L.PiecewiseLinearEmbedding(n_bins=3)), L.Flatten(), L.Head()])
    runtime = ts.Runtime("cpu", precision=precision)
    learner = ts.TorchClassifier(chain, max_epochs=0, runtime=runtime).fit(table, np.arange(40) % 2)
    edges = learner.network_[0].numbers.bins.left[0]
    encoded = learner.encoder_.transform(table)["number"][:, 0]
    assert edges.dtype == learner.runtime_.dtype
    np.testing.assert_allclose(edges.numpy(), np.quantile(encoded, [0, 1 / 3, 2 / 3]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L.CategoryEmbedding(0), "CategoryEmbedding: size must be an int >= 1, got 0"),
        (
            lambda: L.CategoryEmbedding(4).build([Spec((3,))], 1),
            r"takes categories: read them by ts.Input\('category'\)",
        ),
        (lambda: L.OneHot().build([Spec((3,))], 1), r"OneHot takes categories: read them by ts.Input\('category'\)"),
        (lambda: L.FeatureTokenizer("8"), "FeatureTokenizer: size must be an int >= 1, got '8'"),
        (lambda: L.FeatureTokenizer(8, embedding="peri"), "unknown embedding 'peri'"),
        (
            lambda: L.FeatureTokenizer(8, embedding=L.LinearEmbedding(4)),
            "FeatureTokenizer: size is 8 and its embedding",
        ),
        (lambda: L.FeatureTokenizer(8, embedding="piecewise_linear_encoding"), "gives vectors of size 48"),
        (
            lambda: ts.Chain([L.FeatureTokenizer(8), L.Head()])(Shapes({"number": (3, 4)}), 1),
            r"takes rows of shape \(numbers,\), got \(3, 4\)",
        ),
        (lambda: L.CategoryEmbeding, "has no 'CategoryEmbeding'.*Did you mean 'CategoryEmbedding'"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_typed(make, message):
    with pytest.raises((ConfigError, AttributeError), match=message):
        make()


def test_attention_reads_tokens(copies):
    x = copies.rows_of(copies.NUMBERS)
    tokens = L.FeatureTokenizer(8)(ts.Input("number"))
    graph = ts.Graph(L.Head()(L.Flatten()(L.MultiheadAttention(2)(tokens))))
    assert graph(copies.NUMBERS, 2)(x).shape == (40, 2)
    assert torch.isfinite(graph(copies.NUMBERS, 2)(x)).all()
