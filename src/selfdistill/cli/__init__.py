"""argv to one stage function. The only place that prints and exits."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from .. import __version__
from ..errors import ExperimentError, InterruptedRunError, SelfDistillError
from .progress import show_progress
from .show import err, out, say, say_gap, say_heading, show_checked, show_verdict, visible
from .stop import EXIT_CODE, stopping

if TYPE_CHECKING:
    from ..store.experiment import Experiment

app = typer.Typer(
    help="Fine-tune a chat model on your data without forgetting: self-distillation fine-tuning (SDFT, arXiv "
    "2402.13669), from a dataset to a verdict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML recipe.")]
Target = Annotated[Path, typer.Argument(metavar="DIR", help="An experiment's directory, or a recipe to start one.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings to change, for example train.lr=2e-5.")
]
Directory = Annotated[
    Path | None, typer.Option("--dir", help="Where the experiment is kept. [default: runs/NAME-OF-RECIPE]")
]
Arms = Annotated[list[str] | None, typer.Option("--arm", help="Only this arm; may be given more than once.")]


@app.command()
def demo(
    overrides: Overrides = None,
    directory: Annotated[Path, typer.Option("--dir", help="Where the experiment is kept.")] = Path("runs/demo"),
) -> None:
    """Show the whole of SDFT on the small seed model that comes with the package, in a few minutes on a CPU."""
    from ..demo import RECIPE

    run(RECIPE, overrides, directory)


@app.command()
def init(
    model: Annotated[str, typer.Option(help="A model folder, a hub name such as org/name, or demo.")],
    data: Annotated[str, typer.Option(help="A data file, a datasets folder, or a hub name.")],
    to: Annotated[Path, typer.Option("--to", help="Where the recipe is written.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option(help="Overwrite a recipe that is there.")] = False,
) -> None:
    """Write a commented recipe for a model and a dataset."""
    from ..pipeline.new_recipe import write_recipe

    for line in write_recipe(model, data, to, force=force):
        say(line)
    say(f"Wrote {to}. Next: {shlex.join(['selfdistill', 'check', str(to)])}")


@app.command()
def check(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Show the plan, the prompts as the model will see them, what the grader reads, and what is missing."""
    from ..pipeline.check import check as check_recipe
    from ..recipe import load_recipes

    recipes = load_recipes(recipe, overrides or [])
    found = {}
    for name, its in recipes.items():
        if name:
            say_heading(f"———— {name}")
        with show_progress() as progress:
            found[name] = check_recipe(its, progress)
        show_checked(found[name])
    if any(checked.missing for checked in found.values()):
        raise typer.Exit(2)
    unseen = any(checked.unseen for checked in found.values())
    command = "reproduce" if list(recipes) != [""] else "run"
    say(
        f"\n{'Nothing else' if unseen else 'Nothing'} is missing. "
        f"Next: {shlex.join(['selfdistill', command, str(recipe), *(overrides or [])])}"
    )


@app.command()
def gap(
    model: Annotated[str, typer.Option(help="A model folder, a hub name such as org/name, or demo.")],
    data: Annotated[str, typer.Option(help="A data file, a datasets folder, a hub name, or a task to train on.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Score a draw of that many rows.")] = 500,
    overrides: Overrides = None,
) -> None:
    """Measure how far a dataset's responses are off a model's distribution, before any rewriting or training."""
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
        say_heading("The responses furthest off the model's distribution, in nats per token")
    for scored, example in found.off_distribution:
        say(f"  {scored.nll:5.2f}  {shorten(example.instruction, 44)} → {shorten(example.reference, 60)}")
    say_heading("What such gaps meant in recorded runs")
    for sentence in record_sentences():
        say("- " + sentence)


