from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time

import pytest

from torchstrata.experiment.storage import lease as module
from torchstrata.experiment.storage.lease import Lease, Worker, claims, process_began, why_gone, workers
from torchstrata.experiment.store import Store


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path)
    made.prepare()
    return made


def dead() -> Worker:
    """A process that was here and is gone."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    made = Worker("gone-1", "here", module._machine(), process.pid, process_began(process.pid) or "", 1)
    process.communicate(b"")
    return made


def leave(store: Store, worker: Worker, *keys: str, age: float = 0.0) -> None:
    """The files that a worker leaves behind."""
    path = store.path("workers", worker.name)
    path.write_text(json.dumps(vars(worker)))
    for key in keys:
        os.link(path, store.folder / "claims" / f"{key}.0")
    os.utime(path, (time.time() - age, time.time() - age))


def test_a_cell_is_claimed_by_one(store):
    with Lease(store) as one, Lease(store) as two:
        assert one.claim("a") and not two.claim("a") and two.claim("b") and not one.claim("b")
        assert one.others() == two.others() == 1
        one.give_back("a")
        assert two.claim("a")
    assert not claims(store) and not workers(store)


def test_claims_of_a_dead_process_go_to_exactly_one_at_once(store):
    leave(store, dead(), "a", "b")
    with Lease(store) as one, Lease(store) as two:
        assert one.claim("a") and not two.claim("a") and two.claim("b")
        one.give_back("a", finished=True)
        one.sweep({"a": None})
        assert {key for _, key in claims(store)} == {"b"} and {w.name for w in workers(store)} >= {two.worker.name}
        assert "gone-1" not in {worker.name for worker in workers(store)}
        two.give_back("b")  # not finished: whoever comes next takes over from both
    with Lease(store) as three:
        assert three.claim("b")


def test_another_machine_is_asked_by_its_signs_of_life(store):
    far = Worker("far-1", "far", "far/boot", 1, "1", 4)
    leave(store, far, "a", age=module.LIMIT - 60)
    with Lease(store) as here:
        assert not here.claim("a") and here.others() == 1
        os.utime(store.path("workers", "far-1"), (0, 0))
        assert here.claim("a") and here.others() == 0
        assert "no sign of life" in why_gone(store, far, time.time())
    store.path("workers", "far-1").unlink()
    assert why_gone(store, far, time.time()) == "it has left"


def test_a_number_that_another_process_has_by_now_is_no_sign_of_life(store):
    again = Worker("again-1", "here", module._machine(), os.getpid(), "12345", 1)
    leave(store, again, "a")
    if not process_began(os.getpid()):
        pytest.skip("this system does not say when a process began")
    with Lease(store) as here:
        assert here.claim("a")


def test_a_process_says_that_it_lives(store, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    with Lease(store) as here:
        path = store.path("workers", here.worker.name)
        os.utime(path, (0, 0))
        deadline = time.time() + 10
        while path.stat().st_mtime < 1 and time.time() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_without_hard_links_claims_are_files_of_their_own(store, monkeypatch, code):
    def refuse(*args):
        raise OSError(code, "no links")

    monkeypatch.setattr(os, "link", refuse)
    with Lease(store) as one, Lease(store) as two:
        assert one.claim("a") and not two.claim("a") and two.claim("b")
        half = store.folder / "claims" / "c.0"
        half.touch()  # its writer died before the first byte, or is about to write it
        assert not one.claim("c")
        os.utime(half, (0, 0))
        assert one.claim("c")


def test_who_was_taken_for_dead_and_swept_works_on(store):
    with Lease(store) as one:
        store.path("workers", one.worker.name).unlink()
        assert one.claim("a") and [worker.name for worker in workers(store)] == [one.worker.name]


def test_half_written_files_are_swept_when_nobody_can_be_writing(store):
    old, new = store.folder / "cells" / ".x.json.1.tmp", store.folder / "cells" / ".y.json.2.tmp"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 60, time.time() - 60))
    with Lease(store) as here:
        here.sweep({})
    assert new.exists() and not old.exists()


def test_of_many_workers_only_the_number_is_asked_and_seldom(store, monkeypatch):
    for number in range(module.MANY + 5):
        leave(store, Worker(f"far-{number}", "far", "far/boot", number, "1", 1))
    with Lease(store) as here:
        monkeypatch.setattr(module, "read_worker", None)  # nobody's file is read
        assert here.others() == module.MANY + 5
        store.path("workers", "far-0").unlink()
        assert here.others() == module.MANY + 5
        monkeypatch.setattr(module, "HEARTBEAT", 0.0)
        here._counted_until = 0.0
        assert here.others() == module.MANY + 4
