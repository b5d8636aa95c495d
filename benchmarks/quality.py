"""How good the defaults are: torchstrata's learners against its peers, on the same splits of every set.

Five folds, three times, on the sets that scikit-learn brings, and on sonar and adult where ``--data`` has them. All
learners have the settings of their authors and see the same rows through ``ts.benchmark``. Results are kept in
``--store``; a peer that is there already is read and not fitted again, ours are fitted anew unless ``--keep`` is given.

    python benchmarks/quality.py --learners mlp boosting realmlp_td     # the peers, once
    python benchmarks/quality.py --learners default                     # ours, and the table in docs/quality.md
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import logging
import pathlib
import shutil
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import sklearn.datasets
import torch
from quality_table import tell, write
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

import torchstrata as ts

HERE = pathlib.Path(__file__).resolve().parent
FOLDS, SEEDS = 5, 3
LARGE = 10_000  # above so many rows every fold is kept as soon as it is there
BUNDLED = ("iris", "wine", "breast_cancer", "digits", "diabetes", "linnerud")
ON_DISK = {"sonar": {"target": "Class"}, "adult": {"target": "income", "subset": "split"}}
LEVELS = 255  # scikit-learn's boosting takes so many levels of a category

# the sets


def load(name: str, data: pathlib.Path) -> ts.Task | None:
    """Return a task, or None where its file is not there."""
    if name == "linnerud":
        X, y = sklearn.datasets.load_linnerud(return_X_y=True, as_frame=True)
        return ts.Task(pd.concat([X, y], axis=1), target=list(y), kind="regression", name=name)
    if name in BUNDLED:
        return ts.load_task(name)
    file = data / f"{name}.csv"
    if not file.is_file():
        print(f"{name}: left out, there is no {file.name} in --data")
        return None
    return ts.Task.from_csv(file, name=name, **ON_DISK[name])


def splits(task: ts.Task) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows of all folds, the same whoever asks."""
    regression = task.kind == "regression"
    splitter = (RepeatedKFold if regression else RepeatedStratifiedKFold)(
        n_splits=FOLDS, n_repeats=SEEDS, random_state=0
    )
    return list(splitter.split(np.zeros((task.n_rows, 1)), None if regression else task.y))


def scoring(task: ts.Task) -> list[str]:
    """Name the measures of a task."""
    if task.kind == "regression":
        return ["neg_root_mean_squared_error"]
    return ["accuracy", "neg_log_loss", *(["roc_auc"] if task.n_classes == 2 else [])]


# the learners


def _ours(task: ts.Task, **settings: Any) -> BaseEstimator:
    return (ts.TorchRegressor if task.kind == "regression" else ts.TorchClassifier)(**settings)


def tabm(task: ts.Task) -> BaseEstimator:
    """TabM with the settings of our learners."""
    return _ours(task, network=ts.TabM())


def realmlp(task: ts.Task) -> BaseEstimator:
    """Our RealMLP as its authors train it: a fifth of the rows chooses the epoch."""
    return _ours(task, **ts.recipes.realmlp(task.kind))


def realmlp_all(task: ts.Task) -> BaseEstimator:
    """The same on all rows: the last epoch is kept."""
    return _ours(task, **ts.recipes.realmlp(task.kind, valid=None))


def _categories() -> Any:
    return make_column_selector(dtype_exclude=np.number)


def _numbers() -> Any:
    return make_column_selector(dtype_include=np.number)


def mlp(task: ts.Task) -> BaseEstimator:
    """scikit-learn's network, with its inputs prepared as its documentation asks for."""
    prepare = make_column_transformer(
        (OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5, sparse_output=False), _categories()),
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), _numbers()),
    )
    return make_pipeline(prepare, MLPRegressor() if task.kind == "regression" else MLPClassifier())


def boosting(task: ts.Task) -> BaseEstimator:
    """scikit-learn's boosted trees; categories are categories to them."""
    n_categories = len(_categories()(task.X))
    mask = [i < n_categories for i in range(len(task.feature_names))]
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=LEVELS
    )
    prepare = make_column_transformer((codes, _categories()), ("passthrough", _numbers()))
    if task.kind == "classification":
        return make_pipeline(prepare, HistGradientBoostingClassifier(categorical_features=mask))
    trees = HistGradientBoostingRegressor(categorical_features=mask)
    return make_pipeline(prepare, trees if len(task.target_names) == 1 else MultiOutputRegressor(trees))


def realmlp_td(task: ts.Task) -> BaseEstimator:
    """The authors' RealMLP with their tuned defaults: 256 epochs, the best one by a fifth of the rows."""
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    made = RealMLP_TD_Regressor if task.kind == "regression" else RealMLP_TD_Classifier
    return made(device="cpu", n_threads=1)


