import functools
import random

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import get_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import torchstrata as ts

RNG = np.random.default_rng(5)
X = RNG.normal(size=(90, 3))
Y = (X[:, 0] + 0.3 * RNG.normal(size=90) > 0.4).astype(int)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])


def learner(**settings):
    base = {"network": ts.MLP((5,)), "optimizer": ts.optim.AdamW(lr=0.02), "max_epochs": 3, "random_state": 0}
    return ts.TorchClassifier(**{**base, "runtime": "cpu", **settings})


def weights(fitted):
    return torch.cat([p.detach().flatten() for p in fitted.network_.parameters()])


class Stop(ts.Callback):
    """Raise something in some epoch, and count steps."""

    def __init__(self, error=None, epoch=1, hook="on_epoch_begin"):
        self.error, self.epoch, self.hook, self.steps = error, epoch, hook, 0

    def on_epoch_begin(self, state):
        self._maybe("on_epoch_begin", state)

    def on_valid_begin(self, state):
        self._maybe("on_valid_begin", state)

    def on_batch_end(self, state):
        self.steps += 1

    def _maybe(self, hook, state):
        if self.error is not None and (hook, state.epoch) == (self.hook, self.epoch):
            raise self.error


# randomness


def test_same_seed_same_weights_other_seed_other_weights():
    one, same, other = (learner(random_state=s).fit(X, Y) for s in (1, 1, 2))
    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))


def test_the_seed_is_kept_and_reproduces():
    one, two = learner(random_state=None).fit(X, Y), learner(random_state=None).fit(X, Y)
    assert one.seed_ != two.seed_ and not torch.equal(weights(one), weights(two))
    assert torch.equal(weights(one), weights(learner(random_state=one.seed_).fit(X, Y)))


def test_a_random_state_object_moves_on():
    state = np.random.RandomState(0)
    one, two = learner(random_state=state).fit(X, Y), learner(random_state=state).fit(X, Y)
    assert one.seed_ != two.seed_
    assert learner(random_state=np.random.RandomState(0)).fit(X, Y).seed_ == one.seed_


def test_streams_are_separate():
    """Another batch size does not move the initial weights; neither does a validation split."""
    initial = weights(learner(max_epochs=0).fit(X, Y))
    assert torch.equal(initial, weights(learner(max_epochs=0, batch_size=7).fit(X, Y)))
    assert torch.equal(initial, weights(learner(max_epochs=0, valid=0.3).fit(X, Y)))


@pytest.mark.parametrize("bad", [-1, 1.5, "zero", np.random.default_rng(0)])
def test_random_states_that_cannot_work(bad):
    with pytest.raises(ValueError, match=r"random_state|cannot be used to seed"):
        learner(random_state=bad).fit(X, Y)


def test_global_random_state_and_threads_are_as_before():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x):
            return self.layer(x + torch.randn_like(x))

    networks = ts.MLP((5,), dropout=0.5), Noisy()
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    for network in networks:
        settings = {"network": network, "valid": 0.2, "scoring": "roc_auc", "random_state": None, "loss": "aum"}
        fitted = learner(**settings, runtime=ts.Runtime("cpu", threads=threads + 1)).fit(X, Y)
        fitted.predict_proba(X)
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1]) and random.getstate() == before[2]


def test_dropout_is_seeded_too():
    settings = {"network": ts.MLP((5,), dropout=0.5)}
    assert torch.equal(weights(learner(**settings).fit(X, Y)), weights(learner(**settings).fit(X, Y)))


# prediction


