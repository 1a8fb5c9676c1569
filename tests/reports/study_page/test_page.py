"""The report: whole, self-contained, escaped, the same each time, and working in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcu.errors import InputError
from mcu.latency import Cycles
from reports.comparison.comparison import compare_methods
from reports.figures.methods import methods_figure
from reports.figures.scales import log_ticks
from reports.figures.style import Look, Style, encode, styled
from reports.figures.trajectories import course_of
from reports.study import StudyInfo
from reports.study_page.page import _facts, embedded_json, fronts_document, write_report
from reports.study_page.page_data import MOST_ROWS, export_command, shown_rows
from reports.table import Table
from reports.trials import methods, tidy
from reports.winners import winners
from sample_trials import sample_trials

HOSTILE = "<script>alert('$x$')</script>\"'&"
STUDY = StudyInfo(
    name=HOSTILE,
    sweep=json.dumps({"sweep": {"name": HOSTILE}}),
    versions={"mcusweep": "0.1.0"},
    machine={"cpu": "made up"},
    commands=("mcusweep launch sweep.toml",),
    storage="sqlite:///trials.db",
    test_images=1000,
    importances={HOSTILE: 0.7, "weight_decay": 0.3},
)
SECTIONS = ("answer", "fronts", "methods", "progress", "winners", "failures", "trials", "provenance")
FIGURES = (
    *("accuracy_flash", "accuracy_sram", "accuracy_macs", "methods", "budget_use", "hypervolume", "attainment"),
    *("objectives", "trajectories", "widths", "timeline", "outcomes", "slices"),
)


class Page(HTMLParser):
    """Collects what a page refers to: ids, attributes that load something, and the text of script elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.loads += [values[name] for name in ("src", "srcset", "action", "data") if values.get(name)]
        if tag in ("link", "iframe", "object", "embed", "base", "form"):
            self.loads.append(tag)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "script":
            self._in_script = True
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data


def hostile_trials() -> pd.DataFrame:
    frame = sample_trials(90)
    frame.loc[frame["method"] == "l1", "method"] = HOSTILE
    frame.loc[3, "reason"] = HOSTILE
    frame.loc[frame["device"] == "nrf52840", "device"] = HOSTILE
    frame.loc[0, "network"] = HOSTILE
    frame["param.$bad_{name}$</script>"] = HOSTILE
    return frame


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return write_report(hostile_trials(), tmp_path_factory.mktemp("report"), study=STUDY)


@pytest.fixture(scope="module")
def text(report) -> str:
    return report.read_text("utf-8")


