"""docs/data.md: every row on the page is read as the page says, and its table lists the fields of the formats."""

import json
import re
from pathlib import Path

import pytest

from selfdistill.data import FORMATS, BadRow, read_conversations
from selfdistill.data.bad_rows import UnusableError
from selfdistill.data.columns import resolve
from selfdistill.data.conversion import read_conversation
from selfdistill.data.formats import Format, Names
from selfdistill.recipe import DataConfig
from selfdistill.types import Conversation

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)\n```\n```text\n(.*?)\n```", PAGE, re.DOTALL)


def shown(conversation: Conversation) -> str:
    lines = []
    for place, message in enumerate(conversation.messages):
        mark = " (context only)" if place in conversation.untrained else ""
        mark += " (reasoning left out)" if place in conversation.reasoning else ""
        lines.append(f"{message.role}{mark}: " + message.text.replace("\n", "\n  "))
    return "\n".join(lines)


@pytest.mark.parametrize(("row", "turns"), EXAMPLES)
def test_every_row_on_the_page_is_read_as_the_page_says(tmp_path: Path, row: str, turns: str) -> None:
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    bad: list[BadRow] = []
    rows = [json.loads(row), *([good] if turns.startswith("bad row: ") else [])]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    config = DataConfig(path=str(tmp_path / "d.jsonl"), on_bad_row="skip")
    first = next(iter(read_conversations(config, bad.append)))
    assert (f"bad row: {bad[0].reason}" if bad else shown(first)) == turns


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_an_example_that_is_recognised(name: str) -> None:
    section = PAGE.split(f"\n### {name}\n")[1].split("\n## ")[0].split("\n### ")[0]
    rows = [json.loads(row) for row in re.findall(r"```json\n(.*?)\n```", section, re.DOTALL)]
    assert rows
    for row in rows:
        assert resolve([row], DataConfig(path="d"))[0] == name


def listed(fields: Names) -> str:
    names = {"system": ()}  # its other names are below the table
    return ", ".join(
        f"{field} ({', '.join(others)})" if names.get(field, others) else field for field, others in fields.items()
    )


def test_the_table_lists_the_fields_of_every_format() -> None:
    for form in FORMATS.values():
        assert f"| `{form.name}` | {listed(form.required)} | {listed(form.optional)} |\n" in PAGE
        assert all(f"`{name}`" in PAGE for name in ("system", *form.optional["system"], *form.named_only))


def test_a_format_is_one_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As docs/adding.md says: a `Format` and its name in `FORMATS` are all that is needed."""
    letters = Format(
        "letters",
        lambda fields: FORMATS["question_answer"].read(fields),
        required={"question": ("dear",), "answer": ("yours",)},
        optional=FORMATS["messages"].optional,
    )
    monkeypatch.setitem(FORMATS, "letters", letters)
    (tmp_path / "d.jsonl").write_text('{"dear": "How are you?", "yours": "Well."}\n', encoding="utf-8")
    for name in ("auto", "letters"):
        (row,) = read_conversations(DataConfig(path=str(tmp_path / "d.jsonl"), format=name))
        assert [message.content for message in row.messages] == ["How are you?", "Well."]
    with pytest.raises(UnusableError, match="`answer` is missing"):
        read_conversation(letters, {"dear": "Ann"}, {})
