"""Carry out what a store lacks: claim, train, write; what other processes have claimed is waited for."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from torchstrata.experiment.run import AT_A_TIME
from torchstrata.experiment.score import Outcome
from torchstrata.experiment.statuses import finished
from torchstrata.experiment.storage import record
from torchstrata.experiment.storage.lease import Lease
from torchstrata.experiment.storage.record import Planned, Record
from torchstrata.experiment.storage.stored import Kept
from torchstrata.experiment.store import Store
from torchstrata.experiment.together import Group
from torchstrata.interrupts import shielded

_T = TypeVar("_T")
SHORTEST_WAIT, LONGEST_WAIT = 0.05, 2.0  # seconds between two looks at what others have done, while waiting
# and while working, where a claim on what is finished costs more than to have known; or so often what a look takes
BETWEEN_LOOKS, LOOKS_WORTH = 10.0, 100.0


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What a failure depends on beside its key, and which failures are not to be used again.

    Parameters
    ----------
    fallback_key : str
        Digest of the fallback; empty without one.
    timeout : float
        Seconds a cell may take; 0 where there is no limit.
    on_error : {"record", "raise"}
        With ``"raise"`` no failure is used again.
    again : frozenset of str
        Statuses to be carried out again.
    since : str
        Only if they ended before this time, in ISO format.
    """

    fallback_key: str = ""
    timeout: float = 0.0
    on_error: str = "record"
    again: frozenset[str] = frozenset()
    since: str = ""

    def accept(self, found: Record | None) -> bool:
        """Say whether a stored cell counts as done.

        Parameters
        ----------
        found : Record or None
            None for one that is not there.

        Returns
        -------
        bool
            True for every one that worked; a failure counts if it would happen again under these conditions.
        """
        if found is None or found.status == "ok":
            return found is not None
        if self.on_error == "raise" or found.about["fallback_key"] != self.fallback_key:
            return False
        if found.status in self.again and found.about["finished"] < self.since:
            return False
        had = found.about["timeout"] or math.inf
        return found.status != "timeout" or (self.timeout or math.inf) <= had

    @property
    def about(self) -> dict[str, Any]:
        """What a stored cell holds of them."""
        return {"fallback_key": self.fallback_key, "timeout": self.timeout}


