"""How long the command takes before it works: `--help`, and `check` on 10,000 rows, as whole processes.

Medians of 10 and of 5 runs, after one run that fills the file cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from driver import RECIPE, write_rows
from pairs import Row, spread


def seconds(*arguments: str) -> float:
    """Seconds of `selfdistill` with these arguments."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "selfdistill", *arguments],
        stdout=subprocess.DEVNULL,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    return time.perf_counter() - start


def measure(what: str, runs: int, below: float, *arguments: str) -> None:
    seconds(*arguments)
    taken = [seconds(*arguments) for _ in range(runs)]
    print(f"| {what} | {spread(taken)} |")
    Row(what, "", taken, "s", statistics.median(taken), below=below).tell()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5, help="of check; of --help twice as many")
    args = parser.parse_args()
    print("| what | seconds (range) |\n|---|---|")
    measure("--help", 2 * args.runs, 0.3, "--help")
    with tempfile.TemporaryDirectory() as folder:
        data, recipe = Path(folder, "rows.jsonl"), Path(folder, "recipe.yaml")
        write_rows(data, args.rows)
        recipe.write_text(RECIPE % data, encoding="utf-8")
        measure(f"check, {args.rows:,} rows", args.runs, 3.0, "check", "--no-probe", str(recipe))


if __name__ == "__main__":
    main()
