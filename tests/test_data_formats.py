"""Formats: columns to conversations, recognised or named; rows that are none say why."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdistill.data import BadRow, read_conversations
from selfdistill.errors import DataError
from selfdistill.recipe import DataConfig
from selfdistill.types import Conversation, messages_json


def write(folder: Path, rows: list[Any], name: str = "d.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder: Path, rows: list[Any], **config: Any) -> list[Conversation]:
    return list(read_conversations(DataConfig(path=str(write(folder, rows)), **config)))


def turns(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    first = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    return first + [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


SHAREGPT = [{"from": "system", "value": "S"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "a", "output": "b"}, turns("a", "b")),
        ({"instruction": "a", "input": None, "output": "b"}, turns("a", "b")),
        ({"instruction": "a", "input": "", "output": "b", "history": []}, turns("a", "b")),
        ({"instruction": " a\n", "input": "x ", "output": " b "}, turns(" a\n\nx ", " b ")),
        ({"instruction": "", "input": "x", "output": "b"}, turns("x", "b")),
        ({"instruction": "a", "output": "b", "history": [["h", "i"], ["j", "k"]]}, turns("h", "i", "j", "k", "a", "b")),
        ({"instruction": "a", "output": "b", "system": "S"}, turns("a", "b", system="S")),
        ({"instruction": "a", "output": "b", "system": ""}, turns("a", "b")),
        ({"prompt": "a", "completion": " b"}, turns("a", " b")),
        (
            {"prompt": turns("a", system="S"), "completion": [{"role": "assistant", "content": "b"}]},
            turns("a", "b", system="S"),
        ),
        ({"prompt": turns("a", "b", "c"), "completion": "d"}, turns("a", "b", "c", "d")),
        ({"question": "a", "answer": "b"}, turns("a", "b")),
        ({"messages": turns("a", "b", "c", "d", system="")}, turns("a", "b", "c", "d", system="")),
        ({"messages": [{"role": "developer", "content": "S"}, *turns("a", "b")]}, turns("a", "b", system="S")),
        ({"messages": [{"role": "user", "content": PARTS}, turns("", "c")[1]]}, turns("ab", "c")),
        ({"messages": SHAREGPT}, turns("a", "b", system="S")),
        ({"conversations": SHAREGPT}, turns("a", "b", system="S")),
        ({"conversations": SHAREGPT[1:], "system": "T"}, turns("a", "b", system="T")),
        ({"conversations": [{"from": "user", "value": "a"}, {"from": "bard", "value": "b"}]}, turns("a", "b")),
        ({"conversations": turns("a", "b")}, turns("a", "b")),
        (  # as SlimOrca weights its turns
            {"messages": [turns("a")[0] | {"weight": 0}, {"role": "assistant", "content": "b", "weight": 1}]},
            turns("a", "b"),
        ),
    ],
)
def test_formats_are_recognised(tmp_path: Path, row: dict[str, Any], expected: list[dict[str, str]]) -> None:
    (conversation,) = read(tmp_path, [row])
    assert messages_json(conversation.messages) == expected
    assert conversation.extra == {}


def test_every_assistant_turn_is_an_example(tmp_path: Path) -> None:
    (conversation,) = read(tmp_path, [{"messages": turns("a", "b", "c", "d", system="S")}])
    first, second = conversation.examples()
    assert messages_json(first.prompt) == turns("a", system="S")
    assert messages_json(second.prompt) == turns("a", "b", "c", system="S")
    assert (first.reference, second.reference) == ("b", "d")


@pytest.mark.parametrize(
    ("config", "row"),
    [
        ({"columns": {"question": "Problem", "answer": "Lösung"}}, {"Problem": "a", "Lösung": "b"}),
        ({"columns": {"question": "Problem"}}, {"Problem": "a", "answer": "b"}),
        (
            {"format": "alpaca", "columns": {"output": "response", "input": "context"}},
            {"instruction": "a", "response": "b", "context": None},
        ),
        ({"columns": {"messages": "dialog"}}, {"dialog": turns("a", "b")}),
        ({"format": "question_answer"}, {"question": "a", "answer": "b", "instruction": "x", "output": "y"}),
    ],
)
def test_columns_and_format_can_be_named(tmp_path: Path, config: dict[str, Any], row: dict[str, Any]) -> None:
    (conversation,) = read(tmp_path, [row], **config)
    assert messages_json(conversation.messages) == turns("a", "b")


def test_a_named_column_stands_in_the_reason(tmp_path: Path) -> None:
    rows = [{"Problem": "a", "answer": "b"}, {"Problem": 3, "answer": "b"}, {"answer": "b"}]
    with pytest.raises(DataError) as told:
        read(tmp_path, rows, columns={"question": "Problem"})
    assert "line 2: `Problem` is a number, not text" in str(told.value)
    assert "line 3: `Problem` is missing" in str(told.value)


def test_unknown_columns_are_kept_where_json_can_hold_them(tmp_path: Path) -> None:
    row = {"question": "a", "answer": "b", "id": 7, "tags": ["x", None], "score": float("nan"), "ok": True}
    (conversation,) = read(tmp_path, [row])
    assert conversation.extra == {"id": 7, "tags": ["x", None], "ok": True}
    assert Conversation.from_json(json.loads(json.dumps(conversation.to_json()))) == conversation


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "a", "output": None}, "`output` is null"),
        ({"instruction": "a", "output": float("inf")}, "`output` is a number, not text"),
        ({"instruction": 3, "output": "b"}, "`instruction` is a number, not text"),
        ({"instruction": "a", "output": ["x"]}, "`output` is a list, not text"),
        ({"instruction": "a", "output": {}}, "`output` is an object, not text"),
        ({"instruction": "a", "output": " \n\t"}, "`output` is empty"),
        ({"instruction": "", "input": " ", "output": "b"}, "`instruction` is empty"),
        ({"instruction": "a", "input": {}, "output": "b"}, "`input` is an object, not text"),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "`history` entry 1 is not a pair of texts"),
        ({"instruction": "a", "output": "b", "history": [["x", None]]}, "`history` entry 1 has no content"),
        ({"instruction": "a", "output": "b", "history": [["x", ""]]}, "`history` entry 1 is empty"),
        ({"instruction": "a", "output": "b", "history": "x"}, "`history` is text, not a list"),
        ({"instruction": "a", "output": "b", "system": ["x"]}, "`system` is a list, not text"),
        ({"question": "", "answer": "b"}, "`question` is empty"),
        ({"prompt": turns("a"), "completion": None}, "`completion` is null"),
        ({"prompt": turns("a", "b"), "completion": "c"}, "turns don't alternate"),
        ({"messages": None}, "`messages` is null"),
        ({"messages": "hello"}, "`messages` is text, not a list of turns"),
        ({"messages": []}, "no assistant turn"),
        ({"messages": turns("a")}, "no assistant turn"),
        ({"messages": turns("a", "b", "c")}, "the last turn is the user's"),
        ({"messages": turns("a", "b")[1:]}, "the first turn is the assistant's"),
        ({"messages": [*turns("a"), *turns("b", "c")]}, "turns don't alternate"),
        (
            {"messages": [*turns("a", "b"), *turns("c", "d", system="S")]},
            "only the first message may be a system message",
        ),
        ({"messages": turns("a", "b", system="S"), "system": "T"}, "only the first message may be a system message"),
        ({"messages": turns("a", "")}, "`messages` turn 2 is empty"),
        ({"messages": ["a", "b"]}, "`messages` turn 1 is text, not an object"),
        ({"messages": [None]}, "`messages` turn 1 is null, not an object"),
        ({"messages": [{"role": "user"}]}, "`messages` turn 1 has no content"),
        ({"messages": [{"content": "a"}]}, "`messages` turn 1 has no role"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "has the role ['user']"),
        (
            {"messages": [*turns("a", "b"), {"role": "tool", "content": "x"}]},
            "the last turn is a tool's, without a response",
        ),
        ({"messages": [{"role": "user", "content": 5}]}, "`messages` turn 1 is a number, not text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "`messages` turn 1 holds a part of type image_url; only text is supported",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "turn 1 is null, not text"),
        (
            {"messages": [*turns("a"), {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}]},
            "turn 2 holds a tool call without a name",
        ),
        (
            {"messages": [*turns("a"), {"role": "assistant", "content": "bad", "weight": 0}]},
            "every assistant turn is marked as context only",
        ),
        ({"conversations": [{"from": "human", "value": None}]}, "`conversations` turn 1 has no content"),
        ({"conversations": [{"from": "observation", "value": "x"}]}, "no assistant turn"),
    ],
)
def test_a_row_that_is_no_conversation_says_why(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    bad: list[BadRow] = []
    usable: list[dict[str, Any]] = [
        {"instruction": "a", "output": "b"},
        {"question": "a", "answer": "b"},
        {"prompt": "a", "completion": "b"},
        {"messages": turns("a", "b")},
        {"conversations": turns("a", "b")},
    ]
    good = next(other for other in usable if set(other) <= set(row))
    config = DataConfig(path=str(write(tmp_path, [good, row])), on_bad_row="skip")
    assert len(list(read_conversations(config, bad.append))) == 1
    assert [(row.where, reason in row.reason) for row in bad] == [("d.jsonl line 2", True)], bad
    assert json.loads(bad[0].text) == row


def test_columns_that_fit_no_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as told:
        read(tmp_path, [{"id": 3, "Problem": "a", "Solution": "b"}])
    assert "has the columns id, Problem, Solution" in str(told.value)
    assert "alpaca: instruction, output" in str(told.value)
    assert "data.columns={question: Problem, answer: Solution}" in str(told.value)
    with pytest.raises(DataError, match=r"needs the columns of one format \(alpaca: instruction, answer\)"):
        read(tmp_path, [{"question": "a", "answer": "b"}], format="alpaca", columns={"output": "answer"})
    with pytest.raises(DataError, match="has no column 'answer' for `output`"):
        read(tmp_path, [{"question": "a"}], format="alpaca", columns={"output": "answer"})
    with pytest.raises(DataError, match="columns names prompt, answer; write FIELD: COLUMN, with the fields of one"):
        read(tmp_path, [{"question": "a"}], columns={"prompt": "x", "answer": "y"})


def test_columns_that_fit_two_formats_are_refused(tmp_path: Path) -> None:
    row = {"question": "a", "answer": "b", "messages": turns("a", "b")}
    with pytest.raises(DataError, match="looks like question_answer and like messages"):
        read(tmp_path, [row])


def test_in_mixed_rows_the_most_frequent_format_is_meant(tmp_path: Path) -> None:
    rows = [{"messages": turns("a", "b")}] + [{"instruction": "a", "output": "b"}] * 3
    with pytest.raises(DataError, match="line 1: `instruction` is missing"):
        read(tmp_path, rows)


def test_a_csv_without_a_needed_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("instruction,input\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="has the columns instruction, input, but needs"):
        list(read_conversations(DataConfig(path=str(path))))


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda text: text.strip())
dialogues = st.lists(st.tuples(texts, texts), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(dialogue=dialogues, system=st.none() | texts)
def test_a_dialogue_is_the_same_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, dialogue: list[tuple[str, str]], system: str | None
) -> None:
    flat = [text for pair in dialogue for text in pair]
    messages = turns(*flat, system=system)
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    asked, answered = dialogue[-1]
    rows = [
        {"messages": messages},
        {"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in messages]},
        {"prompt": messages[:-1], "completion": messages[-1:]},
        {"instruction": asked, "output": answered, "history": dialogue[:-1], "system": system},
    ]
    folder = tmp_path_factory.mktemp("formats")
    for row in rows:
        (conversation,) = read(folder, [row])
        assert messages_json(conversation.messages) == messages
        assert len(conversation.examples()) == len(dialogue)
