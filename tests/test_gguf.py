"""GGUF files: converted once to a model folder, which everything loads; and what is said about those that can't be."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done
from support.rows import sum_rows, write_rows
from support.tiny import tiny_model
from support.tiny_gguf import tiny_gguf

from selfdistill import make_recipe, run
from selfdistill.backends.hf import HFBackend
from selfdistill.errors import ModelError
from selfdistill.models import gguf
from selfdistill.models.loading import load_model, load_renderer
from selfdistill.models.source import model_source
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.store.identity import model_identity
from selfdistill.types import Message, Prompt

pytest.importorskip("gguf")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of converted files, which does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "selfdistill" / "gguf"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tiny_gguf(tmp_path / "models" / "tiny.Q8_0.gguf")


def config(path: Path) -> ModelConfig:
    return ModelConfig(path=str(path), dtype="float32", device="cpu")


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir()) if cache.is_dir() else []


def test_the_weights_are_those_of_the_file(file: Path) -> None:
    from gguf import GGUFReader, dequantize

    (packed,) = [tensor for tensor in GGUFReader(file).tensors if tensor.name == "blk.1.ffn_down.weight"]
    loaded: Any = load_model(config(file)).state_dict()["model.layers.1.mlp.down_proj.weight"]
    assert abs(loaded.numpy() - dequantize(packed.data, packed.tensor_type)).max() < 0.01
    assert gguf.weights_note(str(file)) == "8-bit weights (Q8_0) of tiny.Q8_0.gguf, dequantised to bfloat16"


def test_weights_that_are_not_packed_keep_their_dtype(tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "full.gguf", packed=False)
    assert str(load_model(config(file)).dtype) == "torch.float32"
    assert gguf.weights_note(str(file)) == "weights (F32) of full.gguf, converted to float32"


def test_a_file_is_converted_once_and_known_by_its_content(file: Path, cache: Path, tmp_path: Path) -> None:
    before = model_identity(config(file))
    assert folders(cache) == []
    first = model_source(config(file))
    copy = shutil.copy(file, tmp_path / "models" / "other.gguf")
    assert model_source(config(Path(copy))) == first
    assert folders(cache) == [Path(first).name]
    tiny_gguf(file, seed=1)
    assert model_identity(config(file)) != before
    assert model_source(config(file)) != first


def test_a_folder_with_one_file_loads_and_one_with_several_asks_for_a_name(file: Path) -> None:
    assert model_source(config(file.parent)) == model_source(config(file))
    tiny_gguf(file.with_name("mmproj-tiny.gguf"))  # the projector of a vision model
    assert model_source(config(file.parent)) == model_source(config(file))
    tiny_gguf(file.with_name("tiny.Q4_0.gguf"))
    with pytest.raises(ModelError, match=r"holds several GGUF files .* name one, as in model\.path="):
        model_source(config(file.parent))


def test_a_folder_with_safetensors_is_an_ordinary_model(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    tiny_gguf(folder / "tiny.gguf")
    assert model_source(config(folder)) == str(folder)


def test_a_folder_without_generation_config_answers(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    prompts = [Prompt("1", (Message("user", "hi"),))]

    def answer() -> list[str]:
        with HFBackend(config(folder)) as backend:
            return [completion.text for completion in backend.generate(prompts, Sampling(max_new_tokens=4))]

    before = answer()
    (folder / "generation_config.json").unlink()
    assert answer() == before


def test_a_folder_called_demo_is_not_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()
    tiny_gguf(tmp_path / "demo" / "tiny.gguf")
    before = model_identity(ModelConfig(path="demo"))
    monkeypatch.chdir(tmp_path)
    assert model_identity(ModelConfig(path="demo")) == before
    assert model_source(ModelConfig(path="./demo")).startswith(str(tmp_path / "cache"))


def test_without_a_chat_template_the_file_is_named_with_the_next_step(tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "base.gguf", chat_template=None)
    with pytest.raises(ModelError, match=r"base\.gguf has no chat template.*set model\.chat_template"):
        load_renderer(config(file))
    alpaca = config(file).model_copy(update={"chat_template": "alpaca"})
    assert load_renderer(alpaca).ids((Message("user", "hi"),))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "is not a whole GGUF file .* download it again"),
        (lambda data: data[:2000], "is not a whole GGUF file"),
        (lambda data: b"", "is not a whole GGUF file"),
        (lambda data: b"PK" * 3000, "is not a whole GGUF file"),
    ],
)
def test_a_damaged_file_is_one_sentence_and_leaves_nothing(
    file: Path, cache: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelError, match=message):
        model_source(config(file))
    assert folders(cache) == []


def test_an_unknown_architecture_is_one_sentence_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    file = tiny_gguf(tmp_path / "new.gguf", architecture="tomorrow")
    with pytest.raises(ModelError, match=r"architecture tomorrow is not supported yet\); use the model's original"):
        model_source(config(file))
    assert folders(cache) == []


def test_a_part_of_a_model_and_a_missing_file_are_named(file: Path) -> None:
    part = file.rename(file.with_name("big-00001-of-00003.gguf"))
    with pytest.raises(ModelError, match=r"is one of 3 parts; join them with `llama-gguf-split --merge`"):
        model_source(config(part))
    with pytest.raises(ModelError, match=r"There is no file .*tiny\.Q8_0\.gguf; check model\.path"):
        model_source(config(file))


def test_without_the_package_the_extra_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'selfdistill\[gguf\]'"):
        model_source(config(file))


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(file.parent)._replace(free=1 << 20)
    monkeypatch.setattr(gguf.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match=r"GiB left; free some, or set XDG_CACHE_HOME"):
        model_source(config(file))
    assert folders(cache) == []


def test_a_cache_that_can_not_be_written_is_one_sentence(file: Path, cache: Path) -> None:
    cache.parent.parent.write_text("a file where a folder is wanted")
    with pytest.raises(ModelError, match=r"can't be converted: .* Set XDG_CACHE_HOME"):
        model_source(config(file))


def test_an_interruption_leaves_nothing_and_the_next_use_converts(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = gguf._convert

    def interrupted(*arguments: Any) -> None:
        convert(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gguf, "_convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model_source(config(file))
    assert folders(cache) == []
    (cache / f"{gguf.file_digests([file])[0]}.partial").mkdir()  # left by a process that was killed
    folder = model_source(config(file))
    assert folders(cache) == [Path(folder).name]


def test_check_names_what_is_missing(
    file: Path, tmp_path: Path, command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "rows.jsonl", sum_rows(8))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"model": str(file), "data": {"path": str(tmp_path / "rows.jsonl")}}))
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    done = command("check", recipe)
    assert done.code == 2
    assert "pip install 'selfdistill[gguf]'" in done.said


def test_a_run_trains_and_evaluates_a_gguf_and_says_so(file: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", sum_rows(12))
    recipe = {
        "model": {"path": str(file), "device": "cpu"},
        "data": {"path": str(tmp_path / "rows.jsonl"), "heldout": 4},
        "rewrite": {"sampling": {"max_new_tokens": 4}, "min_accepted": 0},
        "train": {"max_steps": 1, "batch_size": 4, "micro_batch_size": 4, "max_length": 256},
        "arms": {"seed": {"data": "none"}, "vanilla": {"data": "original"},
                 "half": {"data": "interpolate", "of": "vanilla", "alpha": 0.5}},
        "evaluate": {"sampling": {"max_new_tokens": 4}, "tasks": ["heldout"]},
        "shift": {"kl_prompts": 2},
    }  # fmt: skip
    verdict = run(make_recipe(recipe), tmp_path / "run")
    note = "8-bit weights (Q8_0) of tiny.Q8_0.gguf, dequantised to bfloat16"
    assert f"The seed model's weights: {note}." in verdict["notes"]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["weights"] == note
    assert note in (tmp_path / "run" / "report.html").read_text()
    assert set(verdict["arms"]) == {"seed", "vanilla", "half"}


@pytest.mark.skipif("SELFDISTILL_GGUF" not in os.environ, reason="SELFDISTILL_GGUF names no GGUF file of a chat model")
def test_a_real_model_answers() -> None:
    real = config(Path(os.environ["SELFDISTILL_GGUF"]))
    with HFBackend(real) as backend:
        prompts = [Prompt("1", (Message("user", "What is the capital of France?"),))]
        (answer,) = backend.generate(prompts, Sampling(max_new_tokens=16))
    assert "Paris" in answer.text
