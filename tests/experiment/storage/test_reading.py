from __future__ import annotations

import errno
import os
import threading
import time

import pytest

from torchstrata.experiment.storage import reading
from torchstrata.experiment.storage.reading import read_file, read_files


@pytest.fixture
def paths(tmp_path):
    """Files of many lengths, the third of every ten missing."""
    made = [str(tmp_path / f"{i}") for i in range(100)]
    for i, path in enumerate(made):
        if i % 10 != 3:
            with open(path, "wb") as file:
                file.write(bytes([i]) * (i * 997))
    return made


def expected(paths):
    return [None if i % 10 == 3 else bytes([i]) * (i * 997) for i in range(len(paths))]


def test_files_of_every_length_are_read_whole(tmp_path):
    for length in (0, 1, 2**16 - 1, 2**16, 2**16 + 1, 2**20 + 2**16, 3 * 2**20 + 5):
        content = os.urandom(length)
        (tmp_path / "a").write_bytes(content)
        assert read_file(str(tmp_path / "a")) == content
    assert read_file(str(tmp_path / "b")) is None and read_file(str(tmp_path / "c" / "d")) is None


@pytest.mark.parametrize("slow", [0.0, 1e9])
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 70, 100])
def test_they_come_in_their_order_near_and_far(paths, monkeypatch, slow, n):
    monkeypatch.setattr(reading, "SLOW", slow)
    assert list(read_files(iter(paths[:n]))) == expected(paths)[:n]


def test_where_each_waits_several_are_read_at_a_time_and_not_all_ahead(paths, monkeypatch):
    monkeypatch.setattr(reading, "TRIED", 4)
    before, threads, begun = reading._read, set(), []

    def far(path):
        begun.append(path)
        threads.add(threading.get_ident())
        time.sleep(0.003)
        return before(path)

    monkeypatch.setattr(reading, "_read", far)
    found = read_files(paths)
    assert [next(found) for _ in range(6)] == expected(paths)[:6]
    assert len(threads) > 2 and len(begun) <= 6 + 2 * reading.READERS
    found.close()
    time.sleep(0.01)
    assert not any("torchstrata reader" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("slow", [0.0, 1e9])
@pytest.mark.parametrize("at", [2, 50])
def test_what_cannot_be_read_is_named(paths, monkeypatch, slow, at):
    monkeypatch.setattr(reading, "SLOW", slow)
    before = os.open

    def failing(path, *args, **kwargs):
        if path == paths[at]:
            raise OSError(errno.EIO, "broken")
        return before(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(OSError, match="broken.*" + paths[at]):
        list(read_files(paths))


def test_a_stale_handle_is_opened_again_and_not_for_ever(paths, monkeypatch):
    before, failures = os.read, [2]

    def stale(handle, n):
        failures[0] -= 1
        if failures[0] >= 0:
            raise OSError(errno.ESTALE, "stale")
        return before(handle, n)

    monkeypatch.setattr(os, "read", stale)
    assert read_file(paths[1]) == expected(paths)[1]
    failures[0] = 3
    with pytest.raises(OSError, match="stale"):
        read_file(paths[1])
