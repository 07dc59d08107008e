"""`--json`: one document on stdout, with the keys that docs/json.md lists, and the exit codes of the plain command."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done

from selfdistill import errors

Command = Callable[..., Done]
PAGE = (Path(__file__).parents[1] / "docs" / "json.md").read_text(encoding="utf-8")
RECIPE: dict[str, Any] = {
    "model": "demo", "task": "demo-maths", "data": {"path": "demo-maths", "n": 20}, "gap": False,
    "rewrite": {"backend": "fake", "min_accepted": 0}, "arms": {"seed": {"data": "none"}},
    "evaluate": {"backend": "fake", "tasks": [{"task": "demo-lists", "n": 10}]},
}  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(json.dumps(RECIPE))
    return "r.yaml"


def documented(heading: str) -> set[str]:
    """The keys in the table below a heading of the page."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(heading))
    return set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))


def document(done: Done) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(done.out)
    assert done.out == json.dumps(value, indent=2) + "\n", "nothing else on stdout"
    return value


def test_run_and_report(recipe: str, command: Command) -> None:
    done = command("run", recipe, "--json")
    value = document(done)
    assert done.code == 0
    assert "evaluate seed demo-lists: 10/10" in done.err, "progress is on stderr"
    assert value.keys() == documented("run")
    assert value["changed"]
    assert value["verdict"] == json.loads(Path("runs/r/verdict.json").read_text())
    assert value["verdict"].keys() == documented("verdict")
    again = document(command("run", recipe, "--json"))
    assert again == {**value, "changed": False}
    reported = document(command("report", "runs/r", "--json", "--figures", "figures"))
    assert reported.keys() == documented("report")
    (own,) = reported["experiments"]
    assert own.keys() - {"figures", "unfinished"} == value.keys() - {"changed"}
    assert {Path(name) for name in own["figures"]} == set(Path("figures").iterdir())
    assert own["verdict"] == value["verdict"]


def test_two_reports_are_compared(recipe: str, command: Command) -> None:
    for name in ("a", "b"):
        assert command("run", recipe, "--dir", name).code == 0
    value = document(command("report", "a", "b", "--json", "--out", "both.html"))
    assert [own["report"] for own in value["experiments"]] == ["a/report.html", "b/report.html"]
    assert value["comparison"] == {"page": "both.html", "not_compared": []}
    assert Path("both.html").is_file()


def test_check_names_what_is_missing(recipe: str, command: Command) -> None:
    done = command("check", recipe, "--no-probe", "--json")
    value = document(done)
    assert (done.code, value["ready"], value["next"]) == (0, True, "selfdistill run r.yaml")
    assert value.keys() | value["experiments"][0].keys() == documented("check")
    wrong = command("check", recipe, "--no-probe", "--json", "model.path=./none")
    found = document(wrong)
    assert (wrong.code, found["ready"], found["next"]) == (2, False, None)
    assert "none" in found["experiments"][0]["missing"][0]
    plain = command("check", recipe, "--no-probe", "model.path=./none")
    assert plain.code == 2
    assert found["experiments"][0]["missing"][0] in plain.out.replace("\n", " ").replace("  ", " ")


def test_list_has_every_table(command: Command) -> None:
    value = document(command("list", "--json"))
    assert value.keys() == documented("list")
    tasks = {task["name"]: task for task in value["tasks"]}
    assert tasks["humaneval"]["needs"] == ["a sandbox"]
    plain = command("list").out
    assert all(name in plain for key in value for name in (value[key] if key != "tasks" else tasks))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "none.yaml", "--json"], 2, "There is no recipe at none.yaml"),
        (["run", "--json", "r.yaml", "train.lrr=1"], 2, "unknown key `train.lrr`"),
        (["report", "nothing", "--json"], 2, "holds no experiment"),
        (["run", "--json"], 2, "Missing argument"),
        (["list", "--json", "--none"], 2, "No such option"),
    ],
)
def test_an_error_is_a_document_too(recipe: str, command: Command, arguments: list[str], code: int, words: str) -> None:
    done = command(*arguments)
    value = document(done)
    assert (done.code, value.keys()) == (code, {"error"})
    assert words in value["error"]
    plain = command(*(word for word in arguments if word != "--json"))
    assert (plain.code, plain.out) == (code, "")


def test_an_error_that_nobody_expected_is_a_document_and_a_traceback(
    recipe: str, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("of nothing")

    monkeypatch.setattr("selfdistill.pipeline.run", fail)
    with pytest.raises(ZeroDivisionError):
        command("run", recipe, "--json")
    assert json.loads(capsys.readouterr().out) == {"error": "ZeroDivisionError: of nothing"}
    assert issubclass(errors.RecipeError, errors.SelfDistillError)


def test_what_libraries_and_processes_print_stays_out_of_the_document(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom selfdistill.cli.documents import only_json, print_json\n"
        "with only_json(True):\n"
        "    print('a library'); os.write(1, b'C code\\n'); os.system('echo a process')\n"
        "print_json({'a': 'ü'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})  # fmt: skip
    assert json.loads(done.stdout) == {"a": "ü"}
    assert set(done.stderr.split("\n")) == {"a library", "C code", "a process", ""}
