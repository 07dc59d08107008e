"""The cost of our code around an engine: rows per second, memory and resuming with the `fake` backend.

Each figure is from a fresh process: `selfdistill rewrite` on generated question/answer rows (reading, rendering, keys,
completions, verification, rewrites). Resuming runs the same command again on the finished stage.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pairs import Row

RECIPE = """
model: demo
data: {path: %s}
rewrite: {backend: fake, grader: final_number, template: using}
gap: false
"""
MEASURED = """
import resource, sys
from selfdistill.cli import app
try:
    app(["rewrite", sys.argv[1], "--dir", sys.argv[2]])
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


def write_rows(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for n in range(rows):
            a, b = n % 997, n // 997
            question = f"Ann has {a} pears and buys {b} more at the market in {n % 31} days. How many has she?"
            row = {"question": question, "answer": f"She has {a} and {b}.\n{a}+{b}={a + b}\n#### {a + b}"}
            file.write(json.dumps(row) + "\n")


def measured(recipe: Path, where: Path) -> tuple[float, int]:
    """Seconds and peak memory in MiB of `selfdistill rewrite` as a whole process."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(recipe), str(where)], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, int(done.stderr.split("peak")[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    sizes = parser.parse_args().rows
    print("| rows | seconds | rows/s | peak MiB | run again, seconds |")
    print("|---|---|---|---|---|")
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            data, recipe, where = Path(folder, "rows.jsonl"), Path(folder, "recipe.yaml"), Path(folder, "run")
            write_rows(data, rows)
            recipe.write_text(RECIPE % data, encoding="utf-8")
            seconds, peak = measured(recipe, where)
            again, _ = measured(recipe, where)
            what = f"rewriting with the fake engine, {rows:,} rows"
            Row(
                what, "", [rows / seconds], "rows/s", rows / seconds, note=f"peak {peak} MiB, again {again:.1f} s"
            ).tell()
            print(f"| {rows:,} | {seconds:.1f} | {rows / seconds:,.0f} | {peak} | {again:.1f} |", flush=True)


if __name__ == "__main__":
    main()
