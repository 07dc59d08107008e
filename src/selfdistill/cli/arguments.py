"""Arguments that several commands share, and the experiment that they name."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExperimentError

if TYPE_CHECKING:
    from ..recipe import Recipe
    from ..store.experiment import Experiment

RecipeOrDirectory = Annotated[
    Path, typer.Argument(metavar="RECIPE|DIR", help="A YAML recipe, or an experiment's directory.")
]
Target = Annotated[Path, typer.Argument(metavar="DIR", help="An experiment's directory, or a recipe to start one.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings to change, for example train.lr=2e-5.")
]
DataSettings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings of the data, for example 'data.columns={question: Problem}'."),
]
Directory = Annotated[
    Path | None, typer.Option("--dir", help="Directory of the experiment. [default: runs/NAME-OF-RECIPE]")
]
Arms = Annotated[list[str] | None, typer.Option("--arm", help="Only this arm; may be repeated.")]
Model = Annotated[str, typer.Option(help="A model folder, a GGUF file, a hub name such as org/name, or demo.")]


def typed_command() -> str:
    """The command as it was typed, quoted for a shell."""
    return shlex.join(["selfdistill", *sys.argv[1:]])


def default_directory(recipe: Path) -> Path:
    return Path("runs") / recipe.stem


def saved_verdict(directory: Path) -> bytes | None:
    """verdict.json as an earlier command wrote it."""
    path = directory / "verdict.json"
    return path.read_bytes() if path.is_file() else None


def open_experiment(target: Path, overrides: list[str] | None = None, directory: Path | None = None) -> Experiment:
    """The experiment in the directory `target`, or the experiment of the recipe `target`."""
    from ..recipe import load_recipe, recipe_file
    from ..store.experiment import Experiment

    if _is_recipe(recipe_file(target)):
        return Experiment(directory or default_directory(target), load_recipe(target, overrides or []))
    if directory is not None:
        raise ExperimentError(f"{target} is a directory, and --dir goes with a recipe; leave out --dir.")
    return Experiment.open(target, overrides or [])


def named_recipes(
    target: Path, overrides: list[str] | None = None, directory: Path | None = None
) -> tuple[dict[str, Recipe], Path]:
    """The recipes of the file `target` by name (see `load_recipes`) with the directory of their run, or the saved
    recipe of the experiment in the directory `target` with that directory."""
    from ..recipe import load_recipes, recipe_file

    if _is_recipe(recipe_file(target)):
        return load_recipes(target, overrides or []), directory or default_directory(target)
    experiment = open_experiment(target, overrides, directory)
    return {"": experiment.recipe}, experiment.directory


def _is_recipe(path: Path) -> bool:
    """Whether the path names a recipe, also one that is not there."""
    return path.is_file() or (path.suffix in (".yaml", ".yml") and not path.is_dir())
