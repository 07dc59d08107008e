"""The cards for sharing: README.md in each run's model folder, and README.md next to the rewrites. Every number is one
of verdict.json or of a finished stage's counts. The cards name no folder of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..recipe import Recipe
from ..store.experiment import CARD
from ..store.marks import MarkedRewrites, marked_rewrites, marks_counts
from ..store.rows import write_text
from ..tasks import get_task
from .findings import Findings, JsonRow
from .kept import kept_sentence
from .loss_sentences import loss_rows
from .notes import notes_without_rows
from .text import bounds, count, percent, points, visible

_SOURCES = {"rewrite": "rewrites", "original": "original responses", "self": "the seed model's own answers",
            "replay": "rows of other data", "edit": "texts written by hand"}  # fmt: skip
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# Characters that Markdown and HTML read as markup.
_MARKUP = re.compile(r"([\\`*_\[\]<>|])")


@dataclass(frozen=True)
class Shared:
    """What cards are written from: the recipe, the verdict and the manifest of an experiment's directory."""

    directory: Path
    recipe: Recipe
    verdict: JsonRow
    manifest: Mapping[str, Any]

    def runs(self) -> dict[str, str]:
        """The arm of each run whose weights are in a folder of its own."""
        named = (path.parent.name for path in sorted(self.directory.glob("arms/*/model")))
        return {run: run.partition("@")[0] for run in named if run.partition("@")[0] in self.recipe.arms}

    def model_card(self, run: str, repo: str = "") -> str:
        """The model card of a run; `repo` is its name on the hub, if it has one."""
        arm = run.partition("@")[0]
        return self._without_paths(_model_card(self, run, arm, repo))

    def dataset_card(self, repo: str = "") -> str:
        """The card of the file `rewrites`; `repo` is its name on the hub, if it has one."""
        return self._without_paths(_dataset_card(self, repo))

    @cached_property
    def marked(self) -> MarkedRewrites:
        """The rewrites, with the marks that the arms were trained with."""
        return marked_rewrites(self.directory)

    @property
    def rewrites(self) -> Path | None:
        """The file of the rewrites; None if nothing was rewritten."""
        path = self.marked.path
        return path if self.verdict.get("acceptance") and path.is_file() else None

    def _without_paths(self, text: str) -> str:
        """The text with the names of the recipe's files and folders in place of their paths."""
        paths = {*_absolute(self.recipe.model_dump(mode="json")), str(self.directory.resolve())}
        for path in sorted(paths, key=len, reverse=True):
            for written in (path, _md(path)):
                text = text.replace(written, _md(Path(path).name))
        return text


