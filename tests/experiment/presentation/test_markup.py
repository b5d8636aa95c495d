from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchstrata.errors import ConfigError
from torchstrata.experiment.presentation.markup import escape_latex, escape_markdown
from torchstrata.experiment.result import BenchmarkResult

GRID = {"mlp": {"loss": ["aum", "ce"], "optimizer__lr": [0.1, 0.01]}}


@pytest.fixture(scope="module")
def result(tables) -> BenchmarkResult:
    made = tables(tasks=("so|nar", "spam_&"), learners={"mlp": 1.4, "a_b & <c>": 0.7}, grid=GRID, folds=4, epochs=2,
                  fail=[("so|nar", "a_b & <c>", 1)])  # fmt: skip
    return BenchmarkResult(**made)


def rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_markdown_has_the_rows_of_the_leaderboard_and_the_best_in_bold(result):
    text = result.to_markdown()
    board = result.leaderboard()
    found = rows(text)
    assert {len(row) for row in found} == {1 + 2 + 4} and len(found) == len(board) + 4  # two heads with their rules
    assert found[0] == ["learner", "loss", "lr", "roc\\_auc", "accuracy", "neg\\_log\\_loss", "fit\\_seconds"]
    bold = [cell for row in found for cell in row if cell.startswith("**")]
    assert len(bold) == sum(len(best.split(", ")) for best in board["best"] if best)
    assert "**so\\|nar**" in text and "a\\_b \\& \\<c\\> (1 of 4 folds failed)" in text


def test_one_measure_alone(result):
    assert rows(result.to_markdown("accuracy"))[0] == ["learner", "loss", "lr", "accuracy"]
    assert "accuracy" not in result.to_latex("roc_auc")
    with pytest.raises(ConfigError, match="Did you mean 'roc_auc'"):
        result.to_markdown("rocauc")


def test_latex_has_equal_rows_and_rules(result):
    text = result.to_latex(caption="Scores", label="tab:scores")
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1 and text.count(r"\midrule") == 2
    body = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {6}
    assert r"a\_b \& \textless{}c\textgreater{} {\footnotesize(1 of 4 folds failed)}" in text
    assert r"\caption{Scores}" in text and r"\label{tab:scores}" in text
    assert re.search(r"\\textbf\{\$-\$0\.\d+\} \{\\footnotesize \[\$-\$0\.\d+, \$-\$0\.\d+\]\}", text)
    assert "table}" not in result.to_latex()


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_nothing_special_is_left_unescaped(text):
    left = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|char34|dots)\{\}"
                  r"|\\[&%$#_{}]|\$-\$|\$\\star\$", "", escape_latex(text))  # fmt: skip
    assert not re.search(r"[\\&%$#_{}~^<>\n]", left)
    shown = escape_markdown(text)
    assert not re.search("[|&]", re.sub(r"\\[\\`*_{}\[\]<>|#~$&]", "", shown)) and "\n" not in shown


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(result, tmp_path):
    page = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{result.to_latex()}\end{{document}}"
    (tmp_path / "t.tex").write_text(page)
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)
