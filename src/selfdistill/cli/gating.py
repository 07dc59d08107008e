"""Commands on models that were made elsewhere: compare, gate, baseline."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InterruptedRunError, RecipeError, SelfDistillError, first_line
from ..types.wording import counted
from .documents import Json, only_json, print_json
from .log_file import end_log, log_to
from .progress import show_progress
from .show import say, show_error, show_verdict

if TYPE_CHECKING:
    from ..pipeline.gate import Design
    from ..recipe import Recipe

_MODEL = "a model folder, a GGUF file, a hub name, demo, or an endpoint as URL#NAME"
Seed = Annotated[str, typer.Argument(metavar="SEED", help=f"The model before: {_MODEL}.")]
Suite = Annotated[str, typer.Option(help="The tasks: probes, public or demo.")]
Size = Annotated[str, typer.Option(help="quick or full: how many items per task.")]
TargetRows = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="What the candidate was tuned for: a task's name, or a file of rows that it was not trained on.",
    ),
]
KeyEnv = Annotated[
    str | None, typer.Option("--key-env", help="Environment variable with the API key of the endpoints.")
]
Folder = Annotated[
    Path | None, typer.Option("--dir", help="Directory of the experiment. [default: runs/COMMAND-NAME-DIGEST]")
]
Settings = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings of a recipe, such as model.dtype=float32.")
]
_OVERRIDE = re.compile(r"[a-z_]+(\.[\w-]+)*=.*", re.DOTALL)


def compare(
    seed: Seed,
    candidates: Annotated[
        list[str], typer.Argument(metavar="CANDIDATE...", help="The models to compare; then KEY=VALUE settings.")
    ],
    suite: Suite = "probes",
    size: Size = "quick",
    target: TargetRows = None,
    margin: Annotated[float, typer.Option(help="The smallest drop that matters, as a share.")] = 0.05,
    key_env: KeyEnv = None,
    directory: Folder = None,
) -> None:
    """Compare any models with a seed on a suite, without a recipe, and write the same page as `run`."""
    from .. import pipeline
    from ..pipeline.gate_recipe import comparison_recipe, default_folder, model_names

    named = [each for each in candidates if not _OVERRIDE.fullmatch(each)]
    overrides = [each for each in candidates if _OVERRIDE.fullmatch(each)]
    if not named:
        raise RecipeError("compare needs a seed and at least one candidate; name a model after the seed.")
    arms = model_names(named)
    recipe = comparison_recipe(seed, arms, suite, size, overrides, target=target, margin=margin, key_env=key_env)
    where = directory or default_folder("compare", recipe)
    log_to(where)
    with show_progress() as progress:
        verdict = pipeline.run(recipe, where, progress)
    _say_models({"seed": seed, **arms})
    show_verdict(verdict, where)


def _say_models(models: Mapping[str, str]) -> None:
    """Prints which model each arm is."""
    for arm, model in models.items():
        say(f"{arm} = {model}")


def gate(
    seed: Seed,
    candidate: Annotated[
        str, typer.Argument(metavar="CANDIDATE", help=f"The model after: a LoRA adapter of SEED, {_MODEL}.")
    ],
    overrides: Settings = None,
    suite: Suite = "probes",
    size: Size = "quick",
    margin: Annotated[float, typer.Option(help="The largest mean drop that is accepted, as a share.")] = 0.05,
    baseline: Annotated[
        Path | None,
        typer.Option(help="File of `selfdistill baseline` with the seed's answers; the seed is not loaded."),
    ] = None,
    target: TargetRows = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Pass only if every skill is shown to be within it.")
    ] = False,
    as_json: Json = False,
    junit: Annotated[Path | None, typer.Option(help="Write the result as JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a summary for a pull request.")] = None,
    key_env: KeyEnv = None,
    directory: Folder = None,
) -> None:
    """Decide whether a model forgot what its seed could do. Exit code 0: shown to be within the margin, and no skill
    shown to have lost; 1: forgot; 2: could not run, or the suite shows nothing; 3: undecided."""
    from ..pipeline.gate_recipe import comparison_recipe, gate_design
    from ..reports.gate_files import gate_document

    files = {"junit": junit, "markdown": markdown}
    with _failing_as_not_run(files, as_json), only_json(as_json):
        recipe = comparison_recipe(
            seed, {"candidate": candidate}, suite, size, overrides or [], target=target, margin=margin, key_env=key_env
        )
        design = gate_design(suite, size, strict, baseline, target)
        verdict, where = _run_gate(recipe, design, baseline, directory)
        document = gate_document(verdict)
        assert document is not None
        _say_models({"seed": seed, "candidate": candidate})
        show_verdict(verdict, where)
        for path in _write(document, files):
            say(f"Wrote {path}")
    if as_json:
        print_json(document)
    raise typer.Exit(document["exit_code"])


@contextmanager
def _failing_as_not_run(files: dict[str, Path | None], as_json: bool) -> Iterator[None]:
    """Whatever ends the gate before a decision ends in 2, or 130 for Ctrl-C, with files that say so: the exit code 1 of
    an unexpected error would mean that the candidate forgot."""
    from ..reports.gate_files import failed_document

    try:
        yield
    except InterruptedRunError as stopped:
        with suppress(RecipeError):
            _write(failed_document(str(stopped)), files)
        raise
    except Exception as error:
        expected = isinstance(error, SelfDistillError)
        why = str(error) if expected else f"Stopped by an unexpected error: {type(error).__name__}: {first_line(error)}"
        document = failed_document(why)
        if not expected:
            traceback.print_exc()
            end_log(error)
        with suppress(RecipeError):  # a file that can't be written may be the error itself
            _write(document, files)
        if expected and not as_json:
            raise
        if expected:
            show_error(why)
        if as_json:
            print_json(document)
        raise typer.Exit(document["exit_code"]) from None


def _run_gate(
    recipe: Recipe, design: Design, baseline: Path | None, directory: Path | None
) -> tuple[dict[str, Any], Path]:
    from .. import pipeline
    from ..pipeline.baseline import check_plan, read_baseline, with_baseline
    from ..pipeline.gate_recipe import default_folder

    content = None
    if baseline:
        content = read_baseline(baseline)
        check_plan(content, design, baseline)
        recipe = with_baseline(recipe, content)
    where = directory or default_folder("gate", recipe, content and content["digest"])
    log_to(where)
    with show_progress() as progress:
        return pipeline.gate(recipe, where, design, progress, content), where


def _write(document: dict[str, Any], files: dict[str, Path | None]) -> list[Path]:
    """Writes the files that are asked for. Returns their paths."""
    from ..reports.gate_files import gate_junit, gate_markdown
    from ..store.rows import write_text

    written, texts = [], {"junit": gate_junit, "markdown": gate_markdown}
    for kind, path in files.items():
        if path:
            try:
                write_text(path, texts[kind](document))
            except OSError as error:
                raise RecipeError(f"{path} can't be written ({error.strerror}); name another file.") from None
            written.append(path)
    return written


def baseline(
    seed: Seed,
    overrides: Settings = None,
    to: Annotated[Path, typer.Option("--to", help="File to write; compressed if its name ends in .gz.")] = Path(
        "baseline.json.gz"
    ),
    suite: Suite = "probes",
    size: Size = "quick",
    target: TargetRows = None,
    key_env: KeyEnv = None,
    directory: Folder = None,
) -> None:
    """Write the seed's graded answers to a file, so that `gate --baseline` need not run the seed."""
    from .. import pipeline
    from ..pipeline.baseline import write_baseline
    from ..pipeline.gate_recipe import comparison_recipe, default_folder, gate_design

    recipe = comparison_recipe(seed, {}, suite, size, overrides or [], target=target, key_env=key_env)
    design = gate_design(suite, size, False, None, target)
    where = directory or default_folder("baseline", recipe)
    log_to(where)
    with show_progress() as progress:
        content = pipeline.make_baseline(recipe, where, design, progress)
    write_baseline(to, content)
    answers = sum(len(task["answers"]) for task in content["tasks"].values())
    say(
        f"Wrote {counted(answers, 'answer')} of {seed} to {counted(len(content['tasks']), 'task')}: {to}, "
        f"digest {content['digest']}"
    )
    say(f"Next: selfdistill gate {seed} CANDIDATE --suite {suite} --baseline {to}")
