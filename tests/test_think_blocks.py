"""One property over the thinking templates that TRL ships and over small ones of the structure of others: before the
first trained token stand exactly the tokens of the prompt in generation, for a masked block also the block; every
trained token could be generated; the trace and the answer can be read back; one end of turn is trained, nothing after.
"""

from __future__ import annotations

import functools
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_templates import NO_SWITCH, OWN, SWITCHED, tokenizer
from support.tiny import CHATML, tiny_tokenizer

from selfdistill.backends.parse import in_one_form, trace_tokens
from selfdistill.errors import RenderError
from selfdistill.grading.traces import opened, split
from selfdistill.models.renderer import Renderer
from selfdistill.types import Completion, FunctionCall, Message, Messages, Thought, read_reply, write_reply

THINKING = sorted({*SWITCHED, *NO_SWITCH, "gemma4 on", "qwen3_5_nothink on"})
TURNED_ON = {"gemma4 on": {"enable_thinking": True}, "qwen3_5_nothink on": {"enable_thinking": True}}
LIMITED = ("magistral", "deepseek v3.1", "seed-oss")  # no system role, or no turns, in our small template


@functools.cache
def thinking(name: str) -> Renderer:
    return Renderer(tokenizer(name.removesuffix(" on")), template_kwargs=TURNED_ON.get(name))


def test_these_templates_think() -> None:
    for name in THINKING:
        assert thinking(name).thinks, name
        assert thinking(name).block is not None, name


PIECES = [*"TheItis4. \n>]é", "<|im_end|>", "</s>", "Wait, no."]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
THOUGHTS = st.none() | st.builds(Thought, TEXTS, st.booleans())


@pytest.mark.parametrize("name", THINKING)
@settings(max_examples=25)
@given(question=st.text(min_size=1, max_size=8), response=TEXTS, thought=THOUGHTS, earlier=st.booleans())
def test_a_thought_and_its_response_are_trained_where_the_model_would_generate_them(
    name: str, question: str, response: str, thought: Thought | None, earlier: bool
) -> None:
    render = thinking(name)
    turns: Messages = (Message("user", "Hi"), Message("assistant", "It is 4.", "Two twos.")) if earlier else ()
    prompt = (*turns, Message("user", question))
    try:
        ids = render.ids(prompt)
    except RenderError:
        assert name in LIMITED
        return
    row = render.response_row(prompt, response, thought)
    start = row.trained.index(True)
    assert all(row.trained[start:])
    trained = row.input_ids[start:]
    assert [token in render.stop_ids for token in trained] == [False] * (len(trained) - 1) + [True]
    assert trained[-1] == render.end_of_turn
    assert row.input_ids[: len(ids)] == ids
    block = row.input_ids[len(ids) : start]
    written = thought.text.strip() if thought else ""
    assert bool(block) == (thought is None or not thought.trained), "only a masked block stands before what is trained"
    asked, reply = decoded(render, ids), decoded(render, [*block, *trained[:-1]])
    mark = opened(asked)
    assert not block or decoded(render, trained[:-1]).strip() == response.strip()
    if response.strip():
        found = split(mark + reply)
        assert found.answer is not None
        assert (found.reasoning, found.answer.strip()) == (written, response.strip())
        assert trace_tokens([*block, *trained[:-1]], render, mark)[1]


