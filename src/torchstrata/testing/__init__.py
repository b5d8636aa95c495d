"""Tools for tests of torchstrata and of what you add to it."""
