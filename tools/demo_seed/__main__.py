"""Trains the demo's seed models: `python -m tools.demo_seed --out DIR --steps N --seed S`.

A seed is a Llama of about a million parameters with its own tokenizer, trained on nothing but the lessons. The number
of steps is fixed and all randomness is seeded. A step takes about a quarter of a second on one core. The shipped seed
was trained in three runs, the second and third with `--start`. The shipped seed that thinks and calls tools continues
this seed with `--thinking`; docs/log.md has the commands and the figures.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from .lessons import Lesson, lesson
from .thinking_lessons import thinking_lesson

STEPS = 6000
TOKENS_PER_STEP = 2000
VOCABULARY = 1536
COPY_STEPS = 300  # on repeated random tokens; without them the model hardly ever learns to copy
IGNORE = -100  # the label that the loss ignores

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
THINKING_TEMPLATE = Path(__file__).parent / "thinking.jinja"
MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]

Teach = Callable[[Random], Lesson]
"""Draws a lesson: `lesson` or `thinking_lesson`."""


def build_tokenizer(lessons: list[Lesson]) -> Any:
    """A byte-level BPE tokenizer. Words keep the space before them; each digit and punctuation mark is one token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}|[^\s\p{L}\p{N}]|\s"), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = (text for row in lessons for text in (*(m["content"] for m in row.messages), row.response))
    tokenizer.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=special[3:],
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=2048,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def teach_marks(model: Any, tokenizer: Any) -> None:
    """Gives a seed the tokens and the chat template of thinking and tools, if it lacks them."""
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken("<|tool|>", special=True)], special_tokens=True)
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    tokenizer.chat_template = THINKING_TEMPLATE.read_text(encoding="utf-8")
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)


def build_model(tokenizer: Any, seed: int) -> Any:
    """A small Llama with tied embeddings, in float32, randomly initialised."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")],
    )
    config._attn_implementation = "eager"  # twice as fast as SDPA in training on a CPU; not written to config.json
    return LlamaForCausalLM(config)


def load(folder: Path) -> tuple[Any, Any]:
    """A seed that was trained before, in float32, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model, AutoTokenizer.from_pretrained(folder)


def encode(tokenizer: Any, row: Lesson) -> tuple[list[int], list[int]]:
    """Token ids of the rendered chat, and labels. Only the response and its end of turn have labels."""
    prompt = tokenizer.apply_chat_template(row.messages, tokenize=False, add_generation_prompt=True, **row.arguments)
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answered = tokenizer(row.response + "<|end|>", add_special_tokens=False)["input_ids"]
    return asked + answered, [IGNORE] * len(asked) + answered


def batches(tokenizer: Any, teach: Teach, seed: int) -> Iterator[tuple[Any, Any]]:
    """Endless batches (ids, labels), each of shape (rows, longest row). Rows of similar length share a batch."""
    import torch

    rng = Random(f"lessons/{seed}")
    while True:
        rows = sorted((encode(tokenizer, teach(rng)) for _ in range(2000)), key=lambda row: len(row[0]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * len(row[0]) > TOKENS_PER_STEP:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            longest = max(len(ids) for ids, _ in group)
            ids = [row + [tokenizer.pad_token_id] * (longest - len(row)) for row, _ in group]
            labels = [row + [IGNORE] * (longest - len(row)) for _, row in group]
            yield torch.tensor(ids), torch.tensor(labels)


def copying(vocabulary: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Random tokens, repeated once: (ids, labels) of shape (24, 2 x length), with the loss on the repetition."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    while True:
        length = int(torch.randint(8, 48, (), generator=generator))
        ids = torch.randint(8, vocabulary, (24, length), generator=generator).repeat(1, 2)
        labels = ids.clone()
        labels[:, :length] = IGNORE
        yield ids, labels


def train(model: Any, tokenizer: Any, teach: Teach, steps: int, seed: int, copy_steps: int) -> float:
    """Trains in place: Muon for matrices, AdamW for the rest. Returns the mean loss of the last tenth of the steps."""
    import torch

    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=4e-3, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]

    def rate(step: int) -> float:  # constant, then linear to zero over the second half
        return min(1.0, (step + 1) / 20, max(0.0, 2 * (steps - step) / steps))

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    warm, taught = copying(len(tokenizer), seed), batches(tokenizer, teach, seed)
    losses: list[float] = []
    start = time.monotonic()
    model.train()
    for step in range(steps):
        ids, labels = next(warm if step < copy_steps else taught)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
            picked = labels[:, 1:] != IGNORE  # logits of the labelled tokens only: half the work
            logits = model.lm_head(hidden[picked])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][picked])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            recent = sum(losses[-100:]) / 100
            print(f"step {step + 1}/{steps}  loss {recent:.4f}  {time.monotonic() - start:.0f} s", flush=True)
    last = losses[-max(1, steps // 10) :]
    return sum(last) / len(last)


def fresh_loss(model: Any, tokenizer: Any, teach: Teach, seed: int) -> float:
    """The mean loss in float32 on lessons that were not trained on."""
    import torch

    losses: list[float] = []
    with torch.no_grad():
        for _, (ids, labels) in zip(range(20), batches(tokenizer, teach, seed + 1_000_003), strict=False):
            losses.append(model(input_ids=ids, labels=labels).loss.item())
    return sum(losses) / len(losses)


def save(model: Any, tokenizer: Any, out: Path) -> None:
    """Writes a folder that `transformers` loads, with the weights in bf16."""
    import torch
    from transformers import GenerationConfig

    model.config.dtype = torch.bfloat16
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")],
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.demo_seed", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many batches to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="continue from this seed model with other lessons")
    parser.add_argument("--thinking", action="store_true", help="teach traces of reasoning and calls of tools")
    args = parser.parse_args(argv)
    teach = thinking_lesson if args.thinking else lesson
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    torch.set_num_threads(1)  # more threads do not help a model this small, and one thread keeps the sums reproducible
    if args.start:
        model, tokenizer = load(args.start)
    else:
        rng = Random(f"tokenizer/{args.seed}")
        tokenizer = build_tokenizer([teach(rng) for _ in range(min(20_000, 100 * args.steps))])
        model = build_model(tokenizer, args.seed)
    if args.thinking:
        teach_marks(model, tokenizer)
    print(f"{model.num_parameters():,} parameters, vocabulary {len(tokenizer)}", flush=True)
    copy_steps = 0 if args.start else min(COPY_STEPS, args.steps // 4)
    loss = train(model, tokenizer, teach, args.steps, args.seed, copy_steps)
    before = fresh_loss(model.eval(), tokenizer, teach, args.seed)
    save(model, tokenizer, args.out)
    after = fresh_loss(model.float(), tokenizer, teach, args.seed)
    print(f"loss {loss:.4f}; on fresh lessons {before:.4f}, and {after:.4f} as cast to bf16; saved to {args.out}")


if __name__ == "__main__":
    main()
