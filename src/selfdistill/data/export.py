"""Exports the chosen responses to other training stacks, and answers to `alpaca_eval`. To add a format, add a function
and its line in `FORMATS`.

A training format has one row per response that is trained on: the original turns before it, and the response. Only this
last turn is trained on, as in our own training. Each format marks it in its own way.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from ..errors import ExperimentError
from ..models.tool_turns import in_plain_text
from ..recipe import Recipe, load_recipe
from ..store.rows import RowFile, file_checksum, read_lines, write_json, write_lines, write_text
from ..types import Example, Messages, Rewrite, Thought, messages_from_json, messages_json
from . import iter_conversations
from .annotations import write_outputs
from .export_chats import columns, openai_turns, sharegpt_turns, swift_turns, with_response
from .export_notes import left_out, masked_note


@dataclass(frozen=True)
class Exported:
    """The data file, its number of rows, and a sentence for everything that was left out or must be set. `sources`: the
    rows by the source of their response. `change`: whether the file is new, unchanged or replaced. `following`: what to
    do with it."""

    path: Path
    rows: int
    notes: list[str]
    following: str
    sources: Mapping[str, int] = field(default_factory=dict)
    change: str = "new"


@dataclass(frozen=True)
class _Chosen:
    """A response that is trained on, the turns before it, its source, the id of its example, and for a model that
    thinks its think block."""

    id: str
    prompt: Messages
    response: str
    source: str
    thought: Thought | None = None

    @property
    def messages(self) -> Messages:
        return with_response(self.prompt, self.response, self.thought)


def export(directory: Path | str, to: str, out: Path | str | None = None, arm: str = "sdft") -> Exported:
    """Writes the training data of `arm` in the experiment `directory` into the folder `out` (default
    `directory`/export/`to`), in the format `to` of `FORMATS`. For alpaca_eval, the arm's answers to AlpacaEval.

    If the arm `sdft` has not been trained, its data is computed from the rewrites.
    Raises ExperimentError if there is no such format, or no such data yet.
    """
    if to not in FORMATS:
        raise ExperimentError(f"There is no export format '{to}'; choose one of {', '.join(FORMATS)}.")
    directory = Path(directory)
    folder = Path(out) if out else directory / "export" / to
    before = {path: file_checksum(path) for path in folder.glob("*.json*")}
    written = FORMATS[to](directory, arm, folder)
    if (old := before.get(written.path)) is None:
        return written
    return replace(written, change="unchanged" if old == file_checksum(written.path) else "replaced")


class _Counted:
    """Passes rows through and counts them. `several`: whether any row has an assistant turn before the last one.
    `masked`: the rows whose think block is not trained on."""

    def __init__(self, rows: Iterator[_Chosen]) -> None:
        self._rows, self.sources, self.several, self.masked = rows, Counter[str](), False, 0

    def __iter__(self) -> Iterator[_Chosen]:
        for row in self._rows:
            self.sources[row.source] += 1
            self.masked += row.thought is not None and not row.thought.trained
            self.several = self.several or any(message.role == "assistant" for message in row.prompt)
            yield row


Export = Callable[[Path, str, Path], Exported]


def _training_data(write: Callable[[Iterable[_Chosen], Path, str], Path], following: str, to_set: str = "") -> Export:
    """An export of training data. `write` takes the rows, a folder and a name for the files, and returns the path of
    the data. `following` is the next step, with slots for path, folder and name; `to_set` is a note for the user if a
    row has several turns."""

    def run(directory: Path, arm: str, folder: Path) -> Exported:
        rows = _Counted(_chosen(directory, arm))
        # LLaMA-Factory calls the dataset by this name and splits names at commas and spaces.
        name = re.sub(r"[^\w.-]+", "_", f"{directory.resolve().name}_{arm}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = write(rows, folder, name)
        except OSError as error:
            raise ExperimentError(
                f"{folder} can't be written ({error.strerror}); name another folder with --out."
            ) from error
        notes = [*left_out(directory), *([to_set] if to_set and rows.several else [])]
        notes += [masked_note(rows.masked)] if rows.masked else []
        command = following.format(path=quote(str(path)), folder=quote(str(folder)), name=name)
        return Exported(path, rows.sources.total(), notes, command, dict(rows.sources.most_common()))

    return run


def _chosen(directory: Path, arm: str) -> Iterator[_Chosen]:
    """The rows of an arm; with model.tools_in=system, tools are text in them as they are in training."""
    recipe, rows = _recipe(directory), _stored(directory, arm)
    if recipe and recipe.model.tools_in == "system":
        return (replace(row, prompt=in_plain_text(row.prompt)) for row in rows)
    return rows


def _stored(directory: Path, arm: str) -> Iterator[_Chosen]:
    trained = directory / "arms" / arm / "data.jsonl"
    rewrites = directory / "rewrite" / "rewrites.jsonl"
    if trained.is_file():
        rows = read_lines(trained)
        return map(_read_chosen, rows)
    if arm != "sdft":
        _check_arm(directory, arm)
        raise ExperimentError(f"{directory} has no data of an arm '{arm}' yet; run `selfdistill train {directory}`.")
    if not _all_rewrites(directory):
        raise ExperimentError(
            f"{directory} has no data of the arm 'sdft' yet. With this recipe (data, n, template, best_of or replay) "
            f"the arm does not train on all rows with their rewrites; run `selfdistill train {directory}`."
        )
    if not rewrites.is_file():
        raise ExperimentError(f"{directory} has no rewrites yet; run `selfdistill rewrite {directory}`.")
    return _from_rewrites(directory / "data" / "train.jsonl", rewrites)


def _read_chosen(row: Mapping[str, Any]) -> _Chosen:
    thought = Thought(**row["thought"]) if "thought" in row else None
    return _Chosen(row["id"], messages_from_json(row["prompt"]), row["response"], row["source"], thought)


def _check_arm(directory: Path, name: str) -> None:
    """Raises ExperimentError that lists the arms if there is none of this name."""
    if recipe := _recipe(directory):
        made = (path.name for path in (directory / "arms").glob("*"))
        known = {*recipe.arms, *made}
        if name.partition("@")[0] not in known and not recipe.sweep:
            raise ExperimentError(f"There is no arm {name}; {directory} has {', '.join(sorted(known))}.")


def _recipe(directory: Path) -> Recipe | None:
    """The recipe of a directory; None if it has none."""
    path = directory / "recipe.yaml"
    return load_recipe(path, folder=Path.cwd()) if path.is_file() else None


def _all_rewrites(directory: Path) -> bool:
    """Whether the arm `sdft`, if there is one, trains on all rows, each with its rewrite if that was accepted."""
    recipe = _recipe(directory)
    arm = recipe.arms.get("sdft") if recipe else None
    others = arm.model_dump(exclude={"data", "train"}, exclude_defaults=True) if arm else {}
    return arm is None or (arm.data in ("rewrites", 1.0) and not others)


def _from_rewrites(train: Path, rewrites: Path) -> Iterator[_Chosen]:
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
                yield _Chosen(example.id, example.prompt, rewrite.response, rewrite.source)


def _prompt_completion(rows: Iterable[_Chosen], folder: Path, name: str) -> Path:
    """TRL's conversational prompt-completion type (https://huggingface.co/docs/trl/dataset_formats). With `messages`,
    TRL would train on the prompts too."""
    path = folder / f"{name}.jsonl"
    chats = ((openai_turns(row.messages), columns(row.messages, arguments=True)) for row in rows)
    write_lines(path, ({"prompt": chat[:-1], "completion": chat[-1:], **more} for chat, more in chats))
    return path


def _marked(turns: Iterable[tuple[int, dict[str, Any]]], mark: str, row: _Chosen) -> list[dict[str, Any]]:
    """Turns with the places of their messages, each turn of the assistant with a mark for whether it is trained on."""
    answers = ("assistant", "tool_call")
    return [turn | ({mark: place == len(row.prompt)} if turn["role"] in answers else {}) for place, turn in turns]


def _swift(rows: Iterable[_Chosen], folder: Path, name: str) -> Path:
    """`messages` with ms-swift's `loss` per assistant turn (https://swift.readthedocs.io, Custom dataset)."""
    path = folder / f"{name}.jsonl"
    write_lines(
        path,
        (
            {"messages": _marked(swift_turns(row.messages), "loss", row), **columns(row.messages, arguments=False)}
            for row in rows
        ),
    )
    return path


