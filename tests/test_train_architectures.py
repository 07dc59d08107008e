"""Training of tiny random models of many architectures: rows are laid end to end only if that changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny import tiny_model, tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from selfdistill.errors import RecipeError, StageError
from selfdistill.models import cpu
from selfdistill.models.cpu import KNOWN, fits, register_attention, response_loss
from selfdistill.models.loading import load_model, load_renderer
from selfdistill.models.renderer import TrainingRow
from selfdistill.recipe import ModelConfig, TrainConfig
from selfdistill.training import train
from selfdistill.types import Example, Message

ROWS = [Example.of((Message("user", f"Count to {i}"),), " ".join(map(str, range(i + 1)))) for i in range(8)]


def settings(**changes: Any) -> TrainConfig:
    quick = {"method": "full", "max_steps": 1, "micro_batch_size": 8, "dtype": "float32", "lr": 1e-2}
    return TrainConfig(**{**quick, **changes})


SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.3,
}  # fmt: skip
MIXTURES = {"mixtral", "olmoe", "qwen2_moe", "qwen3_moe"}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ODD: dict[str, dict[str, Any]] = {
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 2, "expansion_ratio": 2},
    "falcon": {**SIZES, "alibi": True},
    "opt": {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4, "time_step_rank": 4},
}


def architecture(kind: str, folder: Path, **sizes: Any) -> ModelConfig:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), pad_token_id=0, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelConfig(path=str(folder), device="cpu")


@pytest.mark.parametrize("kind", sorted(KNOWN))
def test_a_known_architecture_computes_the_same_without_padding(kind: str) -> None:
    sizes = SIZES | (EXPERTS if kind in MIXTURES else {})
    config = AutoConfig.for_model(kind, vocab_size=97, pad_token_id=0, **sizes)
    torch.manual_seed(0)
    weights: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    rows = [torch.randint(3, 97, (n,)) for n in (17, 5, 23, 9)]
    trained = sum(len(row) - 3 for row in rows)
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence([row[3:] for row in rows], batch_first=True, padding_value=-100)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    logits = weights(input_ids=padded, attention_mask=mask, use_cache=False).logits[:, 2:-1]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / trained
    wanted = torch.autograd.grad(expected, list(weights.parameters()), allow_unused=True)

    weights.set_attn_implementation(register_attention())
    positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
    starts = torch.tensor([0, *map(len, rows)]).cumsum(0)
    ids = torch.cat(rows)[None]
    batch = {"input_ids": ids, "position_ids": positions, "cu_seq_lens_q": starts, "cu_seq_lens_k": starts}
    loss = response_loss(weights, {**batch, "labels": ids.where(positions > 2, -100)}, trained, 97)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for found, want in zip(
        torch.autograd.grad(loss, list(weights.parameters()), allow_unused=True), wanted, strict=True
    ):
        if want is not None:
            torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)
    if not getattr(config, "sliding_window", None):
        assert fits(config)


@pytest.mark.parametrize("kind", ODD)
def test_another_architecture_is_padded_and_packing_refused(kind: str, tmp_path: Path) -> None:
    """Attention with a bias (ALiBi), positions counted from a mask, and no attention at all."""
    odd = architecture(kind, tmp_path / kind, **ODD[kind])
    result = train(ROWS, odd, settings(max_steps=1), tmp_path / "run")
    assert result.attention != cpu.TRAIN_ATTENTION
    weights: Any = load_model(odd, dtype=torch.float32).train()
    rows = [load_renderer(odd).response_row(row.prompt, row.reference) for row in ROWS]
    cost = sum(summed_loss(weights, row) for row in rows)
    assert result.loss == pytest.approx(cost / result.trained_tokens, rel=1e-5)
    for asked in ({"packing": True}, {"extra": {"padding_free": True}}):
        with pytest.raises(RecipeError, match=rf"{kind} model are padded.*train\.packing=false"):
            train(ROWS, odd, settings(**asked), tmp_path / "refused")


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512, "initializer_range": 0.3}),
        ("falcon", {**SIZES, "hidden_dropout": 0.1}),
        ("llama", {**SIZES, "attention_dropout": 0.1}),
    ],
)
def test_a_models_own_dropout_is_off_so_that_micro_batches_do_not_count(
    kind: str, sizes: dict[str, Any], tmp_path: Path
) -> None:
    seed = architecture(kind, tmp_path / "seed", **sizes)
    losses = [
        train(ROWS, seed, settings(max_steps=2, lr=1e-3, micro_batch_size=size), tmp_path / str(size)).loss
        for size in (8, 4)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    before, after = (AutoConfig.from_pretrained(tmp_path / folder) for folder in ("seed", "8/model"))
    rates = {name: value for name, value in before.to_dict().items() if "drop" in name}
    assert any(rates.values())
    assert {name: after.to_dict()[name] for name in rates} == rates


def test_the_router_loss_of_a_mixture_of_experts_is_a_setting(tmp_path: Path) -> None:
    """Off by default, whatever the model's configuration asks for: TRL would add it to the loss of the response."""
    asks = {"output_router_logits": True, "router_aux_loss_coef": 0.5}
    seed = architecture("mixtral", tmp_path / "seed", **SIZES, **EXPERTS, **asks)
    plain = train(ROWS, seed, settings(), tmp_path / "plain")
    weights: Any = load_model(seed, dtype=torch.float32)
    rows = [load_renderer(seed).response_row(row.prompt, row.reference) for row in ROWS]
    cost = sum(summed_loss(weights, row) for row in rows) / plain.trained_tokens
    assert plain.loss == pytest.approx(cost, rel=1e-5)
    assert AutoConfig.from_pretrained(tmp_path / "plain" / "model").output_router_logits
    routed = train(ROWS, seed, settings(router_loss=0.1), tmp_path / "routed")
    assert routed.loss - plain.loss == pytest.approx(0.1 * 2, rel=0.2)  # two layers, each about 1 if it is balanced
    assert "micro_batch_size" in settings(router_loss=0.1).deciding("train")
    dense = ModelConfig(path=str(tiny_model(tmp_path / "dense")), device="cpu")
    with pytest.raises(RecipeError, match="not a Mixture-of-Experts model"):
        train(ROWS, dense, settings(router_loss=0.1), tmp_path / "run")


def summed_loss(weights: Any, row: TrainingRow) -> float:
    """The summed loss of one sequence by itself."""
    ids = torch.tensor([row.input_ids])
    labels = ids.where(torch.tensor([row.trained]), -100)
    with torch.no_grad():
        logits = weights(input_ids=ids).logits[0, :-1]
    return float(torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum"))


def test_rows_laid_end_to_end_are_compared_with_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a library no longer passed on where rows begin."""
    whole = cpu.attend_within_rows

    def one_row(*arguments: Any, cu_seq_lens_q: Any = None, **rest: Any) -> Any:
        return whole(*arguments, **rest)

    monkeypatch.setattr(cpu, "attend_within_rows", one_row)
    with pytest.raises(StageError, match=r"packed rows would attend to each other.*train\.packing=false"):
        train(ROWS, ModelConfig(path=str(tiny_model(tmp_path / "m")), device="cpu"), settings(), tmp_path / "run")
