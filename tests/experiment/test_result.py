from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.plots.measures import interval

GRID = {"mlp": {"loss": ["aum", "cross_entropy"], "optimizer__lr": [0.001, 0.01]}}


@pytest.fixture
def result(tables) -> BenchmarkResult:
    return BenchmarkResult(**tables(tasks=("sonar", "spam"), fail=[("sonar", "linear", 1)], epochs=3))


@pytest.fixture
def gridded(tables) -> BenchmarkResult:
    return BenchmarkResult(**tables(learners={"mlp": 1.2, "dummy": 0.0}, grid=GRID, epochs=3))


def small(values: dict[str, list[float]], *, measure="roc_auc", **splits) -> BenchmarkResult:
    rows = [("t", name, k, measure, v) for name, each in values.items() for k, v in enumerate(each)]
    n = max(map(len, values.values()))
    sizes = {"task": "t", "fold": range(n), "n_train": 80, "n_test": 20} | splits
    scores = pd.DataFrame(rows, columns=["task", "learner", "fold", "measure", "value"])
    return BenchmarkResult(scores, splits=pd.DataFrame(sizes))


# ---- the value itself


def test_properties(result, gridded):
    assert result.grid_columns == [] and gridded.grid_columns == ["loss", "optimizer__lr"]
    assert result.measures == ["roc_auc", "accuracy", "neg_log_loss", "fit_seconds", "epochs"]


def test_nothing_that_is_handed_out_changes_the_result(result):
    scores = result.scores
    scores["loss"] = 1
    scores.loc[0, "value"] = 99.0
    result.tasks["sonar"]["n_rows"] = -1
    result.info["versions"]["python"] = "2"
    assert result.grid_columns == [] and result.scores["value"].max() < 99
    assert result.tasks["sonar"]["n_rows"] == 200 and result.info["versions"]["python"] == "3.11.2"
    with pytest.raises(AttributeError):
        result.scores = None


def test_repr_is_one_line(result, gridded):
    assert repr(result) == (
        "BenchmarkResult(2 tasks, 5 learners, 5 folds; roc_auc, accuracy, neg_log_loss; 1 of 50 cells failed)"
    )
    assert "2 learners, 5 settings" in repr(gridded)


def test_notebooks_get_an_escaped_table(tables):
    html = BenchmarkResult(**tables(learners={"<script>": 1.0, "b": 0.5}, epochs=2))._repr_html_()
    assert "&lt;script&gt;" in html and "<script>" not in html and html.count("<b>") == 3


@pytest.mark.parametrize("table", ["scores", "history", "predictions", "errors", "splits"])
def test_a_missing_column_is_named(tables, table):
    given = tables(fail=[("sonar", "linear", 1)], epochs=2)
    given[table] = given[table].rename(columns={"fold": "Fold"})
    with pytest.raises(DataError, match=rf"'{table}' has no column 'fold'. Did you mean 'Fold'"):
        BenchmarkResult(**given)


def test_a_score_twice_and_missing_splits_are_refused(tables):
    given = tables(epochs=2)
    twice = given | {"scores": pd.concat([given["scores"], given["scores"].iloc[[7]]])}
    with pytest.raises(DataError, match=r"twice: .*'learner': 'boosting'"):
        BenchmarkResult(**twice)
    with pytest.raises(DataError, match="no row for task 'sonar'"):
        BenchmarkResult(**given | {"splits": given["splits"].iloc[:0]})


def test_settings_that_cannot_be_keys_are_known_by_their_text(tables):
    given = tables(learners={"mlp": 1.0}, grid={"mlp": {"hidden": [(10,), (20,)]}}, epochs=2)
    given["scores"]["hidden"] = given["scores"]["hidden"].map(list)
    assert set(BenchmarkResult(**given).aggregate("roc_auc")["hidden"]) == {"[10]", "[20]"}


def test_facts_become_plain_json(tables):
    given = tables(epochs=2)
    given["tasks"]["sonar"]["class_counts"] = {np.int64(0): np.int64(3), 1: 4}
    given["info"] = {"seeds": (1, np.float64(2)), "path": pytest}
    found = BenchmarkResult(**given)
    assert found.tasks["sonar"]["class_counts"] == {"0": 3, "1": 4}
    assert found.info["seeds"] == [1, 2.0] and isinstance(found.info["path"], str)


# ---- aggregate


def test_aggregate_uses_the_sizes_of_the_splits(result):
    rows = result.scores.query("task == 'spam' and learner == 'boosting' and measure == 'roc_auc'")
    splits = result.splits.query("task == 'spam'")
    ratio = (splits["n_test"] / splits["n_train"]).median()
    found = result.aggregate("roc_auc").query("task == 'spam' and learner == 'boosting'").iloc[0]
    expected = interval(rows["value"], ratio=ratio, limits=(0, 1))
    assert tuple(found[["mean", "std", "n", "low", "high"]]) == pytest.approx(tuple(expected))


