"""The first thing a worker process does: see to it that it does not outlive its parent, before imports of seconds."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

# a worker that waits for so many seconds is no longer wanted
IDLE = 300.0


def serve(connection: Connection, parent: int, dies_with_thread: bool) -> None:
    """Carry out jobs until the parent ends, says so, or sends none for long.

    Parameters
    ----------
    connection : Connection
        The pipe to the parent.
    parent : int
        Its process.
    dies_with_thread : bool
        Whether the thread that made this process lives as long as the parent does.
    """
    _settle(parent, dies_with_thread)
    inbox: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    from joblib.externals.loky.cloudpickle_wrapper import dumps

    from torchstrata.experiment.workers.workbench import work

    work(inbox, lambda *message: connection.send_bytes(dumps(message)))


def _settle(parent: int, dies_with_thread: bool) -> None:
    """Be out of reach of Ctrl-C, which is the parent's to handle, and not outlive it."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux" and dies_with_thread:
        import ctypes

        set_death_signal = 1  # PR_SET_PDEATHSIG: the kernel's word, for when a computation lets no thread of ours run
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _listen(connection: Connection, inbox: queue.SimpleQueue) -> None:
    """Read what comes, also while a job runs; the end of the pipe is the end of the parent."""
    try:
        while True:
            message = connection.recv_bytes()
            kind, _, content = message.partition(b"\n")
            inbox.put((kind.decode(), content))
    except (EOFError, OSError, MemoryError):  # a message that was read in part leaves no beginning of the next
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # processes of its own, which load rows, too
        os._exit(1)
