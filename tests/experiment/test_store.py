from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression

import torchstrata as ts
from torchstrata import cli
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.storage import record
from torchstrata.experiment.store import Store
from torchstrata.testing import DebugLearner

LEARNERS = {"log": LogisticRegression(), "dummy": DummyClassifier(), "bad": DebugLearner(error_train=1.0)}
FITS: list[str] = []
HOW = ("truncate", "delete", "empty", "swap")  # how a file is spoilt, beside a flipped bit


class Counted(DummyClassifier):
    """Says which fits were carried out."""

    def __init__(self, *, name="", strategy="prior", random_state=None):
        self.name = name
        super().__init__(strategy=strategy, random_state=random_state)

    def fit(self, X, y):
        FITS.append(f"{self.name} {self.strategy}")
        return super().fit(X, y)


def frame(seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60), "y": np.repeat(["n", "p"], [40, 20])})


@pytest.fixture(scope="module")
def task() -> ts.Task:
    return ts.Task(frame(), target="y", name="made")


def run(task, folder, learners=LEARNERS, **settings):
    given = {"cv": 3, "scoring": ["accuracy", "roc_auc"], "progress": False, **settings}
    return ts.benchmark(task, learners, store=folder, **given)


def counted(task, folder, **settings):
    """The number of fits of a call, and its result."""
    FITS.clear()
    result = run(task, folder, **{"learners": {"one": Counted(name="one"), "two": Counted(name="two")}, **settings})
    return len(FITS), result


def tables(result) -> dict[str, pd.DataFrame]:
    scores = result.scores
    return {
        "scores": scores[~scores.measure.str.endswith("_seconds")].reset_index(drop=True),
        "history": result.history.drop(columns="seconds", errors="ignore"),
        "predictions": result.predictions,
        "errors": result.errors,
        "splits": result.splits,
    }


def assert_equal(one, two, **settings) -> None:
    for name, table in tables(one).items():
        pd.testing.assert_frame_equal(table, tables(two)[name], **{"check_exact": True, **settings}, obj=name)
    assert (one.tasks, one.learners) == (two.tasks, two.learners)


def cells(folder) -> list[Path]:
    return sorted(Path(folder, "cells").glob("*.json"))


def test_with_and_without_a_store_the_tables_are_equal(task, tmp_path):
    net = ts.grid(ts.TorchClassifier(ts.Linear(), max_epochs=2, random_state=0), optimizer__lr=[0.01, 0.1])
    learners = {**LEARNERS, "net": net}
    plain = ts.benchmark(task, learners, cv=3, scoring=["accuracy", "roc_auc"], progress=False)
    stored = run(task, tmp_path / "runs" / "one", learners)
    assert_equal(stored, plain)
    again = run(task, tmp_path / "runs" / "one", learners)
    loaded = ts.load_result(tmp_path / "runs" / "one")
    for other in (again, loaded):
        assert_equal(stored, other)
        pd.testing.assert_frame_equal(stored.scores, other.scores)  # times too: nothing was fitted again
        assert (
            other.info["warnings"] == plain.info["warnings"]
            and other.info["runtime"].keys() == plain.info["runtime"].keys()
        )
    assert loaded.info["store"] == {
        "folder": str(tmp_path / "runs" / "one"), "cells": 15, "finished": 15, "failed": 3, "missing": 0
    }  # fmt: skip
    assert loaded.info["versions"] == stored.info["versions"]


@pytest.mark.parametrize("kind", ["category", "int", "bool", "float", "Int64", "string", "object"])
def test_labels_and_targets_keep_their_dtype(kind, tmp_path):
    table = frame()
    three_or_four = table.y.eq("p") + 3
    values = {
        "category": pd.Categorical(table.y, ["z", "p", "n"]),
        "int": three_or_four,
        "bool": table.y.eq("p"),
        "float": table.a * table.b,
        "Int64": three_or_four.astype("Int64"),
        "string": table.y.astype("string"),
        "object": table.y.astype(object),
    }
    task = ts.Task(table.assign(y=values[kind]), target="y", name="made")
    learner = DummyRegressor() if kind == "float" else DummyClassifier()
    settings = {"cv": 2, "progress": False}
    assert_equal(ts.benchmark(task, learner, store=tmp_path, **settings), ts.benchmark(task, learner, **settings))


