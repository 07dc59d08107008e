"""Training in several processes: real launchers and workers over gloo, killed and ended as users do it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny import tiny_model

from selfdistill.errors import ModelError, RecipeError, StageError
from selfdistill.recipe import ModelConfig, TrainConfig
from selfdistill.recipe.train import Launch
from selfdistill.store.rows import write_lines
from selfdistill.training import train
from selfdistill.training.launch import launch
from selfdistill.training.sequences import trained_row
from selfdistill.training.sft import EvenRows
from selfdistill.training.weights import load_weights
from selfdistill.types import Example, Message

# Seven rows in batches of four: the second batch of an epoch is a row short, and two processes share it.
ROWS = [Example.of((Message("user", f"Count to {i}"),), " ".join(map(str, range(i + 1)))) for i in range(7)]
TRAINING: dict[str, Any] = {"lr": 1e-2, "epochs": 3, "batch_size": 4, "micro_batch_size": 2, "dtype": "float32"}


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    return ModelConfig(path=str(tiny_model(tmp_path / "seed")), device="cpu")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_lines(tmp_path / "data.jsonl", [trained_row(row, row.reference, "original") for row in ROWS])
    return tmp_path / "data.jsonl"


def settings(processes: int | None = None, **changes: Any) -> TrainConfig:
    launched = Launch(processes=processes) if processes else None
    return TrainConfig(**{**TRAINING, "save_every": 1, **changes}, launch=launched)


def log_of(directory: Path) -> list[dict[str, Any]]:
    path = directory / "train.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def workers(directory: Path) -> list[int]:
    """The process ids of the workers that train into `directory`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = path.joinpath("cmdline").read_text().split("\0")
        except OSError:
            continue
        if str(directory / "launch" / "job.json") in words and "accelerate.commands.launch" not in words:
            found.append(int(path.name))
    return found


def wait_until(happened: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_two_processes_have_the_curve_of_one_also_after_a_kill(model, data, tmp_path):
    long, two = {"max_steps": 40, "save_every": 2}, tmp_path / "two"
    killed: list[int] = []

    def kill_one(step: int, _steps: int, _loss: float) -> None:
        if step >= 6 and not killed:  # there is a checkpoint by then
            killed.append(workers(two)[0])
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(StageError, match=r"killed \(SIGKILL.*last checkpoint.*log\.txt"):
        launch(data, model, settings(2, **long), two, kill_one)
    assert killed
    assert not workers(two)
    assert not (two / "train.json").exists()

    told: list[tuple[int, int, float]] = []
    launch(data, model, settings(2, **long), two, lambda *row: told.append(row))
    result = train(ROWS, model, settings(2, **long), two)  # what the stage does then: it finds the training finished
    assert 0 < result.resumed_from < 40
    assert told[-1] == (40, 40, log_of(two)[-1]["loss"])
    assert not (two / "checkpoints").exists()

    train(ROWS, model, settings(**long), tmp_path / "one")
    for one, other in zip(log_of(tmp_path / "one"), log_of(two), strict=True):
        assert other["step"] == one["step"]
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-3)


def test_the_processes_end_with_the_one_that_started_them(model, data, tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom selfdistill.recipe import *\n"
        "from selfdistill.training.launch import launch\n"
        "launch(Path(sys.argv[1]), ModelConfig(path=sys.argv[2], device='cpu'),"
        " TrainConfig(launch={'processes': 2}, epochs=1000), Path(sys.argv[3]))"
    )
    words = [sys.executable, "-c", code, str(data), model.path, str(tmp_path / "run")]
    with subprocess.Popen(words) as starter:
        wait_until(lambda: len(workers(tmp_path / "run")) >= 2)
        starter.terminate()
    wait_until(lambda: not workers(tmp_path / "run"))


def test_an_error_of_a_worker_is_the_error_of_the_launch(model, data, tmp_path):
    wrong = settings(1, adapter={"targets": ["q_prj"]})
    with pytest.raises(RecipeError, match=r"no linear module 'q_prj' \(did you mean q_proj\?\)"):
        launch(data, model, wrong, tmp_path / "run")


def test_a_launcher_that_does_not_start_says_why(model, data, tmp_path):
    nowhere = settings().model_copy(update={"launch": Launch(config=str(tmp_path / "accelerate.yaml"))})
    with pytest.raises(StageError, match=r"accelerate\.yaml.*log\.txt"):
        launch(data, model, nowhere, tmp_path / "run")


def test_the_printed_command_trains_an_arm_that_is_then_taken_as_it_is(model, tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"question": f"What is {n} + 1?", "answer": f"It is {n + 1}."}) + "\n" for n in range(8))
    )
    (tmp_path / "recipe.yaml").write_text(
        f"model: {{path: {model.path}, device: cpu}}\n"
        f"data: {{path: {tmp_path / 'rows.jsonl'}}}\n"
        "arms: {seed: {data: none}, vanilla: {data: original}}\n"
        "train: {max_steps: 2, batch_size: 2, launch: {processes: 1}}\n"
    )

    def command(*words: str) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ours = [sys.executable, "-m", "selfdistill", "train"]
    printed = command(*ours, "recipe.yaml", "--print-command")
    command(*shlex.split(printed))
    arm = tmp_path / "runs" / "recipe" / "arms" / "vanilla"
    trained = (arm / "train.json").read_bytes()
    assert "vanilla" in command(*ours, "runs/recipe")
    assert (arm / "train.json").read_bytes() == trained
    assert command(*ours, "runs/recipe", "--print-command") == ""


@pytest.mark.parametrize("rows", [1, 7, 8, 9])
def test_an_epoch_has_every_row_once_and_blanks_to_share_it_out(rows):
    from accelerate.data_loader import SeedableRandomSampler

    even, alone = EvenRows(rows, 3, 4), SeedableRandomSampler(range(rows), data_seed=3)
    for epoch in (0, 1):
        even.set_epoch(epoch)
        alone.set_epoch(epoch)
        order = list(even)
        assert order[:rows] == list(alone)
        assert set(order[rows:]) <= {rows}
        assert len(order) == len(even)
        assert len(order) % 4 == 0


def test_how_it_is_launched_is_no_part_of_what_is_trained():
    assert settings(2).deciding("train") == settings().deciding("train")


def test_a_model_that_is_to_be_shared_out_is_not_put_on_one_gpu_before(model, monkeypatch):
    arguments = settings(2), "cuda", torch.bfloat16, False
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert {weight.device.type for weight in load_weights(model, *arguments).parameters()} == {"cpu"}
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    with nullcontext() if torch.cuda.is_available() else pytest.raises(ModelError, match="can't be put on cuda"):
        assert next(load_weights(model, *arguments).parameters()).device.type == "cuda"
