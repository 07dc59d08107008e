"""Both pages in a real browser, opened from disk. Skipped without Chromium."""

from __future__ import annotations

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
    write_experiment,
    write_json,
)

from selfdistill.reports import write_report
from selfdistill.reports.text import visible
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
    blue = {"light": "rgb(15, 95, 196)", "dark": "rgb(114, 178, 255)"}
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
    count_becomes(page, "1–1 of 1 rows")
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


def test_a_page_of_five_thousand_rows_opens(visit: Any, tmp_path: Path) -> None:
    write_report(write_experiment(tmp_path, rewrites=made_rewrites(5_000)))
    page = visit(tmp_path / "rewrites.html")
    count_becomes(page, "1–20 of 5,000 rows")
    page.fill("#q", f"row {4_321}")
    count_becomes(page, "1–1 of 1 rows")
    assert page.locator("article").get_attribute("id") == "row-4321"
