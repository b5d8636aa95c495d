from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tables():
    """The factory of made-up results, which the tests of the experiment own."""
    path = Path(__file__).parents[1] / "experiment" / "tables.py"
    spec = importlib.util.spec_from_file_location("made_up_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tables
