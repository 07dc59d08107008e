"""Every column and every field of a turn is used, honoured, listed, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdistill.data import prepare, read_conversations, reading_setting, unused_columns, unused_sentence
from selfdistill.data.columns import resolve, suggestion
from selfdistill.data.lettered import ChoiceError, Choices
from selfdistill.data.values import as_json, is_filled, number_text
from selfdistill.errors import DataError
from selfdistill.recipe import DataConfig
from selfdistill.types import Conversation, Message


def read(folder: Path, *rows: dict[str, Any], **config: Any) -> list[Conversation]:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(read_conversations(DataConfig(path=str(path), **config)))


def texts(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.messages]


def chat(*turns: dict[str, Any]) -> dict[str, Any]:
    """A chat of user and assistant turns with further fields."""
    return {"messages": [{"role": ("user", "assistant")[at % 2], **turn} for at, turn in enumerate(turns)]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"question": "How many?", "context": "TABLE t", "answer": "SELECT 1"}, ["How many?\nTABLE t", "SELECT 1"]),
        ({"question": "q", "context": ["one", "two"], "answer": "a"}, ["q\none\n\ntwo", "a"]),
        ({"question": "q", "context": None, "answer": "a"}, ["q", "a"]),
        ({"instruction": "i", "context": "c", "response": "r", "category": "x"}, ["i\nc", "r"]),  # Dolly's
        ({"instruction": "i", "input": float("nan"), "output": "r"}, ["i", "r"]),  # an empty cell of pandas
        ({"system_prompt": "S", "question": "q", "response": "r"}, ["S", "q", "r"]),
        ({"prompt": "p", "response": "r"}, ["p", "r"]),
        ({"q": "x", "a": "y"}, ["x", "y"]),
        ({"input": "x", "output": "y"}, ["x", "y"]),
        ({"query": "x", "response": "y"}, ["x", "y"]),
        ({"question": "x", "answers": ["y"]}, ["x", "y"]),
        ({"question": "x", "answers": {"text": ["y", "y"], "answer_start": [3, 9]}}, ["x", "y"]),
        ({"question": "x", "answer": 5}, ["x", "5"]),
        ({"question": "x", "answer": 42.0}, ["x", "42"]),
        ({"question": "x", "answer": -0.5}, ["x", "-0.5"]),
        ({"question": "x", "answer": False}, ["x", "false"]),
        ({"question": "x", "choices": ["3", "8"], "answer": "B"}, ["x\nA. 3\nB. 8", "B"]),
        ({"question": "x", "choices": [3, 8], "answer": 1}, ["x\nA. 3\nB. 8", "B"]),
        ({"question": "x", "options": {"A": "red", "B": "blue"}, "answer": "blue"}, ["x\nA. red\nB. blue", "B"]),
        (
            {"question": "x", "choices": {"text": ["red", "blue"], "label": ["1", "2"]}, "answerKey": "1"},
            ["x\nA. red\nB. blue", "A"],
        ),
        ({"question": "x", "choices": ["1", "2"], "answer": "Two, I say."}, ["x\nA. 1\nB. 2", "Two, I say."]),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": 7}]}, ["x", "7"]),
        ({"messages": [{"role": "system", "content": "S"}, *chat({"content": "x"}, {"content": "y"})["messages"]],
          "system": "S"}, ["S", "x", "y"]),
    ],
)  # fmt: skip
def test_used_columns_become_texts(tmp_path: Path, row: dict[str, Any], expected: list[str]) -> None:
    (conversation,) = read(tmp_path, row)
    assert texts(conversation) == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "i", "output": "o", "images": ["dog.png"]}, "`images` is filled: pictures"),
        ({"instruction": "i", "output": "o", "audio": {"bytes": None, "path": "a.wav"}}, "`audio` is filled"),
        ({"question": "q", "tools": '[{"name": "f"}]', "answer": "[]"}, "`tools` is filled: this format has no tools"),
        ({"query": "q", "tools": '[{"name": "f"}]', "answers": "[]"}, "`answers` holds no call"),
        ({"question": "q", "answer": "a", "documents": [{"text": "t"}]}, "`documents` is filled"),
        ({"question": "q", "answer": "a", "chat_template_kwargs": {"tokenize": False}}, "can't hold 'tokenize'"),
        ({"question": "q", "answer": "a", "chat_template_kwargs": [1]}, "`chat_template_kwargs` is a list"),
        ({"question": "q", "answer": "a", "weight": 0}, "`weight` is 0; rows are not weighted"),
        ({"question": "q", "answer": "a", "weight": 0.5}, "`weight` is 0.5"),
        (chat({"content": "x"}, {"content": "y", "tool_calls": [{"id": "1"}]}), "turn 2 holds a tool call without a"),
        (chat({"content": "x", "images": ["a.png"]}, {"content": "y"}), "turn 1 holds `images`"),
        (chat({"content": "x"}, {"content": "y", "weight": 0.5}), "turn 2 has `weight` 0.5; only 1 (trained on) and 0"),
        (chat({"content": "x"}, {"content": "y", "train": "maybe"}), "turn 2 has `train` 'maybe'"),
        (chat({"content": "x"}, {"content": "y", "train": True, "weight": 0}), "contradict each other"),
        (chat({"content": "x"}, {"content": "y", "mask": 1}), "turn 2 has `mask`"),
        (chat({"content": "x"}, {"content": "<think>so and"}), "never closes it"),
        (chat({"content": "x"}, {"content": "<think>so</think>"}), "turn 2 is empty"),
        ({"conversations": [{"from": "function_call", "value": "{}"}]}, "turn 1 holds a tool call without a name"),
        ({"question": "q", "choices": [2, 1, 0], "answer": 2}, "one choice by its text and another by its letter"),
        ({"question": "q", "choices": ["x", "y"], "answer": 3}, "neither a choice nor an index from 0 to 1"),
        ({"question": "q", "choices": ["x", "y"], "answer": "E"}, "'E', which is none of the 2 choices"),
        ({"question": "q", "choices": ["x", "y"], "answer": 2}, "numbers from 1, but a number is read as an index"),
        ({"question": "q", "choices": "x or y", "answer": "x"}, "`choices` is text, not a list of choices"),
    ],
)  # fmt: skip
def test_what_would_change_the_lesson_is_refused_by_name(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError) as told:
        read(tmp_path, row)
    assert reason in str(told.value)


@pytest.mark.parametrize("empty", [None, "", [], {}, "[]", "null", [None], {"bytes": None, "path": None}])
def test_empty_columns_are_no_reason_to_refuse(tmp_path: Path, empty: Any) -> None:
    row = {"question": "q", "answer": "a", "tools": empty, "images": empty, "weight": 1}
    (conversation,) = read(tmp_path, row | {"documents": empty, "chat_template_kwargs": empty})
    assert texts(conversation) == ["q", "a"]
    turn = {"content": "y", "tool_calls": empty, "reasoning_content": empty, "weight": None}
    (conversation,) = read(tmp_path, chat({"content": "x"}, turn))
    assert (texts(conversation), conversation.reasoning, conversation.extra) == (["x", "y"], (), {})


@pytest.mark.parametrize(
    "mark",
    [{name: no} for name in ("train", "trainable", "loss", "loss_mask", "weight") for no in (0, "0", "False", 0.0)]
    + [{"train": False}, {"masked": True}],
)  # fmt: skip
def test_marked_turns_are_context_only(tmp_path: Path, mark: dict[str, Any]) -> None:
    rows = [chat({"content": "2+2?"}, {"content": "5", **mark}, {"content": "Sure?"}, {"content": "4"})]
    (conversation,) = read(tmp_path, *rows)
    (example,) = conversation.examples()
    assert example.reference == "4"
    assert [message.content for message in example.prompt] == ["2+2?", "5", "Sure?"]
    assert Conversation.from_json(json.loads(json.dumps(conversation.to_json()))) == conversation
    counts = prepare(DataConfig(path=str(tmp_path / "d.jsonl")), tmp_path / "out")
    assert (counts.examples, counts.untrained) == (1, 1)


def test_an_empty_thinking_part_is_no_reasoning(tmp_path: Path) -> None:
    parts = [{"type": "thinking", "thinking": "\n"}, {"type": "text", "text": "2"}]
    (conversation,) = read(tmp_path, chat({"content": "1+1?"}, {"content": parts}))
    assert (conversation.messages[1], conversation.reasoning) == (Message("assistant", "2"), ())


@pytest.mark.parametrize(
    "turn",
    [
        {"content": "2", "reasoning_content": "1 and 1."},
        {"content": "2", "thinking": "1 and 1."},
        {"content": "2", "reasoning": "1 and 1."},
        {"content": "<think>\n1 and 1.\n</think>\n\n2"},
        {"content": [{"type": "thinking", "thinking": "1 and 1."}, {"type": "text", "text": "2"}]},
    ],
)
def test_reasoning_in_whichever_form_is_no_part_of_the_response(tmp_path: Path, turn: dict[str, Any]) -> None:
    (conversation,) = read(tmp_path, chat({"content": "1+1?"}, turn))
    assert conversation.messages[1] == Message("assistant", "2", reasoning="1 and 1.")
    assert (texts(conversation), conversation.reasoning) == (["1+1?", "2"], (1,))
    assert [example.reference for example in conversation.examples()] == ["2"]
    counts = prepare(DataConfig(path=str(tmp_path / "d.jsonl")), tmp_path / "out")
    assert counts.reasoning == 1
    (flat,) = read(tmp_path, {"question": "1+1?", "answer": "<think>1 and 1.</think>2"})
    assert flat == conversation


def test_what_is_not_read_is_listed_with_its_rows_and_the_setting(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a", "id": at, "source": "web" if at else None} for at in range(3)]
    conversations = read(tmp_path, *rows)
    assert unused_columns(conversations) == {"id": 3, "source": 2}
    sentence = unused_sentence(unused_columns(conversations), 3, "data.columns={context: source}")
    assert sentence is not None
    assert (
        "not trained on: id (3 of 3 rows), source (2 of 3 rows); to read a column, name it, as in "
        "data.columns={context: source}" in sentence
    )
    assert "columns" not in str(unused_sentence({"id": 3}, 3))
    assert unused_sentence({}, 3, "data.columns={context: source}") is None
    (conversation,) = read(tmp_path, chat({"content": "x", "name": "Ann", "weight": 1}, {"content": "y", "id": 4}))
    assert unused_columns([conversation]) == {
        "messages[].name": 1, "messages[].weight of user turns": 1, "messages[].id": 1,
    }  # fmt: skip
    (several,) = read(tmp_path, {"question": "q", "answers": ["a", "b"]})
    assert (texts(several), several.extra) == (["q", "a"], {"answers after the first": ["b"]})


def test_a_column_is_taken_in_by_name(tmp_path: Path) -> None:
    row = {"prompt": "p", "completion": "c", "context": "k", "persona": "S"}
    (whole,) = read(tmp_path, row)
    assert (texts(whole), unused_columns([whole])) == (["p", "c"], {"context": 1, "persona": 1})
    (named,) = read(tmp_path, row, columns={"context": "context", "system": "persona"})
    assert (texts(named), named.extra) == (["S", "p\nk", "c"], {})


def test_one_format_under_its_own_names_goes_before_others(tmp_path: Path) -> None:
    row = {"instruction": "i", "input": "x", "output": "o"}
    assert texts(read(tmp_path, row)[0]) == ["i\nx", "o"]
    assert resolve([row], DataConfig(path="d"))[0] == "alpaca"
    both = {"question": "q", "answer": "final", "response": "long"}
    (conversation,) = read(tmp_path, both)
    assert (texts(conversation), unused_columns([conversation])) == (["q", "final"], {"response": 1})


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"Problem": "a", "Solution": "b"}, "{question: Problem, answer: Solution}"),
        ({"id": 1, "Problem text": "a", "The answer": "b"}, "{question: Problem text, answer: The answer}"),
        ({"frage": "a", "antwort": "b"}, "{question: frage, answer: antwort}"),
        ({"Frage: lang": "a", "antwort": "b"}, "{question: 'Frage: lang', answer: antwort}"),
        ({"dialog": [{"role": "user", "content": "a"}]}, "{messages: dialog}"),
        ({"turns": [{"from": "human", "value": "a"}]}, "{conversations: turns}"),
        ({"text": "a"}, None),
        (
            {"kontext": "k", "frage": "a", "musterantwort": "b"},
            "{question: frage, answer: musterantwort, context: kontext}",
        ),
        (
            {"system_prompt": "s", "Aufgabe": "a", "Lösung": 4},
            "{question: Aufgabe, answer: Lösung, system: system_prompt}",
        ),
        ({"instrução": "a", "resposta": "b"}, "{question: instrução, answer: resposta}"),
        ({"userPrompt": "a", "Réponse": "b"}, "{question: userPrompt, answer: Réponse}"),
        ({"问题": "a", "回答": "b"}, "{question: 问题, answer: 回答}"),
        ({"x": "Who?", "y": "Ann", "z": "She is Ann."}, "{question: x, answer: z}"),
        ({"__index_level_0__": 0, "x": "a", "score": 0.5}, None),
        ({"user_id": "u1", "x": "a", "y": "b", "n": "5"}, None),
        ({"article": "A long one.", "summary": "Short."}, "{question: article, answer: summary}"),
    ],
)  # fmt: skip
def test_the_line_to_paste_can_be_pasted(tmp_path: Path, row: dict[str, Any], line: str | None) -> None:
    assert suggestion([row]) == line
    with pytest.raises(DataError) as told:
        read(tmp_path, row)
    line = (
        line or "{question: YOUR_COLUMN, answer: YOUR_COLUMN} (optional: context, choices, system). The first values: "
    )
    assert f"data.columns={line}" in str(told.value)


def test_columns_that_are_empty_or_constant_are_not_suggested() -> None:
    rows = [{"lang": "en", "note": "Hm?" if at == 1 else None, "x": f"{at}?", "y": f"a {at}"} for at in range(5)]
    assert suggestion(rows) == "{question: x, answer: y}"
    assert suggestion(rows, "alpaca") == "{instruction: x, output: y}"
    assert suggestion(rows, "messages") is None


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"context": "Kontext"}, "has no column 'Kontext' for `context`; did you mean 'kontext'?"),
        ({"question": "Frage"}, "has no column 'Frage' for `question`; did you mean 'frage'?"),
        ({"system": "zzz"}, "has no column 'zzz' for `system`. Its columns are frage, kontext, answer;"),
        ({"frage": "question"}, "you may have swapped them. Write {answer: answer, question: frage}."),
        (
            {"fragen": "frage"},
            "data.columns names answer, question, fragen; write FIELD: COLUMN, with the ",
        ),
    ],
)
def test_a_column_that_no_row_has_is_refused(tmp_path: Path, columns: dict[str, str], said: str) -> None:
    rows = [{"frage": "q", "kontext": "k", "answer": "a"}] * 2
    named = {"answer": "answer", **({} if {"question", "frage"} & columns.keys() else {"question": "frage"})}
    for times in (1, 100):
        with pytest.raises(DataError) as told:
            read(tmp_path, *rows * times, columns=named | columns)
        assert said in str(told.value)


def test_a_column_that_some_rows_lack_is_read(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}] * 150
    found = read(tmp_path, *rows, {"question": "q", "answer": "a", "note": "n"}, columns={"context": "note"})
    assert [texts(found[0])[0], texts(found[-1])[0]] == ["q", "q\nn"]


@pytest.mark.parametrize(
    ("row", "columns", "setting"),
    [
        ({"question": "q", "answer": "a", "id": 1, "note": "n"}, {}, "data.columns={context: note}"),
        ({"question": "q", "answer": "a", "note": "n", "passage": "p"}, {}, "data.columns={context: passage}"),
        ({"question": "q", "answer": "a", "context": "c", "persona": "p"}, {}, "data.columns={system: persona}"),
        ({"question": "q", "answer": "a", "c": "c", "note": "n"}, {"context": "c"}, "data.columns={system: note}"),
        ({"question": "q", "answer": "a", "c": "c", "s": "s", "x": "x"}, {"context": "c", "system": "s"}, None),
        ({"question": "q", "answer": "a", "__index_level_0__": 0, "score": 0.5}, {}, None),
        ({"instruction": "q", "output": "a", "hint": "h"}, {}, "data.columns={input: hint}"),
    ],
)
def test_the_setting_for_an_unused_column_keeps_the_others(
    tmp_path: Path, row: dict[str, Any], columns: dict[str, str], setting: str | None
) -> None:
    unused = unused_columns(read(tmp_path, row, columns=columns))
    assert reading_setting(DataConfig(path=str(tmp_path / "d.jsonl"), columns=columns), unused) == setting


json_numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(json_numbers)
def test_a_number_as_text_is_the_same_number(number: float) -> None:
    text = number_text(number)
    assert text is not None
    assert float(text) == pytest.approx(float(number))
    assert is_filled(number)
    assert not is_filled(float("nan"))


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=2, max_size=26, unique=True), st.data())
def test_a_choice_by_index_and_by_text_is_one_letter_or_refused(choices: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(choices) - 1))
    letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[place]
    read, unclear = Choices(choices), 0
    for value in (place, choices[place], letter):
        try:
            answer = read.answer(value)
        except ChoiceError:  # another choice's text looks like this one's index or letter
            unclear += 1
        else:
            assert answer == letter
    assert not unclear or any(text.isdecimal() or len(text) <= 3 for text in choices)


def test_values_that_json_cannot_hold_are_still_listed() -> None:
    assert as_json(b"abc") == "3 bytes"
    assert as_json({1, 2}) == "{1, 2}"
    assert as_json(["x", None]) == ["x", None]
