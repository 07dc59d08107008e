"""One process of a launched training: `accelerate launch ... -m selfdistill.training.worker JOB`."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path

from ..errors import SelfDistillError
from ..recipe import ModelConfig, TrainConfig
from ..store.rows import read_lines, write_json
from . import train
from .launch import WARNINGS, WATCHED
from .sequences import trained_example


def main(job: Path) -> None:
    """Run the training that the file `job` describes. An error that the user can fix is also written next to `job`, and
    so are the first worker's warnings, so that the process that started the workers can raise and log them."""
    written = json.loads(job.read_text(encoding="utf-8"))
    rank = int(os.environ.get("RANK", "0"))
    if WATCHED in os.environ:
        threading.Thread(target=_exit_with_the_starter, daemon=True).start()
    if rank == 0:
        kept = logging.FileHandler(job.parent / WARNINGS, delay=True)
        kept.setLevel(logging.WARNING)
        logging.getLogger("selfdistill").addHandler(kept)
    import torch

    os.chdir(written["folder"])
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # the recipe decides the dtype, not accelerate's file
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))

    def report(step: int, steps: int, loss: float | None) -> None:
        (job.parent / "progress.json").write_text(json.dumps([step, steps, loss]), encoding="utf-8")

    try:
        train(
            map(trained_example, read_lines(Path(written["data"]))),
            ModelConfig.model_validate(written["model"]),
            TrainConfig.model_validate(written["train"]),
            Path(written["directory"]),
            report,
        )
    except SelfDistillError as error:
        write_json(job.parent / f"error-{rank}.json", {"kind": type(error).__name__, "message": str(error)})
        raise
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _exit_with_the_starter() -> None:
    """Exit when standard input closes. The process that started the workers keeps standard input open until it ends."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