def test_all_files_are_there(report):
    folder = report.parent
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    expected = {"index.html", "trials.csv", "fronts.json"}
    expected |= {f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    expected |= {f"tables/{n}.{k}" for n in ("winners", "methods", "duels", "failures") for k in ("csv", "md", "tex")}
    assert found == expected
    assert (folder / "figures/methods.png").read_bytes().startswith(b"\x89PNG")


def test_a_paper_gets_pdf_figures_in_smaller_type(tmp_path):
    page = write_report(sample_trials(12), tmp_path, study=StudyInfo("paper"), style=Style.PAPER)
    assert (tmp_path / "figures/methods.pdf").read_bytes().startswith(b"%PDF")
    assert "figures/methods.pdf" in Page(page.read_text("utf-8")).links
    assert "8px" in (tmp_path / "figures/methods.svg").read_text()


def test_page_holds_every_section_and_figure(text):
    page = Page(text)
    for section in SECTIONS:
        assert section in page.ids
        assert f"#{section}" in page.links
    for name in FIGURES:
        assert f"figure-{name}" in page.ids or name.startswith("accuracy_")
    assert len(page.ids) == len(set(page.ids)), "ids must be unique"
    assert len([name for name in page.ids if name.startswith("trial-")]) == 90


def test_page_loads_nothing_from_anywhere(text):
    page = Page(text)
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    local = re.compile(r"#|figures/|tables/|trials\.csv$|fronts\.json$")
    assert all(local.match(link) for link in page.links)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "default-src 'none'" in text


def test_hostile_names_are_shown_as_text(text):
    page = Page(text)
    assert len(page.scripts) == 2
    assert "alert('$x$')" not in page.scripts[1]
    assert json.loads(page.scripts[0])["methods"].count(HOSTILE) == 1
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#39;$x$&#39;)&lt;/script&gt;" in text


def test_links_to_trials_lead_somewhere(text):
    page = Page(text)
    targets = [link[1:] for link in page.links if link.startswith("#trial-")]
    assert targets
    assert set(targets) <= set(page.ids)


def test_opens_with_the_winners_and_their_export_commands(text):
    table = tidy(hostile_trials())
    first = text.index('id="answer"')
    assert first < text.index('id="fronts"')
    for winner in winners(table):
        assert winner.row is not None
        number = table["number"].iloc[winner.row]
        assert text.index(f'href="#trial-{number}"', first) < text.index('id="fronts"')
        assert f"mcusweep export {number} --study" in text


def test_failures_are_listed_with_their_reasons(text, report):
    section = text[text.index('id="failures"') : text.index('id="trials"')]
    for reason in hostile_trials().query("state != 'complete'")["reason"].unique():
        assert reason == HOSTILE or reason.replace("'", "&#39;") in section
    rows = pd.read_csv(report.parent / "tables/failures.csv")
    assert rows["trials"].sum() == (hostile_trials()["state"] != "complete").sum()


def test_csv_and_fronts_hold_the_measured_values(report):
    frame = hostile_trials()
    stored = pd.read_csv(report.parent / "trials.csv")
    assert stored["flash"].tolist() == pytest.approx(frame["flash"].tolist(), nan_ok=True)
    assert stored["method"].tolist() == frame["method"].tolist()
    document = json.loads((report.parent / "fronts.json").read_text())
    front = document["fronts"]["flash"]["all"]
    assert [point["flash"] for point in front] == sorted(point["flash"] for point in front)
    values = [point["val_accuracy"] for point in front]
    assert values == sorted(values)
    assert document["chosen_by"] == "val_accuracy"
    assert len(document["winners"]) == 6


def test_equal_studies_give_equal_bytes(report):
    table = tidy(hostile_trials())
    cells, look = compare_methods(table), Look(methods(table))
    with styled(Style.SCREEN):
        drawn = encode(methods_figure(table, cells, look), ("png", "svg"))
    for kind, content in drawn.items():
        assert (report.parent / f"figures/methods.{kind}").read_bytes() == content, kind
    assert b"<dc:date>" not in drawn["svg"]
    document = fronts_document(table, winners(table), STUDY)
    assert json.loads((report.parent / "fronts.json").read_text()) == document


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame([{"number": 0, "state": "running", "method": "l1", "device": "nrf52840", "budget_sram": 65536}]),
        sample_trials(12).query("state == 'failed'"),
        sample_trials(6, methods=("dense-ptq",)).assign(
            state="failed", reason="no", accuracy=None, val_accuracy=None, flash=None, sram=None, macs=None
        ),
    ],
    ids=["empty", "running", "no-rows", "all-failed"],
)
def test_a_study_without_finished_models_says_so(frame, tmp_path):
    page = write_report(frame, tmp_path, study=StudyInfo("young"))
    text = page.read_text("utf-8")
    assert "No trial has finished with a model that fits yet" in text
    assert set(SECTIONS) <= set(Page(text).ids)


