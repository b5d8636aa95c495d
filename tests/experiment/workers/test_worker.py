from __future__ import annotations

import os

import pytest

from torchstrata.experiment.workers import worker as workers


@pytest.fixture
def worker():
    made = workers.Worker(1, share_cores=True)
    yield made
    made.bury()


def ready(worker):
    assert worker.connection.poll(60), "no word from the worker"
    worker.connection.recv_bytes()
    worker.ready = True
    return worker


def test_workers_rest_and_are_used_again(worker):
    ready(worker)
    workers.keep([worker], 1)
    assert workers.reused(2, 1) == [], "another number of threads is another kind, and those that rest are ended"
    assert worker.process.exitcode is not None


def test_a_worker_that_rests_is_found_again_once(worker):
    ready(worker)
    workers.keep([worker], 1)
    assert workers.reused(1, 4) == [worker] and workers.reused(1, 4) == []
    workers.keep([worker], 1)
    os.kill(worker.process.pid, 9)
    worker.process.join()
    assert workers.reused(1, 1) == [], "one that died in its sleep is left out"


def test_a_worker_that_is_busy_or_not_ready_is_ended(worker):
    workers.keep([worker], 1)
    assert worker.process.exitcode == -9 and workers.reused(1, 1) == []


def test_other_folders_are_other_kinds(worker, tmp_path, monkeypatch):
    """A worker has the working folder and the path of imports it was started with."""
    ready(worker)
    workers.keep([worker], 1)
    monkeypatch.chdir(tmp_path)
    assert workers.reused(1, 1) == []


def test_the_end_of_the_pipe_ends_the_process(worker):
    ready(worker)
    worker.connection.close()
    worker.process.join(10)
    assert worker.process.exitcode == -9


def test_the_end_of_all_ends_those_that_rest(worker):
    ready(worker)
    workers.keep([worker], 1)
    workers.end_all()
    assert worker.process.exitcode == -9 and workers.reused(1, 1) == []
