"""A commented recipe for a model and a dataset, from a look at the first rows."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import yaml

from ..data import (
    BadRow,
    chat_markup,
    data_notes,
    duplicates_note,
    is_hub_name,
    read_conversations,
    read_records,
    reading_setting,
    recognise,
    unused_columns,
    unused_sentence,
)
from ..data.column_guesses import suggestion
from ..demo import SEEDS
from ..errors import DataError, ModelError, RecipeError
from ..generation.prompts import template_for
from ..models.gguf import gguf_file
from ..models.loading import check_model_files
from ..models.slots import fill
from ..recipe import DataConfig, GraderSpec, ModelConfig
from ..recipe.load import make_recipe
from ..recipe.paths import located
from ..recipe.schema import SCHEMA_FILE, schema_text
from ..reports.text import shorten
from ..sandbox import sandbox_works
from ..store.rows import write_text
from ..types import Conversation, Example
from ..types.wording import counted
from .bad_rows_recipe import bad_row_comment, bad_row_lines
from .grader_guess import FIRST, Guess, guess_from, unchecked_sentence
from .thinking_recipe import NOT_THINKING, THINKING, THINKS, thinks
from .tools_recipe import tools_line, tools_problem

_LOOK = 2000
_PAPERS_RATE = {"lr": "1.0e-4", "low": "2.0e-5"}
_DEMO_RATE = {
    "lr": "8.0e-3                  # the rate of `selfdistill demo`: its models are small; for other models 1.0e-4",
    "low": "2.0e-3",
}


@dataclass(frozen=True)
class _Look:
    """The result of reading the first rows. `notes` report the parts of the rows that are not used. `problem` is the
    reason if no rows could be read; `columns` is then the line of the recipe that may help."""

    format: str = "auto"
    rows: int = 0
    examples: Sequence[Example] = ()
    bad: list[BadRow] = field(default_factory=list)
    notes: Sequence[str] = ()
    problem: str | None = None
    columns: str | None = None

    @property
    def bad_count(self) -> str:
        return f"{'' if self.rows < _LOOK else 'at least '}{counted(len(self.bad), 'row')}"


def write_recipe(
    model: str, data: str, out: Path | str, force: bool = False, settings: Sequence[str] = ()
) -> list[str]:
    """Writes a recipe for the model and the data (a file, a `datasets` folder or a hub name) to `out`, and the schema
    that editors check it with next to it. Returns sentences that report what was recognised. `settings` of the data,
    such as `data.columns={question: Problem}`, are used for this and written into the recipe.

    Raises RecipeError if `out` exists and `force` is off or a setting is not one of the data, DataError if a data file
    can't be read or the columns that `settings` name don't fit it. The recipe is written even if a folder or hub name
    can't be read or the columns fit no format; the user then completes it.
    """
    out = Path(out)
    if out.exists() and not force:
        raise RecipeError(f"{out} is there already; name another file with --to, or overwrite it with --force.")
    there = _located("model", model, Path.cwd())
    thinking = thinks(there)
    chosen = _chosen(model, data, settings)
    look = _look(chosen, thinking)
    guess, tools = guess_from(look.examples), any(example.tools for example in look.examples)
    problem = tools_problem(there) if tools else None
    given = chosen.model_dump(mode="json", exclude_unset=True, exclude={"path"})
    heldout = given.pop("heldout", min(200, look.rows // 10))
    further = "".join(f"\n  {key}: {_flow_yaml([value])[1:-1]}" for key, value in given.items() if key != "format")
    if look.problem:
        line = look.columns or "{question: YOUR_COLUMN, answer: YOUR_COLUMN}"
        further += f"\n  # columns: {_one_line(line)}   # FIELD: COLUMN; {shorten(_one_line(look.problem), 60)}"
    slots = {
        "schema": SCHEMA_FILE,
        "model": _scalar(_from(out, "model", model)),
        **(THINKING if thinking else NOT_THINKING),
        **(_DEMO_RATE if model in SEEDS else _PAPERS_RATE),
        "on_bad_row": bad_row_comment(look.bad_count if look.bad else None),
        "tools_in": tools_line(problem) if tools else "",
        "path": _scalar(_from(out, "data", data)),
        "format": look.format,
        "further": further,
        "heldout": f"{heldout:<18}",
        "template": f"{template_for(model, guess.template):<17}",
        "grader": f"{_flow(guess.grader):<19} ",
        "why": guess.what,
        "loss": f"{'' if guess.grader == 'facts' and heldout else '# '}heldout_loss: true".ljust(25),
        "without": "" if sandbox_works() else ", without: [probe-code]",
        "tasks": "\n    - heldout" * bool(heldout) + "\n    - tool_calls" * bool(heldout and tools),
    }
    try:
        write_text(out, fill(_without_comments(_RECIPE, given), slots))
        write_text(out.with_name(SCHEMA_FILE), schema_text())
    except OSError as error:
        raise RecipeError(f"{out} can't be written ({error.strerror}); name another file with --to.") from error
    said = [*_found(look, guess, heldout), *([THINKS] if thinking else [])]
    if look.bad:
        said += bad_row_lines(look.bad, look.bad_count, chosen.on_bad_row == "skip", out.name)
    if problem:
        said.append(f"tools: {problem}; so tools_in: system is set")
    if not sandbox_works():
        said.append("probe-code is left out: its programs need bubblewrap, which does not work here (docs/sandbox.md)")
    return said


def guess_grader(data: str) -> tuple[GraderSpec, str]:
    """The grader that fits a data file, and the file's format, from a look at its first rows. Raises DataError if the
    rows can't be read."""
    look = _look(DataConfig(path=data))
    if look.problem:
        raise DataError(look.problem)
    return guess_from(look.examples).grader, look.format


