"""Rows with tools: the formats that hold them, what is stored, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.chat_templates import source
from support.tiny import tiny_model

from selfdistill.data import read_conversations
from selfdistill.errors import DataError
from selfdistill.recipe import DataConfig
from selfdistill.types import Conversation, FunctionCall, Message, read_reply, write_reply

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
    "required": ["city"],
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": PARAMETERS}}
CALL = FunctionCall("weather", {"city": "Lima"}, "call_2_1")
ASKED = {"role": "user", "content": "How warm is Lima?"}
SAID = {"role": "assistant", "content": "19 degrees."}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWERED = [{"role": "tool", "content": "19"}, SAID]


def called(arguments: Any = '{"city": "Lima"}', **more: Any) -> dict[str, Any]:
    call = {"id": "", "type": "function", "function": {"name": "weather", "arguments": arguments}, **more}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def read(folder: Path, *rows: dict[str, Any], **config: Any) -> list[Conversation]:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(read_conversations(DataConfig(path=str(path), **config)))


HERMES = (
    "You are a function calling AI model. You are provided with function signatures within <tools></tools> XML tags.\n"
    f"<tools>\n{json.dumps(WEATHER)}\n</tools>\nFor each call return a JSON object within XML tags:\n"
    "<tool_call>\n{'name': <function-name>, 'arguments': <args-dict>}\n</tool_call>"
)
TEXT_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Lima"}}\n</tool_call>'


@pytest.mark.parametrize(
    "row",
    [
        {"tools": [WEATHER], "messages": [ASKED, called(), *ANSWERED]},
        {"tools": json.dumps([WEATHER["function"]]), "messages": [ASKED, called({"city": "Lima"}), *ANSWERED]},
        {"functions": [WEATHER], "messages": [ASKED, called({"city": "Lima", "unit": None}), *ANSWERED]},
        {"tools": [WEATHER], "messages": [ASKED, {**SAID, "content": TEXT_CALL}, *ANSWERED]},
        {"tools": [WEATHER], "messages": [ASKED, {"role": "assistant", "content": "", "function_call":
            {"name": "weather", "arguments": '{"city": "Lima"}'}},
            {"role": "function", "name": "weather", "content": "19"}, SAID]},
        {"tools": [WEATHER], "prompt": [ASKED, called()], "completion": ANSWERED},
        {"tools": json.dumps([WEATHER]), "conversations": [
            {"from": "human", "value": ASKED["content"]},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Lima"}}'},
            {"from": "observation", "value": "19"}, {"from": "gpt", "value": "19 degrees."}]},
        {"conversations": [
            {"from": "system", "value": HERMES}, {"from": "human", "value": ASKED["content"]},
            {"from": "gpt", "value": TEXT_CALL},
            {"from": "tool", "value": "<tool_response>\n19\n</tool_response>"},
            {"from": "gpt", "value": "19 degrees."}]},
    ],
)  # fmt: skip
def test_every_form_of_a_tool_row_is_one_conversation(tmp_path: Path, row: dict[str, Any]) -> None:
    (conversation,) = read(tmp_path, row)
    assert conversation.messages == (
        Message("user", "How warm is Lima?", tools=(WEATHER,)),
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", "19", tool_call_id="call_2_1"),
        Message("assistant", "19 degrees."),
    )
    assert Conversation.from_json(json.loads(json.dumps(conversation.to_json()))) == conversation
    first, second = conversation.examples()
    assert (first.reference, second.reference) == (TEXT_CALL, "19 degrees.")
    assert first.tools == second.tools == (WEATHER,)
    assert conversation.extra == {}


def test_xlam_has_its_own_types_and_no_frame(tmp_path: Path) -> None:
    tools = [{"name": "f", "description": "F.", "parameters": {
        "n": {"type": "int", "description": "N"}, "names": {"type": "List[str], optional"},
        "any": {"type": "Union[int, str]", "default": 1}}}]  # fmt: skip
    row = {"query": "Do it.", "tools": json.dumps(tools), "answers": '[{"name": "f", "arguments": {"n": 3}}]', "id": 1}
    (conversation,) = read(tmp_path, row)
    assert conversation.messages[0].tools[0]["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "description": "N"}, "names": {"type": "array"}, "any": {"default": 1},
        },
        "required": ["n"],
    }  # fmt: skip
    assert [call.arguments for call in conversation.messages[1].tool_calls] == [{"n": 3}]


def test_parallel_calls_a_text_before_calls_and_results_in_another_order(tmp_path: Path) -> None:
    """As ms-swift and OpenAI write them."""
    both = [
        {"role": "tool_call", "content": json.dumps({"name": "weather", "arguments": {"city": city}})} for city in "AB"
    ]
    results = [{"role": "tool_response", "content": "1"}, {"role": "tool_response", "content": "2"}]
    (swift,) = read(
        tmp_path, {"tools": [WEATHER], "messages": [ASKED, {**SAID, "content": "Wait."}, *both, *results, SAID]}
    )
    calls = swift.messages[1].tool_calls
    assert swift.messages[1].content == "Wait."
    assert [call.arguments for call in calls] == [{"city": "A"}, {"city": "B"}]
    assert [m.tool_call_id for m in swift.messages if m.role == "tool"] == [call.id for call in calls]
    turn = called() | {"tool_calls": [*called(id="x")["tool_calls"], *called(id="y")["tool_calls"]]}
    results = [{"role": "tool", "tool_call_id": name, "content": name} for name in "yx"]
    (openai,) = read(tmp_path, {"tools": [WEATHER], "messages": [ASKED, turn, *results, SAID]})
    assert [m.tool_call_id for m in openai.messages if m.role == "tool"] == ["y", "x"]


def test_template_arguments_and_tools_go_with_every_prompt_of_the_row(tmp_path: Path) -> None:
    row = {"tools": [WEATHER], "messages": [ASKED, called(), *ANSWERED], "chat_template_kwargs": {"a": 1, "b": None}}
    (conversation,) = read(tmp_path, row)
    assert [example.prompt[0].template_kwargs for example in conversation.examples()] == [{"a": 1}] * 2


BAD = [
    ([ASKED, called("{'city': 'Lima'}"), *ANSWERED], "the arguments of weather is not JSON"),
    ([ASKED, called({"city": 3}), *ANSWERED], "arguments of weather are not valid: city: 3 is not of type 'string'"),
    ([ASKED, called({"unit": "c"}), *ANSWERED], "'city' is a required property"),
    ([ASKED, called([1]), *ANSWERED], "the arguments of weather are a list, not an object"),
    ([ASKED, {**SAID, "content": "<tool_call>\n{}"}], "turn 2 holds a tool call that never closes"),
    ([ASKED, {**SAID, "content": "<tool_call>\n{'a'}</tool_call>"}], "a tool call is not JSON"),
    ([ASKED, {**called(), "content": TEXT_CALL}, *ANSWERED], "turn 2 holds calls twice"),
    ([ASKED, SAID, ANSWERED[0], SAID], "turn 3 is a tool's result without a call"),
    ([ASKED, *ANSWERED], "a tool's result without a call"),
    ([ASKED, called(), ANSWERED[0], *ANSWERED], "turn 4 is a tool's result without a call"),
    ([ASKED, called(), ASKED, SAID], "a call of call_2_1 has no result before turn 3"),
    ([ASKED, called(), {**ANSWERED[0], "tool_call_id": "z"}, SAID], "the result of a call 'z'"),
    ([SYSTEM, SYSTEM, ASKED, called(), *ANSWERED], "only the first message may be a system message"),
    ([SYSTEM, ASKED, called(), ANSWERED[0], SYSTEM, SAID], "only the first message may be a system message"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "reason"), BAD)
def test_calls_and_results_that_do_not_fit_are_refused_by_name(tmp_path: Path, messages: Any, reason: str) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, {"tools": [WEATHER], "messages": messages})
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        (None, "turn 2 calls weather, and the row defines no tools"),
        ([{"name": "other"}], "turn 2 calls weather, which is none of the row's tools"),
        ([WEATHER, WEATHER], "`tools` defines weather twice"),
        ([{"description": "x"}], "`tools` holds a tool without a name"),
        ("{", "`tools` is not JSON"),
        ([{"name": "weather", "parameters": {"type": "object", "required": 3}}], "are not a JSON Schema"),
    ],
)
def test_tools_that_can_not_be_used_are_refused_by_name(tmp_path: Path, tools: Any, reason: str) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, {"tools": tools, "messages": [ASKED, called(), *ANSWERED]})
    assert reason in str(error.value)


def test_openfunctions_rows_become_tool_rows() -> None:
    from tools.openfunction_rows import tool_row

    prompt = (
        "Construct a call:\n\nQuestion: A shop in Ulm?\n\nFunction to be used: shop.find\nDescription: Finds shops.\n"
        "Parameters:\n1. city - A city\n2. open - Open now\nRequired: [city]\n\nFormat your response as a string."
    )
    made = tool_row({"instruction": prompt, "output": "shop.find(city='Ulm', open=True)"})
    assert isinstance(made, dict)
    (tool,) = json.loads(made["tools"])
    assert tool["function"]["parameters"]["required"] == ["city"]
    asked, answered = made["messages"]
    assert asked["content"] == "A shop in Ulm?"
    assert answered["tool_calls"][0]["function"]["arguments"] == {"city": "Ulm", "open": True}
    for output in ("shop.open(city='Ulm')", "shop.find(open=True)", "shop.find(city=town)", "Ulm", "shop.find(x=1)"):
        assert isinstance(tool_row({"instruction": prompt, "output": output}), str)


def test_each_row_has_its_own_tools(tmp_path: Path) -> None:
    """A call of a tool that only another row defines is refused with its place."""
    first = {"tools": [WEATHER], "messages": [ASKED, called()]}
    other = {**WEATHER["function"], "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}
    second = {"tools": [other], "messages": [ASKED, called({"town": "Ica"})]}
    third = {"messages": [ASKED, SAID]}
    rows = read(tmp_path, first, second, third)
    assert [list(row.messages[0].tools) for row in rows] == [[WEATHER], [{"type": "function", "function": other}], []]
    assert [dict(row.messages[1].tool_calls[0].arguments) for row in rows[:2]] == [{"city": "Lima"}, {"town": "Ica"}]
    with pytest.raises(DataError) as error:
        read(tmp_path, first, {**second, "tools": [{"name": "clock"}]})
    assert "line 2: turn 2 calls weather, which is none of the row's tools" in str(error.value)


def test_a_text_about_tool_calls_is_text_in_a_row_without_tools(tmp_path: Path) -> None:
    (conversation,) = read(tmp_path, {"messages": [ASKED, {**SAID, "content": TEXT_CALL}]})
    assert conversation.messages[1] == Message("assistant", TEXT_CALL)


def test_a_reply_is_written_and_read_without_loss() -> None:
    calls = (FunctionCall("f", {"a": "</tool_call>", "b": [1, {"c": None}]}), FunctionCall("f", {}))
    assert read_reply(write_reply("Wait.", calls)) == ("Wait.", calls)
    assert read_reply("No call.\n") == ("No call.\n", ())
    for broken in ("<tool_call>", "<tool_call>{</tool_call>", '<tool_call>{"name": 1, "arguments": {}}</tool_call>'):
        with pytest.raises(ValueError, match="a tool call that"):
            read_reply(broken)


def test_rows_of_earlier_versions_are_read() -> None:
    row = {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "extra": {},
        "reasoning": [1],
    }
    assert Conversation.from_json(row).messages == (Message("user", "q"), Message("assistant", "a"))
    assert Conversation.from_json(row).to_json() == {"messages": row["messages"], "extra": {}}


def test_rows_for_which_init_chooses_a_grader(tmp_path: Path) -> None:
    from selfdistill.pipeline.new_recipe import write_recipe

    row = {"tools": [WEATHER], "messages": [ASKED, called()]}
    (tmp_path / "d.jsonl").write_text((json.dumps(row) + "\n") * 30, encoding="utf-8")
    said = write_recipe("demo", str(tmp_path / "d.jsonl"), tmp_path / "r.yaml")
    assert "grader: tool_calls (all responses call tools)" in said
    text = (tmp_path / "r.yaml").read_text(encoding="utf-8")
    assert "    - heldout\n    - tool_calls\n" in text


def test_init_writes_tools_as_text_for_a_template_that_ignores_them(tmp_path: Path) -> None:
    """Only then; for a model that is not on this machine the setting is a comment."""
    from selfdistill.pipeline.new_recipe import write_recipe
    from selfdistill.recipe import load_recipe

    path, model = tmp_path / "d.jsonl", tmp_path / "model"
    path.write_text((json.dumps({"tools": [WEATHER], "messages": [ASKED, called()]}) + "\n") * 30, encoding="utf-8")
    tiny_model(model, chat_template=source("qwen2_5"))

    def init(name: str) -> tuple[str, str, list[str]]:
        said = write_recipe(name, str(path), tmp_path / "r.yaml", force=True)
        text = (tmp_path / "r.yaml").read_text(encoding="utf-8")
        return load_recipe(tmp_path / "r.yaml").model.tools_in, text, said

    setting, text, said = init("demo")
    assert setting == "system"
    assert "  tools_in: system          # the model's chat template leaves out the definitions of tools" in text
    assert any("leaves out the definitions of tools; so tools_in: system is set" in line for line in said)
    for name in (str(model), "org/model"):
        setting, text, said = init(name)
        assert setting == "template"
        assert "  # tools_in: system" in text
        load_recipe(tmp_path / "r.yaml", ["model.tools_in=system"])
    path.write_text('{"question": "2+2?", "answer": "4"}\n' * 30, encoding="utf-8")
    assert "tools_in" not in init("demo")[1]
