"""A budget on forgetting: in a plain TRL script, in a training of ours, in several processes, and in a recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done
from support.tiny import tiny_model

from selfdistill import ForgettingCallback
from selfdistill.backends import open_backend
from selfdistill.demo import SEEDS
from selfdistill.errors import RecipeError, StageError
from selfdistill.measure.shift import Compared, Sample
from selfdistill.measure.shift.kl import kl
from selfdistill.recipe import ModelConfig, Sampling, TrainConfig
from selfdistill.recipe.budget import Budget
from selfdistill.recipe.train import Launch
from selfdistill.store.rows import write_lines
from selfdistill.training import TrainResult, train
from selfdistill.training.launch import launch
from selfdistill.training.sequences import trained_row
from selfdistill.training.watched_probes import probes_of
from selfdistill.types import Example, Message

SMALL: dict[str, Any] = {"suite": "demo", "items": 4, "without": ["demo-maths"]}
ROWS = [Example.of((Message("user", f"Count to {i}"),), " ".join(map(str, range(i + 1)))) for i in range(8)]
TRAINING: dict[str, Any] = {
    "lr": 1e-2, "schedule": "constant", "max_steps": 6, "batch_size": 4, "micro_batch_size": 2, "dtype": "float32",
}  # fmt: skip
NEVER = {"kl": 99.0, "probes": 0.99, "every": 3, **SMALL}


@pytest.fixture
def seed(tmp_path: Path) -> ModelConfig:
    return ModelConfig(path=str(tiny_model(tmp_path / "seed")), device="cpu", dtype="float32")


def trl_trainer(seed: ModelConfig, folder: Path, full: bool) -> Any:
    """A trainer of anyone's script, with TRL's defaults such as gradient checkpointing."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    chats = [
        {
            "prompt": [{"role": "user", "content": row.prompt[0].content}],
            "completion": [{"role": "assistant", "content": row.reference}],
        }
        for row in ROWS
    ]
    settings = SFTConfig(
        output_dir=str(folder), learning_rate=1e-2, max_steps=6, per_device_train_batch_size=4, report_to=[],
        use_cpu=True, bf16=False, disable_tqdm=True, logging_steps=2, model_init_kwargs={"dtype": "float32"},
    )  # fmt: skip
    lora = None if full else LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    return SFTTrainer(seed.path, args=settings, train_dataset=Dataset.from_list(chats), peft_config=lora)


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_a_plain_script_logs_the_divergence_that_the_shift_measures(
    seed: ModelConfig, tmp_path: Path, full: bool
) -> None:
    trainer = trl_trainer(seed, tmp_path / "run", full)
    callback = ForgettingCallback(trainer, **NEVER)
    trainer.add_callback(callback)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))

    asked = [each.prompt for each in probes_of(Budget(**NEVER))[0]]
    with open_backend("hf", seed) as backend:
        answers = {answer.id: answer for answer in backend.generate(asked, Sampling(max_new_tokens=128))}
    samples = [Sample(prompt, answers[prompt.id]) for prompt in asked]
    tuned = seed.model_copy(update={"path": str(tmp_path / "model")}) if full else seed
    wanted = kl(Compared((), seed, tuned, None if full else str(tmp_path / "model"), samples=samples)).figures

    assert [check.step for check in callback.checks] == [1, 3, 6]
    assert callback.checks[-1].kl == pytest.approx(wanted["mean"], rel=1e-3)
    logged = [row["forgetting/kl"] for row in trainer.state.log_history if "forgetting/kl" in row]
    assert logged == [check.kl for check in callback.checks]
    # The trainer's own figures stay in its own rows.
    assert all(("mean_token_accuracy" in row) == ("loss" in row) for row in trainer.state.log_history[:-1])
    assert not callback.exceeded


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
@pytest.mark.parametrize("action", ["stop", "keep"])
def test_an_exceeded_budget_leaves_the_last_weights_within_it(
    seed: ModelConfig, tmp_path: Path, full: bool, action: str
) -> None:
    import torch

    trainer = trl_trainer(seed, tmp_path / "run", full)
    before = {name: each.detach().clone() for name, each in trainer.model.named_parameters()}
    callback = ForgettingCallback(trainer, kl=1e-9, action=action, every=1, **SMALL)
    trainer.add_callback(callback)
    trainer.train()
    assert trainer.state.global_step == (1 if action == "stop" else 6)
    assert "kl" in callback.exceeded
    assert callback.exceeded.endswith("at step 1")
    assert callback.kept == 0
    assert all(torch.equal(each, before[name]) for name, each in trainer.model.named_parameters())


