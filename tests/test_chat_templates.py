"""One property over the chat templates that TRL ships and over small ones of the structure of others: a response is
trained where the model would generate it, as the text that it is, with one end of turn and nothing after it.

Templates that let the model think have the same property: tests/test_think_blocks.py.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_templates import NO_SWITCH, OWN, PICTURES, PLAIN, SWITCHED, TRL, USABLE, renderer, tokenizer
from support.tiny import CHATML, tiny_tokenizer

from selfdistill.errors import ModelError, RenderError
from selfdistill.generation.prompts import REWRITING, rewriting_messages
from selfdistill.models.renderer import Renderer
from selfdistill.models.thinking import MARKS
from selfdistill.types import Example, Message, Messages


def test_every_template_that_trl_ships_is_known_here() -> None:
    shipped = {path.stem for path in TRL.glob("*.jinja")}
    known = {*PLAIN, *SWITCHED, *NO_SWITCH, *PICTURES}
    assert {name for name in shipped if not name.endswith("_training")} <= known
    assert {*OWN} <= known


@pytest.mark.parametrize("name", sorted(SWITCHED))
def test_reasoning_off_uses_the_templates_switch(name: str) -> None:
    off = Renderer(tokenizer(name), reasoning="off")
    assert off.template.arguments == SWITCHED[name]
    assert not off.thinks
    assert off.text((Message("user", "Hi"),)) == renderer(name).text((Message("user", "Hi"),))


@pytest.mark.parametrize("name", sorted(NO_SWITCH))
def test_reasoning_off_is_refused_by_a_template_without_a_switch(name: str) -> None:
    with pytest.raises(ModelError, match=r"has no switch for this, so model\.reasoning can't be off"):
        Renderer(tokenizer(name), reasoning="off")


def test_reasoning_without_marks_is_refused_with_the_switch() -> None:
    """Granite 3 writes plain headings before and after its thoughts."""
    on = Renderer(tokenizer("granite 3"), template_kwargs={"thinking": True})
    with pytest.raises(ModelError, match=r"no known marks show where.*model\.reasoning: off"):
        on.response_row((Message("user", "Hi"),), "Hello.")


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_a_template_that_leaves_out_a_text_message_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="leaves out the text of a user's message"):
        Renderer(tokenizer(name))


ALL_MARKS = sorted({mark for pair in MARKS for mark in pair})
PIECES = st.sampled_from([*"TheItis4. \n>]é", *ALL_MARKS, "</s>", "<s>", "<|im_end|>", "<|eot_id|>"])
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@pytest.mark.parametrize("name", sorted(USABLE))
@settings(max_examples=25)
@given(question=st.text(min_size=1, max_size=8), response=TEXTS, turns=st.booleans(), system=st.booleans())
def test_a_response_is_trained_where_the_model_would_generate_it(
    name: str, question: str, response: str, turns: bool, system: bool
) -> None:
    render = renderer(name)
    asked = Message("user", question)
    earlier: Messages = (Message("user", "Hi"), Message("assistant", "It is 4.")) if turns else ()
    prompt = (*((Message("system", "Be terse."),) if system else ()), *earlier, asked)
    try:
        ids = render.ids(prompt)
    except RenderError:  # a template for single turns; or a text that turns reasoning on
        assert name == "single-turn"
        assert turns or system
        return
    if any(mark in response for mark in render.thinking.marks):
        assert render.untrainable(prompt, response)
        with pytest.raises(RenderError, match="reasoning is turned off"):
            render.response_row(prompt, response)
        return
    row = render.response_row(prompt, response)
    start = row.trained.index(True)
    assert row.input_ids[:start] == ids, "the tokens before the first trained one are the prompt of generation"
    trained = row.input_ids[start:]
    assert all(row.trained[start:])
    assert [token in render.stop_ids for token in trained] == [False] * (len(trained) - 1) + [True]
    assert trained[-1] == render.end_of_turn
    text = render.tokenizer.decode(trained[:-1], clean_up_tokenization_spaces=False)
    assert text.strip() == response.strip()


@pytest.mark.parametrize("name", sorted(USABLE))
def test_a_prefill_stands_where_an_answer_may_start(name: str) -> None:
    """After the closed block of reasoning, and after all that the template puts in front of an answer."""
    example = Example.of((Message("user", "What is 2 + 2?"),), "It is 4.")
    messages = rewriting_messages(REWRITING["math"], example)
    if name == "single-turn":
        messages = messages[1:]
    prefill = REWRITING["math"].prefill
    assert prefill
    text = renderer(name).text(messages)
    assert text.endswith(prefill)
    before = text.removesuffix(prefill)
    assert before.rstrip() == renderer(name).text(messages[:-1]).rstrip()
    for opening, closing in MARKS[:6]:
        assert before.count(opening) <= before.count(closing), "no open block of reasoning"


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("phi3", "<|end|>"), ("phi3_5", "<|end|>"), ("gemma", "<end_of_turn>"), ("llama3", "<|eot_id|>"),
        ("cohere2", "<|END_RESPONSE|>"), ("qwen2_5", "<|im_end|>"), ("mistral", "</s>"), ("single-turn", "</s>"),
        ("glm4moe", "</s>"),
    ],
)  # fmt: skip
def test_the_template_says_what_ends_a_turn(name: str, end: str) -> None:
    """Not eos, which is </s> for all of these; without an ending in the template eos it is."""
    render = renderer(name)
    assert render.end_of_turn == render.tokenizer.convert_tokens_to_ids(end)
    assert {render.end_of_turn, render.tokenizer.eos_token_id} <= render.stop_ids


def test_no_token_spans_prompt_and_response() -> None:
    """Although the tokenizer has one for the end of this prompt and the start of this response."""
    render, prompt = renderer("llama3"), (Message("user", "Hi"),)
    ids, row = render.ids(prompt), render.response_row(prompt, "The answer")
    assert render.tokenizer.encode(render.text(prompt) + "The answer", add_special_tokens=False)[: len(ids)] != ids
    assert row.input_ids[: len(ids)] == ids
    assert render.tokenizer.decode(row.input_ids[len(ids) :]) == "The answer<|eot_id|>"


def test_a_text_that_turns_reasoning_on_is_refused() -> None:
    """As the templates of Nemotron 2 and SmolLM 3 do, which read /think in a message."""
    template = CHATML.replace(
        "assistant\n{% endif %}",
        "assistant\n{% if '/think' in messages[-1].content %}<think>\n{% else %}<think></think>{% endif %}{% endif %}",
    )
    fast = deepcopy(tokenizer("qwen2_5"))
    fast.chat_template = template
    render = Renderer(fast)
    assert render.thinking.mode == "off"
    assert render.text((Message("user", "Hi"),)).endswith("<think></think>")
    with pytest.raises(RenderError, match="turns on the reasoning"):
        render.text((Message("user", "Hi /think"),))


@pytest.mark.parametrize("body", ["{{ cycler() }}", "{{ '\\ud800' }}", "{{ 'x' * 10 ** 13 }}"])
def test_whatever_a_template_does_wrong_is_one_sentence(body: str) -> None:
    with pytest.raises(ModelError, match="can't be used, even for one message"):
        Renderer(tiny_tokenizer("{% for m in messages %}{{ m.content }}{% endfor %}" + body))


def test_a_byte_order_mark_in_a_template_file_is_not_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "t.jinja"
    path.write_text("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}", encoding="utf-8-sig")
    renderer = Renderer(tiny_tokenizer(), str(path))
    assert renderer.text((Message("user", "Hi"),)) == "Hi<|im_end|>"
