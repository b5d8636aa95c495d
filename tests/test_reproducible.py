"""The same settings and seed give the same bits; nothing else that happens in the process or machine matters."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold

import torchstrata as ts
from torchstrata.experiment.checks import check_scoring
from torchstrata.experiment.plan import cells, name_learners
from torchstrata.experiment.run import run_cells
from torchstrata.experiment.together import together

_spec = importlib.util.spec_from_file_location("fingerprints", Path(__file__).with_name("fingerprints.py"))
fingerprints = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fingerprints)

QUIET = {"progress": False}
SMALL = list(fingerprints.SMALL)


# --- other processes: R1, R2, R8, R9 ----------------------------------------------------------------------------------


@functools.cache
def elsewhere(*names: str, run: int = 0, **environment: str) -> dict[str, list]:
    """Fit configurations in a fresh process; ``run`` tells apart those with the same environment."""
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONHASHSEED", "ATEN_CPU_CAPABILITY")}
    command = [sys.executable, str(fingerprints.__file__), *names]
    env = {**plain, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def digests(found: dict[str, list]) -> dict[str, str]:
    return {name: sha for name, (sha, _) in found.items()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_compute_the_same_bits_and_another_seed_others():
    """Twenty configurations; weights, history and predictions. R1 and R6."""
    first, second = digests(elsewhere()), digests(elsewhere(run=1))
    assert first == second and len(first) == 20 == len(set(first.values()))
    torch.manual_seed(77), np.random.seed(77), random.seed(77)
    for name, learner in fingerprints.configurations().items():
        assert fingerprints.digest(*fingerprints.fitted(name, learner)) == first[name], name
        other, X = fingerprints.fitted(name, learner.set_params(random_state=1))
        assert fingerprints.digest(other, X) != first[name], name


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("threads", [2, 4])
def test_the_number_of_threads_of_the_process_does_not_matter(threads):
    """Six configurations: small steps take one thread, and what is given stays. R2."""
    names = fingerprints.THREADS
    found = digests(elsewhere(*names, OMP_NUM_THREADS=str(threads)))
    one = digests(elsewhere())
    assert len(found) == 6
    assert found == {name: one[name] for name in names}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.repeats(10)
def test_the_order_of_sets_and_dicts_of_strings_does_not_matter(repeat):
    """Python draws it anew in each process, unless PYTHONHASHSEED says otherwise. R9."""
    assert digests(elsewhere(PYTHONHASHSEED=str(repeat))) == digests(elsewhere())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_other_instruction_sets_change_probabilities_by_rounding_only(capability):
    """Five epochs; not to the last bit, as torch has a program for each set of instructions. R8.

    ResNet with AdamW in float32 differs by some 1e-3 (``fingerprints.steady`` says why), and its authors' would: there
    the bound holds with SGD, and in float64.
    """
    names = [*SMALL, *fingerprints.steady()]
    here, there = elsewhere(*names), elsewhere(*names, ATEN_CPU_CAPABILITY=capability)
    worst = {name: float(np.abs(np.subtract(here[name][1], there[name][1])).max()) for name in names}
    print(f"largest difference of a probability, {capability}: {worst}")
    assert len(worst) == 8 and max(value for name, value in worst.items() if name != "ResNet") <= 1e-4, worst


# --- benchmarks: R3, R7 -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task():
    frame, labels, _ = fingerprints.make_frame(90)
    return ts.Task(frame.assign(y=labels), target="y", name="made")


def learners() -> dict:
    """None has a seed of its own; trained as one program written out, by vmap, alone, and scikit-learn's."""
    forest = RandomForestClassifier(5)
    small = {"max_epochs": 2, "batch_size": 16}
    return {
        "mlp": ts.grid(ts.TorchClassifier(ts.MLP((5,), dropout=0.2), **small), optimizer__lr=[0.01, 0.1]),
        "tabm": ts.TorchClassifier(fingerprints.SMALL["TabM"], **small),
        "stops": ts.TorchClassifier(
            ts.MLP((5,)), valid=0.3, early_stopping=ts.EarlyStopping(1), batch_size=16, max_epochs=6
        ),
        "forest": fingerprints.NumbersOnly(forest),
        "dummy": DummyClassifier(strategy="stratified"),
    }


def run(task, chosen=None, cv=3, **settings):
    chosen = learners() if chosen is None else chosen
    return ts.benchmark(task, chosen, cv=cv, scoring=["roc_auc", "accuracy"], **{**QUIET, **settings})


