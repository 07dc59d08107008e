"""The fake backend: a pure function of the prompt, most of whose rewrites pass and some of which fail in each way."""

from __future__ import annotations

from collections import Counter

import pytest

from selfdistill.backends import open_backend
from selfdistill.errors import RecipeError
from selfdistill.generation.prompts import REWRITING, rewriting_messages
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.types import Completion, Example, Message, Prompt

MODEL = ModelConfig(path="nowhere")
SAMPLING = Sampling(max_new_tokens=100)


def answers(prompts: list[Prompt], sampling: Sampling = SAMPLING, done: tuple[str, ...] = ()) -> list[Completion]:
    with open_backend("fake", MODEL) as backend:
        return list(backend.generate(prompts, sampling, done))


@pytest.mark.parametrize("template", REWRITING)
def test_rewrites_hold_the_reference_and_a_share_fails(template: str) -> None:
    examples = [Example.of((Message("user", f"Add {i}\n\n### and 1"),), f"{i} + 1\n= {i + 1}") for i in range(800)]
    prompts = [Prompt(example.id, rewriting_messages(REWRITING[template], example)) for example in examples]
    found = answers(prompts)
    assert found == answers(prompts)
    assert sorted(found, key=lambda c: c.id) == sorted(answers(prompts[::-1]), key=lambda c: c.id)
    whole = sum(
        completion.finish == "stop" and completion.text.endswith(example.reference)
        for example, completion in zip(examples, found, strict=True)
    )
    assert 500 < whole < 700
    finishes = Counter(completion.finish for completion in found)
    assert min(finishes["stop"], finishes["length"], finishes["error"]) > 20
    assert 20 < sum(completion.text == "" for completion in found if completion.finish == "stop") < 100
    assert all((completion.error is not None) == (completion.finish == "error") for completion in found)


def test_other_prompts_are_answered_with_their_last_line() -> None:
    found = answers([Prompt(str(i), (Message("user", "One\nTwo words"),)) for i in range(32)])
    assert Completion("9", "Two words", "stop", 3) in found or any(c.text == "Two words" for c in found)


def test_done_prompts_are_left_out_and_long_answers_cut() -> None:
    prompts = [Prompt(str(i), (Message("user", "a b c d"),)) for i in range(64)]
    assert [c.id for c in answers(prompts, done=("1", "3"))] == [p.id for p in prompts if p.id not in ("1", "3")]
    assert all(c.tokens <= 2 and len(c.text.split()) <= 2 for c in answers(prompts, Sampling(max_new_tokens=2)))


def test_answers_stream() -> None:
    def endless() -> object:
        i = 0
        while True:
            yield Prompt(str(i), (Message("user", "hi"),))
            i += 1

    with open_backend("fake", MODEL) as backend:
        stream = backend.generate(endless(), SAMPLING)  # type: ignore[arg-type]
        assert [next(stream).id for _ in range(3)] == ["0", "1", "2"]


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(RecipeError, match="There is no backend 'gpu'; choose one of hf, vllm, openai"):
        open_backend("gpu", MODEL)
