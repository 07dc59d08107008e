"""Calls are compared by value, in any order, and against their schemas; other turns by the recipe's grader."""

from typing import Any

import pytest

from selfdistill.generation.prompts import REWRITING, rewriting_messages
from selfdistill.grading import make_grader, verify
from selfdistill.recipe import Filters
from selfdistill.types import Completion, Example, FunctionCall, Message, write_reply

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "number"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = ({"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}},)
PROMPT = (Message("user", "How warm is it in Lima?", tools=TOOLS),)


def calls(*arguments: dict[str, Any], text: str = "", name: str = "weather") -> str:
    return write_reply(text, [FunctionCall(name, each) for each in arguments])


LIMA = {"city": "Lima", "days": 3}
BOTH = calls(LIMA, {"city": "Oslo"})


@pytest.mark.parametrize(
    ("reference", "text", "reason"),
    [
        (calls(LIMA), calls({"days": 3.0, "city": "Lima"}), None),
        (BOTH, calls({"city": "Oslo"}, LIMA), None),
        (calls(LIMA), calls(LIMA, text="Let me see."), None),
        (calls(LIMA, text="Let me see."), calls(LIMA), None),
        (calls(LIMA), calls({"city": "Lima", "days": True}), "arguments not valid against the schema"),
        (calls(LIMA), calls({"city": "Lima", "unit": "c"}), "arguments not valid against the schema"),
        (calls(LIMA), calls({"city": "Lima", "days": 4}), "arguments differ"),
        (calls(LIMA), calls({"city": "Lima"}), "arguments differ"),
        (calls(LIMA), calls(LIMA, LIMA), "other number of calls"),
        (BOTH, calls(LIMA), "other number of calls"),
        (calls(LIMA), calls(LIMA, name="climate"), "calls a tool that is not defined"),
        (calls(LIMA), "It is 19 degrees.", "calls no tool"),
        (calls(LIMA), "<tool_call>\n{'name'}\n</tool_call>", "a tool call that is not JSON with name and arguments"),
        ("Lima is in Peru.", calls(LIMA), "calls a tool, unlike the reference"),
    ],
)
@pytest.mark.parametrize("spec", ["tool_calls", "exact", "none"])
def test_calls_are_compared_by_value(reference: str, text: str, reason: str | None, spec: str) -> None:
    """Whatever grader the recipe names."""
    grade = make_grader(spec)(Example.of(PROMPT, reference), text)
    assert (grade.passed, grade.reason) == ((True, "same calls") if reason is None else (False, reason))
    assert grade.checked


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        *(({"multipleOf": 0.01}, value) for value in ("Infinity", "1e999", "NaN", "1" + "0" * 400)),
        *(({"uniqueItems": True}, value) for value in ("[Infinity]", "[1e999, 1]", "[NaN]")),
        ({}, "[" * 600 + "]" * 600),
    ],
)
def test_a_call_with_a_value_that_can_not_be_compared_fails(schema: dict[str, Any], value: str) -> None:
    parameters = {"type": "object", "properties": {"days": schema}}
    tools = ({"type": "function", "function": {"name": "weather", "parameters": parameters}},)
    example = Example.of((Message("user", "How warm is it?", tools=tools),), calls({"days": 3}))
    text = f'<tool_call>\n{{"name": "weather", "arguments": {{"days": {value}}}}}\n</tool_call>'
    assert make_grader("tool_calls")(example, text).outcome == "fail"


def test_the_recipes_grader_sees_turns_without_calls() -> None:
    example = Example.of(PROMPT, "It is 19.")
    assert make_grader("exact")(example, "It is 19.").reason == "same text"
    assert make_grader("exact")(example, "It is 20.").reason == "text differs"
    unchecked = make_grader("tool_calls")(example, "It is 20.")
    assert (unchecked.passed, unchecked.checked) == (True, False)


def test_facts_of_a_tools_result_are_facts_of_the_response() -> None:
    """And not of the question, so a rewrite must state them; others from the result may be stated too."""
    call = FunctionCall("weather", LIMA, "a")
    result = Message("tool", '{"temp": 19, "wind": 7}', tool_call_id="a")
    example = Example.of((*PROMPT, Message("assistant", "", tool_calls=(call,)), result), "It is 19 degrees.")
    grade = make_grader("facts")
    assert grade(example, "The temperature is 19, the wind 7.").reason == "same facts"
    assert not grade(example, "It is warm.").passed
    assert not grade(example, "It is 19 degrees at 1012 hPa.").passed


def verified(reference: str, text: str, **more: Any) -> str:
    completion = Completion("1", text, more.pop("finish", "stop"))
    return verify(Example.of(PROMPT, reference), completion, Filters(), make_grader("none")).reason


def test_filters_see_the_text_without_the_calls() -> None:
    assert verified(calls(LIMA), calls(LIMA)) == "same calls"
    assert verified(calls(LIMA), calls(LIMA, text="Wait.")) == "same calls"
    assert verified(calls(LIMA), calls(LIMA, text="<|im_end|>")) == "chat marker in the text"
    assert verified(calls(LIMA), calls(LIMA), finish="length") == "cut off at the limit"
    assert verified(calls(LIMA), "<tool_call>\n{") == "a tool call that never closes"
    assert verified("It is 19.", "I'm sorry, but I can't help with that.") == "refuses, unlike the reference"


def test_a_turn_is_rewritten_after_the_original_calls_and_results() -> None:
    call = FunctionCall("weather", LIMA, "a")
    history = (*PROMPT, Message("assistant", "", tool_calls=(call,)), Message("tool", "19", tool_call_id="a"))
    asked = rewriting_messages(REWRITING["own-words"], Example.of(history, "It is 19."))
    assert asked[0].tools == TOOLS
    assert [message.role for message in asked] == ["user", "assistant", "user"]
    assert (
        f"{PROMPT[0].content}\n\nYou have made these calls already, with these results:\n{calls(LIMA)}"
        in asked[-1].content
    )
    assert "<tool_response>\n19\n</tool_response>" in asked[-1].content
    (asked,) = rewriting_messages(REWRITING["own-words"], Example.of(PROMPT, calls(LIMA)))
    assert "Answer with this call" in asked.content
    assert asked.tools == TOOLS
    under = (Message("system", "Be brief.", tools=TOOLS), Message("user", "How warm?"))
    system, *_ = rewriting_messages(REWRITING["math"], Example.of(under, "19"))
    assert system.content.endswith("Be brief.")
    assert system.tools == TOOLS
