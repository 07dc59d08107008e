"""The report reads an experiment's directory and writes two pages and a table."""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support.pages import Page, headline, printed, sha256, verdict_of
from support.report_experiment import (
    HOSTILE,
    RATES,
    hostile_rewrites,
    made_rewrites,
    poisoned,
    write_experiment,
    write_json,
    write_rewrites,
    write_training,
)

from selfdistill.errors import ExperimentError
from selfdistill.reports import acceptance_lines, verdict_table, write_report
from selfdistill.reports.html import embed_json
from selfdistill.reports.rewrites import survey
from selfdistill.reports.terminal import loss_table, trace_table
from selfdistill.reports.text import duration, p_value, points, visible
from selfdistill.reports.think_traces import MEASURES
from selfdistill.types import Completion, Example, Grade, Message, Rewrite


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_experiment(tmp_path_factory.mktemp("demo"))
    assert write_report(directory) == directory / "report.html"
    return directory


def browser_rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(Page(path).raw["script"][0])
    return rows


def test_the_page_shows_every_number_of_the_verdict(demo: Path) -> None:
    text = Page(demo / "report.html").text
    verdict = verdict_of(demo)
    for task in verdict["tasks"]:
        for score in task["scores"].values():
            assert f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]" in text
    for row in verdict["comparisons"]:
        assert points(row["difference"]) in text
        assert (row["word"] if row["against"] == "seed" else "against") in text
    for note in verdict["notes"]:
        assert note in text
    for reason, number in verdict["acceptance"]["reasons"].items():
        assert f"{reason} {number}" in text
    assert "90.8 % of 400 rewrites were accepted" in text
    assert "transformers 5.19.0" in text
    assert "bitsandbytes" not in text  # not installed


def test_the_headline_reports_good_and_bad_results(demo: Path, tmp_path: Path) -> None:
    swapped = {"seed": RATES["seed"], "vanilla": RATES["sdft"], "sdft": RATES["vanilla"]}
    write_report(write_experiment(tmp_path, swapped))
    good, bad = headline(demo), headline(tmp_path)
    assert good == (
        "In this training run, vanilla forgot 4 of 5 other tasks (can't tell for 1, −46.0 points on average [−48.4, "
        "−42.7]) and sdft forgot 1 (can't tell for 3, −1.7 points on average [−3.6, +0.2]). On gsm8k, vanilla lost "
        "34.5 points and sdft gained 8.5 points in this training run."
    )
    assert re.match(
        r"In this .*, vanilla forgot 1 of 5 other tasks .* and sdft forgot 4 \(.*−.*\)\. On .* sdft lost .*\.", bad
    )
    # The same page, section by section: nothing is left out when SDFT does not help.
    headings = [re.findall(r"<h2>(.*?)</h2>", (d / "report.html").read_text()) for d in (demo, tmp_path)]
    assert headings[0] == headings[1]


def test_both_pages_load_nothing_and_allow_only_their_own_style_and_script(demo: Path) -> None:
    for name in ("report.html", "rewrites.html"):
        page = Page(demo / name)
        policy = page.meta("Content-Security-Policy")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert len(page.raw["style"]) == 1
        assert sha256(page.raw["style"][0]) in policy
        assert not page.raw["script"] or sha256(page.raw["script"][-1]) in policy
        for tag, attributes in page.tags:
            assert tag not in ("link", "iframe", "object", "embed", "img", "base")
            assert "style" not in attributes
            assert not [key for key in attributes if key.startswith("on") or key == "src"]
            if tag == "a":
                assert re.match(
                    r"#[\w-]+$|(report|rewrites|answers)\.html|https://arxiv\.org/abs/2402\.13669$|data:text/csv;",
                    attributes["href"] or "",
                )
                assert ("download" in attributes) == (attributes["href"] or "").startswith("data:")


def test_the_script_makes_no_markup_of_text(demo: Path) -> None:
    script = Page(demo / "rewrites.html").raw["script"][-1]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """In names, reasons and sentences: the page has the same elements as with harmless text."""
    text = " ".join(HOSTILE)
    pages = [Page(poisoned_report(tmp_path / name, suffix)) for name, suffix in (("plain", "x"), ("hostile", text))]
    assert [tag for tag, _ in pages[0].tags] == [tag for tag, _ in pages[1].tags]
    assert "".join(visible(text).split()) in "".join(pages[1].text.split())