def now() -> str:
    """Return the time in ISO format, which sorts as text."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


class Sharing:
    """The part of one process in carrying out a plan.

    Parameters
    ----------
    store : Store
        Ready for writing.
    lease : Lease
        Of this process.
    conditions : Conditions
        Which stored failures count.
    planned : dict of int to Planned
        ``id`` of a cell of the groups to its name and key.
    kept : Kept, optional
        Gets what is read and counts as done.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        conditions: Conditions,
        planned: dict[int, Planned],
        kept: Kept | None = None,
    ):
        self.store, self.lease, self.conditions = store, lease, conditions
        self.planned, self.kept = planned, kept
        self.done: dict[str, Planned] = {}
        # of many processes, each begins at a place of its own: at the first free cell they would all meet
        self.place = int(hashlib.sha256(lease.worker.name.encode()).hexdigest()[:8], 16)
        self.at, self.apart = 0, False  # the group it is at, and whether it began there because of others
        self.next_look = time.monotonic() + BETWEEN_LOOKS

    def key(self, cell: Any) -> str:
        """Return the key of a cell of the groups."""
        return self.planned[id(cell)].key

    def look(self, cells: Iterable[Any]) -> Iterator[Record]:
        """Look which cells are in the store by now.

        Parameters
        ----------
        cells : iterable of Cell
            Those not known to be done.

        Yields
        ------
        Record
            Each one that is.
        """
        begun = time.monotonic()
        there = self.store.numbered("cells")
        listed = time.monotonic()
        self.next_look = listed + max(BETWEEN_LOOKS, LOOKS_WORTH * (listed - begun))
        named = [self.planned[id(cell)] for cell in cells]
        new = [cell for cell in named if cell.key in there and cell.key not in self.done]
        for cell, found in self.store.each(new, record.from_line):
            if isinstance(found, ValueError):
                self.store.put_aside(self.store.path("cells", cell.key), found)
            elif found is not None and self.conditions.accept(found) and cell.key not in self.done:
                self.done[cell.key] = cell
                if self.kept is not None:
                    self.kept.add(found, there[cell.key])
                yield found

    def carry_out(
        self, groups: Sequence[Group], run: Callable[[list[Group]], Iterable[Outcome]], jobs: int
    ) -> Iterator[Outcome | Record]:
        """Carry out what is missing, until every cell is done here or elsewhere.

        Parameters
        ----------
        groups : sequence of Group
            All cells of the plan.
        run : callable
            Carries out groups and yields outcomes.
        jobs : int
            How many cells are carried out at a time.

        Yields
        ------
        Outcome or Record
            Each one that was missing; of what others did, when it is noticed.
        """
        wait, total = SHORTEST_WAIT, len({self.key(cell) for group in groups for cell in group.cells})
        while True:
            if time.monotonic() > self.next_look:
                yield from self.look(self.missing(groups))
            if len(self.done) >= total:
                return
            taken = self.take(groups, jobs)
            if taken:
                wait = SHORTEST_WAIT
                yield from self._write(run(taken))
                self._give_back()  # none is left, unless the run broke its word
                continue
            seen = list(self.look(self.missing(groups)))
            yield from seen
            if not seen:
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    def missing(self, groups: Iterable[Group]) -> Iterator[Any]:
        """Yield the cells of groups that are not known to be done."""
        return (cell for group in groups for cell in group.cells if self.key(cell) not in self.done)

    def take(self, groups: Sequence[Group], jobs: int) -> list[Group]:
        """Claim the next cells.

        Parameters
        ----------
        groups : sequence of Group
            All cells of the plan; those known to be done are passed over.
        jobs : int
            How many cells are carried out at a time.

        Returns
        -------
        list of Group
            What this process has to do now; nothing where others have claimed everything.
        """
        others = self.lease.others()
        total = len(self.planned) - len(self.done)
        # one job takes one group at a time; several would wait for the slowest at the end of each part, so they take
        # half of what is left, or their share of it, and ever smaller parts
        most = math.inf if jobs == 1 else max((2 if others else 4) * jobs, math.ceil(total / (2 + 2 * others)))
        taken: list[Group] = []
        for group in self._onward(groups, apart=others > 0):
            cells = sorted(group.cells, key=lambda cell: cell.fold)  # as they are prepared together
            at_a_time = AT_A_TIME if not others else min(AT_A_TIME, math.ceil(len(cells) / (2 + 2 * others)))
            part = at_a_time * (self.place % math.ceil(len(cells) / at_a_time)) if others else 0
            mine = self._claim(_from(part, cells), most if jobs > 1 else at_a_time)
            if mine:
                taken.append(Group(mine, group.why))
                most -= len(mine)
            if (taken and jobs == 1) or most <= 0:
                break
        return taken

    def _onward(self, groups: Sequence[Group], *, apart: bool) -> Iterator[Group]:
        """Yield what is left of the groups, from the one where this process is, which it takes along."""
        if apart and not self.apart:
            self.at, self.apart = self.place % len(groups), True
        # all of them anew for every claim, a plan of 100,000 cells would take longer to look through than to carry out
        for at in itertools.chain(range(self.at, len(groups)), range(self.at)):
            if cells := list(self.missing(groups[at : at + 1])):
                self.at = at
                yield Group(cells, groups[at].why)

    def _claim(self, cells: Iterable[Any], most: float) -> list[Any]:
        mine: list[Any] = []
        for cell in cells:
            if len(mine) >= most:
                break
            key = self.key(cell)
            if not self.lease.claim(key):
                continue
            mine.append(cell)
            for _ in self.look_at(cell):  # finished since we looked last: its file is written before its claim ends
                mine.pop()
                self.lease.give_back(key, finished=True)
        return mine

    def look_at(self, cell: Any) -> Iterator[Planned]:
        """Yield the cell if its file is there and counts."""
        planned = self.planned[id(cell)]
        if self.store.path("cells", planned.key).exists() and self.conditions.accept(self.store.mend(planned.key)):
            yield planned

    def _write(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        last: list[Outcome] = []
        try:
            for outcome in outcomes:
                last = [outcome]
                self._keep(outcome)
                yield outcome
        except KeyboardInterrupt as stop:
            for outcome in [*last, *finished(outcomes, stop)]:
                self._keep(outcome)
            raise

    def _keep(self, outcome: Outcome) -> None:
        planned = self.planned[id(outcome.cell)]
        about = {"attempts": outcome.attempts, "fallback": outcome.fallback, **self.conditions.about}
        about |= {"finished": now(), "run": self.lease.worker.name}
        with shielded():  # what is finished is written before Ctrl-C is answered
            if planned.key in self.done:  # in hand when it came
                return
            self.store.write(planned, outcome, about)
            self.done[planned.key] = planned
            self.lease.give_back(planned.key, finished=True)

    def _give_back(self) -> None:
        for key in list(self.lease.mine):
            self.lease.give_back(key)


def _from(place: int, several: Sequence[_T]) -> list[_T]:
    """Return them all, from a place on, the ones before it last."""
    first = place % len(several)
    return [*several[first:], *several[:first]]