@pytest.mark.parametrize("network", [ts.Linear(), ts.MLP((7, 5), norm="batch")])
@pytest.mark.parametrize("text", [False, True])
def test_prediction_of_a_row_depends_on_nothing_but_the_row(network, text):
    table = FRAME.assign(city=np.where(X[:, 1] > 0, "Rome", "Oslo")) if text else FRAME
    fitted = learner(network=network).fit(table, Y)
    whole = fitted.decision_function(table)
    order = np.random.default_rng(0).permutation(90)
    np.testing.assert_array_equal(fitted.decision_function(table.iloc[order]), whole[order])
    for size in (1, 7, 64, 65):
        parts = [fitted.decision_function(table.iloc[i : i + size]) for i in range(0, 90, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_prediction_does_not_depend_on_threads():
    fitted = learner(network=ts.MLP((64,))).fit(X, Y)
    one = fitted.decision_function(X)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        np.testing.assert_array_equal(fitted.decision_function(X), one)
    finally:
        torch.set_num_threads(before)


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return torch.tensor(X[i], requires_grad=True), int(Y[i])


CONTAINERS = {
    "array": X,
    "list": X.tolist(),
    "tensor": torch.tensor(X, requires_grad=True),
    "dataset": torch.utils.data.TensorDataset(torch.tensor(X)),
    "own dataset": Pairs(),
    "fortran": np.asfortranarray(X),
    "strided": np.repeat(X, 2, axis=0)[::2],
    "reversed": X[::-1].copy()[::-1],
    "big endian": X.astype(">f8"),
    "longdouble": X.astype(np.longdouble),
    "object": X.astype(object),
    "masked": np.ma.array(X, mask=False),
    "pandas without names": pd.DataFrame(X),
}


@pytest.mark.parametrize("encoder", ["auto", None])
@pytest.mark.parametrize("name", CONTAINERS)
def test_all_containers_of_rows_are_equal(name, encoder):
    wanted = learner(encoder=encoder).fit(X, Y)
    got = learner(encoder=encoder).fit(CONTAINERS[name], Y)
    np.testing.assert_array_equal(got.predict_proba(CONTAINERS[name]), wanted.predict_proba(X))
    np.testing.assert_array_equal(got.predict_proba(X), wanted.predict_proba(X))


@pytest.mark.parametrize("encoder", ["auto", None])
def test_pandas_polars_and_arrow_are_equal(encoder):
    arrow = pytest.importorskip("pyarrow").Table.from_pandas(FRAME)
    wanted = learner(encoder=encoder).fit(FRAME, Y).predict_proba(FRAME)
    np.testing.assert_array_equal(wanted, learner(encoder=encoder).fit(X, Y).predict_proba(X))
    for table in (pl.DataFrame(FRAME.to_dict("list")), arrow):
        got = learner(encoder=encoder).fit(table, Y)
        assert got.feature_names_in_.tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(got.predict_proba(table), wanted)
        np.testing.assert_array_equal(got.predict_proba(FRAME), wanted)


def test_a_dataset_brings_its_own_y():
    np.testing.assert_array_equal(learner().fit(Pairs()).predict(Pairs()), learner().fit(X, Y).predict(X))
    with pytest.raises(ts.DataError, match="requires y to be passed"):
        learner().fit(CONTAINERS["dataset"])


def test_names_at_fit_and_none_at_predict_is_positions_with_a_warning():
    fitted = learner().fit(FRAME, Y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        np.testing.assert_array_equal(fitted.predict_proba(X), fitted.predict_proba(FRAME))
    fitted = learner().fit(X, Y)
    with pytest.warns(UserWarning, match="fitted without feature names"):
        np.testing.assert_array_equal(fitted.predict_proba(FRAME), fitted.predict_proba(X))


def test_columns_of_a_frame_keep_their_order_those_of_a_task_are_found_by_name():
    labels = np.where(Y, "p", "n")
    fitted = learner().fit(ts.Task(FRAME.assign(y=labels), target="y"))
    other = FRAME[["c", "a", "b"]]
    np.testing.assert_array_equal(
        fitted.predict_proba(ts.Task(other.assign(more=X[:, 0] * 2, y=labels), target="y")), fitted.predict_proba(FRAME)
    )
    with pytest.raises(ValueError, match="same order as they were in fit"):
        fitted.predict(other)
    with pytest.raises(ts.DataError, match=r"lacks features seen at fit time.*\['b'\]"):
        fitted.predict(ts.Task(FRAME[["a", "c"]].assign(y=labels), target="y"))


def test_later_changes_of_the_data_do_not_matter():
    data = X.copy()
    fitted = learner(encoder=None).fit(data, Y)
    before = fitted.predict_proba(X)
    data[:] = 1e3
    np.testing.assert_array_equal(fitted.predict_proba(X), before)


def test_fit_and_predict_leave_the_data_alone():
    frame, y, w = FRAME.copy(), pd.Series(Y), np.ones(90)
    learner(valid=0.2).fit(frame, y, sample_weight=w, stratum=y).predict(frame)
    pd.testing.assert_frame_equal(frame, FRAME)
    assert y.equals(pd.Series(Y)) and (w == 1).all()


def test_read_only_data_is_fine():
    data = X.copy()
    data.flags.writeable = False
    assert learner(encoder=None).fit(data, Y).predict(data).shape == (90,)


# settings by name


def test_set_params_replaces_parts_and_never_edits_the_shared_default():
    one, two = ts.TorchClassifier(), ts.TorchClassifier()
    assert one.optimizer is two.optimizer
    one.set_params(optimizer__lr=0.5, network__hidden=(3,))
    assert (one.optimizer.lr, one.network.hidden) == (0.5, (3,))
    assert (
        (two.optimizer.lr, two.network.hidden)
        == (1e-3, (512,))
        == (
            ts.TorchClassifier().optimizer.lr,
            ts.TorchClassifier().network.hidden,
        )
    )


def test_set_params_with_names_of_parts():
    made = ts.TorchClassifier().set_params(optimizer="sgd", optimizer__lr=0.1)
    assert made.optimizer == ts.optim.SGD(lr=0.1)
    assert ts.TorchClassifier(optimizer="sgd").set_params(optimizer__lr=0.2).optimizer.lr == 0.2
    assert ts.TorchClassifier(network="mlp").set_params(network__hidden=(4,)).network == ts.MLP((4,))
    assert ts.TorchClassifier().set_params(encoder__clip=1.0).encoder.clip == 1.0
    assert ts.TorchClassifier().set_params(loss__label_smoothing=0.1).loss.get_params()["label_smoothing"] == 0.1
    assert ts.TorchClassifier().set_params(runtime__threads=2).runtime.threads == 2
    assert ts.TorchClassifier(early_stopping=ts.EarlyStopping()).set_params(
        early_stopping__patience=9
    ).early_stopping == ts.EarlyStopping(9)


def test_set_params_copies_foreign_encoders():
    shared = StandardScaler()
    made = ts.TorchClassifier(encoder=shared).set_params(encoder__with_mean=False)
    assert shared.with_mean and not made.encoder.with_mean


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"optimiser": 1}, "Invalid parameter 'optimiser'.*Did you mean 'optimizer'"),
        ({"optimiser__lr": 1}, "Did you mean 'optimizer'"),
        ({"optimizer__lrr": 1}, "Invalid parameter 'lrr' for AdamW.*Did you mean 'lr'"),
        ({"optimizer": "sdg", "optimizer__lr": 1}, "unknown optimizer 'sdg'. Did you mean 'sgd'"),
        ({"network__hiden": (3,)}, "Did you mean 'hidden'"),
        ({"batch_sampler__min_samples": 3}, "has no settings to reach by name"),
        ({"max_epochs": 5, "optimizer__lrr": 1}, "lrr"),
    ],
)
def test_unknown_names_answer(params, message):
    one = ts.TorchClassifier()
    with pytest.raises(ValueError, match=message):
        one.set_params(**params)
    assert one.get_params(deep=False) == ts.TorchClassifier().get_params(deep=False)


