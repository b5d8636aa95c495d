"""The zoo: bundled tasks, fetching once, damaged files, and life without a network."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from torchstrata.data import cache
from torchstrata.data.zoo import KNOWN, list_tasks, load_task
from torchstrata.errors import ConfigError, DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"


class FakeOpenML:
    """Stands in for fetch_openml: counts calls, and fails where told to."""

    def __init__(self):
        self.calls: list[dict] = []
        self.error: Exception | None = None
        self.target_names: list[str] = ["Class"]
        rng = np.random.default_rng(0)
        self.frame = pd.DataFrame(
            {
                "x": rng.standard_normal(40),
                "code": pd.Categorical(["1", "2", "None", None] * 10),
                "Class": pd.Categorical(["Rock", "Mine"] * 20),
            }
        )

    def __call__(self, **wanted):
        self.calls.append(wanted)
        if self.error is not None:
            raise self.error
        return Bunch(frame=self.frame.copy(), target_names=self.target_names)


@pytest.fixture
def openml(monkeypatch, tmp_path) -> FakeOpenML:
    fake = FakeOpenML()
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fake)
    monkeypatch.setenv("TORCHSTRATA_DATA", str(tmp_path))
    return fake


@pytest.mark.parametrize("name", [name for name, entry in KNOWN.items() if entry.data_id is None])
def test_bundled_tasks_are_as_listed(name, openml):
    task, listed = load_task(name), list_tasks().loc[name]
    assert (task.n_rows, len(task.feature_names), task.kind) == (listed.rows, listed.features, listed.kind)
    assert (task.n_classes or 0) == listed.classes
    assert task.name == name
    assert (task.roles.stratum == task.roles.target) == (task.kind == "classification")
    assert not openml.calls


def test_bundled_classes_have_names():
    task = load_task("breast_cancer")
    assert task.class_counts().to_dict() == {"benign": 357, "malignant": 212}
    assert task.positive == "malignant"
    assert load_task("iris").classes.tolist() == ["setosa", "versicolor", "virginica"]
    assert load_task("digits").classes.tolist() == list(range(10))


def test_fetched_once_then_read(openml, tmp_path):
    first, second = load_task("sonar"), load_task("sonar")
    assert [call["data_id"] for call in openml.calls] == [40]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sonar.csv", "sonar.json"]
    assert first.fingerprint() == second.fingerprint()
    assert first.X["x"].tolist() == openml.frame["x"].tolist()  # to the last bit
    assert first.y.tolist() == openml.frame["Class"].tolist()
    assert first.X["code"].tolist()[:3] == ["1", "2", "None"]  # text stays text, and "None" is no missing value
    assert first.X["code"].isna().sum() == 10
    assert first.roles.stratum == ("Class",)
    facts = json.loads((tmp_path / "sonar.json").read_text())
    assert facts["source"] == "openml:40" and facts["target"] == "Class" and len(facts["sha256"]) == 64


@pytest.mark.parametrize(
    ("arguments", "wanted", "stem"),
    [
        ({"name": 31}, {"data_id": 31}, "openml-31"),
        ({"name": np.int64(31)}, {"data_id": 31}, "openml-31"),
        ({"name": "openml:31"}, {"data_id": 31}, "openml-31"),
        ({"name": "openml:irish"}, {"name": "irish"}, "openml-irish"),
        ({"name": "credit-g"}, {"name": "credit-g"}, "credit-g"),
        ({"name": "irish", "data_id": 451}, {"data_id": 451}, "irish"),
    ],
)
def test_any_openml_data_set(openml, tmp_path, arguments, wanted, stem):
    task = load_task(**arguments, cache=tmp_path / "else")
    assert wanted.items() <= openml.calls[0].items()
    assert (tmp_path / "else" / f"{stem}.csv").is_file()
    assert task.name == stem
    assert load_task(**arguments, cache=tmp_path / "else").n_rows == 40
    assert len(openml.calls) == 1


def test_a_name_stands_for_one_source(openml):
    load_task("german", data_id=31)
    with pytest.raises(DataError, match="came from openml:31, not openml:40"):
        load_task("german", data_id=40)


@pytest.mark.parametrize("name", ["sonra", "breast-cancer", "Iris", "spamm"])
def test_misspelt_names_are_refused_before_the_network(openml, name):
    with pytest.raises(ConfigError, match="Did you mean"):
        load_task(name)
    assert not openml.calls


@pytest.mark.parametrize("name", ["../sonar", "a/b", "", ".hidden", None, 1.5, True, "openml:"])
def test_what_is_no_name(openml, name):
    with pytest.raises(ConfigError, match="is no name of a data set"):
        load_task(name)


def test_bundled_name_with_an_id_is_refused(openml):
    with pytest.raises(ConfigError, match="openml:61"):
        load_task("iris", data_id=61)


@pytest.mark.parametrize("error", [URLError("no network"), ValueError("no such data set"), TimeoutError("slow")])
def test_offline_says_where_to_put_the_file(openml, tmp_path, error):
    openml.error = error
    with pytest.raises(DataError) as caught:
        load_task("sonar")
    message = str(caught.value)
    assert str(tmp_path / "sonar.csv") in message
    assert "TORCHSTRATA_DATA" in message and repr(str(tmp_path)) in message
    assert "'Class'" in message and str(error) in message
    assert list(tmp_path.iterdir()) == []


def test_file_put_by_hand_is_read(openml, tmp_path):
    openml.frame.rename(columns={"Class": "income"}).assign(split=["train", "test"] * 20).to_csv(
        tmp_path / "adult.csv", index=False
    )
    task = load_task("adult")
    assert task.target_names == ["income"] and task.roles.subset == ("split",)
    assert task.feature_names == ["x", "code"]
    openml.frame.to_csv(tmp_path / "sonar.csv", index=False)
    assert load_task("sonar").target_names == ["Class"]
    assert not openml.calls
    assert list_tasks().loc[["sonar", "spam", "iris"], "available"].tolist() == ["cached", "to fetch", "bundled"]


def test_file_by_hand_without_a_known_target_is_refused(openml, tmp_path):
    openml.frame.to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(DataError, match=r"Task.from_csv\('.*mine.csv', target=...\)"):
        load_task("mine")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no folder {SHARED}")
@pytest.mark.parametrize("name", ["sonar", "adult"])
def test_the_real_files_by_hand(openml, tmp_path, name):
    shutil.copy(SHARED / f"{name}.csv", tmp_path)
    task = load_task(name)
    assert task.n_rows == KNOWN[name].rows and task.n_classes == 2
    assert task.positive == {"sonar": "R", "adult": ">50K"}[name]


def test_every_flipped_byte_is_noticed(openml, tmp_path):
    load_task("sonar")
    path = tmp_path / "sonar.csv"
    good = path.read_bytes()
    for position in range(0, len(good), 97):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(DataError, match=r"sonar.csv' is damaged.*Delete sonar.csv and sonar.json"):
            load_task("sonar")
    path.write_bytes(good[:-1])
    with pytest.raises(DataError, match="is damaged"):
        load_task("sonar")
    assert len(openml.calls) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"target": "Class"}', '{"sha256": "00", "target": "y"}'])
def test_damaged_json_is_named(openml, tmp_path, text):
    load_task("sonar")
    (tmp_path / "sonar.json").write_text(text)
    with pytest.raises(DataError, match=r"sonar.json' is damaged"):
        load_task("sonar")


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_nothing_that_is_read_later(openml, tmp_path, monkeypatch, step, nth, error):
    real, calls = getattr(os, step), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == nth:
            raise error
        return real(*arguments)

    monkeypatch.setattr(cache.os, step, failing)
    with pytest.raises(type(error)):
        load_task("sonar")
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".csv", ".tmp")]
    monkeypatch.setattr(cache.os, step, real)
    assert load_task("sonar").n_rows == 40
    assert len(openml.calls) == 2


def test_data_set_without_a_target_is_refused(openml, tmp_path):
    openml.target_names = []
    with pytest.raises(DataError, match="names no target"):
        load_task("sonar")
    assert list(tmp_path.iterdir()) == []


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHSTRATA_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "torchstrata"
    monkeypatch.setenv("TORCHSTRATA_DATA", str(tmp_path / "mine"))
    assert cache.cache_folder() == tmp_path / "mine"
    assert cache.cache_folder("~/other") == tmp_path / "other"
