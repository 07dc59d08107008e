"""Train in several processes: start `accelerate launch`, whose workers run `worker.py`, and wait for it.

The workers read the job from a file, and only they load the model. This process reports their progress and errors.
"""

from __future__ import annotations

import json
import logging
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
from .log import StepProgress

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 20
WARNINGS = "warnings.txt"
"""The file in the folder `launch` with the warnings of the first worker, one per line."""
WATCHED = "SELFDISTILL_WATCHED"
"""If this variable is set, workers exit when their standard input closes: when the process that started them ends."""


def launch_command(data: Path, model: ModelConfig, settings: TrainConfig, directory: Path) -> list[str]:
    """Write the job file (train on the rows of `data`, into `directory`) and return the command that runs it in the
    processes of `settings.launch`, as a list of arguments."""
    assert settings.launch is not None
    job = (directory / "launch" / "job.json").resolve()
    write_json(
        job,
        {
            "folder": os.getcwd(),  # the paths of model and chat template may be relative to it
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
    data: Path, model: ModelConfig, settings: TrainConfig, directory: Path, on_progress: StepProgress | None = None
) -> None:
    """Train on the rows of `data` in several processes. Writes to `directory` what `train` writes, and the processes'
    output to `launch/log.txt`. The processes end when this process ends, however it ends.

    Raises the error that a worker raised, or StageError if the processes ended without writing an error to a file.
    """
    words = launch_command(data, model, settings, directory)
    folder = directory / "launch"
    for old in (*folder.glob("error-*.json"), folder / "progress.json", folder / WARNINGS):
        old.unlink(missing_ok=True)
    with (folder / "log.txt").open("wb") as log:
        log.write((shlex.join(words) + "\n").encode())
        log.flush()
        with _process(words, log, _environment(model, settings)) as process:
            reported: Any = None
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                reported = _report(folder / "progress.json", reported, on_progress)
            _report(folder / "progress.json", reported, on_progress)
    if (folder / WARNINGS).is_file():
        for line in (folder / WARNINGS).read_text(encoding="utf-8", errors="replace").splitlines():
            _log.warning("%s", line)
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
    """The running process. On exit from the context, the process and its workers are stopped."""
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
    ) as process:
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()  # this ends the workers
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _report(path: Path, reported: Any, on_progress: StepProgress | None) -> Any:
    """Report the content of the progress file if it is new. Returns what was reported last."""
    try:
        now = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet, or half written
        return reported
    if now != reported and on_progress is not None:
        on_progress(*now)
    return now


def _failure(folder: Path) -> SelfDistillError:
    log = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    codes = [int(code) for code in re.findall(r"exitcode\s*: (-?\d+)", log)]
    killed = next((-code for code in reversed(codes) if code < 0 and -code != signal.SIGTERM), None)
    if killed:
        return StageError(
            f"A training process was killed ({signal.Signals(killed).name}; SIGKILL usually means that memory ran "
            "out). Run the command again to resume from the last checkpoint. The processes' output is in "
            f"{folder / 'log.txt'}."
        )
    for path in sorted(folder.glob("error-*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        error: SelfDistillError = getattr(errors, row["kind"])(row["message"])
        return error
    raised = re.findall(r"^(?:\[rank\d+\]: )?([\w.]*(?:Error|Exception): .*)", log, flags=re.MULTILINE)
    reason = f" ({raised[0][:300].rstrip('.')})" if raised else ""
    advice = f"fix its cause (see {folder / 'log.txt'}) and run the command again."
    return StageError(f"The training processes ended with an error{reason}; {advice}")
