import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler, TargetEncoder

import torchstrata as ts
from torchstrata.learner.inputs import read_few, read_X
from torchstrata.learner.tensors import encode, fit_encoder, shapes_of

N = 60
RNG = np.random.default_rng(1)
TABLE = pd.DataFrame(
    {
        "size": np.where(np.arange(N) % 9 == 0, np.nan, RNG.normal(size=N)),
        "new": RNG.random(N) > 0.5,
        "city": RNG.choice(["Rome", "Oslo"], N),
        "day": pd.date_range("2020-01-01", periods=N),
    }
)
Y = np.where(TABLE["city"] == "Rome", 1, 0)


def learner(**settings):
    base = {"network": ts.MLP((6,)), "max_epochs": 3, "random_state": 0, "runtime": "cpu"}
    return ts.TorchClassifier(**{**base, **settings})


def test_a_mixed_table_is_learnt():
    fitted = learner(max_epochs=40, optimizer=ts.optim.AdamW(lr=0.02)).fit(TABLE, Y)
    assert fitted.score(TABLE, Y) == 1.0
    assert fitted.encoder_.shapes_ == {"number": (7,), "category": (1,)}
    new = TABLE[:3].assign(city=["Lima", None, "Rome"], size=[None, 1.0, 2.0])
    assert np.isfinite(fitted.decision_function(new)).all()
    assert fitted.predict(new)[2] == 1


def test_a_mixed_table_pandas_and_polars_are_equal():
    frame = pl.DataFrame({name: TABLE[name].to_list() for name in TABLE}).with_columns(pl.col("size").fill_nan(None))
    wanted = learner().fit(TABLE, Y).decision_function(TABLE)
    np.testing.assert_array_equal(learner().fit(frame, Y).decision_function(frame), wanted)
    np.testing.assert_array_equal(learner().fit(TABLE, Y).decision_function(frame), wanted)


def test_an_array_with_text():
    array = np.column_stack([np.arange(N).astype(object), TABLE["city"].to_numpy(dtype=object)])
    fitted = learner(max_epochs=40, optimizer=ts.optim.AdamW(lr=0.02)).fit(array, Y)
    assert fitted.encoder_.kinds_ == {"x0": "number", "x1": "category"}
    assert fitted.score(array, Y) == 1.0 and fitted.n_features_in_ == 2


@pytest.mark.parametrize("wrap", [torch.tensor, np.array, np.ma.array, list])
def test_missing_cells_are_filled_in_arrays_too(wrap):
    array = TABLE[["size", "new"]].to_numpy(dtype=float)
    given = wrap(array.tolist())
    np.testing.assert_allclose(
        learner().fit(given, Y).decision_function(given), learner().fit(array, Y).decision_function(array), atol=1e-6
    )


def test_masked_cells_are_missing():
    array = TABLE[["size", "new"]].to_numpy(dtype=float)
    masked = np.ma.array(np.nan_to_num(array, nan=99.0), mask=np.isnan(array))
    np.testing.assert_array_equal(
        learner().fit(masked, Y).decision_function(masked), learner().fit(array, Y).decision_function(array)
    )


def test_an_array_of_a_whole_table():
    """Dates and pd.NA in an array of Python objects are what they are in a table."""
    table = TABLE.astype({"new": "boolean"})
    table.loc[4, "new"] = pd.NA
    fitted = learner().fit(table.to_numpy(dtype=object), Y)
    assert list(fitted.encoder_.kinds_.values()) == ["number", "boolean", "category", "datetime"]
    np.testing.assert_array_equal(
        fitted.decision_function(table.to_numpy(dtype=object)), learner().fit(table, Y).decision_function(table)
    )


# encoders of scikit-learn


@pytest.mark.parametrize(
    "encoder",
    [
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), ["size", "new"]),
            (OneHotEncoder(sparse_output=False), ["city"]),
        ),
        make_column_transformer((TargetEncoder(), ["city"])),
        make_column_transformer((OneHotEncoder(sparse_output=False), ["city"])).set_output(transform="pandas"),
    ],
    ids=["columns", "target", "pandas-output"],
)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_any_transformer_is_an_encoder(encoder, library):
    table = TABLE if library == "pandas" else pl.DataFrame({name: TABLE[name].to_list() for name in TABLE})
    fitted = learner(encoder=encoder, max_epochs=60, optimizer=ts.optim.AdamW(lr=0.05)).fit(table, Y)
    assert fitted.score(table, Y) == 1.0
    assert fitted.encoder_ is not encoder and not hasattr(encoder, "transformers_")


