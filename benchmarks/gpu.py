"""Measures on a large GPU, in under 8 minutes on 80 GB: a Llama of Llama 2 7B's shape, random weights in bfloat16.

Rewriting with the `hf` backend against `generate` one prompt at a time (goal: 30 times), the limit of the memory
bandwidth, transformers' continuous batching, and vLLM if installed. LoRA training against plain TRL defaults, with the
share of the peak FLOPs of a matrix product. Each part is a process with a time limit, so that one failure does not lose
the rest. `--tiny` runs everything on a small model, also on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pairs import Row, alternate, collect, rate, ratios, rewriting_prompts, table
from rewrite_hf import one_by_one
from roofline import bandwidth_bound, parameters, peak_flops

from selfdistill.backends.batches import TokenRow as Prepared
from selfdistill.backends.batches import batches
from selfdistill.backends.hf import HFBackend
from selfdistill.models.loading import load_model, load_renderer, pick_device
from selfdistill.recipe import ModelConfig, Sampling

SECONDS = 470.0  # for all parts together
LLAMA = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32,
}  # fmt: skip
TINY = {
    "vocab_size": 2048, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2,
}  # fmt: skip


class Job:
    """What all parts share: the model's folder, the model's size, and the amount of work."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.folder, self.tiny = args.folder, args.tiny
        path = args.model or str(args.folder / "model")
        self.config = ModelConfig(path=path, dtype="bfloat16", batch_tokens=args.batch_tokens)
        self.rows: int = 6 if self.tiny else args.rows
        self.slow_rows, self.pairs = (1, 1) if self.tiny else (2, 5)
        self.sampling = Sampling.model_validate({"preset": "paper", "max_new_tokens": 4 if self.tiny else 128})
        self.device = pick_device("auto")

    @property
    def note(self) -> str:
        return (
            f"{self.rows} rows, {self.sampling.max_new_tokens} new tokens, batches of {self.config.batch_tokens} tokens"
        )


def make(job: Job) -> None:
    """Write the model, with the tokenizer of the demo seed, whose ids are the first of the vocabulary."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    tokenizer = load_renderer(ModelConfig(path="demo")).tokenizer
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = LlamaConfig(**(TINY if job.tiny else LLAMA), max_position_embeddings=4096, **special)
    torch.manual_seed(0)
    with torch.device(job.device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(job.config.path)
    tokenizer.save_pretrained(job.config.path)


def rewrite(job: Job) -> None:
    _, prompts = rewriting_prompts(job.rows)
    with HFBackend(job.config) as backend:
        model, renderer = backend.loaded()
        rate(backend, prompts, job.sampling)
        peak = peak_gib()
        fast, slow = alternate(
            [
                lambda _: rate(backend, prompts, job.sampling),
                lambda pair: one_by_one(model, renderer, prompts[pair :: job.rows // job.slow_rows], job.sampling),
            ],
            job.pairs,
        )
        asked = [Prepared(p.id, renderer.ids(p.messages), job.sampling.max_new_tokens) for p in prompts]
        bound = bandwidth_bound(model.config, batches(asked, job.config.batch_tokens), job.device, job.tiny)
    ours, theirs = statistics.median(fast), statistics.median(slow)
    note = f"{job.note}; {ours / bound:.0%} of the {bound:,.0f} tokens/s that bandwidth allows; peak {peak:.1f} GiB"
    Row("rewriting, hf", "generate, batch 1", ratios(fast, slow), "tokens/s", ours, theirs, 30, note=note).tell()


def continuous(job: Job) -> None:
    """Uses a separate model, because `generate_batch` changes the attention of its model."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    _, prompts = rewriting_prompts(job.rows)
    model, renderer = load_model(job.config).eval(), load_renderer(job.config)
    sampling = job.sampling.model_dump(include={"temperature", "top_p", "top_k", "max_new_tokens"})
    stops = sorted(renderer.stop_ids)
    settings = GenerationConfig(**sampling, do_sample=True, eos_token_id=stops, pad_token_id=stops[0])
    memory = ContinuousBatchingConfig(max_memory_percent=0.4, seed=0)  # the rest is for the other side

    def theirs(_: int) -> float:
        start = time.perf_counter()
        inputs = [renderer.ids(prompt.messages) for prompt in prompts]
        answers: Any = model.generate_batch(inputs, settings, memory, persistent_manager=True)
        tokens = [answer.generated_tokens for answer in answers.values()]
        for each in tokens:
            renderer.tokenizer.decode(each)
        if len(tokens) < len(prompts):
            raise SystemExit(f"generate_batch answered {len(tokens)} of {len(prompts)} prompts")
        return sum(map(len, tokens)) / (time.perf_counter() - start)

    with HFBackend(job.config) as backend:
        for side in (lambda _: rate(backend, prompts, job.sampling), theirs):
            side(0)
        ours, other = alternate([lambda _: rate(backend, prompts, job.sampling), theirs], job.pairs)
    middles = statistics.median(ours), statistics.median(other)
    Row("rewriting, hf", "generate_batch", ratios(ours, other), "tokens/s", *middles, note=job.note).tell()


