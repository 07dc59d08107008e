"""The whole recipe: data, rewrite, train, evaluate, verdict, report. Each function works on an experiment's directory
and does what isn't done yet; library functions below take values, the recipe stops here."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .backends import open_backend
from .completions import LazyBackend, Progress, silent
from .config import Recipe
from .data import assemble, draw, iter_conversations, prepare
from .errors import ExperimentError, StageError
from .experiment import Experiment
from .plan import Plan
from .rewrite import Acceptance
from .rows import RowFile, first_occurrences, read_lines, write_json, write_lines
from .stages_evaluate import evaluate_runs, grade_again, runs_named
from .types import Conversation, Example, Rewrite, messages_from_json, messages_json
from .verdict import make_verdict

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def run(recipe: Recipe, directory: Path | str, progress: Progress = silent) -> dict[str, Any]:
    """Everything from the dataset to the verdict and its page; what is done already is skipped. Gives the verdict."""
    with _working(Experiment(directory, recipe)) as (experiment, plan):
        _rewrite(experiment, plan, progress)
        _train(experiment, plan, progress)
        evaluate_runs(experiment, plan, progress)
        return _report(experiment, plan)


def rewrite(experiment: Experiment, progress: Progress = silent) -> dict[str, Any]:
    """Rewrites and verifies; gives the acceptance. Raises StageError where fewer than `min_accepted` pass."""
    with _working(experiment) as (_, plan):
        return _rewrite(experiment, plan, progress, wanted=True)


def train(experiment: Experiment, progress: Progress = silent, arms: Sequence[str] = ()) -> None:
    """Trains the arms that aren't trained yet (all, or those named), rewriting first where one needs it."""
    with _working(experiment) as (_, plan):
        _rewrite(experiment, plan, progress)
        _train(experiment, plan, progress, arms)


def evaluate(experiment: Experiment, progress: Progress = silent, arms: Sequence[str] = ()) -> dict[str, Any]:
    """Answers and grades with the arms that are trained (all, or those named); gives the verdict."""
    with _working(experiment) as (_, plan):
        _data(experiment, plan, progress)
        evaluate_runs(experiment, plan, progress, runs_named(plan, arms))
        return _report(experiment, plan)


def regrade(experiment: Experiment) -> dict[str, Any]:
    """Grades the saved answers again, with the graders as they are now, and without a model; gives the verdict."""
    experiment.as_it_is = True
    with _working(experiment) as (_, plan):
        grade_again(experiment, plan)
        return _report(experiment, plan)


def report(experiment: Experiment) -> dict[str, Any]:
    """Writes verdict.json, report.html and rewrites.html from what there is; gives the verdict."""
    experiment.as_it_is = True
    with _working(experiment) as (_, plan):
        return _report(experiment, plan)


@contextmanager
def _working(experiment: Experiment) -> Iterator[tuple[Experiment, Plan]]:
    """The experiment locked, its settings compared with what was done before, a full disk told in a sentence."""
    plan = Plan(experiment.recipe)
    stages = [] if experiment.as_it_is else plan.stages
    if experiment.as_it_is and not experiment.manifest["stages"]:
        raise ExperimentError(
            f"{experiment.directory} holds nothing to report yet; start with `selfdistill run RECIPE`."
        )
    with experiment.locked():
        try:
            experiment.begin(stages)
            yield experiment, plan
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            raise ExperimentError(
                f"{error.filename or experiment.directory}: {error.strerror}. What was done so far is kept; mend that "
                "and run again."
            ) from error


def _data(experiment: Experiment, plan: Plan, progress: Progress) -> None:
    stage = plan.data_stage
    if experiment.finished(stage):
        return
    with experiment.run_stage(stage) as run:
        progress("data", 0, 0)
        run.counts = prepare(plan.source, experiment.path("data"), plan.target.load).to_json()


def _examples(experiment: Experiment) -> Iterator[Example]:
    for conversation in iter_conversations(experiment.path("data", "train.jsonl")):
        yield from conversation.examples()


def _rewrite(experiment: Experiment, plan: Plan, progress: Progress, wanted: bool = False) -> dict[str, Any]:
    """Rewriting, verification, and the stop where too little is accepted. Exact duplicates are rewritten once."""
    _data(experiment, plan, progress)
    if not (wanted or plan.needs_rewrites):
        return {}
    rewriting, verifying = plan.rewrite_stage, plan.verify_stage
    if not (experiment.finished(rewriting) and experiment.finished(verifying)):
        first = first_occurrences(example.id for example in _examples(experiment))
        if not experiment.finished(rewriting):
            with experiment.run_stage(rewriting) as run:
                run.counts = _generate(experiment, plan, first, progress)
        with experiment.run_stage(verifying) as run:
            run.counts = _verify(experiment, plan, first, progress)
    counts = experiment.counts(verifying.name)
    if counts["rate"] < plan.recipe.rewrite.min_accepted:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts["reasons"].items())
        raise StageError(
            f"Only {counts['accepted']} of {counts['rows']} rewrites were accepted ({reasons}), less than "
            f"rewrite.min_accepted = {plan.recipe.rewrite.min_accepted:g}, so SDFT would train on the originals. "
            f"Look at {experiment.path('rewrite', 'rewrites.jsonl')}; try another grader here, another template or "
            "model in a new directory, or lower rewrite.min_accepted."
        )
    return counts


