"""Training of a tiny random Llama: what it sees, what it leaves, and how it fails."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
from support.tiny import CHATML, tiny_model

from selfdistill.errors import DataError, ExperimentError, RecipeError, StageError
from selfdistill.models.loading import load_model, load_renderer
from selfdistill.recipe import ModelConfig, TrainConfig
from selfdistill.training import TRAINERS, TrainResult, sft, train
from selfdistill.types import Example, Message


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return ModelConfig(path=str(tiny_model(tmp_path_factory.mktemp("tiny") / "seed")), device="cpu")


def chat(*turns: str, system: str | None = None) -> Example:
    """The last turn is what is trained."""
    before = [Message("user" if i % 2 == 0 else "assistant", turn) for i, turn in enumerate(turns[:-1])]
    return Example.of((*([Message("system", system)] if system else []), *before), turns[-1])


ROWS = [chat(f"What follows {i}?", f"After {i} comes {i + 1}.") for i in range(8)]
QUICK: dict[str, Any] = {"lr": 1e-2, "max_steps": 3, "micro_batch_size": 8, "dtype": "float32"}


def settings(**changes: Any) -> TrainConfig:
    return TrainConfig(**{**QUICK, **changes})


def log_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "train.jsonl").read_text().splitlines()]


def losses(directory: Path) -> list[float]:
    return [row["loss"] for row in log_of(directory)]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every batch that reaches the model, in order."""
    from transformers import Trainer

    batches: list[dict[str, Any]] = []
    original = Trainer.training_step

    def spy(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        batches.append({name: value.tolist() for name, value in inputs.items() if hasattr(value, "tolist")})
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", spy)
    return batches


def rows_seen(batches: list[dict[str, Any]]) -> list[tuple[list[int], list[int]]]:
    """Ids and labels of each row; a batch has them one after another, each from position 0 on."""
    rows: list[tuple[list[int], list[int]]] = []
    for batch in batches:
        names = ("input_ids", "labels", "position_ids")
        for token, label, position in zip(*(batch[name][0] for name in names), strict=True):
            if position == 0:
                rows.append(([], []))
            rows[-1][0].append(token)
            rows[-1][1].append(label)
    return rows


# ---- what the model sees


def test_the_model_sees_the_renderers_tokens_and_loss_on_responses_only(model, tmp_path, seen):
    rows = [*ROWS[:6], chat("Hi", "Hello.", "And now?", "Nothing."), chat("A", "B", system="Be brief.")]
    train(rows, model, settings(max_steps=1), tmp_path)
    renderer = load_renderer(model)
    expected = [renderer.response_row(row.prompt, row.reference) for row in rows]
    labelled = [
        (row.input_ids, [i if trained else -100 for i, trained in zip(row.input_ids, row.trained, strict=True)])
        for row in expected
    ]
    assert sorted(rows_seen(seen)) == sorted(labelled)

    (second,) = (labels for ids, labels in rows_seen(seen) if "And now?" in renderer.tokenizer.decode(ids))
    assert renderer.tokenizer.decode([label for label in second if label != -100]) == "Nothing.<|im_end|>"


def test_arms_with_other_responses_see_the_rows_in_the_same_order(model, tmp_path, seen):
    others = [chat(row.instruction, "I would say: " + row.reference) for row in ROWS]
    tokenizer = load_renderer(model).tokenizer
    orders = []
    for name, rows in {"vanilla": ROWS, "sdft": others}.items():
        seen.clear()
        train(rows, model, settings(batch_size=4, micro_batch_size=2, max_steps=None, epochs=2), tmp_path / name)
        orders.append([tokenizer.decode(ids).split("?")[0] for ids, _ in rows_seen(seen)])
    assert orders[0] == orders[1]
    assert len(orders[0]) == 2 * len(ROWS)
    assert orders[0][: len(ROWS)] != orders[0][len(ROWS) :], "an epoch has an order of its own"


def test_unusable_rows_stop_the_run_and_are_listed(model, tmp_path):
    rows = [*ROWS, chat("Tell me " + "more " * 60, "x"), chat("Short?", "long " * 60)]
    with pytest.raises(StageError, match=r"2 training rows .*response 9 \(\d+ tokens: 'Tell me more") as caught:
        train(rows, model, settings(max_length=128), tmp_path)
    assert "response 10 (" in str(caught.value)
    assert "allow_unusable_rows" in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_allowed_unusable_rows_are_cut_or_dropped_and_counted(model, tmp_path, seen):
    rows = [
        *ROWS[:5],
        chat("Short?", "long " * 60),  # cut: part of its answer is within the limit
        chat("Tell me " + "more " * 60, "x"),  # dropped: nothing of its answer is
    ]
    result = train(rows, model, settings(max_length=128, allow_unusable_rows=True, max_steps=1), tmp_path)
    counts = (result.rows, result.sequences, result.too_long, result.untrained, result.cut, result.dropped)
    assert counts == (7, 6, 2, 0, 1, 1)
    assert max(len(ids) for ids, _ in rows_seen(seen)) == 128
    assert result.tokens == sum(len(ids) for ids, _ in rows_seen(seen))
    assert result.trained_tokens == sum(label != -100 for _, labels in rows_seen(seen) for label in labels)


def test_the_models_context_is_a_limit_too(tmp_path):
    small = ModelConfig(path=str(tiny_model(tmp_path / "m", context=64)), device="cpu")
    with pytest.raises(StageError, match="limit of 64 tokens"):
        train([chat("Tell me " + "more " * 20, "x")], small, settings(), tmp_path / "run")


# ---- what it leaves


def test_an_adapter_loads_with_peft_and_the_merged_model_answers_alike(model, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    result = train(ROWS, model, settings(merge=True), tmp_path)
    folder = tmp_path / "model"
    assert (folder / "adapter_model.safetensors").is_file()
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pth")]
    assert not (tmp_path / "checkpoints").exists()

    ids = torch.tensor([load_renderer(model).ids(ROWS[0].prompt)])
    seed: Any = load_model(model, dtype=torch.float32)
    before = seed(ids).logits
    adapted = PeftModel.from_pretrained(seed, folder)(ids).logits
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(merged(ids).logits, adapted, rtol=1e-4, atol=1e-4)
    assert (adapted - before).abs().max() > 0.01
    assert merged.config.use_cache
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template
    assert result.trained_parameters == 2 * 2 * (8 * 32 + 32 * 8)  # 2 layers, q and v, r 8 between 32 and 32


def test_full_training_changes_every_weight_and_keeps_the_configuration(model, tmp_path):
    from safetensors.torch import load_file

    train(ROWS, model, settings(method="full", lr=1e-3), tmp_path)
    before = load_file(Path(model.path) / "model.safetensors")
    after = load_file(tmp_path / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    assert [name for name in before if before[name].equal(after[name])] == []
    trained = ModelConfig(path=str(tmp_path / "model"), device="cpu")
    assert load_renderer(trained).ids(ROWS[0].prompt) == load_renderer(model).ids(ROWS[0].prompt)
    for name in ("config.json", "generation_config.json"):
        old, new = (json.loads((Path(folder) / name).read_text()) for folder in (model.path, trained.path))
        for key in ("eos_token_id", "pad_token_id", "use_cache"):
            assert old.get(key) == new.get(key)


@pytest.mark.parametrize("changes", [{"method": "full"}, {"merge": True}], ids=str)
def test_generation_settings_that_transformers_refuses_to_save_are_kept(tmp_path, changes):
    folder = tiny_model(tmp_path / "seed")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "temperature": 0.5, "do_sample": False}))
    train(ROWS, ModelConfig(path=str(folder), device="cpu"), settings(max_steps=1, **changes), tmp_path / "arm")
    saved = tmp_path / "arm" / ("merged" if "merge" in changes else "model") / "generation_config.json"
    assert saved.read_bytes() == path.read_bytes()


