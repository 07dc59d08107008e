"""Scoring choices with the `hf` backend against lm-eval's own model on the same weights, questions and budget.

Each pair scores the same questions with both. lm-eval's `HFLM` reads a question again with each of its choices; `hf`
reads it once. The figure is the median of the pairs' ratios of questions per second. The log-likelihoods agree up to
rounding: the greatest difference is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pairs import Row, alternate, ratios

from selfdistill.backends.hf import HFBackend
from selfdistill.harness import evaluate, lm, load_benchmark, open_lm
from selfdistill.recipe import ModelConfig, TaskEntry
from selfdistill.store.rows import read_lines
from selfdistill.tasks import get_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="rows of a task that is scored by likelihood")
    parser.add_argument("--task", default="arc-easy")
    parser.add_argument("--model", default="demo", help="folder, GGUF file or hub name (default: the demo seed)")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    config = ModelConfig(path=args.model, dtype=args.dtype)
    entry = TaskEntry.model_validate({"task": args.task, "path": args.file, "n": args.rows})
    benchmark = load_benchmark(get_task(args.task), entry)
    items = len(list(benchmark.items()))
    with tempfile.TemporaryDirectory() as folder, HFBackend(config) as backend:

        def side(name: str, shares: bool) -> Any:
            def score(_: int) -> float:
                out = Path(folder, name)
                out.mkdir(exist_ok=True)
                start = time.perf_counter()
                with patch.object(lm, "shares_prompts", lambda _: shares):
                    evaluate(benchmark, open_lm("hf", config, lambda: backend), out)
                return items / (time.perf_counter() - start)

            return score

        ours, theirs = alternate([side("ours", True), side("theirs", False)], args.pairs)
        found = [
            [value for row in read_lines(Path(folder, name, "answers.jsonl")) for value in row["log_likelihoods"]]
            for name in ("ours", "theirs")
        ]
    apart = max(abs(mine - other) for mine, other in zip(*found, strict=True))
    Row(
        f"choices, hf, {args.task}",
        "lm-eval's HFLM",
        ratios(ours, theirs),
        "questions/s",
        statistics.median(ours),
        statistics.median(theirs),
        note=f"{items} questions, dtype {config.dtype}; log-likelihoods at most {apart:.3g} nats apart",
    ).tell()
    print(json.dumps({"ratios": ratios(ours, theirs), "apart": apart}))


if __name__ == "__main__":
    main()