def _axolotl(rows: Iterable[_Chosen], folder: Path, name: str) -> Path:
    """A dataset of type chat_template with a mark per assistant turn, and the config lines that name it
    (https://docs.axolotl.ai/docs/dataset-formats/conversation.html)."""
    path = folder / f"{name}.jsonl"
    write_lines(
        path,
        (
            {
                "messages": _marked(enumerate(openai_turns(row.messages)), "train", row),
                **columns(row.messages, arguments=False),
            }
            for row in rows
        ),
    )
    dataset = {
        "path": str(path),
        "ds_type": "json",
        "type": "chat_template",
        "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"},
        "message_field_training": "train",
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
    }
    config = {"chat_template": "tokenizer_default", "datasets": [dataset], "train_on_inputs": False}
    _write_config(folder / f"{name}.axolotl.yaml", "axolotl", config)
    return path


def _write_config(path: Path, tool: str, config: dict[str, Any]) -> None:
    snippet = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_text(path, f"# Put these lines into your {tool} config.\n{snippet}")


def _llamafactory(rows: Iterable[_Chosen], folder: Path, name: str) -> Path:
    """A ShareGPT array, its entry in dataset_info.json (existing entries stay), and the config lines that name it.
    `mask_history` trains on the last turn only
    (https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md)."""
    info_path, path = folder / "dataset_info.json", folder / f"{name}.json"
    try:
        info: Any = json.loads(info_path.read_text(encoding="utf-8")) if info_path.exists() else {}
    except ValueError:
        info = None
    if not isinstance(info, dict):
        raise ExperimentError(
            f"{info_path} is not a JSON object of datasets; fix it, or name another folder with --out."
        )
    partial, tools = path.with_name(path.name + ".partial"), False
    with partial.open("w", encoding="utf-8") as file:
        for index, row in enumerate(rows):
            file.write(",\n" if index else "[\n")
            written = {**sharegpt_turns(row.messages), **columns(row.messages, arguments=False)}
            file.write(json.dumps(written, ensure_ascii=False))
            tools = tools or "tools" in written
        file.write("\n]\n")
    partial.replace(path)
    info[name] = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", **({"tools": "tools"} if tools else {})},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
    }
    write_json(info_path, info)
    config = {"dataset": name, "dataset_dir": str(folder), "mask_history": True}
    _write_config(folder / f"{name}.llamafactory.yaml", "LLaMA-Factory", config)
    return path


