"""Rewriting with the `hf` backend against transformers' `generate`, one prompt at a time or in batches.

One at a time is the procedure of the paper's code. The batches have prompts of similar length, padded on the left, and
the same token budget as ours. Model, dtype, sampling (temperature 0.95, top-p 0.7, top-k 50), token limit and threads
are the same; `stop_loops` is off, because `generate` has nothing like it. Each pair times all sides in turn; one at a
time answers a part of the prompts (`--slow-rows`, another part in each pair). The figure is the median of the pairs'
ratios of new tokens per second. New tokens per answer are printed for each side: they should be about equal.

    python benchmarks/rewrite_hf.py --model FOLDER_OR_GGUF --task dolly --rows 64 --slow-rows 8 --max-new-tokens 512 \
        --against batch-1 batched

Without `--task` the rows are GSM8K's if SELFDISTILL_DATA names the folder of real data, else the demo's. A random model
never stops by itself, so all sides are held to the same few new tokens.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# As the command has it: threads that spin while they wait slow a small model down. Torch reads it once.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from llama30m import make_llama30m
from pairs import Row, ratios, rewriting_prompts, spread

from selfdistill.backends.batches import batches, rows_of
from selfdistill.backends.hf import HFBackend
from selfdistill.models.loading import context_length, load_model, load_renderer, without_generation_settings
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.types import Prompt

GOALS = {"demo": {"batch-1": 15.0}, "llama30m": {"batch-1": 5.0}, "135M": {"batch-1": 12.0, "batched": 3.0}}
AGAINST = {"batch-1": "generate, batch 1", "batched": "generate, batches of similar length"}


@dataclass(frozen=True)
class Answered:
    """How long one side took for some prompts."""

    rows: int
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """New tokens per second."""
        return self.tokens / self.seconds


def timed(side: Callable[[list[Prompt]], int], prompts: list[Prompt]) -> Answered:
    """`side` returns its number of new tokens."""
    start = time.perf_counter()
    tokens = side(prompts)
    return Answered(len(prompts), tokens, time.perf_counter() - start)


def one_by_one(model: Any, renderer: Any, prompts: list[Prompt], sampling: Sampling) -> float:
    """New tokens per second of the procedure of the paper's code."""
    return timed(lambda asked: _one_by_one(model, renderer, asked, sampling), prompts).rate


def _one_by_one(model: Any, renderer: Any, prompts: list[Prompt], sampling: Sampling) -> int:
    return sum(_generated(model, renderer, [renderer.ids(each.messages)], sampling) for each in prompts)


def _batched(model: Any, renderer: Any, prompts: list[Prompt], sampling: Sampling, budget: int) -> int:
    rows, _ = rows_of(prompts, renderer, sampling, context_length(model.config))
    return sum(_generated(model, renderer, [row.ids for row in batch], sampling) for batch in batches(rows, budget))


def _generated(model: Any, renderer: Any, rows: list[list[int]], sampling: Sampling) -> int:
    """Answer the prompts in one call of `generate`, decode the answers, and return the number of their tokens, up to
    and including the stop token."""
    import torch

    longest, stops, pad = max(map(len, rows)), sorted(renderer.stop_ids), min(renderer.stop_ids)
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    with torch.inference_mode():
        answers = model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=stops,
            pad_token_id=pad,
        )[:, longest:].tolist()
    ends = [next((place + 1 for place, token in enumerate(row) if token in stops), len(row)) for row in answers]
    for row, end in zip(answers, ends, strict=True):
        renderer.tokenizer.decode(row[:end])
    return sum(ends)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="folder, GGUF file, or llama30m (default: the demo seed)")
    parser.add_argument("--task", help="whose training rows are rewritten, such as dolly or gsm8k")
    parser.add_argument("--against", nargs="+", choices=AGAINST, default=["batch-1"])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--slow-rows", type=int, default=40, help="of them one by one in each pair")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--batch-tokens", type=int, default=ModelConfig(path="demo").batch_tokens)
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    limits = {"max_new_tokens": args.max_new_tokens, "stop_loops": False}
    sampling = Sampling.model_validate({"preset": "paper", **limits})
    task, prompts = rewriting_prompts(args.rows, args.task)
    with tempfile.TemporaryDirectory() as folder:
        path = str(make_llama30m(Path(folder))) if args.model == "llama30m" else args.model
        config = ModelConfig(path=path, dtype=args.dtype, batch_tokens=args.batch_tokens)
        model, renderer = load_model(config).eval(), load_renderer(config)
        without_generation_settings(model)  # ours has none either
        with HFBackend(config) as backend:
            told(args, model, task, measured(args, backend, model, renderer, prompts, sampling))


