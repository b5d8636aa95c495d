"""The architecture: imports point one way, and what is public stands on one page."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

import torchstrata

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "torchstrata"
LOW = {"params", "errors", "interrupts"}
# This dictionary is the architecture (docs/design.md): who may import whom, imports inside functions included.
MAY = {
    "params": {"errors"},
    "errors": set(),
    "interrupts": set(),
    "data": LOW,
    "batches": LOW | {"data"},
    "network": LOW | {"data"},
    "training": LOW | {"data", "batches", "network"},
    "learner": LOW | {"data", "batches", "network", "training"},
    "plots": LOW,
    "experiment": LOW | {"data", "learner", "plots"},
    "testing": LOW | {"data", "batches", "network", "training", "learner", "experiment"},
    "cli": LOW | {"data", "batches", "learner", "experiment", "training", "plots"},
    "__main__": {"cli"},
    "__init__": set.union(LOW, {"data", "batches", "network", "training", "learner", "plots", "experiment"}),
}
NO_TORCH = [
    "experiment.result",
    "experiment.report",
    "experiment.storage.stored",
    "experiment.storage.monitor",
    "plots",
    "data.task",
    "data.zoo",
    "cli",
]


def part(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: pathlib.Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "torchstrata" else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (
            (name, node.lineno) for name in names if name.split(".")[0] == "torchstrata" and name != "torchstrata"
        )


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    here = part(path)
    for name, line in imported(path):
        there = name.split(".")[1]
        if there in torchstrata.__all__ and there not in MAY:
            there = torchstrata._PUBLIC[there][0].split(".")[0]  # from torchstrata import TorchClassifier
        assert there == here or there in MAY[here], f"{path}:{line}: {here} must not import {there}"


def test_public_names_stand_in_the_api_page_and_import():
    page = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(r"^\| `ts\.(\w+)", page, flags=re.M)
    assert sorted(listed) == torchstrata.__all__
    for name in torchstrata.__all__:
        value = getattr(torchstrata, name)
        assert value.__doc__, f"{name} has no docstring"
    assert set(torchstrata.__all__) <= set(dir(torchstrata))
    with pytest.raises(AttributeError, match="Did you mean 'TorchClassifier'"):
        torchstrata.TorchClassifer


def test_type_checkers_see_the_same_names():
    branch = next(n for n in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(n, ast.If))
    names = [alias.asname for node in branch.body for alias in node.names]
    assert sorted(names) == torchstrata.__all__


def test_readme_tree_equals_the_package():
    readme = (ROOT / "README.md").read_text()
    tree = re.search(r"```\nsrc/torchstrata/\n(.*?)```", readme, flags=re.S).group(1)
    listed, folders = [], [""]
    for bars, name in re.findall(r"^((?:│   |    )*)[├└]── (\S+)", tree, flags=re.M):
        del folders[len(bars) // 4 + 1 :]
        listed.append(folders[-1] + name)
        if name.endswith("/"):
            folders.append(listed[-1])
    paths = [p for p in PACKAGE.rglob("*") if "__pycache__" not in p.parts and p.name != "__init__.py"]
    there = [
        str(p.relative_to(PACKAGE)) + ("/" if p.is_dir() else "") for p in paths if p.is_dir() or p.suffix == ".py"
    ]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("module", NO_TORCH)
def test_reading_results_needs_no_torch(module):
    code = f"""
        import sys, importlib.abc
        class Blocker(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name.split(".")[0] == "torch":
                    raise ImportError("torch is blocked")
        sys.meta_path.insert(0, Blocker())
        import importlib, torchstrata
        importlib.import_module("torchstrata.{module}")
        assert "torch" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_wait_for_the_device_inside_a_step():
    """What runs once a batch never reads a number back."""
    waiting = {"item", "tolist", "cpu", "numpy", "synchronize"}
    stepwise = {"engine.py": {"epoch", "_update", "_backward", "__call__", "_forget_gradients"}}
    stepwise["dense.py"] = {"_forward", "_backward", "__call__", "_affine", "forward", "backward"}
    stepwise["heads.py"] = {"gradient", "scale"}
    stepwise["compiled.py"] = {"__call__", "step", "fill", "fill_weight"}
    stepwise["layout.py"] = {"channels_last"}
    seen = 0
    for file, functions in stepwise.items():
        for node in ast.walk(ast.parse((PACKAGE / "training" / file).read_text())):
            if isinstance(node, ast.FunctionDef) and node.name in functions:
                seen += 1
                called = {
                    c.func.attr for c in ast.walk(node) if isinstance(c, ast.Call) and isinstance(c.func, ast.Attribute)
                }
                assert not called & waiting, f"{file}: {node.name} waits: {called & waiting}"
    assert seen >= 8


def test_functions_and_files_stay_small():
    """Nine functions in ten below 40 lines, no file above 400 (docstrings not counted in functions)."""
    lengths = []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 400, f"{path} has {text.count(chr(10))} lines"
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        lengths += [f.end_lineno - f.lineno + 1 - (ast.get_docstring(f) or "").count("\n") for f in functions]
    lengths.sort()
    assert lengths[int(len(lengths) * 0.9)] < 40
