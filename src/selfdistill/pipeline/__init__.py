"""The whole recipe: data, rewrite, train, evaluate, verdict, report. Each function works on an experiment's directory
and does what isn't done yet; library functions below take values, the recipe stops here."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ExperimentError, SelfDistillError, StageError
from ..models.commits import pinned
from ..models.loading import out_of_memory
from ..recipe import Recipe
from ..sandbox import check_sandbox
from ..store.experiment import Experiment
from ..store.rows import write_json
from ..types import Progress, silent
from .check.evaluation import evaluation_needs
from .check.templates import check_templates
from .distribution_shift import shift_runs
from .evaluation import evaluate_runs, grade_again, prepare_items, runs_named
from .gap import measure_gap
from .plan import Plan
from .rewriting import prepare_data, rewrite_data
from .training import launch_commands, train_runs

# oneDNN on a CPU, and the loader of a library that is imported late: for want of memory, which neither says.
_NO_MEMORY = ("could not create a", "failed to map segment")
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)


def run(recipe: Recipe, directory: Path | str, progress: Progress = silent) -> dict[str, Any]:
    """Everything from the dataset to the verdict and its page; what is done already is skipped. Gives the verdict."""
    with _working(Experiment(directory, recipe)) as (experiment, plan):
        if missing := evaluation_needs(plan):
            raise StageError(" ".join(missing))
        prepare_data(experiment, plan, progress)
        prepare_items(experiment, plan)  # a file that can't be read shows before anything is paid for
        rewrite_data(experiment, plan, progress)
        measure_gap(experiment, plan, progress)
        train_runs(experiment, plan, progress)
        try:
            evaluate_runs(experiment, plan, progress)
        except SelfDistillError:
            _report(experiment, plan)  # of what there is: a judge that dies takes no other score with it
            raise
        shift_runs(experiment, plan, progress)
        return _report(experiment, plan)


def rewrite(experiment: Experiment, progress: Progress = silent) -> dict[str, Any]:
    """Rewrites and verifies; gives the acceptance. Raises StageError where fewer than `min_accepted` pass."""
    with _working(experiment) as (_, plan):
        _check_sandbox(plan)
        acceptance = rewrite_data(experiment, plan, progress, wanted=True)
        measure_gap(experiment, plan, progress)
        return acceptance


def train(experiment: Experiment, progress: Progress = silent, arms: Sequence[str] = ()) -> None:
    """Trains the arms that aren't trained yet (all, or those named), rewriting first where one needs it."""
    with _working(experiment) as (_, plan):
        rewrite_data(experiment, plan, progress)
        measure_gap(experiment, plan, progress)
        train_runs(experiment, plan, progress, arms)


def train_commands(
    experiment: Experiment, progress: Progress = silent, arms: Sequence[str] = ()
) -> dict[str, list[str]]:
    """The command of each arm that isn't trained yet (all, or those named), for a job scheduler; rewrites first where
    one needs it. `train` and `run` take what the command has finished. Raises RecipeError without `train.launch`."""
    with _working(experiment) as (_, plan):
        rewrite_data(experiment, plan, progress)
        return launch_commands(experiment, plan, arms)


def evaluate(experiment: Experiment, progress: Progress = silent, arms: Sequence[str] = ()) -> dict[str, Any]:
    """Answers and grades with the arms that are trained (all, or those named); gives the verdict."""
    with _working(experiment) as (_, plan):
        _check_sandbox(plan)
        prepare_data(experiment, plan, progress)
        evaluate_runs(experiment, plan, progress, runs_named(plan, arms))
        return _report(experiment, plan)


def shift(experiment: Experiment, progress: Progress = silent, arms: Sequence[str] = ()) -> dict[str, Any]:
    """Measures anew how far the evaluated arms (all, or those named) moved from the seed; gives the verdict."""
    with _working(experiment) as (_, plan):
        shift_runs(experiment, plan, progress, runs_named(plan, arms), anew=True)
        return _report(experiment, plan)


def regrade(experiment: Experiment) -> dict[str, Any]:
    """Grades the saved answers again, with the graders as they are now, and without a model; gives the verdict."""
    with _working(experiment, read_only=True) as (experiment, plan):
        _check_sandbox(plan)
        grade_again(experiment, plan)
        return _report(experiment, plan)


def report(experiment: Experiment) -> dict[str, Any]:
    """Writes verdict.json, report.html and rewrites.html from what there is; gives the verdict."""
    with _working(experiment, read_only=True) as (experiment, plan):
        return _report(experiment, plan)


@contextmanager
def _working(experiment: Experiment, read_only: bool = False) -> Iterator[tuple[Experiment, Plan]]:
    """The experiment locked, its settings compared with what was done before, a full disk told in a sentence. With
    `read_only` nothing is compared: what is finished is taken as it was made."""
    recipe, commits = pinned(experiment.recipe, experiment.manifest, look_up=not read_only)
    plan = Plan(recipe, date=experiment.date)
    experiment = experiment.read_only() if read_only else experiment
    stages = [] if read_only else plan.stages
    if read_only and not experiment.manifest["stages"]:
        raise ExperimentError(
            f"{experiment.directory} holds nothing to report yet; start with `selfdistill run RECIPE`."
        )
    with experiment.locked():
        try:
            experiment.begin(stages)
            experiment.record_commits(commits)
            if not all(map(experiment.finished, stages)):
                check_templates(plan)
            yield experiment, plan
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            raise ExperimentError(
                f"{error.filename or experiment.directory}: {error.strerror}. What was done so far is kept; mend that "
                "and run again."
            ) from error
        except (MemoryError, RuntimeError, ImportError) as error:
            if not out_of_memory(error) and not any(sign in str(error) for sign in _NO_MEMORY):
                raise
            raise StageError(
                "There is too little memory. What was done so far is kept; free some, or lower model.batch_tokens or "
                "train.micro_batch_size, and run again."
            ) from error


def _check_sandbox(plan: Plan) -> None:
    if plan.needs_sandbox:
        check_sandbox(plan.recipe.sandbox)


def _report(experiment: Experiment, plan: Plan) -> dict[str, Any]:
    from ..reports import with_sentences, write_report
    from .results import results

    verdict = with_sentences(results(experiment, plan))
    write_json(experiment.path("verdict.json"), verdict)
    write_report(experiment.directory)
    return verdict


__all__ = ["evaluate", "regrade", "report", "rewrite", "run", "shift", "train", "train_commands"]