@pytest.mark.slow
def test_what_is_valid_is_used_again_and_nothing_else(task, tmp_path):
    assert counted(task, tmp_path)[0] == 6
    assert counted(task, tmp_path)[0] == 0
    three = {"one": Counted(name="one"), "two": Counted(name="two"), "three": Counted(name="three")}
    assert counted(task, tmp_path, learners=three)[0] == 3, "a learner more costs its cells only"
    varied = {"grid": ts.grid(Counted(name="grid"), strategy=["prior", "uniform"])}
    assert counted(task, tmp_path, learners=varied)[0] == 6
    varied = {"grid": ts.grid(Counted(name="grid"), strategy=["prior", "stratified", "uniform"])}
    fits, result = counted(task, tmp_path, learners=varied)
    assert fits == 3 and set(result.scores["strategy"]) == {"prior", "stratified", "uniform"}
    changed = frame()
    changed.loc[7, "a"] += 1e-9
    for what, settings in {
        "a value of the data": {"task": ts.Task(changed, target="y", name="made")},
        "a role": {"task": task.with_roles(positive="n")},
        "a setting": {"learners": {"one": Counted(name="one", strategy="uniform"), "two": Counted(name="1")}},
        "a seed": {"learners": {n: Counted(name=n, random_state=1) for n in ("one", "two")}},
        "rows of the splits": {"cv": [(b, a) for a, b in [(np.arange(0, 60, 2), np.arange(1, 60, 2))] * 3]},
        "the measures": {"scoring": "accuracy"},
    }.items():
        folder = tmp_path / what.replace(" ", "_")
        assert counted(task, folder)[0] == 6
        before = {path: path.read_bytes() for path in cells(folder)}
        fits, changed_result = counted(**{"task": task, "folder": folder, **settings})
        assert fits == 6, what
        assert len(cells(folder)) == 12 and all(path.read_bytes() == old for path, old in before.items()), "new keys"
        fresh = counted(**{"task": task, "folder": folder / "fresh", **settings})[1]
        assert_equal(changed_result, fresh)
        assert counted(task, folder)[0] == 0, "and the first cells are still there"


def test_a_later_plan_replaces_what_it_contradicts_and_leaves_the_rest(task, tmp_path):
    counted(task, tmp_path)
    run(task, tmp_path, {"three": Counted(name="three")})
    both = ts.load_result(tmp_path)
    assert set(both.learners) == {"one", "two", "three"}
    assert len(both.scores[both.scores.measure == "accuracy"]) == 9
    run(task, tmp_path, {"one": Counted(name="one", strategy="uniform")})
    after = ts.load_result(tmp_path)
    assert "uniform" in after.learners["one"] and set(after.learners) == {"one", "two", "three"}
    run(task, tmp_path, {"one": Counted(name="one")}, cv=2)  # other splits: nothing of the task may stay
    assert set(ts.load_result(tmp_path).learners) == {"one"}
    run(task, tmp_path, {"one": Counted(name="one"), "two": Counted(name="two")})
    last = ts.load_result(tmp_path)
    assert set(last.learners) == {"one", "two", "three"} and "uniform" not in last.learners["one"]
    assert len(last.splits) == 3 and last.info["store"]["missing"] == 0