def _flat(rows: Iterable[_Chosen], folder: Path, name: str) -> Path:
    """id, prompt (messages), response, its source (the rewrite or the original), and for a model that thinks its think
    block."""
    path = folder / f"{name}.jsonl"
    write_lines(path, map(_flat_row, rows))
    return path


def _flat_row(row: _Chosen) -> dict[str, Any]:
    values = {"id": row.id, "prompt": messages_json(row.prompt), "response": row.response, "source": row.source}
    return values if row.thought is None else {**values, "thought": row.thought.to_json()}


def _alpaca_eval(directory: Path, arm: str, folder: Path) -> Exported:
    """The answers of `arm` (or of one of its runs) to AlpacaEval, for the alpaca_eval command."""
    items, answers = directory / "items/alpacaeval.jsonl", directory / f"arms/{arm}/evaluate/alpacaeval/answers.jsonl"
    if not items.is_file() or not answers.is_file():
        raise ExperimentError(
            f"{directory} has no answers of '{arm}' to AlpacaEval; add alpacaeval to evaluate.tasks and run "
            f"`selfdistill evaluate {directory}`."
        )
    path = folder / f"{arm}_outputs.json"
    examples = map(Example.from_json, read_lines(items))
    with RowFile(answers, reading=True) as rows:
        written, left_out = write_outputs(path, examples, rows, f"{directory.resolve().name}-{arm}")
    lost = (
        f"{left_out:,} items have no answer and are left out; the errors are in {answers}. `selfdistill evaluate` asks "
        "for the missing answers again."
    )
    return Exported(path, written, [lost] if left_out else [], f"alpaca_eval --model_outputs {quote(str(path))}")


FORMATS: dict[str, Export] = {
    "trl": _training_data(_prompt_completion, "trl sft --model_name_or_path MODEL --dataset_name {folder}"),
    "llamafactory": _training_data(
        _llamafactory,
        "put the lines of {name}.llamafactory.yaml into your config, then run: llamafactory-cli train CONFIG.yaml",
        "Only the last turn of a row is to be trained on: set mask_history: true, as in the .llamafactory.yaml file "
        "next to the data.",
    ),
    "axolotl": _training_data(
        _axolotl, "put the lines of {name}.axolotl.yaml into your config, then run: axolotl train CONFIG.yaml"
    ),
    "swift": _training_data(_swift, "swift sft --model MODEL --dataset {path}"),
    "jsonl": _training_data(_flat, "head -n 1 {path}"),
    "alpaca_eval": _alpaca_eval,
}
