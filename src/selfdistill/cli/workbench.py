"""The command `ui`: a workbench in the browser."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InterruptedRunError, RecipeError
from .arguments import default_directory, typed_command
from .show import out, say


def ui(
    target: Annotated[
        Path, typer.Argument(metavar="[RECIPE_OR_DIR]", help="A recipe, which need not exist yet, or an experiment.")
    ] = Path("recipe.yaml"),
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Directory of the experiment. [default: runs/NAME-OF-RECIPE]")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Open a workbench on this machine: data, recipe, run, rewrites, chat and report in the browser."""
    absent = [package for package in ("fastapi", "uvicorn", "python_multipart") if find_spec(package) is None]
    if absent:
        raise RecipeError(f"The workbench needs {', '.join(absent)}: pip install 'selfdistill[ui]'")
    if target.is_dir():
        experiment = target if (target / "manifest.json").is_file() else None
        target, directory = target / "recipe.yaml", directory or experiment
    from ..ui.serve import serve

    def announce(address: str) -> None:
        out.print(f"Workbench: {address}", markup=False, soft_wrap=True)  # so that it can be copied
        say("It answers this machine alone. Ctrl-C closes it; a run goes on.")
        if browser:
            import webbrowser

            webbrowser.open(address)

    where = directory or default_directory(target)
    goes_on = serve(target, where, port, announce)
    kept = f"The run in {where} goes on." if goes_on else "No run is going on."
    raise InterruptedRunError(kept, f"To open the workbench again: {typed_command()}")
