from __future__ import annotations

import pytest

from torchstrata.errors import ConfigError
from torchstrata.experiment.presentation import leaderboards
from torchstrata.experiment.result import BenchmarkResult


@pytest.fixture(scope="module")
def result(tables) -> BenchmarkResult:
    grid = {"mlp, random": {"optimizer__lr": [0.1, 0.01, 0.001]}}
    return BenchmarkResult(**tables(tasks=("a", "b", "c"), grid=grid, folds=3, epochs=3, rows=60))


@pytest.mark.parametrize("kind", leaderboards.KINDS)
def test_every_kind_is_drawn_in_both_widths(result, kind):
    for width in (3.35, 7.0):
        plot = result.plot(kind=kind, width=width)
        assert len(plot.table) and plot.figure.get_figwidth() <= width


def test_differences_are_those_of_compare(result):
    drawn = result.plot(kind="differences").table
    tested = result.compare()
    assert len(drawn) == len(tested)
    for task, rows in tested.groupby("task"):
        mine = drawn[drawn["task"] == task]
        assert mine["mean"].tolist() == pytest.approx(rows["difference"].tolist())
        assert mine["low"].tolist() == pytest.approx(rows["low"].tolist())


def test_ranks_are_those_of_ranks(result):
    drawn, known = result.plot(kind="critical_difference").table, result.ranks()
    assert drawn["learner"].tolist() == known["learner"].tolist() and drawn["rank"].tolist() == known["rank"].tolist()


def test_trials_are_the_means_of_the_settings(result):
    drawn = result.plot("accuracy", kind="tuning", task="b").table
    means = result.aggregate("accuracy")
    means = means[(means["task"] == "b") & (means["learner"] == "mlp, random")]
    assert drawn["value"].tolist() == means["mean"].tolist() and drawn["label"].unique().tolist() == ["mlp, random"]


def test_settings_of_the_function_go_through(result):
    assert result.plot(kind="calibration", bins=4).table["bin"].max() <= 3
    assert set(result.plot(kind="differences", against="dummy").table["against"]) == {"dummy"}
    assert result.plot(kind="cost", costs=["fit_seconds"]).table["cost"].unique().tolist() == ["fit_seconds"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "calibration", "bin": 4}, "has no setting 'bin'. Did you mean 'bins'"),
        ({"kind": "confusion", "positive": "R"}, "has no setting 'positive'"),
        ({"kind": "roc", "measure": "accuracy"}, "takes no measure"),
        ({"kind": "critical_difference", "task": "a"}, "over all tasks"),
        ({"kind": "scoers"}, "Did you mean 'scores'"),
    ],
)
def test_what_makes_no_sense_is_refused(result, settings, said):
    with pytest.raises(ConfigError, match=said):
        result.plot(settings.pop("measure", None), **settings)


@pytest.mark.slow
def test_a_result_writes_its_report(result, tmp_path):
    path = result.report(tmp_path / "r.html", title="Mine")
    assert "<title>Mine</title>" in path.read_text(encoding="utf-8")


def test_tuning_needs_a_grid(tables):
    with pytest.raises(ConfigError, match=r"ts\.grid"):
        BenchmarkResult(**tables(folds=2, epochs=2, rows=40)).plot(kind="tuning")
