"""The chosen responses in the formats of other training stacks. A new one is a function and a line in `FORMATS`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .annotations import write_outputs
from .config import load_recipe
from .data import assemble, iter_conversations
from .errors import ExperimentError
from .rows import RowFile, read_lines, write_json, write_lines, write_text
from .types import Example, Message, Messages, Rewrite, messages_from_json, messages_json

ALPACA_EVAL = "alpaca_eval"


@dataclass(frozen=True)
class _Chosen:
    """A conversation as trained on; of each assistant turn where it comes from, and the id of its example."""

    messages: Messages
    sources: list[str]
    ids: list[str]


def export(directory: Path | str, to: str, out: Path | str | None = None, arm: str = "sdft") -> Path:
    """Writes what `arm` of the experiment in `directory` trains on into the folder `out` (default
    `directory`/export/`to`), in the format `to` of `FORMATS`; gives the path of the data file.

    With `to` = alpaca_eval its answers to AlpacaEval instead, as an outputs.json of that tool's.

    An arm that has not been trained is made from the rewrites where it is `sdft`.
    Raises ExperimentError where there is no such format, or no such data yet.
    """
    if to not in FORMATS and to != ALPACA_EVAL:
        raise ExperimentError(f"There is no export format '{to}'; choose one of {', '.join([*FORMATS, ALPACA_EVAL])}.")
    directory = Path(directory)
    folder = Path(out) if out else directory / "export" / to
    if to == ALPACA_EVAL:
        return _answers(directory, arm, folder)
    rows = _chosen(directory, arm)
    # The name is what LLaMA-Factory calls the dataset by, where a comma or a space would part names.
    name = re.sub(r"[^\w.-]+", "_", f"{directory.resolve().name}_{arm}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FORMATS[to](rows, folder, name)
    except OSError as error:
        raise ExperimentError(f"{folder} can't be written ({error.strerror}); name a folder with --out.") from error


def _answers(directory: Path, arm: str, folder: Path) -> Path:
    """What `arm` (or a run of it) answered on AlpacaEval, for the alpaca_eval command."""
    items, answers = directory / "items/alpacaeval.jsonl", directory / f"arms/{arm}/evaluate/alpacaeval/answers.jsonl"
    if not items.is_file() or not answers.is_file():
        raise ExperimentError(f"{directory} has no answers of '{arm}' to AlpacaEval; put alpacaeval in evaluate.tasks.")
    path = folder / f"{arm}_outputs.json"
    with RowFile(answers, reading=True) as rows:
        write_outputs(path, map(Example.from_json, read_lines(items)), rows, f"{directory.resolve().name}-{arm}")
    return path


def _chosen(directory: Path, arm: str) -> Iterator[_Chosen]:
    trained = directory / "arms" / arm / "data.jsonl"
    rewrites = directory / "rewrite" / "rewrites.jsonl"
    if trained.is_file():
        return _from_arm(trained)
    if arm != "sdft":
        raise ExperimentError(f"{directory} has no data of an arm '{arm}' yet; run `selfdistill train {directory}`.")
    if not _all_rewrites(directory / "recipe.yaml"):
        raise ExperimentError(
            f"{directory} has no data of the arm 'sdft' yet, and as the recipe has it (data, n, template, best_of or "
            f"replay) it trains on other rows than all with their rewrites; run `selfdistill train {directory}`."
        )
    if not rewrites.is_file():
        raise ExperimentError(f"{directory} has no rewrites yet; run `selfdistill rewrite {directory}`.")
    return _from_rewrites(directory / "data" / "train.jsonl", rewrites)


def _all_rewrites(recipe: Path) -> bool:
    """Whether `sdft`, if there is one, trains on all rows, each with its rewrite where that was accepted."""
    arm = load_recipe(recipe).arms.get("sdft") if recipe.is_file() else None
    others = arm.model_dump(exclude={"data", "train"}, exclude_defaults=True) if arm else {}
    return arm is None or (arm.data in ("rewrites", 1.0) and not others)


def _from_arm(path: Path) -> Iterator[_Chosen]:
    for row in read_lines(path):
        messages = messages_from_json(row["messages"])
        yield _Chosen(messages, row["sources"], row.get("ids") or [turn.id for turn in _turns(messages)])


def _from_rewrites(train: Path, rewrites: Path) -> Iterator[_Chosen]:
    with RowFile(rewrites, reading=True) as rows:
        for conversation in iter_conversations(train):
            chosen = _Chosen((), [], [])

            def response(example: Example, chosen: _Chosen = chosen) -> str:
                row = rows.get(example.id)
                if row is None:
                    raise ExperimentError(
                        f"{rewrites} lacks the example {example.id}; run `selfdistill rewrite` again."
                    )
                rewrite = Rewrite.from_json(row)
                chosen.sources.append(rewrite.source)
                chosen.ids.append(example.id)
                return rewrite.response

            messages = assemble(conversation, response)
            yield _Chosen(messages, chosen.sources, chosen.ids)


def _turns(messages: Messages) -> list[Example]:
    return [Example.of(messages[:at], turn.content) for at, turn in enumerate(messages) if turn.role == "assistant"]


def _messages(rows: Iterable[_Chosen], folder: Path, name: str) -> Path:
    """`messages` a line, as ms-swift reads it (https://swift.readthedocs.io, Custom dataset)."""
    path = folder / f"{name}.jsonl"
    write_lines(path, ({"messages": messages_json(row.messages)} for row in rows))
    return path


def _trl(rows: Iterable[_Chosen], folder: Path, name: str) -> Path:
    """One assistant turn a line, as TRL's conversational prompt-completion type
    (https://huggingface.co/docs/trl/dataset_formats): of `messages` it would train on the prompts too."""
    path = folder / f"{name}.jsonl"
    turns = (turn for row in rows for turn in _turns(row.messages))
    parts = ((turn.prompt, (Message("assistant", turn.reference),)) for turn in turns)
    write_lines(path, ({"prompt": messages_json(p), "completion": messages_json(c)} for p, c in parts))
    return path


def _axolotl(rows: Iterable[_Chosen], folder: Path, name: str) -> Path:
    """A dataset of type chat_template and the lines that name it in a config
    (https://docs.axolotl.ai/docs/dataset-formats/conversation.html)."""
    path = _messages(rows, folder, name)
    dataset = {
        "path": str(path),
        "ds_type": "json",
        "type": "chat_template",
        "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"},
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
    }
    config = {"chat_template": "tokenizer_default", "datasets": [dataset], "train_on_inputs": False}
    snippet = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    write_text(folder / f"{name}.axolotl.yaml", f"# Put these lines into your axolotl config.\n{snippet}")
    return path


