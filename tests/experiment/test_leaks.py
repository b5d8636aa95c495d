"""Nothing of the test rows reaches a fitted model: not by columns, labels, weights, strata, levels or scales."""

from __future__ import annotations

import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

import torchstrata as ts

NETWORKS = {
    "Linear": ts.Linear(),
    "MLP": ts.MLP((6,), dropout=0.1),
    "ResNet": ts.ResNet(1, d_block=8),
    "FTTransformer": ts.FTTransformer(1, d_block=8, n_heads=2),
    "TabM": ts.TabM(1, d_block=8, k=3, embedding="piecewise_linear"),
    "RealMLP": ts.RealMLP((8,), n_frequencies=4),
}
KINDS = ("classification", "regression")
ROWS, SPLITS = 72, [(train, test) for train, test in KFold(3, shuffle=True, random_state=0).split(np.arange(72))]


def make_frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"x": rng.normal(size=ROWS), "z": rng.exponential(size=ROWS)})
    frame["whole"] = rng.integers(0, 9, ROWS)
    frame["text"] = rng.choice(["r", "s", "t"], ROWS)
    frame["level"] = pd.Categorical(rng.choice(["low", "high"], ROWS), ["low", "high", "never"])
    frame["canary"] = np.arange(ROWS, dtype=float)  # the number of the row: says nothing about training rows
    frame["weight"] = rng.uniform(0.5, 2.0, ROWS)
    frame["stratum"] = rng.choice(["u", "v"], ROWS)
    frame["classification"] = np.where(frame["x"] + rng.normal(size=ROWS) > 0.3, "yes", "no")
    frame["regression"] = frame["x"] * 3 + rng.normal(size=ROWS)
    return frame


def all_at_once(frame: pd.DataFrame, rows: np.ndarray, rng: np.random.Generator) -> None:
    for spoil in (values, levels, labels, roles):
        spoil(frame, rows, rng)
    canary(frame, rows, rng)


def values(frame, rows, rng) -> None:
    """Numbers that would move any mean, scale, quantile or bin."""
    frame.loc[rows, ["x", "z"]] = 1e6 * rng.normal(size=(len(rows), 2))
    frame.loc[rows, "whole"] = rng.integers(10**6, 10**7, len(rows))


def levels(frame, rows, rng) -> None:
    """Texts and levels that no training row has, and gaps."""
    frame.loc[rows, "text"] = "never seen"
    frame.loc[rows, "level"] = "never"
    frame.loc[rows[::3], ["x", "text", "level"]] = np.nan


def labels(frame, rows, rng) -> None:
    frame.loc[rows, "classification"] = np.where(frame.loc[rows, "classification"] == "yes", "no", "yes")
    frame.loc[rows, "regression"] = 1e6 * rng.normal(size=len(rows))


def roles(frame, rows, rng) -> None:
    frame.loc[rows, "weight"] = 1e3
    frame.loc[rows, "stratum"] = np.where(frame.loc[rows, "stratum"] == "u", "v", "u")


def canary(frame, rows, rng) -> None:
    """The number of the row, but in test rows the answer: D2."""
    frame.loc[rows, "canary"] = np.where(frame.loc[rows, "classification"] == "yes", 1e3, -1e3)


SPOILS = (all_at_once, canary, values, levels, labels, roles)


def spoiled(spoil, rows: np.ndarray) -> pd.DataFrame:
    frame = make_frame()
    spoil(frame, rows, np.random.default_rng(11))
    assert not frame.equals(make_frame()) and frame.drop(index=rows).equals(make_frame().drop(index=rows))
    return frame


def task_of(frame: pd.DataFrame, kind: str) -> ts.Task:
    columns = ["x", "z", "whole", "text", "level", "canary"]
    positive = {"positive": "yes"} if kind == "classification" else {}
    return ts.Task(frame, target=kind, features=columns, weight="weight", stratum="stratum", name="made", **positive)


def digest(fitted, X=None, y=None) -> float:
    """Say in one number, which a table of scores can hold, what was learnt: a scorer."""
    if hasattr(fitted, "best_estimator_"):
        tried = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in fitted.cv_results_.items() if "time" not in k}
        return _number(digest(fitted.best_estimator_), tried)
    if hasattr(fitted, "steps"):
        first = fitted.steps[0][1]
        return _number(digest(fitted.steps[-1][1]), [vars(part) for _, part, _ in first.transformers_[:-1]])
    if not hasattr(fitted, "network_"):
        return 0.0  # a dummy, on which every measure is tried
    state = {name: value.detach().numpy() for name, value in fitted.network_.state_dict().items()}
    history = fitted.history_.drop(columns="seconds")
    learnt = [vars(fitted._target), getattr(fitted, "classes_", None), fitted.best_epoch_, fitted.stop_reason_]
    return _number(state, vars(fitted.encoder_) if fitted.encoder_ else None, history.to_dict("list"), learnt)


def _number(*learnt) -> float:
    return float(int(joblib.hash(learnt)[:13], 16))  # 52 bits, which a float holds exactly


