"""The cost of running HumanEval's tests apart from the program: the canonical solutions, both ways in turn.

python benchmarks/tests_apart.py DATA/humaneval/HumanEval.jsonl [--rounds 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from selfdistill.grading.functions import complete_function
from selfdistill.recipe import DataConfig
from selfdistill.sandbox import open_runner
from selfdistill.tasks import get_task
from selfdistill.types import Example


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    task, run = get_task("humaneval"), open_runner("bubblewrap")
    items = [row.examples()[0] for row in task.load(DataConfig(path=arguments.path))]

    def together(item: Example) -> bool:
        name = item.extra["entry_point"]
        function = complete_function(item.instruction, name, item.reference)
        return run(f"{function}\n{item.extra['test']}\n\ncheck({name})\n").ok

    def apart(item: Example) -> bool:
        return task.grade(item, item.reference, run=run).passed

    ways: dict[str, Callable[[Example], bool]] = {"one process": together, "apart": apart}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            with ThreadPoolExecutor(arguments.threads) as pool:
                passed = sum(pool.map(way, items))
            seconds[name].append(time.perf_counter() - start)
            print(f"{name}: {passed} of {len(items)} pass, {seconds[name][-1]:.1f} s")
    print(f"apart takes {sum(seconds['apart']) / sum(seconds['one process']):.2f} times as long")


if __name__ == "__main__":
    main()
