"""The command that uploads to the Hugging Face hub: push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ExperimentError
from .arguments import open_experiment
from .show import say, say_heading


def push(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="An experiment's directory.")],
    repo: Annotated[str, typer.Option(help="The model's repository on the hub: org/name.")],
    arm: Annotated[str, typer.Option(help="The arm, or the run, whose model is uploaded.")] = "sdft",
    dataset: Annotated[
        str | None, typer.Option(help="Also upload the rewrites, with your prompts and originals: org/name.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create private repositories.")] = False,
) -> None:
    """Upload a run's model with its card to the Hugging Face hub. Run it again to complete an upload that broke."""
    from ..pipeline.push import plan_uploads
    from ..pipeline.push import push as upload_to_hub

    if not target.is_dir():
        raise ExperimentError(f"{target} is no directory; name the directory that `selfdistill run` wrote.")
    uploads = plan_uploads(open_experiment(target), arm, repo, dataset)
    for upload in uploads:
        total = _size(sum(upload.files.values()))
        say_heading(f"{upload.kind.capitalize()} {upload.repo}: {len(upload.files)} files, {total}, of {upload.folder}")
        for name, size in upload.files.items():
            say(f"  {_size(size):>9}  {name}")
        for warning in upload.warnings:
            say(f"  - {warning}")
    if dataset is None:
        say("The rewrites are not uploaded; --dataset org/name uploads them too.")
    for upload in uploads:
        say(f"Uploaded: {upload_to_hub(upload, private)}")


def _size(size: int) -> str:
    """12.3 MB; powers of 1000, as on the hub."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} GB"
