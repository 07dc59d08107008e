"""Rendering: one function gives generation and training the same tokens, for the kinds of chat template there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import CHATML, NO_SYSTEM, tiny_tokenizer

from selfdistill.errors import ModelError, RecipeError, RenderError
from selfdistill.generation.prompts import REWRITING, RewritingTemplate, load_template, rewriting_messages
from selfdistill.models.renderer import Renderer
from selfdistill.models.slots import fill
from selfdistill.types import Example, Message, Messages

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}<|end|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if m.role == 'user' %}{{ bos_token }}[INST] "
    "{{ (system if loop.first else '') + m.content }} [/INST]{% else %} {{ m.content }} {{ eos_token }}"
    "{% endif %}{% endfor %}"
)
GEMMA = (
    NO_SYSTEM + "{{ bos_token }}{% for m in messages %}<|start|>{{ 'model' if m.role == 'assistant' else 'user' }}\n"
    "{{ m.content | trim }}<|eot|>\n{% endfor %}{% if add_generation_prompt %}<|start|>model\n{% endif %}"
)
DROPS_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}<|start|>{{ m.role }}\n{{ m.content }}<|eot|>{% endfor %}"
    + ("{% if add_generation_prompt %}<|start|>assistant\n{% endif %}")
)
TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>"),
    "llama3": (LLAMA3, "<|eot|>"),
    "llama2": (LLAMA2, "</s>"),
    "gemma": (GEMMA, "<|eot|>"),
    "drops system": (DROPS_SYSTEM, "<|eot|>"),
}
SPECIAL = ("<|start|>", "<|end|>", "<|eot|>")

U1, A1, U2, A2 = (
    Message("user", "What is {x}?"),
    Message("assistant", "It is 4."),
    Message("user", "And héllo 2 "),
    Message("assistant", "Five\n"),
)
SYSTEM = Message("system", "Be terse.")


def renderer(name: str, chat_template: str = "chat", adds_bos: bool = False) -> Renderer:
    template, eos = TEMPLATES[name]
    return Renderer(tiny_tokenizer(template, eos=eos, special=SPECIAL, adds_bos=adds_bos), chat_template)


def trained_text(render: Renderer, prompt: Messages, response: str) -> str:
    """What loss is taken on."""
    row = render.response_row(prompt, response)
    return str(render.tokenizer.decode(row.input_ids[row.trained.index(True) :]))


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [(U1,), (SYSTEM, U1), (U1, A1, U2), (SYSTEM, U1, A1, U2)])
def test_training_has_the_prompt_tokens_that_generation_sees(name: str, prompt: Messages, adds_bos: bool) -> None:
    render = renderer(name, adds_bos=adds_bos)
    row = render.response_row(prompt, A2.content)
    ids = render.ids(prompt)
    assert row.input_ids[: len(ids)] == ids
    after = row.trained[len(ids) :]
    assert after[0], "the response's first token is trained"
    assert not row.trained[len(ids) - 1], "the prompt's last token is not"
    assert row.input_ids[len(ids) + after.count(True) - 1] in render.stop_ids, "the last trained token ends the turn"


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("name", ["llama3", "llama2", "gemma"])
def test_bos_is_not_doubled(name: str, adds_bos: bool) -> None:
    render = renderer(name, adds_bos=adds_bos)
    bos = render.tokenizer.bos_token_id
    assert render.ids((U1,)).count(bos) == 1
    assert render.response_row((U1,), A1.content).input_ids.count(bos) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", "Five\n<|im_end|>"),
        ("llama3", "Five<|eot|>"),
        ("llama2", " Five\n </s>"),
        ("gemma", "Five<|eot|>"),
    ],
)
def test_loss_is_on_a_response_and_its_end_of_turn_alone(name: str, expected: str) -> None:
    assert trained_text(renderer(name), (SYSTEM, U1, A1, U2), A2.content) == expected


@pytest.mark.parametrize("answer", ["e", "im", "end", "d", "|", "user", "What"])
def test_an_answer_is_not_taken_for_a_part_of_the_template(answer: str) -> None:
    assert trained_text(renderer("chatml"), (U1,), answer) == f"{answer}<|im_end|>"


def test_a_template_whose_generation_prompt_stops_early_is_completed() -> None:
    """What stands in front of every answer belongs to the prompt."""
    template = "{% for m in messages %}<|start|>{{ m.role }}<|end|>{{ m.content }}<|eot|>{% endfor %}"
    render = Renderer(tiny_tokenizer(template, eos="<|eot|>", special=SPECIAL))
    assert render.text((U1,)).endswith("<|start|>assistant<|end|>")
    assert trained_text(render, (U1,), "Four.") == "Four.<|eot|>"


def test_an_ending_that_is_no_token_of_the_tokenizer_is_told() -> None:
    render = Renderer(tiny_tokenizer("{% for m in messages %}{{ m.role }}: {{ m.content }} ##\n{% endfor %}"))
    assert ["'##'" in warning for warning in render.warnings] == [True]
    assert trained_text(render, (U1,), "Four.") == "Four.<|im_end|>"


def test_an_ordinary_token_among_the_models_stop_ids_cuts_no_answer() -> None:
    tokenizer = tiny_tokenizer()
    letter = tokenizer.convert_tokens_to_ids("e")
    render = Renderer(tokenizer, stop_ids=[letter, tokenizer.eos_token_id])
    assert letter not in render.stop_ids
    assert [str(letter) in warning for warning in render.warnings] == [True]


@pytest.mark.parametrize("name", ["gemma", "drops system"])
def test_a_template_without_system_role_gets_it_in_the_user_turn(name: str) -> None:
    render = renderer(name)
    assert not render.has_system_role
    assert "Be terse.\n\nWhat is {x}?" in render.text((SYSTEM, U1))
    assert renderer("llama3").has_system_role


def test_a_prefill_is_continued() -> None:
    render = renderer("llama3")
    assert render.text((U1, Message("assistant", "Step 1: "))) == render.text((U1,)) + "Step 1: "


def test_special_tokens_in_data_keep_prompt_and_training_alike() -> None:
    render = renderer("chatml")
    prompt, answer = (
        Message("user", "Say <|im_end|> {reference}"),
        Message("assistant", "<|im_end|> and <s> are tokens"),
    )
    row = render.response_row((prompt,), answer.content)
    ids = render.ids((prompt,))
    assert row.input_ids[: len(ids)] == ids
    assert trained_text(render, (prompt,), answer.content) == "<|im_end|> and <s> are tokens<|im_end|>"
    assert row.input_ids[len(ids) :].count(render.end_of_turn) == 1, "the text ends no turn"


def test_a_response_that_the_tokenizer_cannot_write_is_refused() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "</s>", "What", "is", "It", "4"]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    render = Renderer(PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHATML, eos_token="</s>"))
    assert render.untrainable((Message("user", "Hi"),), "It") is None
    assert "decode to another text" in str(render.untrainable((Message("user", "Hi"),), "five"))
    with pytest.raises(RenderError, match="without loss"):
        render.response_row((U1,), "five")


def test_a_tokenizer_that_marks_the_start_of_a_text_marks_no_response() -> None:
    """As Llama 2's, which puts a space in front of every text: a response encoded by itself would begin with two."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    names = ["</s>", *sorted(set("▁[INST]hiok/\na"))]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}"
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=template + "</s>{% endif %}{% endfor %}", eos_token="</s>"
    )
    row = Renderer(fast).response_row((Message("user", "hi"),), "ok")
    assert fast.convert_ids_to_tokens(row.input_ids) == [*"▁[INST]▁hi▁[/INST]▁ok", "</s>"]


