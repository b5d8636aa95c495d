"""Tools for tests of torchstrata and of what you add to it."""

from torchstrata.testing.debug import DebugLearner

__all__ = ["DebugLearner"]