@app.command()
def run(recipe: RecipePath, overrides: Overrides = None, directory: Directory = None) -> None:
    """Rewrite, verify, train, evaluate and report; resumes where it was interrupted and skips what is done."""
    from .. import pipeline
    from ..recipe import load_recipe

    where = directory or _default_directory(recipe)
    with show_progress() as progress:
        verdict = pipeline.run(load_recipe(recipe, overrides or []), where, progress)
    show_verdict(verdict, where)


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="table1 to table5, figure4 to figure9, or a recipe.")],
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="A model in place of the recipe's.")] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where experiments are kept; may be shared. [default: runs/NAME]")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="With the demo's model and data, in a few minutes.")] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this experiment; may be repeated.")] = None,
) -> None:
    """Run a table or figure of the paper, and show our figures beside the paper's; resumes and skips as `run` does."""
    from ..pipeline import reproduce as paper
    from ..reports.terminal import reproduction_table, shift_table

    where = directory or _default_directory(Path(name))
    recipes = paper.experiments(name, overrides or [], model, demo, only or [])
    with show_progress() as progress:
        made = paper.reproduce(
            name, recipes, where, lambda own: lambda label, *counts: progress(f"{own} {label}", *counts)
        )
    say_heading(f"{name}: {made.title}")
    out.print(reproduction_table(made.figures))
    if made.shift:
        for own, verdict in made.verdicts.items():
            say_heading(own)
            out.print(shift_table(verdict["shift"]))
    for note in made.notes:
        say("- " + note)
    for own, recipe in recipes.items():
        say(f"Report of {own}: {paper.folder(where, own, recipe) / 'report.html'}")


@app.command()
def rewrite(target: Target, overrides: Overrides = None, directory: Directory = None) -> None:
    """Rewrite the training responses and verify the rewrites."""
    from .. import pipeline
    from ..reports.terminal import acceptance_lines

    experiment = _experiment(target, overrides, directory)
    with show_progress() as progress:
        acceptance = pipeline.rewrite(experiment, progress)
    out.print(acceptance_lines(acceptance))
    say_gap(experiment.counts("gap"))
    say(f"Rewrites: {experiment.path('rewrite', 'rewrites.jsonl')}")


@app.command()
def train(
    target: Target,
    overrides: Overrides = None,
    directory: Directory = None,
    arm: Arms = None,
    print_command: Annotated[
        bool, typer.Option("--print-command", help="Show each arm's launch command, for a job scheduler to run.")
    ] = False,
) -> None:
    """Train the arms that are not trained yet."""
    from .. import pipeline
    from ..pipeline.evaluation import runs_named
    from ..pipeline.plan import Plan

    experiment = _experiment(target, overrides, directory)
    if print_command:
        with show_progress() as progress:
            commands = pipeline.train_commands(experiment, progress, arm or [])
        for words in commands.values():
            say(shlex.join(words))
        return
    with show_progress() as progress:
        pipeline.train(experiment, progress, arm or [])
    plan = Plan(experiment.recipe, date=experiment.date)
    for run in runs_named(plan, arm or []) or plan.runs:
        if (folder := experiment.path("arms", run, "model")).is_dir():
            say(f"{run}: {folder}")


@app.command()
def evaluate(target: Target, overrides: Overrides = None, directory: Directory = None, arm: Arms = None) -> None:
    """Answer and grade the recipe's tasks with every arm that is trained."""
    from .. import pipeline

    experiment = _experiment(target, overrides, directory)
    with show_progress() as progress:
        verdict = pipeline.evaluate(experiment, progress, arm or [])
    show_verdict(verdict, experiment.directory)


@app.command()
def shift(target: Target, overrides: Overrides = None, directory: Directory = None, arm: Arms = None) -> None:
    """Measure how far the evaluated arms moved from the seed: answers, distributions, weights."""
    from .. import pipeline
    from ..reports.terminal import shift_table

    experiment = _experiment(target, overrides, directory)
    with show_progress() as progress:
        verdict = pipeline.shift(experiment, progress, arm or [])
    out.print(shift_table(verdict["shift"]))
    for sentence in verdict["notes"]:
        say("- " + sentence)
    say(f"Report: {experiment.path('report.html')}")


@app.command()
def report(
    targets: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Experiments' directories.")],
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Write each figure as PNG, PDF and CSV into this folder.")
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option("--out", help="Page of several experiments. [default: compare.html beside the first DIR]"),
    ] = None,
) -> None:
    """Write report.html and rewrites.html from what there is; of several experiments also a page side by side."""
    from .. import pipeline
    from ..reports import write_comparison, write_figures

    experiments = [_experiment(target, None, None) for target in targets]
    for experiment in experiments:
        verdict = pipeline.report(experiment)
        if len(experiments) == 1:
            show_verdict(verdict, experiment.directory)
        else:
            say(f"Report: {experiment.directory / 'report.html'}")
        if figures:
            folder = figures if len(experiments) == 1 else figures / experiment.directory.resolve().name
            say(f"{len(write_figures(experiment.directory, folder))} files of figures: {folder}")
    if len(experiments) > 1:
        page = path or experiments[0].directory.resolve().parent / "compare.html"
        for sentence in write_comparison([experiment.directory for experiment in experiments], page):
            say("- " + sentence)
        say(f"Side by side: {page}")