def test_a_misspelt_constructor_argument_is_refused():
    with pytest.raises(TypeError, match="max_epoch"):
        ts.TorchClassifier(max_epoch=3)


# the company of scikit-learn


def test_pipeline():
    pipe = make_pipeline(StandardScaler(), learner(encoder=None))
    pipe.set_params(torchclassifier__optimizer__lr=0.05).fit(X, Y)
    assert pipe[-1].optimizer.lr == 0.05 and pipe.score(X, Y) > 0.7
    assert clone(pipe).fit(X, Y).predict(X).tolist() == pipe.predict(X).tolist()


def test_grid_search_over_parts():
    grid = {"optimizer__lr": [1e-6, 5e-2], "network__hidden": [(3,), (6,)]}
    search = GridSearchCV(learner(max_epochs=40), grid, cv=2, error_score="raise").fit(FRAME, Y)
    assert search.best_params_["optimizer__lr"] == 5e-2
    assert len(search.cv_results_["mean_test_score"]) == 4
    assert search.best_estimator_.network.hidden in [(3,), (6,)]


def test_metadata_routing_of_stratum_and_weight():
    seen = []

    class Watch(ts.Callback):
        def __deepcopy__(self, memo):
            return self  # clones report here too

        def on_batch_end(self, state):
            seen.append(float(state.target.sum()))

    with sklearn.config_context(enable_metadata_routing=True):
        made = learner(batch_sampler=ts.StratifiedBatchSampler(2), callbacks=(Watch(),))
        made.set_fit_request(stratum=True, sample_weight=True).set_score_request(sample_weight=True)
        params = {"stratum": Y, "sample_weight": np.where(Y, 2.0, 1.0)}
        result = cross_validate(made, FRAME, Y, cv=KFold(3), params=params, error_score="raise")
        assert np.isfinite(result["test_score"]).all()
        pipe = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), made)
        assert np.isfinite(cross_val_score(pipe, X, Y, cv=3, params=params, error_score="raise")).all()
    assert min(seen) >= 2  # each batch had two positives at least


