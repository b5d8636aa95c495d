"""Backends: what each needs is said before anything runs, and all of them find the same scores."""

import os
import signal

import pandas as pd
import pytest
from joblib import delayed
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.experiment.workers.backends import as_finished, check_backend, count_workers
from torchstrata.testing.debug import DebugLearner


class TestCheck:
    def test_a_typing_error_is_guessed(self):
        with pytest.raises(ConfigError, match="Did you mean 'dask'"):
            check_backend("dsk")

    def test_no_name_at_all(self):
        with pytest.raises(ConfigError, match="unknown backend 3"):
            check_backend(3)

    def test_benchmark_refuses_before_any_fit(self):
        learner = DebugLearner(error_train=1.0)  # a fit would be an error of another kind
        with pytest.raises(ConfigError, match="Did you mean 'threading'"):
            ts.benchmark(
                ts.load_task("iris"), learner, cv=2, n_jobs=2, backend="treading", on_error="raise", progress=False
            )

    def test_dask_without_a_cluster_says_how_to_make_one(self):
        pytest.importorskip("distributed")
        with pytest.raises(ConfigError, match=r"from dask\.distributed import Client"):
            check_backend("dask")

    def test_ray_without_a_cluster_says_how_to_make_one(self, monkeypatch):
        pytest.importorskip("ray")
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        with pytest.raises(ConfigError, match=r"ray\.init\(\)"):
            check_backend("ray")


@pytest.mark.parametrize("backend", ["loky", "threading", "sequential"])
def test_calls_are_carried_out_once_each(backend):
    calls = [delayed(pow)(number, 2) for number in range(7)]
    assert sorted(as_finished(backend, 2, calls)) == [0, 1, 4, 9, 16, 25, 36]


def test_workers_are_counted():
    assert count_workers("threading", 2) == 2
    assert count_workers("sequential", 2) == 1


def scores_with(**settings):
    """Scores of a small benchmark with stacked, single and foreign cells; times left out."""
    learners = {
        "grid": ts.grid(ts.TorchClassifier(ts.MLP((8,), dropout=0.2), max_epochs=3), optimizer__lr=[1e-3, 1e-2]),
        "linear": ts.TorchClassifier(ts.Linear(), max_epochs=3, random_state=1),
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
    }
    result = ts.benchmark(ts.load_task("iris"), learners, cv=3, scoring="neg_log_loss", progress=False, **settings)
    assert result.errors.empty
    return result.scores.query("measure == 'neg_log_loss'").reset_index(drop=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestClusters:
    def test_dask(self):
        distributed = pytest.importorskip("distributed")
        here = scores_with()
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None
            ) as cluster,
            distributed.Client(cluster),
        ):
            there = scores_with(n_jobs=2, backend="dask")
        pd.testing.assert_frame_equal(here, there, rtol=1e-5)

    def test_dask_workers_with_several_threads_are_refused(self):
        distributed = pytest.importorskip("distributed")
        with (
            distributed.LocalCluster(
                n_workers=1,
                threads_per_worker=2,
                processes=False,
                dashboard_address=None,
                worker_dashboard_address=None,
            ) as cluster,
            distributed.Client(cluster),
            pytest.raises(ConfigError, match=r"has 2 threads.*threads_per_worker=1"),
        ):
            check_backend("dask")

    def test_ray(self, monkeypatch):
        ray = pytest.importorskip("ray")
        monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
        monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        here = scores_with()
        before = signal.getsignal(signal.SIGTERM)  # Ray takes it, and keeps it
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            there = scores_with(n_jobs=2, backend="ray")
        finally:
            ray.shutdown()
            signal.signal(signal.SIGTERM, before)
            os.environ.pop("RAY_ADDRESS", None)
        pd.testing.assert_frame_equal(here, there, rtol=1e-5)
