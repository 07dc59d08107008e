"""The demo's seed model: prompts, copies with other generation settings, adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

from selfdistill.demo import SEED
from selfdistill.demo.styles import downstream
from selfdistill.demo.world import draw
from selfdistill.generation.prompts import REWRITING, rewriting_messages
from selfdistill.types import Example, Message, Prompt


def demo_prompts(rows: int) -> list[Prompt]:
    """Rewriting prompts of maths problems. Their references have no spaces, so that the seed is not sure of its answers
    and draws differ."""
    rng = Random(1)
    items = [draw("maths_taught", rng) for _ in range(rows)]
    terse = [downstream(item.meaning).replace(" ", "").replace("####", "#### ") for item in items]  # type: ignore[arg-type]
    examples = [Example.of((Message("user", item.prompt),), text) for item, text in zip(items, terse, strict=True)]
    return [Prompt(example.id, rewriting_messages(REWRITING["using"], example)) for example in examples]


# Generation settings that would change every answer if a backend read them from the model folder.
STRONG_SETTINGS = {
    "do_sample": True,
    "temperature": 1.7,
    "top_k": 1,
    "top_p": 0.5,
    "min_p": 0.3,
    "repetition_penalty": 1.5,
    "presence_penalty": 1.5,
    "frequency_penalty": 1.5,
    "max_new_tokens": 5,
    "no_repeat_ngram_size": 2,
}
STRONGEST_SETTINGS = {
    **STRONG_SETTINGS,
    "min_new_tokens": 20,
    "suppress_tokens": [*range(60, 90)],
    "bad_words_ids": [[100], [101], [102]],
    "forced_bos_token_id": 95,
    "forced_eos_token_id": 96,
}


def seed_with(settings: dict[str, Any], folder: Path) -> str:
    """A copy of the seed with other generation settings and its own end-of-turn tokens."""
    shutil.copytree(SEED, folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}), encoding="utf-8")
    return str(folder)


def make_adapter(folder: Path, rank: int, targets: Any) -> str:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(rank)
        model = AutoModelForCausalLM.from_pretrained(SEED, dtype=torch.float32)
        adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets))
        for name, weights in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.3)
    adapted.save_pretrained(str(folder))
    return str(folder)