def test_two_stores_make_one(task, tmp_path):
    whole = run(task, tmp_path / "whole")
    for name, learner in LEARNERS.items():
        run(task, tmp_path / name, {name: learner})
    parts = [ts.load_result(tmp_path / name) for name in LEARNERS]
    added = parts[0] + parts[1] + parts[2]
    for name in LEARNERS:  # cp -rn part/. both/
        for path in (tmp_path / name).rglob("*.json"):
            target = tmp_path / "both" / path.relative_to(tmp_path / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    copied = ts.load_result(tmp_path / "both")
    for other in (added, copied):
        for name, table in tables(whole).items():
            by = [c for c in ("task", "fold", "learner", "measure", "row") if c in table]
            left, right = (
                t[name].drop(columns="traceback", errors="ignore").sort_values(by)
                for t in (tables(whole), tables(other))
            )
            pd.testing.assert_frame_equal(left.reset_index(drop=True), right.reset_index(drop=True), check_exact=True)
    FITS.clear()
    assert_equal(run(task, tmp_path / "both"), whole)
    for path in (tmp_path / "both" / "plans").iterdir():
        path.unlink()
    run(task, tmp_path / "both", {"log": LEARNERS["log"]})
    with pytest.warns(UserWarning, match="6 cells of .* belong to no plan there: copy the files of plans/"):
        ts.load_result(tmp_path / "both")


def test_an_unfinished_half_is_completed_by_the_other(task, tmp_path):
    whole = run(task, tmp_path / "a")
    run(task, tmp_path / "b")
    for path in cells(tmp_path / "a")[::2]:
        path.unlink()
    for path in cells(tmp_path / "b")[1::2]:
        path.unlink()
    a, b = ts.load_result(tmp_path / "a"), ts.load_result(tmp_path / "b")
    assert a.info["store"]["missing"] == 5 and a.errors.status.eq("missing").sum() == 5
    assert "failed" in str(a.aggregate("accuracy")["note"].tolist())
    both = a + b
    assert not both.errors.status.eq("missing").any() and len(both.scores) == len(whole.scores)
    with pytest.raises(DataError, match="does not exist"):
        ts.load_result(tmp_path / "c")


@pytest.mark.parametrize("how", ["flip", *[pytest.param(h, marks=pytest.mark.slow) for h in HOW]])
def test_a_damaged_file_is_named_moved_aside_and_made_again(task, tmp_path, how):
    whole = run(task, tmp_path)
    content = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert len(content) == 9 + 1 + 3 + 1 + 1, "cells, plan, splits, run, store.json"
    for path, good in content.items():
        if path.parent.name == "runs":
            continue
        spoil(path, good, how, others=[p for p in content if p.parent == path.parent and p != path])
        if path.parent.name == "cells":
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                seen = ts.load_result(tmp_path)
            assert seen.info["store"]["missing"] == 1
            assert how == "delete" or any(str(path) in str(w.message) for w in caught)
            assert set(seen.errors.status) == {"error_train", "missing" if how == "delete" else "damaged"} or (
                len(seen.errors) == 3
            )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again = run(task, tmp_path)
        told = [str(w.message) for w in caught if "moved aside" in str(w.message)]
        assert (len(told) == 1 and str(path) in told[0]) or (how == "delete" and not told), (path, told)
        assert_equal_but_traceback(again, whole)
        bad = path.with_name(path.name + ".bad")
        assert bad.exists() == (how != "delete")
        bad.unlink(missing_ok=True)
        assert record.unseal(path.read_bytes())


def spoil(path: Path, good: bytes, how: str, others: list[Path]) -> None:
    if how == "delete" or (how == "swap" and not others):
        path.unlink() if how == "delete" else path.write_bytes(b"{}")
    elif how == "swap":
        path.write_bytes(others[0].read_bytes())
    else:
        at = len(good) // 3
        path.write_bytes(
            {"truncate": good[:at], "empty": b"", "flip": good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]}[how]
        )


def assert_equal_but_traceback(one, two) -> None:
    for name, table in tables(one).items():
        other = tables(two)[name]
        pd.testing.assert_frame_equal(
            table.drop(columns="traceback", errors="ignore"), other.drop(columns="traceback", errors="ignore")
        )