def trained(seed: ModelConfig, folder: Path, **changes: Any) -> TrainResult:
    return train(ROWS, seed, TrainConfig(**{**TRAINING, **changes}), folder)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_budget_that_holds_does_not_change_the_weights(seed: ModelConfig, tmp_path: Path, method: str) -> None:
    with_budget = trained(seed, tmp_path / "with", method=method, budget=NEVER)
    without = trained(seed, tmp_path / "without", method=method)
    assert with_budget.weights == without.weights
    assert with_budget.fingerprint != without.fingerprint
    assert with_budget.budget is not None
    assert with_budget.budget["stopped"] is None
    assert without.budget is None


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_weights_are_those_of_the_step_that_was_kept_also_after_a_resume(
    seed: ModelConfig, tmp_path: Path, method: str
) -> None:
    free = trained(seed, tmp_path / "free", method=method, budget=NEVER)
    assert free.budget is not None
    bounds = {check["step"]: check["kl_bound"] for check in free.budget["checks"]}
    assert bounds[3] < bounds[6]
    limit = {**NEVER, "kl": (bounds[3] + bounds[6]) / 2}

    class KilledError(Exception):
        pass

    def kill(step: int, steps: int, loss: float | None) -> None:
        if step == 5:
            raise KilledError

    settings = TrainConfig(**{**TRAINING, "method": method, "budget": limit, "save_every": 4})
    with pytest.raises(KilledError):
        train(ROWS, seed, settings, tmp_path / "killed", kill)
    resumed = train(ROWS, seed, settings, tmp_path / "killed")
    assert resumed.resumed_from == 4
    assert resumed.budget is not None
    assert resumed.budget["kept"] == 3
    assert [check["step"] for check in resumed.budget["checks"]] == [1, 3, 6]
    found = [check["kl"] for check in resumed.budget["checks"]]
    assert found == pytest.approx([check["kl"] for check in free.budget["checks"]], rel=1e-4)
    assert resumed.weights == trained(seed, tmp_path / "short", method=method, max_steps=3).weights


def test_several_processes_stop_together(seed: ModelConfig, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    write_lines(data, [trained_row(row, row.reference, "original") for row in ROWS])
    budget = {**SMALL, "kl": 1e-9, "every": 1}
    settings = TrainConfig(**TRAINING, budget=budget, launch=Launch(processes=2))
    launch(data, seed, settings, tmp_path / "two")
    found = json.loads((tmp_path / "two" / "train.json").read_text())
    assert found["budget"]["stopped"].endswith("at step 1")
    assert (found["steps"], found["budget"]["kept"]) == (1, 0)


def test_what_does_not_fit_is_refused(seed: ModelConfig, tmp_path: Path) -> None:
    trainer = trl_trainer(seed, tmp_path / "run", full=False)
    with pytest.raises(RecipeError, match="names `kl`, `probes` or both"):
        ForgettingCallback(trainer)
    with pytest.raises(RecipeError, match="no task demo-poems"):
        ForgettingCallback(trainer, kl=0.05, suite="demo", without=["demo-poems"])
    trainer.args.load_best_model_at_end = True
    with pytest.raises(RecipeError, match="load_best_model_at_end"):
        ForgettingCallback(trainer, kl=0.05)
    trainer.is_fsdp_enabled = True
    with pytest.raises(RecipeError, match="train with DDP"):
        ForgettingCallback(trainer, kl=0.05)


def without_memory_to_answer(from_step: int, trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfdistill.backends import hf

    decode = hf.decode

    def limited(*arguments: Any) -> list[list[int]]:
        if trainer.state.global_step >= from_step:
            raise MemoryError
        return decode(*arguments)

    monkeypatch.setattr(hf, "decode", limited)


def test_a_seed_without_an_answer_stops_the_training_at_its_start(
    seed: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trl_trainer(seed, tmp_path / "run", full=False)
    trainer.add_callback(ForgettingCallback(trainer, **NEVER))
    without_memory_to_answer(0, trainer, monkeypatch)
    with pytest.raises(StageError, match=r"The seed answered none of the 4 probes; .* leave the budget out"):
        trainer.train()


def test_probes_without_an_answer_are_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    demo = ModelConfig(path=str(SEEDS["demo"]), device="cpu", dtype="float32")
    trainer = trl_trainer(demo, tmp_path / "run", full=False)
    callback = ForgettingCallback(trainer, probes=0.01, every=6, **{**SMALL, "items": 8})
    trainer.add_callback(callback)
    without_memory_to_answer(1, trainer, monkeypatch)
    trainer.train()
    assert callback.checks[-1].changed > 0
    assert "asked probes got no answer (out of memory" in caplog.text


def test_no_probe_is_one_that_an_evaluation_reports() -> None:
    from selfdistill.tasks import get_task

    for suite in ("probes", "demo"):
        probes, left_out = probes_of(Budget(kl=1, suite=suite))
        assert len(probes) == 36
        assert (set(left_out) == {"probe-code", "overrefusal"}) == (suite == "probes")
        for task in {each.task.name: each.task for each in probes}.values():
            assert task.test is not None
            reported = {item.id for row in get_task(task.name).load(task.test, None) for item in task.items(row)}
            assert not reported & {each.item.id for each in probes if each.task.name == task.name}


RECIPE = """
model: {path: demo, dtype: float32}
task: demo-maths
data: {path: demo-maths, n: 64}
train:
  adapter: {targets: all-linear}
  lr: 8.0e-3
  max_steps: 4
  batch_size: 16
  micro_batch_size: 16
  dtype: float32
  budget: {kl: 0.001, probes: 0.99, suite: demo, without: [demo-maths], items: 8, every: 1}
arms:
  seed: {data: none}
  vanilla: {data: original}
evaluate:
  tasks: [{task: demo-lists, n: 5}]
"""


def test_a_recipe_says_where_its_training_stopped(
    command: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE, encoding="utf-8")
    done = command("run", "recipe.yaml", "--dir", "out")
    assert done.code == 0, done.said
    verdict = json.loads(Path("out/verdict.json").read_text())
    budget = verdict["training"]["vanilla"]["budget"]
    assert "budget kl" in budget["stopped"]
    assert 0 < budget["kept"] < verdict["training"]["vanilla"]["steps"]
    assert f"vanilla stopped: {budget['stopped']}." in " ".join(verdict["notes"])
    assert f"stopped: {budget['stopped']}" in Path("out/report.html").read_text()
