"""Commands that write files from an experiment's results, without a model: report, regrade, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..types.wording import counted
from .arguments import Target, open_experiment, saved_verdict
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
) -> None:
    """Write report.html and rewrites.html from what is finished; for several experiments also a page that compares
    them."""
    from .. import pipeline
    from ..reports import write_comparison, write_figures

    experiments = [open_experiment(target) for target in targets]
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
        say(f"Comparison: {page}")


def regrade(target: Target) -> None:
    """Grade the saved answers again, without a model."""
    from .. import pipeline
    from ..reports.regraded import regraded_sentence

    experiment = open_experiment(target)
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
