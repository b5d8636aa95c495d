import numpy as np
import pytest
import torch

import torchstrata as ts
from torchstrata.learner import base
from torchstrata.learner.settings import resolve_settings

BAD = [
    ({"max_epochs": -1}, "max_epochs must be an int >= 0 or 'auto', got -1"),
    ({"max_epochs": 2.5}, "max_epochs must be an int >= 0 or 'auto', got 2.5"),
    ({"max_epochs": True}, "max_epochs must be an int >= 0 or 'auto', got True"),
    ({"eval_every": 0}, "eval_every must be an int >= 1, got 0"),
    *[({"batch_size": b}, "batch_size must be an int >= 1, 'all' or 'auto'") for b in (0, -1, 2.5, "a", True, None)],
    ({"valid": 0}, r"valid must be a ratio in \(0, 1\), None or 'test', got 0"),
    ({"valid": 1.0}, "valid must be a ratio"),
    ({"valid": True}, "valid must be a ratio"),
    ({"valid": "tets"}, "Did you mean 'test'"),
    ({"valid": float("nan")}, "valid must be a ratio"),
    ({"early_stopping": 5}, r"early_stopping must be a ts.EarlyStopping\(...\) or None, got 5"),
    ({"early_stopping": ts.EarlyStopping()}, "early_stopping needs validation rows: set valid=0.2"),
    ({"loss": "amu"}, "unknown loss 'amu'. Did you mean 'aum'"),
    ({"optimizer": "adamm"}, "unknown optimizer 'adamm'. Did you mean 'adam'"),
    ({"optimizer": torch.optim.SGD(torch.nn.Linear(1, 1).parameters())}, "optimizer is a SGD of other parameters"),
    ({"optimizer": 3}, "optimizer must be a name or a function"),
    ({"schedule": "cosin"}, "unknown schedule 'cosin'"),
    ({"runtime": "cdua"}, "unknown device 'cdua'. Did you mean 'cuda'"),
    ({"runtime": 3}, "runtime must be a device name"),
    ({"batch_sampler": ts.StratifiedBatchSampler}, r"is the class StratifiedBatchSampler; give a value"),
    ({"batch_sampler": 32}, "batch_sampler must be a sampler or a function"),
    ({"callbacks": ts.callbacks.GradientNorm()}, r"callbacks must be a list or tuple.*write callbacks=\("),
    ({"callbacks": (ts.callbacks.GradientNorm,)}, "holds the class GradientNorm; give an instance"),
    ({"callbacks": (object(),)}, "has no hook"),
    ({"augment": torch.nn.Identity}, "augment must be a list or tuple"),
    ({"augment": (3,)}, r"augment must hold functions \(x, generator\) -> x, got 3"),
    ({"scoring": "acuracy"}, "unknown measure 'acuracy' in scoring"),
    ({"encoder": "atuo"}, "encoder must be 'auto', None or a scikit-learn transformer"),
    ({"encoder": 3}, "encoder must be"),
    ({"encoder": ts.Encoder}, "encoder must be"),
    ({"network": "lineer"}, "unknown network 'lineer'. Did you mean 'linear'"),
    ({"trainable": "head.*"}, "pattern 'head.*' matches no parameter"),
]


@pytest.mark.parametrize("learner", [ts.TorchClassifier, ts.TorchRegressor])
@pytest.mark.parametrize(("settings", "message"), BAD, ids=[f"{next(iter(s))}-{i}" for i, (s, _) in enumerate(BAD)])
def test_settings_that_cannot_work_are_refused_before_training(monkeypatch, learner, settings, message):
    finished = []
    monkeypatch.setattr(base, "train", lambda *a, _train=base.train, **k: (_train(*a, **k), finished.append(1))[0])
    X = np.random.default_rng(0).normal(size=(20, 2))
    made = learner(**settings)
    with pytest.raises(ts.ConfigError, match=message):
        made.fit(X, np.arange(20) % 2)
    assert not finished and not [name for name in vars(made) if name.endswith("_")]


@pytest.mark.parametrize("settings", [{"optimizer": ts.optim.AdamW}, {"network": ts.MLP}])
def test_classes_of_parts_are_refused_or_built(settings):
    """``AdamW`` without brackets is a mistake, or works as ``AdamW()``; it never trains something else."""
    X = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises((TypeError, ValueError)):
        ts.TorchClassifier(max_epochs=1, **settings).fit(X, np.arange(20) % 2)


def test_what_is_left_out_gets_its_default():
    settings = resolve_settings(ts.TorchClassifier(batch_size=7), "classification", has_valid=False)
    assert settings.sampler == ts.RandomBatchSampler(7) and settings.callbacks == settings.augment == ()
    assert settings.measures.first == "loss" and settings.runtime == ts.Runtime()


def test_a_sampler_takes_the_place_of_batch_size():
    made = ts.TorchClassifier(batch_size=7, batch_sampler=ts.RandomBatchSampler(3))
    assert resolve_settings(made, "classification", has_valid=False).sampler == ts.RandomBatchSampler(3)


def test_verbose_reports_each_epoch(caplog):
    X = np.random.default_rng(0).normal(size=(20, 2))
    with caplog.at_level("INFO", logger="torchstrata"):
        ts.TorchClassifier(max_epochs=2, verbose=1).fit(X, np.arange(20) % 2)
        ts.TorchClassifier(max_epochs=2).fit(X, np.arange(20) % 2)
    assert [r.getMessage().split()[:2] for r in caplog.records] == [["epoch", "1/2"], ["epoch", "2/2"]]
