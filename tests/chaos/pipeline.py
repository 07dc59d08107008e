"""The whole pipeline on a tiny model, as processes that can be hurt, and what must come out of it whatever happens."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.rows import sum_rows, write_rows
from support.tiny import tiny_model

RECIPE = """
model: {path: %(model)s, dtype: float32, batch_tokens: 1200}
data: {path: %(rows)s, heldout: 8}
rewrite: {backend: %(backend)s, grader: %(grader)s, template: using, min_accepted: 0, filters: {min_length_ratio: null},
          sampling: {preset: paper, max_new_tokens: 24}}
train: {lr: 1.0e-2, max_steps: 8, batch_size: 4, micro_batch_size: 4, max_length: 400, save_every: 2}
arms: {seed: {data: none}, vanilla: {data: original}, sdft: {data: rewrites},
       half: {data: interpolate, of: sdft, alpha: 0.5}}
evaluate: {backend: %(backend)s, tasks: [heldout, {task: demo-safety, n: 8}],
           sampling: {max_new_tokens: 16}}
"""
# What a run that was hurt must have byte for byte. Left out is what tells of the run itself: manifest.json, train.json
# and train.jsonl hold seconds, rates and memory (of the last the losses are compared); report.html shows them.
COMPARED = (
    "data/*.jsonl", "items/*.jsonl", "rewrite/*.jsonl", "arms/*/data.jsonl", "arms/*/model/*", "shift/*.json",
    "arms/*/evaluate/*/*.jsonl", "arms/*/evaluate/*/score.json", "verdict.json",
)  # fmt: skip
MEASURED = ("arms/*/train.jsonl", "rewrite/likelihoods.jsonl", "rewrite/gap.jsonl")
FROM_WEIGHTS = ("arms/*/model/*.safetensors", "shift/*.json", "verdict.json")
APPENDED = ("completions.jsonl", "answers.jsonl", "judged.jsonl", "likelihoods.jsonl")  # rows made again come last


def write_recipes(folder: Path) -> dict[str, Path]:
    """The same pipeline with the fake backend, and with transformers."""
    model = tiny_model(folder / "model")
    write_rows(folder / "rows.jsonl", sum_rows(40))
    recipes = {}
    for backend, grader in (("fake", "final_number"), ("hf", "none")):
        recipes[backend] = folder / f"{backend}.yaml"
        values = {"model": model, "rows": folder / "rows.jsonl", "backend": backend, "grader": grader}
        recipes[backend].write_text(RECIPE % values, encoding="utf-8")
    return recipes


def load_libraries() -> None:
    """Once, so that a child that is forked begins with its work. Nothing is computed here: threads don't survive."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    ours = ("cli", "training", "pipeline.check", "reports", "backends.hf", "backends.fake")
    for name in ("datasets", "matplotlib.pyplot", "peft", "torch", "trl", *(f"selfdistill.{part}" for part in ours)):
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)


class Child:
    """`selfdistill run RECIPE --dir WHERE` in a process of its own. `prepare` is called in it before it begins."""

    def __init__(
        self, recipe: Path, where: Path, prepare: Callable[[], None] = lambda: None, log: Path | None = None
    ) -> None:
        self.log = log or where.parent / f"{where.name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.begun = time.monotonic()
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._be_the_command(recipe, where, prepare)

    def _be_the_command(self, recipe: Path, where: Path, prepare: Callable[[], None]) -> None:
        code = 1
        try:
            out = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            sys.argv = ["selfdistill", "run", str(recipe), "--dir", str(where)]
            from selfdistill.cli import main

            importlib.import_module("torch").set_num_threads(2)  # so that batches are computed side by side
            prepare()
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def running(self) -> bool:
        if self.code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if done else None
        return self.code is None

    def wait(self, seconds: float = 300) -> int:
        """Its exit code, negative for a signal's number. A process that hangs is a finding."""
        end = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > end:
                os.kill(self.pid, 9)
                raise SystemExit(f"{self.log} hangs")
            time.sleep(0.002)
        assert self.code is not None
        return self.code

    def signal(self, number: int) -> None:
        if self.running():
            os.kill(self.pid, number)

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def at_work(where: Path) -> str:
    """The stage that a directory's manifest says is begun and not finished."""
    try:
        stages = json.loads((where / "manifest.json").read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError):
        return "start"
    return next((name.split("/")[0] for name, row in reversed(stages.items()) if "finished" not in row), "between")


def result(where: Path) -> dict[str, bytes]:
    """What is compared, by file; of appended files the rows in a fixed order."""
    paths = sorted({path for pattern in COMPARED for path in where.glob(pattern)})
    found = {
        str(path.relative_to(where)): path.read_bytes()
        for path in paths
        if path.is_file() and path.suffix not in (".damaged", ".partial")
    }
    for name, content in found.items():
        if Path(name).name in APPENDED:
            found[name] = b"".join(sorted(content.splitlines(keepends=True)))
    for path in where.glob("arms/*/train.jsonl"):
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        losses = [[row[key] for key in ("step", "loss", "lr", "grad_norm")] for row in rows]
        found[str(path.relative_to(where))] = json.dumps(losses).encode()
    return found


def only_rounding(whole: dict[str, bytes], found: dict[str, bytes]) -> bool:
    """Whether nothing differs but losses and likelihoods, by less than a hundredth, and what was trained and is
    measured on it. Where a library has no memory for a kernel it computes with another, which rounds in another way."""
    for name in whole.keys() & found.keys():
        if whole[name] != found[name] and not any(fnmatch(name, pattern) for pattern in FROM_WEIGHTS):
            if not any(fnmatch(name, pattern) for pattern in MEASURED):
                return False
            one, other = ([json.loads(line) for line in files[name].splitlines()] for files in (whole, found))
            if not _near(one, other):
                return False
    return whole.keys() == found.keys()


def _near(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 0.01 * abs(one)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_near(one[key], other[key]) for key in one.keys() - {"crc"})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_near, one, other))
    return bool(one == other)


def rows_lost_and_doubled(whole: dict[str, bytes], found: dict[str, bytes]) -> tuple[int, int]:
    lost = doubled = 0
    for name, content in whole.items():
        if name.endswith(".jsonl"):
            before, now = (Counter(part.splitlines()) for part in (content, found.get(name, b"")))
            lost, doubled = (
                lost + (before - now).total(),
                doubled + sum(n - before[row] for row, n in now.items() if n > before[row] > 0),
            )
    return lost, doubled