def tables(result, *drop: str) -> dict[str, pd.DataFrame]:
    """All that was measured but times."""
    made = {
        "scores": result.scores[~result.scores["measure"].str.endswith("_seconds")],
        "predictions": result.predictions,
        "history": result.history.drop(columns="seconds"),
        "statuses": result.statuses.drop(columns="seconds"),
    }
    return {name: table.drop(columns=list(drop)).reset_index(drop=True) for name, table in made.items()}


def assert_same(result, expected, **tolerance):
    mine, theirs = tables(result), tables(expected)
    for name, table in mine.items():
        assert len(table)
        pd.testing.assert_frame_equal(table, theirs[name], check_exact=not tolerance, obj=name, **tolerance)


@pytest.fixture(scope="module")
def one_by_one(task):
    return run(task, vectorize=False)


@pytest.fixture(scope="module")
def as_one_program(task):
    return run(task)


INLINE = [(8, "threading"), *(pytest.param(*way, marks=pytest.mark.slow) for way in (
    (1, "loky"), (1, "threading"), (2, "threading"), (1, "sequential"), (2, "sequential"), (8, "sequential")
))]  # fmt: skip
PROCESSES = [(2, "loky"), (8, "loky")]


@pytest.mark.parametrize(("n_jobs", "backend"), INLINE)
def test_backends_and_jobs_give_the_same_tables(task, one_by_one, n_jobs, backend):
    """R3; this process is the third backend."""
    assert_same(run(task, n_jobs=n_jobs, backend=backend, vectorize=False), one_by_one)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("n_jobs", "backend"), PROCESSES)
def test_processes_give_the_same_tables(task, one_by_one, as_one_program, n_jobs, backend):
    """R3: to the last bit one by one; together but for rounding, for more processes are smaller programs."""
    assert_same(run(task, n_jobs=n_jobs, backend=backend, vectorize=False), one_by_one)
    assert_same(run(task, n_jobs=n_jobs, backend=backend), as_one_program, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_the_order_in_which_cells_are_carried_out_does_not_matter(task, one_by_one, seed):
    """R7."""
    planned = cells({"made": task}, name_learners(learners()), 3)
    groups = together(planned, False)
    shuffled = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    scorers = check_scoring(["roc_auc", "accuracy"], {"made": task}, planned)
    found = list(run_cells(shuffled, {"made": task}, scorers))
    assert len(found) == len(planned) == 18
    expected = one_by_one.predictions
    for outcome in found:
        rows = expected
        for name, value in outcome.cell.keys.items():
            rows = rows[rows[name] == value]
        assert len(rows) == len(outcome.predictions) > 0
        for name in ("row", "predicted", "prob_yes"):
            assert rows[name].tolist() == outcome.predictions[name].tolist(), (outcome.cell.keys, name)


def test_folds_in_another_order_are_the_same_folds(task):
    """R7: where learners have seeds of their own, a fold is its rows and nothing else."""
    splits = list(StratifiedKFold(3).split(task.X, task.y))
    chosen = {"mlp": ts.TorchClassifier(ts.MLP((5,), dropout=0.2), max_epochs=2, batch_size=16, random_state=0)}
    plain = run(task, chosen, splits, vectorize=False)
    turned = run(task, chosen, [splits[i] for i in (2, 0, 1)], vectorize=False)
    for fold, other in enumerate((1, 2, 0)):
        mine, theirs = (r.predictions.query("fold == @k").drop(columns="fold").reset_index(drop=True)
                        for r, k in ((plain, fold), (turned, other)))  # fmt: skip
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True)


@pytest.mark.parametrize("vectorize", ["auto", pytest.param(False, marks=pytest.mark.slow)])
def test_a_learner_more_or_less_changes_no_other(task, one_by_one, as_one_program, vectorize):
    """R7. Other learners are other programs, so this holds to the last bit trained together, too."""
    whole = as_one_program if vectorize else one_by_one
    for left_out in learners():
        rest = {name: learner for name, learner in reversed(learners().items()) if name != left_out}
        found = run(task, rest, vectorize=vectorize).predictions
        for name in rest:
            mine, theirs = (t[t["learner"] == name].dropna(axis=1).reset_index(drop=True)
                            for t in (found, whole.predictions))  # fmt: skip
            pd.testing.assert_frame_equal(mine, theirs[mine.columns], check_exact=True, obj=f"{name}, no {left_out}")


# --- what is not ours: R4 ---------------------------------------------------------------------------------------------


def generators() -> tuple:
    return torch.get_rng_state().numpy().tobytes(), str(np.random.get_state()), str(random.getstate())


