"""What a reader of the report meets, in order: the figure, what was forgotten with examples, notes; and how the page
writes signs, shares and counts."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pages import Page, verdict_of
from support.report_experiment import RATES, TASKS, write_analysis, write_experiment, write_items, write_json

from selfdistill.reports import write_comparison, write_report
from selfdistill.reports.next_steps import next_steps, outcome
from selfdistill.reports.text import point_bounds
from selfdistill.types.wording import counted, per_cent, signed

NOT_LOADED = "The embedding model my/encoder can't be loaded; set shift.embedding to a folder with such a model."


def add_examples(directory: Path) -> list[dict[str, Any]]:
    """Adds an example to the verdict for every task that an arm forgot, and returns them."""
    verdict = verdict_of(directory)
    forgot = [row for row in verdict["comparisons"] if row["against"] == "seed" and row["word"] == "forgot"]
    examples = [
        {
            "task": row["task"], "arm": row["arm"], "id": "1", "of": 9, "prompt": f"{row['task']} asks",
            "reference": "r", "seed": f"seed answers {row['task']}", "answer": f"{row['arm']} fails {row['task']}",
        }
        for row in forgot
    ]  # fmt: skip
    verdict["items_changed"] = {"flips": [], "examples": examples, "in_common": {}}
    write_json(directory / "verdict.json", verdict)
    return examples


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_experiment(tmp_path_factory.mktemp("demo"))
    add_examples(directory)
    return write_report(directory)


def test_the_figure_comes_first_then_what_was_forgotten(demo: Path) -> None:
    page = Page(demo)
    anchors = [a["id"] for tag, a in page.tags if tag == "h2"]
    assert anchors[:4] == ["figure", "forgotten", "notes", "scores"]
    linked = [str(a["href"]).removeprefix("#") for tag, a in page.tags if tag == "a" and str(a["href"])[0] == "#"]
    assert linked == anchors
    html = demo.read_text()
    assert html.index("<figure") < html.index('id="forgotten"') < html.index('class="note"')


def test_each_result_stands_once(demo: Path) -> None:
    """But for the headline, the cards of a phone in place of the table, and the folded table of all tests."""
    shown = demo.read_text().partition('<h2 id="details">')[0]
    html = re.sub(r'<details class="folded phone">.*?</details>|<h1>.*?</h1>', "", shown, flags=re.DOTALL)
    verdict = verdict_of(demo.parent)
    rows = [*verdict["comparisons"], *(row for row in verdict["mean_changes"] if row["against"] == "seed")]
    for span, times in Counter(point_bounds(row["low"], row["high"]) for row in rows).items():
        assert html.count(span) == times, span
    assert html.count("sdft is 44.3 points above vanilla") == 1
    happened, advice, _ = outcome(verdict, demo.parent)
    assert (happened in html, advice in html) == (False, True)
    assert not [sentence for sentence in verdict["summary"] if sentence in html]


def test_the_header_names_experiment_and_data(demo: Path) -> None:
    assert f"Experiment {demo.parent.name} · data gsm8k · model demo · 2026-03-01" in Page(demo).text


def test_each_forgotten_task_has_its_change_and_one_example(demo: Path) -> None:
    table = re.search(r'data-csv="forgotten".*?</table>', demo.read_text(), re.DOTALL)
    assert table
    rows = re.findall(r"<tr><th>.*?</tr>", table[0].split("<tbody>")[1])
    examples = verdict_of(demo.parent)["items_changed"]["examples"]
    assert len(rows) == len(examples) > 3
    order = [task for task, *_ in TASKS]
    for row, example in zip(rows, sorted(examples, key=lambda each: order.index(each["task"])), strict=True):
        for key in ("task", "arm", "prompt", "seed", "answer"):
            assert example[key] in row


def test_a_run_that_forgot_nothing_has_no_examples(tmp_path: Path) -> None:
    write_report(write_experiment(tmp_path, {"seed": RATES["seed"], "sdft": RATES["seed"]}))
    assert "No arm is shown to have forgotten a task." in Page(tmp_path / "report.html").text


def test_what_the_shift_lacks_is_said_in_its_section_alone(tmp_path: Path) -> None:
    write_analysis(tmp_path, seeds=(0,), sweeps=False)
    verdict = verdict_of(tmp_path)
    for path in (tmp_path / "shift").glob("*.json"):
        row = json.loads(path.read_text())
        row["missing"] = {"cosine": NOT_LOADED}
        write_json(path, row)
    verdict["notes"].append(NOT_LOADED)  # as earlier versions wrote it
    write_json(tmp_path / "verdict.json", verdict)
    html = write_report(tmp_path).read_text()
    place = html.index("my/encoder")
    assert html.count("my/encoder") == 1
    assert html.rindex("<h2", 0, place) == html.index('<h2 id="distribution-shift"')


def test_a_run_with_a_held_out_loss_alone_ends_with_a_sentence(tmp_path: Path) -> None:
    row = {"arm": "sdft", "against": "seed", "word": "lower", "difference": -0.25, "runs": 1}
    verdict = {"arms": ["seed", "sdft"], "heldout_loss": [{"task": "own", "arms": {}, "comparisons": [row]}]}
    sentence, commands = next_steps(verdict, tmp_path)
    assert "sdft lower (−0.250)" in sentence
    assert "evaluate.tasks" in sentence
    assert commands == []


def test_the_legend_names_no_arm_without_scores(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    verdict = verdict_of(tmp_path)
    for task in verdict["tasks"]:
        del task["scores"]["sdft"]
    verdict["comparisons"] = []
    write_json(tmp_path / "verdict.json", verdict)
    html = write_report(tmp_path).read_text()
    figure = html[html.index('<figure id="figure-verdict"') :].split("</figure>")[0]
    assert ">vanilla<" in figure
    assert ">sdft<" not in figure


def test_several_experiments_share_a_figure_with_the_tables_scores(tmp_path: Path) -> None:
    both = [write_experiment(tmp_path / name, rewrites=[]) for name in ("a", "b")]
    for directory in both:
        for task, *_ in TASKS:
            write_items(directory, task, range(200))
    write_comparison(both, tmp_path / "compare.html")
    page = Page(tmp_path / "compare.html")
    data = next(str(a["href"]) for tag, a in page.tags if a.get("download") == "compare.csv")
    assert data.count("%0A") == 1 + 2 * 3 * len(TASKS)
    html = (tmp_path / "compare.html").read_text()
    assert html.index('id="figure-compare"') < html.index("<table")


@given(st.integers(0, 10**7), st.sampled_from(["row", "item"]))
def test_only_one_is_singular(n: int, noun: str) -> None:
    assert counted(n, noun) == f"{n:,} {noun}" + ("" if n == 1 else "s")


@given(st.floats(-1e6, 1e6), st.integers(0, 3))
def test_a_sign_is_plus_or_the_minus_sign_and_zero_has_none(value: float, digits: int) -> None:
    text = signed(value, digits)
    assert "-" not in text
    assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.5 * 10**-digits + 1e-9)
    assert (text[0] in "+−") == (float(text.replace("−", "-")) != 0)


def test_shares_have_a_space_before_the_sign() -> None:
    assert (per_cent(0.908), per_cent(0.5, 0), per_cent(-0.01)) == ("90.8 %", "50 %", "−1.0 %")


def test_pages_write_one_minus_and_per_cent(demo: Path) -> None:
    page = Page(demo)
    for text in (page.text, *(str(a.get("aria-label")) for _, a in page.tags)):
        assert not re.search(r"(?<![\w.,)-])-\d", text)
        assert not re.search(r"\d%|percent\b", text)
