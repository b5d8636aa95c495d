from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from torchstrata.errors import ConfigError
from torchstrata.plots import learning_curves


def history(**changes) -> pd.DataFrame:
    rows = []
    for fold, n in [(0, 3), (1, 5)]:
        rows += [(fold, k, 1.0 / k, 1.0 / k + fold, k == n - 1) for k in range(1, n + 1)]
    table = pd.DataFrame(rows, columns=["fold", "epoch", "train_loss", "valid_loss", "best"])
    return table.assign(task="t", learner="a").assign(**changes)


def test_means_are_over_folds_and_drawn_while_all_train():
    plot = learning_curves(history())
    valid = plot.table.query("part == 'valid'").set_index("epoch")
    assert valid.loc[2, "mean"] == pytest.approx(1.0) and list(valid["n"]) == [2, 2, 2, 1, 1]
    thick = [line for line in plot.axes[0].lines if line.get_linewidth() == 1.4 and line.get_marker() != "o"]
    assert [list(line.get_xdata()) for line in thick] == [[1, 2, 3], [1, 2, 3]]


def test_the_best_epoch_is_the_mean_over_folds_rounded_up():
    plot = learning_curves(history())
    assert list(plot.table.query("part == 'valid' and best")["epoch"]) == [3]  # of 2 and 4
    dots = next(line for line in plot.axes[0].lines if line.get_marker() == "o")
    assert list(dots.get_xdata()) == [2, 4] and list(dots.get_ydata()) == [0.5, 1.25]


def test_without_validation_or_best_there_are_only_training_curves():
    plot = learning_curves(history().drop(columns=["valid_loss", "best"]))
    assert set(plot.table["part"]) == {"train"} and not plot.table["best"].any()
    plot.to_png()


def test_epochs_that_were_not_evaluated_are_bridged():
    table = history()
    table.loc[table["epoch"] % 2 == 0, "valid_loss"] = np.nan
    plot = learning_curves(table)
    assert list(plot.table.query("part == 'valid'")["epoch"]) == [1, 3, 5]


def test_another_measure_may_be_drawn(tables):
    plot = learning_curves(tables(epochs=4)["history"], measure="roc_auc")
    assert plot.axes[0].get_ylabel() == "roc_auc" and set(plot.table["part"]) == {"valid"}
    with pytest.raises(ConfigError, match=r"no measure 'rocauc'. Did you mean 'roc_auc'"):
        learning_curves(tables(epochs=4)["history"], measure="rocauc")


def test_two_learners_share_a_panel_and_many_get_one_each(tables):
    two = {"mlp a": 1.0, "mlp b": 1.0}
    assert len(learning_curves(tables(learners=two, epochs=3)["history"]).axes) == 1
    many = {f"mlp {i}": 1.0 for i in range(12)}
    plot = learning_curves(tables(learners=many, folds=2, epochs=3)["history"])
    assert [axis.get_title(loc="left") for axis in plot.axes] == list(many)
    assert len({axis.get_ylim() for axis in plot.axes}) == 1  # comparable


def test_a_fold_that_diverged_does_not_squeeze_the_others():
    table = history()
    table = pd.concat([table.assign(learner="a", fold=table["fold"] + 2 * k) for k in range(20)], ignore_index=True)
    table.loc[5, "valid_loss"] = 1e9
    plot = learning_curves(table)
    assert plot.axes[0].get_ylim()[1] < 10 and plot.axes[0].texts[0].get_text() == "up to 1e+09"


def test_infinite_losses_and_a_single_epoch_can_be_drawn():
    learning_curves(history(valid_loss=np.inf)).to_png()
    learning_curves(history().query("epoch == 1")).to_png()


def test_an_all_empty_measure_is_refused():
    with pytest.raises(ConfigError, match="no value of 'loss'"):
        learning_curves(history(train_loss=np.nan, valid_loss=np.nan))
