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
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import yaml

from ..errors import ExperimentError
from ..models.tool_turns import chat_of
from ..store.rows import RowFile, file_checksum, read_lines, write_json, write_lines, write_text
from ..types import Example, messages_json
from ..types.wording import counted
from .annotations import write_outputs
from .export_chats import columns, sharegpt_turns, swift_turns, tools_column
from .export_notes import left_out
from .export_rows import ChosenRow, chosen_rows


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


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise ExperimentError if a file can't be written in the block."""
    try:
        yield
    except OSError as error:
        raise ExperimentError(
            f"{folder} can't be written ({error.strerror}); name another folder with --out."
        ) from error


Masks = Literal["none", "empty", "all"]
"""The think blocks that a format can leave out of the loss."""


class _Counted:
    """Passes rows through and counts them. `several`: whether any row has an assistant turn before the last one. Rows
    with a think block that is not trained on are left out and counted as `masked`, if the format's `masks` don't
    include it. `thinks`: whether the rows have think blocks. `arguments` are the first row's arguments of the chat
    template, if any row has some."""

    def __init__(self, rows: Iterator[ChosenRow], masks: Masks) -> None:
        self._rows, self._masks, self.sources, self.several, self.masked = rows, masks, Counter[str](), False, 0
        self.thinks = False
        self.arguments: Mapping[str, Any] = {}

    def __iter__(self) -> Iterator[ChosenRow]:
        for row in self._rows:
            self.thinks = self.thinks or row.thought is not None
            if row.thought and not row.thought["trained"] and not self._can_mask(row.thought["text"]):
                self.masked += 1
                continue
            self.sources[row.source] += 1
            self.arguments = self.arguments or row.arguments
            self.several = self.several or any(message.role == "assistant" for message in row.prompt)
            yield row

    def _can_mask(self, trace: str) -> bool:
        return self._masks == "all" or (self._masks == "empty" and not trace)


Export = Callable[[Path, str, Path], Exported]


_MASKED: Mapping[Masks, str] = {
    "none": "Left out: {}, since a think block is not trained on there, and this format can't say so; export to "
    "jsonl to have them, or to llamafactory if their blocks are empty.",
    "empty": "Left out: {}, since a think trace is not trained on there, and this format can leave only empty think "
    "blocks out of the loss; export to jsonl to have them.",
}
_ARGUMENTS = (
    "The chat template is used with model.template_kwargs={}, which this format can't hold; set it in your own stack "
    "too."
)


def _training_data(
    write: Callable[[Iterable[ChosenRow], Path, str], Path],
    following: str,
    to_set: str = "",
    masks: Masks = "none",
    arguments: bool = False,
) -> Export:
    """An export of training data. `write` takes the rows, a folder and a name for the files, and returns the path of
    the data. `following` is the next step, with slots for path, folder and name; `to_set` is a note for the user if a
    row has several turns. `masks`: the think blocks that the format can leave out of the loss; `arguments`: whether it
    holds the arguments of the chat template."""

    def run(directory: Path, arm: str, folder: Path) -> Exported:
        rows = _Counted(chosen_rows(directory, arm), masks)
        # LLaMA-Factory calls the dataset by this name and splits names at commas and spaces.
        name = re.sub(r"[^\w.-]+", "_", f"{directory.resolve().name}_{arm}")
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            path = write(rows, folder, name)
        notes = [*left_out(directory, rows.thinks), *([to_set] if to_set and rows.several else [])]
        notes += [_MASKED[masks].format(counted(rows.masked, "row"))] if rows.masked else []
        notes += [_ARGUMENTS.format(json.dumps(rows.arguments))] if rows.arguments and not arguments else []
        command = following.format(path=quote(str(path)), folder=quote(str(folder)), name=name)
        return Exported(path, rows.sources.total(), notes, command, dict(rows.sources.most_common()))

    return run


def _prompt_completion(rows: Iterable[ChosenRow], folder: Path, name: str) -> Path:
    """TRL's conversational prompt-completion type (https://huggingface.co/docs/trl/dataset_formats). With `messages`,
    TRL would train on the prompts too."""
    path, arguments = folder / f"{name}.jsonl", set[bool]()
    write_lines(path, (_trl_row(row, arguments) for row in rows))
    if len(arguments) > 1:  # TRL takes no null for the arguments of a row
        write_lines(path, ({"chat_template_kwargs": {}, **row} for row in read_lines(path)))
    return path


def _trl_row(row: ChosenRow, arguments: set[bool]) -> dict[str, Any]:
    """Adds to `arguments` whether the row has arguments of the chat template."""
    arguments.add(bool(row.arguments))
    *prompt, completion = chat_of(row.messages, row.reasoning)
    kwargs = {"chat_template_kwargs": dict(row.arguments)} if row.arguments else {}
    return {"prompt": prompt, "completion": [completion], **tools_column(row.messages), **kwargs}


