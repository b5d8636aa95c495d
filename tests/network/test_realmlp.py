"""RealMLP: the authors' network (same weights, same outputs; same steps, same weights), and what is ours around it."""

from __future__ import annotations

import logging
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError
from torchstrata.network.realmlp import TangentLinear
from torchstrata.network.tabular import Outputs

SMALL = {"hidden": (16, 16), "n_frequencies": 4, "number_size": 3}
MIXED = Shapes({"number": (3,), "category": (3,)}, levels=(3, 5, 12))


def rows_of(shapes, n=40, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rows = {"number": torch.randn(n, shapes["number"][0], generator=draw)} if "number" in shapes else {}
    if "category" in shapes:
        columns = [torch.randint(1, levels, (n,), generator=draw) for levels in shapes.levels]
        rows["category"] = torch.stack(columns, 1)
    return rows


def build(shapes, n_outputs=1, rows=None, target=None, **settings):
    torch.manual_seed(0)
    with shapes.showing(rows, target) as shown:
        return ts.RealMLP(**{**SMALL, **settings})(shown, n_outputs)


# --- the authors' package


@pytest.fixture(scope="module")
def pytabkit():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("pytabkit")


def table(n=120, seed=3):
    """Numbers, a category of 2, one of 5 and one of 12 levels, all seen in every part of the rows."""
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "a": draw.normal(size=n),
            "b": draw.exponential(size=n),
            "zero": np.where(draw.random(n) < 0.8, 0.0, draw.normal(size=n)),
            "two": pd.Categorical(np.array(["n", "y"])[np.arange(n) % 2]),
            "five": pd.Categorical(np.array(list("pqrst"))[np.arange(n) % 5]),
            "many": pd.Categorical([f"level {i:02}" for i in np.arange(n) % 12]),
        }
    )


def data(which):
    if which == "mixed regression":
        X = table()
        return X, X["a"].to_numpy() + (np.arange(len(X)) % 5)
    if which == "mixed binary":
        X = table()
        return X, (X["a"] + (np.arange(len(X)) % 2) > 0.5).astype(int).to_numpy()
    if which == "only categories":
        X = table()[["two", "five", "many"]]
        return X, (np.arange(len(X)) % 3 == 0).astype(int)
    loader = {"binary": load_breast_cancer, "several classes": load_iris, "regression": load_diabetes}[which]
    return loader(return_X_y=True, as_frame=True)


CASES = ["binary", "several classes", "regression", "mixed binary", "mixed regression", "only categories"]


def kind_of(which):
    return "regression" if "regression" in which else "classification"


def fit_theirs(pytabkit, which, rows, *, epochs, **settings):
    X, y = data(which)
    name = "RealMLP_TD_Regressor" if kind_of(which) == "regression" else "RealMLP_TD_Classifier"
    made = getattr(pytabkit, name)(
        n_epochs=epochs, random_state=0, n_cv=1, n_refit=0, device="cpu", n_threads=1, verbosity=0, **settings
    )
    chosen = np.setdiff1d(np.arange(len(X)), rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made.fit(X, np.asarray(y, dtype=np.float32 if kind_of(which) == "regression" else int), val_idxs=chosen)


def weights_of_theirs(fitted, module):
    """The parameters of a fitted RealMLP of pytabkit, by the names of our module; of one network, as columns."""
    given = [(name.split(".")[-1], p.detach()[0]) for name, p in fitted.alg_interface_.model.model.named_parameters()]
    out = {}
    waves = {"weight_1": "frequency", "bias_1": "phase", "weight_2": "weight", "bias_2": "bias"}
    # of each column (frequencies, 1) and (size, frequencies), where theirs are the other way round
    out |= {f"columns.waves.{waves[name]}": p.mT for name, p in given if name in waves and p.numel()}
    vectors = [p for name, p in given if name == "emb"]
    out |= {"columns.vectors.weight": torch.cat(vectors)} if vectors else {}
    out["scale"] = next(p[0] for name, p in given if name == "scale")
    weights = [p for name, p in given if name == "weight" and p.shape[0] > 1]
    strengths = [p[0] for name, p in given if name == "weight" and p.shape[0] == 1]
    biases = [p[0] for name, p in given if name == "bias"]
    for i, strength in enumerate(strengths):
        out[f"hidden.{i}.activation.strength"] = strength
    places = [*(f"hidden.{i}.linear" for i in range(len(strengths))), "last"]
    for place, weight, bias in zip(places, weights, biases, strict=True):
        out |= {f"{place}.weight": weight.t(), f"{place}.bias": bias}
    assert set(out) == {name for name, _ in module.named_parameters()}
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in out.items()}


