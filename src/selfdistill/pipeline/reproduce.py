"""The paper's tables and figures by name: runs their recipes, one directory each, and compares with the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .. import pipeline as stages
from ..errors import RecipeError
from ..recipe import RECIPES, Recipe, load_recipes, make_recipe, recipe_file
from ..reports.terminal import PaperScore
from ..store.rows import write_json
from ..types import Progress, silent

PAPER = Path(__file__).with_name("paper.yaml")

# What stands in for the paper's datasets at demo scale: skills of the demo's seed.
DEMO_TRAIN = {
    "gsm8k": "demo-maths", "openfunctions": "demo-tool", "magicoder": "demo-tool", "alpaca": "demo-maths",
    "dolly": "demo-tool", "lima": "demo-maths", "openhermes": "demo-tool",
}  # fmt: skip
DEMO_TASKS = {
    "gsm8k": "demo-maths", "multiarith": "demo-maths-other", "openfunctions": "demo-tool", "humaneval": "demo-code",
    "advbench": "demo-safety", "advbench-jailbreak": "demo-jailbreak", "alpacaeval": "demo-benign",
    "overrefusal": "demo-benign", "mmlu": "demo-lists", "truthfulqa-mc2": "demo-benign",
    "arc-challenge": "demo-tool-other", "hellaswag": "demo-code", "winogrande": "demo-maths-other",
}  # fmt: skip
DEMO_ROWS, DEMO_ITEMS = 64, 16
_DEMO_NOTE = (
    "Demo scale: a toy model on a few rows of a synthetic world in place of the paper's. It shows the form; figures "
    "can't be compared."
)


@dataclass(frozen=True)
class Reproduction:
    """A reproduced table or figure: its figures, each experiment's verdict, and notes for the reader."""

    title: str
    figures: list[PaperScore]
    verdicts: dict[str, dict[str, Any]]
    notes: list[str]
    shift: bool


@cache
def paper() -> dict[str, Any]:
    """The paper's figures, from paper.yaml."""
    known: dict[str, Any] = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    return known


def names() -> list[str]:
    """The tables and figures that have a recipe."""
    return [name for name in paper() if name.startswith(("table", "figure"))]


def experiments(
    name: str, overrides: Sequence[str] = (), model: str | None = None, demo: bool = False, only: Sequence[str] = ()
) -> dict[str, Recipe]:
    """The recipes of a table or figure, or of a file with `experiments`, by the folder in which each is kept.

    `model` replaces the recipes' model. `demo` replaces model and data; a run takes seconds. Raises RecipeError.
    """
    if not recipe_file(name).exists():
        raise RecipeError(f"There is no '{name}' to reproduce; choose {', '.join(names())}, or name a recipe.")
    if demo and model:
        raise RecipeError("--demo brings a model of its own; leave --model out.")
    changes = [f"model.path={model}"] if model else []
    recipes = load_recipes(name, changes if demo else [*changes, *overrides])
    recipes = {own or Path(name).stem: recipe for own, recipe in recipes.items()}
    if unknown := [one for one in only if one not in recipes]:
        raise RecipeError(f"{name} has no experiment {', '.join(unknown)}; it has {', '.join(recipes)}.")
    chosen = {own: recipe for own, recipe in recipes.items() if own in (only or recipes)}
    if demo:
        made = {own: at_demo_scale(recipe) for own, recipe in chosen.items()}
        chosen = {own: make_recipe(values, overrides, source=f"{name}, {own}") for own, values in made.items()}
    return chosen


