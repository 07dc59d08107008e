"""The whole recipe, step by step. Each function works on an experiment's directory and does what isn't done yet.

A step has one file here, which declares its stages (settings, inputs, files) and runs them: data, rewrite, choose, gap,
train, evaluate, heldout_loss, shift, results. `context` resolves a recipe into the values that the steps read.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backends import answering_class
from ..errors import ExperimentError, SelfDistillError, StageError
from ..grading import compares_embeddings
from ..models.gguf import weights_note
from ..models.source import pinned
from ..recipe import Recipe
from ..sandbox import check_sandbox
from ..store.experiment import Experiment
from ..store.marks import read_marks
from ..store.rows import write_json
from ..training.guard import short_of_memory
from ..types import Progress, silent
from .arm_instead import only_merges, stop_if_changed, warn_of_changes
from .baseline import baseline_of, choosing_scores, record_regraded, take_answers
from .beforehand import stop_if_unfit, stop_without_needs, stop_without_training_needs
from .choose import choose_responses
from .context import Context, Run, make_context
from .data import prepare_data
from .evaluate import evaluate_runs, grade_again, prepare_items
from .gap import measure_gap
from .gate import Design, ask_in_looks, read_design, reused_answers
from .heldout_loss import measure_losses
from .needs import with_known_backends
from .preview import PREVIEWED, Previewed, preview_rows
from .rewrite import check_templates, rewrite_data
from .shift import shift_runs
from .stages import stages_of
from .train import launch_commands, train_runs
from .whole import Unfinished, report_whole, unfinished


def run(recipe: Recipe, directory: Path | str, progress: Progress = silent) -> dict[str, Any]:
    """Everything from the dataset to the verdict and its page; finished stages are skipped. Returns the verdict."""
    with _working(Experiment(directory, recipe)) as (experiment, context):
        report_whole(experiment, context, progress)
        stop_without_needs(experiment, context)
        prepare_data(experiment, context, progress)
        prepare_items(experiment, context)
        stop_if_unfit(experiment, context, context.runs.values(), progress)
        context = _make_responses(experiment, context, progress)
        measure_gap(experiment, context, progress)
        train_runs(experiment, context, list(context.runs.values()), progress)
        try:
            evaluate_runs(experiment, context, (), progress)
        except SelfDistillError:
            _report(experiment, context)  # of the finished scores: a judge that fails costs no other score
            raise
        measure_losses(experiment, context, (), progress)
        shift_runs(experiment, context, (), progress)
        return _report(experiment, context)


def preview(experiment: Experiment, n: int = 5, progress: Progress = silent) -> list[Previewed]:
    """Rewrites the first `n` different training rows and grades them. Returns each rewrite with the text to train on; a
    later run in the directory uses the rewrites."""
    with _working(experiment, previewing=True) as (_, context):
        _check_sandbox(context)
        return preview_rows(experiment, context, n, progress)


def rewrite(experiment: Experiment, progress: Progress = silent) -> dict[str, Any]:
    """Rewrites and verifies. Returns the counts of the acceptance. Raises StageError if fewer than `min_accepted`
    rewrites are accepted."""
    with _working(experiment) as (_, context):
        _check_sandbox(context)
        context = _make_responses(experiment, context, progress, even_if_unused=True)
        measure_gap(experiment, context, progress)
        return experiment.counts("verify")


def train(experiment: Experiment, progress: Progress = silent, arms: Sequence[str] = ()) -> dict[str, Path]:
    """Trains the arms that aren't trained yet (all arms, or those named), and rewrites first if one needs rewrites.
    Returns the folder of each of their runs' weights by name: `merged` with train.merge, else `model`. If nothing but
    train.merge differs from the saved recipe, that recipe is kept: a later run would merge the other arms too."""
    with _working(experiment, arms, keep_recipe=only_merges(experiment)) as (_, context):
        runs = _runs_named(context, arms) or list(context.runs.values())
        stop_without_training_needs(experiment, context, runs)
        prepare_data(experiment, context, progress)
        stop_if_unfit(experiment, context, runs, progress)
        context = _make_responses(experiment, context, progress)
        measure_gap(experiment, context, progress)
        train_runs(experiment, context, runs, progress)
        folders = {run.name: _weights(experiment.path("arms", run.name), run) for run in runs}
        return {name: folder for name, folder in folders.items() if folder.is_dir()}


def _weights(folder: Path, run: Run) -> Path:
    """The folder of a run's weights."""
    merged = folder / "merged"
    return merged if run.train.merge and merged.is_dir() else folder / "model"