def _marked(turns: Iterable[tuple[int, dict[str, Any]]], mark: str, row: ChosenRow) -> list[dict[str, Any]]:
    """Turns with the places of their messages, each turn of the assistant with a mark for whether it is trained on."""
    answers = ("assistant", "tool_call")
    return [turn | ({mark: place == len(row.prompt)} if turn["role"] in answers else {}) for place, turn in turns]


def _swift(rows: Iterable[ChosenRow], folder: Path, name: str) -> Path:
    """`messages` with ms-swift's `loss` per assistant turn (https://swift.readthedocs.io, Custom dataset)."""
    path = folder / f"{name}.jsonl"
    write_lines(
        path,
        ({"messages": _marked(swift_turns(row.messages), "loss", row), **columns(row.messages)} for row in rows),
    )
    return path


def _axolotl(rows: Iterable[ChosenRow], folder: Path, name: str) -> Path:
    """A dataset of type chat_template with a mark per assistant turn, and the config lines that name it
    (https://docs.axolotl.ai/docs/dataset-formats/conversation.html)."""
    path = folder / f"{name}.jsonl"
    write_lines(
        path,
        (
            {
                "messages": _marked(enumerate(chat_of(row.messages, row.reasoning)), "train", row),
                **columns(row.messages),
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


def _llamafactory(rows: Iterable[ChosenRow], folder: Path, name: str) -> Path:
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
    partial, tools, thinking = path.with_name(path.name + ".partial"), False, set[bool | None]()
    with partial.open("w", encoding="utf-8") as file:
        for index, row in enumerate(rows):
            file.write(",\n" if index else "[\n")
            written = {**sharegpt_turns(row.messages), **columns(row.messages)}
            file.write(json.dumps(written, ensure_ascii=False))
            tools = tools or "tools" in written
            thinking |= _enable_thinking(row)
        file.write("\n]\n")
    partial.replace(path)
    info[name] = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", **({"tools": "tools"} if tools else {})},
        # A tag that is left out has no default: its turns would be taken for broken, and the rows left out.
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "observation_tag": "observation",
            "function_tag": "function_call",
        },
    }
    write_json(info_path, info)
    config = {"dataset": name, "dataset_dir": str(folder), "mask_history": True}
    if thinking:
        config["enable_thinking"] = thinking.pop() if len(thinking) == 1 else None
    _write_config(folder / f"{name}.llamafactory.yaml", "LLaMA-Factory", config)
    return path


def _enable_thinking(row: ChosenRow) -> set[bool | None]:
    """LLaMA-Factory's setting for the think block of a row: true trains on empty blocks, null leaves them out of the
    loss, and false takes all traces out. Empty if the model does not think."""
    if row.thinking_off:
        return {False}
    if row.thought is None:
        return set()
    return {True} if row.thought["trained"] and not row.thought["text"] else {None}


def _flat(rows: Iterable[ChosenRow], folder: Path, name: str) -> Path:
    """id, prompt (messages), response, its source (the rewrite or the original), and its think block if it has one."""
    path = folder / f"{name}.jsonl"
    write_lines(
        path,
        (
            {"id": row.id, "prompt": messages_json(row.prompt), "response": row.response, "source": row.source}
            | ({"thought": row.thought} if row.thought else {})
            for row in rows
        ),
    )
    return path


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
    with RowFile(answers, reading=True) as rows, _writing(folder):
        written, failed = write_outputs(path, examples, rows, f"{directory.resolve().name}-{arm}")
    lost = (
        f"Left out: {counted(failed, 'item')} without an answer; the errors are in {answers}. `selfdistill evaluate` "
        "asks for the missing answers again."
    )
    return Exported(path, written, [lost] if failed else [], f"alpaca_eval --model_outputs {quote(str(path))}")


FORMATS: dict[str, Export] = {
    "trl": _training_data(
        _prompt_completion, "trl sft --model_name_or_path MODEL --dataset_name {folder}", arguments=True
    ),
    "llamafactory": _training_data(
        _llamafactory,
        "put the lines of {name}.llamafactory.yaml into your config, then run: llamafactory-cli train CONFIG.yaml",
        "Only the last turn of a row is to be trained on: set mask_history: true, as in the .llamafactory.yaml file "
        "next to the data.",
        masks="empty",
    ),
    "axolotl": _training_data(
        _axolotl, "put the lines of {name}.axolotl.yaml into your config, then run: axolotl train CONFIG.yaml"
    ),
    "swift": _training_data(_swift, "swift sft --model MODEL --dataset {path}"),
    "jsonl": _training_data(_flat, "head -n 1 {path}", masks="all", arguments=True),
    "alpaca_eval": _alpaca_eval,
}
