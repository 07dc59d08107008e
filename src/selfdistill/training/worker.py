"""What each process of a launched training runs: `accelerate launch ... -m selfdistill.training.worker JOB`."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from ..errors import SelfDistillError
from ..recipe import ModelConfig, TrainConfig
from ..store.rows import read_lines, write_json
from . import train
from .launch import WATCHED
from .sequences import trained_example


def main(job: Path) -> None:
    """Trains what `job` says. An error that a user can mend is left beside it, for the process that waits."""
    said = json.loads(job.read_text(encoding="utf-8"))
    rank = int(os.environ.get("RANK", "0"))
    if WATCHED in os.environ:
        threading.Thread(target=_end_with_the_starter, daemon=True).start()
    os.chdir(said["folder"])
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # the recipe's dtype decides, whatever accelerate's file says
    _use_own_device()

    def tell(step: int, steps: int, loss: float) -> None:
        (job.parent / "progress.json").write_text(json.dumps([step, steps, loss]), encoding="utf-8")

    try:
        train(
            map(trained_example, read_lines(Path(said["data"]))),
            ModelConfig.model_validate(said["model"]),
            TrainConfig.model_validate(said["train"]),
            Path(said["directory"]),
            tell,
        )
    except SelfDistillError as error:
        write_json(job.parent / f"error-{rank}.json", {"kind": type(error).__name__, "message": str(error)})
        raise
    _leave_the_group()


def _end_with_the_starter() -> None:
    """Waits for the end of standard input, which the starting process holds open for as long as it lives."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _use_own_device() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def _leave_the_group() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