def test_a_larger_test_share_widens_the_interval():
    a, b = (small({"a": [0.5, 0.6, 0.7]}, n_test=n).aggregate().iloc[0] for n in (10, 40))
    assert b["high"] - b["low"] > a["high"] - a["low"]


def test_failed_folds_are_said_and_not_averaged_away(result):
    found = result.aggregate("roc_auc").query("task == 'sonar' and learner == 'linear'").iloc[0]
    rows = result.scores.query("task == 'sonar' and learner == 'linear' and measure == 'roc_auc'")
    assert (found["n"], found["folds"], found["note"]) == (4, 5, "1 of 5 folds failed")
    assert found["mean"] == pytest.approx(rows["value"].dropna().mean())
    assert (result.aggregate("epochs")["note"] == "").all()


def test_aggregate_by_other_columns(gridded):
    assert list(gridded.aggregate("roc_auc", by="loss")["folds"]) == [5, 5, 5]  # aum, cross_entropy, not set
    # variants on the same rows are no more folds: they are averaged first, and the interval is that of five folds
    pooled = gridded.aggregate("roc_auc", by="loss").set_index("loss").loc["aum"]
    aum = gridded.scores.query("measure == 'roc_auc' and loss == 'aum'").groupby("fold")["value"].mean()
    assert pooled["mean"] == pytest.approx(aum.mean()) and pooled["std"] == pytest.approx(aum.std())
    assert len(gridded.aggregate("accuracy", by=["learner", "fold"])) == 10
    assert len(gridded.aggregate()) == 5 * 5
    assert (gridded.aggregate("roc_auc", level=0.5)["high"] <= gridded.aggregate("roc_auc")["high"]).all()


def test_aggregate_refuses_what_it_does_not_know(result):
    with pytest.raises(ConfigError, match=r"Unknown measure 'rocauc'. Did you mean 'roc_auc'"):
        result.aggregate("rocauc")
    with pytest.raises(ConfigError, match=r"Cannot aggregate by 'lerner'. Did you mean 'learner'"):
        result.aggregate(by="lerner")
    with pytest.raises(ConfigError, match="level must lie between 0 and 1"):
        result.aggregate(level=95)


# ---- leaderboard


def test_leaderboard_is_sorted_and_marks_the_best(result):
    board = result.leaderboard()
    assert list(board.columns) == ["task", "learner", "roc_auc", "accuracy", "neg_log_loss", "fit_seconds", "best"]
    means = result.aggregate("roc_auc").query("task == 'sonar'").sort_values("mean", ascending=False)
    assert list(board.query("task == 'sonar'")["learner"]) == list(means["learner"])
    top = means.iloc[0]
    first = board.iloc[0]
    assert first["roc_auc"] == f"{top['mean']:.3f} [{top['low']:.3f}, {top['high']:.3f}]"
    assert "roc_auc" in first["best"].split(", ") and "fit_seconds" not in " ".join(board["best"])


def test_ties_are_both_best_and_a_lucky_remainder_is_not():
    lucky = [1.0, 1.0, np.nan]
    board = small({"a": [0.7, 0.8, 0.9], "b": [0.9, 0.8, 0.7], "lucky": lucky, "c": [0.5] * 3}).leaderboard()
    assert list(board.set_index("learner").loc[["lucky", "a", "b", "c"], "best"]) == ["", "roc_auc", "roc_auc", ""]
    assert board.set_index("learner").loc["lucky", "roc_auc"].endswith("(1 of 3 folds failed)")


def test_an_all_failed_learner_comes_last_and_is_never_best():
    board = small({"a": [np.nan, np.nan], "b": [0.1, 0.2]}).leaderboard()
    assert list(board["learner"]) == ["b", "a"] and board.loc[1, "roc_auc"] == "– (2 of 2 folds failed)"
    assert set(small({"a": [np.nan, np.nan]}).leaderboard()["best"]) == {""}


def test_numbers_are_written_as_their_size_asks():
    board = small({"a": [-1234.5, -1300.0], "b": [-2000.0, -2100.0]}, measure="neg_mean_squared_error").leaderboard()
    assert board.loc[0, "neg_mean_squared_error"].startswith("−1267 [")


def test_a_learner_without_a_measure_has_a_dash(tables):
    given = tables(epochs=2)
    drop = (given["scores"]["learner"] == "dummy") & (given["scores"]["measure"] == "accuracy")
    given["scores"] = given["scores"][~drop]
    board = BenchmarkResult(**given).leaderboard()
    assert board.set_index("learner").loc["dummy", "accuracy"] == "–"


def test_rich_table_shows_intervals_settings_and_the_best_in_bold_green(gridded, result):
    console = Console(width=160, force_terminal=True, color_system="standard", record=True)
    console.print(gridded.to_rich())
    text = console.export_text(styles=True)
    mean, low, high = re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", gridded.leaderboard().iloc[0]["roc_auc"]).groups()
    assert f"\x1b[1;32m{mean}" in text and f"\x1b[1;32m{low}–{high}" in text
    assert "fit" not in text  # costs stand in the report
    plain = Console(width=80, record=True)
    plain.print(result.to_rich("roc_auc"))
    assert "linear (1 of 5 folds failed)" in plain.export_text()


