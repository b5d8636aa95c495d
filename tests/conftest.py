"""What all tests share: how often, with which examples, and what Ctrl-C does.

Faults at random moments (kills, signals, exhausted memory) are tried a tenth as often per commit as in full:
``TORCHSTRATA_FULL=1``, which ``make gates`` sets, tries them as often as docs/reliability.md says.
"""

import os
import signal

import pytest
from hypothesis import settings

# Property tests: new examples at a desk, the same ones in CI, and no time limit for an example on a busy machine.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# A shell that starts us in the background has Ctrl-C ignored, also by all that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def how_often(full: int) -> int:
    return full if os.environ.get("TORCHSTRATA_FULL") == "1" else max(1, full // 10)


@pytest.fixture(scope="session")
def times():
    """Say how often a fault is tried of which there are so many in full."""
    return how_often


def pytest_generate_tests(metafunc):
    """``@pytest.mark.repeats(200)`` with an argument ``repeat``: a test of its own for each time."""
    if marker := metafunc.definition.get_closest_marker("repeats"):
        metafunc.parametrize("repeat", range(how_often(*marker.args)))
