"""Rewriting with the `hf` backend against the procedure of the paper's code: `generate`, one prompt at a time.

Model, dtype, sampling (temperature 0.95, top-p 0.7, top-k 50), tokens and threads are the same. The rows are GSM8K's if
SELFDISTILL_DATA names the folder of real data, else the demo's. Each pair times `hf` on all prompts, then the procedure
on a part of them (`--slow-rows`, another part each time). The figure is the median of the pairs' ratios of new tokens
per second. A random model never stops by itself, so both sides are held to the same few new tokens.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# As the command has it: threads that spin while they wait slow a small model down. Torch reads it once.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from llama30m import make_llama30m
from pairs import Row, alternate, rate, ratios, rewriting_prompts, spread

from selfdistill.backends.hf import HFBackend
from selfdistill.models.loading import load_model, load_renderer
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.types import Prompt

GOALS = {"demo": 15.0, "llama30m": 5.0}


def one_by_one(model: Any, renderer: Any, prompts: list[Prompt], sampling: Sampling) -> float:
    """New tokens per second of the procedure of the paper's code."""
    import torch

    tokens, start = 0, time.perf_counter()
    for prompt in prompts:
        ids = torch.tensor([renderer.ids(prompt.messages)], device=model.device)
        with torch.inference_mode():
            answer = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=sorted(renderer.stop_ids),
                pad_token_id=min(renderer.stop_ids),
            )[0, ids.shape[1] :]
        renderer.tokenizer.decode(answer)
        tokens += len(answer)
    return tokens / (time.perf_counter() - start)


def best_threads(run: Callable[[], object]) -> int:
    """One thread or all, whichever makes `run` faster. One prompt at a time through a small model has so little
    work per operation that a second thread may slow it down."""
    import torch

    all_threads, took = torch.get_num_threads(), {}
    for threads in {1, all_threads}:
        with threads_set(threads):
            start = time.perf_counter()
            run()
            took[threads] = time.perf_counter() - start
    return min(took, key=lambda threads: took[threads])


@contextmanager
def threads_set(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds(backend: HFBackend, prompts: list[Prompt], sampling: Sampling) -> float:
    start = time.perf_counter()
    for _ in backend.generate(prompts, sampling):
        pass
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo", help="folder or hub name, or llama30m (default: the demo seed)")
    parser.add_argument("--task", help="whose training rows are rewritten, instead of GSM8K's or the demo's")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--slow-rows", type=int, default=40, help="of them one by one in each pair")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--batch-tokens", type=int, default=ModelConfig(path="demo").batch_tokens)
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    import torch

    sampling = Sampling.model_validate({"preset": "paper", "max_new_tokens": args.max_new_tokens})
    task, prompts = rewriting_prompts(args.rows, args.task)
    step = max(len(prompts) // args.slow_rows, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = str(make_llama30m(Path(folder))) if args.model == "llama30m" else args.model
        config = ModelConfig(path=path, dtype=args.dtype, batch_tokens=args.batch_tokens)
        model, renderer = load_model(config).eval(), load_renderer(config)
        with HFBackend(config) as backend:
            one_by_one(model, renderer, prompts[:4], sampling)
            own = best_threads(lambda: one_by_one(model, renderer, prompts[:: len(prompts) // 6], sampling))
            rate(backend, prompts[:32], sampling)

            def slow_side(pair: int) -> float:
                with threads_set(own):
                    return one_by_one(model, renderer, prompts[pair % step :: step], sampling)

            fast, slow = alternate(
                [
                    lambda pair: rate(backend, prompts, sampling),
                    slow_side,
                ],
                args.pairs,
            )
            # What batches can't make much faster, so that it bounds the ratio.
            only_read = sampling.model_copy(update={"max_new_tokens": 1})
            reading, whole = (seconds(backend, prompts, each) for each in (only_read, sampling))
    dtype, threads = str(model.dtype).removeprefix("torch."), torch.get_num_threads()
    Row(
        f"rewriting, hf, {args.model}",
        "generate, batch 1",
        ratios(fast, slow),
        "tokens/s",
        statistics.median(fast),
        statistics.median(slow),
        at_least=GOALS.get(args.model),
        note=f"{len(prompts)} rows of {task}, {len(prompts[::step])} a pair one by one with {own} threads, its better "
        f"number; {dtype}, {threads} threads on {model.device}, at most {args.max_new_tokens} new tokens; reading the "
        f"prompts: {reading / whole:.0%} of it",
    ).tell()
    print("| model | dtype | device, threads | rows | one by one, tokens/s | hf, tokens/s | ratio (range) |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {args.model} | {dtype} | {model.device}, {threads} | {len(prompts)} of {task} "
        f"| {statistics.median(slow):,.0f} | {statistics.median(fast):,.0f} | {spread(ratios(fast, slow), 1)} |"
    )


if __name__ == "__main__":
    main()