def _absolute(value: Any) -> Iterator[str]:
    """The paths in a recipe that name folders of this machine; of FILE:NAME also the file."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _absolute(each)
    elif isinstance(value, str) and len(value) > 1 and value.startswith(("/", "~/")):
        yield from {value, value.rpartition(":")[0] or value}


def write_cards(shared: Shared) -> list[Path]:
    """Writes the card of each model folder, and of the rewrites if there are any; one that says the same is left alone.
    Returns their paths. A card is in no identity or checksum of its folder."""
    written = {shared.directory / "arms" / run / "model" / CARD: shared.model_card(run) for run in shared.runs()}
    if rewrites := shared.rewrites:
        written[rewrites.with_name(CARD)] = shared.dataset_card()
    for path, text in written.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    return list(written)


# ---- the model card


def _model_card(shared: Shared, run: str, arm: str, repo: str) -> str:
    from huggingface_hub import ModelCardData

    findings, recipe = Findings.of(shared.verdict), shared.recipe
    folder = shared.directory / "arms" / run / "model"
    adapted = (folder / "adapter_config.json").is_file()
    base = recipe.model.path
    data = ModelCardData(
        base_model=base if on_hub(base) else None,
        base_model_relation=("adapter" if adapted else "finetune") if on_hub(base) else None,
        datasets=[path] if on_hub(path := _data_path(recipe)) else None,
        library_name="peft" if adapted else "transformers",
        license=recipe.card.license,
        model_name=run,
        pipeline_tag="text-generation",
        tags=["selfdistill", "self-distillation", *(["lora"] if adapted else [])],
        eval_results=list(_eval_results(findings, run, arm)) or None,
    )
    counts: JsonRow = shared.manifest["stages"].get(f"train/{run}", {}).get("counts", {})
    body = _render(
        "model_card.md.jinja",
        title=repo.partition("/")[2] or f"{shared.directory.resolve().name}, {run}",
        base_text=_base_text(shared),
        method=_method(recipe, arm),
        load=_load(adapted, repo),
        data=_data_text(recipe),
        rows=count(counts.get("rows", shared.verdict.get("data", {}).get("train", 0))),
        sources=", ".join(f"{count(n)} {_SOURCES.get(name, name)}" for name, n in counts.get("sources", {}).items())
        or "see the arm that it is interpolated from",
        training=list(_training(counts)),
        acceptance=_accepted(shared.verdict) if recipe.trained_arm(recipe.arms[arm]).answers else "",
        arm=arm,
        scope=findings.scope,
        table=_table(findings, run, arm),
        loss_table=_loss_table(findings, arm),
        forgotten=list(_forgotten(findings, arm)),
        sentences=[*shared.verdict.get("summary", []), *notes_without_rows(shared.verdict)],
        licence=_licence(recipe.card.license, "model") + " The licence of the base model applies to it too.",
        versions=_versions(shared),
    )
    return f"---\n{data}\n---\n\n{body}"


def _eval_results(findings: Findings, run: str, arm: str) -> Iterator[Any]:
    """The run's scores in the hub's form, as shares. The task's name is the dataset's identifier, so that no two tasks
    are merged."""
    from huggingface_hub import EvalResult

    for task in findings.tasks:
        score, own = task["scores"].get(arm), task["runs"].get(arm, {})
        value = own.get(run) if own else (score or {}).get("value")
        if value is None:
            continue
        interval = {} if own or score is None else {"low": round(score["low"], 4), "high": round(score["high"], 4)}
        yield EvalResult(
            task_type="text-generation",
            dataset_type=task["task"],
            dataset_name=task["task"],
            metric_type=task["metric"],
            metric_name=task["metric"],
            metric_value=round(value, 4),
            metric_args={"n": task["n"], **interval},
        )


def _table(findings: Findings, run: str, arm: str) -> str:
    """The scores of the seed model, of the arm's baseline arm and of the arm, and the change with its word."""
    baseline = findings.baseline_arms.get(arm, {}).get("against")
    arms = [name for name in (findings.seed_arm, baseline, arm) if name]
    several = any(arm in task["runs"] for task in findings.tasks)
    names = ["task", *(f"{name} (seed model)" if name == findings.seed_arm else name for name in arms)]
    rows = []
    for task in findings.tasks:
        if arm not in task["scores"]:
            continue
        change = findings.change(task, arm)
        said = (
            f"{points(change['difference'])} [{points(change['low'])}, {points(change['high'])}] {change['word']}"
            if change
            else "not compared"
        )
        cells = [task["task"] + (" (target)" if task["role"] == "target" else "")]
        cells += [_score(task["scores"].get(name)) for name in arms]
        cells += [percent(task["runs"].get(arm, {}).get(run))] if several else []
        rows.append([*cells, said])
    return _markdown([*names, *([f"run {run}"] if several else []), "change"], rows) if rows else ""


def _score(score: JsonRow | None) -> str:
    if score is None:
        return "–"
    return f"{percent(score['value'])} {bounds(score['low'], score['high'])}" if score["value"] is not None else "–"


def _loss_table(findings: Findings, arm: str) -> str:
    rows = [
        [row.task, row.arm, f"{row.loss} {row.interval}", row.seed["word"] if row.seed else "–"]
        for row in loss_rows(findings)
        if row.arm in (findings.seed_arm, arm)
    ]
    return _markdown(["data", "arm", "loss", "against the seed model"], rows) if rows else ""


def _forgotten(findings: Findings, arm: str) -> Iterator[str]:
    """A line for each task that got worse, and the tasks of which that can't be told."""
    compared = [(task, row) for task in findings.tasks if (row := findings.change(task, arm))]
    others = [task for task, _ in compared if task["role"] != "target"]
    for task, row in compared:
        if row["word"] == "forgot":
            size = f"{points(row['difference'])} points, 95 % interval {points(row['low'])} to {points(row['high'])}"
            yield f"{task['task']}{' (the target)' if task['role'] == 'target' else ''}: {size}"
    unclear = [task["task"] for task, row in compared if row["word"] in ("can't tell", "not decided")]
    if not others:
        yield "No other task was evaluated, so what it forgot is not known."
    elif all(row["word"] != "forgot" for _, row in compared):
        yield (
            f"None of {len(compared)} evaluated tasks is significantly worse than with the seed model (95 %, corrected "
            "for the number of tasks)."
        )
    if unclear:
        yield f"There are too few items to tell for {', '.join(unclear)}."


def _method(recipe: Recipe, arm: str) -> str:
    own = recipe.arms[arm]
    if own.of:
        return f"by interpolation: {own.alpha:g} of the way from the seed model to the arm {own.of}"
    if "rewrites" in recipe.trained_arm(own).answers:
        return "by self-distillation (SDFT): on responses that the model itself rewrote"
    if own.answers:
        return "on its own answers that pass a check"
    return "on the original responses (vanilla fine-tuning)"