def test_every_byte_counts(task, tmp_path):
    run(task, tmp_path, {"dummy": DummyClassifier()}, cv=2)
    good = cells(tmp_path)[0].read_bytes()
    rng = np.random.default_rng(0)
    for at in [*rng.integers(0, len(good), 300), *range(len(good) - 90, len(good))]:
        with pytest.raises(ValueError, match="checksum"):
            record.unseal(good[:at] + bytes([good[at] ^ (1 << rng.integers(8))]) + good[at + 1 :])
    for at in range(0, len(good), 7):
        with pytest.raises(ValueError, match="checksum"):
            record.unseal(good[:at])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EXDEV, errno.ESTALE, errno.EDQUOT])
@pytest.mark.parametrize("where", ["replace", "fsync"])
def test_what_cannot_be_written_is_said_and_costs_nothing_finished(task, tmp_path, monkeypatch, code, where):
    before, left = getattr(os, where), [6]

    def failing(*args, **kwargs):
        if where == "fsync" or "/cells/" in str(args[0]):
            left[0] -= 1
            if left[0] <= 0:
                raise OSError(code, os.strerror(code))
        return before(*args, **kwargs)

    run(task, tmp_path, {"dummy": DummyClassifier()}, cv=2)  # so that plan and marker are not what fails
    monkeypatch.setattr(os, where, failing)
    left[0] = {"replace": 3, "fsync": 14}[where]
    with pytest.raises(OSError, match=f"{os.strerror(code)}.*store {tmp_path}.*call again to go on") as caught:
        run(task, tmp_path)
    assert caught.value.errno == code
    monkeypatch.undo()
    finished = len(cells(tmp_path))
    assert finished > 2 and not list(tmp_path.glob("*/.*.tmp")) and not list((tmp_path / "claims").iterdir())
    assert run(task, tmp_path).info["store"]["finished"] == 9 and len(cells(tmp_path)) == 11


