"""Losses x samplers x learning rates on thinned data: which of them helps when the minority is small?

    python examples/imbalance_study.py            # one data set, a linear network, three folds: what CI runs
    python examples/imbalance_study.py --full --jobs 2 --out study    # all of docs/imbalance.md: tables and plots

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
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

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
        whole = {"breast_cancer": (ts.load_task("breast_cancer"), (0.1, 0.03))}
    made = {}
    for name, (task, shares) in whole.items():
        for share, subset in ts.imbalanced_subsets(task, minority=shares).items():
            made[f"{name}, {share:.0%}"] = subset
    return made


def about_32_rows(n: int, strata: Any, **draw: Any) -> list[np.ndarray]:
    """Stratified batches of about 32 rows, so that they differ from random ones in what they hold, not in their size.

    Below three percent even one row of the minority a batch makes larger batches: that is the price of the guarantee.
    """
    rarest = np.unique(np.asarray(strata), return_counts=True)[1].min()
    return ts.StratifiedBatchSampler(max(1, round(32 * rarest / n)))(n, strata, **draw)


def learners(*, full: bool) -> dict[str, object]:
    losses = {"cross_entropy": "cross_entropy", "aum": "aum", "aum, margin 1": ts.losses.aum(margin=1.0)}
    samplers = {"random": ts.RandomBatchSampler(32), "stratified": about_32_rows}
    if full:
        losses |= {name: name for name in ("focal", "logit_adjusted", "ldam", "pairwise_squared_hinge", "auc_margin")}
        samplers["balanced"] = ts.BalancedBatchSampler(32, length="rows")  # as many steps an epoch as random batches
    rates = [1e-3, 1e-2] if full else [1e-2, 1e-1]
    made: dict[str, object] = {}
    for loss_name, loss in losses.items():
        for batches, sampler in samplers.items():
            if (loss_name, batches) == ("logit_adjusted", "balanced"):
                continue  # its prior is that of the rows; on balanced batches it would correct a second time
            learner = ts.TorchClassifier(
                ts.MLP((50,)) if full else ts.Linear(),
                loss=loss,
                optimizer=ts.optim.AdamW(weight_decay=0.01),  # the study's own, whatever the defaults become
                encoder=ts.Encoder(),
                batch_sampler=sampler,
                valid=0.25,
                scoring="roc_auc",
                early_stopping=ts.EarlyStopping(10),
                max_epochs=40 if full else 5,
                runtime=ts.Runtime("cpu", threads=1),  # the same on every machine
            )
            made[f"{loss_name} | {batches}"] = ts.grid(learner, optimizer__lr=rates)
    return made


def chosen(result: ts.BenchmarkResult) -> pd.DataFrame:
    """Keep, for each fold, the learning rate with the best validation score; test scores are looked at afterwards."""
    keys = ["task", "learner", "fold"]
    best = result.history.query("best").sort_values("valid_roc_auc", kind="stable").groupby(keys).tail(1)
    return best[[*keys, "optimizer__lr"]].merge(result.scores, on=[*keys, "optimizer__lr"])


def show(scores: pd.DataFrame, measure: str) -> None:
    means = scores[scores["measure"] == measure].groupby(["learner", "task"])["value"].mean()
    table = means.unstack("task")
    table["rank"] = table.rank(ascending=False).mean(axis=1)
    print(f"\nmean test {measure}, learning rate chosen on validation rows; mean rank over tasks (1 is best)")
    print(table.sort_values("rank").round({name: 2 if name == "rank" else 3 for name in table}).to_string())


def draw(result: ts.BenchmarkResult, scores: pd.DataFrame, hardest: ts.Task, title: str, out: pathlib.Path) -> None:
    """Draw the hardest task in full, and the learning rates of four losses on stratified batches."""
    keys = ["task", "learner", "fold", "optimizer__lr"]
    auc = scores[scores["measure"] == "roc_auc"]
    ts.plots.scores(auc[auc["task"] == title].drop(columns="optimizer__lr")).save(out / "scores.png")
    few = [f"{loss} | stratified" for loss in ("cross_entropy", "pairwise_squared_hinge", "aum", "aum, margin 1")]
    of_few = result.scores[result.scores["learner"].isin(few)]
    ts.plots.scores(of_few, measure="roc_auc", x="optimizer__lr").save(out / "learning_rates.png")
    curves = result.history.merge(auc[keys], on=keys)
    curves = curves[(curves["task"] == title) & curves["learner"].isin(few)].drop(columns="optimizer__lr")
    ts.plots.learning_curves(curves, measure="roc_auc").save(out / "curves.png")
    batches = ts.StratifiedBatchSampler(1).composition(hardest.strata)
    ts.plots.composition(batches.head(30)).save(out / "composition.png")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="decides the folds: another one shows what is chance")
    parser.add_argument("--out", type=pathlib.Path, default=None)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # random batches without the minority are what is studied: they are counted below
    made = tasks(full=args.full)
    measures = ["roc_auc", "average_precision"]
    folds = StratifiedKFold(5 if args.full else 3, shuffle=True, random_state=args.seed)
    settings = {"cv": folds, "n_jobs": args.jobs, "on_error": "raise", "progress": False}
    result = ts.benchmark(made, learners(full=args.full), scoring=measures, **settings)
    out = args.out or pathlib.Path(tempfile.mkdtemp(prefix="torchstrata-"))
    result.save(out)
    scores = chosen(result)
    for measure in measures:
        show(scores, measure)
    useless = result.history.groupby(["task", "learner"])["useless_batches"].mean().unstack("task").dropna(how="all")
    print("\nbatches of one class, mean of an epoch\n" + useless.round(1).to_string())
    hardest = min(made, key=lambda name: made[name].minority_proportion)
    draw(result, scores, made[hardest], hardest, out)
    print("\ntables and plots:", out)


if __name__ == "__main__":
    main()
