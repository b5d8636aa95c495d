"""TabM: equal to the authors' module, and what its members are for."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from torch import nn

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError
from torchstrata.network.columns import ColumnAffine, ColumnWaves
from torchstrata.network.tabm import MemberScale, SharedLinear
from torchstrata.network.tabular import Outputs, build_network

ARCHES = ["tabm", "tabm-mini", "tabm-packed"]
SMALL = {"d_block": 12, "k": 4, "n_blocks": 2}


def theirs_of(shapes, n_outputs, embedding=None, **settings):
    tabm = pytest.importorskip("tabm")
    levels = list(shapes.levels) if "category" in shapes else None
    n_numbers = shapes.get("number", (0,))[0]
    names = {"arch": "arch_type", "init": "start_scaling_init"}
    given = {names.get(key, key): value for key, value in settings.items()}
    if "activation" in given:
        given["activation"] = given["activation"].__name__  # theirs are named as torch's
    made = tabm.TabM.make(
        n_num_features=n_numbers, cat_cardinalities=levels, d_out=n_outputs, num_embeddings=embedding, **given
    )
    if n_numbers == 0:  # theirs leaves categories alone as integers, which no packed layer takes
        made.cat_module.register_forward_hook(lambda module, given, out: out.float())
    return made


def keeps(shapes, size):
    """Say which of the authors' inputs are ours: theirs have a column for unknown categories, which is always zero."""
    kept = [True] * (shapes.get("number", (0,))[0] * size)
    for n in shapes.levels if "category" in shapes else ():
        kept += [False] + [True] * (n - 1)
    return torch.tensor(kept)


def copy_weights(theirs, ours, kept, copies):
    linear = [m for m in ours.blocks if isinstance(m, nn.Linear | SharedLinear) or type(m).__name__ == "MemberLinear"]
    for i, (block, mine) in enumerate(zip(theirs.backbone.blocks, linear, strict=True)):
        wide = kept if i == 0 else slice(None)
        packed = type(mine).__name__ == "MemberLinear"
        weight = block[0].weight
        copies.set_(mine.weight, weight[:, wide] if packed or i == 0 else weight)
        copies.set_(mine.bias, block[0].bias)
        if isinstance(mine, SharedLinear):
            copies.set_(mine.r, block[0].r[:, wide])
            copies.set_(mine.s, block[0].s)
    if isinstance(ours.blocks[0], MemberScale):
        copies.set_(ours.blocks[0].weight, theirs.backbone.affine.weight[:, kept])
    copies.set_(ours.head.weight, theirs.output.weight)
    copies.set_(ours.head.bias, theirs.output.bias)


def pair(copies, table, n_outputs=3, embedding=None, **settings):
    """Make our network and theirs with the same weights, and rows that have no unknown category."""
    shapes = copies.TABLES[table]
    x = copies.rows_of(shapes)
    if isinstance(x, dict):
        x["category"].clamp_(min=1)
    blueprint = ts.TabM(embedding=embedding, **{**SMALL, **settings})
    ours = blueprint(copies.showing(shapes, x), Outputs(n_outputs, link="softmax"))
    module = embed(copies, blueprint.embedding, ours, shapes)
    theirs = copies.shake(theirs_of(shapes, n_outputs, module, **{**SMALL, **settings}))
    kept = keeps(shapes, blueprint.embedding.width if blueprint.embedding else 1)
    copy_weights(theirs, ours, kept, copies)
    if module is not None:
        copies.copy_embedding(theirs.num_module, ours.flat.embedding)
    return ours, theirs, x


def embed(copies, embedding, ours, shapes):
    if embedding is None or "number" not in shapes:
        return None
    e = pytest.importorskip("rtdl_num_embeddings")
    n = shapes["number"][0]
    if isinstance(embedding, ts.layers.PeriodicEmbedding):
        return e.PeriodicEmbeddings(n, embedding.width, n_frequencies=embedding.n_frequencies, lite=embedding.lite)
    if isinstance(embedding, ts.layers.LinearEmbedding):
        return e.LinearReLUEmbeddings(n, embedding.width)
    bins = copies.bins_of(ours.flat.embedding.bins)
    return e.PiecewiseLinearEmbeddings(bins, embedding.width, activation=False, version="B")


EMBEDDINGS = [
    None,
    ts.layers.LinearEmbedding(5, activation="relu"),
    ts.layers.PeriodicEmbedding(6, n_frequencies=4),
    ts.layers.PeriodicEmbedding(6, n_frequencies=4, lite=True),
    ts.layers.PiecewiseLinearEmbedding(4, n_bins=6),
]