def test_a_model_without_generation_settings_is_trained_without(tmp_path):
    folder = tiny_model(tmp_path / "seed")
    (folder / "generation_config.json").unlink()
    train(ROWS, ModelConfig(path=str(folder), device="cpu"), settings(max_steps=1, method="full"), tmp_path / "arm")
    assert not (tmp_path / "arm" / "model" / "generation_config.json").exists()
    trained = ModelConfig(path=str(tmp_path / "arm" / "model"), device="cpu")
    assert load_renderer(trained).stop_ids == load_renderer(ModelConfig(path=str(folder), device="cpu")).stop_ids


def test_a_training_under_another_date_is_another_training(tmp_path):
    dated = tiny_model(tmp_path / "dated", chat_template="{{ strftime_now('%d %b %Y') }}" + CHATML)
    for folder, raises in ((dated, True), (tiny_model(tmp_path / "plain"), False)):
        arm = tmp_path / f"arm-{folder.name}"
        first, later = (ModelConfig(path=str(folder), device="cpu", date=f"2026-01-0{day}") for day in (1, 2))
        result = train(ROWS, first, settings(max_steps=1), arm)
        if raises:
            with pytest.raises(ExperimentError):
                train(ROWS, later, settings(max_steps=1), arm)
        else:
            assert train(ROWS, later, settings(max_steps=1), arm) == result


