"""Both pages in a real browser, opened from disk. Skipped without Chromium."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from support.pages import count_becomes, scrolls_sideways, verdict_of
from support.report_experiment import (
    HOSTILE,
    RATES,
    TASKS,
    hostile_rewrites,
    made_rewrites,
    poisoned,
    write_analysis,
    write_experiment,
    write_json,
    write_marked,
)

from selfdistill.reports import write_report
from selfdistill.reports.text import point_bounds, points, visible
from selfdistill.types import Completion, Example, Grade, Message, Rewrite

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_experiment(tmp_path_factory.mktemp("demo"))
    write_report(directory)
    return directory


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_experiment(tmp_path_factory.mktemp("hostile"), rewrites=hostile_rewrites())
    write_json(directory / "verdict.json", poisoned(verdict_of(directory), " ".join(HOSTILE)))
    write_report(directory)
    return directory


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_and_follow_the_colour_scheme(visit: Any, demo: Path, width: int, scheme: str) -> None:
    for name in ("report.html", "rewrites.html"):
        page = visit(demo / name, width, scheme)
        assert not scrolls_sideways(page)
        red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (red + green + blue > 600) == (scheme == "light")
    page = visit(demo / "report.html", width, scheme)
    assert page.locator("svg.plot:visible").count() == 3
    drawn = page.locator("svg.plot:visible use[fill='var(--arm-2)']").first
    blue = {"light": "rgb(20, 100, 210)", "dark": "rgb(90, 162, 255)"}
    assert drawn.evaluate("node => getComputedStyle(node).fill") == blue[scheme]


def test_no_sideways_scroll_with_many_arms_and_hostile_names(visit: Any, hostile: Path, tmp_path: Path) -> None:
    rates = {**RATES, **{f"mix-0.{n}": RATES["sdft"] for n in range(1, 10)}}
    rates = {arm: values * 2 for arm, values in rates.items()}
    tasks = TASKS + [(f"another-task-{n}", "a skill of some length", "other") for n in range(6)]
    write_report(write_experiment(tmp_path, rates, tasks, rewrites=[], n=50))
    for directory in (hostile, tmp_path):
        for width in (390, 1280):
            page = visit(directory / "report.html", width)
            page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")
            assert not scrolls_sideways(page)


def test_nothing_in_the_data_runs(visit: Any, hostile: Path) -> None:
    """The fixture `visit` asserts that no script ran; this test asserts that each text is shown unchanged."""
    visit(hostile / "report.html")
    page = visit(hostile / "rewrites.html", 390)
    assert not scrolls_sideways(page)
    assert page.locator("article").count() == len(HOSTILE) + 2
    for number, text in enumerate(HOSTILE):
        shown = page.locator("article").nth(number).locator(".sides pre").first.text_content()
        assert shown == visible(f"{text} original")
    page.fill("#q", "onerror")
    count_becomes(page, "1–1 of 1 row")
    page.select_option("#reason", index=1)
    assert page.locator("img, svg, article script, iframe").count() == 0


def test_search_narrows_the_rows_and_pages_turn(visit: Any, demo: Path) -> None:
    page = visit(demo / "rewrites.html")
    assert page.text_content("#count") == "1–20 of 400 rows"
    page.click("#next")
    assert page.text_content("#count") == "21–40 of 400 rows"
    assert page.locator("article").first.get_attribute("id") == "row-21"
    page.select_option("#source", "original")
    assert page.text_content("#count") == "1–20 of 37 rows"
    assert page.locator(".tag.good").count() == 0
    page.select_option("#reason", "talks about the reference")
    assert page.text_content("#count") == "1–10 of 10 rows"
    page.select_option("#source", "")
    page.fill("#q", "AS THE REFERENCE ANSWER SAYS")
    count_becomes(page, "1–10 of 10 rows")
    page.fill("#q", "no such words")
    count_becomes(page, "0 rows")
    assert page.text_content("#rows") == "No row matches."
    assert page.is_disabled("#next")
    assert page.is_disabled("#previous")


def test_a_reason_on_the_report_leads_to_its_rows(visit: Any, demo: Path) -> None:
    page = visit(demo / "report.html")
    link = page.get_by_role("link", name="another number").get_attribute("href")
    name, fragment = link.split("#")
    found = visit(demo / name, fragment="#" + fragment)
    assert found.text_content("#count") == "1–19 of 19 rows"
    assert found.input_value("#reason") == "another number"
    assert set(found.locator(".head .reason").all_text_contents()) == {"another number"}


def test_the_address_keeps_what_is_shown(visit: Any, demo: Path) -> None:
    page = visit(demo / "rewrites.html")
    page.select_option("#source", "rewrite")
    page.click("#next")
    page.reload()
    assert page.text_content("#count") == "21–40 of 363 rows"


def one_pair(directory: Path, original: str, rewrite: str) -> Path:
    example = Example.of((Message("user", "q"),), original)
    row = Rewrite(example, Completion("c", rewrite, "stop"), Grade("pass", "same"))
    write_report(write_experiment(directory, rewrites=[row]))
    return directory / "rewrites.html"


@pytest.mark.parametrize(
    ("original", "rewrite", "gone", "new"),
    [
        ("the cat sat", "the dog sat", ["cat"], ["dog"]),
        ("a b c", "a b c", [], []),
        ("3+4=7", "So 3 + 4 = 7.", [], ["So", "."]),
        ("x = 1.5", "x = 1,500", ["1.5"], ["1,500"]),
        ("one two three four", "four", ["one two three"], []),
        ("", "all of it", [], ["all of it"]),
        ("我喜欢猫", "我喜欢狗", ["猫"], ["狗"]),
        ("naïve café", "naïve cafés", ["café"], ["cafés"]),
    ],
)
def test_the_word_diff_marks_what_changed(
    visit: Any, tmp_path: Path, original: str, rewrite: str, gone: list[str], new: list[str]
) -> None:
    page = visit(one_pair(tmp_path, original, rewrite))
    assert page.locator("del").all_text_contents() == gone
    assert page.locator("ins").all_text_contents() == new
    assert page.locator(".sides pre").all_text_contents() == [original, rewrite]
    page.uncheck("#marks")
    assert page.locator("del, ins").count() == 0
    assert page.locator(".sides pre").all_text_contents() == [original, rewrite]


def test_a_pair_too_long_for_a_diff_is_shown_without(visit: Any, tmp_path: Path) -> None:
    original, rewrite = "a b " * 2_000, "c d " * 2_000
    page = visit(one_pair(tmp_path, original[:8000], rewrite[:8000]))
    assert page.locator("del, ins").count() == 0
    assert "too long to mark" in (page.text_content(".sides") or "")
    assert page.locator(".sides pre").all_text_contents() == [original[:8000], rewrite[:8000]]


def test_a_row_that_was_decided_by_hand_shows_the_text_that_is_trained_on(visit: Any, tmp_path: Path) -> None:
    write_report(write_marked(write_experiment(tmp_path), {1: "my own words", 2: None}))
    page = visit(tmp_path / "rewrites.html")
    page.select_option("#source", "hand")
    count_becomes(page, "1–2 of 2 rows")
    edited, original = page.locator("article").all()
    assert edited.locator(".side.chosen").all_text_contents() == ["edit · trained onmy own words"]
    assert edited.locator(".side").count() == 3
    assert (original.locator(".side.chosen h3").text_content(), original.locator(".side").count()) == (
        "original · trained on", 2,
    )  # fmt: skip
    assert "by hand: an edit" in edited.text_content()
    page.fill("#q", "my own words")
    count_becomes(page, "1–1 of 1 row")


def test_a_page_of_five_thousand_rows_opens(visit: Any, tmp_path: Path) -> None:
    write_report(write_experiment(tmp_path, rewrites=made_rewrites(5_000)))
    page = visit(tmp_path / "rewrites.html")
    count_becomes(page, "1–20 of 5,000 rows")
    page.fill("#q", f"row {4_321}")
    count_becomes(page, "1–1 of 1 row")
    assert page.locator("article").get_attribute("id") == "row-4321"


def saved_table(page: Any, name: str) -> list[list[str]]:
    page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")
    with page.expect_download() as waiting:
        page.get_by_role("button", name=f"Save the table as {name}.csv", exact=True).click()
    assert waiting.value.suggested_filename == f"{name}.csv"
    return list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8"))))


def test_a_tables_csv_is_the_table(visit: Any, demo: Path) -> None:
    rows = verdict_of(demo)["comparisons"]
    header, *saved = saved_table(visit(demo / "report.html"), "comparisons")
    assert header[:6] == ["task", "arms", "n", "gained", "lost", "difference"]
    assert [row[0] for row in saved] == [row["task"] for row in rows]
    for found, row in zip(saved, rows, strict=True):
        assert [int(cell) for cell in found[2:5]] == [row["n"], row["gained"], row["lost"]]
        assert float(found[5]) == float(points(row["difference"]).replace("−", "-"))
        assert found[6] == point_bounds(row["low"], row["high"])


def test_a_tables_csv_has_whole_texts_and_no_formulas(visit: Any, tmp_path: Path) -> None:
    write_experiment(tmp_path, rewrites=[])
    verdict = verdict_of(tmp_path)
    texts = {"prompt": "=1+1", "seed": 'a "b", ' * 60 + "end", "answer": "line\nline"}
    example = {"task": "code", "arm": "vanilla", "id": "1", "of": 3, "reference": "", **texts}
    verdict["items_changed"] = {"flips": [], "examples": [example], "in_common": {}}
    write_json(tmp_path / "verdict.json", verdict)
    _, *saved = saved_table(visit(write_report(tmp_path)), "forgotten")
    row = next(row for row in saved if row[:2] == ["code", "vanilla"])
    assert row[3] == "'=1+1"
    assert row[4] == texts["seed"]
    assert row[5].split() == ["line", "line"]


def test_a_command_can_be_copied(visit: Any, tmp_path: Path) -> None:
    write_experiment(tmp_path, rewrites=[])
    (tmp_path / "arms" / "sdft" / "model").mkdir()
    page = visit(write_report(tmp_path))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_text("Use the model").click()
    page.get_by_role("button", name=re.compile("^Copy: vllm serve")).click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == f"vllm serve {tmp_path / 'arms' / 'sdft' / 'model'}"


def test_cards_shift_and_figures_of_few_points_are_folded(visit: Any, tmp_path: Path) -> None:
    write_analysis(tmp_path, seeds=(0, 1), sweeps=False)
    verdict = verdict_of(tmp_path)
    verdict["arms"] += ["a", "b", "c"]
    write_json(tmp_path / "verdict.json", verdict)
    page = visit(write_report(tmp_path))
    for inside in (".cards", ".shift", "#figure-forgetting"):
        assert page.locator(inside).count() == 1
        assert not page.locator(inside).is_visible()
    page.locator("summary", has_text="only 4 points").click()
    assert page.locator("#figure-forgetting svg:visible").count() == 1


def test_a_report_of_the_demos_size_prints_on_ten_pages(visit: Any, tmp_path: Path) -> None:
    """Nine tasks, four arms, and an example of every forgotten task."""
    tasks = [*TASKS, *((f"another-{n}", "another skill", "other") for n in range(3))]
    rates = {arm: (*own, *own[-3:]) for arm, own in RATES.items()} | {"low-rate": RATES["vanilla"] + RATES["seed"][:3]}
    write_experiment(tmp_path, rates, tasks)
    verdict = verdict_of(tmp_path)
    said = {"id": "1", "of": 9, "prompt": "question " * 30, "reference": "r", "seed": "yes " * 60, "answer": "no " * 90}
    forgot = [row for row in verdict["comparisons"] if row["against"] == "seed" and row["word"] == "forgot"]
    examples = [{"task": row["task"], "arm": row["arm"], **said} for row in forgot]
    shares = dict.fromkeys(("right_to_wrong_adjusted", "wrong_to_right_adjusted", "chance"), 0.1)
    flips = [
        {"task": task, "arm": arm, "choices": 0, "n": 200, **shares}
        for task, *_ in tasks
        for arm in verdict["arms"][1:]
    ]
    verdict["items_changed"] = {"flips": flips, "examples": examples, "in_common": {}}
    write_json(tmp_path / "verdict.json", verdict)
    pdf = visit(write_report(tmp_path)).pdf(format="A4")
    assert 2 < len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 10
