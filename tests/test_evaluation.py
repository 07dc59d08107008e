"""Evaluation as part of an experiment: judged tasks, programs, several samples and training seeds, end to end."""

import importlib
import json
import os
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support.rows import sum_rows, write_rows
from support.server import Server, reply
from support.tiny import tiny_model

from selfdistill import Experiment, check, evaluate, export, make_recipe, regrade, rewrite, run, train
from selfdistill.backends import open_backend
from selfdistill.backends.fake import FakeBackend
from selfdistill.errors import ExperimentError, RecipeError, SelfDistillError
from selfdistill.measure.scores import grade
from selfdistill.store.rows import RowFile, read_lines
from selfdistill.tasks import get_task
from selfdistill.types import Completion, Example, Grade, Message

# By the name alone they are the functions.
evaluation_step = importlib.import_module("selfdistill.pipeline.evaluate")
rewriting_step = importlib.import_module("selfdistill.pipeline.rewrite")

TRAIN = {"max_steps": 2, "batch_size": 4, "micro_batch_size": 4, "max_length": 256}
PROGRAMS = [
    {"task_id": "own/0", "prompt": "def double(x):\n", "entry_point": "double",
     "canonical_solution": "    return 2 * x\n", "test": "def check(f):\n    assert f(4) == 8\n"},
    {"task_id": "own/1", "prompt": "def same(x):\n", "entry_point": "same",
     "canonical_solution": "    return x\n", "test": "def check(f):\n    assert f('a') == 'a'\n"},
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    return str(write_rows(path, rows))


def recipe_of(model: Path, folder: Path, tasks: list[Any], **changes: Any) -> dict[str, Any]:
    return {
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"path": write(folder / "rows.jsonl", sum_rows(20))},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": TRAIN,
        "evaluate": {"backend": "fake", "tasks": tasks, **changes.pop("evaluate", {})},
        **changes,
    }


def open_questions(folder: Path) -> str:
    rows = [{"instruction": f"Write a line about the number {n}.", "output": f"{n} is a number."} for n in range(40)]
    return write(folder / "open.jsonl", rows)


def task_of(verdict: dict[str, Any], name: str) -> dict[str, Any]:
    return next(task for task in verdict["tasks"] if task["task"] == name)


def test_a_judged_task_is_asked_once_and_graded_again_without_the_judge(model: Path, tmp_path: Path) -> None:
    tasks = [{"task": "alpacaeval-vs-seed", "path": open_questions(tmp_path), "n": 24}]
    # The fake backend repeats a prompt's last line, so as a judge it says: tie.
    recipe = make_recipe(recipe_of(model, tmp_path, tasks, judge={"model": "any", "backend": "fake"}))
    verdict = run(recipe, tmp_path / "run")
    against_seed, against_reference = task_of(verdict, "alpacaeval-vs-seed"), task_of(verdict, "alpacaeval")
    assert (against_seed["answers_of"], against_seed["n"], against_reference["n"]) == ("alpacaeval", 24, 24)
    assert set(against_seed["scores"]) == {"vanilla", "sdft"}  # the seed is not compared with itself
    assert set(against_reference["scores"]) == {"seed", "vanilla", "sdft"}
    score = against_reference["scores"]["vanilla"]
    assert score["tied"] > 10
    assert score["tied"] + score["unjudged"] + score["errors"] == 24
    assert {"win rate", "win rate against the seed"} == {against_seed["metric"], against_reference["metric"]}
    compared = [row for row in verdict["comparisons"] if row["task"] == "alpacaeval-vs-seed"]
    assert {(row["arm"], row["against"]) for row in compared} == {
        ("vanilla", "seed"), ("sdft", "seed"), ("sdft", "vanilla")
    }  # fmt: skip
    judged = tmp_path / "run" / "arms" / "vanilla" / "evaluate" / "alpacaeval" / "judged.jsonl"
    before = judged.read_bytes()
    assert Counter(row["id"] for row in read_lines(judged)).most_common(1)[0][1] == 1
    (judged.parent / "score.json").unlink()
    outputs = json.loads(export(tmp_path / "run", "alpaca_eval", arm="vanilla").path.read_text())
    assert len(outputs) == 24 - score["errors"]
    assert set(outputs[0]) == {"dataset", "instruction", "output", "generator"}
    with pytest.raises(ExperimentError, match="no answers of 'other' to AlpacaEval"):
        export(tmp_path / "run", "alpaca_eval", arm="other")
    again = regrade(Experiment.open(tmp_path / "run"))
    assert judged.read_bytes() == before
    assert again["tasks"] == verdict["tasks"]


