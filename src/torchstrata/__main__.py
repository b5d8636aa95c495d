"""``python -m torchstrata``."""

from torchstrata.cli import main

main()
