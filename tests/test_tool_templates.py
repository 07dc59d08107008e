"""The property of tests/test_chat_templates.py for rows with tools: each trained turn of a trajectory follows exactly
the prompt of generation, is what the model would write there, and ends once. What is trained can be read back."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_templates import USABLE, renderer, tokenizer

from selfdistill.errors import RenderError
from selfdistill.grading.traces import Trace, split
from selfdistill.models.call_notations import read_calls_of
from selfdistill.models.renderer import Renderer
from selfdistill.models.tool_turns import chat_of
from selfdistill.types import Conversation, FunctionCall, Message, Messages, read_reply, write_reply

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "more": {"type": "object"}},
    "required": ["city"],
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": PARAMETERS}}
ASKED = Message("user", "How warm is Lima?", tools=(WEATHER,))
LIMA = FunctionCall("weather", {"city": "Lima", "days": 3}, "a")
OSLO = FunctionCall("weather", {"city": 'O"slo: {x}', "more": {"list": [1, "b", True]}}, "b")

# Templates that show tools themselves; all others are refused for rows with tools unless tools_in is system.
NATIVE = {
    "diffusion_gemma", "gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "gemma4_v5", "glm4moe", "lfm2_v2", "llama3_1",
    "llama3_2", "nemotron_3_5_lightning", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra", "qwen2_5", "qwen3",
    "qwen3_5_nothink", "qwen3_5_think", "qwen3_6", "qwen3_8", "qwen3_instruct_2507", "qwen3_vl", "mistral tools",
    "phi-4-mini tools", "deepseek tools", "granite tools",
}  # fmt: skip
ONE_CALL = {"llama3_1", "llama3_2"}  # the template raises for parallel calls
NO_TEXT = {*ONE_CALL, "mistral tools"}  # the template leaves out a text next to calls
# The template's generation prompt after results lacks the header that it writes before a text there.
OTHER_HEADER = {"diffusion_gemma"}


def trajectory(*calls: FunctionCall, text: str = "") -> Conversation:
    """A chain of calls, a text, and a later turn of the user; the second call is context only."""
    results = [Message("tool", f"{call.arguments['city']}: 19", tool_call_id=call.id) for call in calls]
    return Conversation(
        (
            ASKED,
            Message("assistant", text, tool_calls=calls), *results,
            Message("assistant", "", tool_calls=(LIMA,)), Message("tool", "20", tool_call_id="a"),
            Message("assistant", "It is 20."),
            Message("user", "And in degrees of Fahrenheit?"), Message("assistant", "68."),
        ),
        untrained=(2 + len(results),),
    )  # fmt: skip


def check(render: Renderer, prompt: Messages, response: str) -> str:
    """The trained text, without the end of turn."""
    row = render.response_row(prompt, response)
    start = row.trained.index(True)
    assert row.input_ids[:start] == render.ids(prompt), "the tokens before the first trained one are the prompt"
    assert all(row.trained[start:])
    trained = row.input_ids[start:]
    assert [token in render.stop_ids for token in trained] == [False] * (len(trained) - 1) + [True]
    text = str(render.tokenizer.decode(trained[:-1], clean_up_tokenization_spaces=False))
    content, calls = read_reply(render.normal_text(text, render.text(prompt), prompt[0].tools))
    wanted, named = read_reply(response)
    assert content.strip() == wanted.strip()
    assert [(call.name, call.arguments) for call in calls] == [(call.name, call.arguments) for call in named]
    return text


def written(name: str, render: Renderer, messages: Messages) -> str:
    """The whole conversation as the template writes it."""
    chat = chat_of(messages, arguments_as_text=name == "deepseek tools")
    kwargs = {"tools": list(messages[0].tools), **USABLE[name]}
    return str(tokenizer(name).apply_chat_template(chat, tokenize=False, **kwargs))


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_each_trained_turn_of_a_trajectory_is_what_the_template_writes(name: str) -> None:
    render = renderer(name)
    for conversation in (
        trajectory(LIMA),
        trajectory(OSLO),
        *([] if name in ONE_CALL else [trajectory(LIMA, OSLO)]),
        *([] if name in NO_TEXT else [trajectory(OSLO, text="Wait.")]),
    ):
        examples = conversation.examples()
        assert len(examples) == 3, "one row per turn that is trained on"
        for example in examples:
            text = check(render, example.prompt, example.reference)
            content, calls = read_reply(example.reference)
            named = tuple(replace(call, id=str(place)) for place, call in enumerate(calls))
            whole = written(name, render, (*example.prompt, Message("assistant", content, tool_calls=named)))
            prompt = render.text(example.prompt)
            if name in OTHER_HEADER and example.prompt[-1].role == "tool":
                whole = prompt + whole[len(prompt) :].removeprefix("<|turn>model\n")
            assert whole.startswith(prompt + text)


@pytest.mark.parametrize("name", sorted(USABLE.keys() - {"single-turn"}))
def test_tools_in_the_system_turn_are_plain_text_for_every_template(name: str) -> None:
    render = Renderer(tokenizer(name), template_kwargs=USABLE[name], tools_in="system")
    for example in trajectory(LIMA, OSLO, text="Wait.").examples():
        assert check(render, example.prompt, example.reference).strip() == example.reference
        text = render.text(example.prompt)
        assert text.count('"description": "Of a city."') == 1
        assert text.count("<tool_response>") == sum(message.role == "tool" for message in example.prompt)


@pytest.mark.parametrize("name", sorted(USABLE.keys() - NATIVE))
def test_a_template_that_ignores_tools_is_refused_with_the_setting(name: str) -> None:
    for ask in (renderer(name).text, lambda prompt: renderer(name).response_row(prompt, "It is 20.")):
        with pytest.raises(RenderError, match=r"tools.*set model\.tools_in to system"):
            ask((ASKED,))


RAISES = "{{ raise_exception('Not here') }}"
CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (f"{{% if tools %}}{RAISES}{{% endif %}}{CHAT}{END}", r"can't show tools \(.*Not here\)"),
        (f"{{{{ tools | tojson }}}}{CHAT}{{% if m.tool_calls %}}{RAISES}{{% endif %}}{END}",
         r"can't show calls of tools \(.*Not here\)"),
        (f"{{{{ tools | tojson }}}}{CHAT}{{% if m.role == 'tool' %}}{RAISES}{{% endif %}}{END}",
         r"can't show calls of tools \(.*Not here\)"),
        (f"{{{{ tools | tojson }}}}{CHAT}{END}", r"can't show calls of tools \(.*can be read back\)"),
    ],
)  # fmt: skip
def test_a_template_that_raises_for_tools_is_refused_with_the_setting(template: str, problem: str) -> None:
    own = deepcopy(tokenizer("qwen2_5"))
    own.chat_template = template
    with pytest.raises(RenderError, match=rf"{problem}, and the data has tools; set model\.tools_in to system"):
        Renderer(own).text((ASKED,))
    prompt = Renderer(own, tools_in="system").text((ASKED,))
    assert '"name": "weather"' in prompt


PIECES = [*"aé \n\"'\\:{}[],<>|/", "</tool_call>", "parameter"]
VALUES = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
MORE = st.dictionaries(st.sampled_from("ab"), st.booleans() | VALUES)


@pytest.mark.parametrize("name", sorted(NATIVE))
@settings(max_examples=10)
@given(city=VALUES, days=st.integers(-5, 10**6), more=MORE)
def test_a_call_is_trained_so_that_it_can_be_read_back_or_refused(name: str, city: str, days: int, more: Any) -> None:
    response = write_reply("", [FunctionCall("weather", {"city": city, "days": days, "more": more})])
    reason = renderer(name).untrainable((ASKED,), response)
    if reason is None:
        check(renderer(name), (ASKED,), response)
    else:
        assert "read back" in reason or "special token" in reason or "marks" in reason or "decode" in reason, reason


def harmony(*parts: str) -> str:
    """Messages of gpt-oss, as it writes them after a prompt that ends with <|start|>assistant."""
    return "<|start|>assistant".join(parts)


@settings(max_examples=40)
@given(city=VALUES | st.just("to=functions.weather<|message|>{"), days=st.integers(-5, 10**6), more=MORE)
def test_calls_of_gpt_oss_are_read_back(city: str, days: int, more: Any) -> None:
    """As its chat template writes them, and as the model does, with an analysis, a preamble and parallel calls."""
    call = FunctionCall("weather", {"city": city, "days": days, "more": more})
    chat, own = chat_of((ASKED, Message("assistant", "", tool_calls=(call,)))), tokenizer("gptoss")
    kwargs = {"tools": [WEATHER], "tokenize": False}
    prompt = str(own.apply_chat_template(chat[:1], add_generation_prompt=True, **kwargs))
    whole = str(own.apply_chat_template(chat, **kwargs))
    assert whole.startswith(prompt)
    for text in (whole[len(prompt) :], whole[len(prompt) :].removesuffix("<|call|>")):
        assert read_calls_of(text, (WEATHER,)) == ("", [call])
    written = json.dumps(call.arguments)
    called = f"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{written}<|call|>"
    thought, said = "<|channel|>analysis<|message|>Lima.<|end|>", "<|channel|>commentary<|message|>Wait.<|end|>"
    assert read_calls_of(harmony(said, called, called), (WEATHER,)) == ("Wait.", [call, call])
    content, calls = read_calls_of(harmony(thought, said, called), (WEATHER,))
    assert (split(content), calls) == (Trace("Lima.", "Wait."), [call])


@pytest.mark.parametrize(
    "broken",
    ["to=functions.f<|channel|>commentary json<|message|>{", "<|channel|>commentary to=functions.f",
     "<|channel|>commentary to=functions.f <|constrain|>json<|message|>[1]"],
)  # fmt: skip
def test_a_call_of_gpt_oss_that_can_not_be_read_is_no_text(broken: str) -> None:
    with pytest.raises(ValueError, match="a tool call that can't be read"):
        read_calls_of(broken if broken.startswith("<") else f" {broken}", (WEATHER,))
    for text in ("<|channel|>final<|message|>Hello", "<|channel|>analysis<|message|>I call to=functions.f now.<|end|>"):
        assert read_calls_of(text, (WEATHER,)) == (text, [])


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_a_response_template_of_the_tokenizer_reads_the_same_calls(name: str) -> None:
    from trl.chat_template_utils import add_response_schema

    own = deepcopy(tokenizer(name))
    try:
        add_response_schema(own)
    except ValueError:
        pytest.skip("TRL has no response template for it")
    render = Renderer(own, template_kwargs=USABLE[name])
    for call in (LIMA, OSLO):
        check(render, (ASKED,), write_reply("", [call]))


def test_what_can_not_be_read_stays_a_call_that_no_part_takes_for_a_text() -> None:
    gemma = "<|tool_call>call:f{<tool_call|>"
    for text in ("<tool_call>{'name'}</tool_call>", "[TOOL_CALLS] [{]", "<tool_call>x", gemma):
        broken = renderer("qwen2_5").normal_text(text, "", (WEATHER,))
        with pytest.raises(ValueError, match="a tool call that"):
            read_reply(broken)
    assert renderer("qwen2_5").normal_text("It is {1}.", "", (WEATHER,)) == "It is {1}."


def test_a_call_with_a_special_token_is_refused() -> None:
    call = FunctionCall("weather", {"city": "<|im_end|>"})
    assert "special token" in str(renderer("qwen2_5").untrainable((ASKED,), write_reply("", [call])))


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "nemotron_3_nano", "glm4moe"])
def test_reasoning_is_shown_under_the_name_that_a_thinking_template_reads(name: str) -> None:
    """And left out if thinking is turned off."""
    thought = Message("assistant", "", reasoning="Lima is named.", tool_calls=(LIMA,))
    prompt = (ASKED, thought, Message("tool", "19", tool_call_id="a"))
    assert "Lima is named." in Renderer(tokenizer(name)).text(prompt)
    assert "Lima is named." not in renderer(name).text(prompt)


def test_template_arguments_of_a_row_are_used_for_that_row() -> None:
    template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}{{ tone }}"
    fast = deepcopy(tokenizer("qwen2_5"))
    fast.chat_template = template
    render = Renderer(fast, template_kwargs={"tone": "A"})
    assert render.text((Message("user", "Hi"),)).endswith("A")
    row = (Message("user", "Hi", template_kwargs={"tone": "B"}),)
    assert render.text(row).endswith("B")
    assert render.response_row(row, "x").input_ids[: len(render.ids(row))] == render.ids(row)
    on = (Message("user", "Hi", template_kwargs={"enable_thinking": True}),)
    with pytest.raises(RenderError, match="turn on the reasoning"):
        renderer("qwen3").text(on)
