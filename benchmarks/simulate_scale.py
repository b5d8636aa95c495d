"""How far one folder carries: a simulation of many workers on one store (docs/scale.md).

    python benchmarks/simulate_scale.py [--cells 100000] [--workers 10,100,1000] [--seconds 60] [--quick]

A file system is one server that answers so many requests a second (``--rate``), each after a delay (``--delay``).
Workers claim a cell, train, write and begin again; how many requests that takes is read off the code. At the end each
worker returns the whole table. Three ways are compared: the next cell is the first that is free, and all cells are read
again for the table; it is the first one from a place of each worker's own; what was read is kept, and only a worker's
own cells are read for the table.

Printed: how long all takes against the ideal (cells x seconds / workers), and how busy the file system is.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools

import numpy as np
from timing import markdown

# Requests, read off experiment/storage/lease.py, sharing.py and store.py.
LOST = 5  # a claim that somebody else has: link, read the owner, its sign of life, the time (2)
STALE_VIEW = 4  # a claim on a cell that is finished: link, stat, read, unlink
WON = 2  # link, stat
WRITE = 7  # temporary file, write, fsync, rename, fsync of the folder, unlink the claim, close
PER_LISTED = 1 / 100  # a listing brings some hundred names a request (NFS READDIR, 32 kB)
READ = 2  # open, read
AT_ONCE = 16  # files that are read at a time where each takes long (experiment/storage/reading.py)
BEAT = 1 / 10  # signs of life a second and worker
LISTED_AGAIN, WORTH = 10.0, 100.0  # seconds between two looks at what others have finished; or so many times a look


WAYS = {
    "the first free cell, all read twice": (False, False),
    "a place of its own, all read twice": (True, False),
    "a place of its own, all read once": (True, True),
}
COLUMNS = {"trained": "trained / ideal", "length": "length / ideal", "load": "load", "requests": "requests a cell"}


@dataclasses.dataclass
class Server:
    """A file system: requests are answered one after the other, each after a delay.

    Parameters
    ----------
    rate : float
        Requests a second.
    delay : float
        Seconds until an answer is back.
    """

    rate: float
    delay: float
    free_at: float = 0.0
    busy: float = 0.0

    def ask(self, now: float, requests: float, at_once: int = 1) -> float:
        """Return when so many requests are answered, each after the one before, or several at a time."""
        work = requests / self.rate
        self.free_at = max(self.free_at, now) + work
        self.busy += work
        return max(self.free_at, now + requests * self.delay / at_once)


@dataclasses.dataclass
class Setting:
    """What is simulated.

    Parameters
    ----------
    cells, workers : int
        How many.
    seconds : float
        Mean length of a cell; lengths are exponential.
    rate, delay : float
        Of the file system.
    scattered : bool
        Whether each worker begins at a place of its own.
    kept : bool
        Whether what was read is kept for the table at the end.
    """

    cells: int
    workers: int
    seconds: float
    rate: float
    delay: float
    scattered: bool
    kept: bool


def simulate(setting: Setting, seed: int = 0) -> dict[str, float]:
    """Run all cells; return length against the ideal, load of the file system, and requests a cell."""
    rng = np.random.default_rng(seed)
    server = Server(setting.rate * (1 - min(0.9, BEAT * setting.workers / setting.rate)), setting.delay)
    state = np.zeros(setting.cells, dtype=np.int8)  # 0 free, 1 claimed, 2 finished
    finished_at = np.full(setting.cells, np.inf)
    place = rng.integers(0, setting.cells, setting.workers) if setting.scattered else np.zeros(setting.workers, int)
    seen, next_look = np.zeros(setting.workers), np.full(setting.workers, LISTED_AGAIN)  # when each looked, and will
    order = itertools.count()
    # (time, number, worker, the cell it has trained; -1 before the first)
    events: list[tuple[float, int, int, int]] = [(0.0, next(order), w, -1) for w in range(setting.workers)]
    now, left, own = 0.0, setting.cells, np.zeros(setting.workers)
    while events:
        now, _, w, trained = heapq.heappop(events)
        if trained >= 0:
            now = server.ask(now, WRITE)
            state[trained], finished_at[trained] = 2, now
            own[w] += 1
        if not left:
            continue
        requests = listed = 0.0
        if now > next_look[w]:
            news = int(((finished_at > seen[w]) & (finished_at <= now)).sum())
            listing = 1 + (setting.cells - left + setting.workers) * PER_LISTED
            listed = server.ask(now, listing)
            seen[w], next_look[w] = now, listed + max(LISTED_AGAIN, WORTH * (listed - now))
            listed = max(listed, server.ask(now, READ * news, AT_ONCE))
        begin = int(place[w])
        cell = _next_free(state, begin)
        # what lies between: cells of others, and finished ones this worker has not heard of
        between = np.arange(begin, cell) if begin <= cell else np.r_[begin : setting.cells, 0:cell]
        requests += LOST * int((state[between] == 1).sum())
        requests += STALE_VIEW * int(((state[between] == 2) & (finished_at[between] > seen[w])).sum())
        state[cell], left = 1, left - 1
        place[w] = cell + 1 if setting.scattered and cell + 1 < setting.cells else place[w] * setting.scattered
        begun = max(listed, server.ask(now, requests + WON))
        heapq.heappush(events, (begun + rng.exponential(setting.seconds), next(order), w, cell))
    trained = now
    for w in range(setting.workers):  # each lists the folder, reads what it has not read, and returns the table
        unread = int((finished_at > seen[w]).sum())
        read = unread + (own[w] if setting.kept else setting.cells)
        now = max(now, server.ask(trained, setting.cells * PER_LISTED + READ * read, AT_ONCE))
    ideal = setting.cells * setting.seconds / setting.workers
    return {
        "trained": trained / ideal, "length": now / ideal, "load": server.busy / now,
        "requests": server.busy * server.rate / setting.cells,
    }  # fmt: skip


def _next_free(state: np.ndarray, begin: int) -> int:
    for first, last in ((begin, len(state)), (0, begin)):
        for start in range(first, last, 4096):
            free = np.flatnonzero(state[start : min(last, start + 4096)] == 0)
            if len(free):
                return start + int(free[0])
    return -1


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--workers", default="10,100,1000")
    parser.add_argument("--seconds", type=float, default=60.0, help="mean length of a cell")
    parser.add_argument("--rate", type=float, default=5000.0, help="requests a second of the file system")
    parser.add_argument("--delay", type=float, default=1e-3, help="seconds until an answer is back")
    parser.add_argument("--quick", action="store_true", help="a tenth of the cells and workers")
    given = parser.parse_args()
    cells, counts = given.cells, [int(n) for n in given.workers.split(",")]
    if given.quick:
        cells, counts = cells // 10, sorted({max(1, n // 10) for n in counts})
    rows = []
    for workers in counts:
        for way, (scattered, kept) in WAYS.items():
            found = simulate(Setting(cells, workers, given.seconds, given.rate, given.delay, scattered, kept))
            rows.append([str(workers), way, *(f"{found[name]:.2f}" for name in COLUMNS)])
    print(f"{cells} cells of {given.seconds:g} s, {given.rate:g} requests a second, {given.delay * 1e3:g} ms each\n")
    print(markdown(["workers", "how", *COLUMNS.values()], rows))


if __name__ == "__main__":
    main()
