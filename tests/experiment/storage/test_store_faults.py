"""RELIABILITY 6: every record damaged in every way (S2), and every call of the writing path failing (S5)."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

import torchstrata as ts
from torchstrata.experiment.storage import record
from torchstrata.testing import DebugLearner

FITS: list[str] = []
SETTINGS = {"cv": 5, "scoring": ["accuracy", "roc_auc"], "progress": False}


class Counted(DummyClassifier):
    """Says which fits were carried out."""

    def __init__(self, *, name="", strategy="prior", random_state=None):
        self.name = name
        super().__init__(strategy=strategy, random_state=random_state)

    def fit(self, X, y):
        FITS.append(f"{self.name} {np.asarray(X).sum():.6f}")
        return super().fit(X, y)


class CountedAndFailing(DebugLearner):
    """Says so too, and fails: failures are records as well."""

    def fit(self, X, y):
        FITS.append(f"bad {np.asarray(X).sum():.6f}")
        return super().fit(X, y)


LEARNERS = {
    "one": Counted(name="one", strategy="stratified", random_state=0),
    "two": Counted(name="two"),
    "bad": CountedAndFailing(error_train=1.0),
}


def make_tasks(n: int) -> dict[str, ts.Task]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60), "y": np.repeat(["n", "p"], [40, 20])})
    return {f"t{i}": ts.Task(frame.assign(a=frame.a + i), target="y") for i in range(n)}


def run(tasks, folder, learners=None):
    FITS.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = ts.benchmark(tasks, learners or LEARNERS, store=folder, **SETTINGS)
    return result, [str(w.message) for w in caught if "moved aside" in str(w.message)]


def assert_equal(one, two) -> None:
    """All tables but what no two runs have in common: times, and the lines of tracebacks."""
    for name in ("scores", "predictions", "errors", "splits", "history"):
        left, right = (getattr(result, name).drop(columns="traceback", errors="ignore") for result in (one, two))
        if name == "scores":
            left, right = (t[~t.measure.str.endswith("_seconds")].reset_index(drop=True) for t in (left, right))
        pd.testing.assert_frame_equal(left, right, check_exact=True, obj=name)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file but those a run always writes; a file that was written again has another number."""
    every = (path for path in folder.rglob("*") if path.is_file())
    kept = (path for path in every if path.parent.name not in ("runs", "plans"))
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in kept}


def spoilt(good: bytes, how: str, draw: random.Random) -> bytes | None:
    at = draw.randrange(len(good))
    flipped = good[:at] + bytes([good[at] ^ 1 << draw.randrange(8)]) + good[at + 1 :]
    return {"truncate": good[:at], "flip": flipped, "remove": None}[how]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_45_records_exactly_the_damaged_one_is_made_again(tmp_path, times):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the damages: {seed}")
    draw, tasks = random.Random(seed), make_tasks(3)
    whole, _ = run(tasks, tmp_path)
    assert len(FITS) == 45 and len(set(FITS)) == 45
    records = sorted((tmp_path / "cells").iterdir())
    assert len(records) == 45
    cases = [(path, how) for path in records for how in ("truncate", "flip", "remove")]
    for path, how in draw.sample(cases, times(len(cases))):
        good, before = path.read_bytes(), files(tmp_path)
        path.unlink()
        content = spoilt(good, how, draw)
        if content is not None:
            path.write_bytes(content)
        again, told = run(tasks, tmp_path)
        assert len(FITS) == 1, (seed, path, how, FITS)
        assert len(told) == (how != "remove") and all(str(path) in line for line in told), (seed, told)
        assert_equal(again, whole)
        bad = path.with_name(path.name + ".bad")
        assert bad.exists() == (how != "remove")
        if bad.exists():
            assert bad.read_bytes() == content, "what was damaged is kept as it was"
            bad.unlink()
        after, name = files(tmp_path), str(path.relative_to(tmp_path))
        assert after.keys() == before.keys() and after.pop(name) != before.pop(name)
        assert after == before, "nothing else was touched"
        old, new = record.from_line(good), record.from_line(path.read_bytes())
        assert (old.cell, old.predictions, old.status) == (new.cell, new.predictions, new.status)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["truncate", "flip", "remove", "another kind"])
