"""Paths in a recipe, and directories of experiments: where the command is run makes no difference."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done

from selfdistill.generation.prompts import REWRITING
from selfdistill.models.chat_template import CHAT_TEMPLATES
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.stages import stages_of
from selfdistill.recipe import ArmConfig, DataConfig, ModelConfig, load_recipe
from selfdistill.recipe.data import RewriteConfig
from selfdistill.recipe.settings import IsPath, Settings
from selfdistill.tasks import TASKS

Command = Callable[..., Done]
ROWS = "".join(
    json.dumps({"question": f"{n} + 1?", "answer": f"It is {n + 1}. #### {n + 1}"}) + "\n" for n in range(12)
)
GRADER = "def grade(example, text):\n    return True\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe that names files next to it, and another folder to work in."""
    folder = tmp_path / "project"
    files = {
        "rows.jsonl": ROWS,
        "test.jsonl": ROWS.replace("+ 1", "+ 2"),
        "own.txt": "{instruction} {reference}",
        "g.py": GRADER,
    }
    for name, text in files.items():
        (folder / "files").mkdir(parents=True, exist_ok=True)
        (folder / "files" / name).write_text(text)
    recipe: dict[str, Any] = {
        "model": "demo",
        "data": "files/rows.jsonl",
        "rewrite": {"backend": "fake", "template": "files/own.txt", "grader": "files/g.py:grade", "min_accepted": 0},
        "gap": False,
        "arms": {"seed": {"data": "none"}},
        "evaluate": {
            "backend": "fake",
            "heldout_loss": False,
            "tasks": [{"task": "heldout", "path": "files/test.jsonl"}],
        },
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(folder)
    return folder


def fingerprints(recipe: str, *overrides: str) -> dict[str, str]:
    return {stage.name: stage.fingerprint for stage in stages_of(make_context(load_recipe(recipe, overrides)))}


def test_a_path_is_relative_to_the_recipe_and_means_the_same_in_every_spelling(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = "arms.own={data: rewrites, template: files/own.txt}"
    here = fingerprints("recipe.yaml", arms)
    monkeypatch.chdir(project.parent / "elsewhere")
    arms = arms.replace("files", "../project/files")
    assert fingerprints("../project/recipe.yaml", arms) == here
    spelled = [f"data.path={project}/files/rows.jsonl", "rewrite.template=../project/./files/own.txt"]
    spelled.append("rewrite.grader=../project/files/g.py:grade")
    assert fingerprints("../project/recipe.yaml", arms, *spelled) == here


def test_an_experiment_goes_on_from_another_folder_and_without_its_sources(
    project: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    assert command("run", "recipe.yaml").code == 0
    monkeypatch.chdir(project.parent / "elsewhere")
    done = command("evaluate", project / "runs" / "recipe")
    assert done.code == 0, done.said
    for name in ("rows.jsonl", "test.jsonl"):
        (project / "files" / name).rename(project / name)
    for words in (
        ("evaluate", project / "runs" / "recipe"),
        ("run", project / "recipe.yaml", "--dir", "../project/runs/recipe"),
    ):
        done = command(*words)
        assert done.code == 0, done.said
    assert "Nothing to do" in done.said
    (project / "files" / "rows.jsonl").write_text(ROWS + ROWS)
    done = command("evaluate", project / "runs" / "recipe")
    assert done.code == 2
    assert "was made with other settings for data: data.path (rows.jsonl:" in done.said


def test_a_file_of_the_current_folder_is_taken_with_a_warning(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(project / "files")
    (project / "files" / "recipe.yaml").write_text("{model: org/name, data: rows.jsonl}")
    (project / "sub").mkdir()
    (project / "sub" / "recipe.yaml").write_text("{model: org/name, data: rows.jsonl}")
    assert load_recipe("recipe.yaml").model.path == "org/name"
    assert caplog.text == ""
    found = load_recipe("../sub/recipe.yaml").data
    assert found is not None
    assert found.path == str(project / "files" / "rows.jsonl")
    assert "Paths in a recipe are relative to its file: write ../files/rows.jsonl." in caplog.text


def test_a_servers_model_keeps_its_name(project: Path) -> None:
    server = "model={path: files, server: {url: 'http://localhost:1/v1'}}"
    assert load_recipe("recipe.yaml", [server]).model.path == "files"


def test_init_names_the_data_as_seen_from_the_recipe(project: Path, command: Command) -> None:
    assert command("init", "--model", "demo", "--data", "files/rows.jsonl", "--to", "sub/r.yaml").code == 0
    assert "path: ../files/rows.jsonl" in Path("sub/r.yaml").read_text()


def test_names_of_the_package_are_not_paths() -> None:
    def names(section: type[Settings], key: str) -> set[str]:
        return {name for mark in section.model_fields[key].metadata if isinstance(mark, IsPath) for name in mark.names}

    assert names(ModelConfig, "chat_template") == {"chat", *CHAT_TEMPLATES}
    assert names(RewriteConfig, "template") == names(ArmConfig, "template") == {*REWRITING}
    assert names(DataConfig, "path") == {name for name in TASKS if name.startswith(("demo-", "probe-"))}


def test_changed_settings_name_the_command_that_adds_arms(project: Path, command: Command) -> None:
    small = [
        "rewrite.grader=none",
        "train={max_steps: 1, batch_size: 2, adapter: {r: 1}}",
        "evaluate.tasks=[]",
        "shift.kl_prompts=0",
    ]
    arms = ["arms.vanilla={data: original}"]
    assert command("run", "recipe.yaml", *small, *arms).code == 0
    done = command("run", "recipe.yaml", *small, *arms, "train.lr=0.5")
    assert done.code == 2
    assert "was made with other settings for train/vanilla: train.lr (0.0001 → 0.5)." in done.said
    first, *commands = (line.partition(": ")[2] for line in done.err.splitlines()[1:])
    words = shlex.split(first)
    assert commands == [
        "selfdistill run runs/recipe",
        "selfdistill run runs/recipe/recipe.yaml --dir runs/recipe-2 train.lr=0.5",
    ]
    assert words[-1] == 'arms.vanilla-lr-0_5={"data": "original", "train": {"lr": 0.5}}'
    assert command(*words[1:]).code == 0
    assert Path("runs/recipe/arms/vanilla-lr-0_5/model").is_dir()
    done = command("run", "recipe.yaml", *small, *arms, "data.seed=3")
    assert "add an arm" not in done.said
    assert "data.seed (0 → 3)." in done.said
    assert done.err.splitlines()[1:] == [
        "To go on with the earlier settings: selfdistill run runs/recipe",
        "To use the new settings in a new directory: repeat your command with --dir runs/recipe-2",  # no arm more
    ]
