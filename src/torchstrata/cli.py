"""The command line: torchstrata benchmark | demo | report | status | batches | env."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class _OrderedGroup(click.Group):
    """Commands in the order of this file, and a guess for a misspelt one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            from torchstrata.errors import did_you_mean

            raise click.UsageError(f"no command {args[0]!r}. {did_you_mean(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_OrderedGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="torchstrata")
def cli() -> None:
    """Compare deep learners honestly: a CSV in, an honest benchmark out."""


def _task_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        [
            click.argument("data", type=click.Path(path_type=Path)),
            click.option("--target", required=True, multiple=True, help="Column to predict; several for regression."),
            click.option(
                "--stratum", multiple=True, help="Column(s) that every batch holds, crossed. [default: target]"
            ),
            click.option("--group", help="Column whose rows stay together in a fold."),
            click.option("--weight", help="Column of sample weights."),
            click.option("--positive", help="The positive one of two classes. [default: the second]"),
            click.option(
                "--kind", type=click.Choice(["classification", "regression"]), help="[default: by the target]"
            ),
            click.option("--sep", default=",", show_default=True, help="Separator of the CSV file."),
        ]
    ):
        function = option(function)
    return function


def _folder(default: str) -> Callable[..., Any]:
    path = click.Path(path_type=Path)
    return click.option("--out", default=default, show_default=True, type=path, help="Folder to write.")


# the type is said: of a default that is a function click knows none, and would hand on text
_jobs = click.option(
    "--jobs", type=int, default=lambda: os.cpu_count() or 1, show_default="cores", help="Processes; -1 for all cores."
)


@cli.command()
@_task_options
@click.option("--folds", default=5, show_default=True, help="Folds of the cross-validation.")
@click.option("--scoring", help="Measures, comma-separated; the first decides. [default: by the task]")
@click.option("--learners", help="Default learners by name or pattern, comma-separated, such as 'dummy,mlp*'.")
@click.option("--min-samples", type=int, help="Rows of each stratum in a stratified batch. [default: batches of 32]")
@click.option("--max-epochs", default=100, show_default=True, help="At most so many epochs a fit.")
@click.option("--seed", default=0, show_default=True, help="Root of all seeds.")
@click.option("--smoke", is_flag=True, help="Only try everything on a few rows, and estimate the time of all.")
@_folder("torchstrata-benchmark")
@_jobs
def benchmark(
    data: Path,
    folds: int,
    scoring: str | None,
    learners: str | None,
    min_samples: int | None,
    max_epochs: int,
    seed: int,
    smoke: bool,
    out: Path,
    jobs: int,
    **roles: Any,
) -> None:
    """Compare default learners on a CSV or Parquet file by stratified cross-validation."""
    task = _read(data, **roles)
    click.echo(f"{task}\n    {task.kind}: {task.kind_reason}")
    settings = {"min_samples": min_samples, "max_epochs": max_epochs, "seed": seed}
    if smoke:
        _try_out(task, folds, scoring, learners, **settings)
        return
    _compare(task, folds, scoring, learners, out=out, jobs=jobs, **settings)


@cli.command()
@_folder("torchstrata-demo")
@click.option("--seed", default=0, show_default=True, help="Root of all seeds.")
@_jobs
@click.option("--max-epochs", default=100, show_default=True, help="At most so many epochs a fit.")
@click.option("--learners", help="Default learners by name or pattern, comma-separated.")
def demo(out: Path, seed: int, jobs: int, max_epochs: int, learners: str | None) -> None:
    """Compare default learners on breast cancer data thinned to a minority of 10 %."""
    from torchstrata.data.imbalance import imbalanced_subsets
    from torchstrata.data.zoo import load_task

    task = imbalanced_subsets(load_task("breast_cancer"), minority=[0.1], seed=seed)[0.1]
    task = task.rows(range(len(task)), name="breast_cancer, 10 % malignant")
    click.echo(str(task))
    _compare(task, 5, None, learners, out=out, jobs=jobs, min_samples=None, max_epochs=max_epochs, seed=seed)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File to write. [default: report.FORMAT in the folder]")
