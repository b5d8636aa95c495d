"""Many networks in one program are what each would be alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from torch import nn

import torchstrata as ts
from torchstrata.learner.many import fit_many
from torchstrata.training import many

DOUBLE = ts.Runtime("cpu", precision="float64")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(130, 6))
Y = (X[:, 0] - X[:, 1] + RNG.normal(size=130) > 0.3).astype(int)
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
NORMALISED = ts.losses.aum(normalize=True)
LOSSES = [
    "cross_entropy",
    ts.losses.cross_entropy(label_smoothing=0.2),
    "aum",
    ts.losses.aum(margin=1.0),
    NORMALISED,
    "pairwise_squared_hinge",
    "pairwise_logistic",
    "auc_margin",
    "focal",
    "logit_adjusted",
    "ldam",
]


def rows(i, y=Y, **more):
    """Fits of unequal size: blocks must be filled up."""
    n = 100 + 7 * (i % 4)
    return {"X": X[:n], "y": y[:n], **{name: value[:n] for name, value in more.items()}}


def assert_as_alone(learners, data, *, how="written out", together=None, **close):
    """Fit together and one by one, and compare everything that is left behind."""
    together = len(learners) if together is None else together
    alone = [clone(learner).fit(**given) for learner, given in zip(learners, data, strict=True)]
    for done, one in zip(fit_many(learners, data), alone, strict=True):
        assert done.error is None, done.error
        reasons = done.learner.runtime_.reasons
        assert reasons["vectorize"][0] == together and reasons["steps"][0] == how, reasons
        mine, theirs = (each.history_.drop(columns="seconds") for each in (done.learner, one))
        assert list(mine.columns) == list(theirs.columns) and len(mine) == len(theirs)
        close = close or {"rtol": 1e-6, "atol": 1e-9}
        np.testing.assert_allclose(mine, theirs, **close)
        for a, b in zip(done.learner.network_.parameters(), one.network_.parameters(), strict=True):
            np.testing.assert_allclose(a.detach(), b.detach(), **close)
            assert a.is_contiguous()
        assert (done.learner.best_epoch_, done.learner.stop_reason_) == (one.best_epoch_, one.stop_reason_)
        predict = "decision_function" if hasattr(one, "decision_function") else "predict"
        np.testing.assert_allclose(getattr(done.learner, predict)(X), getattr(one, predict)(X), **close)


def variants(base, *settings_of_each):
    return [clone(base).set_params(random_state=i, **own) for i, own in enumerate(settings_of_each)]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_loss(loss, weighted):
    base = ts.TorchClassifier(
        ts.MLP((7,)), loss=loss, max_epochs=3, runtime=DOUBLE, batch_sampler=ts.StratifiedBatchSampler(3)
    )
    if loss is NORMALISED:  # with Adam it is fitted alone
        base.set_params(optimizer=ts.optim.SGD())
    more = {"stratum": Y, **({"sample_weight": np.arange(130) % 4 + 0.5} if weighted else {})}
    assert_as_alone(
        variants(base, *[{"optimizer__lr": lr} for lr in (0.001, 0.01, 0.01)]), [rows(i, **more) for i in range(3)]
    )


@pytest.mark.parametrize("loss", ["mse", "mae", ts.losses.huber(delta=0.5), ts.losses.quantile(quantile=0.8)], ids=repr)
@pytest.mark.parametrize("targets", [1, 2])
def test_regression(loss, targets):
    y = X[:, :targets] @ np.eye(targets) if targets > 1 else X[:, 0]
    base = ts.TorchRegressor(ts.MLP((5,), activation="tanh"), loss=loss, max_epochs=3, runtime=DOUBLE)
    assert_as_alone(variants(base, {}, {}, {"optimizer__lr": 0.1}), [rows(i, y) for i in range(3)])


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "ldam"])
def test_several_classes(loss):
    base = ts.TorchClassifier(ts.Linear(), loss=loss, max_epochs=3, runtime=DOUBLE)
    assert_as_alone(variants(base, {}, {}, {}), [rows(i, THREE) for i in range(3)])


@pytest.mark.parametrize(
    "optimizer",
    [
        ts.optim.SGD(lr=0.05),
        ts.optim.SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        ts.optim.Adam(lr=0.01, weight_decay=0.1),
        ts.optim.AdamW(lr=0.01, betas=(0.8, 0.99)),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "schedule", [None, "CosineAnnealingLR", ts.schedules.OneCycleLR(max_lr=0.05), "ReduceLROnPlateau"]
)
def test_optimizers_and_schedules(optimizer, schedule):
    base = ts.TorchClassifier(ts.MLP((6,)), optimizer=optimizer, schedule=schedule, max_epochs=4, runtime=DOUBLE)
    different = [{}, {"optimizer__lr": 0.02}, {"optimizer__weight_decay": 0.3}, {}]
    assert_as_alone(variants(base, *different), [rows(i) for i in range(4)])


def test_every_number_may_differ_at_once():
    base = ts.TorchClassifier(ts.MLP((9, 4), dropout=0.1), loss="focal", valid=0.3, runtime=DOUBLE)
    learners = variants(
        base,
        {"network__dropout": 0.4, "optimizer__lr": 0.1, "max_epochs": 5},
        {"loss__gamma": 0.5, "max_epochs": 9, "early_stopping": ts.EarlyStopping(2)},
        {"optimizer__weight_decay": 0.5, "max_epochs": 2},
        {"loss__gamma": 3.0, "max_epochs": 1, "valid": 0.4},
        {"max_epochs": 0},
    )
    data = [rows(i) for i in range(5)]
    for a, b in zip(
        [clone(each).fit(**d) for each, d in zip(learners, data, strict=True)], fit_many(learners, data), strict=True
    ):
        assert b.error is None
        np.testing.assert_allclose(a.decision_function(X), b.learner.decision_function(X), rtol=1e-6)
        assert len(a.history_) == len(b.learner.history_)


@pytest.mark.parametrize("scoring", [(), "roc_auc", ["accuracy", "neg_log_loss"]])
@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping_stops_each_where_it_would_stop_alone(scoring, restore):
    base = ts.TorchClassifier(
        ts.MLP((8,), dropout=0.2), valid=0.3, scoring=scoring, max_epochs=40, runtime=DOUBLE, eval_every=2,
        early_stopping=ts.EarlyStopping(2, restore_best=restore),
    )  # fmt: skip
    learners = variants(base, *[{"optimizer__lr": lr} for lr in (0.3, 0.1, 0.03, 0.01, 0.001)])
    assert_as_alone(learners, [rows(i) for i in range(5)])
    assert len({len(learner.history_) for learner in learners}) > 2  # so the stack was made smaller more than once


def test_single_precision_agrees_for_the_first_epochs():
    base = ts.TorchClassifier(ts.MLP((50, 50), dropout=0.2), max_epochs=3)
    learners = variants(base, *[{} for _ in range(12)])
    alone = [clone(each).fit(**rows(i)) for i, each in enumerate(learners)]
    for done, one in zip(fit_many(learners, [rows(i) for i in range(12)]), alone, strict=True):
        np.testing.assert_allclose(done.learner.history_.train_loss, one.history_.train_loss, rtol=1e-5)


def test_categories_and_missing_values():
    frame = (
        __import__("pandas")
        .DataFrame(X[:, :3], columns=list("abc"))
        .assign(k=np.array(["u", "v", None])[np.arange(130) % 3])
    )
    frame.loc[5, "a"] = np.nan
    base = ts.TorchClassifier(ts.MLP((6,)), max_epochs=2, runtime=DOUBLE)
    learners = variants(base, {}, {}, {})
    data = [{"X": frame.iloc[: 100 + i].reset_index(drop=True), "y": Y[: 100 + i]} for i in range(3)]
    alone = [clone(each).fit(**d) for each, d in zip(learners, data, strict=True)]
    for done, one in zip(fit_many(learners, data), alone, strict=True):
        assert done.learner.runtime_.reasons["vectorize"][0] == 3
        np.testing.assert_allclose(done.learner.decision_function(frame), one.decision_function(frame), rtol=1e-8)


@pytest.mark.filterwarnings("ignore:loss .* learns nothing:UserWarning", "ignore:the scores")
@settings(max_examples=40)
@given(data=st.data())
def test_any_combination(data):
    draw = data.draw
    hidden = tuple(draw(st.lists(st.integers(1, 7), max_size=3)))
    network = ts.MLP(
        hidden, dropout=draw(st.sampled_from([0.0, 0.3])), activation=draw(st.sampled_from(["relu", "silu", "elu"]))
    )
    base = ts.TorchClassifier(
        network, loss=draw(st.sampled_from(LOSSES)), max_epochs=2, batch_size=draw(st.sampled_from([5, 16, "all"])),
        runtime=DOUBLE.replace(clip_norm=draw(st.sampled_from([None, 0.1]))),
        optimizer=draw(st.sampled_from([ts.optim.SGD(lr=0.1, momentum=0.5), ts.optim.AdamW(lr=0.01)])),
    )  # fmt: skip
    k = draw(st.integers(2, 6))
    learners = variants(base, *[{"optimizer__lr": draw(st.sampled_from([0.01, 0.1]))} for _ in range(k)])
    given_rows = []
    for _ in range(k):
        n = draw(st.integers(12, 60))
        weights = {"sample_weight": RNG.integers(0, 3, n) + 0.25} if draw(st.booleans()) else {}
        given_rows.append({"X": X[:n], "y": np.arange(n) % 2, **weights})
    noisy = learners[0].loss is NORMALISED and not isinstance(learners[0].optimizer, ts.optim.SGD)
    assume(not noisy)  # not claimed: tested below
    assert_as_alone(learners, given_rows, rtol=1e-6, atol=1e-8)


class Wide(nn.Module):
    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.first, self.second = nn.Linear(n_inputs, 5), nn.Bilinear(5, 5, n_outputs)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.second(h, h)


@pytest.mark.parametrize("network", [ts.MLP((6,), norm="layer"), lambda shapes, n: Wide(shapes["number"][0], n)])
@pytest.mark.parametrize("loss", ["cross_entropy", "aum", "focal"])
def test_other_networks_under_vmap(network, loss):
    base = ts.TorchClassifier(
        network, loss=loss, max_epochs=6, runtime=DOUBLE, valid=0.3, scoring="roc_auc",
        early_stopping=ts.EarlyStopping(2), batch_sampler=ts.StratifiedBatchSampler(3),
    )  # fmt: skip
    learners = variants(base, *[{"optimizer__lr": lr} for lr in (0.1, 0.01, 0.001, 0.01)])
    assert_as_alone(learners, [rows(i, stratum=Y) for i in range(4)], how="vmap")


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"network": ts.MLP((4,), norm="batch")}, "BatchNorm1d keeps running statistics"),
        (
            {"network": lambda s, n: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, n))},
            "Dropout draws",
        ),
        ({"trainable": "0.*"}, "trainable set"),
        ({"augment": [lambda x, generator: x]}, "augment set"),
        ({"callbacks": [ts.callbacks.GradientNorm()]}, "a batch hook set"),
        ({"runtime": ts.Runtime("cpu", accumulate=2)}, "gradients are accumulated"),
        ({"optimizer": ts.optim.RMSprop()}, "RMSprop"),
        ({"loss": NORMALISED}, "no slope along the scale"),
        ({"loss": lambda output, target: output.square().mean(), "network": ts.MLP((4,), norm="layer")}, "no weights"),
    ],
)
def test_what_cannot_be_stacked_says_why_and_is_fitted_alone(setting, why):
    base = ts.TorchClassifier(max_epochs=2).set_params(**setting)
    learners = variants(base, {}, {}, {})
    for done in fit_many(learners, [rows(i) for i in range(3)]):
        together, reason = done.learner.runtime_.reasons["vectorize"]
        assert done.error is None and together == 1 and why in reason, reason


class Looks(nn.Module):
    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.layer = nn.Linear(n_inputs, n_outputs)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


def test_a_network_that_vmap_cannot_carry_out_is_fitted_alone():
    base = ts.TorchClassifier(lambda shapes, n: Looks(shapes["number"][0], n), max_epochs=2, runtime=DOUBLE)
    learners = variants(base, {}, {}, {})
    for done, i in zip(fit_many(learners, [rows(i) for i in range(3)]), range(3), strict=True):
        together, why = done.learner.runtime_.reasons["vectorize"]
        assert done.error is None and together == 1 and why.startswith("vmap cannot carry it out: RuntimeError"), why
        alone = clone(done.learner).fit(**rows(i))
        assert np.array_equal(alone.decision_function(X), done.learner.decision_function(X))


def test_one_diverging_network_costs_the_others_nothing():
    base = ts.TorchRegressor(ts.MLP((6,)), max_epochs=6, runtime=DOUBLE, optimizer=ts.optim.SGD(lr=0.01))
    learners = variants(base, {}, {"optimizer__lr": 1e200}, {})
    one = clone(learners[1])
    with pytest.raises(ts.NonFiniteError) as alone:
        one.fit(**rows(1, X[:, 0]))
    fine, bad, also = fit_many(learners, [rows(i, X[:, 0]) for i in range(3)])
    assert isinstance(bad.error, ts.NonFiniteError) and "lr 1e+200" in str(bad.error)
    assert (bad.error.epoch, bad.error.step) == (alone.value.epoch, alone.value.step)
    assert len(bad.learner.history_) == len(one.history_)
    for done, i in ((fine, 0), (also, 2)):
        reference = clone(learners[i]).fit(**rows(i, X[:, 0]))
        np.testing.assert_allclose(done.learner.predict(X), reference.predict(X), rtol=1e-8)


class Bad(ts.Callback):
    def on_epoch_end(self, state):
        if state.epoch == 2:
            raise RuntimeError("no more")


def test_a_callback_that_raises_costs_the_others_nothing():
    learners = variants(ts.TorchClassifier(max_epochs=3), {}, {"callbacks": [Bad()]}, {})
    fine, bad, also = fit_many(learners, [rows(i) for i in range(3)])
    assert str(bad.error) == "no more" and fine.error is None and also.error is None
    assert not hasattr(bad.learner, "network_") and len(fine.learner.history_) == 3


class Log(ts.Callback):
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        raise AttributeError(name)

    def on_fit_begin(self, state):
        self.calls.append("begin")

    def on_epoch_end(self, state):
        self.calls.append((state.epoch, len(state.history), len(state.order)))

    def on_fit_end(self, state):
        self.calls.append("end")

    def on_fit_exit(self, state):
        self.calls.append("exit")


def test_each_network_has_its_own_callbacks():
    logs = [Log(), Log()]
    learners = [ts.TorchClassifier(max_epochs=i + 1, callbacks=[log], random_state=i) for i, log in enumerate(logs)]
    fit_many(learners, [rows(0), rows(1)])
    assert logs[0].calls == ["begin", (1, 1, 100), "end", "exit"]
    assert logs[1].calls == ["begin", (1, 1, 107), (2, 2, 107), "end", "exit"]


def test_wrong_rows_fail_alone():
    learners = variants(ts.TorchClassifier(max_epochs=2), {}, {}, {})
    fine, bad, also = fit_many(learners, [rows(0), {"X": X[:9], "y": np.zeros(9)}, rows(1)])
    assert isinstance(bad.error, ts.DataError) and "one class" in str(bad.error)
    assert fine.error is None and also.error is None


def test_shapes_that_differ_make_two_programs():
    learners = [
        ts.TorchClassifier(ts.MLP((width,)), max_epochs=1, random_state=i) for i, width in enumerate([4, 5, 4, 5, 4])
    ]
    done = fit_many(learners, [rows(i) for i in range(5)])
    assert [d.learner.runtime_.reasons["vectorize"][0] for d in done] == [3, 2, 3, 2, 3]


def test_parts_fit_into_the_cache(monkeypatch):
    monkeypatch.setattr(many, "WEIGHTS_TOGETHER", 200)
    learners = variants(
        ts.TorchClassifier(ts.MLP((5,)), max_epochs=2, runtime=DOUBLE), *[{} for _ in range(10)]
    )  # 41 weights each
    done = fit_many(learners, [rows(i) for i in range(10)])
    assert sorted({d.learner.runtime_.reasons["vectorize"][0] for d in done}) == [3, 4]
    alone = clone(learners[9]).fit(**rows(9))
    np.testing.assert_allclose(alone.decision_function(X), learners[9].decision_function(X), rtol=1e-8)


def test_global_state_is_left_alone():
    torch.manual_seed(3)
    np.random.seed(3)
    before, threads = (torch.get_rng_state(), np.random.get_state()[1].copy()), torch.get_num_threads()
    fit_many(variants(ts.TorchClassifier(ts.MLP((5,), dropout=0.5), max_epochs=2), {}, {}), [rows(0), rows(1)])
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    assert threads == torch.get_num_threads()
