"""Commands that come before a run: init, check, preview, gap, list."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..types.wording import counted, per_cent
from .arguments import DataSettings, Directory, Model, Overrides, RecipeOrDirectory, named_recipes, open_experiment
from .documents import Json, checked_document, only_json, print_json
from .log_file import log_to
from .progress import show_progress
from .show import out, say, say_heading, show_checked, show_previewed

if TYPE_CHECKING:
    from ..tasks import Task


def init(
    model: Model,
    data: Annotated[str, typer.Option(help="A data file, a datasets folder, or a hub name.")],
    to: Annotated[Path, typer.Option("--to", help="File to write the recipe to.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option(help="Overwrite an existing recipe.")] = False,
    overrides: DataSettings = None,
) -> None:
    """Write a commented recipe for a model and a dataset."""
    from ..pipeline.new_recipe import check_model_name, write_recipe
    from ..recipe.schema import SCHEMA_FILE

    check_model_name(model)
    for line in write_recipe(model, data, to, force, overrides or []):
        say(line)
    say(f"Wrote {to}, and {SCHEMA_FILE} next to it, with which editors check and complete the keys.")
    say(f"Next: {shlex.join(['selfdistill', 'check', str(to)])}")


def check(
    target: RecipeOrDirectory,
    overrides: Overrides = None,
    directory: Directory = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Load the model and time a few steps of each stage.")
    ] = True,
    all_prompts: Annotated[
        bool, typer.Option("--prompts", help="Show the prompt of every task, not of held-out rows and one task alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read all rows; show the plan, the prompts as the model sees them, what the grader reads, how long it will take
    and what is missing."""
    from ..pipeline.check import check as check_recipe
    from ..pipeline.reproduce import folder

    recipes, where = named_recipes(target, overrides, directory)
    found = {}
    for name, its in recipes.items():
        if name and not as_json:
            say_heading(f"———— {name}")
        with only_json(as_json), show_progress() as progress:
            found[name] = check_recipe(its, progress, folder(where, name, its) if name else where, probe)
        if not as_json:
            show_checked(found[name], all_prompts)
    unseen = len({line for checked in found.values() for line in checked.unseen})
    ready = not unseen and not any(checked.missing for checked in found.values())
    command = "reproduce" if list(recipes) != [""] else "run"
    following = shlex.join(["selfdistill", command, str(target), *(overrides or []), *_in(directory)])
    if as_json:
        documents = [checked_document(name, checked) for name, checked in found.items()]
        print_json({"ready": ready, "next": following if ready else None, "experiments": documents})
    elif ready:
        say(f"\nNothing is missing. Next: {following}")
    elif unseen:
        things = counted(unseen, "thing")
        say(f"\n{things} could not be verified, as the hub can't be reached; check the network and run this again.")
    if not ready:
        raise typer.Exit(2)


def _in(directory: Path | None) -> list[str]:
    return ["--dir", str(directory)] if directory else []


def preview(
    target: RecipeOrDirectory,
    overrides: Overrides = None,
    directory: Directory = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Number of rows.")] = 5,
) -> None:
    """Rewrite the first rows and show each rewrite, its grade and the text to train on; a later run uses them."""
    from .. import pipeline
    from ..generation.rewriter import Acceptance
    from ..reports.kept import kept_sentence

    experiment = open_experiment(target, overrides, directory)
    where = experiment.directory
    log_to(where)
    with show_progress() as progress:
        rows = pipeline.preview(experiment, n, progress)
    show_previewed(rows)
    if len(rows) < n:
        say(f"\nThere are only {counted(len(rows), 'different training row')}, so all are shown; -n asked for {n:,}.")
    acceptance = Acceptance()
    for row in rows:
        acceptance.add(row.rewrite.grade)
    counts, least = acceptance.to_json(), experiment.recipe.rewrite.min_accepted
    if counts["rate"] < least:
        say(
            f"\nA run stops if fewer than {per_cent(least, 0)} of its rewrites are kept (rewrite.min_accepted). Look "
            "at the reasons above, and try another rewrite.template, rewrite.grader or model first."
        )
    say(
        f"\n{kept_sentence(counts)}. They are in {where}. "
        f"Next: {shlex.join(['selfdistill', 'run', str(target), *(overrides or []), *_in(directory)])}"
    )


def gap(
    model: Model,
    data: Annotated[str, typer.Option(help="A data file, a datasets folder, a hub name, or a task to train on.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of rows to draw and score.")] = 500,
    overrides: Overrides = None,
) -> None:
    """Measure how far a dataset's responses are from a model's distribution; rewrites and trains nothing."""
    from ..pipeline.gap import gap as measure
    from ..pipeline.gap import gap_recipe
    from ..reports.gap_sentences import distribution_lines, record_sentences
    from ..reports.text import shorten

    with show_progress() as progress:
        found = measure(gap_recipe(model, data, n, overrides or []), progress)
    unusable = f", {found.bad:,} more can't be used" if found.bad else ""
    say_heading(f"{data} under {model}: {found.rows:,} of {found.usable:,} rows{unusable}")
    for line in distribution_lines(found.original):
        say("  " + line)
    if found.off_distribution:
        say_heading("The most off-distribution responses, in nats per token")
    for scored, example in found.off_distribution:
        say(f"  {scored.nll:5.2f}  {shorten(example.instruction, 44)} → {shorten(example.reference, 60)}")
    say_heading("Results of earlier runs with such values")
    for sentence in record_sentences():
        say("- " + sentence)


def schema() -> None:
    """Print the JSON schema of recipes, for editors and other programs."""
    from ..recipe.schema import schema_text

    out.print(schema_text(), markup=False, soft_wrap=True, end="")


def list_names(as_json: Json = False) -> None:
    """List tasks, suites, graders, templates, backends and export formats."""
    from ..backends import BACKENDS
    from ..data.export import FORMATS
    from ..generation.prompts import REWRITING
    from ..grading import GRADERS
    from ..pipeline.reproduce import names as paper_names
    from ..recipe.suites import SUITES
    from ..tasks import TASKS, get_task

    with only_json(as_json):
        tasks = [_listed(get_task(name)) for name in TASKS]
        tables: dict[str, Any] = {
            "suites": SUITES, "tables and figures of the paper": paper_names(), "graders": GRADERS,
            "rewriting templates": REWRITING, "backends": BACKENDS, "export formats": FORMATS,
        }  # fmt: skip
    if as_json:
        keys = ("suites", "paper", "graders", "templates", "backends", "export_formats")
        print_json({"tasks": tasks, **{key: list(names) for key, names in zip(keys, tables.values(), strict=True)}})
        return
    say_heading("tasks")
    for task in tasks:
        needs = "".join(f", needs {what}" for what in task["needs"])
        training = ", for training" if task["training"] else ""
        say(f"  {task['name']:<25} {task['skill']:<29} {task['metric']}{needs}{training}")
    for heading, names in tables.items():
        say_heading(heading)
        say("  " + ", ".join(names))


def _listed(task: Task) -> dict[str, Any]:
    needs = {"lm-eval": task.harness, "a judge": task.judge, "a sandbox": "sandbox" in task.needs}
    return {
        "name": task.name,
        "skill": task.skill,
        "metric": task.metric,
        "needs": [what for what, need in needs.items() if need],
        "training": bool(task.template),
    }
