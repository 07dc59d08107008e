"""Calls, results and think traces in the browsers of answers and rewrites. Skipped without Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.pages import scrolls_sideways
from support.report_experiment import HOSTILE, write_experiment
from support.rows import write_rows

from selfdistill.reports import write_report
from selfdistill.reports.text import visible
from selfdistill.types import Completion, Example, FunctionCall, Grade, Message, Rewrite, write_reply

pytestmark = pytest.mark.browser

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = tuple(
    {"type": "function", "function": {"name": name, "description": f"The {name} of a city.", "parameters": CITY}}
    for name in ("weather", "population")
)
LIMA = FunctionCall("weather", {"city": "Lima", "days": 3}, "a")
OSLO = FunctionCall("weather", {"city": "Oslo", "days": 3}, "b")
CODE = FunctionCall("population", {"city": "def f():\n    return 1"}, "c")
ASKED = (
    Message("system", "Be brief.", tools=TOOLS),
    Message("user", "How warm will it be in Lima over the next three days, and how many people live there?"),
)
THOUGHT = "The user wants the weather.\nI need a call."
ANSWERED = (
    *ASKED,
    Message(
        "assistant", "Let me look.", reasoning="The user wants the weather.\nI need a call.", tool_calls=(LIMA, OSLO)
    ),
    Message("tool", '{"temperature": 19, "wind": {"from": "south", "speed": 7}}', tool_call_id="a"),
    Message("tool", "no such city", tool_call_id="b"),
)
SHORT = [text for text in HOSTILE if len(text) < 1000]  # a longer call is cut, and then shown as text
TRACE = "<think>\nThe city is Lima, and three days were asked for.\n</think>\n\n"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two items and three rewrites with tools, and a hostile rewrite of each kind of text."""
    reference, same = write_reply("", [LIMA]), Grade("pass", "same calls")
    hostile = [FunctionCall(text, {text: text, "b": [text]}) for text in SHORT]
    rewrites = [
        Rewrite(Example.of(ASKED, reference), Completion("1", f"{TRACE}{reference}", "stop"), same),
        Rewrite(
            Example.of(ASKED, write_reply("Wait.", [LIMA, CODE])),
            Completion("2", write_reply("Hold on.", [OSLO, CODE]), "stop"),
            Grade("fail", "arguments differ", reference, write_reply("", [OSLO])),
        ),
        Rewrite(Example.of(ANSWERED, "It is 19."), Completion("3", "19 degrees.", "stop"), Grade("pass", "same facts")),
        *(
            Rewrite(Example.of((*ASKED[:1], Message("user", each.name)), write_reply("", [each])),
                Completion("h", write_reply(each.name, [each]), "stop"), same)
            for each in hostile
        ),
    ]  # fmt: skip
    directory = write_experiment(tmp_path_factory.mktemp("tools"), rewrites=rewrites)
    items = [Example.of(ASKED, reference), Example.of(ANSWERED, "It is 19 degrees.")]
    write_rows(directory / "items" / "tool_calls.jsonl", [item.to_json() for item in items])
    replies = {
        "seed": ["I can't know that.", "It is 19 degrees."],
        "vanilla": [write_reply("", [OSLO]), write_reply("", [FunctionCall("weather", {})])],
        "sdft": [f"{TRACE}{write_reply('I will look that up.', [LIMA])}", f"{TRACE}It is 19 degrees, with wind."],
    }
    for arm, texts in replies.items():
        folder = directory / "arms" / arm / "evaluate" / "tool_calls"
        answers = [Completion(item.id, text, "stop", 9) for item, text in zip(items, texts, strict=True)]
        write_rows(folder / "answers.jsonl", [answer.to_json() for answer in answers])
        right = arm == "sdft"
        grade = Grade("pass" if right else "fail", "same calls" if right else "arguments differ", reference, texts[0])
        bucket = "passed" if right else "failed"
        write_rows(folder / "grades.jsonl", [{"id": i.id, "bucket": bucket, "grade": grade.to_json()} for i in items])
    write_report(directory)
    return directory