def _from(recipe: Path, section: str, name: str) -> str:
    """A path as the recipe must name it: relative to the recipe's folder, as `./~` for a folder that is called `~`.
    Other names stay as they are, and so does a path in the user's home that is written with `~`."""
    path, folder = _located(section, name, Path.cwd()), recipe.absolute().parent
    if path == name or os.path.expanduser(name) != name:
        return name
    written = os.path.relpath(path, folder)
    return written if _located(section, written, folder) == path else f"./{written}"


def _located(section: str, name: str, folder: Path) -> str:
    """A path in `folder`, absolute; other names as they are."""
    path: str = located({section: {"path": name}}, folder)[section]["path"]
    return path


def check_model_name(model: str) -> None:
    """Raises RecipeError that lists the choices if `model` names no model. A hub name is not looked up."""
    try:
        there = _located("model", model, Path.cwd())
        if (packed := gguf_file(there)) is None:
            check_model_files(ModelConfig(path=there))
            return
        if packed.is_file():
            return
    except ModelError as error:
        if Path(model).exists():
            raise RecipeError(str(error)) from None
    here = sorted(str(path.parent) for path in Path().glob("*/config.json"))
    folders = f", such as {', '.join(here[:5])}" if here else ""
    raise RecipeError(
        f"There is no model {model}; choose demo, a hub name such as org/name, a GGUF file, or a model folder{folders}."
    )


def _chosen(model: str, data: str, settings: Sequence[str]) -> DataConfig:
    """The settings of the data, checked. Raises RecipeError."""
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if not key.startswith("data."):
            raise RecipeError(
                f"init takes settings of the data alone, such as data.columns; write {key} in the recipe."
            )
        if key == "data.path":
            raise RecipeError("init takes the path of the data from --data; leave out data.path.")
    config = make_recipe({"model": {"path": model}, "data": {"path": data}}, settings, "init").data
    assert config is not None
    return config


def _without_comments(template: str, given: Collection[str]) -> str:
    """The template without the commented settings of the data that are `given`."""
    lines = template.splitlines(keepends=True)
    return "".join(line for line in lines if not any(line.startswith(f"  # {key}: ") for key in given))


def _look(chosen: DataConfig, thinking: bool = False) -> _Look:
    data, config = chosen.path, chosen.model_copy(update={"on_bad_row": "skip"})
    bad: list[BadRow] = []
    try:
        records = [row for _, row in islice(read_records(config, bad.append), FIRST)]
    except DataError as error:
        if Path(data).is_dir() or (is_hub_name(data) and not Path(data).exists()):
            return _Look(rows=_LOOK, problem=str(error))
        raise
    try:
        name = recognise(records, config)
    except DataError as error:
        if config.columns:
            raise
        return _Look(
            rows=len(records),
            problem=str(error),
            columns=suggestion(records, "question_answer" if config.format == "auto" else config.format),
        )
    bad.clear()
    rows = list(islice(read_conversations(config.model_copy(update={"format": name}), bad.append), _LOOK))
    examples = chain.from_iterable(row.examples() for row in rows)
    return _Look(name, len(rows), list(islice(examples, FIRST)), bad, list(_notes(rows, chosen, thinking)))


def _notes(rows: Sequence[Conversation], config: DataConfig, thinking: bool) -> Iterator[str]:
    """Notes on content of the rows that is not shown to the model or not trained on."""
    unused = unused_columns(rows)
    if sentence := unused_sentence(unused, len(rows), reading_setting(config, unused)):
        yield sentence
    ids = [example.id for row in rows for example in row.examples()]
    if repeated := len(ids) - len({*ids}):
        yield duplicates_note(repeated, len(ids))
    marks = [mark for row in rows if (mark := chat_markup(row))]
    yield from data_notes(
        {
            "untrained": sum(len(row.untrained) for row in rows),
            "reasoning": sum(len(row.reasoning) for row in rows),
            "reasoning_use": "trained" if thinking else None,
            "markup": len(marks),
            "markup_example": marks[0] if marks else None,
        }
    )