def test_every_other_file_that_is_damaged_is_named_and_costs_no_fit(tmp_path, how):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the damages: {seed}")
    draw, tasks = random.Random(seed), make_tasks(2)
    whole, _ = run(tasks, tmp_path)
    others = [path for path in sorted(tmp_path.rglob("*.json")) if path.parent.name != "cells"]
    assert sorted({path.parent.name for path in others}) == ["plans", "runs", "splits", tmp_path.name]
    assert len(others) == 1 + 1 + 2 * 5 + 1
    for path in others:
        good = path.read_bytes()
        other = next(one for one in others if one.parent != path.parent)
        content = other.read_bytes() if how == "another kind" else spoilt(good, how, draw)
        path.unlink() if content is None else path.write_bytes(content)
        if path.parent.name == "runs":
            if how in ("truncate", "flip"):
                with pytest.warns(UserWarning, match=f"{path.name} is damaged .*left out"):
                    assert_equal(ts.load_result(tmp_path), whole)
            path.write_bytes(good)
            continue
        again, told = run(tasks, tmp_path)
        assert FITS == [] and len(told) == (how != "remove") and all(str(path) in line for line in told), (seed, told)
        assert_equal(again, whole)
        assert_equal(ts.load_result(tmp_path), whole)
        assert record.unseal(path.read_bytes())


def test_a_record_of_another_kind_is_no_cell(tmp_path):
    tasks = make_tasks(1)
    whole, _ = run(tasks, tmp_path, {"two": LEARNERS["two"]})
    path = min((tmp_path / "cells").iterdir())
    for other in [*(tmp_path / "splits").iterdir(), *(tmp_path / "plans").iterdir(), tmp_path / "store.json"]:
        path.write_bytes(other.read_bytes())
        with pytest.warns(UserWarning, match=f"{path.name} is damaged .it does not hold what a cell holds"):
            assert ts.load_result(tmp_path).info["store"]["missing"] == 1
        again, told = run(tasks, tmp_path, {"two": LEARNERS["two"]})
        assert len(FITS) == len(told) == 1
        assert_equal(again, whole)


class Failing(io.RawIOBase):
    """A file that cannot be written."""

    def __init__(self, handle: int, code: int, at: str):
        self.handle, self.code, self.at = handle, code, at

    def write(self, content) -> int:
        if self.at == "write":
            raise OSError(self.code, os.strerror(self.code))
        return os.write(self.handle, content)

    def flush(self) -> None:
        if self.at == "flush" and not self.closed:
            raise OSError(self.code, os.strerror(self.code))

    def fileno(self) -> int:
        return self.handle

    def close(self) -> None:
        self.at = ""
        if not self.closed:
            os.close(self.handle)
        super().close()


CODES = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT)
CALLS = ("claim", "temporary file", "write", "flush", "fsync", "chmod", "replace", "open folder", "fsync folder")
CASES = [(call, code) for call in CALLS for code in CODES]
CASES += [(call, code) for call in ("replace", "fsync", "fsync folder") for code in (errno.EXDEV, errno.ESTALE)]