CASES = [
    (arch, table, embedding)
    for arch in ARCHES
    for table in ("numbers", "mixed", "categories")
    for embedding in (EMBEDDINGS if table != "categories" else [None])
]


@pytest.mark.filterwarnings("ignore:The .-th feature has just two bin edges")
@pytest.mark.parametrize(("arch", "table", "embedding"), CASES, ids=str)
def test_outputs_equal_the_authors(copies, arch, table, embedding):
    ours, theirs, x = pair(copies, table, arch=arch, embedding=embedding, dropout=0.0)
    number, category = copies.parts_of(x)
    got, wanted = ours.train()(x), theirs(number, category)
    assert got.shape == (40, 4, 3)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    mean = wanted.softmax(-1).mean(1)
    torch.testing.assert_close(ours.eval()(x).softmax(-1), mean, rtol=1e-5, atol=1e-6)


SETTINGS = [
    {"n_blocks": 1, "k": 1},
    {"n_blocks": 4, "activation": nn.SiLU},
    {"n_outputs": 1, "k": 7},
    {"dropout": 0.5},
    {"init": "normal"},
]


@pytest.mark.parametrize(
    ("arch", "settings"), [(a, s) for a in ARCHES for s in SETTINGS[: 4 if "packed" in a else 5]], ids=str
)
def test_other_settings_equal_the_authors(copies, arch, settings):
    ours, theirs, x = pair(copies, "mixed", arch=arch, **settings)
    for module in (ours, theirs):  # without dropout, but with all members
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
    number, category = copies.parts_of(x)
    torch.testing.assert_close(ours(x), theirs(number, category), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHES)
def test_gradients_equal_the_authors(copies, arch):
    ours, theirs, x = pair(copies, "mixed", arch=arch, dropout=0.0)
    number, category = copies.parts_of(x)
    target = torch.randint(3, (40,), generator=torch.Generator().manual_seed(0))
    for out in (ours(x), theirs(number, category)):
        nn.functional.cross_entropy(out.flatten(0, 1), target.repeat_interleave(4)).backward()
    grads = copy.deepcopy(ours)
    copy_grads(theirs, grads, keeps(copies.MIXED, 1), copies)
    for (name, mine), wanted in zip(ours.named_parameters(), grads.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.detach(), rtol=1e-5, atol=1e-6, msg=name)


def copy_grads(theirs, into, kept, copies):
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    copy_weights(theirs, into, kept, copies)


@pytest.mark.parametrize("arch", ARCHES)
def test_initial_weights_are_those_of_the_authors(copies, arch):
    """Of the same size and spread, layer by layer; by how much they may differ by chance follows from their number."""
    shapes = Shapes({"number": (60,)})
    ours, theirs = ts.TabM(arch=arch)(shapes, 5), theirs_of(shapes, 5, arch=arch)
    got, wanted = (sorted((p.numel(), p.std().item()) for p in m.parameters()) for m in (ours, theirs))
    assert [size for size, _ in got] == [size for size, _ in wanted]
    np.testing.assert_allclose([std for _, std in got], [std for _, std in wanted], rtol=0.08, atol=0.003)


def test_factors_of_one_column_begin_equal(copies):
    net = ts.TabM(embedding=ts.layers.LinearEmbedding(5), **SMALL)(copies.MIXED, 1)
    r, start = net.blocks[0].r, 0
    assert net.flat.sizes == [5, 5, 5, 3, 1, 5]
    for size in net.flat.sizes:
        part = r[:, start : start + size]
        assert (part == part[:, :1]).all()
        start += size
    assert start == r.shape[1]
    assert set(ts.TabM(**SMALL)(copies.NUMBERS, 1).blocks[0].r.unique().tolist()) == {-1.0, 1.0}
    assert len(ts.TabM(init="normal", **SMALL)(copies.NUMBERS, 1).blocks[0].r.unique()) == 20


def test_defaults_are_those_of_the_authors(copies):
    theirs = theirs_of(copies.NUMBERS, 2)
    ours = ts.TabM()(copies.NUMBERS, 2)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    drops = [(m.p, type(m.p)) for m in theirs.modules() if isinstance(m, nn.Dropout)]
    assert drops == [(m.p, type(m.p)) for m in ours.modules() if isinstance(m, nn.Dropout)]
    assert (
        len([m for m in ts.TabM(embedding="periodic")(copies.NUMBERS, 2).modules() if isinstance(m, SharedLinear)]) == 2
    )
    assert len([m for m in ours.modules() if isinstance(m, SharedLinear)]) == 3


# --- members


