"""The demo's world and seed model: what the seed may have seen, and that the shipped folder is a usable chat model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdistill.demo import SEED
from selfdistill.demo.world import DOWNSTREAM, SKILLS, SPLITS, examples
from tools.demo_seed.lessons import Lesson, lesson
from tools.demo_seed.other_styles import FORBIDDEN
from tools.demo_seed.thinking_lessons import thinking_lesson

Teach = Callable[[Random], Lesson]
both_seeds = pytest.mark.parametrize("teach", [lesson, thinking_lesson])


@pytest.mark.parametrize("skill", SKILLS)
def test_splits_share_no_prompt_and_hold_enough(skill: str) -> None:
    prompts = [{row["prompt"] for row in examples(skill, split, 250)} for split in SPLITS]
    assert [len(split) for split in prompts] == [250, 250, 250]
    assert len(set.union(*prompts)) == 750


@pytest.mark.parametrize("skill", SKILLS)
def test_examples_depend_on_the_seed_alone(skill: str) -> None:
    assert list(examples(skill, "dev", 20)) == list(examples(skill, "dev", 20))
    assert list(examples(skill, "dev", 20)) != list(examples(skill, "dev", 20, seed=1))


def test_examples_are_alike_in_every_process() -> None:
    code = "from selfdistill.demo.world import *; print([list(examples(s, 'test', 3)) for s in SKILLS])"
    first, second = (
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    )
    assert first == second


def test_unknown_skills_and_exhausted_ones_are_named() -> None:
    with pytest.raises(ValueError, match="no skill 'cooking'"):
        next(examples("cooking", "train", 1))
    with pytest.raises(ValueError, match="safety has fewer than"):
        list(examples("safety", "dev", 100_000))


def carries(skill: str, answer: str, response: str) -> bool:
    """Whether a response holds the answer, read in the plainest way."""
    if skill.startswith("maths"):
        return re.findall(r"\d+", response)[-1] == answer
    if skill.startswith("tool"):
        return answer in response.replace("'", '"')
    if skill == "code":
        exec(f"{response.split('```python')[1].split('```')[0]}\n{answer}", {})
        return True
    if skill == "lists":
        return response.rstrip(".").endswith(f": {answer}")
    if skill == "benign":
        return answer in response
    return answer == "refuse" and "I'm sorry, but I cannot" in response


@pytest.mark.parametrize("skill", SKILLS)
def test_every_response_carries_its_answer(skill: str) -> None:
    assert all(carries(skill, row["answer"], row["response"]) for row in examples(skill, "test", 250))


@both_seeds
def test_the_downstream_style_is_off_the_distribution_of_the_seed(teach: Teach) -> None:
    assert all(FORBIDDEN.search(row["response"]) for row in examples("maths", "train", 100))
    rng = Random(7)
    for row in (teach(rng) for _ in range(20_000)):
        assert not any(FORBIDDEN.search(text) for text in (row.response, *(m["content"] for m in row.messages)))


@both_seeds
def test_half_of_the_target_is_of_forms_that_the_seed_was_never_taught(teach: Teach) -> None:
    asked = [row["prompt"] for row in examples("maths", "test", 200)]
    new = [prompt for prompt in asked if re.search(r"Give (the|its) ", prompt)]
    assert 70 <= len(new) <= 130
    rng = Random(7)
    taught = [message["content"] for _ in range(5_000) for message in teach(rng).messages]
    assert not any(re.search(r"Give (the (?!last item)|its )", text) for text in taught)


@both_seeds
def test_the_seed_is_taught_no_prompt_that_it_is_asked(teach: Teach) -> None:
    asked = {row["prompt"] for skill in SKILLS for split in ("dev", "test") for row in examples(skill, split, 250)}
    rng = Random(7)
    assert not any(m["content"] in asked for _ in range(5_000) for m in teach(rng).messages)


def test_a_seed_can_be_made(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from tools.demo_seed.__main__ import main

    main(["--out", str(tmp_path), "--steps", "20"])
    assert AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters() < 8_000_000


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(SEED)


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_the_tokenizer_gives_back_any_text(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_chat_has_one_bos_and_ends_its_turn_with_a_stop_token(tokenizer: Any) -> None:
    from transformers import GenerationConfig

    chat = [{"role": role, "content": "Hi"} for role in ("system", "user", "assistant")]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    ids = tokenizer(text)["input_ids"]  # special tokens are asked for: even so there is one
    assert ids.count(tokenizer.bos_token_id) == 1
    assert text.endswith("Hi<|end|>\n")
    assert tokenizer.convert_tokens_to_ids("<|end|>") in GenerationConfig.from_pretrained(SEED).eos_token_id
    prompt = tokenizer.apply_chat_template(chat[:2], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt)


def test_the_shipped_seed_answers_in_its_own_style(tokenizer: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    assert sum(file.stat().st_size for file in SEED.iterdir()) < 10_000_000
    model = AutoModelForCausalLM.from_pretrained(SEED, dtype=torch.float32)
    rows = list(examples("lists", "test", 20)) + list(examples("safety", "test", 20))
    right = 0
    for row in rows:
        chat = [{"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(chat, return_tensors="pt", add_generation_prompt=True, return_dict=True)
        tokens = model.generate(**prompt, max_new_tokens=64)[0, prompt["input_ids"].shape[1] :]
        right += tokenizer.decode(tokens, skip_special_tokens=True) == row["response"]
    assert right >= 32
    assert DOWNSTREAM == ("maths", "tool_downstream")
