"""log.txt of an experiment: what the terminal shows as lines and what libraries warn of, with times; read by nobody."""

import json
import logging
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from support.command import Done
from support.terminal import Terminal

from selfdistill.cli.log_file import end_log, log_to
from selfdistill.cli.show import err, out, say

Command = Callable[..., Done]
RECIPE = {
    "model": "demo", "task": "demo-maths", "data": {"path": "demo-maths", "n": 20}, "gap": False,
    "rewrite": {"backend": "fake", "min_accepted": 0}, "arms": {"seed": {"data": "none"}},
    "evaluate": {"backend": "fake", "tasks": [{"task": "demo-lists", "n": 10}]},
}  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(json.dumps(RECIPE))
    return "r.yaml"


def lines_of(path: Path) -> list[str]:
    """The lines without their times, which are in order."""
    found = [line.partition(" ") for line in path.read_text(encoding="utf-8").splitlines()]
    times = [datetime.fromisoformat(time) for time, _, _ in found]
    assert all(time.tzinfo for time in times)
    assert times == sorted(times)
    return [line for _, _, line in found]


def test_the_lines_of_a_run_and_of_later_commands_are_appended(recipe: str, command: Command) -> None:
    done = command("run", recipe)
    log = Path("runs/r/log.txt")
    first = lines_of(log)
    assert first[0].startswith("selfdistill ")
    assert first[0].endswith(": selfdistill run r.yaml")
    logged = " ".join(" ".join(first).split())
    for line in (done.err + done.out).splitlines():
        if re.search(r"\w", line) and "─" not in line and "━" not in line:
            assert " ".join(line.split()) in logged, line
    before = Path("runs/r/verdict.json").read_bytes(), Path("runs/r/manifest.json").read_bytes()
    again = command("run", recipe)
    assert "Nothing to do" in again.out
    assert lines_of(log)[: len(first)] == first
    assert "Nothing to do" in lines_of(log)[-1]
    log.unlink()
    assert "Nothing to do" in command("run", recipe).out
    assert before == (Path("runs/r/verdict.json").read_bytes(), Path("runs/r/manifest.json").read_bytes())
    assert "log.txt" not in Path("runs/r/manifest.json").read_text()


def test_an_error_is_logged_and_a_refused_start_leaves_nothing(
    recipe: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("run", recipe, "train.lrr=1").code == 2
    assert not Path("runs").exists()
    other = Path("other")
    other.mkdir()
    (other / "mine.txt").touch()
    assert "holds other files" in command("run", recipe, "--dir", "other").said
    assert {path.name for path in other.iterdir()} <= {"mine.txt", "lock"}
    assert command("run", recipe).code == 0
    assert command("run", recipe, "data.n=5").code == 2
    assert any(line.startswith("Error: ") for line in lines_of(Path("runs/r/log.txt")))

    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("of nothing")

    monkeypatch.setattr("selfdistill.pipeline.run", fail)
    with pytest.raises(ZeroDivisionError):
        command("run", recipe)
    assert lines_of(Path("runs/r/log.txt"))[-1] == "ZeroDivisionError: of nothing"


@pytest.mark.parametrize(
    ("asked", "last"),
    [
        (("compare", "demo", "demo"), "Report:"),
        (("gate", "demo", "demo"), "The candidate answers all 8 items as the seed does, to the letter."),
        (("baseline", "demo"), "Next: selfdistill gate demo CANDIDATE"),
    ],
)
def test_comparisons_without_a_recipe_are_logged(
    asked: tuple[str, ...], last: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("evaluate.tasks=[{task: demo-lists, n: 8}]", "evaluate.sampling.max_new_tokens=24", "shift.task=null")
    done = command(*asked, *settings, "--suite", "demo", "--dir", "made")
    found = lines_of(Path("made/log.txt"))
    assert f": selfdistill {shlex.join(asked)} " in found[0], done.said
    assert any(last in line for line in found), found
    assert command(*asked, *settings, "data.n=0", "--suite", "demo", "--dir", "refused").code == 2
    assert not Path("refused/log.txt").exists()


def test_warnings_of_libraries_are_logged_whatever_they_do_with_them(tmp_path: Path) -> None:
    library = logging.getLogger("a.library")
    library.propagate = False
    library.addHandler(logging.NullHandler())
    make, show = logging.getLogRecordFactory(), warnings.showwarning
    log_to(tmp_path, begun="")
    try:
        library.warning("%d rows were %s", 5, "cut")
        library.info("not this")
        library.error("a bad %d", "message")
        with warnings.catch_warnings(record=False):
            warnings.simplefilter("always")
            warnings.warn("old API", FutureWarning, stacklevel=1)
        logging.makeLogRecord({})
        say("lone \ud83d, bell \x07, [red]no markup[/red]")
        err.print("[red]in colour[/red]")
        out.print("")
    finally:
        end_log()
    library.warning("after the end")
    say("after the end")
    found = lines_of(tmp_path / "log.txt")[1:]
    assert found[0] == "WARNING a.library: 5 rows were cut"
    assert found[1].startswith("ERROR a.library: a bad")
    assert re.fullmatch(r"FutureWarning test_log_file\.py:\d+: old API", found[2])
    assert found[3:] == ["lone \\ud83d, bell \\u0007, [red]no markup[/red]", "in colour"]
    assert (logging.getLogRecordFactory(), warnings.showwarning) == (make, show)


def test_a_log_that_can_not_be_written_stops_nothing(recipe: str, command: Command, tmp_path: Path) -> None:
    assert command("run", recipe).code == 0
    log = Path("runs/r/log.txt")
    log.unlink()
    log.mkdir()
    done = command("run", recipe)
    assert (done.code, done.err.count("can't be written (Is a directory); the run goes on without it.")) == (0, 1)


def test_the_live_area_of_a_terminal_is_not_logged(recipe: str, tmp_path: Path) -> None:
    terminal = Terminal(24, 80)
    terminal.run([sys.executable, "-m", "selfdistill", "run", recipe], tmp_path)
    found = lines_of(tmp_path / "runs/r/log.txt")
    assert terminal.most_steps == 1
    assert not any(line.startswith("step ") or "\x1b" in line for line in found)
    assert sum("evaluate seed demo-lists" in line for line in found) == 1
