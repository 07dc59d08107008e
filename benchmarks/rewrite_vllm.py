"""The `vllm` backend against `generate` one prompt at a time, as in the paper's code, and against `LLM.generate`.

Also three arms in one engine against an engine for each, and `speculate: reference` against none. Both sides of a pair
have the same model, dtype, prompts, sampling and threads, and are measured in turn, without cached prefixes. Engine
starts are left out, except for the arms, where one engine saves them. The rows are GSM8K's if SELFDISTILL_DATA names
the folder of real data, else the demo's. `stop_loops` is off. On a CPU install vLLM with `make install-vllm`.

With a model of your own, only the comparison with `LLM.generate` is made:

    python benchmarks/rewrite_vllm.py --model FOLDER_OR_GGUF --task dolly --rows 64 --max-new-tokens 512
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command has it
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # as many threads as the other side, OMP_NUM_THREADS says

from llama30m import make_llama30m
from pairs import Row, alternate, ratios, rewriting_prompts, spread
from rewrite_hf import best_threads, one_by_one, threads_set

from selfdistill.backends import open_backend
from selfdistill.backends.cache import EngineCache
from selfdistill.backends.sampling import row_seed
from selfdistill.backends.vllm import VLLMBackend
from selfdistill.demo import RECIPE, SEED
from selfdistill.models.loading import load_model
from selfdistill.recipe import EngineConfig, ModelConfig, Sampling, load_recipe
from selfdistill.tasks import get_task
from selfdistill.types import Prompt

GREEDY = Sampling(max_new_tokens=96, stop_loops=False)
GOALS = {"demo": 20.0, "llama30m": 8.0}


def answer(
    backend: VLLMBackend,
    prompts: list[Prompt],
    sampling: Sampling,
    at_a_time: int | None = None,
    lengths: list[int] | None = None,
) -> float:
    """New tokens per second, all prompts at once or a number at a time. Their number is added to `lengths`."""
    backend.loaded()[0].llm.reset_prefix_cache()
    size = at_a_time or len(prompts)
    start, tokens = time.perf_counter(), 0
    for first in range(0, len(prompts), size):
        tokens += sum(completion.tokens for completion in backend.generate(prompts[first : first + size], sampling))
    if lengths is not None:
        lengths.append(tokens)
    return tokens / (time.perf_counter() - start)


def vllms_own(backend: VLLMBackend, prompts: list[Prompt], sampling: Sampling, lengths: list[int]) -> float:
    """New tokens per second of `LLM.generate`, rendering and decoding included. Their number is added to `lengths`."""
    from vllm import SamplingParams, TokensPrompt

    engine, _, renderer = backend.loaded()
    engine.llm.reset_prefix_cache()
    start = time.perf_counter()
    asked = [TokensPrompt(prompt_token_ids=renderer.ids(prompt.messages)) for prompt in prompts]
    params = [
        SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_new_tokens,
            seed=row_seed(sampling.seed, prompt.id),
            stop_token_ids=sorted(renderer.stop_ids),
            ignore_eos=True,
        )
        for prompt in prompts
    ]
    answers = engine.llm.generate(asked, params, use_tqdm=False)
    tokens = sum(len(each.outputs[0].token_ids) for each in answers)
    lengths.append(tokens)
    return tokens / (time.perf_counter() - start)


def measure_rewriting(name: str, path: str, args: argparse.Namespace) -> None:
    """Against `LLM.generate`, and for the models of `GOALS` against one prompt at a time."""
    task, prompts = rewriting_prompts(args.rows, args.task)
    config = ModelConfig(path=path, dtype=args.dtype)
    limits = {"max_new_tokens": args.max_new_tokens, "stop_loops": False}
    sampling = Sampling.model_validate({"preset": "paper", **limits})
    model, step = load_model(config).eval(), max(len(prompts) // args.slow_rows, 1)
    lengths: tuple[list[int], list[int]] = ([], [])
    with VLLMBackend(config) as backend:
        renderer = backend.loaded()[2]
        answer(backend, prompts[:32], sampling)
        sides: list[Callable[[int], float]] = [
            lambda _: answer(backend, prompts, sampling, lengths=lengths[0]),
            lambda _: vllms_own(backend, prompts, sampling, lengths[1]),
        ]
        if name in GOALS:
            one_by_one(model, renderer, prompts[:4], sampling)
            threads = best_threads(lambda: one_by_one(model, renderer, prompts[:: len(prompts) // 6 or 1], sampling))

            def slow(pair: int) -> float:
                with threads_set(threads):
                    return one_by_one(model, renderer, prompts[pair % step :: step], sampling)

            sides.append(slow)
        ours, own, *single = alternate(sides, args.pairs)
    per_answer = " and ".join(f"{statistics.mean(each) / len(prompts):.0f}" for each in lengths)
    note = f"{len(prompts)} rows of {task}, {model.dtype}, at most {args.max_new_tokens} new tokens"
    told("rewriting, vllm, " + name, "LLM.generate, started", ours, own, 0.95, f"{note}; {per_answer} per answer")
    for rates in single:
        several = f"{note}; {len(prompts[::step])} rows a pair one by one with {threads} threads, its better number"
        told("rewriting, vllm, " + name, "generate, batch 1", ours, rates, GOALS[name], several)


def measure_arms(args: argparse.Namespace) -> None:
    """Items per second, starts included: all items of the demo's tasks by the seed and two adapters."""
    tasks = [get_task(entry.task) for entry in load_recipe(RECIPE).evaluate.tasks]
    items = [(task, list(islice(task.load(task.test), args.items))) for task in tasks if task.test]
    asked = [[Prompt(e.id, task.ask(e)) for row in rows for e in row.examples()[-1:]] for task, rows in items]
    config = ModelConfig(path="demo", dtype=args.dtype)
    with tempfile.TemporaryDirectory() as folder:
        arms = [None, *(make_adapter(Path(folder, str(number)), number) for number in (1, 2))]

        def answered(together: Sequence[Sequence[str | None]], _: int) -> float:
            start, count = time.perf_counter(), 0
            for group in together:
                with EngineCache([(config, arm) for arm in group]) as cache:
                    for arm in group:
                        for prompts in asked:
                            with open_backend("vllm", config, arm, cache) as backend:
                                count += len(list(backend.generate(prompts, GREEDY)))
            return count / (time.perf_counter() - start)

        one, three = alternate([partial(answered, [arms]), partial(answered, [[arm] for arm in arms])], args.pairs)
    note = f"{sum(map(len, asked))} items of {len(asked)} tasks for each arm; the starts of the engines included"
    told("3 arms x all demo tasks, one engine", "an engine for each arm", one, three, 1.5, note, "items/s")


