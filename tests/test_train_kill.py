"""kill -9 of a real training process at random moments: the training is completed, and is what it would have been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny import tiny_model

# Forks, so that torch and TRL are imported once; the parent computes nothing before it has forked for the last time.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import datasets, peft, torch, trl
torch.set_num_threads(1)
from selfdistill.recipe import ModelConfig, TrainConfig
from selfdistill.training import train
from selfdistill.types import Example, Message

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
rows = [Example.of((Message("user", f"What follows {i}?"),), f"After {i} comes {i + 1}.") for i in range(8)]
model = ModelConfig(path=str(folder / "model"), device="cpu")
settings = TrainConfig(lr=1e-2, max_steps=12, batch_size=4, micro_batch_size=4, save_every=1, dtype="float32")
log, rng, kills = folder / "killed" / "train.jsonl", random.Random(seed), 0

def steps():
    return len(log.read_bytes().splitlines()) if log.exists() else 0

for _ in range(5):
    before, child = steps(), os.fork()
    if child == 0:
        train(rows, model, settings, folder / "killed")
        os._exit(0)
    while steps() == before and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.06))
    try:
        os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    except (ChildProcessError, ProcessLookupError):
        break
train(rows, model, settings, folder / "killed")
train(rows, model, settings, folder / "whole")
print(kills)
"""


def test_a_killed_training_is_completed(tmp_path):
    tiny_model(tmp_path / "model")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLER, str(tmp_path), "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2, "the training was over before it was killed"

    killed, whole = (read(tmp_path / name) for name in ("killed", "whole"))
    assert [row["step"] for row in killed] == list(range(1, 13))
    assert [row["loss"] for row in killed] == [row["loss"] for row in whole]
    weights = [(tmp_path / name / "model" / "adapter_model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "killed" / "checkpoints").exists()


def read(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "train.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("presses", "saved"), [(1, ["checkpoint-3"]), (2, [])])
def test_ctrl_c_saves_its_step_and_a_second_one_stops_at_once(tmp_path, presses, saved):
    from selfdistill.recipe import ModelConfig, TrainConfig
    from selfdistill.training import train
    from selfdistill.types import Example, Message

    rows = [Example.of((Message("user", f"After {i}?"),), f"After {i} comes {i + 1}.") for i in range(8)]
    model = ModelConfig(path=str(tiny_model(tmp_path / "model")), device="cpu")
    settings = TrainConfig(max_steps=4, batch_size=4, micro_batch_size=4, dtype="float32", save_every=100)

    def stop(step, steps, loss):
        if step == 2:
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(rows, model, settings, tmp_path / "stopped", stop)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    folder = tmp_path / "stopped" / "checkpoints"
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == saved
    assert train(rows, model, settings, tmp_path / "stopped").resumed_from == (3 if saved else 0)


def test_sigterm_in_the_last_step_adds_none(tmp_path):
    """The training ends within an epoch, from which one that is taken up would go on."""
    from selfdistill.recipe import ModelConfig, TrainConfig
    from selfdistill.training import train
    from selfdistill.types import Example, Message

    rows = [Example.of((Message("user", f"After {i}?"),), f"After {i} comes {i + 1}.") for i in range(8)]
    model = ModelConfig(path=str(tiny_model(tmp_path / "model")), device="cpu")
    settings = TrainConfig(max_steps=3, batch_size=4, micro_batch_size=4, dtype="float32", schedule="constant")

    def stop(step, steps, loss):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    def ended(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, ended)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(rows, model, settings, tmp_path / "stopped", stop)
    finally:
        signal.signal(signal.SIGTERM, before)
    results = [train(rows, model, settings, tmp_path / name) for name in ("stopped", "whole")]
    assert [(result.steps, result.loss) for result in results] == [(3, results[1].loss)] * 2
    assert read(tmp_path / "stopped")[-1]["step"] == 3
