from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import torchstrata as ts
from torchstrata import cli, plots
from torchstrata.testing import DebugLearner


def run(*args: object, ok: bool = True):
    done = CliRunner().invoke(cli.cli, [str(arg) for arg in args])
    if ok:
        assert done.exit_code == 0, (done.output, done.exception)
    return done


@pytest.fixture
def csv(tmp_path):
    rng = np.random.default_rng(0)
    n = 60
    y = np.repeat(["no", "yes!"], [45, 15])
    frame = pd.DataFrame({"a": rng.normal(size=n) + (y == "no"), "b": rng.normal(size=n), "Class": y})
    frame["city"] = rng.choice(["Rome", "Oslo"], n)
    frame["value"] = frame["a"] * 2 + rng.normal(size=n) / 10
    frame.loc[3, "b"] = np.nan
    path = tmp_path / "data.csv"
    frame.to_csv(path, index=False)
    return path


def test_benchmark_writes_tables_plots_and_a_page(csv, tmp_path):
    out = tmp_path / "out"
    done = run("benchmark", csv, "--target", "Class", "--folds", 3, "--max-epochs", 2, "--jobs", 1, "--out", out)
    assert "11 learners x 3 folds" in done.output and "report:" in done.output
    result = ts.load_result(out)
    assert len(result.scores.query("measure == 'roc_auc'")) == 33 and result.errors.empty
    for name in ("scores.png", "learning_curves.png", "roc.png", "composition.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text()
    assert "mlp aum stratified" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_benchmark_of_a_regression_and_a_choice_of_learners(csv, tmp_path):
    out = tmp_path / "out"
    args = ["--folds", 3, "--max-epochs", 2, "--jobs", 1, "--out", out]
    run("benchmark", csv, "--target", "value", "--learners", "dummy,linear*", "--scoring", "r2", *args)
    result = ts.load_result(out)
    assert set(result.scores.learner) == {"dummy", "linear random"}
    assert (out / "report.html").exists() and not (out / "roc.png").exists()


def test_smoke_tries_everything_and_writes_nothing(csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("benchmark", csv, "--target", "Class", "--learners", "dummy,mlp*", "--smoke")
    assert "all work; the whole run takes about" in done.output and "mlp aum stratified" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_smoke_ends_with_an_error_where_something_fails(csv, monkeypatch):
    from torchstrata.experiment import defaults
    from torchstrata.testing import DebugLearner

    made = {"bad": DebugLearner(error_train=1.0), "good": DebugLearner()}
    monkeypatch.setattr(defaults, "default_learners", lambda *args, **kwargs: made)
    done = run("benchmark", csv, "--target", "Class", "--smoke", ok=False)
    assert done.exit_code == 1 and "1 of 2 failed" in done.output and "error_train" in done.output


def test_batches_prints_the_composition(csv, tmp_path):
    plot = tmp_path / "batches.png"
    done = run("batches", csv, "--target", "Class", "--min-samples", 5, "--plot", plot)
    assert "3 batches, at least 5 of every stratum" in done.output
    rows = [line.split() for line in done.output.splitlines() if line[:1] in "123" and len(line.split()) == 4]
    assert [row[1:] for row in rows] == [["15", "5", "20"]] * 3
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "name the column" in run("batches", csv, "--target", "value", ok=False).output


def test_env_gives_reasons():
    output = run("env").output
    assert "torch " in output and "threads" in output and "auto" in output and "multiply-adds" in output


def test_report_of_a_folder(csv, tmp_path):
    out = tmp_path / "out"
    run("benchmark", csv, "--target", "Class", "--learners", "dummy", "--folds", 3, "--jobs", 1, "--out", out)
    (out / "report.html").unlink()
    run("report", out)
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["benchmark", "CSV", "--target", "Clas"], "Did you mean 'Class'"),
        (["benchmark", "missing.csv", "--target", "y"], "missing.csv"),
        (["benchmark", "CSV", "--target", "Class", "--learners", "dumy"], "Did you mean 'dummy'"),
        (["benchmark", "CSV", "--target", "Class", "--scoring", "roc_acu"], "Did you mean 'roc_auc'"),
        (["benchmark", "CSV", "--target", "Class", "--folds", "40"], "40-fold stratified resampling needs 40"),
        (
            ["benchmark", "CSV", "--target", "Class", "--min-samples", "0"],
            "min_samples_per_stratum must be an int >= 1",
        ),
    ],
)
def test_what_the_user_can_mend_is_one_line(csv, args, message, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["torchstrata", *[str(csv) if a == "CSV" else a for a in args]])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and "Traceback" not in error


def test_misspelt_command():
    assert "Did you mean 'benchmark'" in run("benchmrk", ok=False).output


def test_a_folder_that_cannot_be_written_is_refused_before_training(csv, tmp_path, monkeypatch):
    monkeypatch.setattr("torchstrata.experiment.benchmark.benchmark", lambda *args, **kw: pytest.fail("trained"))
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", "/proc/nothing"):
        done = run("benchmark", csv, "--target", "Class", "--learners", "dummy", "--out", out, ok=False)
        assert done.exit_code == 2 and "cannot write there" in done.output


def test_jobs_are_a_number(csv):
    done = run("benchmark", csv, "--target", "Class", "--jobs", "many", ok=False)
    assert done.exit_code == 2 and "'many' is not a valid integer" in done.output


def test_the_batches_drawn_are_those_that_were_asked_for(csv, tmp_path, monkeypatch):
    drawn = []
    kept = plots.composition
    monkeypatch.setattr(plots, "composition", lambda table: drawn.append(table) or kept(table))
    run("benchmark", csv, "--target", "Class", "--learners", "dummy", "--folds", 3, "--jobs", 1, "--min-samples", 5,
        "--out", tmp_path / "out")  # fmt: skip
    assert drawn[0]["yes!"].tolist() == [5, 5, 5]


def test_a_store_is_no_place_for_tables(csv, tmp_path, monkeypatch):
    monkeypatch.setattr("torchstrata.experiment.benchmark.benchmark", lambda *a, **k: pytest.fail("it trained"))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text("{}")
    found = run("benchmark", csv, "--target", "Class", "--out", tmp_path / "store", ok=False)
    assert found.exit_code == 2 and "is the store of a benchmark" in found.output


def test_pictures_of_an_earlier_run_go(csv, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "roc.png").write_bytes(b"of another task")
    (out / "mine.png").write_bytes(b"")
    run("benchmark", csv, "--target", "value", "--learners", "dummy", "--folds", 2, "--out", out, "--jobs", 1)
    assert not (out / "roc.png").exists() and (out / "mine.png").exists() and (out / "scores.png").exists()


def test_a_page_is_written_where_every_learner_failed(csv, tmp_path, monkeypatch):
    failing = lambda *a, **k: {"fails": DebugLearner(error_train=1)}  # noqa: E731
    monkeypatch.setattr("torchstrata.experiment.defaults.default_learners", failing)
    run("benchmark", csv, "--target", "Class", "--folds", 2, "--out", tmp_path / "out", "--jobs", 1)
    assert "Failures" in (tmp_path / "out" / "report.html").read_text()