def test_a_stratified_sampler_without_strata_says_what_to_do():
    with pytest.raises(ValueError, match=r"needs a stratum.*fit\(X, y, stratum=y\).*with_roles.*set_fit_request"):
        learner(batch_sampler=ts.StratifiedBatchSampler(1)).fit(X, Y)


def test_a_task_brings_strata_and_weights():
    frame = FRAME.assign(y=np.where(Y, "p", "n"), w=np.where(Y, 2.0, 1.0))
    task = ts.Task(frame, target="y", stratum="y", weight="w")
    sampler = ts.StratifiedBatchSampler(2)
    by_task = learner(batch_sampler=sampler).fit(task)
    by_hand = learner(batch_sampler=sampler).fit(FRAME, frame.y, stratum=frame.y, sample_weight=frame.w)
    np.testing.assert_array_equal(by_task.predict_proba(FRAME), by_hand.predict_proba(FRAME))


# validation and early stopping


def test_history_columns():
    settings = {"valid": 0.3, "scoring": ("roc_auc", "accuracy"), "eval_every": 2, "max_epochs": 5}
    history = learner(**settings).fit(X, Y).history_
    assert history.columns.tolist() == [
        *("epoch", "train_loss", "lr", "seconds", "train_roc_auc", "train_accuracy"),
        *("valid_loss", "valid_roc_auc", "valid_accuracy"),
    ]
    assert history.epoch.tolist() == [1, 2, 3, 4, 5]
    assert history.valid_roc_auc.notna().tolist() == [False, True, False, True, True]
    assert learner(max_epochs=1).fit(X, Y).history_.columns.tolist() == ["epoch", "train_loss", "lr", "seconds"]


@pytest.mark.parametrize("measure", ["roc_auc", "neg_log_loss", "accuracy"])
def test_the_best_score_belongs_to_the_weights_in_use(measure):
    settings = {"max_epochs": 25, "optimizer": ts.optim.AdamW(lr=0.2), "scoring": measure, "batch_size": 8}
    fitted = learner(early_stopping=ts.EarlyStopping(4), **settings).fit(X[:50], Y[:50], valid_set=(X[50:], Y[50:]))
    assert fitted.best_score_ == pytest.approx(get_scorer(measure)(fitted, X[50:], Y[50:]), abs=1e-12)
    assert fitted.best_score_ == fitted.history_[f"valid_{measure}"].max()
    best = fitted.history_.set_index("epoch")[f"valid_{measure}"]
    assert fitted.best_epoch_ == best.idxmax() < len(best)
    assert len(best) == fitted.best_epoch_ + 4 and "no improvement" in fitted.stop_reason_


