"""Commands that write files from an experiment's results, without a model: report, regrade, export."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..types.wording import counted
from .arguments import Target, open_experiment, saved_verdict
from .documents import Json, only_json, print_json
from .log_file import log_to
from .show import say, show_verdict


def report(
    targets: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories of experiments.")],
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Write each figure as PNG, PDF and CSV into this folder.")
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option("--out", help="Page that compares the experiments. [default: compare.html next to the first DIR]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write report.html and rewrites.html from what is finished; for several experiments also a page that compares
    them."""
    from .. import pipeline
    from ..reports import write_comparison, write_figures
    from ..reports.run_result import result_of

    experiments, documents = [open_experiment(target) for target in targets], []
    for experiment in experiments:
        name = experiment.directory.resolve().name
        folder = figures / name if figures and len(experiments) > 1 else figures
        with only_json(as_json):
            verdict, left = pipeline.report(experiment), pipeline.unfinished_run(experiment)
            written = write_figures(experiment.directory, folder) if folder else []
        own = result_of(verdict, experiment.directory)
        resume = shlex.join(["selfdistill", "run", str(experiment.directory)])
        unfinished = {**asdict(left), "command": resume} if left else None
        documents.append({**own.to_json(), "unfinished": unfinished, "figures": [str(path) for path in written]})
        if as_json:
            continue
        if len(experiments) == 1:
            show_verdict(verdict, experiment.directory)
        else:
            say(f"Report: {own.report}")
        if left:
            say(f"{left} To continue: {resume}")
        if folder:
            say(f"{len(written)} files of figures: {folder}")
    compared = None
    if len(experiments) > 1:
        page = path or experiments[0].directory.resolve().parent / "compare.html"
        with only_json(as_json):
            sentences = write_comparison([experiment.directory for experiment in experiments], page)
        compared = {"page": str(page), "not_compared": sentences}
        if not as_json:
            for sentence in sentences:
                say("- " + sentence)
            say(f"Comparison: {page}")
    if as_json:
        print_json({"experiments": documents, "comparison": compared})


def regrade(target: Target) -> None:
    """Grade the saved answers again, without a model."""
    from .. import pipeline
    from ..reports.regraded import regraded_sentence

    experiment = open_experiment(target)
    log_to(experiment.directory)
    before = saved_verdict(experiment.directory)
    verdict = pipeline.regrade(experiment)
    show_verdict(verdict, experiment.directory)
    say(regraded_sentence(json.loads(before or b"{}"), verdict))
    say(f"Next: read the answers in {experiment.directory / 'answers.html'}")


def export(
    target: Target,
    to: Annotated[
        str, typer.Option(help="trl, llamafactory, axolotl, swift or jsonl; or alpaca_eval for an arm's answers.")
    ],
    path: Annotated[Path | None, typer.Option("--out", help="Folder to write to. [default: DIR/export/FORMAT]")] = None,
    arm: Annotated[str, typer.Option(help="The arm whose training data is exported.")] = "sdft",
) -> None:
    """Export the chosen responses for another training program, or answers for alpaca_eval."""
    from ..data.export import export as export_data

    written = export_data(open_experiment(target).directory, to, path, arm)
    for note in written.notes:
        say(note)
    sources = ", ".join(f"{number:,} {source}" for source, number in written.sources.items())
    say(f"Wrote {counted(written.rows, 'row')}{f' ({sources})' if sources else ''}: {written.path} ({written.change})")
    say(f"Next: {written.following}")