def _found(look: _Look, guess: Guess, heldout: int) -> list[str]:
    """Sentences about the rows that can be used."""
    if look.problem:
        return [f"The data was not recognised, so the recipe leaves it open: {look.problem}"]
    rows = f"{look.rows:,} rows" if look.rows < _LOOK else f"at least {_LOOK:,} rows"
    name = guess.grader if isinstance(guess.grader, str) else guess.grader["name"]
    lines = [f"data: {look.format}, {rows}, {heldout} held out", f"grader: {name} ({guess.what})"]
    if guess.grader == "facts" and (unchecked := unchecked_sentence(look.examples)):
        lines.append(unchecked)
    return [*lines, *look.notes]


def _scalar(text: str) -> str:
    """`text` as YAML: plain if that is safe, else in double quotes."""
    if re.fullmatch(r"[A-Za-z0-9_./~-]+", text) and yaml.safe_load(text) == text:
        return text
    return _flow_yaml([text], quotes='"')[1:-1]


def _flow(grader: GraderSpec) -> str:
    return grader if isinstance(grader, str) else _flow_yaml(grader)


def _flow_yaml(value: Any, quotes: str | None = None) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=True, default_style=quotes, allow_unicode=True, width=float("inf"), sort_keys=False
    )
    return text.strip()


def _one_line(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)


_RECIPE = """\
# yaml-language-server: $schema={schema}
# A recipe of selfdistill. See what it does: selfdistill check THIS_FILE; then: selfdistill run THIS_FILE
# What is commented out shows another choice. Every setting can be changed for a run: train.lr=2e-5

model:
  path: {model}{reasoning}{tools_in}
  # chat_template: alpaca     # the paper's prompt format in place of the model's own chat template
  # batch_tokens: 8192        # tokens per batch when generating (default 16384); lower it if memory is short

data:
  path: {path}
  format: {format}{further}
  heldout: {heldout} # rows set aside: never trained on, evaluated as the task `heldout`
  # n: 2000                   # train on a draw of that many rows; a smaller draw is part of a larger
  # on_bad_row: skip          # {on_bad_row}
  # near_duplicates: {threshold: 0.9, drop: true}   # leaves out held-out rows that nearly repeat a training row

rewrite:
  template: {template} # or a file of your own; `selfdistill list` shows more
  grader: {grader}# {why}
  {limits}
  # filters: {refusal: false}   # each check on a rewrite can be turned off

train:                        # the paper's: LoRA on q and v, lr 1e-4 to zero by cosine, 8 rows per step
  method: lora                # or full, qlora
  adapter: {r: 8, alpha: 16, targets: [q_proj, v_proj]}   # targets: all-linear learns more, and forgets more
  lr: {lr}
  epochs: 2                   # the paper: 5 for GSM8K and OpenFunctions, 2 elsewhere
  batch_size: 8
  max_length: {length}            # in tokens; longer rows stop the run unless allow_unusable_rows is true

# Equal but for the data. Without this the arms are the first three.
arms:
  seed: {data: none}          # the model unchanged: every comparison is made with it
  vanilla: {data: original}
  sdft: {data: rewrites}{masked}
  # vanilla-low-lr: {data: original, train: {lr: {low}}}   # a lower rate alone forgets less: a fair baseline
  # mix-0.5: {data: 0.5}      # half of the rows rewritten
  # self: {data: self}        # the model's own answers if they pass, written without the reference
  # half-way: {data: interpolate, of: vanilla, alpha: 0.5}   # weights between seed and vanilla; more: docs/baselines.md

# seeds: [0, 1, 2]            # trains every arm once with each, and shows the spread

evaluate:{evaluated}
  {loss} # loss per token on the held-out responses; lower is better, and it needs no grader
  # system: You are ...       # the system prompt you deploy with: safety is asked without it and with it
  tasks:{tasks}
    # What the model could do before, and may forget. Twelve skills and harmless requests, made and graded here.
    - {suite: probes, size: quick{without}}   # size: full asks 600 items per skill in place of 150 (docs/probes.md)
    # More benchmarks, with data from the hub or from `path`; n takes a part of it.
    # - {suite: public}       # IFEval, GSM8K-Platinum, HumanEval and others
    # - {task: gsm8k, n: 500}
    # - {task: openfunctions, path: openfunction_test.json}
    # - humaneval             # runs what the model wrote, in a sandbox: needs bubblewrap
    # - advbench              # refusals of harmful requests
    # - advbench-jailbreak    # the same with an adversarial suffix
    # - {task: mmlu, n: 2000} # knowledge, through lm-eval: needs `pip install selfdistill[knowledge]`
    # - alpacaeval-vs-seed    # helpfulness: needs the judge below

# judge: {model: {path: gpt-4.1, server: {url: "https://api.openai.com/v1", key_env: OPENAI_API_KEY}}, backend: openai}
"""
