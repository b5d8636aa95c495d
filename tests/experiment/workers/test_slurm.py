"""The array script is one that bash runs, and its tasks share the work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from torchstrata import load_result
from torchstrata.cli import cli
from torchstrata.errors import ConfigError
from torchstrata.experiment.workers.slurm import NOTICE, slurm_script

STUDY = """\
import os
import sys
import torchstrata as ts
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB

result = ts.benchmark(
    ts.load_task("iris"), {"dummy": DummyClassifier(), "bayes": GaussianNB()}, cv=3, scoring="accuracy",
    store=sys.argv[1], progress=False,
)
open(f"done-{os.environ['SLURM_ARRAY_TASK_ID']}", "w").write(str(len(result.scores)))
"""


@pytest.fixture
def study(tmp_path):
    """A study in a folder of its own."""
    path = tmp_path / "study.py"
    path.write_text(STUDY)
    return path


def directives(script):
    """Options of sbatch by name."""
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return dict(line.partition("=")[::2] for line in lines)


class TestScript:
    def test_what_was_asked_for_is_asked_of_sbatch(self, study):
        found = directives(
            slurm_script(study, workers=7, time="1-02:00:00", cpus=3, memory="500M", gpus=2, partition="short")
        )
        assert found == {
            "job-name": "study", "array": "0-6", "ntasks": "1", "cpus-per-task": "3", "mem": "500M",
            "time": "1-02:00:00", "gpus-per-task": "2", "partition": "short", "signal": f"TERM@{NOTICE}",
            "open-mode": "append", "output": "slurm-%x-%A_%a.log", "requeue": "",
        }  # fmt: skip

    def test_no_gpu_and_no_partition_unless_asked_for(self, study):
        assert not {"gpus-per-task", "partition"} & directives(slurm_script(study)).keys()

    def test_directives_come_before_the_first_command(self, study):
        lines = slurm_script(study).splitlines()
        commands = [i for i, line in enumerate(lines) if line and not line.startswith("#")]
        assert lines[0] == "#!/bin/bash"
        assert max(i for i, line in enumerate(lines) if line.startswith("#SBATCH")) < min(commands)

    def test_names_with_spaces_and_quotes_stay_one_argument(self, tmp_path):
        odd = tmp_path / "my 'odd' study.py"
        odd.write_text("import sys; print(repr(sys.argv[1:]), 'store=')")
        script = slurm_script(odd, arguments=["a b", "$HOME", "it's"], name="odd", python=sys.executable)
        found = run_task(script, tmp_path, 0)
        assert found.stdout == "['a b', '$HOME', \"it's\"] store=\n"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 0}, "workers must be an int >= 1"),
        ({"workers": True}, "workers must be an int >= 1"),
        ({"cpus": 0}, "cpus must be an int >= 1"),
        ({"gpus": -1}, "gpus must be an int >= 0"),
        ({"time": "an hour"}, "time must look like"),
        ({"time": "01:00:00\n#SBATCH --uid=0"}, "time must look like"),
        ({"memory": "4 GB"}, "memory must look like"),
        ({"name": "two words"}, "name must look like"),
        ({"partition": "a\nb"}, "partition must look like"),
    ],
)
def test_limits_that_sbatch_would_refuse_are_refused_here(study, settings, words):
    with pytest.raises(ConfigError, match=words):
        slurm_script(study, **settings)


def test_a_study_that_is_not_there_or_names_no_store_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*gone\.py"):
        slurm_script(tmp_path / "gone.py")
    (tmp_path / "alone.py").write_text("ts.benchmark(tasks, learners)")
    with pytest.raises(ConfigError, match=r"alone\.py names no store"):
        slurm_script(tmp_path / "alone.py")
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is no text"):
        slurm_script(tmp_path / "bytes.py")


def run_task(script, folder, number, wait=True):
    """Run the script as a node would; srun is a command that runs what it is given."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    srun = tools / "srun"
    srun.write_text('#!/bin/bash\nexec "$@"\n')
    srun.chmod(0o755)
    path = folder / f"task-{number}.sbatch"
    path.write_text(script)
    environment = {
        **os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_ARRAY_TASK_ID": str(number), "SLURM_CPUS_PER_TASK": "1",
    }  # fmt: skip
    started = subprocess.Popen(
        ["bash", str(path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if not wait:
        return started
    out, error = started.communicate(timeout=120)
    assert started.returncode == 0, error
    started.stdout = out
    return started


@pytest.mark.slow
def test_tasks_of_an_array_share_the_store(study, tmp_path):
    runner = CliRunner()
    out = tmp_path / "study.sbatch"
    asked = ["slurm", str(study), str(tmp_path / "runs"), "--workers", "2", "--python", sys.executable]
    answer = runner.invoke(cli, [*asked, "--out", str(out)])
    assert answer.exit_code == 0, answer.output
    assert "2 tasks" in answer.output
    tasks = [run_task(out.read_text(), tmp_path, number, wait=False) for number in range(2)]
    for task in tasks:
        _, error = task.communicate(timeout=200)
        assert task.returncode == 0, error
    assert [Path(tmp_path / f"done-{n}").read_text() for n in range(2)] == ["18", "18"]  # 6 cells x 3 measures each
    result = load_result(tmp_path / "runs")
    assert len(result.scores.query("measure == 'accuracy'")) == 6