def test_latency_is_estimated_for_the_board_the_firmware_ran_for(tmp_path):
    frame = sample_trials(30).assign(instructions=12_000_000)
    cycles = Cycles(1.2, 1.08, 1.32, "a source")
    board = {"name": "stm32f446re", "core": "cortex-m4f", "clock_hz": 180_000_000, "cycles": cycles}
    frame["param.window_ms"], frame["param.features"] = 25.0, "mfcc"
    study = StudyInfo("fast", latency_bounds={"stm32f446re": 50.0}, inputs=("window_ms", "features"))
    text = write_report(frame, tmp_path, study=study, devices=[board]).read_text("utf-8")
    estimated = "about 80 ms ± 10 %, estimated: 1.2 cycles an instruction ± 10 % (a source) at 180 MHz"
    assert f"{estimated}; over the bound of 50 ms" in text
    assert "; input: window_ms 25, features mfcc; 12.00 M instructions" in text
    rows = pd.read_csv(tmp_path / "tables/winners.csv").set_index("budget")
    found = tuple(rows.loc["stm32f446re", ["latency", "latency is"]])
    assert found in (("80 ms ± 10 %", "estimate, over the bound of 50 ms"), ("–", "–"))
    assert (rows["instructions"] == "12.00 M").all()


def test_bounds_of_firmware_are_shown_beside_the_use_of_the_firmware(tmp_path):
    frame = sample_trials(6).assign(runtime="firmware", method="uniform", device="nrf52840", state="complete")
    frame = frame.assign(budget_flash=24_000.0, budget_sram=1_500.0, flash=20_000, sram=4_400, val_accuracy=0.9)
    frame = frame.assign(accuracy=0.9, feasible=True, violation=0.0, flash_firmware=22_000, sram_firmware=750)
    frame = frame.assign(network=["first", "second"] * 3, dense_flash=90_000, dense_sram=9_000, dense_macs=[1, 2] * 3)
    text = write_report(frame, tmp_path, study=StudyInfo("s"), style=Style.SCREEN).read_text("utf-8")
    assert "uniform, first" in text
    assert "<dt>Dense network (second)</dt><dd>90,000 B flash, 9,000 B SRAM, 2 MACs as int8</dd>" in text
    assert pd.read_csv(tmp_path / "tables/winners.csv")["network"].tolist() == ["first"]
    assert "50 % of 1.5 KB" in text
    assert "Flash and SRAM are those of the C program" in text
    assert "Flash (bytes of the C program)" in (tmp_path / "figures/accuracy_flash.svg").read_text()


def test_training_of_winners_counts_epochs_where_the_reports_say_how_long_one_is():
    trial = sample_trials(1).iloc[0].to_dict()
    trial["trajectory"] = [{"step": step, "flash": 9000, "phase": "pruning"} for step in (0, 50, 100)]
    course = course_of(trial, {0: [(50, 1.0, 0.4), (100, 2.0, 0.8)]})
    assert (course.unit, course.x, course.accuracy) == ("epochs", [0.0, 1.0, 2.0], [(1.0, 0.4), (2.0, 0.8)])
    bare = course_of(trial, {})
    assert (bare.unit, bare.x, bare.accuracy) == ("steps", [0.0, 50.0, 100.0], [])


@settings(max_examples=300, deadline=None)
@given(st.floats(1, 1e8), st.floats(1.25, 1e4), st.sampled_from(["flash", "sram", "macs"]))
def test_axes_have_three_round_ticks_or_more_however_short(low, factor, resource):
    ticks = log_ticks(low, low * factor, resource)
    assert 3 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))
    assert all(low * (1 - 1e-9) <= tick <= low * factor * (1 + 1e-9) for tick in ticks)


def test_one_trial_of_one_method_is_enough(tmp_path):
    frame = sample_trials(1)
    text = write_report(frame, tmp_path, study=StudyInfo("one")).read_text("utf-8")
    assert "1 trial of 1 method" in text
    assert 'href="#trial-0"' in text


def test_a_new_report_replaces_the_old_one_and_leaves_other_files(report, tmp_path):
    shutil.copytree(report.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "mine.txt").write_text("keep")
    write_report(sample_trials(3).query("state == 'failed'"), tmp_path, study=StudyInfo("b"))
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert not (tmp_path / "figures/methods.png").exists()
    assert not list(tmp_path.glob(".report-*"))