def measure_speculation(args: argparse.Namespace) -> None:
    """One request at a time, greedy."""
    task, prompts = rewriting_prompts(args.single_rows, args.task)
    with guessing(args.dtype, "reference") as on, guessing(args.dtype, None) as off:
        texts = [{c.id: c.text for p in prompts for c in each.generate([p], GREEDY)} for each in (on, off)]
        same = sum(texts[0][name] == texts[1][name] for name in texts[0])

        fast, slow = alternate(
            [lambda _: answer(on, prompts, GREEDY, 1), lambda _: answer(off, prompts, GREEDY, 1)], args.pairs
        )
    note = f"{len(prompts)} rows of {task}, one at a time, greedy; {same} of {len(prompts)} answers the same"
    told("speculate: reference, demo", "off", fast, slow, 1.3, note)


@contextmanager
def guessing(dtype: Any, speculate: Any) -> Iterator[VLLMBackend]:
    with VLLMBackend(ModelConfig(path="demo", dtype=dtype, engine=EngineConfig(speculate=speculate))) as backend:
        yield backend


def make_adapter(folder: Path, seed: int) -> str:
    """Write an adapter with random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(SEED, dtype=torch.float32)
    get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"])).save_pretrained(str(folder))
    return str(folder)


def told(
    what: str, against: str, ours: list[float], theirs: list[float], goal: float, note: str, unit: str = "tokens/s"
) -> None:
    middles = statistics.median(ours), statistics.median(theirs)
    Row(what, against, ratios(ours, theirs), unit, *middles, at_least=goal, note=note).tell()
    figures = f"{middles[0]:,.4g} | {middles[1]:,.4g} {unit} | {spread(ratios(ours, theirs))}"
    print(f"| {what} | {against} | {figures} | {note} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = ["demo", "llama30m", "arms", "speculate"]
    parser.add_argument("what", nargs="*", help=f"of {', '.join(kinds)} (default: all, or none with --model)")
    parser.add_argument("--model", help="folder or GGUF file, in addition to `what`")
    parser.add_argument("--task", help="whose training rows are rewritten, such as dolly or gsm8k")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--slow-rows", type=int, default=40, help="of them one by one in each pair")
    parser.add_argument("--single-rows", type=int, default=40, help="for speculate")
    parser.add_argument("--items", type=int, default=50, help="of each task, for the arms")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, Callable[[], None]] = {
            "demo": lambda: measure_rewriting("demo", "demo", args),
            "llama30m": lambda: measure_rewriting("llama30m", str(make_llama30m(Path(folder))), args),
            "arms": lambda: measure_arms(args),
            "speculate": lambda: measure_speculation(args),
        }
        if args.model:
            measure_rewriting(Path(args.model).name, args.model, args)
        for name in args.what or ([] if args.model else kinds):
            runs[name]()


if __name__ == "__main__":
    main()
