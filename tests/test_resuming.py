"""Resuming a directory: with its own recipe, with other settings, and what the command says about both."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import Done
from support.rows import sum_rows, write_rows
from support.tiny import tiny_model

Command = Callable[..., Done]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def project(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a small recipe."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", sum_rows(16))
    (tmp_path / "recipe.yaml").write_text(
        f"""
model: {{path: {model}, dtype: float32}}
data: {{path: rows.jsonl, heldout: 4}}
rewrite: {{backend: fake, grader: final_number, filters: {{min_length_ratio: null}}}}
train: {{max_steps: 1, batch_size: 4, micro_batch_size: 4, max_length: 256}}
evaluate: {{backend: fake, tasks: [{{task: heldout}}, {{task: demo-lists, n: 4}}]}}
shift: {{kl_prompts: 0}}
"""
    )
    return tmp_path


def test_every_setting_that_changes_on_a_resume_is_named_with_the_command_that_goes_back(
    project: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    own = ["train.lr=8e-3", "data.n=8", "evaluate.tasks=[heldout]"]
    assert command("rewrite", "recipe.yaml", *own).code == 0
    assert command("rewrite", "recipe.yaml", *own).code == 0
    assert command("rewrite", "runs/recipe").code == 0
    assert "other settings" not in caplog.text
    before = Path("runs/recipe/recipe.yaml").read_text()
    assert command("rewrite", "recipe.yaml", "data.n=8").code == 0
    (warning,) = (line for line in caplog.messages if "other settings" in line)
    first, second = warning.splitlines()
    tasks = 'evaluate.tasks (["heldout"] → ["heldout", {"task": "demo-lists", "n": 4}])'
    assert first == f"runs/recipe goes on with other settings than before: {tasks}, train.lr (0.008 → 0.0001)."
    assert Path("runs/recipe/recipe.yaml").read_text() != before
    back = shlex.split(second.partition(": ")[2])
    assert back == ["selfdistill", "run", "runs/recipe", 'evaluate.tasks=["heldout"]', "train.lr=0.008"]
    caplog.clear()
    assert command("rewrite", *back[2:]).code == 0
    assert Path("runs/recipe/recipe.yaml").read_text() == before


def test_run_resumes_a_directory_with_its_own_recipe(
    project: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    assert command("rewrite", "recipe.yaml", "data.n=8", "evaluate.tasks=[]").code == 0
    caplog.set_level(logging.WARNING)
    shown = command("report", "runs/recipe")
    left = "Unfinished: 4 of 12 steps done, no arm trained yet. To continue: selfdistill run runs/recipe"
    assert left in shown.out.splitlines()
    (document,) = json.loads(command("report", "runs/recipe", "--json").out)["experiments"]
    assert document["unfinished"] == {"done": 4, "steps": 12, "trained": [], "command": "selfdistill run runs/recipe"}
    assert command("run", "runs/recipe").code == 0
    assert "other settings" not in caplog.text
    assert "Unfinished" not in command("report", "runs/recipe").out
    assert "Nothing to do" in command("run", "runs/recipe").out
    before = [Path("runs/recipe", name).read_bytes() for name in ("recipe.yaml", "arms/sdft/train.json")]
    done = command("train", "runs/recipe", "--arm", "sdft", "train.merge=true")
    assert done.out == "sdft: runs/recipe/arms/sdft/merged\n"
    assert "Nothing to do" in command("run", "runs/recipe").out
    assert [str(path) for path in Path("runs/recipe/arms").glob("*/merged")] == ["runs/recipe/arms/sdft/merged"]
    assert "other settings" not in caplog.text
    assert before == [Path("runs/recipe", name).read_bytes() for name in ("recipe.yaml", "arms/sdft/train.json")]
    assert "The arm seed is not trained" in command("export", "runs/recipe", "--to", "trl", "--arm", "seed").err

    saved = Path("runs/recipe/recipe.yaml").read_text()
    done = command("preview", "recipe.yaml", "data.n=8", "evaluate.tasks=[]", "train.lr=0.5", "-n", "2")
    assert (done.code, Path("runs/recipe/recipe.yaml").read_text()) == (0, saved), done.err
    assert command("preview", "recipe.yaml", "-n", "2").err.splitlines() == [
        "Error: runs/recipe was made with other settings for data: data.n (8 → null). "
        "The earlier command, or its recipe, had data.n=8 'evaluate.tasks=[]'.",
        "To go on with the earlier settings: selfdistill run runs/recipe",
        "To use the new settings in a new directory: selfdistill run runs/recipe/recipe.yaml --dir runs/recipe-2 "
        'data.n=null \'evaluate.tasks=["heldout", {"task": "demo-lists", "n": 4}]\'',
    ]
    many = json.dumps([{"task": "demo-lists", "name": f"lists-{at}", "n": 4} for at in range(9)])
    done = command("run", "runs/recipe", f"evaluate.tasks={many}", "rewrite.grader=none")
    assert done.err.splitlines()[-1] == (
        "To use the new settings in a new directory: repeat your command with --dir runs/recipe-2"
    )
    done = command("run", "runs/recipe", "rewrite.grader=none")
    assert done.code == 2
    said, back, new = done.err.splitlines()
    assert "for train/sdft: rewrite.grader (final_number → none). The earlier command, or its recipe, had" in said
    assert said.endswith(" had rewrite.grader=final_number.")
    assert back == "To go on with the earlier settings: selfdistill run runs/recipe"
    assert command(*shlex.split(back.partition(": ")[2])[1:]).code == 0
    assert command("rewrite", *shlex.split(new.partition(": ")[2])[2:]).code == 0
    assert Path("runs/recipe-2/rewrite/rewrites.jsonl").is_file()

    assert command("run", "runs/other").err == (
        "Error: runs/other holds no experiment (no recipe.yaml); start one with `selfdistill run RECIPE`.\n"
    )
    assert "There is no recipe at other.yaml" in command("run", "other.yaml").err


def test_a_forgotten_override_is_named_with_the_command_that_carries_on(
    project: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    with Path("rows.jsonl").open("a") as file:
        file.write('{"question": "no answer"}\n')
    assert "1 row can't be used" in command("rewrite", "recipe.yaml").err
    assert command("preview", "recipe.yaml", "data.on_bad_row=skip", "train.lr=8e-3", "-n", "2").code == 0
    own = ["recipe.yaml", "data.on_bad_row=skip", "gap=false"]
    assert command("rewrite", *own).code == 0
    assert "other settings" not in caplog.text, "nothing was done with the settings of a preview"
    done = command("rewrite", "recipe.yaml", "gap=false")
    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "Error: runs/recipe was made with other settings for data: data.on_bad_row (skip → stop). "
            "The earlier command, or its recipe, had data.on_bad_row=skip.",
            "To go on with the earlier settings: selfdistill run runs/recipe",
        ],
    )
    shown = command("preview", "runs/recipe", "-n", "2")
    assert shown.code == 0, shown.err
    assert shown.out.splitlines()[-1].endswith("They are in runs/recipe. Next: selfdistill run runs/recipe")


def test_check_reads_the_saved_recipe_of_a_directory(project: Path, command: Command) -> None:
    assert command("rewrite", "recipe.yaml", "data.n=8").code == 0
    Path("recipe.yaml").unlink()
    done = command("check", "--no-probe", "runs/recipe", "train.lr=8e-3")
    assert done.code == 0, done.err
    assert "(8 rows drawn with seed 0, 4 held out)" in done.out
    assert done.out.endswith("Nothing is missing. Next: selfdistill run runs/recipe train.lr=8e-3\n")
    found = json.loads(command("check", "--no-probe", "--json", "runs/recipe").out)
    assert (found["ready"], found["next"]) == (True, "selfdistill run runs/recipe")
    for words, said in (
        (["runs/other"], "runs/other holds no experiment (no recipe.yaml); start one with `selfdistill run RECIPE`."),
        (["runs/recipe", "--dir", "x"], "runs/recipe is a directory, and --dir goes with a recipe; leave out --dir."),
    ):
        done = command("check", "--no-probe", *words)
        assert (done.code, done.err) == (2, f"Error: {said}\n")


def test_another_token_limit_of_a_task_stops_a_probes_step_as_it_stops_answers(project: Path, command: Command) -> None:
    def tasks(**limits: int) -> str:
        limits = {"probe-lists": 16, "demo-lists": 16, **limits}
        entries = [{"task": task, "n": 4, "max_new_tokens": limit} for task, limit in limits.items()]
        return f"evaluate.tasks={json.dumps(entries)}"

    assert command("run", "recipe.yaml", "arms={seed: {data: none}}", "gap=false", tasks()).code == 0
    changed = {"probe-lists": "step/probe-lists", "demo-lists": "answer/seed/demo-lists"}
    for number, (task, stage) in enumerate(changed.items(), 2):
        done = command("run", "runs/recipe", tasks(**{task: 24}))
        said, back, new = done.err.splitlines()
        assert said == (
            f"Error: runs/recipe was made with other settings for {stage}: evaluate.tasks[].max_new_tokens (16 → 24). "
            f"The earlier command, or its recipe, had {shlex.quote(tasks())}."
        )
        assert back == "To go on with the earlier settings: selfdistill run runs/recipe"
        assert "Nothing to do" in command(*shlex.split(back.partition(": ")[2])[1:]).out
        words = shlex.split(new.partition(": ")[2])
        assert words[3:5] == ["--dir", f"runs/recipe-{number}"]
        assert command(*words[1:]).code == 0
