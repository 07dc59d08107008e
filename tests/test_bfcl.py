"""BFCL's splits, on a few rows of our own in the form of its files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done

from selfdistill.errors import DataError
from selfdistill.recipe import DataConfig
from selfdistill.tasks import get_task
from selfdistill.types import Example, FunctionCall, write_reply

WEATHER = {
    "name": "weather.get",
    "description": "The weather of a city.",
    "parameters": {
        "type": "dict",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "above": {"type": "float"},
            "hours": {"type": "array", "items": {"type": "float"}},
            "place": {"type": "dict", "properties": {"street": {"type": "string"}}},
            "stops": {"type": "array", "items": {"type": "dict"}},
            "note": {"type": "any"},
        },
        "required": ["city"],
    },
}
CLOCK = {"name": "clock", "description": "The time.", "parameters": {"type": "dict", "properties": {}, "required": []}}
LIMA = {
    "weather.get": {
        "city": ["Lima", "Lima, Peru"],
        "days": [3],
        "above": ["", 19.5],
        "hours": ["", [6.0, 18.5]],
        "place": ["", {"street": ["Av. 1"], "door": ["", 7]}],
        "stops": ["", [{"name": ["Ica"]}, {"name": ["Cusco", "Qosqo"]}]],
        "note": ["", "dry"],
    }
}
OSLO = {"weather.get": {"city": ["Oslo"], "days": [1, ""]}}


def write_files(folder: Path, split: str, functions: list[Any], possible: list[Any] | None, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    row = {"id": f"{split}_0", "question": [[{"role": "user", "content": "How warm is it?"}]], "function": functions}
    (folder / f"BFCL_v4_{split}.json").write_text(json.dumps(row | more) + "\n", encoding="utf-8")
    if possible is not None:
        (folder / "possible_answer").mkdir(exist_ok=True)
        row = {"id": f"{split}_0", "ground_truth": possible}
        (folder / "possible_answer" / f"BFCL_v4_{split}.json").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return folder


def item(task: str, folder: Path) -> Example:
    (conversation,) = get_task(task).load(DataConfig(path=str(folder)))
    (example,) = get_task(task).items(conversation)
    return example


def graded(folder: Path, possible: list[Any], *calls: dict[str, Any], name: str = "weather.get") -> str:
    example = item("bfcl-parallel", write_files(folder, "parallel", [WEATHER, CLOCK], possible))
    return (
        get_task("bfcl-parallel").grade(example, write_reply("", [FunctionCall(name, each) for each in calls])).reason
    )


ASKED = {"city": "Lima", "days": 3}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (ASKED, "allowed calls"),
        ({"city": "LIMA Peru", "days": 3}, "allowed calls"),
        ({**ASKED, "above": 19.5, "note": "Dry"}, "allowed calls"),
        ({**ASKED, "hours": [6.0, 18.5]}, "allowed calls"),
        ({**ASKED, "place": {"street": "av 1"}}, "allowed calls"),
        ({**ASKED, "place": {"street": "Av. 1", "door": 7}}, "allowed calls"),
        ({**ASKED, "stops": [{"name": "Ica"}, {"name": "qosqo"}]}, "allowed calls"),
        ({"city": "Lima"}, "an argument is missing"),
        ({"days": 3}, "a required argument is missing"),
        ({"city": "Lima", "days": 4}, "arguments differ"),
        ({"city": "Lima", "days": 3.0}, "arguments differ"),
        ({"city": "Lima", "days": True}, "arguments differ"),
        ({**ASKED, "hours": [18.5, 6.0]}, "arguments differ"),
        ({**ASKED, "hours": [6, 18]}, "arguments differ"),
        ({**ASKED, "above": 10**400}, "arguments differ"),
        ({**ASKED, "place": {"door": 7}}, "arguments differ"),
        ({**ASKED, "place": {"street": "Av. 1", "floor": 1}}, "arguments differ"),
        ({**ASKED, "stops": [{"name": "Ica"}]}, "arguments differ"),
        ({**ASKED, "unit": "c"}, "an argument too many"),
    ],
)
def test_each_argument_has_its_own_allowed_values(tmp_path: Path, arguments: dict[str, Any], reason: str) -> None:
    assert graded(tmp_path, [LIMA], arguments) == reason


def test_parallel_calls_may_come_in_any_order(tmp_path: Path) -> None:
    assert graded(tmp_path, [LIMA, OSLO], {"city": "Oslo"}, ASKED) == "allowed calls"
    assert graded(tmp_path, [LIMA, OSLO], ASKED) == "other number of calls"
    assert graded(tmp_path, [LIMA], ASKED, ASKED) == "other number of calls"
    assert graded(tmp_path, [LIMA, OSLO], ASKED, ASKED) == "arguments differ"
    assert graded(tmp_path, [LIMA], ASKED, name="clock") == "function differs"
    assert graded(tmp_path, [LIMA]) == "calls no tool"


def test_an_item_holds_tools_and_an_allowed_call(tmp_path: Path) -> None:
    """The newest version of a split's file is read, and not a file of a longer name."""
    folder = write_files(tmp_path, "simple_python", [WEATHER], [LIMA])
    (folder / "BFCL_v4_live_simple.json").write_text("no rows", encoding="utf-8")
    (folder / "BFCL_v3_simple.json").write_text("no rows", encoding="utf-8")
    example = item("bfcl-simple", folder)
    assert example.instruction == "How warm is it?"
    schema = example.tools[0]["function"]["parameters"]
    assert (schema["type"], schema["properties"]["hours"]) == ("object", {"type": "array", "items": {"type": "number"}})
    assert [dict(call.arguments) for call in example.calls] == [ASKED]
    assert get_task("bfcl-simple").grade(example, example.reference).passed
    assert get_task("bfcl-simple").grade(example, "<tool_call>\n{").reason == "a tool call that never closes"