def _generate(experiment: Experiment, plan: Plan, first: npt.NDArray[np.bool_], progress: Progress) -> dict[str, Any]:
    opener = partial(open_backend, plan.recipe.rewrite.backend, plan.rewriting_model)
    with LazyBackend(opener) as backend, _completions(experiment) as rows:
        told = partial(progress, "rewrite")
        plan.rewriter.generate(_chosen(experiment, first), int(first.sum()), backend, rows, told)
    return {"rows": int(first.sum())}


def _verify(experiment: Experiment, plan: Plan, first: npt.NDArray[np.bool_], progress: Progress) -> dict[str, Any]:
    acceptance = Acceptance()
    with _completions(experiment, reading=True) as rows:
        selected = acceptance.count(plan.rewriter.select(_chosen(experiment, first), rows))
        shown = _counted(selected, int(first.sum()), partial(progress, "verify"))
        write_lines(experiment.path("rewrite", "rewrites.jsonl"), (rewrite.to_json() for rewrite in shown))
    return {**acceptance.to_json(), "duplicates": len(first) - int(first.sum())}


def _completions(experiment: Experiment, reading: bool = False) -> RowFile:
    return RowFile(experiment.path("rewrite", "completions.jsonl"), reading)


def _chosen(experiment: Experiment, wanted: npt.NDArray[np.bool_]) -> Iterator[Example]:
    return compress(_examples(experiment), wanted)


def _counted(rows: Iterable[Rewrite], total: int, progress: Callable[[int, int], None]) -> Iterator[Rewrite]:
    for done, row in enumerate(rows, 1):
        yield row
        if done % 1000 == 0 or done == total:
            progress(done, total)


def _train(experiment: Experiment, plan: Plan, progress: Progress, arms: Sequence[str] = ()) -> None:
    from .train import train as train_model

    for run in runs_named(plan, arms) or plan.runs:
        stage = plan.train_stage(run)
        folder, settings = experiment.path("arms", run), plan.run_train(run)
        to_merge = settings.merge and settings.method != "full" and not (folder / "merged").is_dir()
        if stage is None or (experiment.finished(stage) and not to_merge):
            continue
        with experiment.run_stage(stage) as record:
            path = experiment.path("arms", run, "data.jsonl")
            write_lines(path, _run_rows(experiment, plan, run))
            conversations = (messages_from_json(row["messages"]) for row in read_lines(path))
            told = partial(progress, f"train {run}")
            result = train_model(conversations, plan.recipe.model, settings, folder, _without_loss(told))
            record.counts = result.to_json()


def _without_loss(told: Callable[[int, int], None]) -> Callable[[int, int, float | None], None]:
    return lambda step, steps, _loss: told(step, steps)


def _run_rows(experiment: Experiment, plan: Plan, run: str) -> Iterator[dict[str, Any]]:
    """The conversations a run trains on, each assistant turn with the response that its arm's `data` chooses."""
    config = plan.runs[run]
    total = experiment.counts("data")["train"]
    ratio = {"original": 0.0, "rewrites": 1.0}[config.data] if isinstance(config.data, str) else config.data
    drawn = draw(total, config.n, plan.source.seed)
    rewritten = np.zeros(total, bool)
    chosen = np.flatnonzero(drawn)
    rewritten[chosen[draw(len(chosen), round(ratio * len(chosen)), plan.source.seed + 1)]] = True
    path = experiment.path("rewrite", "rewrites.jsonl")
    with RowFile(path, reading=True) if ratio else nullcontext() as rewrites:
        for index, conversation in enumerate(iter_conversations(experiment.path("data", "train.jsonl"))):
            if drawn[index]:
                yield _choose(conversation, rewrites if rewritten[index] else None)


def _choose(conversation: Conversation, rewrites: RowFile | None) -> dict[str, Any]:
    """A conversation put together from its chosen turns: its messages, and of each turn the example's id and source."""
    ids: list[str] = []
    sources: list[str] = []

    def response(example: Example) -> str:
        ids.append(example.id)
        if rewrites is None:
            sources.append("original")
            return example.reference
        row = rewrites.get(example.id)
        if row is None:
            raise ExperimentError(f"{rewrites.path} lacks the row {example.id}; delete it and run again.")
        chosen = Rewrite.from_json(row)
        sources.append(chosen.source)
        return chosen.response

    messages = assemble(conversation, response)
    return {"messages": messages_json(messages), "ids": ids, "sources": sources}


def _report(experiment: Experiment, plan: Plan) -> dict[str, Any]:
    from .report import write_report

    verdict = make_verdict(experiment, plan)
    write_json(experiment.path("verdict.json"), verdict)
    write_report(experiment.directory)
    return verdict


__all__ = ["evaluate", "regrade", "report", "rewrite", "run", "train"]
