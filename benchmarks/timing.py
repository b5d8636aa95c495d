"""What the benchmarks share: interleaved runs, medians of ratios, a Markdown table with versions and machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata


def interleave(contestants: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Run all contestants in turn, `repeats` times, after one round of warming up; return seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_number in range(repeats + 1):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            if round_number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratios(seconds: Mapping[str, list[float]], reference: str) -> dict[str, float]:
    """Median over rounds of reference / contestant: how many times faster than the reference each one is."""
    return {
        name: statistics.median(r / s for r, s in zip(seconds[reference], own, strict=True))
        for name, own in seconds.items()
    }


def versions(*packages: str) -> str:
    """One line with the versions and the machine."""
    shown = []
    for name in packages:
        try:
            shown.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            shown.append(f"{name} not installed")
    return f"Python {platform.python_version()}, {', '.join(shown)}; {platform.machine()}, {platform.system()}"


def markdown(header: list[str], rows: list[list[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines)
