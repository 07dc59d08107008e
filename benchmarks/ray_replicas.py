"""Rewriting on two Ray replicas against one, and on one against the backend without Ray, with one thread each.

Prompts, model and sampling are the same. Each round times all prompts in this process, on one replica and on two. The
figures are the medians of the rounds' ratios of new tokens per second, without starts. The rows are GSM8K's if
SELFDISTILL_DATA names the folder of real data, else the demo's. Two replicas need two idle cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and on the replicas
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from llama30m import make_llama30m
from pairs import Row, alternate, rate, ratios, rewriting_prompts, spread

from selfdistill.backends import open_backend
from selfdistill.backends.ray.pool import connect
from selfdistill.recipe import ModelConfig, RayConfig, Sampling

NAMES = ("in process", "one replica", "two replicas")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo", help="folder or hub name, or llama30m (default: the demo seed)")
    parser.add_argument("--backend", default="hf", help="on the replicas")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--batch-tokens", type=int, default=ModelConfig(path="demo").batch_tokens)
    args = parser.parse_args()
    task, prompts = rewriting_prompts(args.rows)
    sampling = Sampling.model_validate({"preset": "paper", "max_new_tokens": args.max_new_tokens})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = str(make_llama30m(Path(folder))) if args.model == "llama30m" else args.model
        connect(RayConfig(replicas=3))  # room for one and two at a time
        opened = [stack.enter_context(open_backend(args.backend, config(path, args)))]
        for replicas in (1, 2):
            opened.append(stack.enter_context(open_backend("ray", config(path, args, replicas))))
        for backend in opened:
            rate(backend, prompts[:64], sampling)
        sides = [partial(lambda backend, _: rate(backend, prompts, sampling), backend) for backend in opened]
        alone, one, two = alternate(sides, args.rounds)
    middles = [statistics.median(rates) for rates in (alone, one, two)]
    more, own = ratios(two, one), ratios(one, alone)
    note = f"{len(prompts)} rows of {task}, backend {args.backend}; one replica against none {spread(own)}"
    what = f"rewriting, ray, {args.model}, 2 replicas"
    Row(what, "1 replica", more, "tokens/s", middles[2], middles[1], at_least=1.8, note=note).tell()
    print("| model | rows | " + " | ".join(f"{name}, tokens/s" for name in NAMES) + " | two against one (range) "
          "| one against in process (range) |")  # fmt: skip
    print("|" + "---|" * 7)
    rates = " | ".join(f"{middle:,.0f}" for middle in middles)
    print(f"| {args.model} | {len(prompts)} of {task} | {rates} | {spread(more)} | {spread(own)} |")


def config(path: str, args: argparse.Namespace, replicas: int = 1) -> ModelConfig:
    spread = RayConfig(backend=args.backend, replicas=replicas, gpus=0)
    return ModelConfig(path=path, batch_tokens=args.batch_tokens, device="cpu", ray=spread)


if __name__ == "__main__":
    main()