def measured(
    args: argparse.Namespace, backend: HFBackend, model: Any, renderer: Any, prompts: list[Prompt], sampling: Sampling
) -> dict[str, list[Answered]]:
    """The figures of each side, pair by pair, and as `reading` one figure of `hf` for a single new token."""
    step, threads = max(len(prompts) // args.slow_rows, 1), torch_threads()
    if "batch-1" in args.against:
        one_by_one(model, renderer, prompts[:4], sampling)
        threads = best_threads(lambda: one_by_one(model, renderer, prompts[:: len(prompts) // 6 or 1], sampling))

    def ours(asked: list[Prompt], how: Sampling = sampling) -> int:
        return sum(completion.tokens for completion in backend.generate(asked, how))

    def one_at_a_time(pair: int) -> Answered:
        with threads_set(threads):
            return timed(lambda asked: _one_by_one(model, renderer, asked, sampling), prompts[pair % step :: step])

    def in_batches(_: int) -> Answered:
        return timed(lambda asked: _batched(model, renderer, asked, sampling, args.batch_tokens), prompts)

    sides = {"batch-1": one_at_a_time, "batched": in_batches}
    timed(ours, prompts[:32])
    found: dict[str, list[Answered]] = {name: [] for name in ("hf", *args.against)}
    for pair in range(args.pairs):
        found["hf"].append(timed(ours, prompts))
        for name in args.against:
            found[name].append(sides[name](pair))
    # Batches can't make reading much faster, so it bounds the ratio.
    only_read = sampling.model_copy(update={"max_new_tokens": 1})
    return {**found, "reading": [timed(lambda asked: ours(asked, only_read), prompts)]}


def told(args: argparse.Namespace, model: Any, task: str, found: dict[str, list[Answered]]) -> None:
    size = args.model if args.model in GOALS else f"{model.num_parameters() / 1e6:.0f}M"
    name = args.model if args.model in GOALS else f"{Path(args.model).name} ({size})"
    dtype, threads, fast = str(model.dtype).removeprefix("torch."), torch_threads(), found["hf"]
    whole = statistics.median(each.seconds for each in fast)
    print("| model | dtype | device, threads | rows | against | tokens/s | tokens per answer | hf, tokens/s | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for side in args.against:
        slow = found[side]
        rates = [[each.rate for each in sides] for sides in (fast, slow)]
        ours, theirs = map(statistics.median, rates)
        lengths = [sum(each.tokens for each in sides) / sum(each.rows for each in sides) for sides in (fast, slow)]
        note = (
            f"{fast[0].rows} rows of {task}, {slow[0].rows} per pair on the other side; {dtype}, {threads} threads on "
            f"{model.device}, at most {args.max_new_tokens} new tokens; {lengths[0]:.0f} and {lengths[1]:.0f} per "
            f"answer; reading the prompts: {found['reading'][0].seconds / whole:.0%} of the time of hf"
        )
        what, goal = f"rewriting, hf, {name}, {task}", GOALS.get(size, {}).get(side)
        Row(what, AGAINST[side], ratios(*rates), "tokens/s", ours, theirs, at_least=goal, note=note).tell()
        print(
            f"| {name} | {dtype} | {model.device}, {threads} | {fast[0].rows} of {task} | {AGAINST[side]} "
            f"| {theirs:,.0f} | {lengths[1]:.0f} (hf {lengths[0]:.0f}) | {ours:,.0f} | {spread(ratios(*rates), 1)} |"
        )


def torch_threads() -> int:
    import torch

    return torch.get_num_threads()


if __name__ == "__main__":
    main()