def test_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file; give a folder"):
        write_report(sample_trials(3), tmp_path / "file", study=StudyInfo("a"))


def test_large_studies_are_thinned_openly_and_lose_no_winner():
    table = tidy(sample_trials(1200))
    found = winners(table)
    assert shown_rows(table, found) == list(range(1200))
    most = 400
    rows = shown_rows(table, found, most)
    assert len(rows) <= most < MOST_ROWS
    assert {winner.row for winner in found} <= set(rows)
    assert len(rows) == len(set(rows))
    assert rows == sorted(rows)
    assert len(rows) > 0.9 * most
    failed = set(table.index[table["state"] == "failed"])
    assert failed <= set(rows)


def test_commands_are_quoted_for_the_shell():
    command = export_command(3, "a b", StudyInfo("x; rm -rf ~", storage="sqlite:///a b.db"))
    assert command == "mcusweep export 3 --study 'x; rm -rf ~' --storage 'sqlite:///a b.db' --output export/a-b"


def test_embedded_json_cannot_close_its_element():
    text = str(embedded_json({"a": "</script><!--&"}))
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><!--&"}


def test_tables_are_escaped_in_every_format():
    table = Table("t", "T", ("a", "b_1"), (("x|y & 5 %", 'say "hi"'),))
    assert table.as_markdown().splitlines()[2] == r'| x\|y & 5 % | say "hi" |'
    assert r"x|y \& 5 \% & say" in table.as_latex()
    assert r"a & b\_1 \\" in table.as_latex()
    assert table.as_csv().splitlines()[1] == 'x|y & 5 %,"say ""hi"""'


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHECKS = """<script>
const seen = {};
const rows = () => [...document.querySelectorAll("#table tbody tr")];
const accuracy = () => rows().map((row) => Number(row.cells[5].dataset.s)).filter((value) => value > -1);
const press = (node) => node.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
press(document.querySelectorAll("#table thead button")[5]);
seen.ascending = accuracy();
press(document.querySelectorAll("#table thead button")[5]);
seen.descending = accuracy();
const filter = document.getElementById("filter");
filter.value = "uniform NRF52832";
filter.dispatchEvent(new Event("input"));
const place = (row) => row.cells[1].textContent + " " + row.cells[2].textContent;
seen.filtered = rows().filter((row) => !row.hidden).map(place);
seen.count = document.getElementById("count").textContent;
const hiddenOne = rows().find((row) => row.hidden && row.cells[3].textContent === "complete").id;
const point = document.querySelector(`#scatter-plot a[href="#${hiddenOne}"]`);
point.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
seen.tip = document.getElementById("tip").textContent;
press(point);
seen.wanted = hiddenOne;
seen.found = [...document.querySelectorAll(".found")].map((row) => row.id + (row.hidden ? " hidden" : ""));
seen.points = document.querySelectorAll("#scatter-plot a").length;
press(document.querySelectorAll(".legend button")[0]);
seen.fewer = document.querySelectorAll("#scatter-plot a").length;
seen.tabs = [...document.querySelectorAll(".tabs button")].map((tab) => {
  press(tab);
  return document.querySelector("#scatter-plot .axis").textContent;
});
seen.empty = [...document.querySelectorAll("figure .drawing")].filter((node) => !node.firstElementChild).length;
document.documentElement.dataset.seen = JSON.stringify(seen);
</script>"""


