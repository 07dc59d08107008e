"""The gate on adapters that a plain TRL script made: one that forgot, and harmless ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.command import Done

from selfdistill.backends import open_backend
from selfdistill.demo import SEED
from selfdistill.demo.world import examples
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.types import Message, Prompt, content_id

Command = Callable[..., Done]
Row = tuple[str, str]
GATE = ("--suite", "demo", "model.dtype=float32", "evaluate.sampling.max_new_tokens=128", "shift.task=null")
OTHERS = ("maths_taught", "tool", "code", "lists", "benign", "safety")
"""Skills that the seed was taught: see `demo.world`."""


def fine_tune(rows: Sequence[Row], folder: Path, lr: float, seed: int = 0, epochs: int = 1) -> str:
    """A LoRA adapter of the demo's seed, as anyone's script trains it."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    chats = [
        {"prompt": [{"role": "user", "content": ask}], "completion": [{"role": "assistant", "content": answer}]}
        for ask, answer in rows
    ]
    settings = SFTConfig(
        output_dir=str(folder / "checkpoints"),
        learning_rate=lr,
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        max_length=512,
        seed=seed,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        logging_strategy="no",
        model_init_kwargs={"dtype": "float32"},
    )
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(str(SEED), args=settings, train_dataset=Dataset.from_list(chats), peft_config=lora)
    trainer.train()
    trainer.save_model(str(folder))
    return str(folder)


def originals(count: int) -> list[Row]:
    """Rows of the demo's target: solved in a style that the seed does not use."""
    return [(row["prompt"], row["response"]) for row in examples("maths", "train", count)]


def own_answers(count: int) -> list[Row]:
    """The seed's own answers to prompts of every kind that it knows."""
    asked = [row["prompt"] for skill in OTHERS for row in examples(skill, "train", count // len(OTHERS))]
    prompts = [Prompt(content_id(text), (Message("user", text),)) for text in dict.fromkeys(asked)]
    texts = {prompt.id: prompt.messages[0].content for prompt in prompts}
    model = ModelConfig(path="demo", dtype="float32", device="cpu")
    with open_backend("hf", model) as backend:
        answers = list(backend.generate(prompts, Sampling(max_new_tokens=128)))
    return [(texts[answer.id], answer.text) for answer in answers if answer.finish == "stop"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_model_tuned_on_the_originals_has_forgotten(command: Command, tmp_path: Path) -> None:
    adapter = fine_tune(originals(300), tmp_path / "vanilla", lr=8e-3, epochs=2)
    done = command("gate", "demo", adapter, *GATE, "--target", "demo-maths")
    assert done.code == 1, done.said


@pytest.fixture(scope="module")
def rehearsed() -> list[Row]:
    return own_answers(300)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_model_tuned_on_the_seeds_own_answers_is_never_said_to_have_forgotten(
    command: Command, tmp_path: Path, rehearsed: list[Row], seed: int
) -> None:
    adapter = fine_tune(rehearsed, tmp_path / "harmless", lr=1e-3, seed=seed)
    assert command("gate", "demo", adapter, *GATE).code in (0, 3)


@pytest.mark.parametrize(
    "sampling",
    [
        ("arms.candidate.sampling={temperature: 0.3, seed: 1}",),  # against greedy answers
        ("evaluate.sampling.temperature=0.7", "arms.candidate.sampling={seed: 1}"),  # against other draws
    ],
)
def test_the_seed_with_sampled_answers_is_never_said_to_have_forgotten(
    command: Command, sampling: Sequence[str]
) -> None:
    done = command("gate", "demo", "demo", *GATE, *sampling)
    assert done.code in (0, 3), done.said
