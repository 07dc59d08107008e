"""When a model or data counts as another one, how often it is read for that, and the commits of hub models."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from support.rows import sum_rows, write_rows
from support.tiny import tiny_model

from selfdistill import make_recipe, run
from selfdistill.errors import ExperimentError
from selfdistill.models import digests
from selfdistill.models.embedding import load_encoder
from selfdistill.models.source import hub_commit, pinned
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.shift import shift_stages
from selfdistill.pipeline.stages import stages_of
from selfdistill.recipe import DataConfig, ModelConfig, Recipe
from selfdistill.store.identity import model_identity, path_identity, source_identity

COMMIT, NEWER = "1" * 40, "2" * 40


def identity(folder: Path) -> str:
    return model_identity(ModelConfig(path=str(folder)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "model")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every file is large enough to be kept, and settled at once; gives the cache's file."""
    monkeypatch.setattr(digests, "_KEPT_FROM", 1)
    monkeypatch.setattr(digests, "_SETTLED", -(10**18))
    monkeypatch.setattr(digests, "_known", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "selfdistill" / "digests.json"


def test_the_identity_is_of_the_content_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy" / "model")
    assert identity(copy) == identity(folder)
    assert identity(tiny_model(tmp_path / "other" / "model", seed=1)) != identity(folder)
    assert model_identity(ModelConfig(path="org/name", revision="v1")) == "org/name@v1"


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_one_byte_in_the_middle_of_the_weights_makes_another_model(tmp_path: Path, at: float) -> None:
    """Of a file of several MiB, with its times put back as some tools of copying do."""
    folder = tiny_model(tmp_path / "model")
    weights = folder / "big.safetensors"
    weights.write_bytes(bytes(5 << 20))
    before, times = identity(folder), weights.stat()
    with weights.open("r+b") as file:
        file.seek(int(at * times.st_size))
        file.write(b"x")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert identity(folder) != before


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin", "model-q4.gguf", "vocab.txt", "merges.txt", "modeling_own.py", "qwen.tiktoken",
        "spiece.model", "chat_template.jinja", "additional_chat_templates/tools.jinja", "own/layers.py",
        "parts/model-00001-of-00001.safetensors",
    ],
)  # fmt: skip
def test_every_file_that_loading_reads_counts(folder: Path, name: str) -> None:
    if name.startswith("parts/"):
        index = {"weight_map": {"lm_head.weight": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    without = identity(folder)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("one")
    first = identity(folder)
    path.write_text("two")
    assert len({without, first, identity(folder)}) == 3


def test_files_that_no_loading_reads_do_not_count(folder: Path) -> None:
    before = identity(folder)
    for name in ("README.md", ".cache/huggingface/x.py", "runs/checkpoint-1/model.safetensors", "original/model.pth"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")
    assert identity(folder) == before


def test_the_base_of_an_adapters_folder_counts(folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    before = identity(adapter)
    (folder / "model.safetensors").write_bytes(b"other")
    assert identity(adapter) != before


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, '{"weight_map": {"a": ["b"], "c": "d\\u0000"}}'])
def test_a_damaged_index_or_adapter_is_for_loading_to_report(folder: Path, text: str) -> None:
    names = {"weight_map": {"a": "x" * 5000}, "base_model_name_or_path": "y" * 5000}
    (folder / "model.safetensors.index.json").write_text(json.dumps(names))
    (folder / "adapter_config.json").write_text(json.dumps(names))
    before = identity(folder)
    for name in ("model.safetensors.index.json", "adapter_config.json"):
        (folder / name).write_text(text)
    assert identity(folder) != before


def test_data_folders_are_known_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "data" / "part").mkdir(parents=True)
    file = tmp_path / "data" / "part" / "rows.jsonl"
    file.write_text("one")
    source = DataConfig(path=str(tmp_path / "data"))
    before = source_identity(source)
    file.write_text("two")
    assert source_identity(source) != before
    assert path_identity("org/name") == "org/name"


def test_an_embedding_model_that_changes_makes_another_shift(folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{n}?", "answer": f"{n}"}) + "\n" for n in range(4)))
    (tmp_path / "embedding").mkdir()
    values = {"model": str(folder), "data": {"path": str(rows), "heldout": 2}}
    recipe = make_recipe({**values, "shift": {"embedding": str(tmp_path / "embedding")}})
    prints = []
    for text in ("one", "two"):
        (tmp_path / "embedding" / "model.safetensors").write_text(text)
        prints.append([stage.fingerprint for stage in shift_stages(make_context(recipe))])
    assert prints[0]
    assert prints[0] != prints[1]


# ---- how often files are read


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    seen: list[Path] = []
    digest: Callable[[Path], str] = digests._digest

    def spy(path: Path) -> str:
        seen.append(path)
        return digest(path)

    monkeypatch.setattr(digests, "_digest", spy)
    return seen


def test_a_file_is_read_again_only_when_it_changed(
    small: Path, folder: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = identity(folder)
    assert len(reads) == len(set(reads)) > 0
    reads.clear()
    assert identity(folder) == first
    monkeypatch.setattr(digests, "_known", {})  # as another process begins
    assert identity(folder) == first
    assert reads == []
    assert set(json.loads(small.read_text())) >= {str(path) for path in folder.glob("*.safetensors")}
    (folder / "config.json").write_text("{}")
    assert identity(folder) != first
    assert reads == [folder / "config.json"]


def test_the_stages_of_a_run_identify_each_file_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, ...]] = []

    def spy(paths: list[Path]) -> list[str]:
        asked.append(tuple(paths))
        return digests.file_digests(paths)

    monkeypatch.setattr("selfdistill.store.identity.file_digests", spy)
    rows = write_rows(tmp_path / "rows.jsonl", sum_rows(9))
    stages_of(make_context(make_recipe({"model": str(folder), "data": {"path": str(rows), "heldout": 3}})))
    assert len(asked) == len(set(asked)) > 1


def test_files_that_are_gone_leave_the_cache(small: Path, folder: Path, tmp_path: Path) -> None:
    identity(folder)
    shutil.rmtree(folder)
    identity(tiny_model(tmp_path / "other"))
    assert not [name for name in json.loads(small.read_text()) if name.startswith(str(folder))]


@pytest.mark.parametrize("damage", ["not JSON", "[]", '{"x": 1}', '{"x": [[1], 2]}', "unwritable"])
def test_a_cache_that_can_not_be_used_is_no_error(small: Path, folder: Path, damage: str) -> None:
    if damage == "unwritable":
        small.parent.parent.write_text("a file where a folder is wanted")
    else:
        small.parent.mkdir(parents=True)
        small.write_text(damage)
    first = identity(folder)
    assert identity(folder) == first


# ---- files that are edited during a run


def write_grader(path: Path, outcome: str) -> None:
    path.write_text(
        "from selfdistill.types import Grade\n"
        f"def grade(example, text):\n    return Grade({outcome!r}, 'by the grader that says {outcome}')\n"
    )


@pytest.mark.parametrize("edited", ["grader", "rows", "model", "template"])
def test_a_run_keeps_to_the_files_that_it_began_with(folder: Path, tmp_path: Path, edited: str) -> None:
    rows, grader, template = tmp_path / "rows.jsonl", tmp_path / "own.py", tmp_path / "own.txt"
    write_rows(rows, sum_rows(9))
    write_grader(grader, "fail")
    template.write_text("{instruction} as {reference}")
    edits: dict[str, Callable[[], object]] = {
        "grader": lambda: write_grader(grader, "pass"),
        "rows": lambda: write_rows(rows, sum_rows(10)),
        "model": lambda: (folder / "notes.txt").write_text("a note next to the weights"),
        "template": lambda: template.write_text("{instruction} like {reference}"),
    }
    values: dict[str, Any] = {
        "model": str(folder),
        "data": {"path": str(rows), "heldout": 3},
        "rewrite": {"backend": "fake", "grader": f"{grader}:grade", "template": str(template), "min_accepted": 0},
        "arms": {"seed": {"data": "none"}},
        "evaluate": {"backend": "fake", "tasks": ["heldout"]},
        "gap": edited == "template",
    }
    step_of_edit = "verify" if edited == "template" else "evaluate"

    def edit(step: str, _done: int, _total: int, _what: str = "") -> None:
        if step.startswith(step_of_edit) and edits:
            edits.pop(edited)()
            edits.clear()

    verdict = run(make_recipe(values), tmp_path / "run", edit)
    assert not edits
    assert [(task["task"], task["scores"]["seed"]["value"]) for task in verdict["tasks"]] == [("heldout", 0)]
    assert bool(verdict["gap"]) == (edited == "template")
    if edited == "grader":
        verdict = run(make_recipe(values), tmp_path / "run")
        assert verdict["tasks"][0]["scores"]["seed"]["value"] == 1
    else:
        with pytest.raises(ExperimentError, match="was made with other settings"):
            run(make_recipe(values), tmp_path / "run")


def test_code_that_is_trusted_later_makes_another_model(folder: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", sum_rows(9))
    values: dict[str, Any] = {
        "model": {"path": str(folder)},
        "data": {"path": str(rows), "heldout": 3},
        "rewrite": {"backend": "fake", "min_accepted": 0},
        "arms": {"seed": {"data": "none"}},
        "evaluate": {"backend": "fake"},
        "gap": False,
    }
    run(make_recipe(values), tmp_path / "run")
    with pytest.raises(ExperimentError, match=r"trust_remote_code \(false → true\)"):
        run(make_recipe({**values, "model": {"path": str(folder), "trust_remote_code": True}}), tmp_path / "run")


# ---- hub models


class Hub:
    """In place of the hub's API: commits by name and revision."""

    def __init__(self) -> None:
        self.commits: dict[tuple[str, str | None], str] = {("org/name", None): COMMIT, ("org/judge", None): NEWER}
        self.asked: list[str] = []
        self.reachable = True

    def model_info(self, name: str, revision: str | None = None, **_: Any) -> Any:
        self.asked.append(name)
        if not self.reachable or (name, revision) not in self.commits:
            raise ConnectionError("no network")
        return SimpleNamespace(sha=self.commits[name, revision])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(huggingface_hub, "model_info", made.model_info)
    return made


def recipe_of(**changes: Any) -> Recipe:
    return make_recipe({"model": "org/name", "task": "demo-maths", **changes})


NEW: dict[str, Any] = {"stages": {}}


def test_a_hub_name_becomes_its_commit_for_model_and_judge(hub: Hub) -> None:
    recipe, commits = pinned(recipe_of(judge={"model": "org/judge", "backend": "hf"}), NEW)
    assert recipe.model.revision == COMMIT
    assert recipe.judge is not None
    assert recipe.judge.model.revision == NEWER
    assert commits == {"org/name@main": COMMIT, "org/judge@main": NEWER}
    assert make_context(recipe).model_settings(recipe.model, "train")["model"] == f"org/name@{COMMIT}"


def test_the_embedding_that_decides_what_is_trained_on_is_loaded_at_its_commit(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[str, str]] = []
    sentence_transformers = SimpleNamespace(
        SentenceTransformer=lambda name, revision, **_: loaded.append((name, revision))
    )
    monkeypatch.setitem(sys.modules, "sentence_transformers", sentence_transformers)
    hub.commits["sentence-transformers/small-encoder", None] = NEWER
    chosen = recipe_of(rewrite={"grader": "similar"}, shift={"embedding": "small-encoder"})
    recipe, commits = pinned(chosen, NEW, embedding_decides=True)
    assert commits["sentence-transformers/small-encoder@main"] == NEWER
    assert make_context(recipe).grader_settings()["embedding"] == recipe.shift.embedding
    load_encoder(recipe.shift.embedding, "cpu")
    assert loaded == [("sentence-transformers/small-encoder", NEWER)]
    assert pinned(chosen, NEW)[0].shift == chosen.shift, "a metric alone looks nothing up"


def test_later_runs_use_the_recorded_commit_without_a_look_at_the_hub(hub: Hub) -> None:
    _, commits = pinned(recipe_of(), NEW)
    hub.commits["org/name", None] = NEWER
    hub.asked.clear()
    for look_up in (True, False):
        recipe, again = pinned(recipe_of(), {"stages": {"rewrite": {}}, "commits": commits}, look_up)
        assert (recipe.model.revision, again) == (COMMIT, commits)
    assert hub.asked == []
    hub.commits["org/name", "v2"] = NEWER
    assert pinned(recipe_of(model={"path": "org/name", "revision": "v2"}), NEW)[0].model.revision == NEWER


def test_folders_servers_and_commits_are_not_looked_up(hub: Hub, folder: Path) -> None:
    server = {"model": {"path": "org/served", "server": {"url": "http://localhost:1"}}, "backend": "openai"}
    pinned(recipe_of(model=str(folder), judge=server), NEW, judge_has_weights=False)
    pinned(recipe_of(model="demo"), NEW)
    assert pinned(recipe_of(model={"path": "org/name", "revision": NEWER}), NEW)[0].model.revision == NEWER
    assert hub.asked == []


def test_without_the_hub_its_cache_knows_the_commit(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.reachable = False
    cache = tmp_path / "models--org--name"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    (cache / "snapshots" / COMMIT).mkdir(parents=True)
    (cache / "snapshots" / COMMIT / "config.json").write_text("{}")
    load = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda *names, **rest: load(*names, cache_dir=tmp_path, **rest)
    )
    assert hub_commit("org/name", None) == COMMIT
    assert hub_commit("org/other", None) is None


def test_a_commit_that_nobody_knows_is_said_and_looked_up_again_until_the_model_is_used(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.reachable = False
    with caplog.at_level(logging.WARNING):
        recipe, commits = pinned(recipe_of(), {"stages": {"data": {}}})
    assert (recipe.model.revision, commits) == (None, {})
    assert "The commit of org/name@main can't be looked up" in caplog.text
    hub.reachable = True
    assert pinned(recipe_of(), {"stages": {"data": {}, "items/x": {}}})[0].model.revision == COMMIT
    assert pinned(recipe_of(), {"stages": {"data": {}, "rewrite": {}}})[0].model.revision is None


def test_every_stage_of_a_run_loads_the_recorded_commit(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, tokenizer and configuration alike: the loaders load a folder instead, and note the revision."""
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TokenizersBackend

    from selfdistill.models import loading as models

    loaded: set[tuple[str, str | None]] = set()

    def local(kind: Any) -> None:
        whole = kind.from_pretrained

        def load(name: str, *arguments: Any, revision: str | None = None, **rest: Any) -> Any:
            if name != "org/name":
                return whole(name, *arguments, revision=revision, **rest)
            loaded.add((kind.__name__, revision))
            return whole(str(folder), *arguments, **rest)

        monkeypatch.setattr(kind, "from_pretrained", load)

    for kind in (AutoConfig, AutoModelForCausalLM, AutoTokenizer, TokenizersBackend):
        local(kind)

    def cached_file(name: str, file: str, revision: str | None = None, **_: Any) -> str:
        loaded.add((file, revision))
        return str(folder / file)

    monkeypatch.setattr(transformers.utils, "cached_file", cached_file)
    assert models.load_context_length(ModelConfig(path="org/name")) == 512
    loaded.clear()
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{n}?", "answer": f"{n}"}) + "\n" for n in range(6)))
    values: dict[str, Any] = {
        "model": {"path": "org/name", "device": "cpu", "dtype": "float32"},
        "data": {"path": str(rows), "heldout": 2},
        "rewrite": {"sampling": {"max_new_tokens": 4}, "min_accepted": 0},
        "train": {"max_steps": 1, "batch_size": 4, "micro_batch_size": 4},
        "evaluate": {"tasks": [{"task": "heldout", "max_new_tokens": 4}]},
        "shift": {"kl_prompts": 0},
    }
    run(make_recipe(values), tmp_path / "run")
    assert {revision for _, revision in loaded} == {COMMIT}
    assert {"AutoModelForCausalLM", "config.json", "tokenizer_config.json"} <= {what for what, _ in loaded}
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["commits"] == {"org/name@main": COMMIT}
    assert manifest["stages"]["train/sdft"]["settings"]["model"] == f"org/name@{COMMIT}"
    assert COMMIT not in (tmp_path / "run" / "recipe.yaml").read_text()
