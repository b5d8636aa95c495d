from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from torchstrata.errors import ConfigError
from torchstrata.experiment.presentation.page import asset
from torchstrata.experiment.report import write_report
from torchstrata.experiment.result import BenchmarkResult

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Checks that elements close, and collects what the tests ask for."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.links, self.cells, self.text, self.tags = [], [], [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [v for k, v in attrs.items() if k in ("href", "src", "xlink:href") and v]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append([attrs, ""])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += "" if "script" in self.open or "style" in self.open else data
        if "td" in self.open and "script" not in self.open:
            self.cells[-1][1] += data


@pytest.fixture(scope="module")
def page(tables, tmp_path_factory) -> str:
    result = BenchmarkResult(**tables(tasks=("sonar", "spam"), fail=[("sonar", "linear", 1)], epochs=3))
    return write_report(result, tmp_path_factory.mktemp("r") / "deep" / "report.html").read_text(encoding="utf-8")


def test_elements_close_and_ids_are_unique(page):
    parsed = Page(page)
    assert not parsed.open
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)


def test_nothing_is_loaded_from_elsewhere(page):
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in Page(page).links)
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # of the libraries test_live.py sees it
    assert not re.search(r"@import|url\((?!#)|<(script|link)[^>]+(src|href)=|<img[^>]+src=\"(?!data:)", own)
    assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon", asset("report.js"))
    assert "default-src 'none'" in page


def test_it_says_what_won_and_how_sure_that_is(page):
    text = re.sub(r"\s+", " ", Page(page).text)
    assert "5 learners on sonar and spam, compared by roc_auc over 5 folds." in text
    assert re.search(
        r"On sonar, “mlp, stratified” had the highest mean roc_auc: 0\.\d{3} \[0\.\d{3}, [01]\.\d{3}\]\.", text
    )
    assert "includes 0: these folds do not tell them apart." in text
    assert "1 cell failed" in text and "1 of 5 folds failed" in text


def verdict(tables, tmp_path, values: dict[str, list[float]]) -> str:
    rows = [("t", name, k, "accuracy", v) for name, each in values.items() for k, v in enumerate(each)]
    n = max(map(len, values.values()))
    scores = pd.DataFrame(rows, columns=["task", "learner", "fold", "measure", "value"])
    splits = pd.DataFrame({"task": "t", "fold": range(n), "n_train": 80, "n_test": 20})
    path = write_report(BenchmarkResult(scores, splits=splits), tmp_path / "v.html")
    return Page(path.read_text(encoding="utf-8")).text


def test_a_clear_lead_is_called_one(tables, tmp_path):
    text = verdict(tables, tmp_path, {"a": [0.9, 0.91, 0.92, 0.9, 0.91], "b": [0.5, 0.52, 0.51, 0.5, 0.5]})
    assert "It was better than “b” (p < 0.05 after Holm's correction)." in text and "difference to" not in text


def test_a_lead_that_is_not_clear_is_not_called_one(tables, tmp_path):
    text = verdict(tables, tmp_path, {"a": [0.9, 0.7, 0.92], "b": [0.8, 0.8, 0.8], "c": [0.7, 0.9, 0.7]})
    assert "difference to the others includes 0" in text and "better" not in text


def test_a_lead_lost_by_the_correction_is_said_to_be(tables, tmp_path):
    rng = np.random.default_rng(0)
    a = 0.8 + 0.01 * rng.normal(size=5)
    lead = np.array([0.02, 0.05, 0.035, 0.015, 0.03])  # p = 0.03 alone, 0.09 among three
    text = verdict(tables, tmp_path, {"a": a, "b": a - lead, "c": a - lead[::-1], "d": a - lead[[2, 0, 1, 4, 3]]})
    assert "does not hold once 3 comparisons are allowed for" in text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"a": [0.9], "b": [0.8]}, "One fold cannot say how sure that is."),
        ({"a": [0.9, 0.8]}, "On t, “a” had the highest mean accuracy"),
        ({"a": [np.nan, np.nan], "b": [np.nan, np.nan]}, "On t every cell failed."),
    ],
)
def test_results_that_say_little_are_reported_too(tables, tmp_path, values, said):
    assert said in verdict(tables, tmp_path, values)


def test_tables_sort_by_number_and_empty_values_last(page):
    parsed = Page(page)
    scores = [(attrs, text) for attrs, text in parsed.cells if attrs.get("class", "").startswith("score")]
    assert scores and all(float(a["data-sort"]) == float(t.split()[0].replace("−", "-")) for a, t in scores)
    lost = [attrs for attrs, text in parsed.cells if text == "–"]
    assert lost and all(attrs["data-sort"] == "" for attrs in lost)
    tables_ = [attrs["class"].split() for tag, attrs in parsed.tags if tag == "table"]
    assert all(classes == ["sortable", "n-last"] for classes in tables_)
    assert 'classList.contains("sortable")' in page and 'contains("n-last")' in page


def test_the_best_are_marked_in_each_table(page):
    best = [text for attrs, text in Page(page).cells if attrs.get("class") == "score best"]
    assert len(best) == 6  # three measures on two tasks


def test_pictures_are_inside_and_follow_the_colours_of_the_page(page):
    parsed = Page(page)
    main = page.split("<main>")[1].split("</main>")[0]
    figures = [attrs for tag, attrs in parsed.tags if tag == "figure"]
    pictures = [attrs for tag, attrs in parsed.tags if tag == "svg" or tag == "img"]
    # three measures, differences, learning curves, ROC, precision and recall, calibration, confusion, two costs
    assert len(figures) == len(pictures) == 11
    assert all(attrs.get("alt") or attrs.get("aria-label") for attrs in pictures)
    assert "currentColor" in main and "#222222" not in main


