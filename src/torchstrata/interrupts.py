"""Ctrl-C and SIGTERM: answered at once, but not in the middle of a write, and never lost.

Python raises KeyboardInterrupt at whatever line the program is just then: in the middle of a file, of a message of a
worker, of tidying up. Within :func:`interruptible` a first signal waits for the end of what is :func:`shielded`, some
milliseconds; a second one does not. Whoever swallows it, a library's ``except:`` or a finalizer, hears of it again at
the next :func:`check`. The handlers that the program had are called, and are back afterwards.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from _thread import get_ident
from types import FrameType
from typing import Any

# what is wrapped where it is a function of Python; a program that ignores a signal goes on ignoring it
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: as Ctrl-C, so that no learner's ``except Exception`` takes it for its own."""


class _Watch:
    """What came while a call is interruptible, and whether it may be answered now."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.came: list[int] = []
        self.waiting: int | None = None
        self.raised: type[BaseException] = KeyboardInterrupt
        self.shields, self.firm = 0, 1

    def begin(self) -> None:
        """Put our handler in; what comes meanwhile is answered by the next check."""
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if callable(before) or (before == signal.SIG_DFL and number == signal.SIGTERM):
                self.before[number] = before
                signal.signal(number, self.hear)
        self.firm -= 1

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: the handler while a call is interruptible."""
        self.came.append(number)
        ours = frame is not None and frame.f_code in _OURS  # it would leave handlers or shields behind
        if ours or self.firm or (self.shields and len(self.came) == 1):
            self.waiting = number
        else:
            self.answer(number, frame)

    def answer(self, number: int, frame: FrameType | None = None) -> None:
        """Do what the signal says."""
        self.waiting = None
        if number == signal.SIGTERM:
            raise Terminated("SIGTERM")
        try:
            self.before[number](number, frame)
        except BaseException as error:
            self.raised = type(error)
            raise
        self.came.clear()  # a handler of the program, which chose to go on

    def end(self) -> None:
        """Put the handlers back; what comes meanwhile is heard, and not answered before all are back."""
        self.firm += 1
        for number in reversed(self.before):  # that of Ctrl-C at last, for it may raise at once
            signal.signal(number, self.before[number])


_active: _Watch | None = None  # there is one, for signals are the process's


class _Interruptible:
    """See :func:`interruptible`."""

    watch: _Watch | None = None

    def __init__(self, skip: bool):
        self.skip = skip

    def __enter__(self) -> None:
        global _active
        if not self.skip and _active is None and get_ident() == threading.main_thread().ident:
            watch = _Watch()
            watch.begin()
            self.watch = _active = watch

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        global _active
        if self.watch is None:
            return
        _active = None
        self.watch.end()
        before, came = self.watch.before, self.watch.came
        if signal.SIGTERM in came:
            if callable(before[signal.SIGTERM]):
                before[signal.SIGTERM](signal.SIGTERM, None)
            ended = SystemExit(128 + signal.SIGTERM)
            ended.result = getattr(error, "result", None)  # type: ignore[attr-defined]
            raise ended from None
        if came and not isinstance(error, self.watch.raised):
            before[signal.SIGINT](signal.SIGINT, None)


class _Shield:
    """See :func:`shielded`."""

    def __init__(self, firm: bool):
        self.firm = firm
        self.watch = _active if get_ident() == threading.main_thread().ident else None

    def __enter__(self) -> None:
        if self.watch is not None:
            self.watch.shields += 1
            self.watch.firm += self.firm

    def __exit__(self, *error: object) -> None:
        if self.watch is not None:
            self.watch.shields -= 1
            self.watch.firm -= self.firm
            if self.watch.waiting is not None and not self.watch.shields:
                self.watch.answer(self.watch.waiting)


_OURS = {method.__code__ for made in (_Interruptible, _Shield) for method in (made.__enter__, made.__exit__)} | {
    _Watch.begin.__code__,
    _Watch.end.__code__,
}


def interruptible(*, in_workers: bool = True) -> _Interruptible:
    """End as told by Ctrl-C and SIGTERM, wherever it is safe; the handlers there were before are put back.

    Within another one, outside the main thread (the only one in which Python knows signals), and for signals that the
    program ignores, it does nothing.

    Parameters
    ----------
    in_workers : bool
        Whether to do so in a process that multiprocessing or joblib started, which SIGTERM else ends at once.

    Returns
    -------
    context manager
        At its end, Ctrl-C is raised as the KeyboardInterrupt that it was, even if somebody swallowed it; SIGTERM as
        SystemExit with code 143 and the attribute ``result`` that the KeyboardInterrupt had.
    """
    return _Interruptible(not in_workers and multiprocessing.current_process().name != "MainProcess")


def shielded(*, firm: bool = False) -> _Shield:
    """Let a first signal wait for the end of what must not be cut in two.

    Parameters
    ----------
    firm : bool
        Whether a second one waits too: for tidying up, which takes milliseconds.

    Returns
    -------
    context manager
        At its end, what waited is answered.
    """
    return _Shield(firm)


def check() -> None:
    """Raise what came and was swallowed.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C or SIGTERM came, and something caught it: a library's ``except:``, or a finalizer, in which Python
        only prints it.
    """
    if _active is not None and _active.came and get_ident() == threading.main_thread().ident:
        _active.answer(_active.came[-1])


def _leave_to_child() -> None:
    """Give a forked child, such as one that loads rows, the handlers it would have without us."""
    global _active
    if _active is not None:
        _active.end()
        _active = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_child)
