"""report.html with all figures and compare.html in a real browser: figures, sorting, keyboard, print."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.pages import count_becomes, scrolls_sideways, verdict_of
from support.report_experiment import (
    RATES,
    TASKS,
    made_rewrites,
    write_experiment,
    write_items,
    write_json,
)

from selfdistill.reports import write_comparison, write_report
from selfdistill.reports.figures import FIGURES

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_experiment(tmp_path_factory.mktemp("plain"))
    write_report(directory)
    return directory


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("browser", ["DejaVu Sans", "DejaVu Sans Mono", "STIX General"], indirect=True)
def test_every_figure_is_seen_and_fits_whatever_the_font(visit: Any, whole: Path, width: int) -> None:
    page = visit(whole / "report.html", width)
    assert not scrolls_sideways(page)
    assert page.locator("figure").count() == len(FIGURES)
    assert page.locator("svg.plot:visible").count() == len(FIGURES)
    page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")
    assert not scrolls_sideways(page)
    # No text of a figure is cut off at its edge.
    cut = page.evaluate(
        """[...document.querySelectorAll("svg.plot")].filter((node) => node.checkVisibility()).flatMap((node) => {
          const edge = node.getBoundingClientRect();
          return [...node.querySelectorAll("text")].filter((text) => {
            const box = text.getBoundingClientRect();
            return box.left < edge.left - 1 || box.right > edge.right + 1 || box.bottom > edge.bottom + 1;
          }).map((text) => text.textContent);
        })"""
    )
    assert cut == []
    assert page.locator("svg.plot text").count() == page.locator("svg.plot text[data-width]").count() > 100


def test_a_figures_data_can_be_taken_from_the_page(visit: Any, whole: Path) -> None:
    page = visit(whole / "report.html")
    with page.expect_download() as waiting:
        page.locator("#figure-sweeps a.data").click()
    download = waiting.value
    assert download.suggested_filename == "sweeps.csv"
    assert Path(download.path()).read_text().startswith("parameter,series,value,arm,")


def first_column(page: Any, table: str) -> list[str]:
    texts: list[str] = page.locator(f"{table} tbody tr > :first-child").all_inner_texts()
    return [text.split()[0] for text in texts]


def test_the_verdicts_table_sorts_by_mouse_and_keyboard(visit: Any, plain: Path) -> None:
    page = visit(plain / "report.html")
    order = [task for task, _, _ in TASKS]
    assert first_column(page, ".scores") == order
    head = page.locator(".scores thead th").nth(2)
    head.get_by_role("button").click()
    by_vanilla = [task for _, task in sorted(zip(RATES["vanilla"], order, strict=True))]
    values = page.locator(".scores tbody tr > :nth-child(3)").evaluate_all("cells => cells.map(c => +c.dataset.value)")
    assert values == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"
    assert set(first_column(page, ".scores")) == set(by_vanilla)
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    turned = page.locator(".scores tbody tr > :nth-child(3)").evaluate_all("cells => cells.map(c => +c.dataset.value)")
    assert turned == values[::-1]
    page.locator(".scores thead th").first.get_by_role("button").click()
    assert first_column(page, ".scores") == sorted(order)
    assert head.get_attribute("aria-sort") is None


def test_cells_without_a_value_come_last_in_both_orders(visit: Any, tmp_path: Path) -> None:
    write_experiment(tmp_path, rewrites=[])
    verdict = verdict_of(tmp_path)
    for row in verdict["comparisons"]:
        row["needed"] = None
    for row, needed in zip(verdict["comparisons"][::3], (1_200, 90, 12_000, 700), strict=False):
        row["needed"] = needed
    write_json(tmp_path / "verdict.json", verdict)
    page = visit(write_report(tmp_path))
    page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")
    table = page.locator("table.sortable", has_text="p of a drop").last
    button = table.get_by_role("button", name="needed")
    for sign in (1, -1):
        button.click()
        values = [text.replace(",", "") for text in table.locator("tbody tr > :last-child").all_inner_texts()]
        known = [float(text) for text in values if text]
        assert values[len(known) :] == [""] * (len(values) - len(known))
        assert known == sorted(known, key=lambda value: sign * value)
        assert len(known) == 4


def test_details_open_by_keyboard(visit: Any, plain: Path) -> None:
    page = visit(plain / "report.html")
    summary = page.locator("summary", has_text="Every comparison")
    summary.focus()
    assert not page.locator("text=McNemar").first.is_visible()
    page.keyboard.press("Enter")
    assert page.locator("text=McNemar").first.is_visible()


def test_paper_shows_all_and_no_controls(visit: Any, plain: Path) -> None:
    page = visit(plain / "report.html", scheme="dark")
    closed = page.locator("details:not([open])").count()
    assert closed
    page.emulate_media(media="print", color_scheme="light")
    # Chromium shows what is folded by the style sheet; other browsers by the script, before they print.
    assert page.locator("text=McNemar").first.is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("a.data:visible").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == closed
    assert page.pdf().startswith(b"%PDF-")
    browser = visit(plain / "rewrites.html")
    browser.emulate_media(media="print")
    assert browser.locator("input:visible, select:visible, button:visible").count() == 0
    assert browser.locator("article:visible").count() == 20


def test_the_browser_of_rewrites_by_keyboard(visit: Any, plain: Path) -> None:
    page = visit(plain / "rewrites.html")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("no such words")
    count_becomes(page, "0 rows")
    page.fill("#q", "")
    count_becomes(page, "1–20 of 400 rows")
    page.locator("article summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("article details").first.get_attribute("open") is not None
    page.locator("#next").focus()
    page.keyboard.press("Enter")
    count_becomes(page, "21–40 of 400 rows")


def test_of_five_thousand_rows_few_are_in_the_document(visit: Any, tmp_path: Path) -> None:
    write_report(write_experiment(tmp_path, rewrites=made_rewrites(5_000)))
    page = visit(tmp_path / "rewrites.html", 400)
    sizes = []

    def look(count: str) -> None:
        count_becomes(page, count)
        sizes.append(page.evaluate("document.querySelectorAll('#rows article').length"))
        sizes.append(page.evaluate("document.querySelectorAll('#rows *').length") // 20)
        assert not scrolls_sideways(page)

    look("1–20 of 5,000 rows")
    for _ in range(3):
        page.click("#next")
    look("61–80 of 5,000 rows")
    page.mouse.wheel(0, 100_000)
    look("61–80 of 5,000 rows")
    page.fill("#q", "Priya")
    page.locator("#count", has_text="1–20 of 1,").wait_for()
    page.select_option("#source", "original")
    page.fill("#q", "")
    total = page.locator("#source option:checked").inner_text().split("(")[1].rstrip(")")
    look(f"1–20 of {total} rows")
    assert max(sizes) < 200


@pytest.mark.parametrize("width", [400, 1280])
def test_several_experiments_fit_in_one_page(visit: Any, plain: Path, whole: Path, tmp_path: Path, width: int) -> None:
    plain, whole = (Path(shutil.copytree(path, tmp_path / path.name)) for path in (plain, whole))
    for directory, first in ((plain, 0), (whole, 20)):
        for task, *_ in TASKS:
            write_items(directory, task, range(first if task == "code" else 0, 200))
    write_comparison([plain, whole], tmp_path / "compare.html")
    page = visit(tmp_path / "compare.html", width)
    assert not scrolls_sideways(page)
    assert "code is not compared in one column" in page.locator(".note").inner_text()
    head = page.locator(".compare thead th", has_text="multiarith")
    head.get_by_role("button").click()
    values = page.locator(".compare tbody tr > :nth-child(4)").evaluate_all("cells => cells.map(c => +c.dataset.value)")
    assert values == sorted(values)
    assert len(values) == 3 + 16