def test_each_chart_has_its_data(page):
    told = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    holders = [attrs["data-chart"] for _, attrs in Page(page).tags if "data-chart" in attrs]
    assert sorted(holders) == sorted(told["charts"]) and len(holders) == 11
    assert told["order"][0] == "mlp, stratified" and set(told["charts"]["roc"]["labels"]) == set(told["order"])


@pytest.mark.slow
def test_ranks_are_drawn_over_three_tasks_and_settings_of_a_grid_too(tables, tmp_path):
    grid = {"mlp": {"optimizer__lr": [0.1, 0.01, 0.001]}}
    made = tables(tasks=("a", "b", "c"), learners={"mlp": 1.0, "dummy": 0.0}, grid=grid, folds=2, epochs=2, rows=40)
    composition = pd.DataFrame({"M": [9, 9], "R": [1, 1]})
    path = write_report(BenchmarkResult(**made), tmp_path / "r.html", composition=composition)
    ids = Page(path.read_text(encoding="utf-8")).ids
    assert {"ranks-over-tasks", "settings", "batches"} <= set(ids)


@pytest.mark.slow
def test_many_learners_are_cut_and_that_is_said(tables, tmp_path):
    many = {f"learner {i:02d}": 1.5 - 0.05 * i for i in range(26)}
    made = tables(tasks=("a", "b"), learners=many, folds=2, epochs=2, rows=40)
    page = write_report(BenchmarkResult(**made), tmp_path / "r.html").read_text(encoding="utf-8")
    text = Page(page).text
    assert "The chart has the best 16 of 26 learners. In print: the best 6 of 26 learners." in text
    assert len(page) < 1.5e6
    rows = [attrs for tag, attrs in Page(page).tags if tag == "tr"]
    assert len(rows) > 100  # the tables hold them all


def test_how_failed_cells_ended_is_a_table(page):
    text = re.sub(r"\s+", " ", Page(page).text)
    assert re.search(r"ok ?error_train ?stood in ?sonar ?linear ?4 ?1 ?nothing", text)


def test_everything_is_there(page):
    text = Page(page).text
    for said in ["170 (85.0 %)", "1 : 5.7", "TorchClassifier(network=MLP((100,))", "0 (160+40)"]:
        assert said in text, said
    for said in ["torchstrata benchmark", "torchstrata 0.1.0, python 3.11.2", "Nadeau and Bengio 2003"]:
        assert said in text, said


def test_failures_come_with_their_traceback(page):
    text = Page(page).text
    assert "ValueError: <b>boom</b> & 'bust' (error_train, 1 cell)" in text
    assert "In: sonar, linear, fold 1" in text and "Traceback (most recent call last):" in text


def test_what_the_user_wrote_is_text_and_never_markup(tables, tmp_path):
    evil = "<img src=x onerror=alert(1)>-->]]>\"'&$title"
    given = tables(tasks=(evil,), learners={evil + "a": 1.0, evil + "b": 0.5}, folds=2, epochs=2,
                   fail=[(evil, evil + "b", 1)])  # fmt: skip
    given["tasks"][evil].update(target=evil, classes=[evil, "R"], class_counts={evil: 1, "R": 2})
    given["info"] = {evil: evil, "command": evil, "versions": {evil: evil}}
    given["learners"] = {evil: evil}
    given["errors"]["message"] = evil
    page = write_report(BenchmarkResult(**given), tmp_path / "e.html", title=evil).read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert not any("onerror" in attrs for _, attrs in Page(page).tags)


def test_settings_of_a_grid_are_columns(tables, tmp_path):
    grid = {"mlp": {"loss": ["aum", "ce"], "optimizer__lr": [0.1, 0.01]}}
    result = BenchmarkResult(**tables(learners={"mlp": 1.0, "dummy": 0.0}, grid=grid, folds=3, epochs=2))
    page = write_report(result, tmp_path / "g.html", title="A <grid>").read_text(encoding="utf-8")
    parsed = Page(page)
    assert "<title>A &lt;grid&gt;</title>" in page
    assert "2 learners in 5 settings on sonar" in parsed.text and "mlp, loss=" in parsed.text


def test_regression_has_neither_roc_nor_classes(tables, tmp_path):
    given = tables(folds=3, epochs=2)
    given["predictions"]["score"] = np.nan
    given["tasks"] = {"sonar": {"kind": "regression", "n_rows": 9, "class_counts": None, "classes": None}}
    given["history"] = given["history"].iloc[:0]
    text = Page(write_report(BenchmarkResult(**given), tmp_path / "g.html").read_text(encoding="utf-8")).text
    assert "ROC curves" not in text and "Learning curves" not in text and "imbalance" not in text
    assert "Confusion" not in text and "Precision and recall" not in text


@pytest.mark.slow
def test_the_same_result_gives_the_same_page(tables, tmp_path):
    result = BenchmarkResult(**tables(folds=2, epochs=2))
    a, b = (write_report(result, tmp_path / name).read_bytes() for name in "ab")
    assert a == b


def test_impossible_reports_are_refused(tables, tmp_path):
    result = BenchmarkResult(**tables(folds=2, epochs=2))
    with pytest.raises(ConfigError, match="is a folder; the report is one file"):
        write_report(result, tmp_path)
    with pytest.raises(ConfigError, match="no scores"):
        write_report(BenchmarkResult(result.scores.iloc[:0], splits=result.splits), tmp_path / "r.html")