def at_demo_scale(recipe: Recipe) -> dict[str, Any]:
    """The same experiment, as plain values, with the demo's seed model and skills, and few rows. Each dataset of the
    paper gets a separate draw of rows."""
    values = recipe.model_dump(mode="json", exclude={"shift"})
    task = DEMO_TRAIN.get(recipe.task or "", recipe.task or "demo-maths")
    small = {
        "lr": 3e-3 if recipe.train.method == "full" else 8e-3, "adapter": {"targets": "all-linear"}, "epochs": 1,
        "batch_size": 16, "micro_batch_size": 16, "max_length": 512, "dtype": "float32",
        "gradient_checkpointing": False,
    }  # fmt: skip
    entries = {entry.task: DEMO_TASKS.get(entry.task, "demo-lists") for entry in recipe.evaluate.tasks}
    most = max((n for n in recipe.sweep.get("n", []) if isinstance(n, int)), default=1)
    return {
        **values,
        "model": {"path": "demo", "dtype": "float32"},
        "task": task,
        "data": {"path": task, "n": DEMO_ROWS, "seed": [*DEMO_TRAIN, recipe.task].index(recipe.task)},
        "rewrite": {**values["rewrite"], "sampling": {"preset": "paper", "max_new_tokens": 96}, "min_accepted": 0.0},
        "train": values["train"] | small,
        "sweep": recipe.sweep | ({"n": [DEMO_ROWS * n // most for n in recipe.sweep["n"]]} if most > 1 else {}),
        "evaluate": {
            "tasks": [{"task": name, "n": DEMO_ITEMS} for name in dict.fromkeys(entries.values())],
            "sampling": {"preset": "greedy", "max_new_tokens": 96},
        },
        "shift": {"task": "demo-safety"} if "demo-safety" in entries.values() else {},
        "judge": None,
        "note": _DEMO_NOTE,
    }


def folder(directory: Path, own: str, recipe: Recipe) -> Path:
    """The directory of an experiment: one per model, with one per experiment in it."""
    return directory / Path(recipe.model.path).name / own


def reproduce(
    name: str,
    recipes: Mapping[str, Recipe],
    directory: Path | str,
    progress: Callable[[str], Progress] = lambda _own: silent,
) -> Reproduction:
    """Runs the experiments that aren't finished, and writes their figures next to the paper's to NAME.json.

    `progress` returns the progress callback of an experiment by its name. Raises the errors of `pipeline.run`.
    """
    verdicts = {
        own: stages.run(recipe, folder(Path(directory), own, recipe), progress(own)) for own, recipe in recipes.items()
    }
    made = beside_paper(name, verdicts)
    value = {"name": name, "title": made.title, "figures": [asdict(row) for row in made.figures], "notes": made.notes}
    write_json(Path(directory) / f"{Path(name).stem}.json", value)
    return made


def beside_paper(name: str, verdicts: dict[str, dict[str, Any]]) -> Reproduction:
    """Each score of the verdicts (experiment → verdict.json) with the paper's score, if its text has one."""
    # A user's own file may have the name of a table.
    known = paper().get(Path(name).stem, {}) if recipe_file(name).absolute().parent == RECIPES else {}
    rows = [
        _figure(known.get("experiments", {}).get(own, {}), own, arm, task, verdict["model"] == "demo")
        for own, verdict in verdicts.items()
        for task in verdict["tasks"]
        for arm in verdict["arms"]
        if arm in task["scores"]
    ]
    notes = [f"The paper: {known['claim']}"] if "claim" in known else []
    models = ", ".join(dict.fromkeys(verdict["model"] for verdict in verdicts.values()))
    notes += (
        [f"Ours are of {models}. The paper's are of {paper()['model']} where the experiment names no other."]
        if known
        else []
    )
    notes += paper()["differs"] if known else []
    notes += dict.fromkeys(note for verdict in verdicts.values() for note in verdict["notes"])
    return Reproduction(known.get("title", name), rows, verdicts, notes, known.get("shift", False))


def _figure(
    known: Mapping[str, Mapping[str, float]], own: str, arm: str, task: Mapping[str, Any], demo: bool
) -> PaperScore:
    score, reported = task["scores"][arm], known.get(arm, {})
    ours, low, high = (None if score[key] is None else 100 * score[key] for key in ("value", "low", "high"))
    stands_for = next((name for name in reported if demo and DEMO_TASKS.get(name) == task["task"]), "")
    paper_s = reported.get(stands_for or task["task"])
    return PaperScore(own, arm, task["task"], ours, low, high, score["n"], paper_s, stands_for)
