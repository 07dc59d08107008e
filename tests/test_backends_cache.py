"""One engine serves all backends that need the same, and no engine outlives its cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfdistill.backends import BACKENDS, Backend, backend_class, backends_that, open_backend
from selfdistill.backends.cache import EngineCache
from selfdistill.errors import RecipeError
from selfdistill.recipe import ModelConfig

DEMO = ModelConfig(path="demo", dtype="float32", device="cpu")


class FakeEngine:
    """Stands for a vLLM engine."""

    up: list[FakeEngine]

    def __init__(self, needs: Any) -> None:
        self.needs, self.broken = needs, False
        self.up.append(self)

    def adapter(self, folder: str) -> str:
        if "refused" in folder:
            raise RuntimeError(folder)
        return folder

    def stop(self) -> None:
        self.up.remove(self)


@pytest.fixture
def up(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    """The engines that are up."""
    engines: list[FakeEngine] = []
    monkeypatch.setattr(FakeEngine, "up", engines, raising=False)
    monkeypatch.setattr("selfdistill.backends.vllm.Engine", FakeEngine)
    return engines


def adapter(folder: Path, rank: int, targets: Any) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "target_modules": targets}))
    return str(folder)


def test_a_backend_that_was_not_entered_can_be_closed(up: list[FakeEngine]) -> None:
    open_backend("vllm", DEMO).close()
    with EngineCache() as cache:
        with open_backend("vllm", DEMO, cache=cache):
            open_backend("vllm", DEMO, cache=cache).close()
        assert len(up) == 1


def test_one_engine_has_room_for_the_adapters_of_all_runs(up: list[FakeEngine], tmp_path: Path) -> None:
    small, large = adapter(tmp_path / "a", 4, ["q_proj"]), adapter(tmp_path / "b", 12, ["v_proj"])
    other = DEMO.model_copy(update={"dtype": "float16"})
    with EngineCache([(DEMO, None), (DEMO, small), (DEMO, large)]) as cache:
        seen = []
        for folder in (None, small, large, None):
            with open_backend("vllm", DEMO, folder, cache):
                seen += up
            assert len(up) == 1
        assert len(set(map(id, seen))) == 1
        assert (seen[0].needs.rank, seen[0].needs.targets) == (12, {"q_proj", "v_proj"})
        with open_backend("vllm", other, None, cache):
            assert [engine.needs.dtype for engine in up] == ["float16"]
    assert up == []


def test_a_broken_engine_is_replaced(up: list[FakeEngine]) -> None:
    with EngineCache([(DEMO, None)]) as cache:
        with open_backend("vllm", DEMO, None, cache):
            first = up[0]
            first.broken = True
        with open_backend("vllm", DEMO, None, cache):
            assert first not in up
            assert len(up) == 1


def test_without_a_cache_the_engine_ends_with_its_backend(up: list[FakeEngine], tmp_path: Path) -> None:
    with open_backend("vllm", DEMO):
        assert len(up) == 1
    assert up == []
    with pytest.raises(RuntimeError), open_backend("vllm", DEMO, adapter(tmp_path / "refused", 4, "all-linear")):
        pass
    assert up == []


def test_each_backend_states_what_it_can_do() -> None:
    assert backends_that("returns_logprobs") == ["hf", "vllm"]
    assert backends_that("has_weights") == ["hf", "vllm", "classifier"]
    assert backends_that("forms_batches") == ["hf"]
    assert backends_that("needs_server") == ["openai"]
    assert backends_that("replicates") == ["ray"]
    assert all(issubclass(backend_class(name), Backend) for name in BACKENDS)
    with pytest.raises(RecipeError, match="There is no backend 'none'; choose one of hf, vllm"):
        backend_class("none")