# ---- compare


def test_compare_is_the_corrected_paired_test_by_hand():
    a, b = [0.9, 0.88, 0.95, 0.91, 0.9], [0.85, 0.86, 0.9, 0.84, 0.88]
    row = small({"b": b, "a": a}).compare("roc_auc").iloc[0]
    d = np.array(b) - np.array(a)
    scale = d.std(ddof=1) * np.sqrt(1 / 5 + 20 / 80)
    assert (row["learner"], row["best"], row["n"]) == ("b", "a", 5)
    assert row["difference"] == pytest.approx(d.mean())
    assert row["p_value"] == pytest.approx(2 * stats.t.sf(abs(d.mean() / scale), 4)) == row["p_holm"]
    assert row["low"] == pytest.approx(d.mean() - stats.t.ppf(0.975, 4) * scale)
    assert (row["low"] <= 0 <= row["high"]) == (row["p_value"] >= 0.05)


def test_compare_corrects_within_each_task(result):
    tests = result.compare("roc_auc")
    assert len(tests) == 8 and (tests["p_holm"] >= tests["p_value"]).all()
    assert (tests["p_holm"].groupby(tests["task"]).max() <= 1).all()
    assert (tests["difference"] <= 0).all() and tests.groupby("task")["best"].nunique().eq(1).all()
    linear = tests.query("task == 'sonar' and learner == 'linear'").iloc[0]
    assert (linear["n"], linear["folds"]) == (4, 5)


def test_compare_names_settings_and_costs_go_the_other_way(gridded):
    tests = gridded.compare("roc_auc")
    assert len(tests) == 4 and tests["best"].iloc[0].startswith("mlp, loss=")
    assert (gridded.compare("fit_seconds")["difference"] >= 0).all()


def test_compare_at_its_edges():
    assert small({"a": [0.5, 0.6]}).compare().empty
    assert np.isnan(small({"a": [0.5], "b": [0.6]}).compare()["p_value"].item())
    same = small({"a": [0.5, 0.6], "b": [0.5, 0.6]}).compare()
    assert same["p_value"].item() == 1.0 and same["difference"].item() == 0
    failed = small({"a": [0.5, 0.6], "b": [np.nan, np.nan]}).compare()
    assert failed["n"].item() == 0 and np.isnan(failed["p_holm"].item())
    assert small({"a": [np.nan, np.nan], "b": [np.nan, np.nan]}).compare()["n"].item() == 0


# ---- plot


def test_plots_show_the_numbers_of_the_tables(result):
    means = result.aggregate("accuracy").set_index(["task", "learner"])
    drawn = result.plot("accuracy").table.set_index(["task", "label"])
    for column in ("mean", "low", "high", "n"):
        assert drawn.loc[means.index, column].tolist() == means[column].tolist()
    area = result.plot(kind="roc", task="spam").table.groupby("label")[["auc", "auc_low"]].first()
    roc = result.aggregate("roc_auc").query("task == 'spam'").set_index("learner")
    assert area.loc[roc.index].to_numpy() == pytest.approx(roc[["mean", "low"]].to_numpy())


def test_plots_by_setting_and_of_one_task(gridded, result):
    assert gridded.plot(x="optimizer__lr", color="loss").axes[0].get_xlabel() == "optimizer__lr"
    assert set(result.plot(kind="learning_curves", task="spam").table["task"]) == {"spam"}


def test_plot_refuses_what_it_cannot_draw(result, tables):
    with pytest.raises(ConfigError, match=r"kind of plot 'rock'. Did you mean 'roc'"):
        result.plot(kind="rock")
    with pytest.raises(ConfigError, match=r"task 'sonr'. Did you mean 'sonar'"):
        result.plot(task="sonr")
    with pytest.raises(ConfigError, match="kind='roc' has no use"):
        result.plot(kind="roc", x="loss")
    with pytest.raises(ConfigError, match="no history"):
        small({"a": [1.0, 2.0]}).plot(kind="learning_curves")


# ---- light to import


def test_a_result_is_read_and_reported_without_torch(tables, tmp_path):
    BenchmarkResult(**tables(folds=2, epochs=2)).save(tmp_path / "r")
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'torch': raise ImportError('torch is blocked')\n"
        "sys.meta_path.insert(0, Block())\n"
        "from torchstrata.experiment.result import load_result\n"
        "from torchstrata.experiment.report import write_report\n"
        "result = load_result(sys.argv[1])\n"
        "result.leaderboard(), result.compare(), result.to_rich()\n"
        "assert 'matplotlib' not in sys.modules, 'too early'\n"
        "write_report(result, sys.argv[2])\n"
        "assert 'torch' not in sys.modules"
    )
    arguments = [str(tmp_path / "r"), str(tmp_path / "r.html")]
    subprocess.run([sys.executable, "-W", "error", "-c", code, *arguments], check=True, timeout=120)
