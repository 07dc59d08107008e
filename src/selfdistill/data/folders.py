"""Rows of a folder (saved by `datasets`, or with data files in it) and of a hub dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError, first_line
from ..models.hub import ask_hub
from ..recipe import DataConfig
from .bad_rows import PlacedRow
from .files import BATCH, file_kind, has_data_suffix, numbered, read_file, with_names

_NOT_DATA = ("dataset_info.json", "dataset_infos.json")
_SPLITS = {
    "train": "train", "training": "train", "test": "test", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "eval": "validation",
}  # fmt: skip


def read_folder(path: Path, config: DataConfig) -> Iterator[PlacedRow]:
    """The rows of a folder that `save_to_disk` of `datasets` wrote, or of the data files in it, in the order of their
    names. Raises DataError."""
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        yield from _read_saved(path, config)
        return
    for file in data_files(path, config.split):
        yield from read_file(file)


def data_files(folder: Path, split: str) -> list[Path]:
    """The data files in a folder, or in the folders below it. If the file names contain the split (train-00000.parquet,
    test/0.jsonl), only the files of `split`. Raises DataError if there is no such file or the choice is not clear."""
    shown = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    found = [path for path in shown if path.is_file() and has_data_suffix(path.name) and path.name not in _NOT_DATA]
    top, below = [path for path in found if path.parent == folder], [path for path in found if path.parent != folder]
    if top and below:
        raise DataError(
            f"{folder} holds data files ({top[0].name}, …), and so do folders below it "
            f"({below[0].relative_to(folder)}, …); set data.path to one of the folders or to a file."
        )
    if not found:
        raise DataError(
            f"{folder} holds no data files (.jsonl, .json, .csv, .tsv, .parquet or .arrow); check data.path."
        )
    splits = {path: _split_of(path.relative_to(folder)) for path in found}
    wanted = _SPLITS.get(split.lower(), split)
    if any(splits.values()):
        if unclear := [path.name for path, its in splits.items() if its is None]:
            raise DataError(
                f"{folder}: the split of {unclear[0]} is not clear; set data.path to a file or another folder."
            )
        found = [path for path, its in splits.items() if its == wanted]
    elif wanted != "train":
        found = []
    if not found:
        there = sorted({its for its in splits.values() if its}) or ["train"]
        raise DataError(f"{folder} has no files of the split '{split}'; set data.split to one of {', '.join(there)}.")
    if len(kinds := sorted({file_kind(path) for path in found})) > 1:
        raise DataError(
            f"{folder} holds files of several kinds ({', '.join(kinds)}); set data.path to one "
            "file, or to a folder of one kind."
        )
    return found


def _split_of(path: Path) -> str | None:
    words = [word for part in path.parts for word in re.split(r"[^a-z]+", part.lower())]
    return next((_SPLITS[word] for word in words if word in _SPLITS), None)


def _read_saved(path: Path, config: DataConfig) -> Iterator[PlacedRow]:
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(path))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} can't be read as a saved dataset ({first_line(error)}); save it again.") from error
    if isinstance(dataset, DatasetDict):
        if config.split not in dataset:
            raise DataError(f"{path} has no split '{config.split}'; set data.split to one of {', '.join(dataset)}.")
        dataset = dataset[config.split]
    return numbered(path.name, _dataset_rows(dataset))


def read_hub(config: DataConfig) -> Iterator[PlacedRow]:
    """The rows of a hub dataset. It is downloaded once into the cache of `datasets`. Raises DataError."""
    from datasets import load_dataset

    ask_hub()
    try:
        dataset = load_dataset(config.path, name=config.config, split=config.split)
    except Exception as error:  # the hub client passes on errors of several libraries
        raise DataError(
            f"The hub dataset {config.path} can't be loaded ({first_line(error)}); check its name, data.config, "
            "data.split and the network. For a gated dataset, log in with `hf auth login`."
        ) from error
    return numbered(f"{config.path} {config.split}", _dataset_rows(dataset))


def _dataset_rows(dataset: Any) -> Iterator[dict[str, Any]]:
    labels = {name: its.names for name, its in dataset.features.items() if getattr(its, "_type", "") == "ClassLabel"}
    for batch in dataset.iter(batch_size=BATCH):
        names = list(batch)
        yield from with_names(
            (dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)), labels
        )
