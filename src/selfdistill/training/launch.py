"""Training in several processes: `accelerate launch` as a process of its own, whose workers run `worker.py`.

The workers read what to train from a file, and only they load it; here is shown how far they are, and why they ended.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import SelfDistillError, StageError
from ..recipe import ModelConfig, TrainConfig
from ..store.rows import write_json
from .log import Progress

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 20
WATCHED = "SELFDISTILL_WATCHED"
"""Set where the workers' standard input ends with the process that started them, and they with it."""


def launch_command(data: Path, model: ModelConfig, settings: TrainConfig, directory: Path) -> list[str]:
    """Writes the file that says what to train (the rows of `data`, into `directory`), and gives the command,
    as a list of arguments, that trains it in the processes of `settings.launch`."""
    assert settings.launch is not None
    job = (directory / "launch" / "job.json").resolve()
    write_json(
        job,
        {
            "folder": os.getcwd(),  # paths of model and chat template may be relative to it
            "data": str(data.resolve()),
            "directory": str(directory.resolve()),
            "model": model.model_dump(mode="json"),
            "train": settings.model_dump(mode="json"),
        },
    )
    processes, config = settings.launch.processes, settings.launch.config
    words = [sys.executable, "-m", "accelerate.commands.launch"]
    if config:
        words += ["--config_file", str(Path(config).expanduser().resolve())]
    else:
        words += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        words += ["--multi_gpu", "--main_process_port", "0"] if processes != 1 else []
    if processes:
        words += ["--num_processes", str(processes)]
    return [*words, "-m", "selfdistill.training.worker", str(job)]


def launch(
    data: Path, model: ModelConfig, settings: TrainConfig, directory: Path, on_progress: Progress | None = None
) -> None:
    """Trains on the rows of `data` in several processes; leaves in `directory` what `train` leaves there, and
    their output in `launch/log.txt`. The processes end with this one, however it ends.

    Raises what a worker raised, or StageError where the processes ended without saying why.
    """
    words = launch_command(data, model, settings, directory)
    folder = directory / "launch"
    for old in (*folder.glob("error-*.json"), folder / "progress.json"):
        old.unlink(missing_ok=True)
    with (folder / "log.txt").open("wb") as log:
        log.write((shlex.join(words) + "\n").encode())
        log.flush()
        with _process(words, log, _environment(model, settings)) as process:
            told: Any = None
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                told = _tell(folder / "progress.json", told, on_progress)
            _tell(folder / "progress.json", told, on_progress)
    if process.returncode:
        raise _failure(folder)


def _environment(model: ModelConfig, settings: TrainConfig) -> Mapping[str, str]:
    assert settings.launch is not None
    environment = {**os.environ, WATCHED: "1"}
    if model.device == "cpu":
        environment["ACCELERATE_USE_CPU"] = "true"
        threads = max(1, (os.cpu_count() or 1) // (settings.launch.processes or 1))
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    return environment


@contextmanager
def _process(words: list[str], log: Any, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended, and with it its workers, where the block is left before it is done."""
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
    ) as process:
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()  # the workers end by this
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _tell(path: Path, told: Any, on_progress: Progress | None) -> Any:
    """Tells what is in the progress file if it is new; gives what was told last."""
    try:
        now = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or being written
        return told
    if now != told and on_progress is not None:
        on_progress(*now)
    return now


def _failure(folder: Path) -> SelfDistillError:
    log = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    codes = [int(code) for code in re.findall(r"exitcode\s*: (-?\d+)", log)]
    killed = next((-code for code in reversed(codes) if code < 0 and -code != signal.SIGTERM), None)
    if killed:
        return StageError(
            f"A training process was killed ({signal.Signals(killed).name}; SIGKILL is usual where memory runs out). "
            f"Run again to go on from the last checkpoint; the processes' output is in {folder / 'log.txt'}."
        )
    for path in sorted(folder.glob("error-*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        error: SelfDistillError = getattr(errors, row["kind"])(row["message"])
        return error
    said = re.findall(r"^(?:\[rank\d+\]: )?([\w.]*(?:Error|Exception): .*)", log, flags=re.MULTILINE)
    reason = f" ({said[0][:300].rstrip('.')})" if said else ""
    return StageError(f"The training processes ended with an error{reason}; their output is in {folder / 'log.txt'}.")
