"""Files written during a training: rows of train.jsonl, and checkpoints that are verified before a resume."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..errors import ExperimentError, StageError
from ..store.rows import file_checksum, write_json, write_lines
from .flops import peak_flops, token_flops

StepProgress = Callable[[int, int, float | None], None]
"""Receives step, total steps and loss."""
_COMPLETE = "whole.json"


def last_checkpoint(folder: Path, fingerprint: str) -> Path | None:
    """The last complete checkpoint in `folder`, or None. Incomplete and damaged checkpoints after it are deleted.

    Raises ExperimentError if the checkpoint belongs to a training with other data, model or settings.
    """
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=checkpoint_step, reverse=True):
        found = _fingerprint(checkpoint)
        if found is None:
            shutil.rmtree(checkpoint, ignore_errors=True)
        elif found != fingerprint:
            raise ExperimentError(
                f"{folder.parent} holds a training with other data, model or settings, stopped at step "
                f"{checkpoint_step(checkpoint)}; train in another folder, or delete {folder} to start over."
            )
        else:
            return checkpoint
    return None


def checkpoint_step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def mark_complete(checkpoint: Path, fingerprint: str) -> None:
    """Write the checksums of a checkpoint's files. They are written last: a training never resumes from a checkpoint
    without checksums, or from a checkpoint whose files have changed."""
    found = (path for path in checkpoint.rglob("*") if path.is_file())
    files = {str(path.relative_to(checkpoint)): file_checksum(path) for path in found}
    write_json(checkpoint / _COMPLETE, {"fingerprint": fingerprint, "files": files})


def _fingerprint(checkpoint: Path) -> str | None:
    """The fingerprint of a checkpoint's training, or None if a file is missing or has changed."""
    try:
        complete = json.loads((checkpoint / _COMPLETE).read_text(encoding="utf-8"))
        same = all(file_checksum(checkpoint / name) == checksum for name, checksum in complete["files"].items())
        return str(complete["fingerprint"]) if same else None
    except (OSError, ValueError):
        return None


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a train.jsonl, without a last line that was cut off."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def last_epoch_loss(path: Path) -> float:
    """The mean loss over the steps of the last epoch, in nats per trained token. NaN without a row: a process that is
    not the first one may be ahead of the log."""
    rows = read_log(path)
    losses = [row["loss"] for row in rows if row["epoch"] > rows[-1]["epoch"] - 1]
    return float(round(sum(losses) / len(losses), 6)) if losses else math.nan


def recorder(log: Path, fingerprint: str, report: StepProgress) -> Any:
    """A TrainerCallback that writes `log`, marks checkpoints as complete and reports progress. It raises StageError if
    the loss is not finite."""
    import torch
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        tokens_at_start = tokens = 0
        time = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                # A resumed training writes the rows after the checkpoint's step again.
                write_lines(log, [row for row in read_log(log) if row["step"] <= state.global_step])
                report(state.global_step, state.max_steps, None)
            if args.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            self.tokens_at_start = self.tokens = state.num_input_tokens_seen
            self.time = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            last = state.global_step >= state.max_steps
            control.should_log |= last or control.should_save  # weights are saved only after their loss was checked
            control.should_save &= not last  # after the last step the result is written instead of a checkpoint

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
            if "loss" not in logs:
                return
            if not math.isfinite(logs["loss"]):
                raise StageError(
                    f"The loss is {logs['loss']} at step {state.global_step}, so training has diverged; lower "
                    "train.lr, add train.warmup, or set train.dtype=float32, and run the command again."
                )
            now = time.perf_counter()
            rate = (state.num_input_tokens_seen - self.tokens) / max(now - self.time, 1e-9)
            self.tokens, self.time = state.num_input_tokens_seen, now
            norm = logs.get("grad_norm", math.nan)
            if state.is_world_process_zero:
                row = {
                    "step": state.global_step,
                    "epoch": round(state.epoch, 6),
                    "loss": logs["loss"],
                    "lr": logs["learning_rate"],
                    "grad_norm": norm if math.isfinite(norm) else None,  # float16 skips its first steps: overflow
                    "tokens_per_second": round(rate, 1),
                    "peak_memory_gib": round(peak_memory_gib(), 3),
                }
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                report(state.global_step, state.max_steps, logs["loss"])

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if torch.distributed.is_initialized():
                torch.distributed.barrier()  # wait until every process has written its part
            if state.is_world_process_zero:
                mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}", fingerprint)
            self.time = time.perf_counter()  # saving does not count as training time

    return Recorder()


def measured(trainer: Any, tokens_at_start: int, seconds: float, lengths: Iterable[int]) -> dict[str, Any]:
    """The fields of `TrainResult` that a finished trainer knows. `seconds` is the time since `tokens_at_start` tokens
    were seen, `lengths` the sequences' lengths in tokens. Raises StageError if a weight is not finite."""
    import torch

    parameters = list(trainer.model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    # If several processes share the weights, each process checks its part.
    parts = (parameter.to_local() if hasattr(parameter, "to_local") else parameter for parameter in trained)
    if not all(torch.isfinite(part).all() for part in parts):
        raise StageError("The trained weights hold NaN or infinity; lower train.lr, or set train.dtype=float32.")
    tokens = trainer.state.num_input_tokens_seen - tokens_at_start
    flops = token_flops(trainer.accelerator.unwrap_model(trainer.model), lengths) * tokens / seconds
    peak = peak_flops(trainer.args.device)
    return {
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch, 4),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "trained_parameters": sum(parameter.numel() for parameter in trained),
        "seconds": round(seconds, 2),
        "tokens_per_second": round(tokens / seconds, 1),
        "flops_per_second": float(f"{flops:.4g}"),
        "mfu": round(flops / (peak * trainer.args.world_size), 4) if peak else None,
        "peak_memory_gib": round(peak_memory_gib(), 3),
        "gradient_checkpointing": trainer.args.gradient_checkpointing,
        "device": str(trainer.args.device),
        "dtype": {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}[trainer.accelerator.mixed_precision],
        "attention": trainer.model.config._attn_implementation,
    }


def peak_memory_gib() -> float:
    """The most memory that this process has held: GPU memory if it computes on a GPU, else main memory."""
    import torch

    if torch.cuda.is_available() and (allocated := torch.cuda.max_memory_allocated()):
        return allocated / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