def train_commands(
    experiment: Experiment, progress: Progress = silent, arms: Sequence[str] = ()
) -> dict[str, list[str]]:
    """For a job scheduler: the command of each arm that isn't trained yet (of all arms, or those named). Rewrites first
    if one needs rewrites. `train` and `run` use the weights that the command writes. Raises RecipeError without
    `train.launch`."""
    with _working(experiment, arms) as (_, context):
        runs = _runs_named(context, arms) or list(context.runs.values())
        stop_without_training_needs(experiment, context, runs)
        prepare_data(experiment, context, progress)
        stop_if_unfit(experiment, context, runs, progress)
        context = _make_responses(experiment, context, progress)
        return launch_commands(experiment, context, runs)


def evaluate(experiment: Experiment, progress: Progress = silent, arms: Sequence[str] = ()) -> dict[str, Any]:
    """Answers and grades with the trained arms (all of them, or those named). Returns the verdict."""
    with _working(experiment, arms) as (_, context):
        runs = _runs_named(context, arms)
        _check_sandbox(context)
        prepare_data(experiment, context, progress)
        evaluate_runs(experiment, context, runs, progress)
        measure_losses(experiment, context, runs, progress)
        return _report(experiment, context)


def shift(experiment: Experiment, progress: Progress = silent, arms: Sequence[str] = ()) -> dict[str, Any]:
    """Measures again how far the evaluated arms (all of them, or those named) moved from the seed. Returns the
    verdict."""
    with _working(experiment, arms) as (_, context):
        shift_runs(experiment, context, _runs_named(context, arms), progress, force=True)
        return _report(experiment, context)


def gate(
    recipe: Recipe,
    directory: Path | str,
    design: Design,
    progress: Progress = silent,
    baseline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Compares a candidate with the seed on a suite, a part of the items at a time, and stops once the answer is clear.
    With a `baseline` (see `pipeline.baseline`) the seed is not loaded. Returns the verdict; its `gate` has the exit
    code."""
    form = baseline["form"] if baseline else None
    with _working(Experiment(directory, recipe), seed_form=form) as (experiment, context):
        design = replace(design, reused=reused_answers(experiment, context))
        stop_without_needs(experiment, context)
        prepare_items(experiment, context)
        if baseline:
            take_answers(experiment, context, baseline)
            design = replace(design, choosing=choosing_scores(baseline))
        context = ask_in_looks(experiment, context, design, progress, _is_clear)
        if baseline:
            record_regraded(experiment, context, baseline)
        measure_losses(experiment, context, (), progress)
        shift_runs(experiment, context, (), progress)
        return _report(experiment, context)


def _is_clear(experiment: Experiment, context: Context) -> bool:
    from .results import results

    return bool(results(experiment, context)["gate"]["clear"])


def make_baseline(recipe: Recipe, directory: Path | str, design: Design, progress: Progress = silent) -> dict[str, Any]:
    """The seed's graded answers to all items of a gate, as the content of a baseline file."""
    with _working(Experiment(directory, recipe)) as (experiment, context):
        stop_without_needs(experiment, context)
        prepare_items(experiment, context)
        context = ask_in_looks(experiment, context, design, progress, lambda _experiment, _context: False)
        return baseline_of(experiment, context, design)


def regrade(experiment: Experiment) -> dict[str, Any]:
    """Grades the saved answers again with the current graders, without a model. Returns the verdict."""
    with _working(experiment, read_only=True) as (experiment, context):
        _check_sandbox(context)
        grade_again(experiment, context)
        return _report(experiment, context)


def report(experiment: Experiment) -> dict[str, Any]:
    """Writes verdict.json, report.html and rewrites.html from the existing files. Returns the verdict."""
    with _working(experiment, read_only=True) as (experiment, context):
        return _report(experiment, context)


def unfinished_run(experiment: Experiment) -> Unfinished | None:
    """How much of the experiment's run is done; None if all of it is, and for a gate, which asks no more than it
    needs."""
    with _working(experiment, read_only=True) as (experiment, context):
        return None if context.looks or read_design(experiment) else unfinished(experiment, context)


def _make_responses(
    experiment: Experiment, context: Context, progress: Progress, even_if_unused: bool = False
) -> Context:
    """Rewrites, verifies and chooses. Returns the context with the rows that were marked by hand until then."""
    rewrite_data(experiment, context, progress, even_if_unused)
    context = replace(context, marks=read_marks(experiment.directory))
    choose_responses(experiment, context, progress)
    return context


def _runs_named(context: Context, names: Sequence[str]) -> list[Run]:
    """The runs of the arms, or the single runs, that a user names. Raises ExperimentError for other names."""
    seed = context.recipe.train.seed  # its runs have the names of their arms, and can be named by the seed too
    named = {f"{name}@{seed}": [run] for name, run in context.runs.items() if "@" not in name}
    named |= {name: [run] for name, run in context.runs.items()}
    named |= {arm: context.runs_of(arm) for arm in context.recipe.arms}
    if unknown := [name for name in names if name not in named]:
        raise ExperimentError(f"There is no arm {', '.join(unknown)}; the recipe has {', '.join(context.recipe.arms)}.")
    return [run for name in names for run in named[name]]


_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)


