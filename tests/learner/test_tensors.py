"""Several inputs, images and sequences in learners: fits, predictions row by row, files, validation, benchmarks."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import cross_val_score

import torchstrata as ts
from torchstrata.batches.padded import Inputs
from torchstrata.learner.tensors import encode, fit_encoder, lengths_of, shapes_of

L = ts.layers
RNG = np.random.default_rng(0)
N = 90
Y = RNG.integers(0, 2, N)


def series(label):
    steps = RNG.integers(3, 20)
    values = 0.2 * RNG.normal(size=(steps, 2))
    first, second = np.sort(RNG.choice(steps, 2, replace=False))
    values[[first, second], 0] += (2, -2) if label else (-2, 2)
    return values


SIGNALS = [series(label) for label in Y]
FRAME = pd.DataFrame({"signal": SIGNALS, "age": RNG.normal(size=N)})
MANY = {
    "number": RNG.normal(size=(N, 2)),
    "city": np.array(["a", "b", "c"] * (N // 3)),
    "image": (255 * RNG.random((N, 1, 6, 6))).astype(np.uint8),
    "vector": RNG.normal(size=(N, 3)).astype(np.float32),
    "text": [RNG.integers(50, 60, RNG.integers(0, 7)) for _ in range(N)],
}


def order_network(layer=None):
    layer = L.GRU(8) if layer is None else layer
    pooled = L.PoolSteps("last")(layer(ts.Input("signal")))
    return ts.Graph(L.Head()(L.Concat()(pooled, ts.Input("number"))))


def many_network():
    image = ts.Chain([L.Conv2d(2, 3), L.ReLU(), L.Flatten()], name="look")(ts.Input("image"))
    text = L.PoolSteps("max")(L.Embedding(4)(ts.Input("text")))
    city = L.Flatten()(L.Embedding(2, name="cities")(ts.Input("category")))
    return ts.Graph(L.Head()(L.Concat()(image, text, city, ts.Input("vector"), ts.Input("number"))))


def learner(network, **settings):
    return ts.TorchClassifier(network, **{"max_epochs": 3, "random_state": 0, **settings})


def rows(X, chosen):
    if isinstance(X, pd.DataFrame):
        return X.iloc[chosen]
    return {k: [v[i] for i in chosen] if isinstance(v, list) else v[chosen] for k, v in X.items()}


@pytest.mark.parametrize(
    ("X", "network"),
    [
        (FRAME, order_network()),
        (FRAME, order_network(L.LSTM(4, bidirectional=True))),
        (FRAME, order_network(ts.Chain([L.Linear(4), L.PositionalEncoding(), L.TransformerEncoderLayer(2)]))),
        (MANY, many_network()),
    ],
    ids=["gru", "both ways", "attention", "many"],
)
def test_a_row_is_predicted_by_itself(X, network, tmp_path):
    fitted = learner(network).fit(X, Y)
    wanted = fitted.decision_function(X)
    alone = [fitted.decision_function(rows(X, [i]))[0] for i in (0, 5, 17)]
    np.testing.assert_array_equal(alone, wanted[[0, 5, 17]])
    shuffled = RNG.permutation(N)
    np.testing.assert_array_equal(fitted.decision_function(rows(X, shuffled)), wanted[shuffled])
    for again in (ts.load(fitted.save(tmp_path / "learner")), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(again.decision_function(X), wanted)
    assert fitted.runtime_.reasons["steps"] == ("autograd", "sequences are padded")


def test_the_order_of_steps_is_learnt():
    task = ts.Task(FRAME.assign(y=Y), target="y")
    made = learner(order_network(), max_epochs=30, optimizer=ts.optim.Adam(lr=1e-2), valid=0.2, scoring="roc_auc",
                   early_stopping=ts.EarlyStopping(10), batch_size=16)  # fmt: skip
    made.fit(task)
    assert made.score(task, Y) > 0.8 and "valid_roc_auc" in made.history_
    result = ts.benchmark(task, made.set_params(max_epochs=2), cv=3, progress=False)
    assert not len(result.errors) and len(result.predictions) == N


def test_scikit_learn_splits_a_frame_of_arrays():
    assert len(cross_val_score(learner(order_network(), max_epochs=1), FRAME, Y, cv=3)) == 3


def test_a_list_of_sequences_is_one_input():
    network = ts.Graph(L.Head()(L.PoolSteps("last")(L.GRU(4)(ts.Input()))))
    made = learner(network).fit(SIGNALS, Y)
    wanted = made.decision_function(SIGNALS)
    assert made.feature_names_in_.tolist() == ["sequence"]
    np.testing.assert_array_equal(made.decision_function(SIGNALS[:1]), wanted[:1])
    np.testing.assert_array_equal(made.decision_function(SIGNALS[0][None]), wanted[:1])  # of one length: an array
    tensors = [torch.from_numpy(signal) for signal in SIGNALS]
    np.testing.assert_array_equal(made.decision_function(tensors), wanted)
    as_object = np.empty(N, dtype=object)
    as_object[:] = SIGNALS
    np.testing.assert_array_equal(made.decision_function(as_object), wanted)


def test_a_task_of_a_dict():
    task = ts.Task({**MANY, "y": Y}, target="y")
    assert "2 arrays" not in repr(task) and "3 arrays" in repr(task)
    result = ts.benchmark(task, learner(many_network(), max_epochs=1), cv=2, progress=False)
    assert not len(result.errors)


def test_images_of_bytes_are_divided_by_255():
    network = ts.Chain([L.Flatten(), L.Head()])
    made = learner(network, max_epochs=0).fit({"image": MANY["image"]}, Y)
    as_floats = learner(network, max_epochs=0).fit({"image": MANY["image"] / 255}, Y)
    np.testing.assert_allclose(
        made.decision_function({"image": MANY["image"]}), as_floats.decision_function({"image": MANY["image"] / 255})
    )
    with pytest.raises(ts.DataError, match="held bytes at fit"):
        made.predict({"image": MANY["image"] / 255})


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ({"a": [1, 2], "b": [3, 4]}, TypeError, r"X is a dict; pass pd.DataFrame\(X\)"),
        ({**MANY, "image": MANY["image"][:4]}, ts.DataError, "different numbers of rows"),
        ([[1.0], [2.0, 3.0]] * 45, ts.DataError, "rows 0 and 1 have lengths 1 and 2"),
        (FRAME.assign(signal=[*SIGNALS[:-1], None]), ts.DataError, "row 89 is None"),
        (FRAME.assign(signal=[[1, 2]] * N), ts.DataError, r"contains lists.*map\(np.asarray\)"),
    ],
)
def test_what_cannot_be_read_is_named(X, error, message):
    with pytest.raises(error, match=message):
        learner(order_network()).fit(X, Y)


def test_networks_for_tables_refuse_arrays():
    with pytest.raises(ts.ConfigError, match="rows of a table"):
        learner(ts.MLP()).fit(FRAME, Y)
    with pytest.raises(ts.DataError, match="column 'signal' holds arrays and encoder=None"):
        learner(order_network(), encoder=None).fit(FRAME, Y)


def test_rows_of_similar_length_meet():
    seen = []

    class Look(ts.Callback):
        def on_batch_end(self, state):
            lengths = [len(SIGNALS[i]) for i in state.rows]
            seen.append(max(lengths) - min(lengths))

    sampler = ts.LengthBucketBatchSampler(10, pool="all")
    learner(order_network(), batch_sampler=sampler, max_epochs=2, callbacks=[Look()]).fit(FRAME, Y)
    assert len(seen) == 18 and max(seen) <= 6
    task = ts.Task(FRAME.assign(y=Y), target="y", stratum="y")  # the stratum is for the split, the lengths for batches
    learner(order_network(), batch_sampler=sampler.replace(column="signal"), max_epochs=1, valid=0.2).fit(task)


def test_lengths_of_the_column_that_is_meant():
    frame = pd.DataFrame({"a": SIGNALS, "b": [s[:1] for s in SIGNALS]})
    sampler = ts.LengthBucketBatchSampler(8)
    assert lengths_of(frame[["a"]], sampler).tolist() == [len(s) for s in SIGNALS]
    assert lengths_of(frame, sampler.replace(column="b")).tolist() == [1] * N
    assert lengths_of(np.ones((3, 2)), sampler) is None
    with pytest.raises(ts.ConfigError, match=r"columns \['a', 'b'\] hold arrays; say column='a'"):
        lengths_of(frame, sampler)
    with pytest.raises(ts.ConfigError, match="no column of arrays is called 'c'"):
        lengths_of(frame, sampler.replace(column="c"))


def test_encoding():
    encoder = fit_encoder("auto", FRAME, Y)
    x = encode(encoder, FRAME, torch.float64)
    assert isinstance(x, Inputs) and dict(shapes_of(encoder, x)) == {"number": (1,), "signal": (None, 2)}
    picked = x.pick(torch.tensor([3]))
    assert picked["signal"].dtype == torch.float64
    np.testing.assert_array_equal(picked["signal"][0].numpy(), SIGNALS[3])
    vector = encode(fit_encoder("auto", pd.DataFrame({"v": list(MANY["vector"])}), Y),
                    pd.DataFrame({"v": list(MANY["vector"])}), torch.float32)  # fmt: skip
    np.testing.assert_array_equal(vector.numpy(), MANY["vector"])
