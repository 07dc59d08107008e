"""Trackers of experiments: TensorBoard, W&B, MLflow and Trackio, each in a few lines over its own API.

An object here opens the tracker's run of one of our runs, logs scores to it and closes it. `tracking.py` connects it to
a training, through the callbacks of transformers.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import uuid
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from ..store.rows import write_json

_PATIENCE = 20
"""Seconds that a tracker's server has to answer."""


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers name it. `id` is drawn once, so that a resumed training and later scores reach the same run.
    `step` is the optimiser step that scores are filed under."""

    id: str
    folder: Path
    step: int = 0

    @property
    def root(self) -> Path:
        """The folder of the experiment."""
        return self.folder.parents[1] if self.folder.parent.name == "arms" else self.folder.parent

    @property
    def experiment(self) -> str:
        return self.root.name or "experiment"

    @property
    def name(self) -> str:
        return self.folder.name


def tracked_run(folder: Path, step: int = 0) -> TrackedRun:
    """The run in `folder`, EXPERIMENT/arms/RUN. Its id is kept in tracking.json there."""
    own = folder.resolve()
    file = own / "tracking.json"
    noted = read_noted(own)
    if "id" not in noted:
        noted = {**noted, "id": uuid.uuid4().hex[:16]}
        own.mkdir(parents=True, exist_ok=True)
        write_json(file, noted)
    return TrackedRun(noted["id"], own, step)


def read_noted(folder: Path) -> dict[str, Any]:
    """The content of tracking.json: the id, and under `reported` what each tracker was sent last. A damaged file counts
    as none."""
    try:
        noted = json.loads((folder / "tracking.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


class Tracker(Protocol):
    """The parts that differ between trackers. Every method but `lacks` may raise any error of the tracker's library."""

    def lacks(self) -> str | None:
        """A sentence if the package or an account's key is missing. Asks no server."""

    def begin(self, run: TrackedRun) -> None:
        """Opens the tracker's run, or opens it again."""

    def callback(self) -> Any:
        """The callback of transformers for the open run."""

    def scores(self, run: TrackedRun, numbers: Mapping[str, float], words: Mapping[str, str]) -> None:
        """Logs scores and the words of the verdict to the open run."""

    def end(self) -> None:
        """Closes the run, once everything is written."""


def _missing(name: str) -> str | None:
    if find_spec(name) is not None:
        return None
    return f"train.report_to names {name}, which is not installed; `pip install selfdistill[{name}]` installs it."