@pytest.fixture(scope="module")
def made():
    """A fitted learner of each kind, rows, a result."""
    frame, labels, score = fingerprints.make_frame()
    task = ts.Task(frame.assign(y=labels), target="y", name="made")
    classifier = ts.TorchClassifier(ts.MLP((4,), dropout=0.3), max_epochs=2, valid=0.2, scoring="roc_auc")
    tabm = ts.TorchClassifier(fingerprints.SMALL["TabM"], max_epochs=1)
    fitted = ts.TorchClassifier(ts.MLP((4,)), max_epochs=1).fit(frame, labels)
    result = run(task, {"mlp": classifier, "dummy": DummyClassifier()})
    kinds = {"frame": frame, "y": labels, "score": score, "task": task, "classifier": classifier, "tabm": tabm}
    return {**kinds, "fitted": fitted, "result": result}


def searched(m):
    settings = {"cv": 3, "n_iter": 2, "random_state": 0}
    return ts.RandomizedSearchCV(m["classifier"], {"optimizer__lr": [0.1, 0.01, 0.001]}, **settings)


CALLS = {
    "TorchClassifier.fit": lambda m: m["classifier"].fit(m["frame"], m["y"]),
    "TorchClassifier.fit, TabM": lambda m: m["tabm"].fit(m["frame"], m["y"]),
    "TorchClassifier.fit, module": lambda m: ts.TorchClassifier(fingerprints.module, max_epochs=1).fit(
        m["frame"].drop(columns="city"), m["y"]
    ),
    "TorchRegressor.fit": lambda m: ts.TorchRegressor(ts.Linear(), max_epochs=1).fit(m["frame"], m["score"]),
    "predict": lambda m: m["fitted"].predict(m["frame"]),
    "predict_proba": lambda m: m["fitted"].predict_proba(m["frame"]),
    "decision_function": lambda m: m["fitted"].decision_function(m["frame"][:1]),
    "score": lambda m: m["fitted"].score(m["frame"], m["y"]),
    "benchmark": lambda m: run(m["task"], {"mlp": m["classifier"], "tabm": m["tabm"], "dummy": DummyClassifier()}),
    "resample": lambda m: ts.resample(m["task"], m["classifier"], cv=3, **QUIET),
    "smoke": lambda m: ts.smoke(m["task"], m["classifier"], scoring="roc_auc"),
    "GridSearchCV": lambda m: ts.GridSearchCV(m["classifier"], {"optimizer__lr": [0.1, 0.01]}, cv=3).fit(
        m["frame"], m["y"]
    ),
    "RandomizedSearchCV": lambda m: searched(m).fit(m["frame"], m["y"]),
    "StratifiedBatchSampler": lambda m: ts.StratifiedBatchSampler(2)(len(m["y"]), m["y"], seed=1),
    "composition": lambda m: ts.RandomBatchSampler(8).composition(m["y"]),
    "torch_sampler": lambda m: list(ts.torch_sampler(ts.BalancedBatchSampler(8), m["y"])),
    "imbalanced_subsets": lambda m: ts.imbalanced_subsets(m["task"], minority=[0.2]),
    "Encoder": lambda m: ts.Encoder().fit(m["frame"]).transform(m["frame"]),
    "Bootstrap": lambda m: run(m["task"], {"dummy": DummyClassifier()}, ts.splitters.Bootstrap(2)),
    "compare": lambda m: m["result"].compare("roc_auc"),
    "plot": lambda m: m["result"].plot("roc_auc"),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_call_touches_the_generators_of_the_process(made, name, tmp_path):
    """R4: torch's, NumPy's and Python's."""
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = generators()
    CALLS[name](made)
    assert [a == b for a, b in zip(generators(), before, strict=True)] == [True] * 3


def test_saving_and_loading_touches_none_either(made, tmp_path):
    before = generators()
    loaded = ts.load(made["fitted"].save(tmp_path / "fitted"))
    assert generators() == before
    np.testing.assert_array_equal(loaded.predict_proba(made["frame"]), made["fitted"].predict_proba(made["frame"]))


# --- predictions: R5 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_a_row_is_predicted_alike_in_any_batch_and_order(name, times):
    """R5: sizes of one row to all, in five orders, to the last bit; 200 rows are three blocks and a part of one."""
    frame, labels, _ = fingerprints.make_frame(200, seed=1)
    learner = ts.TorchClassifier(fingerprints.SMALL[name], max_epochs=2, random_state=0).fit(frame, labels)
    whole = learner.decision_function(frame)
    assert len(np.unique(whole)) > 150
    for seed in range(times(5)):
        order = np.random.default_rng(seed).permutation(200)
        rows = frame.iloc[order]
        for size in (1, 7, 64, 1000):
            parts = [learner.decision_function(rows.iloc[i : i + size]) for i in range(0, 200, size)]
            np.testing.assert_array_equal(np.concatenate(parts), whole[order], err_msg=f"{size} rows, order {seed}")