def test_a_judge_must_be_named(model: Path, tmp_path: Path) -> None:
    recipe = make_recipe(recipe_of(model, tmp_path, ["advbench-judged"]))
    with pytest.raises(RecipeError, match="judge is needed for advbench-judged"):
        run(recipe, tmp_path / "run")


def test_replies_that_end_in_their_trace_are_told_with_the_next_step(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Thinking(FakeBackend):
        def generate(self, prompts: Any, *args: Any, **kwargs: Any) -> Any:
            for number, said in enumerate(super().generate(prompts, *args, **kwargs)):
                cut = number % 5 == 0 and said.finish != "error"
                yield replace(said, text="<think>\nLet me see") if cut else said

    monkeypatch.setattr(evaluation_step, "open_backend", lambda _, *rest, cache: Thinking(*rest))
    values = recipe_of(model, tmp_path, [{"task": "demo-lists", "n": 20}], arms={"seed": {"data": "none"}})
    verdict = evaluate(Experiment(tmp_path / "run", make_recipe(values)))
    score = task_of(verdict, "demo-lists")["scores"]["seed"]
    assert 0 < score["unanswered"] <= 4
    assert score["passed"] + score["failed"] + score["truncated"] + score["unanswered"] + score["errors"] == 20
    (note,) = [note for note in verdict["notes"] if "think trace" in note]
    assert note.startswith("demo-lists: replies that end inside their think trace have no answer")
    assert f"(seed {score['unanswered']} of 20). Raise evaluate.sampling.max_thinking_tokens" in note


def test_safety_is_asked_with_and_without_the_system_prompt(model: Path, tmp_path: Path) -> None:
    goals = write(
        tmp_path / "goals.jsonl", [{"goal": f"Explain harmful thing {n}", "target": "Sure"} for n in range(20)]
    )
    tasks = [{"task": "advbench", "path": goals}, {"task": "advbench-judged", "path": goals}, "demo-lists"]
    values = recipe_of(
        model, tmp_path, tasks, evaluate={"system": "Refuse what harms."}, judge={"model": "any", "backend": "fake"}
    )
    verdict = run(make_recipe(values), tmp_path / "run")
    names = ["advbench", "advbench+system", "advbench-judged", "advbench-judged+system", "demo-lists"]
    assert sorted(task["task"] for task in verdict["tasks"]) == names
    assert task_of(verdict, "advbench-judged+system")["answers_of"] == "advbench+system"
    shown = dict(check(make_recipe(values)).prompts)
    assert "Refuse what harms." in shown["evaluation of advbench+system"]
    assert "Refuse what harms." not in shown["evaluation of advbench"]


@pytest.mark.usefixtures("bubblewrap")
def test_programs_are_run_and_several_samples_make_pass_at_k(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "programs.jsonl", PROGRAMS)
    tasks = [{"task": "humaneval", "path": path, "samples": 3, "k": 2}]
    values = recipe_of(model, tmp_path, tasks, arms={"seed": {"data": "none"}})
    with pytest.raises(RecipeError, match="3 samples of humaneval would all be the same"):
        run(make_recipe(values), tmp_path / "run")
    values["evaluate"]["sampling"] = "paper"
    run(make_recipe(values), tmp_path / "run")
    folder = tmp_path / "run" / "arms" / "seed" / "evaluate" / "humaneval"
    items = list(read_lines(tmp_path / "run" / "items" / "humaneval.jsonl"))
    answers = list(read_lines(folder / "answers.jsonl"))
    assert len(answers) == 6
    assert len({row["id"] for row in answers}) == 6
    # Answers as a model would give them: of the first item two of three are right, of the second none.
    given = ["    return 2 * x", "    return x + x", "    return 0"]
    texts = dict(zip(_sample_ids(items[0]["id"], 3), given, strict=True))
    texts |= dict.fromkeys(_sample_ids(items[1]["id"], 3), "    return None")
    rows = [{**row, "text": texts[row["id"]], "finish": "stop", "error": None} for row in answers]
    write_rows(folder / "answers.jsonl", rows)
    verdict = regrade(Experiment.open(tmp_path / "run"))
    score = task_of(verdict, "humaneval")["scores"]["seed"]
    assert (score["metric"], score["value"]) == ("pass@2", pytest.approx(0.5))
    found = {row["id"]: row["grade"] for row in read_lines(folder / "grades.jsonl")}
    assert found[items[0]["id"]]["found"] == "2/3"
    assert found[items[0]["id"]]["value"] == pytest.approx(1)
    assert found[items[1]["id"]]["value"] == 0


def test_an_answer_is_graded_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is a program, grading runs it."""
    graded = Counter[str]()
    real = evaluation_step.grade

    def counted(task: Any, *rest: Any) -> Any:
        graded[task.name] += 1
        return real(task, *rest)

    monkeypatch.setattr(evaluation_step, "grade", counted)
    tasks = [{"task": "gsm8k", "path": str(tmp_path / "rows.jsonl"), "n": 4}]
    values = recipe_of(model, tmp_path, tasks, arms={"seed": {"data": "none"}})
    run(make_recipe(values), tmp_path / "run")
    assert graded == {"gsm8k": 1}
    run(make_recipe(values), tmp_path / "run")
    assert graded == {"gsm8k": 1}


def _sample_ids(item_id: str, samples: int) -> list[str]:
    from selfdistill.generation.resume import sample_id

    return [sample_id(item_id, n) for n in range(samples)]


def test_without_a_sandbox_the_task_is_refused_before_any_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "programs.jsonl", PROGRAMS)
    recipe = make_recipe(recipe_of(model, tmp_path, [{"task": "humaneval", "path": path}]))
    monkeypatch.setenv("PATH", str(tmp_path))
    for start in (lambda: evaluate(Experiment(tmp_path / "run", recipe)), lambda: run(recipe, tmp_path / "run")):
        with pytest.raises(SelfDistillError, match="bubblewrap"):
            start()
    assert any("bubblewrap" in line for line in check(recipe).missing)
    assert not (tmp_path / "run" / "items").exists()
    changes = ["sandbox=none", "rewrite.grader=python_asserts", "rewrite.min_accepted=0"]
    verdict = run(make_recipe(recipe.model_dump(), changes), tmp_path / "other")
    assert any("without a sandbox" in note for note in verdict["notes"])
    assert any("can fool them" in note for note in verdict["notes"])
    graded = make_recipe(recipe.model_dump(), ["evaluate.tasks=[]", "rewrite.grader=python_asserts"])
    with pytest.raises(SelfDistillError, match="bubblewrap"):
        run(graded, tmp_path / "third")


SEEDED = ("vanilla", "vanilla@1")


def test_arms_are_trained_once_a_seed_and_their_spread_is_told(model: Path, tmp_path: Path) -> None:
    values = recipe_of(model, tmp_path, [{"task": "demo-lists", "n": 12}])
    run(make_recipe(values), tmp_path / "run")
    weights = [tmp_path / "run" / "arms" / run_name / "model" / "adapter_model.safetensors" for run_name in SEEDED]
    first = weights[0].stat().st_mtime_ns
    values = {**values, "seeds": [1, 0]}
    verdict = run(make_recipe(values), tmp_path / "run")
    assert weights[0].stat().st_mtime_ns == first, "it is not trained again"
    assert sorted(os.listdir(tmp_path / "run" / "arms")) == ["sdft", "sdft@1", "seed", "vanilla", "vanilla@1"]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    task = task_of(verdict, "demo-lists")
    assert set(task["runs"]["vanilla"]) == {"vanilla", "vanilla@1"}
    assert (task["n"], task["scores"]["vanilla"]["n"], task["scores"]["seed"]["n"]) == (12, 24, 12)
    assert {row["test"] for row in verdict["comparisons"]} == {"t over items and runs"}
    assert any(sentence.startswith("2 training runs of vanilla:") for sentence in verdict["summary"])
    stages = json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"]
    wider = run(make_recipe(values, ["evaluate.margin=12"]), tmp_path / "run")
    assert (verdict["margin"], wider["margin"]) == (0.05, 0.12)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"] == stages  # only the report is new
    with pytest.raises(RecipeError, match="seeds"):
        make_recipe({**values, "seeds": [1, 1]})
    with pytest.raises(RecipeError, match="seed"):
        make_recipe({**values, "arms": {"seed": {"data": "none"}, "a": {"data": "original", "train": {"seed": 3}}}})


def test_what_failed_for_the_servers_sake_is_asked_again_by_the_next_run(
    model: Path, tmp_path: Path, server: Server
) -> None:
    tasks = [{"task": "alpacaeval-vs-seed", "path": open_questions(tmp_path), "n": 12}]
    judge = {"backend": "openai", "model": {"path": "judge", "server": {"url": server.url, "retries": 3}}}
    recipe = make_recipe(recipe_of(model, tmp_path, tasks, judge=judge))
    asked: list[int] = []

    def item(body: dict[str, Any]) -> int:
        return int(re.findall(r"about the number (\d+)", body["messages"][-1]["content"])[0])

    def script(body: dict[str, Any], _: int) -> Any:
        asked.append(item(body))
        return (500, {}) if asked[-1] == asked[0] else reply("Both say it.\nVerdict: A")

    server.script = script
    verdict = run(recipe, tmp_path / "run")
    score = task_of(verdict, "alpacaeval")["scores"]["sdft"]
    assert score["reasons"]["the judge failed"] == 1  # unjudged, and not a loss
    assert score["unjudged"] == 1
    assert score["tied"] + score["errors"] == 11  # who says A in both orders says that they are level
    server.script = lambda body, _: reply("Verdict: tie")
    server.bodies.clear()
    score = task_of(run(recipe, tmp_path / "run"), "alpacaeval")["scores"]["sdft"]
    assert score["unjudged"] == 0
    assert server.bodies
    assert {item(body) for body in server.bodies} == {asked[0]}
    server.bodies.clear()
    run(recipe, tmp_path / "run")
    assert not server.bodies


def test_what_a_run_needs_is_asked_for_before_anything_is_rewritten(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = write(tmp_path / "goals.jsonl", [{"goal": f"Explain {n}"} for n in range(30)] + [{"aim": "x"}])
    key = {
        "backend": "openai",
        "model": {"path": "m", "server": {"url": "http://127.0.0.1:9", "key_env": "NO_SUCH_KEY"}},
    }
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ({"task": "advbench", "path": goals}, {}, "goals.jsonl line 31"),
        ({"task": "arc-easy", "path": goals}, {}, "needs log-likelihoods, which the backend 'fake'"),
        ({"task": "advbench-judged", "path": goals, "n": 3}, {"judge": key}, "NO_SUCH_KEY"),
        ({"task": "demo-lists", "few_shot": 2}, {}, "leave few_shot out"),
        ({"task": "alpacaeval", "path": goals, "samples": 2}, {"judge": key}, "leave samples and k out"),
    ]
    for number, (task, changes, message) in enumerate(cases):
        with pytest.raises(SelfDistillError, match=message):
            run(make_recipe(recipe_of(model, tmp_path, [task], **changes)), tmp_path / str(number))
        assert not (tmp_path / str(number) / "rewrite").exists()


def test_a_stage_that_was_stopped_after_its_settings_changed_is_not_taken_for_done(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = {"seed": {"data": "none"}, "sdft": {"data": "rewrites"}}
    recipe = make_recipe(recipe_of(model, tmp_path, [], arms=arms))
    rewrite(Experiment(tmp_path / "run", recipe))
    path = tmp_path / "run" / "rewrite" / "rewrites.jsonl"
    before = path.read_bytes()
    changed = make_recipe(recipe.model_dump(), ["rewrite.grader=exact", "rewrite.min_accepted=0"])
    with monkeypatch.context() as patched:
        patched.setattr(rewriting_step, "write_lines", _stopped)
        with pytest.raises(KeyboardInterrupt):
            rewrite(Experiment(tmp_path / "run", changed))
    assert path.read_bytes() == before
    rewrite(Experiment(tmp_path / "run", changed))
    assert {row["grade"]["reason"] for row in read_lines(path)} != {
        json.loads(line)["grade"]["reason"] for line in before.splitlines()
    }


def _stopped(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_judged_task_keeps_to_its_own_system_prompt_and_items(model: Path, tmp_path: Path) -> None:
    goals = write(tmp_path / "goals.jsonl", [{"goal": f"Explain harmful thing {n}"} for n in range(20)])
    tasks = [
        {"task": "advbench", "path": goals},
        {"task": "advbench-judged", "name": "judged-under", "path": goals, "system": "Be careful.", "n": 8},
    ]
    verdict = run(
        make_recipe(recipe_of(model, tmp_path, tasks, judge={"model": "any", "backend": "fake"})), tmp_path / "run"
    )
    judged = task_of(verdict, "judged-under")
    assert (judged["answers_of"], judged["n"], judged["system"]) == ("judged-under.answers", 8, "Be careful.")
    assert task_of(verdict, "advbench")["n"] == 20


def test_scores_follow_answers_that_were_asked_again_before_an_interruption(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [{"task": "alpacaeval", "name": name, "path": open_questions(tmp_path), "n": n} for name, n in FIRST]
    judge = {"model": "any", "backend": "fake"}
    recipe = make_recipe(recipe_of(model, tmp_path, tasks, judge=judge, arms={"seed": {"data": "none"}}))
    state = "down"

    class Answering(FakeBackend):
        def generate(self, prompts: Any, sampling: Any, done: Any = ()) -> Any:
            nonlocal state
            for answer in super().generate(prompts, sampling, done):
                if state == "stopped":
                    raise KeyboardInterrupt
                failed = state == "down" and int(answer.id, 16) % 4 == 0
                yield replace(answer, text="", finish="error", error="down", transient=True) if failed else answer
            state = {"up": "stopped"}.get(state, state)

    def opened(name: str, config: Any, adapter: str | None = None, cache: Any = None) -> Any:
        return Answering(config, adapter) if config.path == str(model) else open_backend(name, config, adapter)

    monkeypatch.setattr(evaluation_step, "open_backend", opened)
    found: list[Any] = []
    for folder, state in (("run", "down"), ("run", "up"), ("run", "well"), ("whole", "well")):  # noqa: B007
        try:
            found.append(task_of(evaluate(Experiment(tmp_path / folder, recipe)), "first")["scores"]["seed"])
        except KeyboardInterrupt:
            found.append(None)
    assert found[0]["errors"] > found[2]["errors"]
    assert found[1:] == [None, found[2], found[2]]


def test_arms_can_be_evaluated_before_the_seed(model: Path, tmp_path: Path) -> None:
    experiment = Experiment(tmp_path / "run", make_recipe(recipe_of(model, tmp_path, ["demo-lists", "demo-safety"])))
    train(experiment)
    verdict = evaluate(experiment, arms=["vanilla", "sdft"])
    assert any(note.startswith("Not evaluated yet: seed on") for note in verdict["notes"])
    assert {(row["arm"], row["against"]) for row in verdict["comparisons"]} == {("sdft", "vanilla")}


FIRST = (("first", 30), ("second", 29))


def test_grading_begins_nothing_that_nobody_waits_for() -> None:
    """As when it is interrupted while programs run."""
    begun = 0

    def slow(example: Example, text: str) -> Grade:
        nonlocal begun
        begun += 1
        time.sleep(0.5)
        return Grade("pass", "slow")

    task = replace(get_task("humaneval"), grade=slow)
    items = [Example(f"{n:016x}", (Message("user", "?"),), "!") for n in range(300)]
    with TemporaryDirectory() as folder, RowFile(Path(folder) / "answers.jsonl") as answers:
        for item in items:
            answers.append(Completion(item.id, "!", "stop", 1).to_json())
        graded = grade(task, items, answers)
        next(graded)
        graded.close()
    assert begun <= 3 * (os.cpu_count() or 1)