def poisoned_report(directory: Path, suffix: str) -> Path:
    write_experiment(directory, rewrites=[])
    for name in ("verdict.json", "manifest.json"):
        write_json(directory / name, poisoned(json.loads((directory / name).read_text()), suffix))
    folder = "a" + suffix.replace("/", "").replace("\x00", "")[:60]
    write_training(directory / "arms" / folder.encode(errors="ignore").decode(), 0, 5)
    (directory / "recipe.yaml").write_text(f"# {suffix}\nmodel: x\n", encoding="utf-8", errors="replace")
    return write_report(directory)


def test_hostile_rewrites_arrive_whole_and_visible(tmp_path: Path) -> None:
    rewrites = list(hostile_rewrites())
    write_rewrites(tmp_path, rewrites)
    write_report(tmp_path)
    page = Page(tmp_path / "rewrites.html")
    assert len(page.raw["script"]) == 2
    assert not re.search(r"[<>&\u2028\u2029]", page.raw["script"][0])
    rows = json.loads(page.raw["script"][0])
    assert len(rows) == len(rewrites)
    for row, rewrite in zip(rows, rewrites, strict=True):
        assert row["source"] == rewrite.source
        assert row["original"][:8000] == visible(rewrite.example.reference)[:8000]
        assert row["rewrite"][:8000] == visible(rewrite.completion.text)[:8000]
        assert len(row["original"]) < 8_100
    assert "more characters)" in rows[len(HOSTILE)]["original"]


@given(st.text(), st.text())
def test_embedded_json_reads_back_and_ends_no_script(key: str, value: str) -> None:
    embedded = embed_json({key: [value]})
    assert json.loads(embedded) == {key: [value]}
    assert not re.search(r"[<>&\u2028\u2029]", embedded)


@given(st.text(st.characters(exclude_categories=())))
def test_visible_text_hides_nothing_and_can_be_written(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert visible(shown) == shown


def test_two_runs_write_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    write_experiment(tmp_path / demo.name)
    write_report(tmp_path / demo.name)
    for name in ("report.html", "rewrites.html"):
        assert (tmp_path / demo.name / name).read_bytes() == (demo / name).read_bytes()


def test_plots_are_well_formed_labelled_and_take_the_pages_colours(demo: Path) -> None:
    pictures = re.findall(r'<svg viewBox[^>]*class="plot.*?</svg>', (demo / "report.html").read_text(), re.DOTALL)
    assert len(pictures) == 6  # scores, acceptance and losses, each wide and narrow
    ids: list[str] = []
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert not re.search(r"(fill|stroke)=\"#", picture)
        assert "var(--arm-2)" in re.findall(r"var\(--[\w-]+\)", picture)
        own = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        wanted = set(re.findall(r"#([\w.-]+)", picture))
        assert wanted <= set(own)
        ids += own
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kept", [(), ("recipe.yaml",), ("manifest.json",), ("verdict.json",), ("arms",)])
def test_missing_files_are_named_on_the_page(tmp_path: Path, kept: tuple[str, ...]) -> None:
    source = write_experiment(tmp_path / "whole")
    part = tmp_path / "part"
    part.mkdir()
    for name in (*kept, "rewrite"):
        (source / name).rename(part / name)
    write_report(part)
    text = Page(part / "report.html").text
    assert "90.8 % of 400 rewrites were accepted" in text
    assert "Missing so far" in text
    assert ("of 5 other tasks" in text) == ("verdict.json" in kept)
    assert ("evaluations" in text) == ("verdict.json" not in kept)


def test_without_rewrites_there_is_no_browser(tmp_path: Path) -> None:
    source = write_experiment(tmp_path)
    (source / "rewrite" / "rewrites.jsonl").unlink()
    write_report(source)
    assert not (source / "rewrites.html").exists()
    assert "rewrites.html" not in (source / "report.html").read_text()


def test_an_unjudged_score_is_not_shown_as_zero(tmp_path: Path) -> None:
    write_experiment(tmp_path, rewrites=[])
    verdict = verdict_of(tmp_path)
    score = verdict["tasks"][0]["scores"]["sdft"]
    score |= {"value": None, "low": None, "high": None, "passed": 0, "failed": 0, "truncated": 0, "errors": 0}
    score["unjudged"] = score["n"]
    del verdict["tasks"][1]["scores"]["vanilla"]
    verdict["comparisons"] = [row for row in verdict["comparisons"] if row["task"] not in ("gsm8k", "multiarith")]
    write_json(tmp_path / "verdict.json", verdict)
    text = Page(write_report(tmp_path)).text
    assert "sdft unjudged" in text
    assert "vanilla not yet" in text


def test_no_experiment_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="holds no experiment"):
        write_report(tmp_path)
    (tmp_path / "verdict.json").write_text('{"model": ')
    with pytest.raises(ExperimentError, match=r"verdict\.json is damaged"):
        write_report(tmp_path)


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    write_rewrites(tmp_path, made_rewrites(10))
    with (tmp_path / "rewrite" / "rewrites.jsonl").open("ab") as file:
        file.write(b'{"id": "x"}\n\xff\xfe\n{"id": "y", "exam')
    write_report(tmp_path)
    text = Page(tmp_path / "rewrites.html").text
    assert "of 10 rewrites accepted" in text
    assert "3 lines of the file could not be read" in text
    assert len(browser_rows(tmp_path / "rewrites.html")) == 10


