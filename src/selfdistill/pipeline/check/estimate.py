"""The part of `check` that is about time and memory, from short probes of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import compress, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...backends import backend_class
from ...data import DataCounts, draw
from ...errors import RenderError
from ...models.loading import load_renderer
from ...recipe import TrainConfig
from ...recipe.budget import Budget
from ...store.rows import write_json
from ...training.footprint import weight_shapes
from ...training.sequences import trained_row
from ...training.watched_probes import probes_of
from ...types import Progress, Prompt, messages_json
from ..context import Context
from ..disk import run_steps
from ..gap import gap_stage
from ..heldout_loss import loss_tasks
from ..lengths import RowLengths, examples_of
from ..rewrite import answer_sets, needs_rewrites, rewrites
from .probe import FOUND

SECONDS = 60.0
"""The time limit of a probe."""
_TOKENS = 16  # drawn per prompt
_PROMPTS = 64
_PROMPT_TOKENS = 6_000  # of all prompts of a probe together
_STEP_TOKENS = 4096  # a second step only if the first is smaller than this

Range = tuple[float, float]
"""The least and the most seconds."""


@dataclass
class TimeEstimate:
    """Lines for the plan, what must be fixed, and what is worth a look. `seconds` and `memory` (GiB) are per stage;
    `unknown` are the stages without an estimate."""

    lines: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, Range] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Work:
    """The amounts that the estimates are computed from: `response` and `prompt` are mean tokens."""

    context: Context
    lengths: RowLengths
    counts: DataCounts
    items: Mapping[str, int]
    train: Path

    @property
    def prompt(self) -> float:
        return float(self.lengths.prompts.mean())

    @property
    def response(self) -> float:
        return float(self.lengths.sequences.mean()) - self.prompt

    @property
    def answers(self) -> int:
        """The rewrites and other answers of the seed that the arms need."""
        arms = self.context.recipe.arms.values()
        names = {each.name for arm in arms for each in answer_sets(self.context, arm)}
        return len(names | ({""} if needs_rewrites(self.context) else set())) * self.different

    @property
    def different(self) -> int:
        return self.counts.examples - self.counts.duplicates


def estimate(
    context: Context, lengths: RowLengths, counts: DataCounts, items: Mapping[str, int], train: Path, told: Progress
) -> TimeEstimate:
    """Probes each engine and each training method of the recipe, one after the other."""
    found, work = TimeEstimate(), _Work(context, lengths, counts, items, train)
    if not weight_shapes(context.recipe.model) or not len(lengths.sequences):
        found.lines.append("time      not estimated, as the seed's weights are not on this machine")
        return found
    speeds = _engines(work, found, told)
    _trainings(work, found, told, speeds.get("hf"))
    if found.seconds:
        parts = ", ".join(f"{stage} {_minutes(*seconds)}" for stage, seconds in found.seconds.items())
        whole = [sum(bounds) for bounds in zip(*found.seconds.values(), strict=True)]
        unknown = f" and an unknown time for {' and '.join(found.unknown)}" if found.unknown else ""
        found.lines.append(
            f"time      about {_minutes(*whole)}{unknown}: {parts} (from a probe; the least if answers are as long as "
            "the responses in the data, the most if all run to their limit; without grading, a judge and the shift)"
        )
    if found.memory:
        held = ", ".join(f"{stage} {gib:.1f} GiB" for stage, gib in found.memory.items())
        found.lines.append(f"memory    {held} (the most that a probe held)")
    return found


def _minutes(least: float, most: float) -> str:
    low, high = (f"{seconds / 60:,.0f}" if seconds >= 60 else "under 1" for seconds in (least, most))
    return f"{low} min" if low == high else f"{low} to {high} min"


# ---- engines


def _engines(work: _Work, found: TimeEstimate, told: Progress) -> Mapping[str, Mapping[str, Any] | None]:
    """Probes the backends. Returns their speeds; None for a probe that failed."""
    recipe = work.context.recipe
    sides = {"rewriting": recipe.rewrite.backend} if work.answers else {}
    sides |= {"answering": recipe.evaluate.backend} if work.items else {}
    speeds: dict[str, Mapping[str, Any] | None] = {}
    for side, backend in sides.items():
        kind = backend_class(backend)
        if not kind.has_weights or kind.classifies:
            found.lines.append(f"time      {side} is not estimated: the backend {backend} is not probed")
            found.unknown.append(side)
            continue
        if backend not in speeds:
            told(f"check, probing {backend}", 0, 0)
            speeds[backend] = _probe_engine(work, backend, found)
        if not (speed := speeds[backend]):
            found.unknown.append(side)
        else:
            found.seconds[side] = _rewriting(work, speed) if side == "rewriting" else _answering(work, speed)
            found.memory[side] = speed["memory"]
            if side == "answering" and (tasks := loss_tasks(work.context)):
                there = [(work.items.get(task.name, work.counts.heldout), task.entry.n) for task in tasks]
                count = sum(min(items, n or items) for items, n in there)
                tokens = count * (work.prompt + work.response) * speed["read"] + speed["load"]
                found.seconds["loss"] = (len(work.context.runs) * tokens,) * 2
            if side == "rewriting" and (gap := gap_stage(work.context)):
                reading = 2 * work.different * (work.prompt + work.response) * speed["read"] + speed["load"]
                found.seconds[gap.name] = reading, reading
    return speeds


def _probe_engine(work: _Work, backend: str, found: TimeEstimate) -> Mapping[str, Any] | None:
    """Seconds per token that is read and per token that is drawn, and seconds to load."""
    recipe, sampling = work.context.recipe, work.context.recipe.rewrite.sampling
    prompts, tokens = _prompts(work)
    if not prompts:
        return None
    model, kind = rewrites(work.context).model, backend_class(backend)
    # As many rows per batch as in a run, although fewer tokens are drawn.
    rows = max(1, recipe.model.batch_tokens // (max(tokens) + sampling.limit(thinks=True)))
    batch = {"batch_tokens": min(rows, len(prompts)) * (max(tokens) + _TOKENS + 1)} if kind.forms_batches else {}
    job = {
        "backend": backend,
        "model": model.model_copy(update=batch).model_dump(mode="json"),
        "sampling": sampling.model_dump(),
        "tokens": _TOKENS,
        "prompts": [{"id": prompt.id, "messages": messages_json(prompt.messages)} for prompt in prompts],
    }
    lower = "model.batch_tokens" if kind.forms_batches else "model.engine.memory_fraction"
    result = _run(job, f"of the backend {backend}", f"lower {lower}, or take a smaller model", found)
    if result is None:
        return None
    return {**result, "read": result["read"] / sum(tokens), "draw": result["draw"] / result["drawn"]}


def _prompts(work: _Work) -> tuple[list[Prompt], list[int]]:
    """Rewriting prompts of drawn rows, and the tokens of each."""
    answers = rewrites(work.context)
    rewriter, renderer = answers.rewriter, load_renderer(answers.model)
    drawn = draw(work.lengths.responses, _PROMPTS, 0)
    prompts, tokens = list[Prompt](), list[int]()
    for _, example in compress(examples_of(work.train), drawn):
        prompt = rewriter.prompt(example)
        try:
            count = len(renderer.ids(prompt.messages))
        except RenderError:
            continue
        if prompts and sum(tokens) + count > _PROMPT_TOKENS:
            break
        prompts.append(prompt)
        tokens.append(count)
    return prompts, tokens


def _rewriting(work: _Work, speed: Mapping[str, Any]) -> Range:
    limit = work.context.recipe.rewrite.sampling.limit(work.context.thinks)
    return _range(work, speed, work.answers, work.prompt + work.response, limit, 1)  # the prompt holds the response too


def _answering(work: _Work, speed: Mapping[str, Any]) -> Range:
    runs, least, most = len(work.context.runs), 0.0, 0.0
    for name, count in work.items.items():
        task = work.context.tasks[name]
        if task.sampling:
            count = min(count, task.entry.n or count) * task.entry.samples * runs
            limit = task.sampling.limit(work.context.thinks)
            low, high = _range(work, speed, count, work.prompt, limit, 0)
            least, most = least + low, most + high
    return least + runs * speed["load"], most + runs * speed["load"]


def _range(work: _Work, speed: Mapping[str, Any], count: int, prompt: float, limit: int, loads: int) -> Range:
    read = count * prompt * speed["read"] + loads * speed["load"]
    return read + count * min(work.response, limit) * speed["draw"], read + count * limit * speed["draw"]


# ---- trainings


def _trainings(work: _Work, found: TimeEstimate, told: Progress, engine: Mapping[str, Any] | None) -> None:
    """Probes one training per method, and applies its speed to all runs of that method."""
    rates: dict[str, Mapping[str, Any] | None] = {}
    seconds, budgets = 0.0, list[Range]()
    for run in work.context.runs.values():
        if not run.config.trained:
            continue
        settings = run.train
        if settings.method not in rates:
            told(f"check, probing training ({settings.method})", 0, 0)
            rates[settings.method] = _probe_training(work, settings, found)
        if rate := rates[settings.method]:
            steps = run_steps(work.context, run, work.counts.to_json())
            tokens = float(np.minimum(work.lengths.sequences, settings.max_length).mean())
            seconds += steps * settings.batch_size * tokens / rate["tokens_per_second"] + rate["load"]
            found.memory[f"training ({settings.method})"] = rate["memory"]
            if settings.budget:
                budgets.append(_checks(work, settings.budget, steps, rate["tokens_per_second"], engine))
    if not all(rates.values()):
        found.unknown.append("training")
    elif seconds:
        found.seconds["training"] = seconds, seconds
        if budgets:
            found.seconds["budget"] = sum(low for low, _ in budgets), sum(high for _, high in budgets)


def _checks(
    work: _Work, budget: Budget, steps: int, tokens_per_second: float, engine: Mapping[str, Any] | None
) -> Range:
    """The checks of a budget over a whole training: a pass over the seed's answers for each, for a third of what
    training on as many tokens costs; at most, all probes are asked again at each. Drawing costs what the probe of the
    backend hf found; without it, as much per token as training."""
    checks = sum(budget.checked(step, steps) for step in range(1, steps + 1))
    passes = (checks + 1) * budget.items * float(work.lengths.sequences.mean()) / tokens_per_second / 3
    limits = sum(probe.limit for probe in probes_of(budget)[0])
    drawing = limits * (engine["draw"] if engine else 1 / tokens_per_second)
    return passes, passes + (checks + 1) * drawing


def _probe_training(work: _Work, settings: TrainConfig, found: TimeEstimate) -> Mapping[str, Any] | None:
    micro = settings.micro_batch_size
    longest = np.argsort(-work.lengths.sequences, kind="stable")[: 2 * micro]
    tokens = [min(int(work.lengths.sequences[i]), settings.max_length) for i in longest]
    steps = 2 if sum(tokens[:micro]) <= _STEP_TOKENS and len(longest) > micro else 1
    wanted = {int(work.lengths.rows[i]) for i in longest[: steps * micro]}
    examples = (example for row, example in examples_of(work.train) if row in wanted)
    rows = [
        trained_row(example, example.reference, "original", example.thought)
        for example in islice(examples, steps * micro)
    ]
    changes = {
        "max_steps": steps, "batch_size": micro, "launch": None, "merge": False, "mask_above": None,
        "allow_unusable_rows": True, "extra": {**settings.extra, "save_strategy": "no"},
    }  # fmt: skip
    job = {
        "model": work.context.recipe.model.model_dump(mode="json"),
        "train": settings.model_copy(update=changes).model_dump(mode="json"),
        "rows": rows,
    }
    lower = "lower train.micro_batch_size or train.max_length, or set train.gradient_checkpointing=true"
    lower += ", or train.method=lora" if settings.method == "full" else ""
    what = f"of training ({settings.method}, {micro} rows of up to {max(tokens):,} tokens at a time)"
    return _run(job, what, lower, found)


# ---- the process


def _run(job: Mapping[str, Any], what: str, lower: str, found: TimeEstimate) -> Mapping[str, Any] | None:
    """What a probe found. None, with a sentence in `found`, if it ran out of memory or time, or failed."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / "job.json", job)
        code = _ended(folder)
        result = _read(folder / FOUND)
    if (code or 0) < 0 or "out_of_memory" in result:  # the system kills, or a library aborts, without memory
        found.missing.append(f"The probe {what} ran out of memory; {lower}.")
    elif code is None:
        found.warnings.append(
            f"The probe {what} took more than {SECONDS:g} s, so time and memory are not estimated for it."
        )
    elif "problem" in result:
        found.missing.append(str(result["problem"]))
    elif result:
        return result
    else:
        found.warnings.append(f"The probe {what} failed (exit code {code}), so time and memory are not estimated.")
    return None


def _ended(folder: Path) -> int | None:
    """Runs the probe in `folder`. Returns its exit code, None if it was ended at the time limit."""
    words = [sys.executable, "-m", "selfdistill.pipeline.check.probe", str(folder / "job.json")]
    nowhere = subprocess.DEVNULL
    # A session of its own, so that the engine's processes end with it.
    with subprocess.Popen(words, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True) as process:
        try:
            return process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