def texts(page: Any, selector: str) -> list[str]:
    found: list[str] = page.locator(selector).all_text_contents()
    return found


def test_answers_show_calls_as_blocks_and_traces_folded(visit: Any, experiment: Path) -> None:
    page = visit(experiment / "answers.html", fragment="#task=tool_calls")
    first = "article:first-child"
    assert texts(page, f"{first} .sides .call b") == ["weather", "weather"]
    assert texts(page, f"{first} .sides .call dt") == ["city", "days"] * 2
    assert texts(page, f"{first} .sides .call dd") == ['"Oslo"', "3", '"Lima"', "3"]
    assert texts(page, f"{first} .sides pre") == [
        "I can't know that.", "The city is Lima, and three days were asked for.", "I will look that up.",
    ]  # fmt: skip
    assert "call weather without arguments" in texts(page, "article .side .call")
    assert "<tool_call>" not in "".join(texts(page, "#rows"))
    trace = page.locator(f"{first} .sides details")
    assert trace.count() == 1
    assert trace.get_attribute("open") is None


def test_prompts_show_tools_folded_and_results_indented(visit: Any, experiment: Path) -> None:
    page = visit(experiment / "answers.html", fragment="#task=tool_calls")
    second = page.locator("article").nth(1)
    second.locator("summary").first.click()
    turns = second.locator(".asked .turn")
    assert [turn.split("\n")[0] for turn in turns.all_inner_texts()][1:3] == ["system", "user"]
    assert second.locator(".turn").first.locator("summary").all_text_contents() == [
        " weather(city, days) The weather of a city.", " population(city, days) The population of a city.",
    ]  # fmt: skip
    results = second.locator(".turn.result")
    assert results.locator("pre").all_text_contents() == [
        '{\n  "temperature": 19,\n  "wind": {\n    "from": "south",\n    "speed": 7\n  }\n}', "no such city",
    ]  # fmt: skip
    left = [node.bounding_box()["x"] for node in (turns.nth(1), results.first)]
    assert left[1] - left[0] >= 20
    trace = second.locator(".turn", has_text="think trace").locator("details")
    assert trace.locator("pre").text_content() == THOUGHT
    assert second.locator(".turn .call b").all_text_contents() == ["weather", "weather"]


def test_rewrites_mark_the_arguments_that_differ(visit: Any, experiment: Path) -> None:
    page = visit(experiment / "rewrites.html")
    rows = page.locator("article")
    assert rows.nth(0).locator("del, ins").count() == 0
    assert rows.nth(0).locator(".side details pre").all_text_contents() == [
        "The city is Lima, and three days were asked for."
    ]
    marks = [rows.nth(1).locator(f".call {mark}").all_text_contents() for mark in ("del", "ins")]
    assert marks == [['"Lima"'], ['"Oslo"']]
    assert rows.nth(1).locator(".sides dd").nth(2).text_content() == "def f():\n    return 1"
    assert rows.nth(1).locator(".values code").first.text_content() == 'weather(city: "Lima", days: 3)'
    for place, text in enumerate(SHORT):
        row = rows.nth(3 + place)
        assert row.locator(".call b").first.text_content() == visible(text)
        assert row.locator(".call dd").first.text_content().strip('"') != ""


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_with_tools_fit(visit: Any, experiment: Path, width: int, scheme: str) -> None:
    for name in ("answers.html", "rewrites.html"):
        page = visit(experiment / name, width, scheme)
        page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")
        assert not scrolls_sideways(page)
        colour, ground = (
            page.locator(".call").first.evaluate(f"node => getComputedStyle(node).{name}.match(/\\d+/g).map(Number)")
            for name in ("color", "backgroundColor")
        )
        assert abs(sum(colour[:3]) - sum(ground[:3])) > 400, "readable in both schemes"
