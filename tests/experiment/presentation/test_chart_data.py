"""What charts show, and the page in a browser: sorting, filtering, hovering, nothing loaded, no error."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from torchstrata.experiment.presentation import chart_data
from torchstrata.experiment.report import write_report
from torchstrata.experiment.result import BenchmarkResult

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
EVIL = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)> \"é\" & 'q'"
HEAD = """<script>window.seen = [];
addEventListener("error", (e) => seen.push(String(e.message)), true);
addEventListener("securitypolicyviolation", (e) => seen.push("blocked " + e.blockedURI));
for (const kind of ["error", "warn"]) console[kind] = (...all) => seen.push(all.join(" "));</script>"""
TAIL = """<script>setTimeout(async () => {
const wait = (t) => new Promise((done) => setTimeout(done, t));
const all = (name) => [...document.querySelectorAll(name)];
const names = () => all("#leaderboard tbody tr:not([hidden]) td:first-child").map((cell) => cell.textContent);
let told; try { told = await (async () => { %s })(); } catch (error) { told = "thrown: " + error.stack; }
const out = document.createElement("pre"); out.id = "probe";
out.textContent = JSON.stringify({ told, seen, loaded: performance.getEntriesByType("resource").length });
document.body.append(out); }, 1500);</script>"""


def test_text_becomes_levels_and_numbers_are_short():
    table = pd.DataFrame({"task": "t", "label": ["a", "a", "b"], "mean": [1 / 3, np.nan, np.inf], "low": 0.1, "high": 1,
                          "note": "", "values": [(0.123456789, np.nan)] * 3, "measure": "accuracy"})  # fmt: skip
    told = json.loads(chart_data.write_data({"x": chart_data.rows(table, name="accuracy")}, order=["b", "a"]))
    chart = told["charts"]["x"]
    assert chart["labels"] == ["b", "a"] and chart["data"]["label"] == {"levels": ["a", "b"], "codes": [0, 0, 1]}
    assert chart["data"]["mean"] == [0.33333, None, None] and chart["data"]["values"][0] == [0.12346, None]


def test_curves_are_thinned_but_keep_their_ends_and_their_best():
    n = 1000
    table = pd.DataFrame({"task": "t", "label": "a", "epoch": range(n), "loss": 1.0, "best": np.arange(n) == 517})
    data = chart_data.curves(table, x="epoch", y="loss", names=("epoch", "loss"))["data"]
    assert len(data) < 70 and {0, 517, n - 1} <= set(data["x"])


def test_data_cannot_end_its_script():
    table = pd.DataFrame({"task": [EVIL], "label": [EVIL], "truth": "a", "predicted": "a", "count": 1, "share": 1.0})
    text = chart_data.write_data({"x": chart_data.cells(table)}, order=[EVIL])
    assert not set("<>&") & set(text) and json.loads(text)["order"] == [EVIL]


@pytest.fixture(scope="module")
def page(tables, tmp_path_factory) -> str:
    learners = {"boosting": 1.2, "mlp one": 1.5, "mlp two": 1.3, EVIL: 1.0, "linear": 0.6, "dummy": 0.0, "last": 0.3}
    made = tables(tasks=("sonar", "sp <b>am"), learners=learners, folds=3, epochs=4, rows=60, fail=[("sonar", EVIL, 1)])
    path = tmp_path_factory.mktemp("browser") / "r.html"
    return write_report(BenchmarkResult(**made), path, title=EVIL).read_text(encoding="utf-8")


def look(page: str, folder, script: str) -> dict:
    """Open the page, run a script in it, and return what it told; in a browser of its own, without a network."""
    if BROWSER is None:
        pytest.skip("no Chromium here")
    file = folder / "probe.html"
    file.write_text(page.replace("<head>", "<head>" + HEAD, 1).replace("</body>", TAIL % script + "</body>"), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=9000", "--dump-dom",
               f"--user-data-dir={folder}", "--window-size=1100,1400", file.as_uri()]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False).stdout
    return json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', out, re.DOTALL)[1]))


@pytest.mark.slow
def test_the_page_answers(page, tmp_path):
    found = look(page, tmp_path, """
        const before = names();
        const header = all("#leaderboard th").find((one) => one.textContent.startsWith("roc_auc"));
        header.click(); await wait(200); header.click(); await wait(200);
        const sorted = names();
        const input = all("#leaderboard .filter input")[0];
        input.value = "MLP"; input.dispatchEvent(new Event("input")); await wait(50);
        const filtered = names();
        const svg = all("[data-chart=scores0] .area svg")[0];
        const box = svg.getBoundingClientRect();
        const at = { bubbles: true, pointerType: "mouse", clientX: box.left + box.width / 2, clientY: box.top + 40 };
        for (const kind of ["pointerenter", "pointermove"]) svg.dispatchEvent(new PointerEvent(kind, at));
        await wait(200);
        const tip = all("[data-chart=scores0] [aria-label=tip]")[0].textContent;
        const labels = () => all("[data-chart=scores0] g[aria-label='y-axis tick label'] text").length;
        const shown = labels();
        all("[data-chart=scores0] .chip")[0].click(); await wait(50);
        const fewer = labels();
        const select = all("[data-chart=scores0] select")[0];
        select.value = "sp <b>am"; select.dispatchEvent(new Event("change")); await wait(50);
        return { before, sorted, filtered, tip, shown, fewer, other: labels(), title: document.title,
          charts: all(".live").filter((one) => one.querySelector("svg")).length, holders: all(".live").length,
          pictures: all(".static").filter((one) => getComputedStyle(one).display !== "none").length };
    """)  # fmt: skip
    told = found["told"]
    assert found["seen"] == [] and found["loaded"] == 0, found
    assert told["title"] == EVIL
    first = told["before"][:7]
    assert told["sorted"][:7] == first[::-1]  # the best first before, and after two clicks the worst
    assert told["sorted"][7:] == told["before"][7:]
    assert [n for n in told["filtered"][:2] if "mlp" in n] == told["filtered"][:2]
    assert len(told["filtered"]) == 2 + 7  # the table of the other task is left alone
    assert "roc_auc" in told["tip"]
    assert (told["shown"], told["fewer"], told["other"]) == (7, 6, 6)
    assert told["charts"] == told["holders"] > 8 and told["pictures"] == 0
