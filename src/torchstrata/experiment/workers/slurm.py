"""A SLURM array script for a study whose store is shared by all tasks of the array.

Every task runs the same Python file; the claims of the store (docs/store.md) share out the cells, so the script knows
nothing of cells, and a task that is killed, or never starts, costs nothing but its own part.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from torchstrata.errors import ConfigError

_TIME = re.compile(
    r"(\d+-)?\d{1,3}(:\d{2}){0,2}"
)  # as of sbatch: minutes, minutes:seconds, hours:minutes:seconds, days-...
_MEMORY = re.compile(r"\d+[KMGT]?")
_NAME = re.compile(r"[\w.+-]+")
# Seconds between SIGTERM and the end: enough to give back claims, whatever the cell in progress is doing.
NOTICE = 120

_SCRIPT = """\
#!/bin/bash
{directives}
# Written by: {command}
#
# Submit with `sbatch {out}`. Every task runs the same study, and its store shares out the cells: what one task has
# finished, or is at, no other does. Submit it again to go on after a time limit; more tasks may join at any moment.
# From outside: torchstrata status STORE; when all is done: torchstrata report STORE

set -euo pipefail
cd "${{SLURM_SUBMIT_DIR:-.}}"
# as many threads as there are cores for this task, else the tasks of a node fight for them
export OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-{cpus}}}"
# SIGTERM comes {notice} s before the end: finished cells are in the store, claims are given back, the exit code is 143
exec srun {run}
"""


def slurm_script(
    study: str | Path,
    *,
    workers: int = 10,
    time: str = "01:00:00",
    cpus: int = 1,
    memory: str = "4G",
    gpus: int = 0,
    partition: str | None = None,
    name: str | None = None,
    python: str = "python",
    arguments: Sequence[str] = (),
    out: str = "study.sbatch",
    command: str = "torchstrata slurm",
) -> str:
    """Write a SLURM array script that works on the store of a study.

    Parameters
    ----------
    study : str or Path
        A Python file that calls ``ts.benchmark(..., store=...)``.
    workers : int
        Tasks of the array: each is a process that takes cells from the store until none is left.
    time : str
        Limit of a task, as of sbatch: ``"04:00:00"``, ``"1-12:00:00"``.
    cpus : int
        Cores of a task.
    memory : str
        Of a task, such as ``"4G"``.
    gpus : int
        Of a task.
    partition : str, optional
        Where to run.
    name : str, optional
        Of the job; the name of the file by default.
    python : str
        The interpreter, as the nodes find it.
    arguments : sequence of str
        Handed on to the study.
    out : str
        Name of the script, for its own comment.
    command : str
        How it was made, likewise.

    Returns
    -------
    str
        The script.

    Raises
    ------
    ConfigError
        If the study is not there or names no store, or a limit cannot be read.

    Notes
    -----
    ``--requeue`` lets SLURM start a task again that was preempted; one that reached its time limit ends for good, and
    the script is submitted once more.
    """
    study = Path(study)
    _check_study(study)
    for what, number, least in (("workers", workers, 1), ("cpus", cpus, 1), ("gpus", gpus, 0)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise ConfigError(f"slurm: {what} must be an int >= {least}, got {number!r}")
    _check("time", time, _TIME, "'04:00:00' or '1-12:00:00'")
    _check("memory", memory, _MEMORY, "'4G' or '4000M'")
    name = study.stem if name is None else name
    for what, text in (("name", name), ("partition", partition or "any")):
        _check(what, text, _NAME, "a word without spaces")
    directives = {
        "job-name": name, "array": f"0-{workers - 1}", "ntasks": 1, "cpus-per-task": cpus, "mem": memory, "time": time,
        **({"gpus-per-task": gpus} if gpus else {}), **({"partition": partition} if partition else {}),
        "signal": f"TERM@{NOTICE}", "open-mode": "append", "output": "slurm-%x-%A_%a.log",
    }  # fmt: skip
    lines = [f"#SBATCH --{option}={value}" for option, value in directives.items()] + ["#SBATCH --requeue"]
    run = shlex.join([*shlex.split(python), str(study), *arguments])
    return _SCRIPT.format(
        directives="\n".join(lines), command=command, out=shlex.quote(out), cpus=cpus, notice=NOTICE, run=run
    )


def _check(what: str, given: str, pattern: re.Pattern[str], example: str) -> None:
    if not isinstance(given, str) or not pattern.fullmatch(given):
        raise ConfigError(f"slurm: {what} must look like {example}, got {given!r}")


def _check_study(study: Path) -> None:
    if not study.is_file():
        raise ConfigError(f"slurm: there is no file {str(study)!r}; give the Python file that calls ts.benchmark(...)")
    try:
        text = study.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"slurm: {str(study)!r} is no text; give the Python file that calls ts.benchmark") from None
    if not re.search(r"\bstore\s*=", text):
        raise ConfigError(
            f"slurm: {study} names no store, and the tasks of an array share work through it: "
            "write ts.benchmark(..., store='runs/study') there"
        )