def test_alpaca_and_plain_render_as_documented() -> None:
    alpaca = renderer("llama3", "alpaca")
    assert alpaca.text((U1,)) == (
        "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nWhat is {x}?\n\n### Response:\n"
    )
    assert alpaca.text((U1, A1, U2)).endswith("It is 4.<|eot|>\n\n### Instruction:\nAnd héllo 2 \n\n### Response:\n")
    assert trained_text(alpaca, (U1, A1, U2), "Five\n") == "Five\n<|eot|>"
    plain = renderer("llama3", "plain")
    assert plain.text((U1,)) == "<s>What is {x}?\n\n"
    assert plain.text((SYSTEM, U1, A1, U2)) == "<s>Be terse.\n\nWhat is {x}?It is 4.<|eot|>\n\nAnd héllo 2 \n\n"
    assert trained_text(plain, (U1,), "It is 4.") == "It is 4.<|eot|>"


def test_a_chat_template_can_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "chat.jinja"
    path.write_text("{% for m in messages %}({{ m.content }}){% endfor %}")
    assert renderer("chatml", str(path)).text((U1, A1, U2)) == "(What is {x}?)(It is 4.)(And héllo 2 )("
    with pytest.raises(RecipeError, match="neither chat nor alpaca nor a Jinja file"):
        renderer("chatml", str(tmp_path / "none.jinja"))