@click.option(
    "--format", "format_", type=click.Choice(["html", "md", "tex"]), help="[default: by the ending of --out, else html]"
)
@click.option("--measures", help="Columns of an md or tex table, comma-separated. [default: all scores, fit_seconds]")
def report(folder: Path, out: Path | None, format_: str | None, measures: str | None) -> None:
    """Write the HTML page of a folder that a benchmark wrote, or of a store as it is now; or its table for a paper."""
    from torchstrata.experiment.report import write_report
    from torchstrata.experiment.result import load_result

    format_ = format_ or {".md": "md", ".tex": "tex"}.get(out.suffix.lower() if out else "", "html")
    if format_ == "html" and measures:
        raise click.UsageError("--measures chooses columns of --format md or tex; the page has all of them")
    out = out or folder / f"report.{format_}"
    if out.is_dir():
        raise click.UsageError(f"--out {out} is a folder; the report is one file, such as {out / f'report.{format_}'}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = load_result(folder)
    for warned in caught:
        click.echo(f"note: {warned.message}", err=True)
    missing = result.info.get("store", {}).get("missing")
    if missing:
        click.echo(f"note: {missing} of {result.info['store']['cells']} cells are not finished", err=True)
    click.echo(write_report(result, out) if format_ == "html" else _write_table(result, out, format_, measures))


def _write_table(result: Any, out: Path, format_: str, measures: str | None) -> Path:
    from torchstrata.data.atomic import write_atomic

    write = result.to_markdown if format_ == "md" else result.to_latex
    text = write(_listed(measures) or None)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, text.encode())
    return out


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def status(folder: Path) -> None:
    """Say how far a store is: cells finished, failed, claimed by whom, missing; time left."""
    from rich.console import Console

    from torchstrata.experiment.storage.monitor import status_of_store

    found = status_of_store(folder)
    click.echo("\n".join(found.lines()))
    if len(found.cells):
        Console().print(found.to_rich())


@cli.command()
@_task_options
@click.option("--min-samples", default=1, show_default=True, help="Rows of each stratum in each batch.")
@click.option("--shuffle/--no-shuffle", default=True, show_default=True, help="Draw, or keep the order of the file.")
@click.option("--epoch", default=0, show_default=True, help="Which epoch's draw.")
@click.option("--seed", default=0, show_default=True, help="Which draw.")
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw the table to this PNG file.")
def batches(
    data: Path, min_samples: int, shuffle: bool, epoch: int, seed: int, plot: Path | None, **roles: Any
) -> None:
    """Print what each stratified batch of one epoch holds."""
    from torchstrata import StratifiedBatchSampler, plots

    task = _read(data, **roles)
    if task.strata is None:
        raise click.UsageError("the target is a number: name the column(s) to stratify by with --stratum")
    table = StratifiedBatchSampler(min_samples, shuffle=shuffle).composition(task.strata, epoch=epoch, seed=seed)
    click.echo(f"{task}\n{len(table)} batches, at least {min_samples} of every stratum in each\n")
    click.echo(table.to_string())
    if plot is not None:
        plots.composition(table).save(plot)
        click.echo(f"\nplot: {plot}")


@cli.command()
def env() -> None:
    """Print versions, device and threads, each with its reason."""
    from torchstrata.experiment.benchmark import environment
    from torchstrata.training.runtime import Runtime

    facts = environment()
    for name, version in facts["versions"].items():
        click.echo(f"{name:<14}{version}")
    click.echo(f"{'machine':<14}{facts['machine']}, {os.cpu_count()} cores")
    for label, parameters, rows in (("small network", 16_000, 32), ("large network", 1_000_000, 1024)):
        click.echo(f"\n{label} ({parameters:,} weights, batches of {rows})")
        for name, (value, why) in Runtime().decide(parameters=parameters, batch_rows=rows).reasons.items():
            click.echo(f"  {name:<12}{value}: {why}")


@cli.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1)
@click.option("--workers", default=10, show_default=True, help="Tasks of the array.")
@click.option("--time", default="01:00:00", show_default=True, help="Limit of a task.")
@click.option("--cpus", default=1, show_default=True, help="Cores of a task.")
@click.option("--memory", default="4G", show_default=True, help="Memory of a task.")
@click.option("--gpus", default=0, show_default=True, help="GPUs of a task.")
@click.option("--partition", help="Where to run.")
@click.option("--name", help="Name of the job. [default: of the study]")
@click.option("--python", default="python", show_default=True, help="The interpreter, as the nodes find it.")
@click.option("--out", type=click.Path(path_type=Path), help="The script. [default: STUDY.sbatch]")
def slurm(study: Path, arguments: tuple[str, ...], out: Path | None, **settings: Any) -> None:
    """Write a SLURM array script whose tasks share the store of a study, a file that calls ts.benchmark(store=...)."""
    from torchstrata.data.atomic import write_atomic
    from torchstrata.experiment.workers.slurm import slurm_script

    out = study.with_suffix(".sbatch") if out is None else out
    command = shlex.join(["torchstrata", *sys.argv[1:]])
    text = slurm_script(study, arguments=arguments, out=str(out), command=command, **settings)
    write_atomic(out, text.encode())
    click.echo(f"{out}: {settings['workers']} tasks. Submit it with: sbatch {shlex.quote(str(out))}")


