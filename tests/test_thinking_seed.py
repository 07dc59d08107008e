"""The demo's seed that thinks and calls tools: its traces, its chats with tools, its template, and what it can do."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest

from selfdistill.demo import THINKING_SEED
from selfdistill.demo.chats import KINDS, chats
from selfdistill.demo.trace_style import HEDGES, trace
from selfdistill.demo.world import SPLITS, draw
from selfdistill.grading.traces import split
from selfdistill.models.renderer import Renderer
from selfdistill.models.tool_turns import chat_of
from selfdistill.tasks import get_task
from selfdistill.types import Example, Message, Messages, read_reply, tools_of
from tools.demo_seed.thinking_lessons import thinking_lesson

TASKS = ["demo-maths-other", "demo-calls", "demo-results"]


@pytest.mark.parametrize("kind", KINDS)
def test_splits_share_no_chat(kind: str) -> None:
    asked = [{chat[0].content + chat[-1].content for chat, _ in chats((kind,), part, 100)} for part in SPLITS]
    assert len(set.union(*asked)) == 300


@pytest.mark.parametrize("skill", ["maths", "maths_other"])
def test_the_sums_of_a_trace_are_true_and_lead_to_the_answer(skill: str) -> None:
    rng, doubts = Random(1), 0
    for item in (draw(skill, rng) for _ in range(300)):
        text = trace(item.meaning, rng)
        doubts += any(hedge in text for hedge in HEDGES)
        sums = re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)", text)
        results = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
        assert all(results[op](int(a), int(b)) == int(c) for a, op, b, c in sums)
        assert sums[-1][3] == item.answer
        assert len(sums) > len(item.meaning.steps) or not any(hedge in text for hedge in HEDGES)  # type: ignore[union-attr]
    assert 50 < doubts < 130


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(THINKING_SEED)


def test_the_template_thinks_unless_told_not_to_and_shows_tools(tokenizer: Any) -> None:
    render = Renderer(tokenizer)
    assert render.thinking.mode == "on"
    assert render.thinking.switch == {"enable_thinking": False}
    off = Renderer(tokenizer, template_kwargs={"enable_thinking": False})
    assert (off.thinking.mode, off.thinking.ending) == ("off", "</think>\n\n")
    asked, _ = next(chats(("result",), "test", 1))
    shown = render.text(asked)
    render.refuse_tools(asked)
    assert all(f"\n{tool['function']['name']}(" in shown for tool in tools_of(asked))
    assert f"<|tool|>\n{asked[-1].content}<|end|>\n<|assistant|>\n" in shown


def test_the_seed_learns_what_its_template_writes(tokenizer: Any) -> None:
    rng = Random(3)
    for row in (thinking_lesson(rng) for _ in range(300)):
        if "enable_thinking" in row.arguments:
            continue
        parts = split(row.response)
        content, calls = read_reply(parts.answer or "")
        turn = chat_of(
            [Message("assistant", content, reasoning=parts.reasoning, tool_calls=calls)], ["reasoning_content"]
        )
        whole = tokenizer.apply_chat_template([*row.messages, *turn], tokenize=False, **row.arguments)
        asked = tokenizer.apply_chat_template(row.messages, tokenize=False, add_generation_prompt=True, **row.arguments)
        assert whole == f"{asked}{row.response}<|end|>\n"


def answers(tokenizer: Any, asked: list[Messages], thinking: bool) -> list[str]:
    """The seed's greedy answers, in one batch."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(THINKING_SEED, dtype=torch.float32)
    render = Renderer(tokenizer, template_kwargs={} if thinking else {"enable_thinking": False})
    prompts = tokenizer(
        [render.text(chat) for chat in asked], padding=True, return_tensors="pt", add_special_tokens=False
    )
    found = model.generate(**prompts, max_new_tokens=160)[:, prompts["input_ids"].shape[1] :]
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in found]


def test_the_shipped_seed_thinks_and_calls_tools(tokenizer: Any) -> None:
    assert sum(file.stat().st_size for file in THINKING_SEED.iterdir()) < 3_000_000
    asked: list[tuple[str, Example]] = []
    for name in TASKS:
        task = get_task(name)
        assert task.test is not None
        asked += [(name, task.items(row)[0]) for row, _ in zip(task.load(task.test), range(20), strict=False)]
    for thinking in (True, False):
        passed = dict.fromkeys(TASKS, 0)
        traces = 0
        texts = answers(tokenizer, [example.prompt for _, example in asked], thinking)
        for (name, example), text in zip(asked, texts, strict=True):
            parts = split(text)
            traces += bool(parts.reasoning and parts.answer)
            passed[name] += get_task(name).grade(example, parts.answer or "").passed
        if thinking:
            assert traces >= 57
            assert min(passed.values()) >= 11, passed
            first = passed
        else:
            assert traces == 0
            assert sum(passed.values()) <= sum(first.values()) - 20, (first, passed)