def test_an_encoder_that_leaves_missing_values_is_named():
    with pytest.raises(ts.DataError, match=r"NaN or infinity after StandardScaler \(first in row 0\).*SimpleImputer"):
        learner(encoder=StandardScaler()).fit(TABLE[["size"]], Y)
    fitted = learner(encoder=StandardScaler()).fit(TABLE[["size"]].fillna(0.0), Y)
    with pytest.raises(ts.DataError, match=r"first in row 1"):
        fitted.predict(pd.DataFrame({"size": [1.0, np.nan]}))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (OneHotEncoder(), r"sparse rows; networks take dense ones \(sparse_output=False\)"),
        (SimpleImputer(strategy="most_frequent"), "the encoder returned .* values, networks take numbers"),
        (StandardScaler, "encoder must be 'auto', None or a scikit-learn transformer"),
        ("standard", "encoder must be 'auto'"),
    ],
)
def test_encoders_that_cannot_work(encoder, message):
    with pytest.raises(ts.ConfigError, match=message):
        learner(encoder=encoder).fit(TABLE[["city"]], Y)


def test_a_supervised_encoder_sees_training_rows_only():
    assert fit_encoder(TargetEncoder(), TABLE[["city"]], Y).transform(TABLE[["city"]]).shape == (N, 1)


def test_quantiles_and_no_encoder():
    array = RNG.normal(size=(N, 2))
    assert encode(fit_encoder(QuantileTransformer(n_quantiles=5), array, Y), array, torch.float32).shape == (N, 2)
    assert fit_encoder(None, array, Y) is None
    assert shapes_of(None, encode(None, array, torch.float64)) == {"number": (2,)}
    assert encode(None, array, torch.float64).dtype == torch.float64


# images and the like


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_more_dimensions_go_to_networks_for_them(dtype):
    images = (RNG.random((N, 1, 4, 4)) * 255).astype(dtype)
    images[:, 0, 0, 0] = Y * 200

    def network(shapes, n_outputs):
        assert shapes == {"image": (1, 4, 4)}
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, n_outputs))

    fitted = learner(network=network, max_epochs=2).fit(images, Y)
    assert fitted.predict(images).shape == (N,)
    big = images.astype(np.float64)
    big[7, 0, 0, 0] = 1e300
    with pytest.raises(ts.DataError, match=r"has values beyond float32 \(1e\+300 in row 7\)"):
        learner(network=network).fit(big, Y)
    big[7, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        learner(network=network).fit(big, Y)


# the reading itself


def test_reading_remembers_names_and_counts():
    made = learner()
    read_X(made, TABLE, reset=True)
    assert made.feature_names_in_.tolist() == list(TABLE) and made.n_features_in_ == 4
    read_X(made, RNG.normal(size=(5, 2)), reset=True)
    assert made.n_features_in_ == 2 and not hasattr(made, "feature_names_in_")


def test_one_row_is_enough_to_predict_and_too_few_to_fit():
    fitted = learner().fit(TABLE, Y)
    assert fitted.predict(TABLE[:1]).shape == (1,)
    with pytest.raises(ValueError, match="1 sample"):
        learner().fit(TABLE[:1], Y[:1])


def test_precision_float64_takes_what_float32_cannot():
    big = RNG.normal(size=(N, 2)) * 1e60
    with pytest.raises(ts.DataError, match=r"beyond float32.*precision='float64'"):
        learner(encoder=None).fit(big, Y)
    # for the encoder's sake numbers still stay within float32
    full = learner(encoder=StandardScaler(), runtime=ts.Runtime("cpu", precision="float64")).fit(big, Y)
    assert np.isfinite(full.decision_function(big)).all()


# a few rows by the short way


NUMBERS = pd.DataFrame(RNG.normal(size=(N, 5)), columns=list("abcde")).assign(c=1.0)


def by_the_long_way(fitted, x, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("torchstrata.learner.outputs.read_few", lambda learner, X: None)
        patch.setattr("torchstrata.data.encode.Encoder.transform_floats", lambda self, X: None)
        return fitted.decision_function(x)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("encoder", ["auto", None])
@pytest.mark.parametrize("frame", [True, False])
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65])
def test_the_short_way_gives_the_same_bits(n, frame, encoder, precision, monkeypatch):
    table = NUMBERS if frame else NUMBERS.to_numpy()
    fitted = learner(encoder=encoder, runtime=ts.Runtime("cpu", precision=precision)).fit(table, Y)
    new = pd.concat([NUMBERS, NUMBERS * 3])[:n]
    if encoder == "auto":
        new = new.mask(np.add.outer(np.arange(n), np.arange(5)) % 4 == 0)
    for x in (new if frame else new.to_numpy(), new.astype("float32") if frame else new.to_numpy(np.float32)):
        assert (read_few(fitted, x) is not None) == (n <= 64)
        np.testing.assert_array_equal(fitted.decision_function(x), by_the_long_way(fitted, x, monkeypatch))
    whole = fitted.decision_function(new if frame else new.to_numpy())
    for i in (0, n - 1):
        np.testing.assert_array_equal(
            fitted.decision_function(new[i : i + 1] if frame else new.to_numpy()[[i]]), whole[[i]]
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[list("bacde")],
        lambda t: t[list("abcd")],
        lambda t: t.assign(f=1.0),
        lambda t: t.assign(a="text"),
        lambda t: t.assign(a=np.inf),
        lambda t: t.assign(a=1e300),
        lambda t: t.to_numpy(),
        lambda t: t[:0],
        lambda t: t.astype("Float64"),
        lambda t: t.assign(b=True),
        lambda t: t.assign(a=1),
        lambda t: t.to_numpy()[0],
        lambda t: t.to_numpy()[None],
    ],
)
@pytest.mark.parametrize("encoder", ["auto", None])
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_what_is_wrong_or_special_is_what_it_was(change, encoder, monkeypatch):
    fitted = learner(encoder=encoder).fit(NUMBERS, Y)
    got = []
    for run in (fitted.decision_function, lambda x: by_the_long_way(fitted, x, monkeypatch)):
        try:
            got.append(run(change(NUMBERS[:3])))
        except (ValueError, TypeError) as error:
            got.append(np.array(f"{type(error).__name__}: {error}"))
    np.testing.assert_array_equal(*got)


