from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

collect_ignore = ["interrupt_server.py"]  # a program that tests start, with its folder on the path


@pytest.fixture(scope="session")
def tables():
    """The factory of made-up results in tables.py."""
    spec = importlib.util.spec_from_file_location("made_up_tables", Path(__file__).with_name("tables.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tables
