"""Measures two sides in turn, and makes the rows of the table that `python -m benchmarks` prints."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from selfdistill.backends import Backend
from selfdistill.generation.prompts import REWRITING, rewriting_messages
from selfdistill.recipe import DataConfig, Sampling
from selfdistill.tasks import Task, get_task
from selfdistill.types import Example, Prompt

MARK = "ROW "


@dataclass(frozen=True)
class Row:
    """One measurement. `values` are the ratios of the pairs (`against` something), or figures in `unit`; `ours` and
    `theirs` are the medians of both sides in `unit`. The goal is `at_least` or `below`."""

    what: str
    against: str
    values: Sequence[float]
    unit: str
    ours: float
    theirs: float | None = None
    at_least: float | None = None
    below: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        middle = statistics.median(self.values)
        if self.at_least is not None:
            return middle >= self.at_least
        return None if self.below is None else middle < self.below

    def tell(self) -> None:
        """Print one line for the program that collects the rows."""
        print(MARK + json.dumps(asdict(self)), flush=True)


def alternate(sides: Sequence[Callable[[int], float]], rounds: int) -> list[list[float]]:
    """The figures of each side. Every round measures all sides one after the other, so that a machine's slow
    minutes affect all of them. A side receives the number of the round."""
    measured = [[side(number) for side in sides] for number in range(rounds)]
    return [list(figures) for figures in zip(*measured, strict=True)]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, pair by pair."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def rate(backend: Backend, prompts: Sequence[Prompt], sampling: Sampling) -> float:
    """New tokens per second of a backend."""
    start = time.perf_counter()
    tokens = sum(completion.tokens for completion in backend.generate(prompts, sampling))
    return tokens / (time.perf_counter() - start)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median and the range."""
    middle, low, high = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


REAL = {"gsm8k": "gsm8k/train.jsonl", "dolly": "sdft/dolly_train.json"}
"""The training rows of tasks in the folder of real data."""


def training_examples(rows: int, task: str | None = None) -> tuple[Task, list[Example]]:
    """A task and its first `rows` training examples: those of `task`, else GSM8K's if SELFDISTILL_DATA names the folder
    of real data, else the demo's. The rows of `REAL` come from that folder."""
    folder = Path(os.environ.get("SELFDISTILL_DATA", ""))
    source = get_task(task or ("gsm8k" if (folder / REAL["gsm8k"]).is_file() else "demo-maths"))
    real = folder / REAL.get(source.name, "")
    where = DataConfig(path=str(real)) if real.is_file() else source.train
    assert where is not None
    return source, list(islice((example for row in source.load(where) for example in row.examples()), rows))


def rewriting_prompts(rows: int, task: str | None = None) -> tuple[str, list[Prompt]]:
    """The name of the data, and the rewriting prompts of `training_examples`."""
    source, examples = training_examples(rows, task)
    template = REWRITING[source.template or "using"]
    return source.name, [Prompt(each.id, rewriting_messages(template, each)) for each in examples]


def collect(words: Sequence[str], limit: float | None = None) -> tuple[list[Row], str | None]:
    """The rows that a program reports, and the reason if it failed or took more than `limit` seconds. Other output
    of the program is printed."""
    rows = []
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            watch = threading.Timer(limit or threading.TIMEOUT_MAX, process.kill)
            watch.daemon = True
            watch.start()
            for line in process.stdout:
                if line.startswith(MARK):
                    rows.append(Row(**json.loads(line.removeprefix(MARK))))
                else:
                    print(line, end="", flush=True)
        watch.cancel()
        if process.returncode == 0:
            return rows, None
        errors.seek(0)
        said = errors.read().strip()
    print(said[-3000:], file=sys.stderr)
    killed = f"killed, after {limit:.0f} s at the latest" if limit and process.returncode == -9 else ""
    return rows, killed or (said.splitlines() or [f"exit code {process.returncode}"])[-1]


def table(rows: Sequence[Row], left_out: Sequence[str]) -> str:
    lines = [
        "| what | against | goal | ratio or figure (range) | ours | theirs | met |",
        "|---|---|---|---|---|---|---|",
    ]
    notes = [f"- {row.what}: {row.note}." for row in rows if row.note]
    notes += [f"- Not measured: {reason}." for reason in left_out]
    return "\n".join([*lines, *map(_line, rows), "", *dict.fromkeys(notes)])


def _line(row: Row) -> str:
    goal = f"≥ {row.at_least:g}" if row.at_least is not None else f"< {row.below:g}" if row.below is not None else ""
    theirs = "" if row.theirs is None else _figure(row.theirs, row.unit)
    met = {True: "yes", False: "**no**", None: ""}[row.met]
    measured = spread(row.values) if row.theirs is not None or row.below is not None else ""
    return f"| {row.what} | {row.against} | {goal} | {measured} | {_figure(row.ours, row.unit)} | {theirs} | {met} |"


def _figure(value: float, unit: str) -> str:
    return f"{value:,.2f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
