from __future__ import annotations

import numpy as np
import pandas as pd

import torchstrata as ts
from torchstrata.experiment.defaults import default_learners, numbers_of_dates


def dated(n: int = 120, **more) -> ts.Task:
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.random.default_rng(0).permutation(n) * 9, "D")
    late = days > pd.Timestamp("2021-05-01")
    return ts.Task(pd.DataFrame({"day": days, "y": np.where(late, "late", "early"), **more}), target="y", stratum="y")


def test_baselines_see_dates_as_torch_learners_do():
    for task in (dated(), dated(city=["a", "b"] * 60, size=np.arange(120.0))):
        learners = default_learners(task, names=["logistic", "boosting"])
        result = ts.benchmark(task, learners, cv=2, scoring="roc_auc", progress=False)
        assert result.errors.empty
        assert (result.aggregate("roc_auc")["mean"] > 0.9).all()


def test_numbers_of_dates_keep_what_is_missing():
    table = pd.DataFrame({"t": pd.to_datetime(["1970-01-02 03:00", None])})
    np.testing.assert_array_equal(numbers_of_dates(table), [[97200, 1, 2, 4, 3], [np.nan] * 5])
