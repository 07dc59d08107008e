"""A stage: one unit of work of an experiment, with the settings and the stages that its result depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ..recipe.changes import differences
from ..types import content_id


@dataclass(frozen=True)
class Stage:
    """A planned stage. Two stages with the same fingerprint have the same result.

    `settings` are those that it reads itself, `inputs` the stages whose files it reads. `output` is the file or folder
    that it writes last, `other_outputs` are its other files and folders, all relative to the experiment's directory.

    `on_change`: with other settings a finished stage runs again ("rerun", for cheap work), or the run stops with an
    error ("refuse"; "unread": only once a finished stage has read its files). `resumable`: the partial work of an
    unfinished stage is filed by content, so it stays usable when settings change. Of the files in `row_files` only
    missing rows are made again; every other file is made as a whole.
    """

    name: str
    output: str
    settings: Mapping[str, Any]
    inputs: tuple[Stage, ...] = ()
    on_change: Literal["rerun", "unread", "refuse"] = "refuse"
    resumable: bool = False
    other_outputs: tuple[str, ...] = ()
    row_files: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        return content_id(plain(self.settings), [stage.fingerprint for stage in self.inputs])


@dataclass
class StageRun:
    """A stage at work. `counts` are saved when it ends without an error."""

    counts: dict[str, Any] = field(default_factory=dict)


def plain(settings: Mapping[str, Any]) -> Any:
    """The settings as they are read back from the manifest."""
    return json.loads(json.dumps(settings))


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Each key that differs, with both values."""
    return differences(before, plain(now))