def test_a_model_without_chat_template_is_called_a_base_model() -> None:
    with pytest.raises(ModelError, match="base model"):
        Renderer(tiny_tokenizer(None))
    assert "### Instruction:" in Renderer(tiny_tokenizer(None), "alpaca").text((U1,))


@given(st.text(), st.text(), st.text())
def test_fill_is_one_pass(instruction: str, reference: str, around: str) -> None:
    template = around.replace("{instruction}", "").replace("{reference}", "") + "{instruction}|{reference}"
    head = template.removesuffix("{instruction}|{reference}")
    slots = {"instruction": instruction, "reference": reference}
    assert fill(template, slots).startswith(fill(head, slots))
    assert fill("{instruction}|{reference}", slots) == f"{instruction}|{reference}"


def test_fill_leaves_slots_and_braces_in_the_data_alone() -> None:
    slots = {"instruction": "{reference} {0} {{x}}", "reference": "{instruction}\\1 {"}
    assert fill("{a} {instruction} {reference} {}", slots) == "{a} {reference} {0} {{x}} {instruction}\\1 { {}"


def test_rewriting_messages_show_instruction_and_reference_and_keep_earlier_turns() -> None:
    example = Example.of((SYSTEM, U1, A1, U2), "Five {instruction}")
    messages = rewriting_messages(REWRITING["math"], example)
    assert [message.role for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[0].content.endswith("\n\nBe terse.")
    assert messages[1:3] == (U1, A1)
    assert U2.content in messages[3].content
    assert "Five {instruction}" in messages[3].content
    assert messages[4].content == REWRITING["math"].prefill


def test_a_rewriting_template_can_be_ones_own(tmp_path: Path) -> None:
    text, settings, bad = tmp_path / "own.txt", tmp_path / "own.yaml", tmp_path / "bad.txt"
    text.write_text("{instruction} as {reference}")
    settings.write_text("user: '{instruction} as {reference}'\nprefill: 'So: '\n")
    bad.write_text("{instruction}")
    assert load_template(str(text)).user == "{instruction} as {reference}"
    assert load_template(str(settings)).prefill == "So: "
    with pytest.raises(RecipeError, match=r"no slot \{reference\}"):
        load_template(str(bad))
    with pytest.raises(RecipeError, match=r"There is no rewriting template 'usng'; did you mean 'using'\?"):
        load_template("usng")
    with pytest.raises(RecipeError, match="There is no rewriting template 'none'"):
        load_template("none")


def test_turns_before_the_user_turn_show_a_worked_example(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "before:\n- {role: user, content: '{instruction}'}\n- {role: assistant, content: '{reference}'}\n"
        "user: Again, in {words} words.\nsystem: 'You know: {reference}'\n"
    )
    messages = rewriting_messages(load_template(str(path)), Example.of((SYSTEM, U1, A1, U2), "one {words} three"))
    assert [(message.role, message.content) for message in messages] == [
        ("system", "You know: one {words} three\n\nBe terse."),
        (U1.role, U1.content),
        (A1.role, A1.content),
        ("user", U2.content),
        ("assistant", "one {words} three"),
        ("user", "Again, in 3 words."),
    ]
    path.write_text("before: [{role: user, content: '{instruction}'}]\nuser: 'More.'\n")
    with pytest.raises(RecipeError, match=r"no slot \{reference\}"):
        load_template(str(path))
    for turns in ("[hello]", "[{role: bot, content: Hello}]", "[{role: user}]"):
        path.write_text(f"before: {turns}\nuser: '{{instruction}} {{reference}}'\n")
        with pytest.raises(RecipeError, match="can't be used"):
            load_template(str(path))


@pytest.mark.parametrize("name", REWRITING)
@given(instruction=st.text(), reference=st.text())
def test_each_template_shows_instruction_and_reference_once(name: str, instruction: str, reference: str) -> None:
    plain = rewriting_messages(REWRITING[name], Example.of((Message("user", "<I>"),), "<R>"))
    messages = rewriting_messages(REWRITING[name], Example.of((Message("user", instruction),), reference))
    shown = "\n".join(message.content for message in plain)
    assert (shown.count("<I>"), shown.count("<R>")) == (1, 1)
    slots = {"<I>": instruction, "<R>": reference}
    expected = [re.sub("<[IR]>", lambda slot: slots[slot[0]], message.content) for message in plain]
    assert [message.content for message in messages] == expected


def test_a_template_is_known_by_what_its_turns_hold() -> None:
    shown = RewritingTemplate("Rewrite: {reference}", before=(Message("user", "Hello"), Message("assistant", "Hi")))
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    assert shown.to_json() == {"user": "Rewrite: {reference}", "system": None, "before": turns, "prefill": None}
