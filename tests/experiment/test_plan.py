from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.experiment.plan import cells, grid, name_learners, name_tasks
from torchstrata.experiment.splits import splits_of


def make_task(counts=(30, 12), **roles) -> ts.Task:
    labels = np.repeat([chr(97 + i) for i in range(len(counts))], counts)
    n = len(labels)
    frame = pd.DataFrame({"x": np.arange(n) % 7.0, "z": np.sin(np.arange(n)), "g": np.arange(n) // 3, "y": labels})
    return ts.Task(frame, target="y", name="made", **roles)


def test_grid_makes_all_combinations_and_refuses_wrong_ones():
    made = grid(ts.TorchClassifier(), loss=["cross_entropy", "aum"], optimizer__lr=[1e-3, 1e-2, 1e-1])
    variants = list(made.variants())
    assert len(variants) == len(made) == 6
    assert variants[1][0] == {"loss": "cross_entropy", "optimizer__lr": 1e-2}
    assert variants[1][1].optimizer.lr == 1e-2 and made.learner.optimizer.lr == 1e-3
    with pytest.raises(ConfigError, match="Did you mean 'optimizer__lr'"):
        grid(ts.TorchClassifier(), optimiser__lr=[1])
    with pytest.raises(ConfigError, match=r"write max_epochs=\[5\]"):
        grid(ts.TorchClassifier(), max_epochs=5)
    with pytest.raises(ConfigError, match="lr must be a positive"):
        grid(ts.TorchClassifier(), optimizer__lr=[0.1, -1.0])
    with pytest.raises(ConfigError, match="at least one setting"):
        grid(ts.TorchClassifier())


def double(shapes, n_outputs):
    return None


def test_variants_by_a_function_have_the_same_name_and_seed_in_every_process():
    made = grid(ts.TorchClassifier(), network=[double, lambda shapes, n_outputs: None, ts.MLP((3,))])
    shown = [settings["network"] for settings, _ in made.variants()]
    assert shown[0] == "double" and "<lambda>" in shown[1] and not any("0x" in name for name in shown)
    with pytest.raises(ConfigError, match="twice"):
        grid(ts.TorchClassifier(), network=[double, double])


def test_names_are_unique_and_things_are_what_they_should_be():
    with pytest.raises(ConfigError, match=r"learner id 'DummyClassifier' used twice: give a dict"):
        name_learners([DummyClassifier(), DummyClassifier()])
    with pytest.raises(ConfigError, match="task id 'made' used twice"):
        name_tasks([make_task(), make_task()])
    with pytest.raises(ConfigError, match=r"is a DataFrame; make it a ts\.Task"):
        name_tasks({"t": pd.DataFrame()})
    with pytest.raises(ConfigError, match="expected a scikit-learn estimator"):
        name_learners({"l": DummyClassifier})
    for names in (name_tasks, name_learners):
        with pytest.raises(ConfigError, match="at least one"):
            names([])


def test_all_learners_of_a_fold_see_the_same_rows_and_seeds_depend_on_names_alone():
    one = cells({"t": make_task()}, {"a": DummyClassifier(), "b": DummyClassifier()}, 3)
    two = cells({"t": make_task()}, {"b": DummyClassifier()}, 3)
    by_fold = {c.fold: c for c in one if c.learner == "a"}
    for cell in one:
        assert (cell.train == by_fold[cell.fold].train).all() and (cell.test == by_fold[cell.fold].test).all()
    assert [c.seed for c in one if c.learner == "b"] == [c.seed for c in two]
    assert len({c.seed for c in one}) == 6


def test_a_value_twice_in_a_grid_is_refused_before_the_run():
    for twice in ([0.1, 0.1], [1, 1.0]):
        with pytest.raises(ConfigError, match=r"optimizer__lr has the value .* twice"):
            grid(ts.TorchClassifier(), optimizer__lr=twice)


def test_an_iterator_of_splits_serves_every_task():
    tasks = {"a": make_task(), "b": make_task()}
    planned = cells(tasks, {"d": DummyClassifier()}, iter(splits_of(make_task(), 3)))
    assert [(cell.task, cell.fold) for cell in planned] == [(t, k) for t in "ab" for k in range(3)]


def test_a_setting_named_like_a_column_of_the_result_is_renamed():
    class Net(DummyClassifier):
        def __init__(self, lr=0.1):
            super().__init__()
            self.lr = lr

    result = ts.benchmark(ts.load_task("iris"), ts.grid(Net(), lr=[0.1, 0.2]), cv=2, scoring="accuracy", progress=False)
    assert result.grid_columns == ["learner__lr"]
    assert result.aggregate("accuracy")["learner__lr"].tolist() == [0.1, 0.2]