def learner_of(which):
    return ts.TorchRegressor if kind_of(which) == "regression" else ts.TorchClassifier


def predictions(fitted, X, which):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lightning
        answer = fitted.predict(X) if kind_of(which) == "regression" else fitted.predict_proba(X)
    return np.asarray(answer, dtype=float)


@pytest.mark.parametrize("which", CASES)
def test_with_the_authors_weights_the_outputs_are_theirs(pytabkit, which):
    X, y = data(which)
    rows = np.arange(len(X))[: len(X) * 4 // 5]
    theirs = fit_theirs(pytabkit, which, rows, epochs=3, batch_size=32, hidden_sizes=[32, 24])
    ours = learner_of(which)(ts.RealMLP(hidden=(32, 24)), encoder=ts.Encoder(), max_epochs=0, random_state=0)
    ours.fit(X.iloc[rows], np.asarray(y)[rows])
    weights = weights_of_theirs(theirs, ours.network_)
    before = predictions(ours, X, which)
    ours.network_.load_state_dict({**ours.network_.state_dict(), **weights})
    expected = predictions(theirs, X, which)
    assert np.abs(before - expected).max() > 0.01
    np.testing.assert_allclose(predictions(ours, X, which), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", ["mixed binary", "several classes", "mixed regression"])
def test_the_same_steps_lead_to_the_authors_weights(pytabkit, which, monkeypatch):
    """All rows in one batch, no dropout: factors, schedules, decay and smoothing are all that is left."""
    from pytabkit.models.training.lightning_modules import Metrics

    monkeypatch.setattr(Metrics, "apply", staticmethod(lambda *args, **kwargs: torch.tensor(0.0)))  # keeps the last
    X, y = data(which)
    rows = np.arange(len(X))[: len(X) * 4 // 5]
    given = {"batch_size": len(rows), "hidden_sizes": [24, 24], "p_drop": 0.0}
    # the first step has a learning rate of zero: one epoch of one batch leaves the initial weights
    start = fit_theirs(pytabkit, which, rows, epochs=1, **given)
    end = fit_theirs(pytabkit, which, rows, epochs=12, **given)
    blueprint = ts.RealMLP(hidden=(24, 24), dropout=0.0)

    def network(shapes, n_outputs):
        module = blueprint(shapes, n_outputs)
        module.load_state_dict({**module.state_dict(), **weights_of_theirs(start, module)})
        return module

    recipe = {**ts.recipes.realmlp(kind_of(which), valid=None), "network": network, "max_epochs": 12}
    ours = learner_of(which)(**{**recipe, "batch_size": "all"}, random_state=0)
    ours.fit(X.iloc[rows], np.asarray(y)[rows])
    for name, expected in weights_of_theirs(end, ours.network_).items():
        found = ours.network_.state_dict()[name]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    np.testing.assert_allclose(predictions(ours, X, which), predictions(end, X, which), rtol=1e-3, atol=1e-4)


# --- the network


@pytest.mark.parametrize(
    ("shapes", "width"),
    [
        (Shapes({"number": (3,)}), 9),
        (Shapes({"category": (1,)}, levels=(3,)), 1),
        (MIXED, 9 + 1 + 4 + 8),  # one column for two levels, one a level for four, a vector for eleven
    ],
)
@pytest.mark.parametrize("n_outputs", [Outputs(1, link="logit"), Outputs(3, link="softmax"), Outputs(2)])
def test_shapes(shapes, width, n_outputs):
    rows = rows_of(shapes)
    module = build(shapes, n_outputs, rows)
    x = rows["number"] if list(shapes) == ["number"] else rows
    assert module.columns.width == module.scale.numel() == width
    assert module(x).shape == module.eval()(x).shape == (40, n_outputs)


def test_the_activation_follows_the_kind_of_output():
    names = {link: build(MIXED, Outputs(1, link=link)).hidden[0].activation.name for link in ("logit", "identity")}
    assert names == {"logit": "selu", "identity": "mish"}
    assert build(MIXED, Outputs(1), activation="relu").hidden[0].activation.name == "relu"


def test_initial_values_come_from_the_rows():
    """Each unit varies by one and is zero within the rows; the same shapes without rows."""
    rows = rows_of(MIXED, n=500)
    module = build(MIXED, Outputs(3, link="softmax"), rows)
    with torch.no_grad():
        h = module.columns(rows)
        for layer in module.hidden:
            before = layer.linear(h)
            torch.testing.assert_close(before.std(0, correction=0), torch.ones(16), rtol=1e-4, atol=1e-4)
            assert (before.amin(0) <= 1e-5).all()
            assert (before.amax(0) >= -1e-5).all()
            h = layer.activation(before)
    empty = build(MIXED, Outputs(3, link="softmax"))
    assert {n: t.shape for n, t in empty.state_dict().items()} == {n: t.shape for n, t in module.state_dict().items()}
    empty.load_state_dict(module.state_dict())
    assert torch.equal(empty.eval()(rows), module.eval()(rows))


def test_initial_values_of_rows_that_do_not_vary_are_finite():
    rows = {"number": torch.ones(5, 3)}
    assert all(torch.isfinite(p).all() for p in build(Shapes({"number": (3,)}), 1, rows).parameters())


def test_few_of_many_rows_are_enough(monkeypatch):
    from torchstrata.network import realmlp

    monkeypatch.setattr(realmlp, "INIT_ROWS", 300)
    seen = []
    monkeypatch.setattr(TangentLinear, "set_initial", lambda self, x: (seen.append(len(x)), self(x))[1])
    build(MIXED, 1, rows_of(MIXED, n=2000))
    assert seen == [300, 300, 300]


def test_predictions_of_numbers_stay_within_the_targets_seen():
    rows, target = rows_of(MIXED), torch.linspace(-1, 2, 40, dtype=torch.float64)
    module = build(MIXED, Outputs(1), rows, target)
    free = build(MIXED, Outputs(1), rows, target, clamp=False)
    with torch.no_grad():
        module.last.weight.mul_(100), free.last.weight.mul_(100)
        free.load_state_dict(module.state_dict(), strict=False)
        inside, outside = module.eval()(rows), free.eval()(rows)
    assert (inside.amin(), inside.amax()) == (-1, 2)
    assert outside.amin() < -1 and outside.amax() > 2
    assert torch.equal(inside, outside.clamp(-1, 2))
    assert module.train()(rows).abs().amax() > 2
    two = build(MIXED, Outputs(2), rows, target)  # mean and variance: only the mean has a range
    assert two.low.tolist() == [-1, -np.inf]
    assert two.high.tolist() == [2, np.inf]


def test_groups_hold_every_parameter_once():
    module = build(MIXED, 1)
    given = [id(p) for group in module.parameter_groups() for p in group["params"]]
    assert sorted(given) == sorted(id(p) for p in module.parameters())


def test_a_loss_that_ignores_shifts_gets_no_bias():
    module = build(MIXED, Outputs(1, bias=False, link="none"), rows_of(MIXED))
    assert module.last.bias is None
    assert module(rows_of(MIXED)).shape == (40, 1)
    assert len(module.parameter_groups()) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (0,)}, "hidden must be widths >= 1"),
        ({"hidden": 1.5}, "hidden must be widths >= 1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"number_size": 1}, "number_size must be an int >= 2"),
        ({"frequency_scale": 0}, "frequency_scale must be a positive number"),
        ({"activation": "mash"}, "Did you mean 'mish'"),
        ({"activation": torch.nn.ReLU}, "activation must be a name"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        ts.RealMLP(**settings)


def test_images_are_refused():
    with pytest.raises(ConfigError, match="rows of a table"):
        ts.RealMLP()(Shapes({"image": (1, 8, 8)}), 1)


# --- in a learner


def messy(n=90, seed=0):
    draw = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "number": draw.normal(size=n),
            "missing": np.where(draw.random(n) < 0.3, np.nan, draw.normal(size=n)),
            "bool": draw.random(n) < 0.5,
            "city": pd.Categorical(draw.choice(["Oslo", "Rome", "Bonn"], n)),
            "code": [f"c{i}" for i in draw.integers(20, size=n)],
        }
    )
    X.loc[::9, "city"] = None
    return X, (X["number"] + X["bool"] > 0.5).astype(int)


def small(kind="classification", **more):
    learner = ts.TorchClassifier if kind == "classification" else ts.TorchRegressor
    return learner(ts.RealMLP(**SMALL), max_epochs=3, random_state=0, **more)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_columns_of_all_kinds_save_load_and_pickle(kind, tmp_path):
    X, y = messy()
    learner = small(kind).fit(X, y)
    strange = X.assign(city="Paris", code="never seen")
    expected = [learner.predict(rows) for rows in (X, strange)]
    learner.save(tmp_path / "learner")
    for twin in (ts.load(tmp_path / "learner"), pickle.loads(pickle.dumps(learner))):
        for rows, answer in zip((X, strange), expected, strict=True):
            assert np.array_equal(twin.predict(rows), answer)
    assert learner._shapes.rows is None
    assert learner.encoder_.shapes_.rows is None
    assert learner.encoder_.shapes_.target is None


def test_settings_are_reached_by_name():
    learner = ts.TorchClassifier(**ts.recipes.realmlp("classification"))
    learner.set_params(network__hidden=(8,), network__dropout=0.0, schedule__lr__cycles=2, optimizer__no_decay="auto")
    assert learner.network == ts.RealMLP(hidden=(8,), dropout=0.0)
    assert learner.schedule.lr == ts.schedules.CosLog(2)
    assert learner.get_params()["network__n_frequencies"] == 16


def test_the_layers_keep_their_dropout():
    X, y = messy()
    learner = small(schedule=ts.schedules.Combined(dropout=ts.schedules.FlatCos())).fit(X, y)
    assert [layer.dropout.p for layer in learner.network_.hidden] == [0.15, 0.15]


def test_many_at_once_are_the_same_as_one_by_one():
    """Initial values differ from fold to fold, and groups of parameters train alone, with the reason."""
    from torchstrata.learner.many import fit_many

    X, y = messy()
    rows = [np.arange(60), np.arange(30, 90), np.arange(0, 90, 2)]
    learners = [small() for _ in rows]
    done = fit_many(learners, [{"X": X.iloc[r], "y": y.iloc[r]} for r in rows])
    assert [one.error for one in done] == [None] * 3
    for learner, r in zip(learners, rows, strict=True):
        alone = small().fit(X.iloc[r], y.iloc[r])
        assert "own learning rate" in learner.runtime_.reasons["vectorize"][1]
        assert np.array_equal(alone.predict_proba(X), learner.predict_proba(X))


def test_rows_of_weight_zero_set_no_initial_values():
    X, y = messy()
    weight = (np.arange(len(X)) >= 30).astype(float)
    shown = []

    def network(shapes, n_outputs):
        shown.append({name: len(value) for name, value in shapes.rows.items()} | {"target": len(shapes.target)})
        return ts.RealMLP(**SMALL)(shapes, n_outputs)

    ts.TorchClassifier(network, max_epochs=1, random_state=0).fit(X, y, sample_weight=weight)
    assert shown == [{"number": 60, "category": 60, "target": 60}]


@pytest.mark.slow
def test_the_recipe_learns():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    odd = np.arange(len(X)) % 2 == 1
    recipe = {**ts.recipes.realmlp("classification"), "max_epochs": 30, "batch_size": 64}
    assert ts.TorchClassifier(**recipe, random_state=0).fit(X[odd], y[odd]).score(X[~odd], y[~odd]) > 0.93
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    odd = np.arange(len(X)) % 2 == 1
    recipe = {**ts.recipes.realmlp("regression"), "max_epochs": 40, "batch_size": 64}
    assert ts.TorchRegressor(**recipe, random_state=0).fit(X[odd], y[odd]).score(X[~odd], y[~odd]) > 0.3
