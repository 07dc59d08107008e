"""The rows that an arm trains on, read from an experiment for an export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ExperimentError, ModelError, RecipeError
from ..models.loading import load_renderer
from ..models.thinking import reasoning_names
from ..models.tool_turns import in_plain_text
from ..recipe import ArmConfig, ModelConfig, Recipe, load_recipe
from ..store.marks import marked_rewrites
from ..store.rows import RowFile, read_lines
from ..types import Messages, Rewrite, messages_from_json
from . import iter_conversations
from .export_chats import with_response


@dataclass(frozen=True)
class ChosenRow:
    """A response that is trained on, the turns before it, its source, and the id of its example. For a model that
    thinks, `thought` is its think block: the text, and whether it is trained on. `arguments` are those of the chat
    template, `reasoning` the names under which it reads reasoning. `thinking_off`: they turn thinking off."""

    id: str
    prompt: Messages
    response: str
    source: str
    thought: Mapping[str, Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reasoning: Sequence[str] = ("reasoning_content",)
    thinking_off: bool = False

    @property
    def messages(self) -> Messages:
        return with_response(self.prompt, self.response, self.thought)


def chosen_rows(directory: Path, arm: str) -> Iterator[ChosenRow]:
    """The rows of an arm; with model.tools_in=system, tools are text in them as they are in training. Raises
    ExperimentError if there are none yet."""
    path = directory / "recipe.yaml"
    recipe = load_recipe(path, folder=Path.cwd()) if path.is_file() else None
    rows = _stored(directory, arm, recipe)
    return _as_trained(rows, _model_of(recipe, arm)) if recipe else rows


def _model_of(recipe: Recipe, run: str) -> ModelConfig:
    """The seed as the arm of a run trains it: with thinking turned off if the arm turns it off."""
    arm = recipe.arms.get(run.partition("@")[0])
    off = arm is not None and recipe.trained_arm(arm).reasoning == "off"
    return recipe.model.model_copy(update={"reasoning": "off"}) if off else recipe.model


def _as_trained(rows: Iterator[ChosenRow], model: ModelConfig) -> Iterator[ChosenRow]:
    names: Sequence[str] = ()
    off, own = model.reasoning == "off", model.template_kwargs
    if off:  # with the switch of the chat template
        render = load_renderer(model)
        off, own = render.thinking.mode == "off", render.template.arguments
    for row in rows:
        arguments = {**own, **row.prompt[0].template_kwargs}
        prompt = in_plain_text(row.prompt) if model.tools_in == "system" else row.prompt
        if row.thought:
            names = names or _reasoning_names(model)
            row = replace(row, reasoning=names)
        yield replace(row, prompt=prompt, arguments=arguments, thinking_off=off)


def _reasoning_names(model: ModelConfig) -> Sequence[str]:
    """The names under which the model's chat template reads reasoning; the usual one if the model is not here."""
    usual = ("reasoning_content",)
    try:
        return reasoning_names(load_renderer(model).template) or usual
    except (ModelError, RecipeError):
        return usual


def _stored(directory: Path, arm: str, recipe: Recipe | None) -> Iterator[ChosenRow]:
    trained = directory / "arms" / arm / "data.jsonl"
    if trained.is_file():
        return (
            ChosenRow(row["id"], messages_from_json(row["prompt"]), row["response"], row["source"], row.get("thought"))
            for row in read_lines(trained)
        )
    if arm != "sdft":
        known = recipe and _arm(directory, arm, recipe)
        if known and not known.trained:
            raise ExperimentError(f"The arm {arm} is not trained, so it has no training data; export another arm.")
        raise ExperimentError(f"{directory} has no data of an arm '{arm}' yet; run `selfdistill train {directory}`.")
    if recipe and not _all_rewrites(recipe):
        raise ExperimentError(
            f"{directory} has no data of the arm 'sdft' yet. With this recipe (data, n, template, best_of or replay) "
            f"the arm does not train on all rows with their rewrites; run `selfdistill train {directory}`."
        )
    return _from_rewrites(directory / "data" / "train.jsonl", _rewrites(directory))


def _rewrites(directory: Path) -> Path:
    """The rewrites, in which rows that were marked by hand are decided. Raises ExperimentError if there are none, or if
    rows were marked since."""
    rewrites = marked_rewrites(directory)
    if not rewrites.path.is_file():
        raise ExperimentError(f"{directory} has no rewrites yet; run `selfdistill rewrite {directory}`.")
    if rewrites.outdated:
        raise ExperimentError(
            f"Rows were marked by hand since the rewriting; run `selfdistill rewrite {directory}`, which takes a "
            "moment."
        )
    return rewrites.path


def _arm(directory: Path, run: str, recipe: Recipe) -> ArmConfig | None:
    """The arm of a run; None if the recipe no longer has it. Raises ExperimentError that lists the arms if there is
    none of this name."""
    name = run.partition("@")[0]
    known = {*recipe.arms, *(path.name for path in (directory / "arms").glob("*"))}
    if name not in known and not recipe.sweep:
        raise ExperimentError(f"There is no arm {run}; {directory} has {', '.join(sorted(known))}.")
    return recipe.arms.get(name)


def _all_rewrites(recipe: Recipe) -> bool:
    """Whether the arm `sdft`, if there is one, trains on all rows, each with its rewrite if that was accepted."""
    arm = recipe.arms.get("sdft")
    others = arm.model_dump(exclude={"data", "train"}, exclude_defaults=True) if arm else {}
    return arm is None or (arm.data in ("rewrites", 1.0) and not others)


def _from_rewrites(train: Path, rewrites: Path) -> Iterator[ChosenRow]:
    with RowFile(rewrites, reading=True) as rows:
        for conversation in iter_conversations(train):
            for example in conversation.examples():
                row = rows.get(example.id)
                if row is None:
                    raise ExperimentError(
                        f"{rewrites} lacks the example {example.id}; run `selfdistill rewrite` again."
                    )
                rewrite = Rewrite.from_json(row)
                if rewrite.completion.reasoning or rewrite.trace_fault:
                    raise ExperimentError(
                        "The seed thinks, and which think traces the arm 'sdft' trains on is decided before training; "
                        f"run `selfdistill train {train.parents[1]}`, or export a trained arm."
                    )
                yield ChosenRow(example.id, example.prompt, rewrite.response, row["source"])