def vllm(job: Job) -> None:
    from selfdistill.backends import open_backend

    _, prompts = rewriting_prompts(job.rows)
    with open_backend("vllm", job.config) as backend:
        rates = []
        for _ in range(1 + min(job.pairs, 3)):  # the first fills caches
            start = time.perf_counter()
            tokens = sum(completion.tokens for completion in backend.generate(prompts, job.sampling))
            rates.append(tokens / (time.perf_counter() - start))
    Row("rewriting, vllm", "", rates[1:], "tokens/s", statistics.median(rates[1:]), note=job.note).tell()


def train(job: Job) -> None:
    told("LoRA training, ours, packed", "train_ours", {"packed": True, "checkpointing": False}, job)


def train_trl(job: Job) -> None:
    told("LoRA training, TRL's defaults", "train_trl", {"packed": False, "checkpointing": True}, job)


def told(what: str, trainer: str, settings: dict[str, Any], job: Job) -> None:
    """The result of one training by benchmarks/train.py: tokens per second, share of the peak, and memory. A token
    costs 4 FLOPs per parameter (forward, and backward through frozen weights), and causal attention; recomputing is
    not counted."""
    import train as trainers
    from transformers import AutoConfig

    batch = 2 if job.tiny else 8
    (job.folder / "rows.json").write_text(json.dumps(trainers.question_rows(4 if job.tiny else 512)), encoding="utf-8")
    common = {"folder": str(job.folder), "rows": "rows.json", "model": job.config.path, "lr": 1e-4, "bf16": True}
    sizes = {"batch_size": batch, "micro_batch_size": batch, "device": job.device}
    found = getattr(trainers, trainer)({**common, **sizes, **settings})
    config = AutoConfig.from_pretrained(job.config.path)
    length = found["tokens"] / (4 if job.tiny else 512)
    per_token = 4 * parameters(config) + 6 * config.num_hidden_layers * config.hidden_size * length
    rate = found["tokens"] / found["seconds"]
    share = rate * per_token / peak_flops(job.device, job.tiny)
    note = (
        f"{share:.1%} of the peak FLOPs; {found['trained_tokens'] / found['seconds']:,.0f} response tokens/s; peak "
        + (f"{found['peak_gib']:.1f} GiB; mean loss {statistics.mean(found['losses']):.3f}")
    )
    Row(what, "", [rate], "tokens/s", rate, note=note).tell()


def peak_gib() -> float:
    from selfdistill.training.log import peak_memory_gib

    return peak_memory_gib()


# The seconds that each part may take.
PARTS: dict[str, tuple[Callable[[Job], None], int]] = {
    "make": (make, 90), "rewrite": (rewrite, 150), "continuous": (continuous, 120), "vllm": (vllm, 150),
    "train": (train, 120), "train_trl": (train_trl, 150),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a small model and few tokens, to see that all of it works")
    parser.add_argument(
        "--folder", type=Path, help="fast disk for the 13.5 GB of weights (default: a temporary folder)"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between (default: all)")
    parser.add_argument("--batch-tokens", type=int, default=65536)
    parser.add_argument("--rows", type=int, default=256, help="that are rewritten")
    parser.add_argument("--model", help="folder or hub name, instead of the random one")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        PARTS[args.part][0](Job(args))
        return
    rows: list[Row] = []
    left_out, seconds, start = [], {}, time.monotonic()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        words = [sys.executable, __file__, "--folder", folder]
        words += ["--batch-tokens", str(args.batch_tokens), "--rows", str(args.rows)]
        words += (["--tiny"] if args.tiny else []) + (["--model", args.model] if args.model else [])
        asked = [part for part in args.only.split(",") if part != "make"]
        for part in asked if args.model else ["make", *asked]:
            if part == "vllm" and find_spec("vllm") is None:
                left_out.append("vllm, which is not installed")
                continue
            began = time.monotonic()
            left = max(SECONDS - (began - start), 1.0)
            found, failure = collect([*words, "--part", part], min(PARTS[part][1], left))
            rows, seconds[part] = rows + found, round(time.monotonic() - began, 1)
            left_out += [f"{part}, which failed: {failure}"] if failure else []
    print(table(rows, left_out) + f"\n\nSeconds of each part: {seconds}")
    if args.json:
        figures = {"rows": [asdict(row) for row in rows], "left_out": left_out, "seconds": seconds}
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
