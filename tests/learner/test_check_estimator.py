"""scikit-learn's own checks: none is expected to fail, except what shuffled mini-batches cannot do."""

import warnings

import pytest
from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data, parametrize_with_checks

import torchstrata as ts

REASON = "shuffled mini-batches: repeating a row and doubling its weight put different rows into a batch"
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": REASON,
    "check_sample_weight_equivalence_on_sparse_data": REASON,
}


def full_batch(learner, network):
    return learner(
        network,
        optimizer=ts.optim.AdamW(lr=0.05),
        batch_size="all",
        encoder=None,
        max_epochs=100,
        random_state=0,
        runtime=ts.Runtime("cpu", precision="float64"),
    )


FULL = [full_batch(cls, net) for cls in (ts.TorchClassifier, ts.TorchRegressor) for net in (ts.Linear(), ts.MLP((20,)))]
DEFAULT = [ts.TorchClassifier(), ts.TorchRegressor()]


def expected_failures(learner):
    return EXPECTED if learner.batch_size != "all" else {}


@parametrize_with_checks([*FULL, *DEFAULT], expected_failed_checks=expected_failures)
def test_scikit_learn_accepts_the_learner(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks feed odd data on purpose
        check(estimator)


UNWEIGHTED = "batch normalisation, the quantiles of an embedding and initial values from rows know no weights"
TABLES = [
    full_batch(ts.TorchClassifier, ts.TabM(1, d_block=8, k=2, dropout=0.0)),
    full_batch(ts.TorchRegressor, ts.FTTransformer(1, d_block=8, n_heads=2, attention_dropout=0.0)),
    full_batch(ts.TorchClassifier, ts.ResNet(1, d_block=8, dropout1=0.0)),
    full_batch(ts.TorchRegressor, ts.MLP((16,), embedding=ts.layers.PiecewiseLinearEmbedding(4, n_bins=4))),
    full_batch(ts.TorchClassifier, ts.RealMLP((16,), dropout=0.0, n_frequencies=2)),
    full_batch(ts.TorchRegressor, ts.RealMLP((16,), dropout=0.0, n_frequencies=2)),
]


def expected_of_tables(learner):
    weighted = not (isinstance(learner.network, ts.ResNet) or learner.network.uses_rows)
    return {} if weighted else dict.fromkeys(EXPECTED, UNWEIGHTED)


@parametrize_with_checks(
    [learner.set_params(max_epochs=25) for learner in TABLES], expected_failed_checks=expected_of_tables
)
def test_scikit_learn_accepts_networks_for_tables(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks feed odd data on purpose
        check(estimator)


def test_the_expected_failures_are_exactly_the_weight_equivalence_pair():
    assert [expected_failures(learner) for learner in FULL] == [{}] * 4
    for learner in DEFAULT:
        assert set(expected_failures(learner)) == {
            "check_sample_weight_equivalence_on_dense_data",
            "check_sample_weight_equivalence_on_sparse_data",
        }
        assert all("mini-batches" in reason for reason in expected_failures(learner).values())


@pytest.mark.parametrize("learner", DEFAULT, ids=["classifier", "regressor"])
def test_the_expected_failure_is_needed(learner):
    """As soon as the default instance can do it, the exception goes."""
    with pytest.raises(AssertionError, match="sample_weight"):
        check_sample_weight_equivalence_on_dense_data(type(learner).__name__, learner)