def test_all_linear_trains_every_projection(model, tmp_path):
    from safetensors.torch import load_file

    train(ROWS, model, settings(max_steps=1, adapter={"r": 2, "targets": "all-linear"}), tmp_path)
    names = load_file(tmp_path / "model" / "adapter_model.safetensors")
    modules = {name.split(".lora_")[0].rpartition(".")[2] for name in names}
    assert modules == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_the_log_the_result_and_the_progress_tell_the_same(model, tmp_path):
    told: list[tuple[int, int, float | None]] = []
    changes = settings(schedule="linear", warmup=0.5, max_steps=4, batch_size=4, micro_batch_size=4)
    result = train(ROWS, model, changes, tmp_path, lambda *row: told.append(row))
    rows = log_of(tmp_path)
    assert [(0, 4, None), *((row["step"], 4, row["loss"]) for row in rows)] == told
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["epoch"] for row in rows] == [0.5, 1.0, 1.5, 2.0]
    assert [row["lr"] for row in rows] == pytest.approx([0.0, 0.005, 0.01, 0.005])
    assert all(row["tokens_per_second"] > 0 and row["peak_memory_gib"] > 0 and row["grad_norm"] > 0 for row in rows)
    assert result.loss == pytest.approx((rows[2]["loss"] + rows[3]["loss"]) / 2, abs=1e-5)
    assert (result.steps, result.epochs, result.device, result.dtype) == (4, 2.0, "cpu", "float32")
    assert TrainResult.from_json(json.loads((tmp_path / "train.json").read_text())) == result