def test_the_reference_has_what_is_required(tmp_path: Path) -> None:
    """Even if the allowed values let it be left out, as in a few of BFCL's rows: its checker refuses that."""
    possible = {"weather.get": {"city": ["", "Lima"], "days": ["", 3]}}
    example = item("bfcl-multiple", write_files(tmp_path, "multiple", [CLOCK, WEATHER], [possible]))
    assert [dict(call.arguments) for call in example.calls] == [{"city": "Lima"}]
    grade = get_task("bfcl-multiple").grade
    assert grade(example, example.reference).passed
    assert not grade(example, write_reply("", [FunctionCall("weather.get", {})])).passed


def test_over_calling_is_counted_on_irrelevance(tmp_path: Path) -> None:
    example = item("bfcl-irrelevance", write_files(tmp_path, "irrelevance", [CLOCK], None))
    grade = get_task("bfcl-irrelevance").grade
    assert grade(example, "I can't look that up.").passed
    for text in (write_reply("", [FunctionCall("clock", {})]), write_reply("", [FunctionCall("f", {})]), "<tool_call>"):
        assert grade(example, text).reason == "calls a tool, and none fits"


def test_what_is_not_there_or_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no file BFCL_v4_multiple\.json"):
        item("bfcl-multiple", tmp_path)
    with pytest.raises(DataError, match="which holds the allowed calls"):
        item("bfcl-multiple", write_files(tmp_path, "multiple", [CLOCK], None))
    (tmp_path / "possible_answer").mkdir()
    (tmp_path / "possible_answer" / "BFCL_v4_multiple.json").write_text('{"id": "other", "ground_truth": []}\n')
    with pytest.raises(DataError, match="possible_answer has no row multiple_0"):
        item("bfcl-multiple", tmp_path)
    turns = [[{"role": "user", "content": "A"}], [{"role": "user", "content": "B"}]]
    with pytest.raises(DataError, match="the question has several turns"):
        item("bfcl-multiple", write_files(tmp_path, "multiple", [CLOCK], [], question=turns))
    with pytest.raises(DataError, match=r"The hub dataset no/such can't be loaded .*bfcl_eval/data"):
        item("bfcl-multiple", Path("no/such"))
    with pytest.raises(DataError, match=r"There is no folder /no/such; set the task's path"):
        item("bfcl-multiple", Path("/no/such"))


def test_a_hub_name_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        asked.append((name, repo_type, *allow_patterns))
        return str(write_files(tmp_path, "multiple", [WEATHER], [LIMA]))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert item("bfcl-multiple", Path("org/bfcl")).calls
    assert asked == [("org/bfcl", "dataset", "BFCL_v*_multiple.json", "possible_answer/BFCL_v*_multiple.json")]


def test_the_splits_are_tasks_of_a_recipe(tmp_path: Path, command: Callable[..., Done]) -> None:
    """And a template that ignores their tools stops the run before anything is trained."""
    folder = write_files(tmp_path / "bfcl", "simple_python", [WEATHER], [LIMA])
    write_files(folder, "irrelevance", [CLOCK], None)
    (tmp_path / "d.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n' * 4, encoding="utf-8")
    tasks = ", ".join(f"{{task: {name}, path: {folder}}}" for name in ("bfcl-simple", "bfcl-irrelevance"))
    lines = [
        "model: {path: demo}",
        f"data: {{path: {tmp_path / 'd.jsonl'}}}",
        "arms: {seed: {data: none}, vanilla: {data: original}}",
        f"evaluate: {{backend: fake, tasks: [{tasks}]}}",
    ]
    (tmp_path / "r.yaml").write_text("\n".join(lines), encoding="utf-8")
    for name in ("check", "run"):
        done = command(name, tmp_path / "r.yaml", *(["--no-probe"] if name == "check" else ["--dir", tmp_path / "run"]))
        assert done.code == 2
        assert "leaves out the definitions of tools, and the data has tools; set model.tools_in to system" in done.said
    assert not (tmp_path / "run" / "arms" / "vanilla" / "model").exists()
    alone = ["arms={seed: {data: none}}", "model.tools_in=system", "shift.kl_prompts=0"]
    done = command("run", tmp_path / "r.yaml", "--dir", tmp_path / "alone", *alone)
    assert done.code == 0, done.said
    scores = tmp_path / "alone" / "arms" / "seed" / "evaluate"
    assert json.loads((scores / "bfcl-irrelevance" / "score.json").read_text())["n"] == 1
    assert json.loads((scores / "bfcl-simple" / "score.json").read_text())["n"] == 1