def test_a_file_that_may_not_grow_is_a_full_disk(task, tmp_path):
    run(task, tmp_path, {"dummy": DummyClassifier()}, cv=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OSError, match=f"cannot write .* of the store {tmp_path}"):
            run(task, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(cells(tmp_path)) == 2
    assert run(task, tmp_path).info["store"]["finished"] == 9


def test_failures_are_kept_and_carried_out_again_on_request_or_under_other_conditions(task, tmp_path):
    bad = {"bad": DebugLearner(error_train=1.0), "one": Counted(name="one")}

    def stamps(result):
        return [
            record.unseal(p.read_bytes())["finished"] for p in cells(tmp_path) if b'"error_train"' in p.read_bytes()
        ]

    first = stamps(run(task, tmp_path, bad))
    assert len(first) == 3 and stamps(run(task, tmp_path, bad)) == first
    assert stamps(run(task, tmp_path, bad, retry_failed=["timeout"])) == first
    second = stamps(run(task, tmp_path, bad, retry_failed=True))
    assert len(second) == 3 and min(second) > max(first)
    third = stamps(run(task, tmp_path, bad, retry_failed="error_train"))
    assert min(third) > max(second)
    stood_in = run(task, tmp_path, bad, fallback=DummyClassifier())
    assert stood_in.errors.status.eq("error_train").all() and not stood_in.scores.value.isna().any()
    assert run(task, tmp_path, bad).scores.value.isna().any(), "without the fallback its scores do not count"
    with pytest.raises(RuntimeError, match="fails in fit"):
        run(task, tmp_path, bad, on_error="raise")
    assert not list((tmp_path / "claims").iterdir())
    assert FITS.count("one prior") == 3 or len(cells(tmp_path)) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"store": 3}, "store must be the name of a folder"),
        ({"store": ""}, "store must be the name of a folder"),
        ({"retry_failed": "timout"}, "Did you mean 'timeout'"),
        ({"timeout": -1.0}, "timeout"),
        ({"timeout": True}, "timeout"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(task, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        ts.benchmark(task, DummyClassifier(), cv=2, progress=False, **{"store": tmp_path / "new", **settings})
    assert not (tmp_path / "new").exists()


def test_a_folder_of_something_else_is_not_touched(task, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds something else \(thesis.tex\)"):
        run(task, tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        run(task, tmp_path / "thesis.tex")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ConfigError, match="retry_failed is about failures in a store"):
        ts.benchmark(task, DummyClassifier(), cv=2, retry_failed=True)
    store = tmp_path / "store"
    result = run(task, store, {"dummy": DummyClassifier()}, cv=2)
    with pytest.raises(ConfigError, match="is the store of a benchmark"):
        result.save(store)


def test_a_learner_that_cannot_be_told_apart_is_refused(task, tmp_path):
    class Held(DummyClassifier):
        def __init__(self, *, strategy="prior", random_state=None, constant=None, handle=None):
            super().__init__(strategy=strategy, random_state=random_state, constant=constant)
            self.handle = handle

        def __sklearn_clone__(self):
            return self

    with (tmp_path / "open").open("w") as handle, pytest.raises(ConfigError, match="learner 'held' cannot be stored"):
        run(task, tmp_path / "store", {"held": Held(handle=handle)})


def test_a_store_of_a_newer_version_is_refused_and_left(task, tmp_path):
    run(task, tmp_path, {"dummy": DummyClassifier()}, cv=2)
    path = cells(tmp_path)[0]
    newer = record.seal({**record.unseal(path.read_bytes()), "format_version": 99})
    path.write_bytes(newer)
    for read in (lambda: ts.load_result(tmp_path), lambda: run(task, tmp_path, {"dummy": DummyClassifier()}, cv=2)):
        with pytest.raises(DataError, match=r"format version 99.*pip install -U torchstrata"):
            read()
    assert path.read_bytes() == newer


def test_ctrl_c_keeps_what_is_finished(task, tmp_path):
    learners = {"one": Counted(name="one"), "stop": DebugLearner(error_train=1.0, raise_class="KeyboardInterrupt")}
    with pytest.raises(KeyboardInterrupt) as caught:
        run(task, tmp_path, learners)
    statuses = caught.value.result.errors.status
    assert statuses.eq("interrupted").all() and len(statuses) == 5
    assert len(cells(tmp_path)) == 1 and not list((tmp_path / "claims").iterdir())
    assert ts.load_result(tmp_path).errors.status.eq("missing").all()


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_cells_that_train_together_go_on_from_where_they_were(task, tmp_path, n_jobs):
    learner = ts.TorchClassifier(ts.MLP((4,)), max_epochs=4, random_state=0, runtime=ts.Runtime(precision="float64"))
    nets = {"net": ts.grid(learner, optimizer__lr=[0.001, 0.01, 0.1])}
    whole = run(task, tmp_path, nets, n_jobs=n_jobs)
    kept = cells(tmp_path)[3:]
    for path in cells(tmp_path)[:3]:
        path.unlink()
    stamps = [path.stat().st_mtime_ns for path in kept]
    again = run(task, tmp_path, nets, n_jobs=n_jobs)
    assert stamps == [path.stat().st_mtime_ns for path in kept], "what was finished is not trained again"
    assert_equal(again, whole, check_exact=False, rtol=1e-9, atol=1e-12)
    alone = {"cv": 3, "scoring": ["accuracy", "roc_auc"], "progress": False, "vectorize": False}
    bitwise = ts.benchmark(task, nets, **alone)
    run(task, tmp_path / "alone", nets, vectorize=False)
    for path in cells(tmp_path / "alone")[::2]:
        path.unlink()
    assert_equal(run(task, tmp_path / "alone", nets, vectorize=False), bitwise)


def test_it_is_read_by_sql_and_by_frames(task, tmp_path):
    duckdb, pl = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    learner = ts.TorchClassifier(ts.Linear(), max_epochs=2)
    result = run(task, tmp_path, {**LEARNERS, "net": ts.grid(learner, optimizer__lr=[0.1, 0.2])})
    scores = result.scores.query("measure == 'roc_auc'")
    found = duckdb.sql(
        f"select task, learner, fold, settings.optimizer__lr lr, status, scores.roc_auc from '{tmp_path}/cells/*.json'"
    ).df()
    assert len(found) == 15 and found.status.eq("error_train").sum() == 3
    assert found.roc_auc.mean() == pytest.approx(scores.value.mean())
    rows = (
        f"select learner, fold, unnest(predictions.row) r, unnest(predictions.score) s from '{tmp_path}/cells/*.json'"
    )
    assert duckdb.sql(f"select count(*), avg(s) from ({rows})").fetchall()[0] == pytest.approx(
        (len(result.predictions), result.predictions.score.mean())
    )
    rows = duckdb.sql(f"select task, fold, unnest(test) r from '{tmp_path}/splits/*.json'").df()
    assert sorted(rows.r) == list(range(60))
    text = b"".join(path.read_bytes() for path in cells(tmp_path))
    table = pl.read_ndjson(text, infer_schema_length=None)
    assert table["scores"].struct.field("roc_auc").mean() == pytest.approx(scores.value.mean())
    history = table.select("learner", "fold", pl.col("history").struct.field("epoch", "train_loss")).explode(
        "epoch", "train_loss"
    )
    assert history["train_loss"].drop_nulls().len() == len(result.history)
    lines = pd.concat([pd.read_json(path, lines=True) for path in cells(tmp_path)], ignore_index=True)
    wide = lines.join(pd.json_normalize(lines.pop("scores").tolist()))
    assert wide.groupby("learner").roc_auc.mean()["log"] == pytest.approx(scores.query("learner == 'log'").value.mean())


def test_the_command_line_says_where_a_store_stands(task, tmp_path):
    run(task, tmp_path)
    cells(tmp_path)[0].unlink()
    cells(tmp_path)[0].write_bytes(b"{}")
    done = CliRunner().invoke(cli.cli, ["status", str(tmp_path)])
    assert done.exit_code == 0, done.exception
    assert "7 of 9 cells finished" in done.output and "1 missing, 1 damaged" in done.output
    assert "nobody works" in done.output and f"{cells(tmp_path)[0].name} is damaged" in done.output.replace("\n", "")
    done = CliRunner().invoke(cli.cli, ["report", str(tmp_path)])
    assert done.exit_code == 0 and "2 of 9 cells are not finished" in done.output
    assert (tmp_path / "report.html").exists()
    assert run_quietly(task, tmp_path).info["store"]["finished"] == 9, "a report in it does no harm"
    assert "9 of 9 cells finished" in CliRunner().invoke(cli.cli, ["status", str(tmp_path)]).output
    assert isinstance(CliRunner().invoke(cli.cli, ["status", str(tmp_path / "no")]).exception, DataError)


def run_quietly(*args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(*args)


def test_the_files_are_what_the_page_says(task, tmp_path):
    run(task, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "store.json",
        "cells",
        "plans",
        "splits",
        "runs",
        "workers",
        "claims",
    }
    assert not list((tmp_path / "workers").iterdir()) and not list((tmp_path / "claims").iterdir())
    line = json.loads(cells(tmp_path)[0].read_text())
    page = Path(__file__).parents[2].joinpath("docs", "store.md").read_text()
    assert all(f"`{name}`" in page for name in line), [name for name in line if f"`{name}`" not in page]
    assert Store(tmp_path).runs()[0][0]["versions"]["torchstrata"] == ts.__version__


def test_reading_needs_no_torch(task, tmp_path):
    whole = run(task, tmp_path)
    code = f"""
        import sys, importlib.abc
        class Blocker(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name.split(".")[0] == "torch":
                    raise ImportError("torch is blocked")
        sys.meta_path.insert(0, Blocker())
        import torchstrata as ts
        from torchstrata.experiment.storage.monitor import status_of_store
        result = ts.load_result({str(tmp_path)!r})
        assert not status_of_store({str(tmp_path)!r}).open.any()
        print(len(result.predictions), len(result.aggregate("accuracy")))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(len(whole.predictions)), "3"]
