"""What an import brings along, and the help of the command line without torch."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from torchstrata.cli import cli

HEAVY = ["torch", "sklearn", "pandas", "numpy", "scipy", "matplotlib", "rich", "optuna", "narwhals", "click"]
# What a learner needs later or never. (rich is not listed: scikit-learn 1.9 imports it for its own callbacks.)
NOT_FOR_A_LEARNER = [
    "matplotlib",
    "optuna",
    "skorch",
    "lightning",
    "polars",
    "safetensors",
    "click",
    "sklearn.impute",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.linear_model",
    "torchstrata.experiment",
    "torchstrata.plots",
]
BLOCK = """
    import sys, importlib.abc
    class Blocker(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name.split(".")[0] in {blocked}:
                raise ImportError(name + " is blocked")
    sys.meta_path.insert(0, Blocker())
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [[], *([name] for name in cli.commands)], ids=" ".join)
def test_help_needs_no_torch_and_nothing_else_that_is_heavy(arguments):
    blocked = [name for name in HEAVY if name != "click"]
    shown = run(BLOCK.format(blocked=blocked) + "    from torchstrata.cli import main; main()", *arguments, "--help")
    assert shown.startswith("Usage:") and "--help" in shown


def test_the_package_alone_imports_nothing():
    loaded = run("import sys, torchstrata; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


def test_a_first_fit_does_not_import_the_compiler():
    """It takes longer than torch itself; the optimizers of torch import it, steps that are written out do not."""
    loaded = run(
        """
        import sys, numpy as np, torchstrata as ts
        X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
        ts.TorchClassifier(ts.MLP((3,)), max_epochs=1, runtime="cpu").fit(X, y).predict(X)
        print(*sys.modules)
        """
    ).split()
    assert "torch" in loaded and "torch._dynamo" not in loaded


def test_a_learner_imports_only_what_it_is_made_of():
    loaded = run("import sys, torchstrata as ts; ts.TorchClassifier; print(*sys.modules)").split()
    assert not set(NOT_FOR_A_LEARNER) & set(loaded)
    assert "torch" in loaded