def learner(kind: str, network, **settings):
    made = {"max_epochs": 3, "batch_size": 16, "random_state": 0, **settings}
    return (ts.TorchClassifier if kind == "classification" else ts.TorchRegressor)(network, **made)


def stopping(kind: str, network):
    early = ts.EarlyStopping(1)
    return learner(kind, network, max_epochs=8, valid=0.25, early_stopping=early, optimizer=ts.optim.AdamW(lr=0.05))


def digests(frame: pd.DataFrame, kind: str, learners: dict, cv, **settings) -> dict:
    """Return what every cell of a benchmark learnt; task, split and learner go the way they always go."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of levels never seen, and the like
        result = ts.benchmark(task_of(frame, kind), learners, cv=cv, scoring={"m": digest}, progress=False, **settings)
    assert result.errors.empty, result.errors["traceback"].iloc[0]
    found = result.scores[result.scores["measure"] == "m"]
    keys = ["learner", "fold", *result.grid_columns]
    return {tuple(key): value for *key, value in found[[*keys, "value"]].itertuples(index=False)}


def assert_blind(kind: str, learners: dict, spoils, *, expected: int, **settings) -> None:
    train, test = SPLITS[0]
    plain = digests(make_frame(), kind, learners, [(train, test)], **settings)
    assert len(plain) == expected == len(set(plain.values()))
    for spoil in spoils:
        assert digests(spoiled(spoil, test), kind, learners, [(train, test)], **settings) == plain, spoil.__name__
    touched = make_frame()  # and what the digest would see: one value of one training row
    touched.loc[train[0], "z"] += 1.0
    other = digests(touched, kind, learners, [(train, test)], **settings)
    assert all(other[key] != plain[key] for key in plain)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_fit_sees_the_test_rows(kind, name, times):
    """D2 and D3: each ready network, for a fixed number of epochs and with early stopping on rows of its own."""
    learners = {"plain": learner(kind, NETWORKS[name]), "stops": stopping(kind, NETWORKS[name])}
    assert_blind(kind, learners, SPOILS[: times(len(SPOILS))], expected=2, vectorize=False)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_neither_do_fits_that_are_trained_together(kind, name, times):
    """Networks of one program, some with early stopping; each must be as blind as alone."""
    learners = {
        "plain": ts.grid(learner(kind, NETWORKS[name]), optimizer__lr=[0.001, 0.01, 0.1]),
        "stops": ts.grid(stopping(kind, NETWORKS[name]), optimizer__lr=[0.01, 0.05, 0.1]),
    }
    assert_blind(kind, learners, SPOILS[: times(len(SPOILS))], expected=6)


@pytest.mark.parametrize("name", ["Linear", "MLP", "TabM"])
def test_nor_where_another_fold_of_the_program_trains_on_them(name):
    """All folds at once: the test rows of one are training rows of its neighbours in the same program."""
    learners = {"net": learner("classification", NETWORKS[name])}
    plain = digests(make_frame(), "classification", learners, SPLITS)
    for fold, (_, test) in enumerate(SPLITS):
        other = digests(spoiled(values, test), "classification", learners, SPLITS)
        assert [other["net", k] == plain["net", k] for k in range(3)] == [k == fold for k in range(3)]


def searches() -> dict:
    net, stops = learner("classification", ts.MLP((6,))), stopping("classification", ts.MLP((6,)))
    tried = {"optimizer__lr": [0.001, 0.01, 0.1]}
    prepared = make_column_transformer(
        (StandardScaler(), ["z", "canary"]),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["text", "level"]),
        remainder="drop",
    )
    return {
        "grid": ts.GridSearchCV(net, tried, cv=3, scoring="neg_log_loss"),
        "stopping": ts.GridSearchCV(stops, tried, cv=3, scoring="neg_log_loss"),
        "random": ts.RandomizedSearchCV(net, tried, n_iter=2, random_state=0, cv=3, scoring="neg_log_loss"),
        "pipeline": make_pipeline(prepared, learner("classification", ts.MLP((6,)), encoder=None)),
        "recipe": learner("classification", **{**ts.recipes.realmlp("classification"), "max_epochs": 3}),
        "stratified": learner("classification", ts.Linear(), loss="aum",
                              batch_sampler=ts.StratifiedBatchSampler(1)),
    }  # fmt: skip


@pytest.mark.timeout(600)
def test_neither_do_searches_pipelines_recipes_and_samplers(times):
    chosen = searches()
    assert_blind("classification", chosen, SPOILS[: times(len(SPOILS))], expected=len(chosen))


def test_who_asks_for_the_test_rows_gets_them():
    """``valid="test"`` is for curves; a digest that did not change here would say nothing above."""
    train, test = SPLITS[0]
    sees = {"sees": learner("classification", ts.MLP((6,)), valid="test")}
    one, two = (digests(frame, "classification", sees, [(train, test)])
                for frame in (make_frame(), spoiled(values, test)))  # fmt: skip
    assert one != two