def test_a_resumed_training_counts_a_step_once(tmp_path: Path) -> None:
    write_training(tmp_path / "arms" / "vanilla", 0, steps=30)
    write_json(tmp_path / "verdict.json", {})
    log = tmp_path / "arms" / "vanilla" / "train.jsonl"
    once = Page(write_report(tmp_path)).text
    rows = log.read_text().splitlines(keepends=True)
    log.write_text("".join(['{"step": 30, "loss": NaN}\n', *rows[:20], *rows[10:], rows[-1][:20]]))
    assert Page(write_report(tmp_path)).text == once


def tiny_rewrite(number: int, passed: bool) -> Rewrite:
    example = Example.of((Message("user", f"q{number}"),), f"a{number}")
    verdict = Grade("pass", "same") if passed else Grade("fail", "rare" if number % 1000 == 0 else "other")
    return Rewrite(example, Completion("c", f"r{number}", "stop", 1), verdict)


def test_many_rewrites_are_shown_as_a_sample_of_both_kinds(tmp_path: Path) -> None:
    rewrites = [tiny_rewrite(number, number % 20 != 0) for number in range(8_000)]
    write_rewrites(tmp_path, rewrites)
    write_report(tmp_path)
    rows = browser_rows(tmp_path / "rewrites.html")
    kinds = [row["source"] for row in rows]
    assert len(rows) == 5_000
    assert kinds.count("original") == 400  # all there are
    assert [row["row"] for row in rows] == sorted(row["row"] for row in rows)
    text = Page(tmp_path / "rewrites.html").text
    assert "a sample of 5,000 rows, 4,600 accepted and 400 not" in text
    # The draw depends on the rows, not on their order.
    (tmp_path / "turned").mkdir()
    write_rewrites(tmp_path / "turned", reversed(rewrites))
    write_report(tmp_path / "turned")
    turned = browser_rows(tmp_path / "turned" / "rewrites.html")
    assert {row["id"] for row in turned} == {row["id"] for row in rows}
    acceptance = Page(tmp_path / "report.html").text
    assert "95.0 % of 8,000 rewrites were accepted" in acceptance
    assert "other 392" in acceptance
    assert "rare 8" in acceptance


@pytest.mark.parametrize(("kept", "refused", "expected"), [(100, 0, (10, 0)), (0, 100, (0, 10)), (3, 100, (3, 7)),
                                                           (100, 100, (5, 5)), (2, 3, (2, 3))])  # fmt: skip
def test_a_sample_is_half_and_half_where_it_can_be(
    tmp_path: Path, kept: int, refused: int, expected: tuple[int, int]
) -> None:
    write_rewrites(tmp_path, [tiny_rewrite(number, number < kept) for number in range(kept + refused)])
    found = survey(tmp_path, limit=10)
    assert found is not None
    drawn = [number <= kept for number, _ in found.places]
    assert (drawn.count(True), drawn.count(False)) == expected


def test_long_texts_make_the_sample_smaller_not_the_page_unusable(tmp_path: Path) -> None:
    long = "word " * 20_000
    example = [Example.of((Message("user", f"{n} {long}"),), long) for n in range(200)]
    path = tmp_path / "rewrite" / "rewrites.jsonl"
    write_rewrites(tmp_path, (Rewrite(e, Completion("c", long, "stop"), Grade("pass", "ok")) for e in example))
    write_report(tmp_path)
    assert (tmp_path / "rewrites.html").stat().st_size < 0.15 * path.stat().st_size


