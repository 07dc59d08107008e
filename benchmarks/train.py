"""LoRA training of a random 30M Llama, or of `--model`, on GSM8K rows: ours against plain TRL and LLaMA-Factory.

Rows, tokens, model, LoRA settings, learning rate, dtype, threads and tokens per batch are the same. Each round trains
on its share of the rows for one epoch, every trainer in turn in a fresh process, and times only the training loop. The
figure is the median of the rounds' ratios of response tokens per second. The baselines recompute activations, which is
their default and not ours; `--same-checkpointing` turns that off. `--compiled` adds ours with `torch_compile`.

    python benchmarks/train.py --model FOLDER_OR_GGUF --task dolly --rows 64 --rounds 3 --llamafactory PYTHON
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llama30m import make_llama30m
from pairs import Row, training_examples

from selfdistill.models.loading import load_renderer
from selfdistill.models.renderer import Renderer
from selfdistill.models.source import model_source
from selfdistill.recipe import ModelConfig, TrainConfig
from selfdistill.types import Example, Message

HERE = Path(__file__).parent
LENGTH = 1024
UNPACKED = {"batch_size": 8, "packed": False}
# Ours lays a step's eight rows end to end; the other trainers fill packs of LENGTH, of which a step has two.
PACKED = {"batch_size": 8, "micro_batch_size": 8, "packed": True}
PACKS = {"batch_size": 2, "micro_batch_size": 1}


def question_rows(rows: int, task: str | None = None) -> list[dict[str, str]]:
    """The first question and answer of `training_examples`' conversations."""
    _, found = training_examples(rows, task)
    return [{"question": each.prompt[-1].content, "answer": each.reference} for each in found]


def fitting(rows: list[dict[str, str]], renderer: Renderer) -> list[dict[str, str]]:
    """The rows that fit into LENGTH tokens: the trainers cut or drop longer rows in different ways."""

    def tokens(row: dict[str, str]) -> int:
        return len(renderer.response_row((Message("user", row["question"]),), row["answer"]).input_ids)

    return [row for row in rows if tokens(row) <= LENGTH]


def template_of(renderer: Renderer) -> dict[str, Any]:
    """The chat template's text around a question, and an answer with what ends it, in LLaMA-Factory's notation."""
    content = "{{content}}"
    prompt = (Message("user", content),)
    answer = renderer.response_row(prompt, content).input_ids[len(renderer.ids(prompt)) :]
    written = renderer.tokenizer.decode(answer, skip_special_tokens=False)
    stops = renderer.tokenizer.convert_ids_to_tokens(sorted(renderer.stop_ids))
    return {"user": renderer.text(prompt), "assistant": written, "stop": stops}


def examples(job: dict[str, Any]) -> list[Example]:
    rows = json.loads(Path(job["folder"], job["rows"]).read_text(encoding="utf-8"))
    return [Example.of((Message("user", row["question"]),), row["answer"]) for row in rows]


def train_ours(job: dict[str, Any], **extra: Any) -> dict[str, Any]:
    from transformers import Trainer

    from selfdistill.training import train

    clock: list[float] = []
    inner = Trainer._inner_training_loop

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        done = inner(self, *args, **kwargs)
        clock.append(time.perf_counter() - start)
        return done

    Trainer._inner_training_loop = timed
    settings = TrainConfig(
        lr=job["lr"], epochs=1, batch_size=job["batch_size"], micro_batch_size=job["micro_batch_size"],
        max_length=LENGTH, packing=job["packed"], dtype="bfloat16" if job["bf16"] else "float32", extra=extra,
    )  # fmt: skip
    seen: list[float | None] = []  # None before the first step
    model = ModelConfig(path=job["model"], device=job.get("device", "cpu"))
    result = train(examples(job), model, settings, Path(job["folder"], "ours"), lambda *row: seen.append(row[2]))
    losses = [loss for loss in seen if loss is not None]
    return {
        "seconds": clock[0], "losses": losses, "trained_tokens": result.trained_tokens, "tokens": result.tokens,
        "peak_gib": result.peak_memory_gib,
    }  # fmt: skip


