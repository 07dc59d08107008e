"""What a model folder must hold, and what is said where it doesn't."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny import tiny_model

from selfdistill.errors import ModelError
from selfdistill.models.loading import load_context_length, load_model, load_renderer, weights_problem
from selfdistill.recipe import ModelConfig
from selfdistill.training.footprint import weight_shapes
from selfdistill.types import Message


def config(path: Path) -> ModelConfig:
    return ModelConfig(path=str(path), dtype="float32", device="cpu")


def test_a_model_folder_loads(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", context=256)
    assert load_context_length(config(folder)) == 256
    assert load_model(config(folder)).config.vocab_size > 256
    assert load_renderer(config(folder)).ids((Message("user", "hi"),))


def test_stop_ids_are_the_generation_configs_too(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    settings = (folder / "generation_config.json").read_text()
    (folder / "generation_config.json").write_text(settings.replace('"eos_token_id": 4', '"eos_token_id": [2, 4]'))
    assert load_renderer(config(folder)).stop_ids == {2, 4}


@pytest.mark.parametrize("kind", ["TokenizersBackend", "PreTrainedTokenizerFast"])
def test_the_tokenizer_is_the_one_that_transformers_finds(tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer

    folder = tiny_model(tmp_path / "m")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": kind}))
    ours, found = load_renderer(config(folder)).tokenizer, AutoTokenizer.from_pretrained(folder)
    assert type(ours) is type(found)
    assert ours.get_vocab() == found.get_vocab()
    assert (ours.chat_template, ours.special_tokens_map) == (found.chat_template, found.special_tokens_map)


def test_what_a_models_files_say_is_read_without_torch() -> None:
    """Its import takes longer than all else that `check` does."""
    program = (
        "import sys; from selfdistill import check, load_recipe; from selfdistill.demo import RECIPE; "
        "assert check(load_recipe(RECIPE, ['model.device=cpu'])).prompts; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_architecture_is_one_sentence(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    path = folder / "config.json"
    for name in ("of-tomorrow", "..", None):
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": name}))
        with pytest.raises(ModelError, match=r"configuration of .* can't be loaded"):
            load_context_length(config(folder))


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model folder"):
        load_renderer(config(tmp_path / "none"))
    folder = tiny_model(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "model.bin")
    with pytest.raises(ModelError, match=r"no safetensors weights \(only pickled ones"):
        load_model(config(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_model(config(folder))


@pytest.mark.parametrize("content", ["{", "", "[]", '{"model_type": "no-such-model"}', "\x00\xff"])
def test_a_corrupted_config_is_one_sentence(tmp_path: Path, content: str) -> None:
    folder = tiny_model(tmp_path / "m")
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(config(folder))
    with pytest.raises(ModelError, match="can't be loaded"):
        load_context_length(config(folder))


@pytest.mark.parametrize("left", [-1, 1000, 3, 0])
def test_truncated_weights_are_one_sentence(tmp_path: Path, left: int) -> None:
    folder = tiny_model(tmp_path / "m")
    weights = folder / "model.safetensors"
    assert weights_problem(config(folder)) is None
    weights.write_bytes(weights.read_bytes()[:left])
    with pytest.raises(ModelError, match=r"weights of .*m can't be loaded \(model\.safetensors is not whole\); down"):
        load_model(config(folder))


def test_a_download_that_lacks_files_is_one_sentence(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    load_model(config(folder)).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert weights_problem(config(folder)) is None
    first, *others = sorted(folder.glob("model-*.safetensors"))
    first.unlink()
    assert f"({first.name} is missing); download them again" in str(weights_problem(config(folder)))
    others[0].unlink()
    assert f"(2 of {len(others) + 1} files are missing)" in str(weights_problem(config(folder)))
    (folder / "model.safetensors.index.json").write_text("{")
    assert "index.json is damaged" in str(weights_problem(config(folder)))


def test_only_the_files_that_loading_reads_are_the_weights(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    folder = tiny_model(tmp_path / "m")
    shapes = weight_shapes(config(folder))
    assert shapes
    # Some models on the hub have the same weights again under other names.
    save_file({"tok_embeddings.weight": torch.zeros(8, 8)}, folder / "consolidated.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    assert weights_problem(config(folder)) is None
    assert weight_shapes(config(folder)) == shapes
    load_model(config(folder))


@pytest.mark.parametrize(
    ("content", "reason"),
    [('{"eos_token_id": 4', "Expecting"), ("[]", "no mapping"), ('{"eos_token_id": "x"}', "is 'x'"), ("\xff", "utf-8")],
)
def test_a_damaged_generation_config_is_not_ignored(tmp_path: Path, content: str, reason: str) -> None:
    folder = tiny_model(tmp_path / "m")
    (folder / "generation_config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(
        ModelError, match=rf"generation_config.json of .*m is damaged \(.*{reason}.*\); copy or download"
    ):
        load_renderer(config(folder))


def test_a_corrupted_tokenizer_is_one_sentence(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"The tokenizer of .* can't be loaded"):
        load_renderer(config(folder))


def test_a_missing_adapter_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no adapter_config\.json"):
        load_model(config(tiny_model(tmp_path / "m")), adapter=str(tmp_path / "none"))


@pytest.mark.parametrize("layers", [1, 4])
def test_an_adapter_for_another_model_is_one_sentence(tmp_path: Path, layers: int) -> None:
    from peft import LoraConfig, get_peft_model

    base = load_model(config(tiny_model(tmp_path / "two")))
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    load_model(config(tmp_path / "two"), adapter=str(tmp_path / "adapter"))
    other = tiny_model(tmp_path / "other", layers=layers)
    with pytest.raises(ModelError, match="made for another model"):
        load_model(config(other), adapter=str(tmp_path / "adapter"))


def test_weights_of_another_shape_are_one_sentence(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    settings = (folder / "config.json").read_text()
    (folder / "config.json").write_text(settings.replace('"intermediate_size": 64', '"intermediate_size": 96'))
    with pytest.raises(ModelError, match=r"The weights of .* can't be loaded"):
        load_model(config(folder))


def test_a_device_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    with pytest.raises(ModelError, match=r"check model\.device"):
        load_model(ModelConfig(path=str(folder), device="nowhere"))


def test_a_base_model_is_refused(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", chat_template=None)
    with pytest.raises(ModelError, match="base model"):
        load_renderer(config(folder))
    alpaca = config(folder).model_copy(update={"chat_template": "alpaca"})
    assert load_renderer(alpaca).text((Message("user", "hi"),)).endswith("### Response:\n")