def test_members_are_told_apart_and_averaged(copies):
    x = copies.rows_of(copies.NUMBERS)
    for link, predict in {
        "logit": torch.sigmoid,
        "log": torch.exp,
        "identity": lambda z: z,
        "none": lambda z: z,
    }.items():
        net = copies.shake(ts.TabM(**{**SMALL, "dropout": 0.0})(copies.NUMBERS, Outputs(1, link=link)))
        assert net.members == 4
        each = net.train()(x)
        assert each.std(1).min() > 0
        torch.testing.assert_close(predict(net.eval()(x)), predict(each).mean(1), rtol=1e-5, atol=1e-6)


def test_weights_that_are_not_decayed_are_those_of_the_authors(copies):
    """Biases, linear embeddings and frequencies: default_zero_weight_decay_condition, lib/deep.py of the paper."""
    for embedding in ("linear_relu", "periodic", "piecewise_linear"):
        net = ts.TabM(embedding=embedding, **SMALL)(copies.MIXED, 1)
        decayed, rest = net.parameter_groups()
        assert rest["weight_decay_factor"] == 0.0
        assert len(decayed["params"]) + len(rest["params"]) == len(list(net.parameters()))
        spared = {id(p) for p in rest["params"]}
        for name, parameter in net.named_parameters():
            of = net.get_submodule(name.rpartition(".")[0])
            expected = name.endswith("bias") or isinstance(of, ColumnAffine | ColumnWaves)
            assert (id(parameter) in spared) is expected, name


def test_no_bias_at_the_end_where_the_loss_ignores_a_shift(copies):
    assert ts.TabM(**SMALL)(copies.NUMBERS, Outputs(1, bias=False)).head.bias is None


def test_unknown_categories_are_zeros(copies):
    net = ts.TabM(**SMALL)(copies.MIXED, 1)
    flat = net.flat({"number": torch.ones(1, 3), "category": torch.tensor([[0, 1, 5]])})
    assert flat.tolist() == [[1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1]]


# --- in learners


def table_and_target(n=120):
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "size": generator.normal(size=n),
            "age": np.where(generator.random(n) < 0.2, np.nan, generator.normal(size=n)),
            "city": pd.Categorical(generator.choice(["Rome", "Oslo", "Bonn"], n)),
            "note": np.where(generator.random(n) < 0.2, None, generator.choice(["a", "b"], n)),
            "owner": generator.random(n) < 0.5,
        }
    )
    signal = table["size"] + 2 * (table["city"] == "Rome") - 1.5 * table["owner"]
    return table, signal.to_numpy() + 0.1 * generator.normal(size=n)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("embedding", [None, "piecewise_linear"])
def test_a_table_of_all_kinds_is_learnt_saved_and_loaded(tmp_path, arch, embedding):
    table, y = table_and_target()
    network = ts.TabM(2, d_block=24, k=4, arch=arch, embedding=embedding)
    settings = {"optimizer": ts.optim.AdamW(lr=0.01), "max_epochs": 20, "random_state": 0}
    new = table.copy()
    new["city"] = "Paris"  # not seen in training
    for learner, target in ((ts.TorchRegressor, y), (ts.TorchClassifier, (y > y.mean()).astype(str))):
        made = learner(network, **settings).fit(table, target)
        assert made.score(table, target) > 0.8
        loaded = ts.load(made.save(tmp_path / "learner"))
        for rows in (table, new):
            assert np.array_equal(loaded.predict(rows), made.predict(rows))
            assert np.array_equal(pickle.loads(pickle.dumps(made)).predict(rows), made.predict(rows))


def test_probabilities_are_the_mean_of_the_members():
    X, y = load_wine(return_X_y=True)
    learner = ts.TorchClassifier(ts.TabM(1, d_block=16, k=4), max_epochs=5, random_state=0).fit(X, y)
    rows = torch.from_numpy(learner.encoder_.transform(X)["number"]).float()
    net = copy.deepcopy(learner.network_)
    for part in net.modules():
        part.training = not isinstance(part, nn.Dropout)
    with torch.no_grad():
        wanted = net(rows).softmax(-1).mean(1)
    np.testing.assert_allclose(learner.predict_proba(X), wanted.numpy(), atol=1e-5)


