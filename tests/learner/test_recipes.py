"""Recipes: settings of a learner as the authors of a network chose them."""

import pytest

import torchstrata as ts
from torchstrata.errors import ConfigError


def given_by_the_authors(kind):
    defaults = pytest.importorskip("pytabkit.models.sklearn.default_params").DefaultParams
    return defaults.RealMLP_TD_CLASS if kind == "classification" else defaults.RealMLP_TD_REG


@pytest.mark.parametrize(
    ("kind", "learner"), [("classification", ts.TorchClassifier), ("regression", ts.TorchRegressor)]
)
def test_realmlp_has_the_authors_numbers(kind, learner):
    theirs, ours = given_by_the_authors(kind), learner(**ts.recipes.realmlp(kind))
    net, optimizer, schedule = ours.network, ours.optimizer, ours.schedule
    assert list(net.hidden) == theirs["hidden_sizes"]
    assert (net.dropout, net.one_hot, net.category_size) == (
        theirs["p_drop"], theirs["max_one_hot_cat_size"] - 1, theirs["embedding_size"],  # theirs counts missing as one
    )  # fmt: skip
    assert (net.n_frequencies, net.number_size, net.frequency_scale) == (
        theirs["plr_hidden_1"], theirs["plr_hidden_2"], theirs["plr_sigma"]
    )  # fmt: skip
    assert net.clamp or not theirs.get("clamp_output")
    assert (optimizer.lr, optimizer.betas, optimizer.weight_decay) == (
        theirs["lr"],
        (0.9, theirs["sq_mom"]),
        theirs["wd"],
    )
    assert ours.max_epochs == theirs["n_epochs"]
    assert ours.batch_size == 256  # the default of their training loop
    assert theirs["lr_sched"] == f"coslog{schedule.lr.cycles}"
    assert theirs["wd_sched"] == theirs["p_drop_sched"] == "flat_cos"
    assert schedule.weight_decay == schedule.dropout == ts.schedules.FlatCos(0.5)
    smoothing = ours.loss.get_params().get("label_smoothing", 0.0)
    assert smoothing == (theirs["ls_eps"] if theirs.get("use_ls") else 0.0)


def test_without_validation_rows_the_last_epoch_stays():
    recipe = ts.recipes.realmlp("classification", valid=None)
    assert not {"valid", "early_stopping", "scoring"} & set(recipe)
    assert ts.recipes.realmlp("regression", valid=0.3)["valid"] == 0.3


def test_another_kind_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'regression'"):
        ts.recipes.realmlp("regresion")
