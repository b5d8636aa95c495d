from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def copies():
    """Made-up tables, and copies of weights from the authors' modules into ours: copies.py."""
    spec = importlib.util.spec_from_file_location("network_copies", Path(__file__).with_name("copies.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