def test_each_member_has_its_own_loss():
    """The first update of the learner is that of a plain loop over members."""
    X, y = load_diabetes(return_X_y=True)
    learner = ts.TorchRegressor(
        ts.TabM(1, d_block=8, k=3, dropout=0.0),
        optimizer=ts.optim.SGD(lr=0.1),
        batch_size="all",
        max_epochs=1,
        random_state=0,
    )
    start = copy.deepcopy(learner).set_params(max_epochs=0).fit(X, y)
    fitted = learner.fit(X, y)
    rows = torch.from_numpy(start.encoder_.transform(X)["number"]).float()
    target = torch.from_numpy((y - y.mean()) / y.std()).float()
    net = start.network_.train()
    loss = sum(((net(rows)[:, i, 0] - target) ** 2).mean() for i in range(3)) / 3
    loss.backward()
    for name, parameter in net.named_parameters():
        wanted = parameter.detach() - 0.1 * parameter.grad
        torch.testing.assert_close(fitted.network_.get_parameter(name), wanted, rtol=1e-4, atol=1e-6, msg=name)


def test_names_and_settings_are_reached():
    assert build_network("TabM", Shapes({"number": (3,)}), 1).members == 32
    learner = ts.TorchClassifier("tabm").set_params(network__k=3, network__embedding="periodic")
    learner.set_params(network__embedding__n_frequencies=2)
    assert learner.network == ts.TabM(k=3, embedding=ts.layers.PeriodicEmbedding(n_frequencies=2))
    assert learner.get_params()["network__embedding__n_frequencies"] == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ts.TabM(0), "TabM: n_blocks must be an int >= 1, got 0"),
        (lambda: ts.TabM(d_block="512"), "TabM: d_block must be an int >= 1, got '512'"),
        (lambda: ts.TabM(k=True), "TabM: k must be an int >= 1, got True"),
        (lambda: ts.TabM(dropout=1), r"TabM: dropout must be in \[0, 1\), got 1"),
        (lambda: ts.TabM(arch="tabm-mni"), "unknown arch 'tabm-mni'. Did you mean 'tabm-mini'"),
        (lambda: ts.TabM(init="random_signs"), "unknown init 'random_signs'. Did you mean 'random-signs'"),
        (lambda: ts.TabM(arch="tabm-packed", init="normal"), "has no factors, so init must be None"),
        (lambda: ts.TabM(activation="ReLU"), "TabM: unknown activation 'ReLU'. Did you mean 'relu'"),
        (lambda: ts.TabM(embedding="ple"), "TabM: unknown embedding 'ple'"),
        (lambda: ts.TabM()(Shapes({"image": (1, 8, 8)}), 2), "TabM takes rows of a table.*Found array with dim > 2"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_typed(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_an_optimizer_without_decay_needs_no_groups():
    """LBFGS takes none."""
    X, y = load_wine(return_X_y=True)
    network = ts.TabM(1, d_block=8, k=3, dropout=0.0)
    learner = ts.TorchClassifier(network, optimizer=ts.optim.LBFGS(), batch_size="all", max_epochs=3, random_state=0)
    assert learner.fit(X, y).score(X, y) > 0.95


@pytest.mark.parametrize("loss", ["poisson", "gaussian_nll", "huber"])
def test_losses_of_numbers_take_members(loss):
    X, y = load_diabetes(return_X_y=True)
    learner = ts.TorchRegressor(ts.TabM(1, d_block=16, k=3), loss=loss, max_epochs=2, random_state=0).fit(X, y)
    assert learner.predict(X).shape == (442,)
    assert np.isfinite(learner.predict(X)).all()


def test_a_loss_that_ranks_and_scores_of_training_take_members():
    X, y = load_breast_cancer(return_X_y=True)
    learner = ts.TorchClassifier(
        ts.TabM(1, d_block=16, k=3), loss="aum", scoring=("roc_auc",), valid=0.3, max_epochs=8, random_state=0
    ).fit(X, y)
    assert learner.history_["train_roc_auc"].iloc[-1] > 0.9
    assert learner.history_["valid_roc_auc"].iloc[-1] > 0.9


def test_the_same_seed_makes_the_same_fit():
    X, y = load_breast_cancer(return_X_y=True)
    fits = [ts.TorchClassifier(ts.TabM(1, d_block=8, k=3), max_epochs=2, random_state=s).fit(X, y) for s in (0, 0, 1)]
    outputs = [fit.decision_function(X) for fit in fits]
    assert np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_modules_are_copied_and_written(copies):
    net = ts.TabM(embedding="piecewise_linear", **SMALL)(copies.showing(copies.MIXED, copies.rows_of(copies.MIXED)), 2)
    x = copies.rows_of(copies.MIXED)
    wanted = net.eval()(x)
    assert torch.equal(copy.deepcopy(net)(x), wanted)
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    other = ts.TabM(embedding="piecewise_linear", **SMALL)(copies.MIXED, 2).eval()
    other.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    assert torch.equal(other(x), wanted)