class TensorBoard:
    """Event files in EXPERIMENT/tensorboard/RUN."""

    _writer: Any = None

    def lacks(self) -> str | None:
        return _missing("tensorboard")

    def begin(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(log_dir=str(run.root / "tensorboard" / run.name))

    def callback(self) -> Any:
        from transformers.integrations import TensorBoardCallback

        return TensorBoardCallback(tb_writer=self._writer)

    def scores(self, run: TrackedRun, numbers: Mapping[str, float], words: Mapping[str, str]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, run.step)
        for name, word in words.items():
            self._writer.add_text(name, word, run.step)

    def end(self) -> None:
        if self._writer is not None:
            self._writer.close()


class WandB:
    """A run in the group of the experiment; the project is $WANDB_PROJECT, or selfdistill."""

    def lacks(self) -> str | None:
        if missing := _missing("wandb"):
            return missing
        if os.environ.get("WANDB_MODE", "online") != "online":
            return None
        import wandb

        if wandb.login(prompt=False):
            return None
        return "train.report_to names wandb, and no key is there; run `wandb login`, or set WANDB_MODE=offline."

    def begin(self, run: TrackedRun) -> None:
        import wandb

        if lacking := self.lacks():
            raise RuntimeError(lacking)  # wandb would wait for somebody to type a key
        if wandb.run is not None and wandb.run.id != run.id:
            wandb.run.finish()
        if wandb.run is None:
            # Its capture of the console would break the progress area.
            quiet = wandb.Settings(silent=True, console="off", init_timeout=_PATIENCE)
            project, group = os.environ.get("WANDB_PROJECT", "selfdistill"), run.experiment
            wandb.init(project=project, group=group, name=run.name, id=run.id, resume="allow", settings=quiet)

    def callback(self) -> Any:
        from transformers.integrations import WandbCallback

        return WandbCallback()

    def scores(self, run: TrackedRun, numbers: Mapping[str, float], words: Mapping[str, str]) -> None:
        import wandb

        opened: Any = wandb.run
        opened.summary.update({**numbers, **words})

    def end(self) -> None:
        import wandb

        if wandb.run is not None:
            ending = Thread(target=wandb.run.finish, daemon=True)
            ending.start()
            ending.join(3 * _PATIENCE)  # without a server it would try for hours
            if ending.is_alive():
                raise TimeoutError(f"its server did not take everything in {3 * _PATIENCE} s")


class _Failures(logging.Handler):
    """Keeps the first error of MLflow's thread, which only logs what it can't send. A resumed training may have other
    settings, such as its micro-batches; MLflow keeps the first ones, and that is not an error."""

    first = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not self.first and "Changing param values" not in text:
            self.first = text


class MLflow:
    """A run in the MLflow experiment $MLFLOW_EXPERIMENT_NAME, or of the experiment's name."""

    _failures = _Failures(logging.ERROR)

    def lacks(self) -> str | None:
        return _missing("mlflow")

    def begin(self, run: TrackedRun) -> None:
        # By default MLflow asks a server that is down for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_PATIENCE))
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        sending = logging.getLogger("mlflow.utils.async_logging.async_logging_queue")
        sending.handlers, sending.propagate, self._failures.first = [self._failures], False, ""
        active = mlflow.active_run()
        if active is not None and active.data.tags.get("selfdistill.id") == run.id:
            return
        if active is not None:
            mlflow.end_run()
        experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.experiment)
        ours = f"tags.`selfdistill.id` = '{run.id}'"
        found = mlflow.MlflowClient().search_runs([experiment.experiment_id], ours, max_results=1)
        if found:
            mlflow.start_run(run_id=found[0].info.run_id)
        else:
            tags = {"selfdistill.id": run.id, "selfdistill.experiment": run.experiment}
            mlflow.start_run(run_name=run.name, tags=tags)

    def callback(self) -> Any:
        from transformers.integrations import MLflowCallback

        return MLflowCallback()

    def scores(self, run: TrackedRun, numbers: Mapping[str, float], words: Mapping[str, str]) -> None:
        import mlflow

        def allowed(name: str) -> str:
            return re.sub(r"[^0-9A-Za-z_\-. :/]", "_", name)

        mlflow.log_metrics({allowed(name): value for name, value in numbers.items()}, step=run.step)
        mlflow.set_tags({allowed(name): word for name, word in words.items()})

    def end(self) -> None:
        import mlflow

        if mlflow.active_run() is not None:
            mlflow.flush_async_logging()
            mlflow.end_run()
            if self._failures.first:
                raise RuntimeError(self._failures.first)


class Trackio:
    """A run in the project of the experiment's name, on this machine unless Trackio's variables name a server."""

    _open = False

    def lacks(self) -> str | None:
        return _missing("trackio")

    def begin(self, run: TrackedRun) -> None:
        import trackio

        with redirect_stdout(io.StringIO()):
            trackio.init(project=run.experiment, name=run.name, group=run.experiment, resume="allow", embed=False)
        self._open = True

    def callback(self) -> Any:
        from transformers.integrations import TrackioCallback

        return TrackioCallback()

    def scores(self, run: TrackedRun, numbers: Mapping[str, float], words: Mapping[str, str]) -> None:
        import trackio

        trackio.log({**numbers, **words})

    def end(self) -> None:
        import trackio

        if self._open:
            self._open = False
            with redirect_stdout(io.StringIO()):
                trackio.finish()


TRACKERS: dict[str, Tracker] = {
    "tensorboard": TensorBoard(),
    "wandb": WandB(),
    "mlflow": MLflow(),
    "trackio": Trackio(),
}
