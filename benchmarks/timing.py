"""What the benchmarks share: interleaved runs, medians of ratios, a Markdown table with versions and machine."""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

# On a machine that others use, a long run is interrupted and a short one is not; the processor time of this process is
# then fairer, as long as all contestants run in it on one thread.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def interleave(
    contestants: Mapping[Any, Callable[[], object]], *, repeats: int, warm_up: int = 1, clock: str = "wall"
) -> dict[Any, list[float]]:
    """Run all contestants in turn, `repeats` times, after rounds of warming up; return seconds."""
    now = CLOCKS[clock]
    seconds: dict[Any, list[float]] = {name: [] for name in contestants}
    for round_number in range(repeats + warm_up):
        for name, run in contestants.items():
            started = now()
            run()
            if round_number >= warm_up:
                seconds[name].append(now() - started)
    return seconds


def best(run: Callable[[], object], *, repeats: int, clock: str = "wall") -> float:
    """Least seconds of one contestant alone, after one run of warming up."""
    return min(interleave({"": run}, repeats=repeats, clock=clock)[""])


def ratios(seconds: Mapping[str, list[float]], reference: str) -> dict[str, float]:
    """Median over rounds of reference / contestant: how many times faster than the reference each one is."""
    return {
        name: statistics.median(r / s for r, s in zip(seconds[reference], own, strict=True))
        for name, own in seconds.items()
    }


def options(doc: str | None, *, repeats: int = 15, threads: int = 1) -> argparse.ArgumentParser:
    """Return a parser with what all benchmarks understand; its help begins with the text of the module."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds; in each, every contestant runs once")
    parser.add_argument("--threads", type=int, default=threads, help="torch threads")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: time of this process, for a busy machine")
    parser.add_argument("--quick", action="store_true", help="a look in little time: fewer rounds, less work")
    return parser


def installed(*requirements: str) -> set[str]:
    """Say which distributions are there in a version that will do; name those that are left out."""
    there = set()
    for wanted in map(Requirement, requirements):
        try:
            if wanted.specifier.contains(metadata.version(wanted.name), prereleases=True):
                there.add(wanted.name)
                continue
        except metadata.PackageNotFoundError:
            pass
        print(f"{wanted} is not installed and is left out: pip install '{wanted}'")
    return there


def goal(what: str, value: float, wanted: float, *, at_least: bool = True) -> str:
    """One line of a verdict."""
    met = value >= wanted if at_least else value <= wanted
    return f"* {what}: {value:.2f} (goal: {'>=' if at_least else '<='} {wanted:g}) {'met' if met else 'MISSED'}"


def versions(*packages: str) -> str:
    """One line with the versions and the machine."""
    shown = []
    for name in packages:
        try:
            shown.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            shown.append(f"{name} not installed")
    return f"Python {platform.python_version()}, {', '.join(shown)}; {hardware()}"


def hardware() -> str:
    """Processor, cores, system, and torch's threads where it is imported."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{_processor()}, {cores} cores", f"{platform.machine()}, {platform.system()}"]
    if "torch" in sys.modules:
        parts.append(f"{sys.modules['torch'].get_num_threads()} torch thread(s)")
    return "; ".join(parts)


def _processor() -> str:
    """Name of the processor; Linux keeps it in a file, elsewhere it is what Python knows."""
    file = pathlib.Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    return named.get("model name") or platform.processor() or "unknown processor"


def markdown(header: list[str], rows: list[list[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines)
