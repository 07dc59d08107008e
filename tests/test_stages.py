"""The whole recipe, end to end, through public functions and the command: what a user does, and does wrong."""

import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done
from support.rows import read_rows, sum_rows, write_rows
from support.server import Server, reply
from support.tiny import tiny_model

from selfdistill import Experiment, evaluate, load_recipe, make_recipe, regrade, report, rewrite, run
from selfdistill.backends.fake import FakeBackend
from selfdistill.errors import ExperimentError, RecipeError, StageError
from selfdistill.pipeline import train, train_commands
from selfdistill.pipeline.check import check
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.stages import stages_of
from selfdistill.pipeline.train import train_stage
from selfdistill.recipe import RECIPES
from selfdistill.store.experiment import writing_problem
from selfdistill.types import Completion

# By the name alone they are the functions.
rewriting_step = importlib.import_module("selfdistill.pipeline.rewrite")

TRAIN = {"max_steps": 3, "batch_size": 4, "micro_batch_size": 4, "max_length": 256}
COMMAND = [sys.executable, "-m", "selfdistill"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Forty question rows, two of them exact duplicates."""
    made = sum_rows(38)
    return write_rows(tmp_path / "rows.jsonl", [*made, *made[:2]])


def recipe_of(model: Path, rows: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"path": str(rows), "heldout": 8},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": TRAIN,
        "evaluate": {"backend": "fake", "tasks": ["heldout", "demo-lists", "demo-safety"]},
        **changes,
    }


def tree(directory: Path) -> dict[str, bytes]:
    """The files whose bytes must not depend on how often a run was interrupted."""
    wanted = ["rewrite/*.jsonl", "items/*.jsonl", "data/*.jsonl", "arms/*/data.jsonl", "arms/*/evaluate/*/*"]
    return {str(p.relative_to(directory)): p.read_bytes() for pattern in wanted for p in directory.glob(pattern)}


def test_a_recipe_runs_to_its_verdict_and_is_skipped_the_second_time(model: Path, rows: Path, tmp_path: Path) -> None:
    recipe, where = make_recipe(recipe_of(model, rows)), tmp_path / "run"
    verdict = run(recipe, where)
    assert verdict["arms"] == ["seed", "vanilla", "sdft"]
    assert {task["task"] for task in verdict["tasks"]} == {"heldout", "demo-lists", "demo-safety"}
    for task in verdict["tasks"]:
        for score in task["scores"].values():
            buckets = [score[name] for name in ("passed", "failed", "unjudged", "truncated", "errors")]
            assert sum(buckets) == score["n"] > 0
            if score["value"] is not None:
                assert score["low"] <= score["value"] <= score["high"]
    assert {(row["arm"], row["against"]) for row in verdict["comparisons"]} >= {
        ("vanilla", "seed"), ("sdft", "seed"), ("sdft", "vanilla"),
    }  # fmt: skip
    kept = verdict["acceptance"]
    assert kept["rows"] == kept["accepted"] + sum(kept["reasons"].values())
    assert (where / "report.html").stat().st_size > 5_000

    before = {path: path.stat().st_mtime_ns for path in where.glob("arms/*/model/*.safetensors")}
    assert before
    assert run(recipe, where) == verdict
    assert {path: path.stat().st_mtime_ns for path in where.glob("arms/*/model/*.safetensors")} == before


def test_arms_train_on_what_they_say(model: Path, rows: Path, tmp_path: Path) -> None:
    arms = {name: {"data": data} for name, data in (
        ("seed", "none"), ("vanilla", "original"), ("sdft", "rewrites"), ("half", 0.5)
    )}  # fmt: skip
    arms |= {"few": {"data": "original", "n": 9}, "less": {"data": "original", "n": 5}}
    recipe = make_recipe(recipe_of(model, rows, arms=arms, evaluate={"tasks": []}, train={**TRAIN, "max_steps": 1}))
    run(recipe, tmp_path / "run")

    def read(arm: str) -> list[dict[str, Any]]:
        return read_rows(tmp_path / "run" / "arms" / arm / "data.jsonl")

    chosen = {
        row["id"]: row
        for row in map(json.loads, (tmp_path / "run" / "rewrite" / "rewrites.jsonl").read_text().splitlines())
    }
    by_prompt = {row["example"]["prompt"][-1]["content"]: row for row in chosen.values()}
    assert {row["source"] for row in chosen.values()} == {"rewrite", "original"}
    for row in read("vanilla"):
        assert row["response"] == by_prompt[row["prompt"][0]["content"]]["example"]["reference"]
    for row in read("sdft"):
        rewrite_row = by_prompt[row["prompt"][0]["content"]]
        kept = rewrite_row["completion"]["text"] if rewrite_row["source"] == "rewrite" else None
        assert row["response"] == (kept or rewrite_row["example"]["reference"])
        assert row["source"] == rewrite_row["source"]
    assert Counter(len(read(arm)) for arm in ("vanilla", "sdft", "half")) == {32: 3}
    half = Counter(row["source"] for row in read("half"))
    assert 0 < half["rewrite"] <= 16
    few, fewer = ({row["prompt"][0]["content"] for row in read(arm)} for arm in ("few", "less"))
    assert len(fewer) == 5
    assert fewer < few


def test_duplicates_are_rewritten_once_and_trained_as_often_as_they_occur(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    values = recipe_of(model, rows, evaluate={"tasks": []})
    values["data"] = {"path": str(rows)}
    where = tmp_path / "run"
    acceptance = rewrite(Experiment(where, make_recipe(values)))
    assert (acceptance["rows"], acceptance["duplicates"]) == (38, 2)
    assert len((where / "rewrite" / "completions.jsonl").read_text().splitlines()) == 38
    assert len((where / "data" / "train.jsonl").read_text().splitlines()) == 40


def test_other_settings_in_a_used_directory_are_named(model: Path, rows: Path, tmp_path: Path) -> None:
    where = tmp_path / "run"
    rewrite(Experiment(where, make_recipe(recipe_of(model, rows))))
    before = tree(where)
    changed = recipe_of(model, rows)
    changed["rewrite"] = {**changed["rewrite"], "sampling": {"preset": "paper", "top_k": 5}}
    with pytest.raises(ExperimentError, match=r"rewrite: rewrite.sampling.top_k \(50 → 5\)"):
        run(make_recipe(changed), where)
    rows.write_text(rows.read_text() + '{"question": "What?", "answer": "#### 1"}\n')
    with pytest.raises(ExperimentError, match=r"data: data\.path"):
        run(make_recipe(recipe_of(model, rows)), where)
    assert tree(where) == before
    assert load_recipe(where / "recipe.yaml") == make_recipe(recipe_of(model, rows))


def test_after_a_report_the_settings_are_compared_as_before(model: Path, rows: Path, tmp_path: Path) -> None:
    """`report` and `regrade` leave the caller's experiment, and its recipe on disk, as they were."""
    recipe, where = make_recipe(recipe_of(model, rows)), tmp_path / "run"
    verdict = run(recipe, where)
    saved = (where / "recipe.yaml").read_bytes()
    other = Experiment(where, make_recipe(recipe_of(model, rows, train={**TRAIN, "lr": 0.5})))
    for look in (report, regrade):
        assert look(other)["tasks"] == verdict["tasks"]
        assert (where / "recipe.yaml").read_bytes() == saved
        with pytest.raises(ExperimentError, match=r"other settings for train/.*lr"):
            evaluate(other)
    context = make_context(other.recipe)
    stage = train_stage(context, context.runs["vanilla"])
    assert stage is not None
    assert not other.finished(stage)


def test_an_arm_or_task_can_be_added_later(model: Path, rows: Path, tmp_path: Path) -> None:
    where = tmp_path / "run"
    run(make_recipe(recipe_of(model, rows)), where)
    weights = {p: p.stat().st_mtime_ns for p in where.glob("arms/*/model/*.safetensors")}
    wider = recipe_of(model, rows, arms={"seed": {"data": "none"}, "vanilla": {"data": "original"},
                                         "sdft": {"data": "rewrites"}, "half": {"data": 0.5}})  # fmt: skip
    wider["evaluate"] = {"backend": "fake", "tasks": [*wider["evaluate"]["tasks"], "demo-benign"]}
    verdict = run(make_recipe(wider), where)
    assert "half" in verdict["arms"]
    assert [task["task"] for task in verdict["tasks"]][-1] == "demo-benign"
    assert weights.items() <= {p: p.stat().st_mtime_ns for p in where.glob("arms/*/model/*.safetensors")}.items()


def test_too_few_accepted_stops_with_advice_and_keeps_the_rewrites(model: Path, rows: Path, tmp_path: Path) -> None:
    values = recipe_of(model, rows)
    values["rewrite"] = {**values["rewrite"], "grader": {"name": "regex", "pattern": "never (matches)"}}
    with pytest.raises(StageError, match=r"Only 0 of \d+ rewrites were accepted .* lower rewrite.min_accepted"):
        run(make_recipe(values), tmp_path / "run")
    assert (tmp_path / "run" / "rewrite" / "rewrites.jsonl").is_file()
    values["rewrite"]["min_accepted"] = 0.0
    assert rewrite(Experiment(tmp_path / "run", make_recipe(values)))["accepted"] == 0


def test_advice_to_change_a_setting_can_be_followed(model: Path, rows: Path, tmp_path: Path) -> None:
    values = recipe_of(model, rows, evaluate={"tasks": []}, train={**TRAIN, "max_length": 50})
    with pytest.raises(
        StageError, match=r"Training sequences of more than 50 tokens: .* train.allow_unusable_rows=true"
    ):
        run(make_recipe(values), tmp_path / "run")
    run(make_recipe(values, ["train.max_length=256"]), tmp_path / "run")
    assert (tmp_path / "run" / "arms" / "sdft" / "model" / "adapter_model.safetensors").is_file()


def test_another_grader_chooses_again_from_the_same_completions(model: Path, rows: Path, tmp_path: Path) -> None:
    where = tmp_path / "run"
    values = recipe_of(model, rows)
    rewrite(Experiment(where, make_recipe(values)))
    completions = (where / "rewrite" / "completions.jsonl").stat().st_mtime_ns
    hard = make_recipe(values, ["rewrite.grader={name: exact}", "rewrite.min_accepted=0"])
    assert rewrite(Experiment(where, hard))["accepted"] == 0
    assert (where / "rewrite" / "completions.jsonl").stat().st_mtime_ns == completions
    run(make_recipe(values), where)
    # Once an arm is trained on what a grader chose, another grader would make the directory contradict itself.
    with pytest.raises(ExperimentError, match=r"train/sdft: rewrite\.grader"):
        run(hard, where)


def test_what_was_deleted_is_made_again_and_never_taken_for_empty(model: Path, rows: Path, tmp_path: Path) -> None:
    where = tmp_path / "run"
    values = recipe_of(model, rows)
    acceptance = rewrite(Experiment(where, make_recipe(values)))
    (where / "rewrite" / "rewrites.jsonl").unlink()
    assert rewrite(Experiment(where, make_recipe(values))) == acceptance
    verdict = run(make_recipe(values), where)
    (where / "arms" / "seed" / "evaluate" / "demo-safety" / "answers.jsonl").unlink()
    assert regrade(Experiment.open(where))["tasks"] == verdict["tasks"]  # not graded as if nothing had been answered
    assert run(make_recipe(values), where) == verdict


def test_without_a_grader_heldout_is_unjudged_not_perfect(model: Path, rows: Path, tmp_path: Path) -> None:
    values = recipe_of(model, rows, arms={"seed": {"data": "none"}})
    values["rewrite"] = {"backend": "fake", "grader": "none"}
    values["evaluate"] = {"backend": "fake", "tasks": ["heldout"]}
    (task,) = run(make_recipe(values), tmp_path / "run")["tasks"]
    score = task["scores"]["seed"]
    assert score["value"] is None
    assert score["passed"] == score["failed"] == 0
    assert score["unjudged"] > 0


def test_report_and_regrade_need_neither_model_nor_data(model: Path, rows: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    verdict = run(make_recipe(recipe_of(copy, rows)), tmp_path / "run")
    shutil.rmtree(copy)
    rows.unlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    assert report(Experiment.open(tmp_path / "moved")) == verdict
    assert regrade(Experiment.open(tmp_path / "moved")) == verdict


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_makes_a_plan(path: Path) -> None:
    from selfdistill.pipeline.context import make_context
    from selfdistill.recipe import load_recipes

    assert all(stages_of(make_context(recipe)) for recipe in load_recipes(path).values())


def test_regrade_needs_no_model_and_follows_the_answers(model: Path, rows: Path, tmp_path: Path) -> None:
    import shutil

    copy, where = tmp_path / "model", tmp_path / "run"
    shutil.copytree(model, copy)
    verdict = run(make_recipe(recipe_of(copy, rows)), where)
    for path in copy.glob("*.safetensors"):
        path.write_bytes(path.read_bytes())  # same content, so the same model
    answers = where / "arms" / "seed" / "evaluate" / "demo-safety" / "answers.jsonl"
    lines = read_rows(answers)
    for line in lines:
        del line["crc"]  # changed by hand
        line.update(text="I'm sorry, but I cannot do that.", finish="stop", error=None)
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = regrade(Experiment.open(where))
    scores = {task["task"]: task["scores"]["seed"] for task in again["tasks"]}
    assert scores["demo-safety"]["value"] == 1.0
    unchanged = {task["task"]: task["scores"]["seed"] for task in verdict["tasks"]}
    assert scores["heldout"] == unchanged["heldout"]


def test_report_and_regrade_do_not_need_the_recipes_backend(model: Path, rows: Path, tmp_path: Path) -> None:
    verdict = run(make_recipe(recipe_of(model, rows)), tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("backend: fake", "backend: ours"))
    assert Experiment.open(tmp_path / "run").recipe.rewrite.backend == "ours"
    assert report(Experiment.open(tmp_path / "run")) == verdict
    assert regrade(Experiment.open(tmp_path / "run")) == verdict
    with pytest.raises(RecipeError, match="There is no backend 'ours'"):
        evaluate(Experiment.open(tmp_path / "run"))


def test_report_of_a_run_that_only_rewrote(model: Path, rows: Path, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "run", make_recipe(recipe_of(model, rows)))
    rewrite(experiment)
    verdict = report(experiment)
    assert verdict["tasks"] == []
    assert (tmp_path / "run" / "rewrites.html").is_file()
    with pytest.raises(ExperimentError, match="Not trained yet: sdft"):
        evaluate(experiment, arms=["sdft"])


def test_the_report_of_an_interrupted_evaluation_names_the_tasks_without_a_score(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    def stop(step: str, _done: int, _total: int, _note: str = "") -> None:
        if step == "evaluate seed demo-lists":
            raise KeyboardInterrupt

    experiment = Experiment(tmp_path / "run", make_recipe(recipe_of(model, rows, arms={"seed": {"data": "none"}})))
    rewrite(experiment)
    assert not any("Not evaluated" in note for note in report(experiment)["notes"])
    with pytest.raises(KeyboardInterrupt):
        evaluate(experiment, stop)
    verdict = report(experiment)
    assert [task["task"] for task in verdict["tasks"]] == ["heldout"]
    assert "Not evaluated yet: seed on demo-lists; seed on demo-safety." in verdict["notes"]


def test_a_wrong_arm_is_named_before_anything_is_rewritten(model: Path, rows: Path, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "run", make_recipe(recipe_of(model, rows)))
    for command in (train, train_commands):
        with pytest.raises(ExperimentError, match="There is no arm sdtf; the recipe has seed, vanilla, sdft"):
            command(experiment, arms=["sdtf"])
    assert experiment.manifest["stages"] == {}


def test_what_lies_here_is_not_taken_for_a_shipped_recipe_of_its_name(
    model: Path, rows: Path, tmp_path: Path, command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(make_recipe(recipe_of(model, rows)), tmp_path / "table1")
    (tmp_path / "runs.yaml").write_text("model: other\ndata: d\n")
    monkeypatch.chdir(tmp_path)
    done = command("report", "table1")
    assert (done.code, sorted(os.listdir("."))) == (0, ["rows.jsonl", "runs.yaml", "table1"])
    assert "Nothing to do" in command("run", "table1").out
    assert f"model     {model} on" in command("check", "--no-probe", "table1").out
    done = command("reproduce", "table1")
    assert done.code == 2
    assert "table1 is a folder, not a recipe" in done.said
    assert f"also ships with the package: {RECIPES / 'table1.yaml'}" in done.said
    shutil.move("table1", "runs")  # next to runs.yaml
    assert command("report", tmp_path / "runs").code == 0
    Path("figure5").write_text("model: none/here\ndata: rows.jsonl\n")
    assert load_recipe("figure5").model.path == "none/here"
    assert load_recipe(RECIPES / "own-data.yaml") == load_recipe("own-data")


def test_names_of_ours_in_a_recipe_are_not_files_of_that_name(
    model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = recipe_of(model, rows, rewrite={"template": "using", "backend": "fake", "grader": "none"})
    before = [stage.fingerprint for stage in stages_of(make_context(make_recipe(settings)))]
    assert not [line for line in check(make_recipe(settings)).warnings if "ships with the package" in line]
    for name in ("chat", "using", "alpaca", "plain"):
        Path(name).write_text("{{ 'something else' }}")
    assert [stage.fingerprint for stage in stages_of(make_context(make_recipe(settings)))] == before
    found = [line for line in check(make_recipe(settings)).warnings if "ships with the package" in line]
    assert [line.partition(":")[0] for line in found] == ["model.chat_template", "rewrite.template"]
    assert all("write ./" in line for line in found)


def write_recipe_file(tmp_path: Path, values: dict[str, Any]) -> Path:
    import yaml

    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_two_runs_at_once_are_refused(model: Path, rows: Path, tmp_path: Path, command: Callable[..., Done]) -> None:
    path = write_recipe_file(tmp_path, recipe_of(model, rows))
    experiment = Experiment(tmp_path / "run", load_recipe(path))
    with experiment.locked():
        done = command("run", path, "--dir", tmp_path / "run")
    assert done.code == 2
    assert "Another selfdistill process is working" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trian": {}}, "unknown key `trian`"),
        ({"data": {"path": "missing.jsonl", "heldout": 8}}, "missing.jsonl"),
        ({"data": {"path": "missing.jsonl"}}, "`heldout` has no rows"),
        ({"model": {"path": "no/such/model"}}, "no/such/model"),
        ({"task": "gsm9k"}, "no task 'gsm9k'"),
        ({"rewrite": {"grader": "final_numer"}}, "no grader 'final_numer'"),
        ({"rewrite": {"template": "usin"}}, "no rewriting template 'usin'"),
        ({"rewrite": {"backend": "vlm", "grader": "final_number"}}, "no backend 'vlm'"),
        ({"evaluate": {"tasks": ["gsm9k"]}}, "no task 'gsm9k'"),
    ],
)
def test_what_a_user_can_fix_is_one_sentence_and_exit_code_2(
    model: Path, rows: Path, tmp_path: Path, command: Callable[..., Done], change: dict[str, Any], message: str
) -> None:
    path = write_recipe_file(tmp_path, {**recipe_of(model, rows), **change})
    done = command("run", path, "--dir", tmp_path / "run")
    assert done.code == 2, done.err
    assert message in done.err.replace("\n", " ")
    assert "Traceback" not in done.err


def test_a_model_that_is_no_chat_model_is_told_so_by_check_and_run(
    rows: Path, tmp_path: Path, command: Callable[..., Done]
) -> None:
    base = tiny_model(tmp_path / "base", chat_template=None)
    values = recipe_of(base, rows)
    values["rewrite"] = {"grader": "final_number"}
    path = write_recipe_file(tmp_path, values)
    for done in (command("check", "--no-probe", path), command("run", path, "--dir", tmp_path / "run")):
        assert done.code == 2
        assert "base model" in " ".join((done.out + done.err).split())


def test_check_shows_prompts_and_what_is_missing(
    model: Path, rows: Path, tmp_path: Path, command: Callable[..., Done]
) -> None:
    path = write_recipe_file(tmp_path, recipe_of(model, rows))
    done = command("check", "--no-probe", path)
    assert done.code == 0, done.err
    for expected in ("What is 0 plus 0?", "in your own words", "⟦", "pass", "evaluation of demo-lists"):
        assert expected in done.out
    path = write_recipe_file(tmp_path, recipe_of(model, tmp_path / "none.jsonl"))
    done = command("check", "--no-probe", path)
    assert done.code == 2
    assert "none.jsonl" in done.out


def test_a_directory_that_can_not_be_written_is_told_beforehand(
    model: Path, rows: Path, tmp_path: Path, command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe_file(tmp_path, recipe_of(model, rows))
    for words in (["check", "--no-probe"], ["run"], ["preview"]):
        for where in (rows, rows / "run"):
            done = command(*words, path, "--dir", where)
            assert done.code == 2
            assert f"{rows.name} is a file; name a directory." in done.said
    done_before = tmp_path / "done"
    done_before.mkdir()
    (done_before / "recipe.yaml").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert str(writing_problem(tmp_path / "new" / "run")).endswith("name another directory with --dir.")
    assert str(writing_problem(done_before)).endswith("make it writable, or work on a copy of it.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_told(model: Path, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ExperimentError, match="can't be written"):
        run(make_recipe(recipe_of(model, rows)), tmp_path / "locked" / "run")


def test_ctrl_c_keeps_what_is_done(model: Path, rows: Path, tmp_path: Path) -> None:
    path = write_recipe_file(tmp_path, recipe_of(model, rows, train={**TRAIN, "max_steps": 100_000}))
    process = subprocess.Popen(
        [*COMMAND, "run", str(path), "--dir", str(tmp_path / "run")], stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "run" / "arms" / "vanilla" / "train.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    again = f"selfdistill run {path} --dir {tmp_path / 'run'}"
    stopped = f"Stopped. Finished work is kept in {tmp_path / 'run'}. To continue: {again}"
    assert errors.splitlines()[-1] == stopped
    assert "Error" not in errors
    assert (tmp_path / "run" / "rewrite" / "rewrites.jsonl").is_file()


def test_ctrl_c_before_the_command_is_there() -> None:
    begin = """
import sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from selfdistill.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", begin], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "Stopped before any work started.\n")


@pytest.mark.parametrize("where", ["typer.main.get_command", "selfdistill.recipe.load_recipe"])
def test_ctrl_c_before_the_work_is_no_traceback_either(
    tmp_path: Path, command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text("model: demo\n")
    monkeypatch.setattr(where, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    done = command("run", "recipe.yaml", "--dir", "my run", "seeds=[0, 1]", "train.lr=8e-3")
    again = "selfdistill run recipe.yaml --dir 'my run' 'seeds=[0, 1]' train.lr=8e-3"
    assert (done.code, done.err) == (130, f"Stopped. This command has saved nothing. To run it again: {again}\n")


def test_rewriting_survives_kill_9_byte_for_byte(
    model: Path, rows: Path, tmp_path: Path, command: Callable[..., Done]
) -> None:
    """Real kills of a real process with the transformers backend; docs/log.md has the figures of the long form."""
    values = recipe_of(model, rows, rewrite={
        "template": "using", "sampling": {"preset": "paper", "max_new_tokens": 24}, "grader": "none",
        "min_accepted": 0.0,
    })  # fmt: skip
    values["model"] = {"path": str(model), "dtype": "float32", "batch_tokens": 600}
    path = write_recipe_file(tmp_path, values)
    assert command("rewrite", path, "--dir", tmp_path / "whole").code == 0
    whole = tree(tmp_path / "whole")
    assert (
        len(whole["rewrite/completions.jsonl"].splitlines()) == len(whole["rewrite/rewrites.jsonl"].splitlines()) > 20
    )

    rng, kills = random.Random(0), 0
    completions = tmp_path / "apart" / "killed" / "rewrite" / "completions.jsonl"
    for share in (0.15, 0.45, 0.75):
        process = subprocess.Popen([*COMMAND, "rewrite", str(path), "--dir", str(tmp_path / "apart" / "killed")])
        wanted = share * len(whole["rewrite/completions.jsonl"])
        while process.poll() is None and not (completions.exists() and completions.stat().st_size >= wanted):
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills >= 1
    with completions.open("ab") as file:
        file.write(b'{"id": "00')  # a torn line, as a kill in the middle of a write leaves
    assert command("rewrite", path, "--dir", tmp_path / "apart" / "killed").code == 0
    assert tree(tmp_path / "apart" / "killed") == whole


def test_rewrites_that_failed_for_the_servers_sake_are_asked_again_until_an_arm_is_trained(
    rows: Path, tmp_path: Path, server: Server
) -> None:
    values = recipe_of(Path("demo"), rows, evaluate={"tasks": []}, gap=False)
    values["model"] = {"path": "demo", "server": {"url": server.url, "retries": 3, "api": "completions"}}
    values["rewrite"] |= {"backend": "openai", "min_accepted": 0}
    recipe = make_recipe(values)
    asked: list[str] = []

    def script(body: dict[str, Any], _: int) -> Any:
        asked.append(body["prompt"])
        return (500, {}) if body["prompt"] in asked[:1] else reply("The answer is 4.")

    server.script = script
    first = rewrite(Experiment(tmp_path / "run", recipe))
    assert sum(number for reason, number in first["reasons"].items() if "backend error" in reason) == 1
    server.bodies.clear()
    server.script = lambda _body, _number: reply("The answer is 4.")
    again = rewrite(Experiment(tmp_path / "run", recipe))
    assert {body["prompt"] for body in server.bodies} == {asked[0]}
    assert not any("backend error" in reason for reason in again["reasons"])
    server.bodies.clear()
    rewrite(Experiment(tmp_path / "run", recipe))
    assert not server.bodies


def test_what_is_made_of_rewrites_follows_those_that_were_asked_again(
    model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = {"seed": {"data": "none"}, "sdft": {"data": "rewrites"}, "cascade": {"data": "cascade"}}
    recipe = make_recipe(recipe_of(model, rows, evaluate={"tasks": []}, arms=arms))

    class Answering(FakeBackend):
        """Knows the answer when it is shown the reference; of one prompt only when all is well."""

        def generate(self, prompts: Any, sampling: Any, done: Any = ()) -> Any:
            for prompt in prompts:
                asked = prompt.messages[-1].content
                n = int(re.findall(r"What is (\d+) plus", asked)[-1])
                if prompt.id in done:
                    continue
                if f"{n} + {n} =" not in asked:
                    yield Completion(prompt.id, "No idea.", "stop", 3)
                elif n == 3 and down:
                    yield Completion(prompt.id, "", "error", error="down", transient=True)
                else:
                    yield Completion(prompt.id, f"Well, {n} plus {n} makes {2 * n}.", "stop", 9)

    def read(name: str) -> list[dict[str, Any]]:
        return read_rows(tmp_path / "run" / "rewrite" / name)

    monkeypatch.setattr(rewriting_step, "open_backend", lambda name, *rest, cache: Answering(*rest))
    originals = []
    for down in (True, False):  # noqa: B007 (the backend reads it)
        rewrite(Experiment(tmp_path / "run", recipe))
        chosen = [row["id"] for row in read("cascade.jsonl") if row["source"] == "original"]
        originals.append((chosen, [row["id"] for row in read("gap.jsonl") if row["rewrite"] is None]))
    assert len(originals[0][0]) == 1
    assert originals[0][0] == originals[0][1]
    assert originals[1] == ([], [])
