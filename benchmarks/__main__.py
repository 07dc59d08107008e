"""`make bench`: runs the measurements of docs/performance.md one after the other, and prints one table.

Use an idle machine. A script whose packages are missing is left out, with the reason. A GPU is measured by gpu.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `python -m` has the folder above

from pairs import Row, collect, table

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    """A script, its arguments, the arguments of `--quick` (which only shows that it works), and its minutes."""

    title: str
    script: str
    full: str
    quick: str
    minutes: int
    package: str | None = None


RUNS = {
    "startup": Run("Start-up", "startup.py", "", "--rows 100 --runs 1", 1),
    "rewrite-hf": Run(
        "Rewriting, hf against generate one by one, demo seed",
        "rewrite_hf.py", "", "--rows 8 --slow-rows 2 --pairs 1 --max-new-tokens 8", 2,
    ),
    "rewrite-hf-30m": Run(
        "Rewriting, hf against generate one by one, random 30M Llama", "rewrite_hf.py",
        "--model llama30m --slow-rows 20",
        "--model llama30m --rows 4 --slow-rows 1 --pairs 1 --max-new-tokens 4", 6,
    ),
    "vllm": Run(
        "vLLM: against generate one by one, its own generate, an engine for each arm, and no speculation",
        "rewrite_vllm.py", "--slow-rows 20",
        "--rows 8 --slow-rows 2 --single-rows 2 --items 2 --pairs 1 --max-new-tokens 8", 10, "vllm",
    ),
    "train": Run(
        "LoRA training against TRL and LLaMA-Factory", "train.py", "", "--rows 16 --rounds 1", 8,
    ),
    "ray": Run(
        "Two Ray replicas against one", "ray_replicas.py", "",
        "--rows 8 --rounds 1 --max-new-tokens 8", 3, "ray",
    ),
    "driver": Run(
        "What our own code costs around an engine", "driver.py", "--rows 10000 100000", "--rows 100", 1,
    ),
    "read": Run("Reading a million rows", "read_million.py", "", "5000", 3),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(RUNS), help=f"of {', '.join(RUNS)}, with commas between")
    parser.add_argument("--quick", action="store_true", help="to see that all of it works; figures mean nothing")
    parser.add_argument("--llamafactory", help="python of an environment with llamafactory 0.9.5")
    args = parser.parse_args()
    if unknown := set(args.only.split(",")) - set(RUNS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose of {', '.join(RUNS)}")
    rows: list[Row] = []
    left_out = [] if os.environ.get("SELFDISTILL_DATA") else ["real rows, as SELFDISTILL_DATA is not set"]
    for name in args.only.split(","):
        run = RUNS[name]
        arguments = (run.quick if args.quick else run.full).split()
        if name == "train":
            arguments += ["--llamafactory", args.llamafactory] if args.llamafactory else []
            left_out += (
                [] if args.llamafactory else ["training against LLaMA-Factory, as --llamafactory names no python"]
            )
        if run.package and find_spec(run.package) is None:
            left_out.append(f"{name}, as {run.package} is not installed")
            continue
        print(f"\n## {run.title} (about {run.minutes} min)\n", flush=True)
        start = time.monotonic()
        told, failure = collect([sys.executable, str(HERE / run.script), *arguments])
        print(f"\n{name} took {time.monotonic() - start:.0f} s", flush=True)
        rows += told
        left_out += [f"the rest of {name}, which failed: {failure}"] if failure else []
    print(f"\n## All of it{', too quick to mean anything' if args.quick else ''}\n")
    print(table(rows, left_out))
    if any("failed" in reason for reason in left_out):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
