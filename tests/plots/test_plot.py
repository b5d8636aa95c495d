from __future__ import annotations

import subprocess
import sys

import matplotlib
import pytest

from torchstrata import plots
from torchstrata.errors import ConfigError


@pytest.fixture(scope="module")
def plot(tables):
    return plots.scores(tables(learners={"a": 1.0}, folds=3, epochs=2)["scores"])


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_the_ending_decides_the_format(plot, tmp_path, name, start):
    assert plot.save(tmp_path / name).read_bytes().startswith(start)


def test_an_unknown_ending_is_refused(plot, tmp_path):
    with pytest.raises(ConfigError, match=r"ending 'pgn'. Did you mean 'png'"):
        plot.save(tmp_path / "a.pgn")
    assert not list(tmp_path.iterdir())


def test_the_same_table_gives_the_same_svg(tables):
    made = tables(folds=3, epochs=2)
    for draw, name in [(plots.scores, "scores"), (plots.learning_curves, "history")]:
        assert draw(made[name]).to_svg() == draw(made[name]).to_svg()


def test_notebooks_get_a_png(plot):
    assert plot._repr_png_().startswith(b"\x89PNG")


def test_matplotlibs_settings_and_pyplot_are_left_alone(tables):
    before = dict(matplotlib.rcParams)
    plots.scores(tables(folds=2, epochs=2)["scores"]).to_png()
    assert dict(matplotlib.rcParams) == before


def test_plots_import_neither_pyplot_nor_torch():
    code = (
        "import sys\n"
        "from torchstrata import plots\n"
        "assert 'matplotlib' not in sys.modules, 'too early'\n"
        "plots.scores, plots.learning_curves, plots.roc, plots.composition, plots.Plot\n"
        "assert callable(plots.scores) and 'matplotlib.figure' in sys.modules\n"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_plots_show_their_names_and_refuse_others():
    assert dir(plots) == sorted(plots.__all__)
    with pytest.raises(AttributeError, match="no attribute 'pie'"):
        _ = plots.pie
