"""Drawings of tables: numbers first, ink second.

Each function computes the table it draws, keeps it as ``.table`` of the :class:`Plot` it returns, and only then draws.
Names are imported when first used, so reading a result does not import matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchstrata.plots.confused import confusion
    from torchstrata.plots.costs import cost
    from torchstrata.plots.curves import learning_curves
    from torchstrata.plots.folds import scores
    from torchstrata.plots.paired import differences
    from torchstrata.plots.plot import Plot
    from torchstrata.plots.ranking import precision_recall, roc
    from torchstrata.plots.ranks import critical_difference
    from torchstrata.plots.reliability import calibration
    from torchstrata.plots.strata import composition
    from torchstrata.plots.trials import settings, tuning
    from torchstrata.plots.wires import network

# no file bears the name of its function: importing it would put the module where the function belongs
_WHERE = {
    "Plot": "plot",
    "calibration": "reliability",
    "composition": "strata",
    "confusion": "confused",
    "cost": "costs",
    "critical_difference": "ranks",
    "differences": "paired",
    "learning_curves": "curves",
    "network": "wires",
    "precision_recall": "ranking",
    "roc": "ranking",
    "scores": "folds",
    "settings": "trials",
    "tuning": "trials",
}

__all__ = [
    "Plot", "calibration", "composition", "confusion", "cost", "critical_difference", "differences", "learning_curves",
    "network", "precision_recall", "roc", "scores", "settings", "tuning",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
