"""An experiment's directory: recipe, manifest, and which stages are finished with which settings. It holds no model."""

from __future__ import annotations

import copy
import datetime
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from ..errors import ExperimentError, SelfDistillError
from ..recipe import Recipe, load_recipe, save_recipe
from ..types import content_id
from .manifest import Checksums, ManifestFile, gpus, new_manifest, now
from .marks import MARKS
from .rows import put_aside, write_text
from .stage import Stage, StageRun, changed_settings, plain

_log = logging.getLogger(__name__)
_ATTEMPTS = 5
CARD = "README.md"
"""The card of a folder. It is written again with the verdict, so it is no part of what a stage made."""


class Experiment:
    """An experiment's directory. Hold `locked` while you write to it. `on_stage` is called with each stage that begins
    (False) or has finished (True)."""

    def __init__(self, directory: Path | str, recipe: Recipe) -> None:
        self.directory = Path(directory)
        if file := _file_in(self.directory):
            raise ExperimentError(_is_a_file(file))
        self.recipe = recipe
        self.on_stage: Callable[[Stage, bool], None] = lambda _stage, _ended: None
        self._read_only = False
        self._manifest, self._checksums = ManifestFile(self.directory), Checksums()

    @classmethod
    def open(cls, directory: Path | str, overrides: Sequence[str] = ()) -> Experiment:
        """An existing experiment. Raises ExperimentError if there is none."""
        directory = Path(directory)
        if not (directory / "recipe.yaml").is_file():
            raise ExperimentError(
                f"{directory} holds no experiment (no recipe.yaml); start one with `selfdistill run RECIPE`."
            )
        return cls(directory, load_recipe(directory / "recipe.yaml", overrides, folder=Path.cwd()))

    def read_only(self) -> Experiment:
        """The same directory, with every finished stage counted as finished whatever its settings are now. recipe.yaml
        is not written."""
        other = copy.copy(self)
        other._read_only = True
        return other

    def path(self, *parts: str) -> Path:
        return self.directory.joinpath(*parts)

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions and hardware, and for each stage its fingerprint, settings, counts, seconds and checksums. Not to
        be changed."""
        return self._manifest.read()

    @cached_property
    def date(self) -> datetime.date:
        """The day that chat templates write as today, in every stage and every run: the recipe's `model.date`, else the
        day on which the experiment was created."""
        recorded = self.manifest.get("date")
        if recorded:
            return datetime.date.fromisoformat(recorded)
        return self.recipe.model.date or datetime.date.fromisoformat(now()[:10])

    def finished(self, stage: Stage) -> bool:
        """Whether the stage finished with these settings and its files are unchanged. A stage that reruns on change
        also depends on its inputs' files, since failed rows may have been asked again."""
        record = self.manifest["stages"].get(stage.name, {})
        if "finished" not in record or not self.path(stage.output).exists():
            return False
        if self._read_only:
            return True
        read = self._read(stage)
        same = record["fingerprint"] == stage.fingerprint and record.get("read", read) == read
        return same and not self._changed_files(record)

    def _read(self, stage: Stage) -> str | None:
        """A digest of the inputs' files for a stage that reruns on change; None for other stages."""
        if stage.on_change != "rerun":
            return None
        records = self.manifest["stages"]
        return content_id([records.get(source.name, {}).get("files") for source in stage.inputs])

    def check_files(self, stage: Stage) -> None:
        """Raises ExperimentError if a file of a finished stage has changed."""
        if changed := self._changed_files(self.manifest["stages"].get(stage.name, {})):
            raise ExperimentError(
                f"{self.path(changed[0])} is not as it was written: damaged, or changed by hand. `selfdistill run` "
                "makes it again, and keeps what is there under another name."
            )

    def _changed_files(self, record: Mapping[str, Any]) -> list[str]:
        """The files of a finished stage that are missing or changed."""
        files: Mapping[str, str] = record.get("files", {})
        return [name for name, checksum in files.items() if self._checksums.of(self.path(name)) != checksum]

    def _files(self, stage: Stage) -> dict[str, str]:
        """The files of a stage with their checksums."""
        paths = [self.path(name) for name in (stage.output, *stage.other_outputs)]
        found = [each for path in paths for each in (sorted(path.iterdir()) if path.is_dir() else [path])]
        return {
            str(path.relative_to(self.directory)): self._checksums.of(path)
            for path in found
            if path.is_file() and path.suffix != ".damaged" and path.name != CARD
        }

    def _put_changed_aside(self, stage: Stage, record: Mapping[str, Any]) -> None:
        """Before a stage runs again: renames changed files that it would overwrite."""
        for name in self._changed_files(record) if record.get("fingerprint") == stage.fingerprint else []:
            path, output = self.path(name), self.path(stage.output)
            if path.parent != output.parent and output.exists():
                put_aside(output)  # this file marks a folder as complete
            if not path.exists():
                _log.warning("%s is gone, and made again.", path)
            elif name in stage.row_files:
                _log.warning("%s is not as it was written; rows that are missing are made again.", path)
            else:
                _log.warning("%s is not as it was written; put aside as %s and made again.", path, put_aside(path).name)

    def same_settings(self, stage: Stage) -> bool:
        """Whether the stage last ran with its present settings, whatever its inputs."""
        record = self.manifest["stages"].get(stage.name)
        return record is not None and record["settings"] == plain(stage.settings)

    def counts(self, name: str) -> dict[str, Any]:
        """The counts of a finished stage; empty if it isn't finished."""
        counts: dict[str, Any] = self.manifest["stages"].get(name, {}).get("counts", {})
        return counts

    def to_retry(self, stage: Stage) -> bool:
        """Whether a finished stage has transient failures of the engine, which another run asks again."""
        return bool(self.counts(stage.name).get("transient"))

    def changes(self, stages: Sequence[Stage]) -> Iterator[tuple[Stage, dict[str, tuple[Any, Any]]]]:
        """The stages whose expensive work was done with other settings, with the old and the new value of each key."""
        records = self.manifest["stages"]
        for stage in stages:
            record = records.get(stage.name)
            if record is None or record["fingerprint"] == stage.fingerprint or stage.on_change == "rerun":
                continue
            if stage.resumable and "finished" not in record:
                continue
            if stage.on_change == "unread" and not any(
                "finished" in reader and stage.name in reader["inputs"] for reader in records.values()
            ):
                continue
            changed = changed_settings(record["settings"], stage.settings)
            # An input that reruns on change will be made again, but this stage has read the old one.
            for source in stage.inputs:
                if (
                    source.on_change == "rerun"
                    and source.name in records
                    and record["inputs"].get(source.name) != source.fingerprint
                ):
                    changed |= changed_settings(records[source.name]["settings"], source.settings)
            if changed:
                yield stage, changed

    def begin(self, keep_recipe: bool = False) -> None:
        """Saves the recipe, unless read-only or with `keep_recipe`. Raises ExperimentError if the directory holds other
        files."""
        if not self.manifest.get("selfdistill"):
            ours = {"lock", "log.txt"}
            ours |= {"recipe.yaml"} if self.path("manifest.json.damaged").exists() else set()
            if self.directory.exists() and any(
                p.name not in ours and p.suffix not in (".partial", ".damaged") and not self._only_marks(p)
                for p in self.directory.iterdir()
            ):
                raise ExperimentError(f"{self.directory} holds other files; name a new directory with --dir.")
            self._manifest.write(new_manifest(self.date.isoformat()))
        before = self.manifest.get("trusted", [])  # kept even if the recipe drops it later
        if trusted := sorted(set(self.recipe.trusted) - set(before)):
            self._manifest.write({**self.manifest, "trusted": [*before, *trusted]})
        if not (self._read_only or keep_recipe):
            write_text(self.path("recipe.yaml"), save_recipe(self.recipe))

    def _only_marks(self, folder: Path) -> bool:
        """Whether a folder holds nothing but rows that were marked by hand, for a run that is still to begin."""
        return folder.is_dir() and list(folder.iterdir()) == [self.path(MARKS)]

    def record_commits(self, commits: Mapping[str, str]) -> None:
        """Records the commits of hub models, for this run and later ones."""
        if commits != self.manifest.get("commits", {}):
            self._manifest.write({**self.manifest, "commits": dict(commits)})

    def record_sources(self, sources: Mapping[str, str]) -> None:
        """Records the identities of files and folders that finished stages were made from, in case they are moved."""
        before = self.manifest.get("sources", {})
        if before | sources != before:
            self._manifest.write({**self.manifest, "sources": before | sources})

    def record_weights(self, note: str | None) -> None:
        """Records what the seed's weights were converted from, if they were."""
        if note and note != self.manifest.get("weights"):
            self._manifest.write({**self.manifest, "weights": note})

    @contextmanager
    def run_stage(self, stage: Stage) -> Iterator[StageRun]:
        """Records that `stage` began, and that it finished with its counts if the block ends without an error.

        A new stage that fails with an error for the user is not recorded, so that its settings can still be changed.
        """
        record = self.manifest["stages"].get(stage.name, {})
        seconds = record.get("seconds", 0.0)
        self._put_changed_aside(stage, record)
        self._record(stage, {"started": now(), "seconds": seconds}, fresh=True)
        self.on_stage(stage, False)
        run, start = StageRun(), time.monotonic()
        done: dict[str, Any] = {}
        try:
            yield run
            done = {"counts": run.counts, "finished": now(), "files": self._files(stage), "read": self._read(stage)}
        except SelfDistillError:
            if not record:
                self._forget(stage)
            raise
        finally:
            if stage.name in self.manifest["stages"]:
                self._record(stage, {"seconds": round(seconds + time.monotonic() - start, 3), **done})
        self.on_stage(stage, True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the directory for this process. The lock ends with the process, however it ends."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            file = self.path("lock").open("a+")
        except OSError as error:
            raise ExperimentError(_unwritable(self.directory, error.strerror)) from None
        with file:
            if not _lock(file):
                raise ExperimentError(
                    f"Another selfdistill process is working in {self.directory}; wait for it, or use another --dir."
                )
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def _forget(self, stage: Stage) -> None:
        stages = {name: record for name, record in self.manifest["stages"].items() if name != stage.name}
        self._manifest.write({**self.manifest, "stages": stages})

    def _record(self, stage: Stage, values: Mapping[str, Any], fresh: bool = False) -> None:
        """`fresh` forgets that the stage was finished before."""
        manifest = self.manifest
        old = {} if fresh else manifest["stages"].get(stage.name, {})
        inputs = {source.name: source.fingerprint for source in stage.inputs}
        own = {"fingerprint": stage.fingerprint, "settings": stage.settings, "inputs": inputs}
        stages = {**manifest["stages"], stage.name: {**old, **own, **values}}
        hardware = {**manifest["hardware"], "gpus": gpus() or manifest["hardware"].get("gpus", [])}
        self._manifest.write({**manifest, "hardware": hardware, "stages": stages})


def writing_problem(directory: Path) -> str | None:
    """A sentence if a run can't write into the directory or create it, else None."""
    if file := _file_in(directory):
        return _is_a_file(file)
    there = next((path for path in (directory, *directory.absolute().parents) if os.path.exists(path)), directory)
    return None if os.access(there, os.W_OK | os.X_OK) else _unwritable(directory, "Permission denied")


def _file_in(directory: Path) -> Path | None:
    """The file that is in the place of the directory or of a folder above it."""
    return next((path for path in (directory, *directory.parents) if os.path.isfile(path)), None)


def _is_a_file(path: Path) -> str:
    return f"{path} is a file; name a directory."


def _unwritable(directory: Path, reason: str | None) -> str:
    there = os.path.isfile(directory / "recipe.yaml")
    what = "make it writable, or work on a copy of it" if there else "name another directory with --dir"
    return f"{directory} can't be written ({reason}); {what}."


def _lock(file: IO[str]) -> bool:
    """Whether the file could be locked. `is_locked` of another process holds a lock for a moment."""
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.02 if attempt < _ATTEMPTS - 1 else 0)
    return False


def is_locked(directory: Path) -> bool:
    """Whether a process is working in the directory."""
    try:
        with (directory / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def lock_owner(directory: Path) -> int | None:
    """The number of the process that locked the directory last; None if the file does not hold it."""
    try:
        return int((directory / "lock").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