@contextmanager
def _working(
    experiment: Experiment,
    arms: Sequence[str] = (),
    read_only: bool = False,
    seed_form: Mapping[str, str | None] | None = None,
    previewing: bool = False,
    keep_recipe: bool = False,
) -> Iterator[tuple[Experiment, Context]]:
    """Locks the experiment, compares its settings with those of the finished stages, and turns errors of disk and
    memory into sentences. With `read_only` nothing is compared: finished stages count as finished. The names of `arms`
    are checked before anything else. `seed_form` is that of `Context`. With `previewing` only the settings of data and
    rewrites are compared, and the recipe of a run that has begun is kept; with `keep_recipe` the saved recipe is."""
    if arms:
        _runs_named(make_context(experiment.recipe), arms)
    recipe = with_known_backends(experiment.recipe, experiment.manifest) if read_only else experiment.recipe
    judge = recipe.judge
    judge_has_weights = judge is not None and answering_class(judge.backend, judge.model).has_weights
    embeds = compares_embeddings(recipe.rewrite.grader or "none")
    recipe, commits = pinned(recipe, experiment.manifest, not read_only, judge_has_weights, embeds)
    design = read_design(experiment)
    context = make_context(recipe, experiment.date, experiment.manifest.get("sources"))
    context = replace(context, seed_form=seed_form, looks=design.looks if design else ())
    context = replace(context, marks=read_marks(experiment.directory))
    experiment = experiment.read_only() if read_only else experiment
    stages = [] if read_only else stages_of(context)
    compared = [stage for stage in stages if not previewing or stage.name in PREVIEWED]
    if read_only and not experiment.manifest["stages"]:
        raise ExperimentError(
            f"{experiment.directory} holds nothing to report yet; start with `selfdistill run RECIPE`."
        )
    with experiment.locked():
        try:
            stop_if_changed(experiment, context, compared)
            if not (read_only or previewing or keep_recipe):
                warn_of_changes(experiment)
            begun = not experiment.manifest["stages"].keys() <= PREVIEWED
            experiment.begin(keep_recipe=keep_recipe or (previewing and begun))
            experiment.record_commits(commits)
            experiment.record_sources(context.sources)
            if not all(map(experiment.finished, stages)):
                check_templates(context)
                experiment.record_weights(weights_note(recipe.model.path))
            yield experiment, context
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            raise ExperimentError(
                f"{error.filename or experiment.directory}: {error.strerror}. Finished work is kept; fix this and run "
                "the command again."
            ) from error
        except (MemoryError, RuntimeError, ImportError) as error:
            if not short_of_memory(error):
                raise
            raise StageError(
                "There is too little memory. Finished work is kept; free some memory, or lower model.batch_tokens or "
                "train.micro_batch_size, and run the command again."
            ) from error


def _check_sandbox(context: Context) -> None:
    if context.needs_sandbox:
        check_sandbox(context.recipe.sandbox)


def _report(experiment: Experiment, context: Context) -> dict[str, Any]:
    from ..reports import write_report
    from ..reports.cards import Shared, write_cards
    from ..reports.sentences import with_sentences
    from .results import results
    from .tracked_scores import track_scores

    verdict = with_sentences(results(experiment, context))
    write_json(experiment.path("verdict.json"), verdict)
    write_report(experiment.directory)
    write_cards(Shared(experiment.directory, context.recipe, verdict, experiment.manifest))
    track_scores(experiment, context, verdict)
    return verdict


__all__ = [
    "evaluate", "gate", "make_baseline", "preview", "regrade", "report", "rewrite", "run", "shift", "train",
    "train_commands", "unfinished_run",
]  # fmt: skip
