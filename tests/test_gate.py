"""The gate on models that were made elsewhere, through the command: exit codes, files, baselines, and bad input."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support.command import Done
from support.demo import make_adapter
from support.rows import read_rows
from support.server import RESET, Server, refusal, reply
from support.tiny import tiny_model

from selfdistill import make_recipe, run
from selfdistill.demo import SEED
from selfdistill.measure.comparisons import Pair, compare
from selfdistill.models.loading import load_model
from selfdistill.pipeline import gate as run_gate
from selfdistill.pipeline.gate import changes_json
from selfdistill.pipeline.gate_recipe import comparison_recipe, gate_design, model_names
from selfdistill.recipe import ModelConfig
from selfdistill.reports.gate_files import failed_document, gate_markdown
from selfdistill.types import content_id

Command = Callable[..., Done]
TWO = "evaluate.tasks=[{task: demo-lists, n: 60}, {task: demo-maths-other, n: 60}]"
FAST = (TWO, "evaluate.sampling.max_new_tokens=48", "shift.task=null", "model.dtype=float32")
DEMO = ("--suite", "demo")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_adapter(tmp_path_factory.mktemp("broken"), 16, "all-linear")


def test_a_model_against_itself_passes_and_is_named(command: Command) -> None:
    done = command("gate", "demo", "demo", *FAST, *DEMO, "--json", "--junit", "a.xml", "--markdown", "a.md")
    found = json.loads(done.out)
    assert (done.code, found["exit_code"], found["outcome"]) == (0, 0, "passed"), done.said
    assert found["same_answers"]["same"] == found["same_answers"]["of"] > 0
    assert "as the seed does, to the letter" in done.said
    suite = ElementTree.parse("a.xml").getroot()
    assert (suite.get("failures"), suite.get("errors"), suite.get("tests")) == ("0", "0", "3")
    assert "passed" in Path("a.md").read_text()
    page = next(Path("runs").glob("gate-*/report.html")).read_text()
    assert "The gate: passed" in page
    assert found["reused"] == {}


def test_a_broken_adapter_has_forgotten_and_the_collapse_is_found_early(command: Command, broken: str) -> None:
    done = command("gate", "demo", broken, *FAST, *DEMO, "--json", "--junit", "a.xml", "--markdown", "a.md")
    found = json.loads(done.out)
    assert (done.code, found["outcome"]) == (1, "forgot"), done.said
    assert (found["looks"] != found["looks_planned"], found["ended_early"]) == (True, True)
    assert "the tests are corrected over the looks" in done.said
    assert f"n = {found['skills'][0]['n']}" in done.said
    assert {row["task"] for row in found["examples"]} == set(found["lost"])
    lost = next(row for row in found["skills"] if row["skill"] == found["lost"][0])
    assert lost["items"]["right_to_wrong"] - lost["items"]["wrong_to_right"] == pytest.approx(-lost["difference"])
    assert "is an adapter on" in done.said
    assert ElementTree.parse("a.xml").getroot().get("failures") == str(1 + len(found["lost"]))
    again = command("gate", "demo", broken, *FAST, *DEMO)
    assert again.code == 1
    assert "loading" not in again.said


def test_the_keys_of_the_json_are_those_that_the_page_lists(command: Command) -> None:
    done = command("gate", "demo", "demo", *FAST, *DEMO, "--json")
    found = json.loads(done.out)
    table = (Path(__file__).parents[1] / "docs" / "gate.md").read_text().split("## `--json`")[1].split("\n## ")[0]
    for key in (*found, *found["skills"][0], *found["mean"]):
        assert f"`{key}`" in table or key in table, key


def test_a_baseline_file_takes_the_place_of_the_seed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("seed").resolve()
    shutil.copytree(SEED, folder)
    assert command("baseline", folder, *FAST[:2], FAST[3], *DEMO, "--to", "b.json.gz").code == 0
    shutil.rmtree(folder)
    done = command("gate", folder, "demo", *FAST, *DEMO, "--baseline", "b.json.gz", "--json")
    found = json.loads(done.out)
    assert done.code == 0, done.said
    assert found["same_answers"]["same"] == found["same_answers"]["of"] > 0
    assert "the shift from it is not measured" in done.said
    assert found["regraded"] == 0
    for change, reason in (
        ("evaluate.sampling.max_new_tokens=32", "sampling of demo-lists was"),
        ("model.chat_template=alpaca", "model.chat_template was chat"),
        ("evaluate.tasks=[{task: demo-lists, n: 50}]", "demo-lists has other items"),
        ("evaluate.tasks=[{task: demo-code, n: 50}]", "it has no answers to demo-code"),
    ):
        refused = command("gate", folder, "demo", *FAST, change, *DEMO, "--baseline", "b.json.gz")
        assert (refused.code, reason in refused.said) == (2, True), refused.said
    size = command("gate", folder, "demo", *FAST, *DEMO, "--size", "full", "--baseline", "b.json.gz")
    assert size.code == 2
    assert "holds answers to the suite demo, version 1, quick" in size.said
    other = command("gate", tiny_model(Path("tiny")), "demo", *FAST, *DEMO, "--baseline", "b.json.gz")
    assert other.code == 2
    assert "its seed is" in other.said
    hub = command("gate", "org/another", "demo", *FAST, *DEMO, "--baseline", "b.json.gz")
    assert (hub.code, "and this one is org/another" in hub.said) == (2, True), hub.said
    quantised = command(
        "gate", folder, "demo", *FAST, "model.engine.quantization=fp8", *DEMO, "--baseline", "b.json.gz"
    )
    assert (quantised.code, "model.engine.quantization was None" in quantised.said) == (2, True), quantised.said


def test_a_baseline_of_another_endpoint_or_of_other_reasoning_is_refused(command: Command, server: Server) -> None:
    settings = ("evaluate.tasks=[{task: demo-lists, n: 8}]", *FAST[1:3])
    assert command("baseline", f"{server.url}#theirs", *settings, *DEMO, "--to", "b.json").code == 0
    for name, change, reason in (
        ("other", "model.server.retries=1", f"its seed is {server.url}#theirs, and this one is {server.url}#other"),
        ("theirs", "model.reasoning=off", "model.reasoning was None, and is off"),
    ):
        done = command("gate", f"{server.url}#{name}", "demo", *settings, change, *DEMO, "--baseline", "b.json")
        assert (done.code, reason in done.said) == (2, True), done.said
    assert len(server.bodies) == 8


def test_an_edited_baseline_is_refused(command: Command) -> None:
    assert command("baseline", "demo", *FAST[:2], FAST[3], *DEMO, "--to", "b.json").code == 0
    text = Path("b.json").read_text()
    assert '"passed"' in text
    Path("b.json").write_text(text.replace('"passed"', '"failed"', 1))
    done = command("gate", "demo", "demo", *FAST, *DEMO, "--baseline", "b.json", "--json", "--junit", "a.xml")
    assert done.code == 2
    assert "was edited or damaged" in done.said
    assert json.loads(done.out)["outcome"] == "not run"
    assert ElementTree.parse("a.xml").getroot().get("errors") == "1"
    Path("b.json").write_text("{")
    assert "not a readable baseline file" in command("gate", "demo", "demo", *DEMO, "--baseline", "b.json").said
    assert "There is no baseline file" in command("gate", "demo", "demo", *DEMO, "--baseline", "c.json").said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("demo", "demo", "--suite", "nope"), "There is no suite 'nope'; choose probes, public, demo."),
        (("demo", "demo", *DEMO, "--size", "huge"), "There is no size 'huge'"),
        (("demo", "demo", *DEMO, "--margin", "0"), "--margin is a share from 0.005 to below 1"),
        (("demo", "demo", *DEMO, "--margin", "5"), "write 0.05 for 5 points, not 5."),
        (("demo", "demo", *DEMO, "evaluate.margin=0.05"), "write 5 for 5 points, not 0.05"),
        (("demo", "http://127.0.0.1:1/v1", *DEMO), "names no model; write URL#NAME"),
        (("demo", "./nothing", *DEMO), "There is no model folder"),
        (("demo", "demo", *DEMO, "--target", "no-task"), "is neither a file nor a task"),
    ],
)
def test_bad_input_is_one_sentence_and_exits_with_2(command: Command, arguments: Any, reason: str) -> None:
    done = command("gate", *arguments)
    assert (done.code, reason in done.said) == (2, True), done.said


def test_an_interruption_is_neither_a_verdict_nor_an_error(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("selfdistill.pipeline.gate", interrupt)
    done = command("gate", "demo", "demo", *DEMO, "--json", "--junit", "a.xml")
    again = "selfdistill gate demo demo --suite demo --json --junit a.xml"
    stopped = f"Stopped. This command has saved nothing. To run it again: {again}"
    assert (done.code, json.loads(done.out), done.err) == (130, {"error": stopped}, f"{stopped}\n")
    assert ElementTree.parse("a.xml").getroot().get("errors") == "1"


def test_a_crash_is_no_verdict_and_ends_in_2(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("a fault of the program")

    monkeypatch.setattr("selfdistill.pipeline.gate", crash)
    done = command("gate", "demo", "demo", *DEMO, "--json", "--junit", "a.xml")
    found = json.loads(done.out)
    assert (done.code, found["exit_code"], found["outcome"]) == (2, 2, "not run")
    assert "ZeroDivisionError: a fault of the program" in found["sentence"]
    assert "Traceback" in done.err
    assert ElementTree.parse("a.xml").getroot().get("errors") == "1"
    assert command("gate", "demo", "demo", *DEMO).code == 2
    stopped = gate_markdown(failed_document("Go on: selfdistill run r.yaml 'evaluate.tasks=[{task: a}]'"))
    assert "````text\nGo on: selfdistill run r.yaml 'evaluate.tasks=[{task: a}]'\n````" in stopped
    wrong = command("gate", "demo", "demo", "--suite", "nope", "--json")
    assert (wrong.code, json.loads(wrong.out)["exit_code"]) == (2, 2)
    assert "There is no suite" in wrong.err


def test_an_adapter_for_another_base_is_refused(command: Command, broken: str) -> None:
    other = Path("other")
    shutil.copytree(broken, other)
    settings = json.loads((other / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "org/another-model"
    (other / "adapter_config.json").write_text(json.dumps(settings))
    done = command("gate", "demo", other, *FAST, *DEMO)
    assert done.code == 2
    assert "was trained on org/another-model, and the seed is demo" in done.said


def test_another_tokenizer_and_template_are_allowed_and_named(command: Command) -> None:
    model = tiny_model(Path("tiny").resolve())
    done = command("gate", "demo", model, *FAST[:2], "shift.task=demo-lists", *DEMO, "--json")
    assert done.code == 1, done.said
    notes = " ".join(json.loads(done.out)["notes"])
    assert "has another tokenizer than the seed" in notes
    assert "has another chat template than the seed" in notes
    folder = next(Path("runs").glob("gate-*"))
    shift = json.loads((folder / "shift" / "candidate.json").read_text())
    assert "kl" not in shift["metrics"]
    assert "bleu4" in shift["metrics"]
    assert "another tokenizer" in shift["missing"]["kl"]


def test_an_endpoint_that_dies_half_way_is_resumed(command: Command, server: Server) -> None:
    alive = 20  # after the first task, in the second

    def script(body: dict[str, Any], number: int) -> Any:
        return reply("5") if number < alive else RESET

    server.script = script
    candidate = f"{server.url}#their-model"
    settings = (*FAST, "arms.candidate.checkpoint.server.retries=0", "arms.candidate.checkpoint.server.concurrency=4")
    done = command("gate", "demo", candidate, *settings, *DEMO)
    assert done.code == 2, done.said
    server.script = lambda body, number: reply("5")
    asked = len(server.bodies)
    done = command("gate", "demo", candidate, *settings, *DEMO, "--json")
    found = json.loads(done.out)
    assert done.code == 1, done.said
    assert "is behind an endpoint" in done.said
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    assert found["reused"] == {"candidate": today}
    assert f"Answers of candidate from {today} are used again" in done.said
    answered = sum(row["n"] for row in found["skills"])
    assert len(server.bodies) - asked < answered


def test_what_the_candidate_cannot_answer_counts_as_wrong_and_is_named(command: Command, server: Server) -> None:
    server.script = lambda body, number: (400, refusal("the prompt is too long")) if number % 3 else reply("5")
    done = command("gate", "demo", f"{server.url}#short", *FAST, *DEMO, "--json")
    found = json.loads(done.out)
    assert done.code == 1, done.said
    assert sum(row["n"] for row in found["skills"]) == len(server.bodies)
    assert sum(found["unanswered"].values()) == sum(number % 3 > 0 for number in range(len(server.bodies)))
    assert "of the candidate failed for good" in done.said
    for row in found["skills"]:
        assert row["candidate"] - row["seed"] == pytest.approx(row["difference"])


def test_the_choosing_items_alone_say_whether_a_probe_is_informative(command: Command, server: Server) -> None:
    settings = ("evaluate.tasks=[{task: probe-json, n: 40}]", "shift.task=null")
    seed = f"{server.url}#theirs"
    assert command("baseline", seed, *settings, "--to", "b.json").code == 0
    content = json.loads(Path("b.json").read_text())
    assert content["tasks"]["probe-json"]["choosing"] == 0
    for score, code, kinds in ((0.0, 2, {"probe-json": "floor"}), (0.5, 3, {})):
        content["tasks"]["probe-json"]["choosing"] = score
        rest = {key: value for key, value in content.items() if key != "digest"}
        Path("b.json").write_text(json.dumps({**rest, "digest": content_id(rest)}))
        more = ("--baseline", "b.json", "--json", "--margin", "0.01")
        done = command("gate", seed, f"{server.url}#x", *settings, *more)
        found = json.loads(done.out)
        assert (found["exit_code"], found["uninformative"]) == (code, kinds)


def test_a_candidate_that_answers_nothing_has_forgotten_and_the_reason_is_named(
    command: Command, server: Server
) -> None:
    server.script = lambda body, number: reply("")
    done = command("gate", "demo", f"{server.url}#mute", *FAST, *DEMO)
    assert done.code == 1, done.said
    assert "answers of the candidate are empty" in done.said


def test_the_target_is_measured_apart_from_the_skills(command: Command, broken: str) -> None:
    tasks = "evaluate.tasks=[{task: demo-lists, n: 40}, {task: demo-maths-other, n: 40}, {task: demo-maths, n: 40}]"
    done = command("gate", "demo", "demo", tasks, *FAST[1:], *DEMO, "--target", "demo-maths", "--json")
    found = json.loads(done.out)
    assert done.code in (0, 3), done.said
    assert [row["task"] for row in found["targets"]] == ["demo-maths"]
    assert "demo-maths" not in {row["skill"] for row in found["skills"]}
    rows = [{"question": f"What is {n} plus {n}?", "answer": f"#### {2 * n}"} for n in range(20)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Listed or not, the target is asked once.
    for tasks in (
        "{task: demo-lists, n: 40}",
        "{task: demo-lists, n: 40}, {task: heldout, name: rows, path: rows.jsonl}",
    ):
        more = (*FAST[1:], *DEMO, "--target", "rows.jsonl", "--json", "--markdown", "a.md")
        done = command("gate", "demo", "demo", f"evaluate.tasks=[{tasks}]", *more)
        found = json.loads(done.out)
        assert [(row["task"], row["word"]) for row in found["targets"]] == [("rows", "can't tell")], done.said
        assert [row["skill"] for row in found["skills"]] == ["demo-lists"]
        shown = next(line for line in Path("a.md").read_text().splitlines() if line.startswith("| target rows | 20 |"))
        assert " to +" in shown
        assert "can't tell" in shown


def test_a_target_is_added_to_the_tasks_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "What is 1 plus 1?", "answer": "#### 2"}\n')
    other = "{task: heldout, path: other.jsonl}"
    for target, tasks, names in (
        ("demo-code", "{task: demo-lists, n: 8}", ["demo-lists", "demo-code"]),
        ("demo-code", "{task: demo-code, n: 8}", ["demo-code"]),
        ("rows.jsonl", other, ["heldout", "rows"]),
        ("rows.jsonl", "{task: heldout, name: mine, path: ./rows.jsonl}", ["mine"]),
    ):
        recipe = comparison_recipe(
            "demo", {"candidate": "demo"}, "probes", "quick", [f"evaluate.tasks=[{tasks}]"], target=target
        )
        assert [entry.name for entry in recipe.evaluate.tasks] == names


def test_several_models_are_compared_on_one_page(command: Command, broken: str) -> None:
    done = command("compare", "demo", broken, "demo", *FAST, *DEMO)
    assert done.code == 0, done.said
    folder = next(Path("runs").glob("compare-*"))
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["arms"] == ["seed", Path(broken).name, "demo"]
    words = {row["arm"]: row["word"] for row in verdict["comparisons"] if row["task"] == "demo-lists"}
    assert words[Path(broken).name] == "forgot"
    assert "Missing so far" not in (folder / "report.html").read_text()
    assert f"{Path(broken).name} = {broken}" in done.said
    assert "needs a seed and at least one candidate" in command("compare", "demo", "a.b=1", *DEMO).said


def test_models_are_named_by_the_parts_in_which_their_paths_differ() -> None:
    for models, names in (
        (["runs/a/arms/vanilla/model", "runs/a/arms/sdft/model"], ["vanilla", "sdft"]),
        (["a/checkpoint-8", "b/checkpoint-8/", "c"], ["a-checkpoint-8", "b-checkpoint-8", "c"]),
        (["a/arms/x/model", "a/arms/y/model", "b/arms/x/model"], ["a-x", "y", "b-x"]),
        (["org/it", "it"], ["org-it", "it"]),
        (["runs/a/arms/sdft/model"], ["sdft"]),
        (["http://localhost:1/v1#model", "seed"], ["model", "seed-candidate"]),
        (["demo", "demo", "./demo"], ["demo", "demo-2", "demo-3"]),
    ):
        assert model_names(models) == dict(zip(names, models, strict=True))


def test_the_shift_is_measured_on_a_task_that_is_asked(command: Command) -> None:
    def made(*changes: str, target: str | None = None) -> Any:
        return comparison_recipe("demo", {"candidate": "demo"}, "probes", "quick", changes, target=target)

    tasks = "evaluate.tasks=[{task: demo-lists, n: 8}, {task: demo-maths, n: 8}]"
    assert made().shift.task == "probe-instructions"
    assert made(tasks).shift.task == "demo-lists"
    assert made(tasks, target="demo-maths").shift.task == "demo-maths"
    assert made(tasks, "shift.task=null").shift.task is None
    none = made("evaluate.tasks=[{task: mmlu, n: 8}]")
    assert (none.shift.task, "the shift from the seed is not measured" in none.note) == (None, True)
    done = command("compare", "demo", "demo", tasks, FAST[1], FAST[3], "shift.kl_prompts=2")
    assert done.code == 0, done.said
    shift = json.loads(next(Path("runs").glob("compare-demo-*/shift/demo.json")).read_text())
    assert shift["source"] == "demo-lists"


def test_the_loss_on_a_file_of_rows_is_not_called_held_out(command: Command, broken: str) -> None:
    rows = [{"prompt": f"Tell me about {n}.", "response": f"The number {n} is small."} for n in range(8)]
    Path("clean.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = "evaluate.tasks=[{task: demo-lists, n: 8}]"
    more = ("--target", "clean.jsonl", "shift.kl_prompts=0", "--json", "--markdown", "a.md")
    done = command("gate", "demo", "demo", tasks, *FAST[1:], *DEMO, *more)
    assert json.loads(done.out)["target_loss"][0]["file"] == "clean.jsonl"
    for said in (done.said, Path("a.md").read_text()):
        assert "A model that was trained on the rows of clean.jsonl has a lower loss on them" in said
        assert "oss on the rows of clean.jsonl" in said
    page = next(Path("runs").glob("gate-*/report.html")).read_text()
    assert ">Loss on the rows of clean.jsonl</h2>" in page
    assert "eld-out loss" not in done.said + page
    assert "| target clean, nats per token | 8 |  |  | 0.000 | 0.000 to 0.000 |  |  | can't tell |" in said


def test_rows_that_the_candidates_own_run_held_out_are_held_out(command: Command) -> None:
    target, own = Path("run/data/heldout.jsonl"), Path("run/arms/sdft/model")
    target.parent.mkdir(parents=True)
    target.write_text(
        "".join(json.dumps({"prompt": f"What is {n}?", "response": "A number."}) + "\n" for n in range(8))
    )
    Path("run/manifest.json").write_text("{}")
    shutil.copytree(SEED, own)
    for candidate, file in ((own, None), ("demo", "heldout.jsonl")):
        tasks = "evaluate.tasks=[{task: demo-lists, n: 8}]"
        more = (*FAST[1:], *DEMO, "--target", target, "shift.kl_prompts=0", "--json")
        done = command("gate", "demo", candidate, tasks, *more)
        assert json.loads(done.out)["target_loss"][0]["file"] == file, done.said
        assert ("by memorisation" in done.said) == bool(file)


def test_what_an_early_end_leaves_open_is_not_decided() -> None:
    same, lost = [{n: float(n % 2) for n in range(8)}] * 2, [dict.fromkeys(range(8), value) for value in (0.0, 1.0)]
    pairs = [Pair(name, "candidate", "seed", [a], [b]) for name, (a, b) in (("open", same), ("lost", lost))]
    rows = compare(pairs, 0.05)
    early, whole = (changes_json(rows, {"ended_early": early}) for early in (True, False))
    assert [row["word"] for row in early] == ["not decided", "forgot"]
    assert [row["word"] for row in whole] == ["can't tell", "forgot"]
    assert (early[0]["needed"], whole[0]["needed"] is None) == (None, False)
    assert changes_json(rows, None, {"open"})[0]["needed"] is None, "more items show no more at a bound"


def test_rows_of_the_target_that_cannot_be_read_are_skipped_on_request(command: Command) -> None:
    rows = [{"question": f"What is {n} plus {n}?", "answer": f"#### {2 * n}"} for n in range(12)]
    rows.append({"question": "", "answer": ""})
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = "evaluate.tasks=[{task: demo-lists, n: 8}, {task: heldout, name: rows, path: rows.jsonl}]"
    arguments = ("gate", "demo", "demo", tasks, *FAST[1:], *DEMO, "--target", "rows.jsonl")
    assert "1 row can't be used" in command(*arguments).said
    done = command(*arguments, "data.on_bad_row=skip")
    assert done.code in (0, 3), done.said
    assert "1 row can't be used" not in done.said
    assert "line 13" in done.said


def test_a_checkpoint_is_an_arm_of_a_recipe_beside_trained_ones(tmp_path: Path, broken: str) -> None:
    recipe = make_recipe(
        {
            "model": {"path": "demo", "dtype": "float32"},
            "task": "demo-maths",
            "data": {"n": 8},
            "train": {"epochs": 1, "batch_size": 4},
            "arms": {
                "seed": {"data": "none"},
                "vanilla": {"data": "original"},
                "theirs": {"checkpoint": broken},
                "full": {"checkpoint": {"path": "demo"}},
            },
            "evaluate": {"tasks": [{"task": "demo-lists", "n": 20}], "sampling": {"max_new_tokens": 32}},
            "shift": {"task": "demo-lists", "kl_prompts": 4},
            "gap": False,
        }
    )
    verdict = run(recipe, tmp_path / "run")
    runs = {row["arm"]: row["runs"] for row in verdict["comparisons"]}
    assert runs == {"vanilla": 1, "theirs": 0, "full": 0}
    assert {name: facts["kind"] for name, facts in verdict["checkpoints"].items()} == {
        "theirs": "adapter",
        "full": "weights",
    }
    assert verdict["shift"]["full"]["metrics"]["kl"]["mean"] == pytest.approx(0, abs=1e-6)
    assert verdict["shift"]["theirs"]["metrics"]["kl"]["mean"] > 0.01
    assert "theirs" not in verdict["training"]
    answers = read_rows(tmp_path / "run" / "arms" / "full" / "evaluate" / "demo-lists" / "answers.jsonl")
    assert answers == read_rows(tmp_path / "run" / "arms" / "seed" / "evaluate" / "demo-lists" / "answers.jsonl")


def test_a_changed_checkpoint_has_another_identity(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SEED, folder)
    recipe = comparison_recipe("demo", {"candidate": str(folder)}, "demo", "quick", FAST)
    design = gate_design("demo", "quick", False, None, None)
    run_gate(recipe, tmp_path / "run", design)
    model = load_model(ModelConfig(path=str(folder), dtype="float32", device="cpu"))
    model.get_input_embeddings().weight.data[5] += 1
    model.save_pretrained(folder)
    with pytest.raises(Exception, match=r"settings for answer/candidate/demo-lists: arms\.candidate\.checkpoint"):
        run_gate(recipe, tmp_path / "run", design)
