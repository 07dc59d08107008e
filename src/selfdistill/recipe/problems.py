"""A validation error as a phrase, with the key that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

# What other tools call a setting.
_ELSEWHERE = {
    **dict.fromkeys(("learning_rate", "lr_rate"), "train.lr"),
    **dict.fromkeys(("num_train_epochs", "num_epochs", "n_epochs"), "train.epochs"),
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size"), "train.batch_size"),
    **dict.fromkeys(("max_seq_length", "max_seq_len", "sequence_len", "cutoff_len", "model_max_length"),
                    "train.max_length"),
    **dict.fromkeys(("lora_r", "lora_rank"), "train.adapter.r"),
    "lora_alpha": "train.adapter.alpha",
    "lora_dropout": "train.adapter.dropout",
    "lr_scheduler_type": "train.schedule",
    "warmup_ratio": "train.warmup",
    "save_steps": "train.save_every",
    **dict.fromkeys(("lora_target", "lora_target_modules", "target_modules"), "train.adapter.targets"),
    **dict.fromkeys(("model_name_or_path", "model_name", "base_model"), "model.path"),
    **dict.fromkeys(("dataset", "dataset_name", "dataset_path", "train_file", "data_path"), "data.path"),
}  # fmt: skip
_LISTS = {"seeds": "[0, 1, 2]"}


def problem(detail: Any, model: type[BaseModel]) -> str:
    """One of the errors of validating `model`: the key with its path, and what to do about it."""
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location)
    if detail["type"] == "extra_forbidden":
        known = sorted(set(_keys(model)))
        leaf = location[-1]
        parent = ".".join(
            part for part, before in zip(location[:-1], ["", *location], strict=False) if before != "arms"
        )
        siblings = [k for k in known if k.rpartition(".")[0] == parent.removesuffix(".0")]
        if leaf == "output_dir":
            return f"unknown key `{key}` (name the directory with the option `--dir`)"
        if meant := _ELSEWHERE.get(leaf):
            return f"unknown key `{key}` (did you mean `{meant}`?)"
        near = [
            ".".join([*location[:-1], close])
            for close in difflib.get_close_matches(leaf, [k.rpartition(".")[2] for k in siblings], n=1)
        ]
        near = near or [k for k in known if k.rpartition(".")[2] == leaf][:1]
        near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        return f"unknown key `{key}`" + (f" (did you mean `{near[0]}`?)" if near else "")
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "missing":
        return f"`{key}` is missing"
    where = f"`{key}`: " if key else ""
    if detail["type"] == "list_type":
        given = detail["input"]
        return f"{where}write a list, such as {_LISTS.get(key, f'[{_short(str(given))}]')}, not {_short(repr(given))}"
    given = "" if detail["type"] in ("value_error",) else f", not {_short(repr(detail['input']))}"
    return f"{where}{message[0].lower()}{message[1:]}{given}"


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]} …"


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield prefix + name
        candidates = [info.annotation, *getattr(info.annotation, "__args__", ())]
        for inner in candidates:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _keys(inner, f"{prefix}{name}.")