def test_nothing_is_printed(model, tmp_path, capfd):
    train(ROWS, model, settings(max_steps=2, save_every=1, merge=True), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_training_teaches_the_responses(model, tmp_path):
    train(ROWS, model, settings(method="full", max_steps=40), tmp_path)
    assert losses(tmp_path)[0] > 3
    assert losses(tmp_path)[-1] < 0.5


# ---- the same weights, however they are reached


def test_two_trainings_are_equal_and_another_seed_is_not(model, tmp_path):
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        train(ROWS, model, settings(batch_size=4, micro_batch_size=4, dtype="auto", seed=seed), tmp_path / name)
    weights = [(tmp_path / name / "model" / "adapter_model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]
    assert (tmp_path / "other" / "model" / "adapter_model.safetensors").read_bytes() != weights[0]


@pytest.mark.parametrize("changes", [{"micro_batch_size": 2}, {"gradient_checkpointing": True}])
def test_how_a_step_is_computed_does_not_change_it(model, tmp_path, changes):
    """Rows differ in length, so a mean of micro-batch means would not be the mean over the step's tokens."""
    rows = [chat(f"Count to {i}", " ".join(map(str, range(i + 1)))) for i in range(0, 32, 4)]
    train(rows, model, settings(), tmp_path / "one")
    train(rows, model, settings(**changes), tmp_path / "other")
    assert losses(tmp_path / "other") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def test_activations_are_recomputed_only_where_memory_is_full(model, tmp_path, monkeypatch):
    import torch

    plain = train(ROWS, model, settings(save_every=1), tmp_path / "plain")
    assert not plain.gradient_checkpointing
    seen, loss = [], sft.response_loss

    def full_at_the_third_step(weights: Any, *rest: Any) -> Any:
        recomputes = any(getattr(module, "gradient_checkpointing", False) for module in weights.modules())
        seen.append(recomputes)
        if not recomputes and len(seen) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(weights, *rest)

    monkeypatch.setattr(sft, "response_loss", full_at_the_third_step)
    result = train(ROWS, model, settings(save_every=1), tmp_path / "full")
    assert (result.gradient_checkpointing, result.resumed_from) == (True, 2)
    assert seen[2:4] == [False, True]
    assert losses(tmp_path / "full") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)
    seen.clear()
    with pytest.raises(StageError, match=r"memory is full.*gradient_checkpointing"):
        train(ROWS, model, settings(gradient_checkpointing=False), tmp_path / "kept")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_operations_are_those_that_torch_counts(tmp_path, method):
    """Forward and backward of one sequence, counted by torch, which counts what a causal mask hides too. It needs no
    gradient below the first adapter, which with several layers is little."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from selfdistill.training.flops import token_flops
    from selfdistill.training.weights import lora_config

    model = ModelConfig(path=str(tiny_model(tmp_path / "deep", layers=8)), device="cpu")
    weights: Any = load_model(model, dtype=torch.float32, attn_implementation="eager")
    if method == "lora":
        from peft import get_peft_model

        weights = get_peft_model(weights, lora_config(TrainConfig().adapter, weights))
    ids = torch.randint(10, 200, (1, 96))
    with FlopCounterMode(display=False) as counter:
        weights(ids, labels=ids).loss.backward()
    assert token_flops(weights, [96]) * 96 == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_packing_keeps_the_rows_of_a_step_and_the_loss(model, tmp_path, seen):
    """So arms whose responses differ in length take as many steps. TRL would fill packs up to `max_length`."""
    steps = []
    for name, length in (("short", 1), ("long", 30)):
        rows = [chat(f"Say {i}", f"{i} " * (length + i)) for i in range(12)]
        how = {"batch_size": 4, "micro_batch_size": 2, "max_steps": None, "epochs": 2}
        train(rows, model, settings(**how), tmp_path / name)
        seen.clear()
        steps.append(train(rows, model, settings(packing=True, **how), tmp_path / f"{name} packed").steps)
        assert {sum(position == 0 for position in batch["position_ids"][0]) for batch in seen} == {2}
        assert losses(tmp_path / f"{name} packed") == pytest.approx(losses(tmp_path / name), rel=1e-5)
    assert steps == [6, 6]


def test_a_packed_row_sees_nothing_of_another_forwards_or_backwards(model):
    import torch

    from selfdistill.models.cpu import register_attention, response_loss

    weights: Any = load_model(model, dtype=torch.float32, attn_implementation=register_attention())

    def pack(*rows: list[int]) -> dict[str, Any]:
        ids = torch.tensor([[token for row in rows for token in row]])
        starts = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
        positions = torch.tensor([[i for row in rows for i in range(len(row))]])
        return {"input_ids": ids, "position_ids": positions, "cu_seq_lens_q": starts, "cu_seq_lens_k": starts}

    def gradients(batch: dict[str, Any], labelled: slice) -> list[Any]:
        """Of the loss on some of the tokens alone."""
        labels = torch.full_like(batch["input_ids"], -100)
        labels[0, labelled] = batch["input_ids"][0, labelled]
        loss = response_loss(weights, {**batch, "labels": labels}, 1, 1)
        return list(torch.autograd.grad(loss, list(weights.parameters())))

    earlier, later, other = list(range(10, 22)), list(range(40, 58)), list(range(90, 102))
    alone = weights(**pack(later)).logits[0]
    torch.testing.assert_close(weights(**pack(earlier, later)).logits[0, 12:], alone)
    assert weights(**pack(earlier, later)).logits[0, 12:].equal(weights(**pack(other, later)).logits[0, 12:])
    expected = gradients(pack(later), slice(1, None))
    for first in (earlier, other):
        for found, wanted in zip(gradients(pack(first, later), slice(13, None)), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    one_row = {"input_ids": pack(earlier, later)["input_ids"]}
    assert not torch.allclose(weights(**one_row).logits[0, 12:], alone, atol=0.1), "as one row they do see each other"


def test_rows_one_after_another_train_as_padded_ones(model, tmp_path, monkeypatch):
    rows = [chat(f"Count to {i}", " ".join(map(str, range(i + 1)))) for i in range(0, 32, 4)]
    train(rows, model, settings(), tmp_path / "unpadded")
    monkeypatch.setattr(sft, "unpadded_on_cpu", lambda settings, config: False)
    padded = train(rows, model, settings(), tmp_path / "padded")
    assert padded.attention == "sdpa"
    assert losses(tmp_path / "unpadded") == pytest.approx(losses(tmp_path / "padded"), rel=1e-5)
    counts = [row["tokens_per_second"] > 0 for name in ("padded", "unpadded") for row in log_of(tmp_path / name)]
    assert all(counts)


def test_settings_that_contradict_packing_are_refused(model, tmp_path):
    with pytest.raises(RecipeError, match=r"extra\.packing_strategy is set by"):
        train(ROWS, model, settings(packing=True, extra={"packing_strategy": "wrapped"}), tmp_path)
    with pytest.raises(ValueError, match="padding_free=false pads them"):
        settings(packing=True, extra={"padding_free": False})


def test_a_trainer_is_one_object_in_the_table(model, tmp_path, monkeypatch):
    class FirstRow(sft.SFT):
        def prepare(self, examples, *rest):
            return super().prepare(list(examples)[:1], *rest)

    monkeypatch.setitem(TRAINERS, "first row", FirstRow())
    assert train(ROWS, model, settings(max_steps=1), tmp_path, trainer="first row").sequences == 1


# ---- resume after an interruption


def interrupt(rows: list[Example], model: ModelConfig, how: TrainConfig, directory: Path, at: int) -> None:
    """Trains until step `at` is done, then dies as by Ctrl-C."""

    def stop(step: int, total: int, loss: float) -> None:
        if step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(rows, model, how, directory, stop)


LONG = settings(batch_size=4, micro_batch_size=4, max_steps=7, save_every=2)


def test_an_interrupted_training_goes_on_to_the_same_weights(model, tmp_path):
    train(ROWS, model, LONG, tmp_path / "whole")
    interrupt(ROWS, model, LONG, tmp_path / "cut", at=5)
    result = train(ROWS, model, LONG, tmp_path / "cut")
    assert result.resumed_from == 4
    assert [row["step"] for row in log_of(tmp_path / "cut")] == list(range(1, 8))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    whole, cut = (tmp_path / name / "model" / "adapter_model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


@pytest.mark.parametrize("tear", ["truncated", "unmarked", "emptied"])
def test_a_torn_checkpoint_is_passed_over(model, tmp_path, tear):
    interrupt(ROWS, model, LONG, tmp_path, at=5)
    last = tmp_path / "checkpoints" / "checkpoint-4"
    if tear == "truncated":
        optimizer = last / "optimizer.pt"
        optimizer.write_bytes(optimizer.read_bytes()[:-10])
    elif tear == "unmarked":
        (last / "whole.json").unlink()
    else:
        for path in last.iterdir():
            path.unlink()
    result = train(ROWS, model, LONG, tmp_path)
    assert (result.resumed_from, result.steps) == (2, 7)
    assert [row["step"] for row in log_of(tmp_path)] == list(range(1, 8))


def test_two_checkpoints_are_kept(model, tmp_path):
    interrupt(ROWS, model, LONG, tmp_path, at=7)
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("*-*")) == ["checkpoint-4", "checkpoint-6"]


def test_full_training_goes_on_too_and_with_another_micro_batch(model, tmp_path):
    how = LONG.model_copy(update={"method": "full"})
    train(ROWS, model, how, tmp_path / "whole")
    interrupt(ROWS, model, how, tmp_path / "cut", at=5)
    result = train(ROWS, model, how.model_copy(update={"micro_batch_size": 2}), tmp_path / "cut")
    assert result.resumed_from == 4
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-3)


def test_checkpoints_of_other_data_or_settings_are_refused(model, tmp_path):
    interrupt(ROWS, model, LONG, tmp_path, at=3)
    with pytest.raises(ExperimentError, match="stopped at step 2"):
        train(ROWS, model, LONG.model_copy(update={"lr": 1e-3}), tmp_path)
    with pytest.raises(ExperimentError, match="other data"):
        train(ROWS[::-1], model, LONG, tmp_path)
    assert train(ROWS, model, LONG, tmp_path).resumed_from == 2


def test_a_finished_training_is_not_done_again(model, tmp_path, seen):
    result = train(ROWS, model, settings(), tmp_path)
    seen.clear()
    assert train(iter(ROWS), model, settings(), tmp_path) == result
    assert seen == []
    with pytest.raises(ExperimentError, match="finished training with other data"):
        train(ROWS, model.model_copy(update={"trust_remote_code": True}), settings(), tmp_path)
    with pytest.raises(ExperimentError, match="finished training with other data"):
        train(ROWS[1:], model, settings(), tmp_path)


# ---- how it fails


def test_training_on_no_rows_is_refused(model, tmp_path):
    with pytest.raises(DataError, match="no rows"):
        train([], model, settings(), tmp_path)
    with pytest.raises(StageError, match="None of the 1 rows"):
        train([chat("long " * 99, "x")], model, settings(allow_unusable_rows=True, max_length=64), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter": {"targets": ["q_prj"]}}, r"'q_prj' \(did you mean q_proj\?\); it has .*down_proj.*all-linear"),
        ({"adapter": {"targets": ["lm_head"]}}, "no linear module 'lm_head'"),
        ({"extra": {"max_grad_nrm": 1}}, "max_grad_nrm.*did you mean max_grad_norm"),
        ({"extra": {"learning_rate": 1}}, "learning_rate is set by train's own settings"),
        ({"extra": {"lr_scheduler_type": "zigzag"}}, "TRL refuses these settings .*zigzag"),
    ],
)
def test_settings_that_do_not_fit_are_refused(model, tmp_path, changes, message):
    with pytest.raises(RecipeError, match=message):
        train(ROWS, model, settings(**changes), tmp_path)


def test_extra_reaches_the_trainer_and_is_recorded(model, tmp_path):
    result = train(ROWS, model, settings(max_steps=4, extra={"logging_steps": 2}), tmp_path)
    assert [row["step"] for row in log_of(tmp_path)] == [2, 4]
    assert result.settings["extra"] == {"logging_steps": 2}


def test_qlora_says_what_it_needs(model, tmp_path):
    with pytest.raises(StageError, match="NVIDIA GPU and bitsandbytes"):
        train(ROWS, model, settings(method="qlora"), tmp_path)


def test_a_diverging_loss_stops_the_run(model, tmp_path):
    with pytest.raises(StageError, match=r"lower train\.lr"):
        train(ROWS, model, settings(method="full", lr=1e30, max_steps=20, save_every=1), tmp_path)
    assert all(loss == loss for loss in losses(tmp_path))


def test_out_of_memory_tells_what_to_lower(model, tmp_path):
    import torch

    def full(step: int, total: int, loss: float) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(StageError, match="micro_batch_size"):
        train(ROWS, model, settings(), tmp_path, full)


def test_a_directory_that_can_not_be_written_is_named(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match="can't be read or written"):
        train(ROWS, model, settings(), tmp_path / "file" / "run")


@pytest.mark.parametrize("limit", [500, 9_000, 15_000])
def test_a_full_disk_is_one_sentence(model, tmp_path, limit):
    """No file may grow over some size: first the tokenizer, then the weights, then the optimizer don't fit. With room
    again it goes on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(ExperimentError, match="free space"):
            train(ROWS, model, LONG, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert train(ROWS, model, LONG, tmp_path).steps == 7
