"""Losses x samplers x learning rates on thinned data: which of them helps when the minority is small?

    python examples/imbalance_study.py            # small: what CI runs, under a minute
    python examples/imbalance_study.py --full     # all data sets, five folds; writes tables, plots and a page

Three bundled data sets (breast cancer, digits: eight or not, wine: third class or not), and sonar and adult where
``../shared/data`` or ``TORCHSTRATA_DATA`` holds them. ``imbalanced_subsets`` makes sets of one size and several
degrees of imbalance, nested, so that the degree is all that differs. The learning rate is chosen fold by fold on rows
that validate inside the training part; test rows decide nothing.
"""

import argparse
import os
import pathlib
import tempfile
import warnings

import pandas as pd

import torchstrata as ts

DATA = pathlib.Path(os.environ.get("TORCHSTRATA_DATA", pathlib.Path(__file__).parents[2] / "shared" / "data"))


def one_against_the_rest(name: str, label: object, title: str) -> ts.Task:
    whole = ts.load_task(name)
    y = (whole.y.astype(str) == str(label)).map({True: "yes", False: "no"})
    return ts.Task(whole.X.assign(y=y), target="y", stratum="y", positive="yes", name=title)


def tasks(*, full: bool) -> dict[str, ts.Task]:
    whole = {
        "breast_cancer": (ts.load_task("breast_cancer"), (0.1, 0.03)),
        "digits 8": (one_against_the_rest("digits", 8, "digits 8"), (0.08, 0.01)),
        "wine 3": (one_against_the_rest("wine", "class_2", "wine 3"), (0.2, 0.08)),
    }
    if full and (DATA / "sonar.csv").exists():
        sonar = ts.Task.from_csv(DATA / "sonar.csv", target="Class", stratum="Class", positive="R")
        whole["sonar"] = (sonar.rows(range(207, 84, -1)), (0.09,))
    if full and (DATA / "adult.csv").exists():
        adult = ts.Task.from_csv(DATA / "adult.csv", target="income", subset="split", positive=">50K")
        whole["adult"] = (adult.with_roles(stratum="income").rows(range(0, 48842, 24)), (0.1, 0.01))
    if not full:
        whole = {"breast_cancer": whole["breast_cancer"], "wine 3": whole["wine 3"]}
    made = {}
    for name, (task, shares) in whole.items():
        for share, subset in ts.imbalanced_subsets(task, minority=shares).items():
            made[f"{name}, {share:.0%}"] = subset
    return made


def learners(*, full: bool) -> dict[str, object]:
    samplers = {"random": ts.RandomBatchSampler(32), "stratified": ts.StratifiedBatchSampler(1)}
    losses = {"cross_entropy": "cross_entropy", "aum": "aum", "aum, margin 1": ts.losses.aum(margin=1.0)}
    if full:
        losses["pairwise_squared_hinge"] = "pairwise_squared_hinge"
        losses["focal"] = "focal"
    rates = [1e-3, 1e-2] if full else [1e-2, 1e-1]
    made: dict[str, object] = {}
    for loss_name, loss in losses.items():
        for batches, sampler in samplers.items():
            learner = ts.TorchClassifier(
                ts.Linear() if not full else ts.MLP((50,)),
                loss=loss,
                batch_sampler=sampler,
                valid=0.25,
                scoring="roc_auc",
                early_stopping=ts.EarlyStopping(10),
                max_epochs=40 if full else 15,
            )
            made[f"{loss_name} | {batches}"] = ts.grid(learner, optimizer__lr=rates)
    return made


def chosen(result: ts.BenchmarkResult) -> pd.DataFrame:
    """Keep, for each fold, the learning rate with the best validation score; the test score is looked at afterwards."""
    keys = ["task", "learner", "fold"]
    best = result.history.query("best").sort_values("valid_roc_auc", kind="stable").groupby(keys).tail(1)
    scores = result.scores.query("measure == 'roc_auc'")
    return best[[*keys, "optimizer__lr"]].merge(scores, on=[*keys, "optimizer__lr"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=None)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # random batches without the minority are what is studied: they are counted below
    made = tasks(full=args.full)
    settings = {"cv": 5 if args.full else 3, "scoring": ["roc_auc", "average_precision"], "n_jobs": args.jobs}
    result = ts.benchmark(made, learners(full=args.full), progress=False, **settings)
    table = chosen(result).groupby(["task", "learner"])["value"].mean().unstack("learner").round(3)
    print("mean test ROC AUC, learning rate chosen on validation rows\n" + table.T.to_string())
    ranks = table.rank(axis=1, ascending=False).mean().sort_values().round(2)
    print("\nmean rank over tasks (1 is best)\n" + ranks.to_string())
    useless = result.history.groupby(["task", "learner"])["useless_batches"].mean().unstack("task").dropna(how="all")
    print("\nbatches of one class, mean of an epoch\n" + useless.round(1).to_string())
    out = args.out or pathlib.Path(tempfile.mkdtemp(prefix="torchstrata-"))
    result.save(out)
    result.plot("roc_auc", x="optimizer__lr").save(out / "learning_rates.png")
    hardest = min(made.values(), key=lambda task: task.minority_proportion)
    batches = ts.StratifiedBatchSampler(1).composition(hardest.strata)
    ts.plots.composition(batches.head(30)).save(out / "composition.png")
    print("\ntables and plots:", out)


if __name__ == "__main__":
    main()