PEERS: dict[str, Callable[[ts.Task], BaseEstimator]] = {"mlp": mlp, "boosting": boosting, "realmlp_td": realmlp_td}
OURS: dict[str, Callable[[ts.Task], BaseEstimator]] = {
    "default": _ours,
    "tabm": tabm,
    "realmlp": realmlp,
    "realmlp_all": realmlp_all,
}
NEEDS = {
    "tabm": lambda: hasattr(ts, "TabM"),
    "realmlp": lambda: hasattr(ts, "recipes"),
    "realmlp_all": lambda: hasattr(ts, "recipes"),
    "realmlp_td": lambda: importlib.util.find_spec("pytabkit") is not None,
}


def there(names: Iterable[str]) -> list[str]:
    """Return the learners that can be had here."""
    found = [name for name in names if NEEDS.get(name, lambda: True)()]
    for name in names:
        if name not in found:
            print(f"{name}: left out, it is not installed")
    return found


# the fits, and where they are kept


def parts(task: ts.Task, learner: str) -> list[range]:
    """Return the folds that are fitted, and kept, together."""
    every = range(FOLDS * SEEDS)
    slow = task.n_rows > LARGE or learner in ("realmlp_td", "tabm")
    return [range(i, i + 1) for i in every] if slow else [every]


def fit(task: ts.Task, learner: str, folds: range) -> ts.BenchmarkResult:
    """Fit one learner on some folds."""
    made = (PEERS | OURS)[learner](task)
    # the name enters the seed of a learner that was given none: no two parts begin with the same weights
    name = f"{task.name}/{folds.start}"
    chosen = splits(task)[folds.start : folds.stop]
    found = ts.benchmark(
        {name: task}, {learner: made}, cv=chosen, scoring=scoring(task), on_error="raise", progress=False
    )
    return _renamed(found, task.name, folds.start)


def _renamed(found: ts.BenchmarkResult, task: str, first: int) -> ts.BenchmarkResult:
    """Give the folds their numbers among all, and let go of predictions and histories."""
    scores, parts = (table.assign(task=task, fold=table["fold"] + first) for table in (found.scores, found.splits))
    about = {task: next(iter(found.tasks.values()))}
    # a name stands for a classifier here and a regressor there, so its settings are facts of this part alone
    info = {**found.info, "settings": next(iter(found.learners.values()))}
    return ts.BenchmarkResult(scores, splits=parts, tasks=about, info=info)


def run(task: ts.Task, learner: str, store: pathlib.Path, *, most: int, anew: bool) -> None:
    """Fit a learner on the folds of a task that are not in the store."""
    for folds in parts(task, learner):
        folder = store / task.name / learner / f"{folds.start:02}"
        if folds.start >= most or ((folder / "result.json").is_file() and not anew):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        started = time.perf_counter()
        fit(task, learner, folds).save(folder)
        print(f"{task.name} {learner} {folds.start}: {time.perf_counter() - started:.1f} s", flush=True)


def stored(store: pathlib.Path, tasks: Iterable[str]) -> ts.BenchmarkResult | None:
    """Add up all that the store has of these tasks."""
    total = None
    for task in tasks:
        for file in sorted(store.glob(f"{task}/*/*/result.json")):
            one = ts.load_result(file.parent)
            total = one if total is None else total + one
    return total


def _hush() -> None:
    """Silence what the peers print; Lightning sets its own level when it is imported."""
    with contextlib.suppress(ImportError):
        importlib.import_module("pytorch_lightning")
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*fits of")  # of peers that reach their number of epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", nargs="*", default=[*OURS, *PEERS], choices=[*OURS, *PEERS])
    parser.add_argument("--tasks", nargs="*", default=[*BUNDLED, *ON_DISK], choices=[*BUNDLED, *ON_DISK])
    parser.add_argument("--store", type=pathlib.Path, required=True, help="folder where results are kept")
    parser.add_argument("--data", type=pathlib.Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--most", type=int, default=FOLDS * SEEDS, help="only folds below this number")
    parser.add_argument("--keep", action="store_true", help="do not fit ours anew where they are in the store")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent / "docs" / "quality.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    _hush()
    tasks = {name: task for name in args.tasks if (task := load(name, args.data)) is not None}
    with threadpool_limits(1):
        for task in tasks.values():
            for learner in there(args.learners):
                run(task, learner, args.store, most=args.most, anew=learner in OURS and not args.keep)
    result = stored(args.store, tasks)
    if result is not None:
        write(tell(result, list(OURS)), args.out)
        print(args.out)


if __name__ == "__main__":
    main()