def test_the_terminal_shows_the_same_figures(demo: Path) -> None:
    verdict = verdict_of(demo)
    text = printed(verdict_table(verdict))
    for task in verdict["tasks"]:
        for score in task["scores"].values():
            assert f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]" in text
    for row in verdict["comparisons"]:
        if row["against"] == "seed":
            assert f"{points(row['difference'])} " in text
    assert "↓ forgot" in text
    lines = acceptance_lines(verdict["acceptance"])
    assert lines.startswith("Rewrites accepted: 363 of 400 (90.8 %)")
    assert "\nRejected: 37 of 400, because\n" in lines
    assert all(reason in lines for reason in verdict["acceptance"]["reasons"])


def test_the_terminals_table_fits_80_columns_with_many_arms(tmp_path: Path) -> None:
    rates = {**RATES, **{f"mix-{n}-of-a-really-very-long-name": RATES["sdft"] for n in range(9)}}
    write_experiment(tmp_path, rates, rewrites=[])
    text = printed(verdict_table(verdict_of(tmp_path)))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" in text  # the long names; no figure is cut
    assert text.count("[") == 6 * 12 + 11  # and the mean of each trained arm


@pytest.mark.parametrize("text", HOSTILE)
def test_the_terminal_obeys_no_control_code(demo: Path, text: str) -> None:
    verdict = poisoned(verdict_of(demo), text)
    file = io.StringIO()
    console = Console(file=file, width=80)
    console.print(verdict_table(verdict))
    console.print(acceptance_lines({**verdict["acceptance"], "reasons": {text: 3}}))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", file.getvalue())
    if "[bold]" in text:
        assert "[bold]markup[/bold]" in file.getvalue()


def test_numbers_are_written_one_way() -> None:
    assert [points(x) for x in (0.06, -0.31, 0.0, -0.0004)] == ["+6.0", "−31.0", "0.0", "0.0"]
    assert [p_value(x) for x in (0.0004, 0.0312, 1.0)] == ["< 0.001", "0.031", "1.000"]
    assert [duration(x) for x in (3.14, 59.98, 72, 3 * 3600 + 61)] == [
        "3.1 s",
        "1 min 00 s",
        "1 min 12 s",
        "3 h 01 min",
    ]


def test_a_lower_loss_is_better_and_a_longer_trace_neither_on_page_and_terminal(tmp_path: Path) -> None:
    def compared(arm: str, word: str, difference: float, against: str = "seed") -> dict[str, Any]:
        return {"task": "gsm8k", "arm": arm, "against": against, "n": 9, "difference": difference, "low": difference,
                "high": difference, "word": word, "runs": 1}  # fmt: skip

    own = {"value": 2.5, "low": 2.4, "high": 2.6, "n": 9, "tokens": 90, "unscored": {}}
    losses = [compared("vanilla", "lower", -0.26), compared("sdft", "higher", 0.11),
              compared("sdft", "can't tell", 0.37, "vanilla")]  # fmt: skip
    shown = {"n": 9, "states": {}, **dict.fromkeys(MEASURES, own)}
    longer = {name: [compared("sdft", "higher", 7.0)] if name == "tokens" else [] for name in MEASURES}
    verdict = verdict_of(write_experiment(tmp_path)) | {
        "heldout_loss": [{"task": "gsm8k", "arms": dict.fromkeys(RATES, own), "comparisons": losses}],
        "thinking": {"tasks": [{"task": "gsm8k", "arms": {"sdft": shown}}], "comparisons": longer, "arms": {}},
    }
    write_json(tmp_path / "verdict.json", verdict)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    section = page[page.index('id="held-out-loss"') :]
    words = re.findall(r'<span class="word (\w+)">. ([\w\' ]+)</span>', html.unescape(section))
    assert words[:3] == [("better", "lower"), ("worse", "higher"), ("unclear", "can't tell")]
    traces = page[page.index('id="think-traces"') : page.index('id="held-out-loss"')]
    assert re.findall(r'<span class="word (\w+)">. higher</span>', traces) == ["kept"]

    console = Console(width=100, force_terminal=True, color_system="standard", file=io.StringIO())
    console.print(loss_table(verdict), trace_table(verdict))
    printed_text = console.file.getvalue()
    for color, said in ((32, "−0.260 lower"), (31, "+0.110 higher"), (33, "+0.370 can't tell")):
        assert f"\x1b[{color}m{said}" in printed_text
    assert re.search(r"(\x1b\[\d+m)?\+7 ↑", printed_text)[1] is None