def _training(counts: JsonRow) -> Iterator[tuple[str, str]]:
    settings = counts.get("settings", {})
    if not settings:
        return
    adapter = settings["adapter"]
    lora = f", rank {adapter['r']}, alpha {adapter['alpha']}" if settings["method"] != "full" else ""
    yield "Training", f"{settings['method']}{lora}; learning rate {settings['lr']:g}, {settings['schedule']}"
    yield "Length", f"{count(counts['steps'])} steps of {settings['batch_size']} rows, epochs: {counts['epochs']:g}"
    yield "Seed of the training", str(settings["seed"])


def _load(adapted: bool, repo: str) -> str:
    kind, library = ("AutoPeftModelForCausalLM", "peft") if adapted else ("AutoModelForCausalLM", "transformers")
    imports = ([f"from {library} import {kind}"] if adapted else []) + [
        f"from transformers import {'AutoTokenizer' if adapted else f'{kind}, AutoTokenizer'}"
    ]
    name = repo or "path/to/this/folder"
    return "\n".join([*imports, "", f'name = "{name}"', f"model = {kind}.from_pretrained(name)",
                      "tokenizer = AutoTokenizer.from_pretrained(name)"])  # fmt: skip


# ---- the dataset card


def _dataset_card(shared: Shared, repo: str) -> str:
    from huggingface_hub import DatasetCardData

    recipe, acceptance = shared.recipe, shared.verdict["acceptance"]
    path, marked = _data_path(recipe), shared.marked
    title = repo.partition("/")[2] or f"{shared.directory.resolve().name}, rewrites"
    data = DatasetCardData(
        license=recipe.card.data_license,
        task_categories=["text-generation"],
        pretty_name=title,
        source_datasets=[path] if on_hub(path) else None,
        tags=["selfdistill", "self-distillation", "synthetic"],
        configs=[{"config_name": "default", "data_files": marked.path.name}],
    )
    body = _render(
        "dataset_card.md.jinja",
        title=title,
        model=(base := _base_text(shared))[0].lower() + base[1:],
        repo=f'"{repo}"' if repo else f'"json", data_files="{marked.path.name}"',
        acceptance=_accepted(shared.verdict),
        by_hand=marks_counts(marked.counts) if marked.counts else "",
        reasons=sorted(acceptance["reasons"].items(), key=lambda each: (-each[1], each[0])),
        data=f"The prompts and the original responses are those of {_data_text(recipe)}.",
        licence=_licence(recipe.card.data_license, "data"),
        versions=_versions(shared),
    )
    return f"---\n{data}\n---\n\n{body}"


# ---- shared parts


def on_hub(path: str) -> bool:
    """Whether `path` is a name of the hub, and no file or folder here."""
    return _HUB_NAME.fullmatch(path) is not None and not path.endswith(".gguf") and not Path(path).exists()


def _data_path(recipe: Recipe) -> str:
    """The path or hub name of the training data: the recipe's own, or its task's."""
    if recipe.data is not None and recipe.data.path:
        return recipe.data.path
    default = get_task(recipe.task).train if recipe.task else None
    return default.path if default is not None else ""


def _data_text(recipe: Recipe) -> str:
    path = _data_path(recipe)
    named = path if on_hub(path) else Path(path).name
    return f"{named} (task {recipe.task})" if recipe.task and recipe.task != named else named


def _base_text(shared: Shared) -> str:
    """The base model as Markdown, with a link if it is on the hub."""
    path, revision = shared.recipe.model.path, shared.recipe.model.revision
    if not on_hub(path):
        named = _md(Path(path).name)
        return "The seed model of selfdistill's demo" if path == "demo" else f"The model {named} (a local file)"
    commit = shared.manifest.get("commits", {}).get(path) or revision
    return f"[{_md(path)}](https://huggingface.co/{path})" + (f" at {commit}" if commit else "")


def _accepted(verdict: JsonRow) -> str:
    acceptance = verdict.get("acceptance")
    return kept_sentence(acceptance) if acceptance and acceptance["rows"] else ""


def _licence(given: str | None, what: str) -> str:
    return f"{given or f'No licence is given: who made this {what} has not said under which terms it may be used'}."


def _versions(shared: Shared) -> str:
    found = {"selfdistill": shared.manifest.get("selfdistill"), **shared.manifest.get("versions", {})}
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell if cell == "---" else _md(cell) for cell in line) + " |" for line in lines)


def _md(text: str) -> str:
    """The text in one line, without markup."""
    return _MARKUP.sub(r"\\\1", " ".join(visible(text).split()))


def _render(template: str, **values: Any) -> str:
    from jinja2 import Environment

    source = (files(__package__) / "templates" / template).read_text(encoding="utf-8")
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["md"] = _md
    return environment.from_string(source).render(**values)