def test_the_loss_decides_where_nothing_else_is_asked_for():
    settings = {"max_epochs": 25, "optimizer": ts.optim.AdamW(lr=0.3), "batch_size": 8}
    fitted = learner(early_stopping=ts.EarlyStopping(3), **settings).fit(X[:50], Y[:50], valid_set=(X[50:], Y[50:]))
    assert fitted.best_score_ == fitted.history_.valid_loss.min()
    p = fitted.predict_proba(X[50:])[np.arange(40), Y[50:]]
    assert fitted.best_score_ == pytest.approx(-np.log(p).mean(), rel=1e-5)


def test_aum_is_stopped_by_roc_auc():
    settings = {"loss": "aum", "early_stopping": ts.EarlyStopping(3), "max_epochs": 15}
    fitted = learner(**settings).fit(X[:50], Y[:50], valid_set=(X[50:], Y[50:]))
    assert fitted.best_score_ == pytest.approx(roc_auc_score(Y[50:], fitted.decision_function(X[50:])))


def test_preprocessing_is_fitted_on_training_rows_only():
    """Canary: a level and a scale that only validation rows have must leave no trace."""
    table = FRAME.assign(city="Rome")
    table.loc[:9, "city"] = "Oslo"
    loud = table.copy()
    loud.loc[60:, "a"] = 1e6
    loud.loc[60:, "city"] = "Canary"
    train, valid, valid_loud = table[:60], table[60:], loud[60:]
    one = learner().fit(train, Y[:60], valid_set=(valid, Y[60:]))
    two = learner().fit(train, Y[:60], valid_set=(valid_loud, Y[60:]))
    assert torch.equal(weights(one), weights(two))
    assert one.encoder_.levels_ == {"city": ["Oslo", "Rome"]}
    split = learner(valid=0.3, random_state=4)
    plain = split.fit(table, Y)
    rows = plain.encoder_.center_
    assert not np.allclose(rows, ts.Encoder().fit(table).center_)  # fewer rows than all


def test_a_validation_split_does_not_leak_into_the_encoder():
    """The rows that validate can be anything: the fit stays the same to the last bit."""
    seen = []

    class Rows(ts.Callback):
        def on_batch_end(self, state):
            seen.append(len(state.rows))

    first = learner(valid=0.3, callbacks=(Rows(),), max_epochs=1).fit(FRAME, Y)
    assert sum(seen) == 63
    ids = pd.DataFrame({"id": np.arange(90.0), "a": X[:, 0]})
    trained = learner(valid=0.3, encoder=Remember(), max_epochs=1).fit(ids, Y).encoder_.ids_
    changed = FRAME.copy()
    changed.loc[~np.isin(np.arange(90), trained), "b"] = 777.0
    second = learner(valid=0.3, callbacks=(Rows(),), max_epochs=1).fit(changed, Y)
    assert torch.equal(weights(first), weights(second))


class Remember(StandardScaler):
    """An encoder that remembers its training rows by their first column."""

    def fit(self, X, y=None):
        self.ids_ = np.asarray(X)[:, 0].astype(int)
        return super().fit(X, y)


def test_no_epochs_keep_the_initial_weights():
    fitted = learner(max_epochs=0).fit(X, Y)
    assert len(fitted.history_) == 0 and fitted.best_epoch_ == 0 and np.isnan(fitted.best_score_)
    assert fitted.history_.columns.tolist() == ["epoch", "train_loss", "lr", "seconds"]
    assert fitted.predict(X).shape == (90,)


# fits that end early