@app.command()
def regrade(target: Target) -> None:
    """Grade the saved answers again, without a model."""
    from .. import pipeline

    experiment = _experiment(target, None, None)
    show_verdict(pipeline.regrade(experiment), experiment.directory)


@app.command()
def export(
    target: Target,
    to: Annotated[
        str, typer.Option(help="trl, llamafactory, axolotl, swift or jsonl; or alpaca_eval, for an arm's answers.")
    ],
    path: Annotated[Path | None, typer.Option("--out", help="Folder to write to. [default: DIR/export/FORMAT]")] = None,
    arm: Annotated[str, typer.Option(help="Whose training data.")] = "sdft",
) -> None:
    """Hand the chosen responses to your own training stack, or answers to alpaca_eval."""
    from ..data.export import export as export_data

    written = export_data(_experiment(target, None, None).directory, to, path, arm)
    for note in written.notes:
        say(note)
    say(f"Wrote {written.rows:,} rows: {written.path}")


@app.command(name="list")
def list_names() -> None:
    """List tasks, graders, templates, backends and export formats."""
    from ..backends import BACKENDS
    from ..data.export import FORMATS
    from ..generation.prompts import REWRITING
    from ..grading import GRADERS
    from ..pipeline.reproduce import names as paper_names
    from ..tasks import TASKS, get_task

    say_heading("tasks")
    for name in TASKS:
        task = get_task(name)
        wanted = {"lm-eval": task.harness, "a judge": task.judge, "a sandbox": "sandbox" in task.needs}
        needs = "".join(f", needs {what}" for what, need in wanted.items() if need)
        say(f"  {name:<25} {task.skill:<29} {task.metric}{needs}{', for training' if task.template else ''}")
    tables: dict[str, Any] = {
        "tables and figures of the paper": paper_names(), "graders": GRADERS,
        "rewriting templates": REWRITING, "backends": BACKENDS, "export formats": FORMATS,
    }  # fmt: skip
    for heading, names in tables.items():
        say_heading(heading)
        say("  " + ", ".join(names))


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        out.print(f"selfdistill {__version__}")
        raise typer.Exit


def main() -> None:
    """The command. What a user can mend is one sentence and exit code 2, SIGTERM code 143; `--debug` shows the
    traceback."""
    debug = "--debug" in sys.argv[1:]
    if debug:  # before or after the command
        sys.argv = [sys.argv[0], "--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    # Threads that spin while they wait make a small model on a busy CPU up to ten times slower; torch reads this once.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with stopping() as stop:
        try:
            _call_app()
        except SelfDistillError as error:
            if debug and not stop.asked:
                raise
            err.print(f"[bold red]Error:[/bold red] {escape(visible(str(error)))}", soft_wrap=True)
            sys.exit(EXIT_CODE if stop.asked else 2)
        except BaseException:
            if stop.asked:  # whatever a library made of the interruption
                sys.exit(EXIT_CODE)
            raise


def _call_app() -> None:
    """Raises InterruptedRunError wherever Ctrl-C comes, between long work too."""
    try:
        app()
    except KeyboardInterrupt:
        raise InterruptedRunError from None
    except SystemExit as stop:
        if stop.code == 130:  # what Typer makes of it
            raise InterruptedRunError from None
        raise


def _default_directory(recipe: Path) -> Path:
    return Path("runs") / recipe.stem


def _experiment(target: Path, overrides: list[str] | None, directory: Path | None) -> Experiment:
    """The experiment in a directory, or the one that a recipe starts."""
    from ..recipe import load_recipe, recipe_file
    from ..store.experiment import Experiment

    if recipe_file(target).is_file():
        return Experiment(directory or _default_directory(target), load_recipe(target, overrides or []))
    if directory is not None:
        raise ExperimentError(f"{target} is a directory already; --dir goes with a recipe.")
    return Experiment.open(target, overrides or [])
