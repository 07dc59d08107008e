"""The sets that are only trained on: every form their rows come in, the paper's sizes and templates, what becomes of
rows that can't be used.

tests/data holds rows of our own writing in the forms of the hub. The tests on real data need SELFDISTILL_DATA.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.rows import write_rows

from selfdistill.data import BadRow
from selfdistill.generation.prompts import load_template
from selfdistill.grading import verify
from selfdistill.pipeline.context import make_context
from selfdistill.recipe import DataConfig, Filters, make_recipe
from selfdistill.tasks import get_task
from selfdistill.types import Completion, Conversation

ROWS = Path(__file__).parent / "data"
NAMES = ("alpaca", "dolly", "lima", "openhermes")


def read(name: str, path: Path) -> tuple[list[Conversation], list[BadRow]]:
    """The rows by way of a recipe, as training reads them."""
    plan = make_context(make_recipe({"model": "demo", "task": name, "data": {"path": str(path), "on_bad_row": "skip"}}))
    bad: list[BadRow] = []
    return list(plan.task.load(plan.source, bad.append)), bad


def contents(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.messages]


@pytest.mark.parametrize(
    ("name", "hub", "n"),
    [
        ("alpaca", "tatsu-lab/alpaca", 2000),
        ("dolly", "databricks/databricks-dolly-15k", 2000),
        ("lima", "GAIR/lima", None),
        ("openhermes", "teknium/openhermes", 20000),
    ],
)
def test_the_papers_sizes_and_templates_are_the_defaults(name: str, hub: str, n: int | None) -> None:
    plan = make_context(make_recipe({"model": "org/name", "task": name, "rewrite": {"preset": "paper"}}))
    assert (plan.source.path, plan.source.split, plan.source.n) == (hub, "train", n)
    assert "Using the reference answer as a guide" in load_template(plan.task.template).user
    assert plan.grader_settings()["grader"] == "none"
    assert make_context(make_recipe({"model": "demo", "task": name}, ["data.n=5"])).source.n == 5


@pytest.mark.parametrize(("name", "good", "reasons"), [
    ("alpaca", 4, ["`output` is empty"]),
    ("dolly", 3, ["`response` is empty"]),
    ("lima", 3, ["the last turn is the user's, without a response", "`conversations` turn 2 is empty"]),
    ("openhermes", 3, []),
])  # fmt: skip
def test_rows_are_read_as_on_the_hub(name: str, good: int, reasons: list[str]) -> None:
    rows, bad = read(name, ROWS / f"{name}.jsonl")
    assert len(rows) == good
    assert [row.reason for row in bad] == reasons
    assert all(row.messages[0].role == "user" and row.messages[-1].role == "assistant" for row in rows)


def test_columns_become_turns_and_extras() -> None:
    alpaca = read("alpaca", ROWS / "alpaca.jsonl")[0]
    assert contents(alpaca[1])[0] == "Turn the sentence into the past tense.\nThe ferry leaves at noon."
    dolly = read("dolly", ROWS / "dolly.jsonl")[0]
    assert contents(dolly[0])[0].startswith("What colour is the old lighthouse?\nThe old lighthouse was")
    assert contents(dolly[1]) == ["Think of a name for a boat that carries cheese.", "The Floating Wheel."]
    assert dolly[0].extra == {"category": "closed_qa"}
    lima = read("lima", ROWS / "lima.jsonl")[0]
    assert [message.role for message in lima[1].messages] == ["user", "assistant", "user", "assistant"]
    assert len(lima[1].examples()) == 2
    assert lima[1].extra == {"source": "multi_turn"}


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_files_are_read_too(name: str, tmp_path: Path) -> None:
    """They are Alpaca's form, whatever the set; LIMA's with earlier turns as `history`."""
    rows = [
        {"instruction": "Say it in French.", "input": "Good evening.", "output": "Bonsoir."},
        {
            "instruction": "In Italian?",
            "input": "",
            "output": "Buonasera.",
            "history": [["In French?", "Bonsoir."]],
        },
    ]
    path = tmp_path / "paper.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    first, second = read(name, path)[0]
    assert contents(first) == ["Say it in French.\nGood evening.", "Bonsoir."]
    assert contents(second) == ["In French?", "Bonsoir.", "In Italian?", "Buonasera."]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("magicoder", {"problem": "Add.", "solution": "no", "lang": "python"}),
        ("openfunctions", {"function": {}, "model_answer": "no"}),
        ("multiarith", {"question": "Add.", "final_ans": "no"}),
        ("lima", {"conversations": ["Add.", "no"]}),
    ],
)
def test_columns_that_a_recipe_names_are_read_in_place_of_the_tasks_own(
    name: str, row: dict[str, Any], tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{**row, "asked": "Add 1 and 2.", "mine": "3"}])
    source = DataConfig(path=str(path), columns={"question": "asked", "answer": "mine"})
    (conversation,) = get_task(name).load(source)
    assert [message.content for message in conversation.messages] == ["Add 1 and 2.", "3"]


def test_openhermes_2_5_is_read_too(tmp_path: Path) -> None:
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Hi", "weight": None},
        {"from": "gpt", "value": "Hello", "weight": 1.0},
    ]
    path = tmp_path / "hermes.jsonl"
    path.write_text(json.dumps({"conversations": turns, "category": None}) + "\n", encoding="utf-8")
    (row,) = read("openhermes", path)[0]
    assert [message.role for message in row.messages] == ["system", "user", "assistant"]


@pytest.mark.parametrize("row", [{"conversations": "no list"}, {"conversations": [5, "Hi"]}, {"conversations": None}])
def test_a_lima_row_of_another_shape_is_a_bad_row(row: object, tmp_path: Path) -> None:
    path = tmp_path / "lima.jsonl"
    path.write_text(json.dumps({"conversations": ["Hi", "Hello"]}) + "\n" + json.dumps(row), encoding="utf-8")
    rows, bad = read("lima", path)
    assert (len(rows), len(bad)) == (1, 1)
    assert bad[0].where.endswith("line 2")


@pytest.mark.parametrize("name", NAMES)
def test_rewrites_are_checked_for_facts_and_by_preset_by_filters_only(name: str) -> None:
    example = replace(read(name, ROWS / f"{name}.jsonl")[0][0].examples()[0], reference="It is the Tagus, in 1998.")

    def verdict(text: str, **own: Any) -> str:
        task = make_context(make_recipe({"model": "demo", "task": name, "rewrite": own})).task
        assert task.ask(example) == example.prompt
        return verify(example, Completion(example.id, text, "stop"), Filters(), task.grade).reason

    assert verdict("In 1998, it is the Tagus.") == "same facts"
    assert verdict("In 1999, it is the Tagus.") == "a number of the reference is missing"
    assert verdict("In 1999, it is the Tagus.", preset="paper") == "not graded"
    assert verdict("In 1999, it is the Tagus.", preset="paper", grader="facts").startswith("a number")
    assert verdict("As the reference answer says, it is so.", preset="paper") == "talks about the reference"
    assert verdict("", preset="paper") == "empty"


@pytest.mark.parametrize(("name", "count", "several"), [("alpaca", 2000, 0), ("dolly", 2000, 0), ("lima", 1029, 29)])
def test_the_papers_own_files_are_read_whole(name: str, count: int, several: int, real_data: Path) -> None:
    rows, bad = read(name, real_data / f"sdft/{name}_train.json")
    assert (len(rows), bad) == (count, [])
    assert sum(len(row.examples()) > 1 for row in rows) == several
    assert all(get_task(name).grade(row.examples()[-1], row.messages[-1].content).passed for row in rows)
