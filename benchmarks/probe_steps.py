"""The probes on one model: the scores by which the pipeline would choose each skill's level, that level, and the score
on items of it that did not choose it. Answers are kept, so an interrupted or repeated run asks only what is new.

    python benchmarks/probe_steps.py MODEL OUT --n 150
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from selfdistill.backends import open_backend
from selfdistill.data.draw import draw
from selfdistill.generation.resume import LazyBackend
from selfdistill.measure.scores import answer, grade, values
from selfdistill.measure.stats import wilson
from selfdistill.pipeline.difficulty import chosen_step, next_step, uninformative
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.recipe.suites import STEPS, SUITES
from selfdistill.sandbox import lazy_runner
from selfdistill.store.rows import RowFile, write_lines
from selfdistill.tasks import get_task
from selfdistill.types import Example


class Asked:
    """A task, its limit, and the scores of a model on it."""

    def __init__(self, name: str, limit: int, backend: LazyBackend, out: Path) -> None:
        task = get_task(name)
        if "sandbox" in task.needs:
            task = replace(task, grade=partial(task.grade, run=lazy_runner("bubblewrap")))
        self.task = task
        self.backend, self.file = backend, out / f"{name}.jsonl"
        self.sampling = Sampling(max_new_tokens=limit)
        self.grades = out / f"{name}.grades.jsonl"
        self.rows: list[dict[str, object]] = []

    def items(self, split: str, n: int | None) -> list[Example]:
        assert self.task.test is not None
        source = self.task.test.model_copy(update={"split": split})
        found = [item for row in self.task.load(source, None) for item in self.task.items(row)]
        return [item for item, taken in zip(found, draw(len(found), n, 0), strict=True) if taken]

    def score(self, items: Sequence[Example]) -> tuple[int, int]:
        """How many items pass, and how many could be judged."""
        with RowFile(self.file) as rows:
            answer(self.task, items, self.backend, self.sampling, rows, lambda *_: None)
        with RowFile(self.file, reading=True) as rows:
            graded = list(grade(self.task, items, rows))
            self.rows += [
                {**row, "prompt": item.prompt[-1].content, "text": (rows.get(item.id) or {}).get("text"), **item.extra}
                for row, item in zip(graded, items, strict=True)
            ]
        write_lines(self.grades, self.rows)
        found = values(graded)
        return int(sum(found.values())), len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder, GGUF file or hub name")
    parser.add_argument("out", type=Path, help="folder for the answers")
    parser.add_argument("--n", type=int, default=150, help="items of the chosen step; 0 leaves them out")
    parser.add_argument("--choosing", type=int, default=40, help="items per step to choose by")
    parser.add_argument("--skills", nargs="*", help="tasks, by default the whole suite")
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = ModelConfig(path=args.model, dtype=args.dtype)
    print("| task | easy | medium | hard | chosen | score on others | |\n|---|---|---|---|---|---|---|", flush=True)
    with LazyBackend(partial(open_backend, "hf", model)) as backend:
        limits = {entry["task"]: entry["max_new_tokens"] for entry in SUITES["probes"].tasks}
        for name in args.skills or limits:
            asked = Asked(name, limits[name], backend, args.out)
            shown, step = ["", "", ""], ""
            if asked.task.steps:
                scores: dict[str, float | None] = {}
                while (following := next_step(scores)) is not None:  # as the pipeline, which asks one or two steps
                    right, n = asked.score(asked.items(f"{following}.choosing", args.choosing))
                    scores[following] = right / n if n else None
                shown = ["" if (score := scores.get(each)) is None else f"{100 * score:.0f}" for each in STEPS]
                step = chosen_step(scores)
            last = ["", ""]
            if args.n:
                right, n = asked.score(asked.items(step or "test", args.n))
                low, high = wilson(right, n)
                bound = uninformative(right / n) if step else None
                last = [f"{100 * right / n:.1f} [{100 * low:.1f}, {100 * high:.1f}] of {n}", bound or ""]
            print("| " + " | ".join([name, *shown, step, *last]) + " |", flush=True)


if __name__ == "__main__":
    main()