def _read(data: Path, *, target: tuple[str, ...], stratum: tuple[str, ...], sep: str, **roles: Any) -> Any:
    from torchstrata.data.task import Task

    settings = {name: value for name, value in roles.items() if value is not None}
    settings["target"] = target[0] if len(target) == 1 else list(target)
    if data.suffix.lower() in (".parquet", ".pq"):
        task = Task.from_parquet(data, **settings)
    else:
        task = Task.from_csv(data, sep=sep, **settings)
    if stratum:
        return task.with_roles(stratum=list(stratum))
    # a target may be the stratum, and for classes that is what one wants
    return task.with_roles(stratum=list(target)) if task.kind == "classification" else task


def _try_out(task: Any, folds: int, scoring: str | None, learners: str | None, **settings: Any) -> None:
    from torchstrata.experiment.defaults import default_learners
    from torchstrata.experiment.smoke import smoke

    made = default_learners(task, names=_listed(learners), **settings)
    tried = smoke(task, made, cv=folds, scoring=_listed(scoring) or None)
    click.echo(str(tried))
    if len(tried.failures):
        sys.exit(1)


def _compare(
    task: Any, folds: int, scoring: str | None, learners: str | None, *, out: Path, jobs: int, **settings: Any
) -> None:
    from torchstrata.experiment.benchmark import benchmark as run
    from torchstrata.experiment.defaults import default_learners

    _check_folder(out)
    made = default_learners(task, names=_listed(learners), **settings)
    click.echo(f"    {len(made)} learners x {folds} folds, {jobs} at a time\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are in the result, and said below in a line each
        try:
            result = run(task, made, cv=folds, scoring=_listed(scoring) or None, n_jobs=jobs)
        except KeyboardInterrupt as stop:
            _keep_finished(stop, out)
            raise
    _write(result, task, out, min_samples=settings["min_samples"])


def _keep_finished(stop: KeyboardInterrupt, out: Path) -> None:
    result = getattr(stop, "result", None)
    if result is not None and len(result.predictions):
        n_left = int((result.errors["status"] == "interrupted").sum())
        click.echo(
            f"\ninterrupted: {n_left} fits were not carried out; what is finished is in {result.save(out)}", err=True
        )


def _check_folder(out: Path) -> None:
    """Make the folder and try to write there: after the training it would be too late."""
    if (out / "store.json").exists():
        raise click.UsageError(f"--out {out} is the store of a benchmark; give another folder for tables and plots")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise click.UsageError(f"--out {out}: cannot write there ({error.strerror}); give another folder") from None


_PICTURES = ("scores", "learning_curves", "roc", "precision_recall", "composition")


def _write(result: Any, task: Any, out: Path, *, min_samples: int | None) -> None:
    from rich.console import Console

    from torchstrata import StratifiedBatchSampler, plots
    from torchstrata.experiment.defaults import SMALL, rows_per_stratum
    from torchstrata.experiment.report import write_report

    result.save(out)
    drawn, batches_ = {"scores": result.plot()}, None
    if len(result.history):
        drawn["learning_curves"] = result.plot(kind="learning_curves")
    if task.n_classes == 2 and "score" in result.predictions:  # where every learner failed there are none
        drawn["roc"] = result.plot(kind="roc")
        drawn["precision_recall"] = result.plot(kind="precision_recall")
    if task.strata is not None:
        k = min_samples or rows_per_stratum(task, 32 if task.n_rows <= SMALL else 256)
        batches_ = StratifiedBatchSampler(k).composition(task.strata).head(40)
        drawn["composition"] = plots.composition(batches_)
    for name in _PICTURES:  # of an earlier run in this folder none must stay
        (out / f"{name}.png").unlink(missing_ok=True)
    for name, plot in drawn.items():
        plot.save(out / f"{name}.png")
    page = write_report(result, out / "report.html", composition=batches_)
    Console().print(result.to_rich())
    if len(result.errors):
        click.echo(f"{len(result.errors)} fits failed; the report holds their tracebacks.")
    for warned in result.info["warnings"]:
        click.echo(f"note: {warned['learner']}: {warned['message'].partition(': ')[2]} ({warned['fits']} fits)")
    click.echo(f"tables and plots: {out}\nreport: {page}")


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def main() -> None:
    """Run the command line; what the user can mend is one line, not a traceback."""
    try:
        cli()
    except (ValueError, OSError, ImportError) as error:
        click.echo(f"torchstrata: {error}", err=True)
        sys.exit(2)
