from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from torchstrata.errors import ConfigError
from torchstrata.experiment.result import BenchmarkResult

TWO = {"linear": 1.0, "dummy": 0.0}


@pytest.fixture
def given(tables) -> dict:
    return tables(learners=TWO, fail=[("sonar", "dummy", 1)], folds=3, epochs=2)


def part(given: dict, learner: str) -> BenchmarkResult:
    kept = {
        k: v[v["learner"] == learner] if isinstance(v, pd.DataFrame) and "learner" in v else v for k, v in given.items()
    }
    return BenchmarkResult(**kept | {"learners": {learner: given["learners"][learner]}})


def test_two_halves_equal_the_whole(given):
    whole = BenchmarkResult(**given)
    both = part(given, "linear") + part(given, "dummy")
    for name in ("scores", "history", "predictions", "errors", "splits"):
        pd.testing.assert_frame_equal(getattr(both, name), getattr(whole, name))
    assert (both.tasks, both.learners, both.info) == (whole.tasks, whole.learners, whole.info)
    pd.testing.assert_frame_equal(both.compare(), whole.compare())


def test_the_same_cells_count_once(given):
    whole = BenchmarkResult(**given)
    both = whole + part(given, "dummy")
    pd.testing.assert_frame_equal(both.scores, whole.scores)
    pd.testing.assert_frame_equal(both.errors, whole.errors)
    assert both.info == whole.info


def test_the_same_cell_with_another_score_is_refused(given):
    other = given | {"scores": given["scores"].copy()}
    other["scores"].loc[0, "value"] += 1e-9
    with pytest.raises(ConfigError, match=r"Both results have the cell task='sonar', learner='linear', fold=0"):
        BenchmarkResult(**given) + BenchmarkResult(**other)


def test_a_failed_cell_is_not_the_same_as_one_that_worked(given):
    other = given | {"scores": given["scores"].copy()}
    cell = (other["scores"]["fold"] == 1) & (other["scores"]["measure"] == "roc_auc")
    other["scores"].loc[cell, "value"] = other["scores"].loc[cell, "value"].fillna(0.5)
    with pytest.raises(ConfigError, match="learner='dummy', fold=1, with different scores"):
        BenchmarkResult(**given) + BenchmarkResult(**other)


def test_grid_columns_of_one_side_are_not_set_on_the_other(given, tables):
    other = tables(learners={"mlp": 1.0}, grid={"mlp": {"optimizer__lr": [0.1, 0.2]}}, folds=3, epochs=2)
    both = BenchmarkResult(**given) + BenchmarkResult(**other)
    assert both.grid_columns == ["optimizer__lr"] and both.scores["optimizer__lr"].dtype == float
    assert len(both.aggregate("roc_auc")) == 4
    assert np.isnan(both.aggregate("roc_auc").set_index("learner").loc["dummy", "optimizer__lr"])
    assert len((both + both).scores) == len(both.scores)


def test_what_contradicts_itself_is_refused(given):
    result = BenchmarkResult(**given)
    task = {"sonar": given["tasks"]["sonar"] | {"fingerprint": "other"}}
    with pytest.raises(ConfigError, match="The task 'sonar' is not the same"):
        result + BenchmarkResult(**given | {"tasks": task})
    with pytest.raises(ConfigError, match="The learner 'dummy' is not the same"):
        result + BenchmarkResult(**given | {"learners": given["learners"] | {"dummy": "Other()"}})
    with pytest.raises(ConfigError, match="Fold 0 of task 'sonar' has other sizes"):
        result + BenchmarkResult(**given | {"splits": given["splits"].assign(n_train=1)})
    with pytest.raises(TypeError):
        result + 1


def test_runs_are_all_remembered(given):
    other = given | {"info": {"seed": 2}}
    both = part(given, "linear") + part(other, "dummy")
    assert both.info["combined"] == [given["info"], {"seed": 2}] and both.info["seed"] == 1
    assert (both + both).info == both.info


def test_folds_of_equal_size_that_test_other_rows_are_refused(given):
    other = {**given, "predictions": given["predictions"].assign(row=lambda t: (t["row"] + 1) % 200)}
    with pytest.raises(ConfigError, match="Fold 0 of task 'sonar' tests other rows"):
        part(given, "linear") + part(other, "dummy")