def _llamafactory(rows: Iterable[_Chosen], folder: Path, name: str) -> Path:
    """A ShareGPT array and its entry in dataset_info.json, beside the entries that are there already
    (https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md)."""
    info_path, path = folder / "dataset_info.json", folder / f"{name}.json"
    try:
        info: Any = json.loads(info_path.read_text(encoding="utf-8")) if info_path.exists() else {}
    except ValueError:
        info = None
    if not isinstance(info, dict):
        raise ExperimentError(f"{info_path} is not a JSON object of datasets; mend it, or name another folder.")
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        for index, row in enumerate(rows):
            file.write(",\n" if index else "[\n")
            file.write(json.dumps(_sharegpt(row.messages), ensure_ascii=False))
        file.write("\n]\n")
    partial.replace(path)
    info[name] = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system"},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
    }
    write_json(info_path, info)
    return path


def _sharegpt(messages: Messages) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt"}
    return {
        "conversations": [{"from": names[m.role], "value": m.content} for m in messages if m.role != "system"],
        "system": "".join(m.content for m in messages if m.role == "system"),
    }


def _flat(rows: Iterable[_Chosen], folder: Path, name: str) -> Path:
    """One assistant turn a line: id, prompt (messages), response, and whether it is the rewrite or the original."""
    path = folder / f"{name}.jsonl"
    write_lines(
        path,
        (
            {"id": row_id, "prompt": messages_json(turn.prompt), "response": turn.reference, "source": source}
            for row in rows
            for row_id, turn, source in zip(row.ids, _turns(row.messages), row.sources, strict=True)
        ),
    )
    return path


FORMATS: dict[str, Callable[[Iterable[_Chosen], Path, str], Path]] = {
    "trl": _trl,
    "llamafactory": _llamafactory,
    "axolotl": _axolotl,
    "swift": _messages,
    "jsonl": _flat,
}