def break_call(monkeypatch, call: str, code: int, after: int) -> list[str]:
    """Let a call fail from some time on; only where files of cells and claims are written."""
    left, failed = [after], []
    real = {name: getattr(os, name) for name in ("link", "open", "fdopen", "fsync", "chmod", "replace")}
    handles: dict[int, str] = {}  # open files of the folder of cells

    def fails(at: str) -> bool:
        left[0] -= at == call
        if at == call and left[0] < 0:
            failed.append(at)
        return at == call and left[0] < 0

    def of_cells(path) -> bool:
        return "/cells" in os.fspath(path)

    def one(name: str, at, error_at=None):
        def called(path, *args, **kwargs):
            where = at(path, *args)
            if where and fails(where):
                raise OSError(code, os.strerror(code), error_at)
            found = real[name](path, *args, **kwargs)
            if name == "open" and where:
                handles[found] = "folder" if where == "open folder" else "file"
            return found

        monkeypatch.setattr(os, name, called)

    def opened(path, flags, *_):
        kind = "temporary file" if flags & os.O_CREAT and os.fspath(path).endswith(".tmp") else ""
        # with other flags it is the nameless file by which rights are tried before the first fit
        return of_cells(path) and (kind or ("open folder" if flags == os.O_RDONLY and os.path.isdir(path) else ""))

    one("link", lambda source, target: "/claims/" in os.fspath(target) and "claim")
    one("open", opened)
    one("fsync", lambda handle: {"folder": "fsync folder", "file": "fsync"}.get(handles.get(handle, "")))
    one("chmod", lambda path, mode: of_cells(path) and "chmod")
    one("replace", lambda source, target: of_cells(target) and "replace")

    def fdopen(handle, *args, **kwargs):
        mine = call in ("write", "flush") and handles.get(handle) == "file" and fails(call)
        return Failing(handle, code, call) if mine else real["fdopen"](handle, *args, **kwargs)

    monkeypatch.setattr(os, "fdopen", fdopen)
    return failed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_error_at_each_call_is_said_and_costs_nothing_finished(tmp_path, monkeypatch, times):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the cases: {seed}")
    draw, tasks = random.Random(seed), make_tasks(1)
    learners = {"two": LEARNERS["two"], "bad": LEARNERS["bad"]}
    whole, _ = run(tasks, tmp_path / "whole", learners)
    for number, (call, code) in enumerate(draw.sample(CASES, times(len(CASES)))):
        folder, after = tmp_path / f"{number}", draw.randrange(1, 9)
        what = f"seed {seed}: {call}, {errno.errorcode[code]}, after {after}"
        lasting = call == "claim" and code == errno.EACCES  # no right to link: the claim is a file of its own
        with monkeypatch.context() as patch:
            failed = break_call(patch, call, code, after)
            expected = contextlib.nullcontext() if lasting else pytest.raises(OSError, match="call again to go on")
            with expected as caught:
                run(tasks, folder, learners)
        assert failed, what
        if lasting:
            assert len(list((folder / "cells").iterdir())) == 10, what
            continue
        assert caught.value.errno == code and str(folder) in str(caught.value), what
        assert os.strerror(code) in str(caught.value), what
        kept = files(folder / "cells")
        assert len(kept) == after + (call in ("open folder", "fsync folder")), f"{what}: {kept}"
        assert not any(name.endswith(".tmp") for name in kept), what
        assert not list((folder / "claims").iterdir()) and not list((folder / "workers").iterdir()), what
        again, told = run(tasks, folder, learners)
        assert len(FITS) == 10 - len(kept) and not told, what
        assert {n: s for n, s in files(folder / "cells").items() if n in kept} == kept, "nothing finished is made again"
        assert_equal(again, whole)


@pytest.mark.parametrize("kind", ["plans", "splits", "runs", "workers"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_what_fails_before_the_first_fit_costs_no_fit(tmp_path, monkeypatch, kind, code):
    write, before = Path.write_bytes, os.replace

    def replace(source, target, **kwargs):
        if f"/{kind}/" in os.fspath(target):
            raise OSError(code, os.strerror(code))
        return before(source, target, **kwargs)

    def write_bytes(path, content):
        if path.parent.name == kind:
            raise OSError(code, os.strerror(code))
        return write(path, content)

    tasks = make_tasks(1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        patch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(OSError, match=f"{os.strerror(code)}: cannot write .*/{kind} of the store {tmp_path}"):
            run(tasks, tmp_path)
    assert FITS == [] and not list(tmp_path.rglob("*.tmp")) and not list((tmp_path / "workers").iterdir())
    run(tasks, tmp_path)
    assert len(FITS) == 15


def test_the_rows_of_every_task_are_kept_also_where_they_are_the_same(tmp_path):
    """They had one file: the last task's, which the next call for another task took for damaged."""
    for tasks in (make_tasks(2), make_tasks(1), make_tasks(2)):
        _, told = run(tasks, tmp_path, {"two": LEARNERS["two"]})
        assert not told
    splits = [record.unseal(path.read_bytes()) for path in (tmp_path / "splits").iterdir()]
    assert sorted((split["task"], split["fold"]) for split in splits) == [
        (f"t{i}", k) for i in range(2) for k in range(5)
    ]
    for task in ("t0", "t1"):
        assert sorted(row for split in splits if split["task"] == task for row in split["test"]) == list(range(60))