def train_trl(job: dict[str, Any]) -> dict[str, Any]:
    """TRL with its defaults, with the same token ids and labels."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from selfdistill.training.log import peak_memory_gib

    renderer = load_renderer(ModelConfig(path=job["model"]))
    rows = [renderer.response_row(example.prompt, example.reference) for example in examples(job)]
    labels = [[i if t else -100 for i, t in zip(row.input_ids, row.trained, strict=True)] for row in rows]
    config = SFTConfig(
        output_dir=str(Path(job["folder"], "trl")), per_device_train_batch_size=job["micro_batch_size"],
        gradient_accumulation_steps=job["batch_size"] // job["micro_batch_size"], learning_rate=job["lr"],
        lr_scheduler_type="cosine", num_train_epochs=1, logging_steps=1, max_length=LENGTH, packing=job["packed"],
        save_strategy="no", report_to="none", use_cpu=job.get("device", "cpu") == "cpu", bf16=job["bf16"], seed=0,
        data_seed=0, gradient_checkpointing=job["checkpointing"],
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(job["model"], dtype="float32"),
        args=config,
        train_dataset=Dataset.from_dict({"input_ids": [row.input_ids for row in rows], "labels": labels}),
        processing_class=renderer.tokenizer,
        peft_config=LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "seconds": seconds, "losses": losses, "trained_tokens": sum(i != -100 for row in labels for i in row),
        "tokens": sum(len(row.input_ids) for row in rows), "peak_gib": peak_memory_gib(),
    }  # fmt: skip


TRAINERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "ours": train_ours,
    "trl": train_trl,
    "compiled": partial(train_ours, torch_compile=True),
}


def run(name: str, python: str, job: dict[str, Any]) -> dict[str, Any]:
    """One training in a fresh process: response tokens per second, and the losses."""
    script = [str(HERE / "train_llamafactory.py")] if name == "llamafactory" else [__file__, "--one", name]
    sizes = PACKS if job["packed"] and name in ("trl", "llamafactory") else {}
    job = {**job, **sizes, "folder": tempfile.mkdtemp(dir=job["folder"])}
    Path(job["folder"], job["rows"]).write_text(json.dumps(job.pop("content")), encoding="utf-8")
    words = [python, *script, json.dumps(job)]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if "MEASURED" not in done.stdout:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.rpartition("MEASURED")[2])
    return {**found, "rate": found["trained_tokens"] / found["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or GGUF file (default: a random Llama of 30M parameters)")
    parser.add_argument("--task", help="whose training rows are trained on, such as dolly or gsm8k")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--micro-batch-size", type=int, default=2, help="rows a micro-batch, without packing")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--float32", action="store_true", help="instead of bfloat16")
    parser.add_argument("--llamafactory", help="python of an environment with llamafactory 0.9.5")
    parser.add_argument("--same-checkpointing", action="store_true", help="no gradient checkpointing in any trainer")
    parser.add_argument("--compiled", action="store_true", help="also ours with torch_compile")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("job", nargs="?", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print("\nMEASURED", json.dumps(TRAINERS[args.one](json.loads(args.job))))
        return
    names = ["ours", "trl", *(["llamafactory"] if args.llamafactory else []), *(["compiled"] if args.compiled else [])]
    common: dict[str, Any] = {
        "rows": "rows.json", "max_length": LENGTH, "lr": args.lr, "bf16": not args.float32,
        "checkpointing": not args.same_checkpointing, "micro_batch_size": args.micro_batch_size,
    }  # fmt: skip
    print(
        "| packed | against | ours, response tokens/s | theirs | ratio (range) | loss: ours, theirs | apart at most |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        model = model_source(ModelConfig(path=args.model)) if args.model else str(make_llama30m(Path(folder, "model")))
        renderer = load_renderer(ModelConfig(path=model))
        rows, common["template"] = fitting(question_rows(args.rows, args.task), renderer), template_of(renderer)
        for kind in (PACKED, UNPACKED):
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for part in range(args.rounds):
                job = {**common, **kind, "model": model, "folder": folder, "content": rows[part :: args.rounds]}
                for name in names:
                    python = args.llamafactory if name == "llamafactory" else sys.executable
                    found[name].append(run(name, python, job))
            for name in names[1:]:
                print(line(found["ours"], found[name], name, bool(kind["packed"]), args.model), flush=True)


def line(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]], name: str, packed: bool, model: str | None = None
) -> str:
    """Mean losses are over all steps; losses per step are compared if the batches hold the same rows."""
    pairs = list(zip(ours, theirs, strict=True))
    assert all(one["trained_tokens"] == other["trained_tokens"] for one, other in pairs), "not the same tokens"
    ratios = sorted(one["rate"] / other["rate"] for one, other in pairs)
    means = [statistics.mean(loss for run in runs for loss in run["losses"]) for runs in (ours, theirs)]
    steps = [zip(one["losses"], other["losses"], strict=False) for one, other in pairs]
    apart = "other batches" if packed else f"{max(abs(a - b) for pair in steps for a, b in pair):.4f}"
    rates = [statistics.median(run["rate"] for run in runs) for runs in (ours, theirs)]
    goal = 1.3 if name in ("trl", "llamafactory") and (model or (packed and name == "llamafactory")) else None
    what = f"LoRA training, {'packed' if packed else 'not packed'}{f', {Path(model).name}' if model else ''}"
    note = f"mean losses {means[0]:.4f} and {means[1]:.4f}, step by step apart: {apart}"
    Row(what, name, ratios, "response tokens/s", rates[0], rates[1], at_least=goal, note=note).tell()
    return (
        f"| {'yes' if packed else 'no'} | {name} | {rates[0]:,.0f} | {rates[1]:,.0f} | {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | {means[0]:.4f}, {means[1]:.4f} | {apart} |"
    )


if __name__ == "__main__":
    main()