def test_a_loss_that_is_not_finite_keeps_the_history_and_leaves_the_learner_unfitted():
    def fails(output, target):
        fails.calls += 1
        loss = torch.nn.functional.binary_cross_entropy_with_logits(output.flatten(), target)
        return loss * float("nan") if fails.calls == 2 * 3 + 3 else loss  # one call is the trial; two epochs of 3 steps

    fails.calls = 0
    broken = learner(loss=fails, max_epochs=5)
    with pytest.raises(ts.NonFiniteError, match=r"became nan at epoch 3, step 2") as caught:
        broken.fit(X, Y)
    assert (caught.value.epoch, caught.value.step) == (3, 2)
    assert broken.history_.epoch.tolist() == [1, 2]
    assert sorted(name for name in vars(broken) if name.endswith("_")) == ["history_"]
    with pytest.raises(NotFittedError, match="last fit failed with NonFiniteError: the loss became nan at epoch 3"):
        broken.predict(X)
    broken.set_params(loss="cross_entropy").fit(X, Y).predict(X)
    assert len(broken.history_) == 5


def test_ctrl_c_is_raised_again_and_keeps_the_best_so_far():
    stop = Stop(KeyboardInterrupt(), epoch=6)
    settings = {"valid": 0.3, "scoring": "roc_auc", "early_stopping": ts.EarlyStopping(50), "max_epochs": 50}
    made = learner(**settings, callbacks=(stop,), optimizer=ts.optim.AdamW(lr=0.1))
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, Y)
    assert len(made.history_) == 5
    assert made.best_score_ == made.history_.valid_roc_auc.max()
    whole = learner(**{**settings, "max_epochs": 5}, callbacks=(Stop(),), optimizer=ts.optim.AdamW(lr=0.1)).fit(X, Y)
    assert torch.equal(weights(made), weights(whole)) and made.best_epoch_ == whole.best_epoch_
    np.testing.assert_array_equal(made.predict_proba(X), whole.predict_proba(X))


def test_ctrl_c_between_loss_and_scores_of_the_first_epoch():
    made = learner(valid=0.3, callbacks=(Stop(KeyboardInterrupt(), epoch=1, hook="on_valid_begin"),))
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, Y)
    assert len(made.history_) == 1 and made.predict(X).shape == (90,)


def test_ctrl_c_before_the_first_epoch_leaves_nothing():
    made = learner(callbacks=(Stop(KeyboardInterrupt(), epoch=1),))
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, Y)
    assert not [name for name in vars(made) if name.endswith("_")]


def test_any_other_error_leaves_the_learner_unfitted():
    made = learner(callbacks=(Stop(RuntimeError("100 % mine"), epoch=2),))
    with pytest.raises(RuntimeError, match="mine"):
        made.fit(X, Y)
    assert not [name for name in vars(made) if name.endswith("_")]
    with pytest.raises(NotFittedError, match="last fit failed with RuntimeError: 100 % mine"):
        made.predict(X)


def test_a_refit_forgets_the_fit_before():
    made = learner(loss="aum", valid=0.3).fit(X, Y)
    made.set_params(loss="cross_entropy", valid=None).fit(FRAME[["a", "b"]], Y)
    assert made.calibration_ is None and made.n_features_in_ == 2 and np.isnan(made.best_score_)
    made.fit(X, Y)
    assert not hasattr(made, "feature_names_in_")


# networks and optimizers of the user


def test_a_module_is_copied_and_never_consumed():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    before = [p.detach().clone() for p in module.parameters()]
    fitted = learner(network=module, encoder=None).fit(X, Y)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert fitted.network_ is not module and fitted.network is module
    again = learner(network=module, encoder=None).fit(X, Y)
    assert torch.equal(weights(fitted), weights(again))
    assert cross_val_score(learner(network=module), X, Y, cv=2, error_score="raise").shape == (2,)


def test_a_function_is_a_network():
    def build(shapes, n_outputs):
        build.seen = dict(shapes), int(n_outputs)
        return nn.Linear(shapes["number"][0], n_outputs)

    learner(network=build).fit(X, Y)
    assert build.seen == ({"number": (3,)}, 1)
    learner(network=build).fit(X, np.digitize(X[:, 0], [-0.5, 0.5]))
    assert build.seen == ({"number": (3,)}, 3)


