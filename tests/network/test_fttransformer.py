"""FT-Transformer: equal to the authors' module, and in learners."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError
from torchstrata.network.tabular import Outputs, build_network

SMALL = {"d_block": 16, "n_heads": 4, "attention_dropout": 0.2, "ffn_dropout": 0.1}


def theirs_of(shapes, n_outputs, n_blocks, settings):
    authors = pytest.importorskip("rtdl_revisiting_models")
    names = {"n_heads": "attention_n_heads", "d_hidden_multiplier": "ffn_d_hidden_multiplier"}
    given = {names.get(name, name): value for name, value in settings.items()}
    defaults = authors.FTTransformer.get_default_kwargs(n_blocks)
    return authors.FTTransformer(
        n_cont_features=shapes.get("number", (0,))[0],
        cat_cardinalities=list(shapes.levels) if "category" in shapes else [],
        d_out=n_outputs,
        **{**defaults, **given},
    )


def copy_weights(theirs, ours, copies):
    copies.set_(ours.tokens.row, theirs.cls_embedding.weight)
    if theirs.cont_embeddings is not None:
        copies.copy_affine(theirs.cont_embeddings, ours.tokens.numbers.linear)
    if theirs.cat_embeddings is not None:
        copies.set_(ours.tokens.categories.weight, torch.cat([e.weight for e in theirs.cat_embeddings.embeddings]))
        copies.set_(ours.tokens.categories.bias, theirs.cat_embeddings.bias)
    for block, mine in zip(theirs.backbone.blocks, ours.blocks, strict=True):
        attention = block["attention"]
        three = [attention.W_q, attention.W_k, attention.W_v]
        copies.set_(mine.attention.qkv.weight, torch.cat([layer.weight for layer in three]))
        copies.set_(mine.attention.qkv.bias, torch.cat([layer.bias for layer in three]))
        pairs = [(attention.W_out, mine.attention.out), (block["ffn"].linear1, mine.ffn.linear1)]
        pairs += [(block["ffn"].linear2, mine.ffn.linear2), (block["ffn_normalization"], mine.ffn_norm)]
        if "attention_normalization" in block:
            pairs.append((block["attention_normalization"], mine.attention_norm))
        for a, b in pairs:
            if a is not None:
                copies.copy_affine(a, b)
    copies.copy_affine(theirs.backbone.output.normalization, ours.norm)
    copies.copy_affine(theirs.backbone.output.linear, ours.head)


def pair(copies, table, n_outputs=3, n_blocks=2, **settings):
    shapes, given = copies.TABLES[table], {**SMALL, **settings}
    theirs = copies.shake(theirs_of(shapes, n_outputs, n_blocks, given))
    ours = ts.FTTransformer(n_blocks, **given)(shapes, n_outputs)
    copy_weights(theirs, ours, copies)
    return ours, theirs, copies.rows_of(shapes)


SETTINGS = [
    {},
    {"n_blocks": 1},
    {"n_blocks": 4, "n_outputs": 1},
    {"n_heads": 1},
    {"d_block": 24, "n_heads": 8, "d_hidden_multiplier": 0.7},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
@pytest.mark.parametrize("table", ["numbers", "mixed", "categories"])
def test_outputs_equal_the_authors(copies, table, settings):
    ours, theirs, x = pair(copies, table, **settings)
    wanted = theirs.eval()(*copies.parts_of(x))
    torch.testing.assert_close(ours.eval()(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("table", ["numbers", "mixed"])
def test_gradients_equal_the_authors(copies, table):
    ours, theirs, x = pair(copies, table, attention_dropout=0.0, ffn_dropout=0.0)
    for out in (ours(x), theirs(*copies.parts_of(x))):
        out.square().mean().backward()
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    wanted = ts.FTTransformer(2, **SMALL)(copies.TABLES[table], 3)
    copy_weights(theirs, wanted, copies)
    for (name, mine), of in zip(ours.named_parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, of.detach(), rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("n_blocks", range(1, 7))
def test_defaults_are_those_of_the_authors(copies, n_blocks):
    theirs = theirs_of(copies.MIXED, 2, n_blocks, {})
    ours = ts.FTTransformer(n_blocks)(copies.MIXED, 2)
    copy_weights(theirs, ours, copies)  # all shapes agree
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    drops = [m.p for m in theirs.modules() if isinstance(m, nn.Dropout) and m.p]
    assert [m.p for m in ours.modules() if isinstance(m, nn.Dropout)] == drops
    assert ours.blocks[0].attention.n_heads == theirs.backbone.blocks[0]["attention"]._n_heads


def test_initial_weights_are_those_of_the_authors(copies):
    theirs, ours = theirs_of(copies.MIXED, 2, 3, {}), ts.FTTransformer()(copies.MIXED, 2)
    wanted = ts.FTTransformer()(copies.MIXED, 2)
    copy_weights(theirs, wanted, copies)
    for (name, mine), of in zip(ours.named_parameters(), wanted.parameters(), strict=True):
        # the vectors of the three unknown categories of twelve are zero here, and random there
        std = of.std().item() * (0.866 if name == "tokens.categories.weight" else 1)
        assert mine.numel() < 100 or mine.std().item() == pytest.approx(std, rel=0.1), name


def test_weights_that_are_not_decayed_are_those_of_the_authors(copies):
    ours, theirs, _ = pair(copies, "mixed")
    groups = theirs.make_parameter_groups()
    decayed, rest = ours.parameter_groups()
    assert (rest["weight_decay_factor"], groups[1]["weight_decay"]) == (0.0, 0.0)
    assert sum(p.numel() for p in decayed["params"]) == sum(p.numel() for p in groups[0]["params"])
    assert sum(p.numel() for p in rest["params"]) == sum(p.numel() for p in groups[1]["params"])
    total = [sum(p.double().sum().item() for p in g) for g in (decayed["params"], groups[0]["params"])]
    assert total[0] == pytest.approx(total[1], rel=1e-6)


def test_the_last_block_computes_the_first_token_only(copies):
    net = ts.FTTransformer(1, **SMALL)(copies.MIXED, 2)
    tokens = net.tokens(copies.rows_of(copies.MIXED))
    block = net.blocks[0].eval()
    assert block(tokens).shape == (40, 7, 16)
    torch.testing.assert_close(block(tokens, first_only=True), block(tokens)[:, :1], rtol=1e-5, atol=1e-6)


def test_dropout_is_drawn_in_training_only(copies):
    net = ts.FTTransformer(2, residual_dropout=0.3, **SMALL)(copies.MIXED, 2)
    x = copies.rows_of(copies.MIXED)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("embedding", ["linear", "linear_relu", "periodic", "piecewise_linear"])
def test_numbers_may_be_embedded(copies, embedding):
    x = copies.rows_of(copies.MIXED)
    net = ts.FTTransformer(1, embedding=embedding, **SMALL)(copies.showing(copies.MIXED, x), 2)
    assert net.tokens.numbers(x["number"]).shape == (40, 3, 16)
    assert net(x).shape == (40, 2)


@pytest.mark.parametrize("embedding", [None, "piecewise_linear"])
def test_a_table_of_all_kinds_is_learnt_saved_and_loaded(tmp_path, embedding):
    generator = np.random.default_rng(0)
    n = 150
    table = pd.DataFrame(
        {
            "size": generator.normal(size=n),
            "age": np.where(generator.random(n) < 0.2, np.nan, generator.normal(size=n)),
            "city": pd.Categorical(generator.choice(["Rome", "Oslo", "Bonn"], n)),
            "owner": generator.random(n) < 0.5,
        }
    )
    y = (table["size"] + 2 * (table["city"] == "Rome") - 1.5 * table["owner"]).to_numpy()
    new = table.assign(city="Paris")  # not seen in training
    network = ts.FTTransformer(1, embedding=embedding, **{**SMALL, "attention_dropout": 0.0})
    settings = {"optimizer": ts.optim.AdamW(lr=0.01), "max_epochs": 20, "random_state": 0}
    for learner, target in ((ts.TorchRegressor, y), (ts.TorchClassifier, y > y.mean())):
        made = learner(network, **settings).fit(table, target)
        assert made.score(table, target) > 0.8
        loaded = ts.load(made.save(tmp_path / "learner"))
        for rows in (table, new):
            assert np.array_equal(loaded.predict(rows), made.predict(rows))
            assert np.array_equal(pickle.loads(pickle.dumps(made)).predict(rows), made.predict(rows))


def test_the_vector_of_an_unknown_category_stays_zero():
    table = pd.DataFrame({"a": ["x", "y"] * 20, "b": np.arange(40.0)})
    learner = ts.TorchClassifier(ts.FTTransformer(1, **SMALL), max_epochs=3).fit(table, np.arange(40) % 2)
    weight = learner.network_.tokens.categories.weight
    assert weight[0].abs().sum() == 0
    assert weight[1:].abs().sum() > 0


def test_head_has_no_bias_where_the_loss_ignores_a_shift(copies):
    assert ts.FTTransformer(1, **SMALL)(copies.NUMBERS, Outputs(1, bias=False)).head.bias is None


def test_names_and_settings_are_reached():
    assert len(build_network("FTTransformer", Shapes({"number": (3,)}), 1).blocks) == 3
    learner = ts.TorchClassifier("fttransformer").set_params(network__n_blocks=1, network__embedding="periodic")
    learner.set_params(network__embedding__n_frequencies=5)
    assert learner.network.embedding == ts.layers.PeriodicEmbedding(n_frequencies=5)
    X, y = load_iris(return_X_y=True)
    assert learner.set_params(max_epochs=1).fit(X, y).predict(X).shape == (150,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ts.FTTransformer(0), "FTTransformer: n_blocks must be an int >= 1, got 0"),
        (lambda: ts.FTTransformer(7), "d_block=None has a default for 1 to 6 blocks, got n_blocks=7: give d_block="),
        (lambda: ts.FTTransformer(d_block=20), "d_block must be a multiple of n_heads=8, got 20"),
        (lambda: ts.FTTransformer(n_heads=0), "n_heads must be an int >= 1"),
        (lambda: ts.FTTransformer(attention_dropout=1.5), r"attention_dropout must be in \[0, 1\), got 1.5"),
        (lambda: ts.FTTransformer(residual_dropout=None), r"residual_dropout must be in \[0, 1\), got None"),
        (lambda: ts.FTTransformer(d_hidden_multiplier=0), "d_hidden_multiplier must be a number that makes a width"),
        (lambda: ts.FTTransformer(embedding="perodic"), "unknown embedding 'perodic'. Did you mean 'periodic'"),
        (
            lambda: ts.FTTransformer(embedding=ts.layers.PeriodicEmbedding(24)),
            "d_block is 192 and its embedding .* gives vectors of size 24",
        ),
        (lambda: ts.FTTransformer(1)(Shapes({"image": (1, 8, 8)}), 2), "FTTransformer takes rows of a table"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_typed(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