def decoded(render: Renderer, ids: list[int]) -> str:
    return str(render.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


SHOWN = (
    "glm4moe",
    "qwen3",
    "qwen3_5_think",
    "qwen3_6",
    "nemotron_3_nano",
    "nemotron_3_super",
    "gptoss",
    "muse_glimmer",
)


@pytest.mark.parametrize("name", SHOWN)
def test_a_trained_thought_is_what_the_template_writes(name: str) -> None:
    """For templates that show the reasoning of the last turn."""
    render = thinking(name)
    prompt = (Message("user", "What is 2 + 2?"),)
    row = render.response_row(prompt, "It is 4.", Thought("Two twos.\n\nSo 4."))
    turn = {"role": "assistant", "content": "It is 4."} | dict.fromkeys(
        ("reasoning_content", "thinking"), "Two twos.\n\nSo 4."
    )
    chat = [{"role": "user", "content": "What is 2 + 2?"}, turn]
    whole = str(tokenizer(name).apply_chat_template(chat, tokenize=False))
    assert whole.startswith(decoded(render, row.input_ids[:-1]))


@pytest.mark.parametrize("name", THINKING)
def test_marks_of_a_trace_inside_a_trace_or_an_answer_are_refused(name: str) -> None:
    render, prompt = thinking(name), (Message("user", "Hi"),)
    assert render.block is not None
    for mark in render.block.marks:
        assert "which marks where" in str(render.untrainable(prompt, f"It {mark} is 4."))
        assert "which marks where" in str(render.untrainable(prompt, "It is 4.", Thought(f"Two {mark} twos.")))
    assert render.untrainable(prompt, "It is 4.", Thought("Two twos.")) is None


def test_text_in_front_of_a_mark_is_written_in_the_models_own_tokens() -> None:
    """The end of a sentence and the line break after it are one token in many vocabularies; cut apart, they would be
    tokens that the model does not generate there."""
    render = thinking("qwen3")
    whole = tokenizer("qwen3").encode("<think>\nThe answer is 4.\n</think>\n\nThe answer", add_special_tokens=False)
    row = render.response_row((Message("user", "Hi"),), "The answer", Thought("The answer is 4."))
    assert decoded(render, whole) == decoded(render, row.input_ids[row.trained.index(True) : -1])
    assert len(row.input_ids) - 1 - row.trained.index(True) <= len(whole) + 2, "at most the marks are cut off"


# ---- tools

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": PARAMETERS}}
CALL = FunctionCall("weather", {"city": "Lima"})
NATIVE = (
    "glm4moe", "qwen3", "qwen3_5_think", "qwen3_6", "qwen3_8", "nemotron_3_nano", "nemotron_3_super",
    "nemotron_3_ultra", "nemotron_3_5_lightning",
)  # fmt: skip


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("thought", [None, Thought("Lima is named."), Thought("Lima is named.", trained=False)])
def test_a_call_follows_the_think_block(name: str, thought: Thought | None) -> None:
    render, prompt = thinking(name), (Message("user", "How warm is Lima?", tools=(WEATHER,)),)
    row = render.response_row(prompt, write_reply("", [CALL]), thought)
    ids, start = render.ids(prompt), row.trained.index(True)
    assert row.input_ids[: len(ids)] == ids
    asked, reply = decoded(render, ids), decoded(render, row.input_ids[len(ids) : -1])
    completion = in_one_form(Completion("a", opened(asked) + reply, "stop"), (WEATHER,), render, asked)
    found = split(completion.text)
    assert found.reasoning == (thought.text if thought else "")
    assert read_reply(str(found.answer))[1] == (CALL,)
    assert bool(start > len(ids)) == (thought is None or not thought.trained)


@pytest.mark.parametrize("name", THINKING)
def test_tools_in_the_system_turn_are_plain_text_after_the_think_block(name: str) -> None:
    own = Renderer(tokenizer(name.removesuffix(" on")), template_kwargs=TURNED_ON.get(name), tools_in="system")
    prompt = (Message("user", "How warm is Lima?", tools=(WEATHER,)),)
    response = write_reply("", [CALL])
    try:
        row = own.response_row(prompt, response, Thought("Lima is named."))
    except RenderError:
        assert name in LIMITED
        return
    ids = own.ids(prompt)
    assert row.input_ids[: len(ids)] == ids
    assert decoded(own, ids).count('"description": "Of a city."') == 1
    found = split(opened(decoded(own, ids)) + decoded(own, row.input_ids[len(ids) : -1]))
    assert (found.reasoning, str(found.answer).strip()) == ("Lima is named.", response)


def test_a_call_that_is_only_thought_of_is_no_call() -> None:
    render = thinking("qwen3")
    text = '<think>\n<tool_call>\n{"name": "weather"}\n</tool_call>? No.\n</think>\n\nIt is warm.'
    completion = Completion("a", text, "stop")
    assert in_one_form(completion, (WEATHER,), render, "") == completion


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "nemotron_3_nano", "deepseek_r1_distill", "gptoss"])
def test_a_response_template_takes_a_reply_apart_as_the_table_does(name: str) -> None:
    from trl.chat_template_utils import add_response_schema

    own: Any = deepcopy(tokenizer(name))
    add_response_schema(own)
    render = Renderer(own)
    prompt = (Message("user", "Hi"),)
    row = render.response_row(prompt, "It is 4.", Thought("Two twos."))
    asked = render.text(prompt)
    reply = opened(asked) + decoded(render, row.input_ids[len(render.ids(prompt)) : -1])
    completion = in_one_form(Completion("a", reply, "stop"), (), render, asked)
    found = split(completion.text)
    assert (found.reasoning, found.answer) == ("Two twos.", "It is 4.")
    cut = in_one_form(Completion("a", reply[: reply.index("twos")], "length"), (), render, asked)
    assert split(cut.text).answer is None, "a trace that is cut off is not an answer"


# ---- turned off and on by rows and messages


def test_a_row_may_turn_thinking_off_and_its_reasoning_is_then_left_out() -> None:
    prompt = (Message("user", "Hi", template_kwargs={"enable_thinking": False}),)
    row = thinking("qwen3").response_row(prompt, "It is 4.", Thought("Two twos."))
    assert "Two twos." not in decoded(thinking("qwen3"), row.input_ids)
    assert decoded(thinking("qwen3"), row.input_ids).endswith("<think>\n\n</think>\n\nIt is 4.<|im_end|>")


def test_a_model_that_does_not_think_ignores_a_thought() -> None:
    render = Renderer(tiny_tokenizer(CHATML))
    prompt = (Message("user", "Hi"),)
    assert render.response_row(prompt, "It.", Thought("No.")) == render.response_row(prompt, "It.")


def test_a_prefill_follows_an_empty_block() -> None:
    text = thinking("qwen3").text((Message("user", "Hi"), Message("assistant", "It is")))
    assert text.endswith("<think>\n\n</think>\n\nIt is")
    assert "qwq" in OWN
    assert (
        thinking("qwq").text((Message("user", "Hi"), Message("assistant", "It"))).endswith("<think>\n\n</think>\n\nIt")
    )
