"""Worker processes by fork instead of a fresh interpreter, whose imports take seconds; all else is as it ships.

joblib starts a process by ``fork_exec``: here the fork keeps what is imported, closes what an exec would close, and
then runs the module that the command names.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
import traceback
import warnings

from joblib.externals.loky.backend import fork_exec as loky
from joblib.externals.loky.backend import resource_tracker

by_exec = loky.fork_exec


def by_fork(cmd, keep_fds, env=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of other threads; none of ours holds a lock
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        keep = {0, 1, 2, *map(int, keep_fds)}
        for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
            if fd not in keep:
                with contextlib.suppress(OSError):
                    os.close(fd)
        os.environ.update(env or {})
        warnings.simplefilter("default")  # as a fresh interpreter would, whatever the tests make of them
        sys.argv = [cmd[2], *cmd[3:]]
        runpy.run_module(cmd[2], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def prepare() -> None:
    """Start what joblib starts once a process, so that children share it."""
    resource_tracker._resource_tracker.ensure_running()
    from multiprocessing import resource_tracker as other

    other._resource_tracker.ensure_running()