def browse(page: Path, profile: Path) -> tuple[str, str]:
    """The page's elements after its scripts ran, and what the browser logged."""
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=4000 --dump-dom"
    command = [str(BROWSER), *flags.split(), f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine: the page's scripts are NOT tested")
def test_page_works_in_a_browser(report, tmp_path):
    page = report.with_name("checked.html")
    page.write_text(report.read_text("utf-8").replace("</body>", CHECKS + "</body>"), "utf-8")
    elements, console = browse(page, tmp_path / "profile")
    page.unlink()
    assert console == ""
    found = re.search(r'data-seen="([^"]*)"', elements)
    assert found, "the page's script stopped before the checks"
    seen = json.loads(found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert seen["ascending"] == sorted(seen["ascending"])
    assert seen["descending"] == seen["ascending"][::-1]
    assert set(seen["filtered"]) == {"uniform nrf52832"}
    assert seen["count"] == f"{len(seen['filtered'])} of 90 shown"
    assert seen["tip"].startswith(f"trial {seen['wanted'][6:]}: ")
    assert seen["found"] == [seen["wanted"]]
    assert 0 < seen["fewer"] < seen["points"]
    assert seen["tabs"] == ["Flash", "SRAM", "MACs"]
    assert seen["empty"] == 0


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine: the page's scripts are NOT tested")
def test_the_scatter_of_an_error_shows_it_in_its_own_unit_and_every_trial_at_its_height(tmp_path):
    trials = sample_trials(24)
    trials = trials.assign(metric="mae", **{name: 40 * (trials[name] - 1) for name in ("accuracy", "val_accuracy")})
    page = write_report(trials, tmp_path / "page", study=StudyInfo("s"))
    checks = """<script>
const at = (node) => node.firstElementChild.getAttribute("transform").match(/ ([0-9.]+)\\)/)[1];
document.documentElement.dataset.seen = JSON.stringify(
  [...document.querySelectorAll("#scatter-plot a")].map((node) => [node.getAttribute("aria-label"), Number(at(node))])
);
</script>"""
    page.write_text(page.read_text("utf-8").replace("</body>", checks + "</body>"), "utf-8")
    elements, console = browse(page, tmp_path / "profile")
    assert console == ""
    seen = json.loads(re.search(r'data-seen="([^"]*)"', elements)[1].replace("&quot;", '"'))
    known = trials[trials["state"] == "complete"].set_index("number")
    assert len(seen) >= len(known) > 10
    numbers = [int(re.match("trial ([0-9]+):", text)[1]) for text, _ in seen]
    for number, (text, _) in zip(numbers, seen, strict=True):
        if number in known.index:
            assert f"test {-known['accuracy'][number]:.4g}, validation {-known['val_accuracy'][number]:.4g}" in text
    lowest = known["accuracy"].quantile(0.1)  # a few of the worst lie on the edge
    shown = [(known["accuracy"][n], -y) for n, (_, y) in zip(numbers, seen, strict=True)
             if n in known.index and known["accuracy"][n] > lowest]  # fmt: skip
    assert sorted(shown) == sorted(shown, key=lambda pair: pair[1])
    assert len({y for _, y in shown}) > 0.8 * len(shown)
    table = (page.parent / "tables" / "duels.md").read_text()
    assert "points" not in table
    assert "%" not in (page.parent / "tables" / "methods.md").read_text()


def test_models_whose_memory_was_not_measured_do_not_pass_for_measured():
    table = tidy(sample_trials(60))
    whole = _facts(table)
    assert whole["predicted"] == 0
    table["measured"] = False
    assert _facts(table)["predicted"] == whole["feasible"] > 0


def test_methods_are_compared_without_the_trials_that_repeat_others(tmp_path):
    frame = sample_trials(24)
    last = frame["number"].nlargest(4)
    fewer = write_report(frame[~frame["number"].isin(last)], tmp_path / "fewer", study=StudyInfo("s")).parent
    more = write_report(frame, tmp_path / "more", study=StudyInfo("s", repeats=frozenset(last))).parent
    plain = write_report(frame, tmp_path / "plain", study=StudyInfo("s")).parent
    texts = [(folder / "tables" / "methods.csv").read_text() for folder in (fewer, more, plain)]
    assert texts[0] == texts[1] != texts[2]