class Odd(nn.Module):
    def __init__(self, give):
        super().__init__()
        self.layer, self.give = nn.Linear(3, 1), give

    def forward(self, x):
        return self.give(self.layer(x))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(3, 4), r"returned shape \(2, 4\) for 2 rows, expected \(2, 1\)"),
        (nn.Identity(), r"returned shape \(2, 3\)"),
        (nn.Sequential(nn.Flatten(), Odd(lambda out: out)).requires_grad_(False), "no trainable parameters"),
        (Odd(lambda out: out.detach()), "does not require grad.*does not depend on its parameters"),
        (Odd(lambda out: out.long()), "expected a float tensor"),
        (lambda shapes, n: "no module", "returned str, expected a torch.nn.Module"),
        ("mpl", "unknown network 'mpl'. Did you mean 'mlp'"),
        (3, "network must be a blueprint"),
        (nn.Sequential(), "no trainable parameters|returned shape"),
    ],
)
def test_networks_that_cannot_work_are_refused_before_training(network, message):
    stop = Stop()
    with pytest.raises(ts.ConfigError, match=message):
        learner(network=network, callbacks=(stop,)).fit(X, Y)
    assert stop.steps == 0


def test_a_network_without_parameters():
    with pytest.raises(ts.ConfigError, match="no trainable parameters"):
        learner(network=nn.Identity()).fit(X[:, :1], Y)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda o, t: (o.flatten() - t) ** 2, r"the loss returned shape \(32,\), expected a tensor with one number"),
        (lambda o, t: 1.0, "the loss returned float"),
        (lambda o, t: torch.zeros(()), "does not require grad"),
        ("cross_entropi", "unknown loss 'cross_entropi'. Did you mean 'cross_entropy'"),
        ("mse", "is for regression"),
        (3, "loss must be a name, a function or a torch module"),
    ],
)
def test_losses_that_cannot_work_are_refused_before_training(loss, message):
    stop = Stop()
    with pytest.raises(ts.ConfigError, match=message):
        learner(loss=loss, callbacks=(stop,)).fit(X, Y)
    assert stop.steps == 0


def test_a_partial_is_an_optimizer():
    by_partial = learner(optimizer=functools.partial(torch.optim.AdamW, lr=1e-2)).fit(X, Y)
    np.testing.assert_allclose(
        by_partial.predict_proba(X), learner(optimizer=ts.optim.AdamW(lr=1e-2)).fit(X, Y).predict_proba(X), atol=1e-6
    )


def test_a_fitted_learner_tells_its_decisions():
    fitted = learner(runtime="cpu").fit(X, Y)
    assert fitted.runtime_.reasons["device"] == ("cpu", "as given")
    assert fitted.network_.training is False


@pytest.mark.parametrize("network", [ts.Linear(), ts.MLP((4,), embedding="piecewise_linear")])
@pytest.mark.parametrize("encoder", ["auto", ts.Encoder(), StandardScaler()])
def test_a_row_of_weight_zero_teaches_the_encoder_nothing(network, encoder):
    """Neither scales, nor fills, nor levels, nor whether a column varies."""
    present = np.arange(40) < 30
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=40) + 100 * ~present, "b": np.where(present, 1.0, rng.normal(size=40))})
    if not isinstance(encoder, StandardScaler):
        frame["a"] = frame["a"].where(np.arange(40) % 5 > 0)
        frame["city"] = np.where(present, rng.choice(["Oslo", "Rome"], 40), "Bern")
    y = np.arange(40) % 2
    settings = {"encoder": encoder, "batch_size": "all", "max_epochs": 3, "random_state": 0}
    given = ts.TorchClassifier(network, **settings).fit(frame, y, sample_weight=present.astype(float))
    alone = ts.TorchClassifier(network, **settings).fit(frame[present], y[present])
    np.testing.assert_allclose(given.predict_proba(frame), alone.predict_proba(frame), rtol=1e-5, atol=1e-6)