def test_a_prediction_leaves_threads_and_generators_alone():
    class Draws(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(5, 1)

        def forward(self, x):
            return self.linear(x) + torch.rand(1)

    for network in (Draws(), ts.MLP((4,), dropout=0.5)):
        fitted = learner(network=network, encoder=None).fit(NUMBERS, Y)
        before = torch.get_rng_state()
        first = fitted.decision_function(NUMBERS[:1])
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        np.testing.assert_array_equal(fitted.decision_function(NUMBERS[:1]), first)
        assert not fitted.network_.training


def test_a_dict_of_inputs_is_asked_by_name():
    rng = np.random.default_rng(0)
    X = {"image": rng.normal(size=(20, 1, 4, 4)), "number": rng.normal(size=(20, 2)), "age": rng.normal(size=20)}
    both = ts.layers.Concat()(ts.layers.Flatten()(ts.Input("image")), ts.Input("number"))
    learner = ts.TorchClassifier(ts.Graph(ts.layers.Head()(both)), max_epochs=1).fit(X, np.arange(20) % 2)
    other = {name: X[name] for name in reversed(X)}
    assert np.array_equal(learner.predict_proba(other), learner.predict_proba(X))
    with pytest.raises(ValueError, match="now missing:\n- age"):
        learner.predict({name: X[name] for name in ("image", "number")})


def pooled():
    return ts.Graph(ts.layers.Head()(ts.layers.PoolSteps()(ts.Input("sequence"))))


def test_sequences_that_are_alike_by_chance():
    rows = [np.full((3, 2), float(i % 2)) for i in range(20)]
    y = np.arange(20) % 2
    learner = ts.TorchClassifier(pooled(), encoder=ts.Encoder(sequences=("sequence",)), max_epochs=1).fit(rows, y)
    assert learner.predict([np.ones((5, 2))]).shape == (1,)
    assert np.array_equal(learner.predict_proba([rows[0].tolist()]), learner.predict_proba(rows)[:1])
    flat = ts.Chain([ts.layers.Flatten(), ts.layers.Head()])  # else they are the rows of an array
    as_list, as_array = (
        ts.TorchClassifier(flat, max_epochs=1, random_state=0).fit(X, y) for X in (rows, np.stack(rows))
    )
    assert np.array_equal(as_list.predict_proba(rows), as_array.predict_proba(np.stack(rows)))
    with pytest.raises(ts.ConfigError, match=r"reads Input\('sequence'\) and the data have none. Known: 'tensor'"):
        ts.TorchClassifier(pooled()).fit(rows, y)


def test_ragged_lists_are_told_how_sequences_are_written():
    with pytest.raises(ts.DataError, match=r"rows 0 and 1 have lengths 1 and 2.*\[np.array\(row\) for row in X\]"):
        ts.TorchClassifier(pooled()).fit([[1.0], [1.0, 2.0]], [0, 1])
