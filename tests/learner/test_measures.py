import numpy as np
import pytest
from sklearn.metrics import get_scorer, make_scorer, r2_score, roc_auc_score

import torchstrata as ts
from torchstrata.learner.measures import ClassResponse, NumberResponse, measures_for

DECISION = np.array([-1.0, 0.5, 2.0, -0.2])
PROBA = np.column_stack([1 / (1 + np.exp(DECISION)), 1 / (1 + np.exp(-DECISION))])
TRUTH = np.array([0, 1, 1, 1])


def measures(scoring, kind="classification", **settings):
    return measures_for(scoring, kind, **{"ranks_only": False, "stops": False, **settings})


def test_scorers_see_a_fitted_classifier():
    scores = measures(("roc_auc", "accuracy", "neg_log_loss", "f1")).score(ClassResponse(DECISION, PROBA), TRUTH)
    assert scores["roc_auc"] == 1.0 and scores["accuracy"] == 0.75
    assert scores["neg_log_loss"] == pytest.approx(np.log(PROBA[np.arange(4), TRUTH]).mean())
    assert scores["f1"] == pytest.approx(0.8)


def test_several_classes():
    decision = np.eye(3)[[0, 1, 2, 1]]
    scores = measures(("accuracy", "roc_auc_ovr")).score(ClassResponse(decision, decision), np.array([0, 1, 2, 2]))
    assert scores["accuracy"] == 0.75 and 0 < scores["roc_auc_ovr"] < 1


def test_scorers_see_a_fitted_regressor():
    y, p = np.array([1.0, 2, 4]), np.array([1.5, 2, 3])
    scores = measures(["r2", "neg_mean_absolute_error"], "regression").score(NumberResponse(p), y)
    assert scores == {"r2": pytest.approx(r2_score(y, p)), "neg_mean_absolute_error": -0.5}


def test_the_first_measure_decides_greater_is_better():
    chosen = measures(("neg_log_loss", "roc_auc"))
    assert (chosen.first, chosen.sign, list(chosen.scorers)) == ("neg_log_loss", 1, ["neg_log_loss", "roc_auc"])
    assert (measures(()).first, measures(()).sign) == ("loss", -1) == (measures(None).first, measures(None).sign)


def test_a_loss_that_only_ranks_is_stopped_by_roc_auc():
    assert measures((), ranks_only=True, stops=True).first == "roc_auc"
    assert measures((), ranks_only=True).first == "loss"


def test_names_functions_and_dicts():
    def share_positive(estimator, X, y):
        return float(estimator.predict(X).mean())

    assert list(measures(share_positive).scorers) == ["share_positive"]
    assert list(measures("accuracy").scorers) == ["accuracy"]
    assert list(measures({"auc": "roc_auc", "mine": share_positive}).scorers) == ["auc", "mine"]
    scores = measures({"auc": get_scorer("roc_auc"), "mine": share_positive}).score(
        ClassResponse(DECISION, None), TRUTH
    )
    assert scores == {"auc": 1.0, "mine": 0.5}


@pytest.mark.parametrize(
    ("scoring", "kind", "settings", "message"),
    [
        ("roc_acu", "classification", {}, "unknown measure 'roc_acu' in scoring. Did you mean 'roc_auc'"),
        (3, "classification", {}, "unknown measure 3"),
        ({"accuracy"}, "classification", {}, "scoring is a set, which has no order"),
        ("roc_auc", "regression", {}, "is for classification; for regression use"),
        ("f1", "regression", {}, "is for classification"),
        ("neg_log_loss", "classification", {"ranks_only": True}, "needs probabilities.*use 'roc_auc'"),
    ],
)
def test_measures_that_cannot_work(scoring, kind, settings, message):
    with pytest.raises(ts.ConfigError, match=message):
        measures(scoring, kind, **settings)


def test_a_response_without_probabilities_has_no_such_method():
    assert not hasattr(ClassResponse(DECISION, None), "predict_proba")
    assert (
        make_scorer(roc_auc_score, response_method="decision_function")(
            ClassResponse(DECISION, None), np.zeros((4, 1)), TRUTH
        )
        == 1.0
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "aum"])
def test_rows_of_weight_zero_count_for_no_score(loss):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y, absent = (X[:, 0] > 0).astype(int), np.arange(200) % 2 == 1
    y[absent] = 1 - y[absent]
    learner = ts.TorchClassifier(
        ts.Linear(), loss=loss, max_epochs=30, batch_size="all", optimizer=ts.optim.AdamW(lr=0.1), valid=0.3,
        scoring="accuracy", random_state=0,
    )  # fmt: skip
    last = learner.fit(X, y, sample_weight=np.where(absent, 0.0, 1.0)).history_.iloc[-1]
    assert last["train_accuracy"] > 0.9
    without = ts.TorchClassifier(**{**learner.get_params(deep=False), "valid": None}).fit(X[~absent], y[~absent])
    assert without.history_.iloc[-1]["train_accuracy"] > 0.9
