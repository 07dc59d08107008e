"""What is said of long work: the time left is true for whoever resumes, loads a model first, or works in batches."""

import json
import re
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.terminal import Terminal

from selfdistill.backends.batches import TokenRow, batches
from selfdistill.cli import progress as module
from selfdistill.cli.progress import show_progress
from selfdistill.types import WHOLE

Step = tuple[float, int]  # seconds, and how many rows are done then


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the time is, `now`."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def in_batches(size: int, every: float, total: int, done: int = 0, loading: float = 0.0) -> Iterator[Step]:
    """The reports of an engine that loads a model and then gives `size` rows at once every so many seconds."""
    yield 0.0, done
    at = loading
    for first in range(done, total, size):
        at += every
        for row in range(first, min(first + size, total)):
            yield at, row + 1


def lines_of(work: Iterator[Step], total: int, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> list[str]:
    begun = clock.now
    with show_progress() as progress:
        for at, done in work:
            clock.now = begun + at
            progress("rewrite", done, total)
    return capsys.readouterr().err.splitlines()


def ends(lines: list[str]) -> list[int]:
    """When the work ends by each line that says it: what it took, and the seconds left."""
    told = [re.fullmatch(r"rewrite: \d+/\d+ \((\d+) s, (\d+) s left\)", line) for line in lines]
    return [int(match[1]) + int(match[2]) for match in told if match]


@pytest.mark.parametrize(
    ("size", "every", "done", "loading"),
    [
        (1, 0.05, 0, 0.0),
        (1, 0.05, 0, 120.0),  # a large model
        (1, 0.05, 18_000, 0.0),  # resumed
        (64, 20.0, 18_000, 60.0),
        (500, 45.0, 0, 30.0),
        (7, 0.4, 100, 5.0),
    ],
)
def test_the_time_left_is_that_of_what_is_left(
    size: int, every: float, done: int, loading: float, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    total = 20_000
    lines = lines_of(in_batches(size, every, total, done, loading), total, clock, capsys)
    true = loading + every * -(-(total - done) // size)
    assert not any(line.startswith("rewrite: 0/") for line in lines)
    assert lines[-1] == f"rewrite: {total}/{total} ({true:.0f} s)"
    assert len(ends(lines)) >= 5
    assert ends(lines) == pytest.approx([true] * len(ends(lines)), rel=0.02, abs=every)


def slow_items(items: int, last: int, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines while `items` of five items take a minute each, and the next one takes `last` seconds or more."""
    with show_progress() as progress:
        for item in range(items + 1):
            progress("rewrite", item, 5)
            for _ in range(60 if item < items else last):
                clock.now += 1
                progress.repeat()
    return capsys.readouterr().err.splitlines()


def test_the_time_left_of_slow_items_is_never_nothing(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last item takes longer than the others: two minutes, then more."""
    lines = slow_items(4, 180, clock, capsys)
    assert lines[12:29] == [
        f"rewrite: {(took - 1) // 60}/5 ({took} s, {300 - took} s left)" for took in range(130, 300, 10)
    ]
    assert lines[29:35] == [f"rewrite: 4/5 ({took} s, less than a minute left)" for took in range(300, 360, 10)]
    assert lines[35:] == [f"rewrite: 4/5 ({took} s)" for took in range(360, 430, 10)], "it was not true"


def test_an_item_that_is_late_does_not_use_up_the_time_of_the_others(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = slow_items(2, 300, clock, capsys)
    assert lines[17:] == [f"rewrite: 2/5 ({took} s, 120 s left)" for took in range(180, 430, 10)]


def test_nothing_is_said_of_the_time_left_before_there_is_a_pace(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = iter([(0.0, 900), (300.0, 901), (303.0, 902), (304.0, 903)])
    assert lines_of(steps, 1000, clock, capsys) == ["rewrite: 901/1000 (300 s)", "rewrite: 903/1000 (304 s)"]


def test_a_week_makes_a_log_that_one_can_open(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    rows = 7 * 24 * 360
    lines = lines_of(in_batches(1, 10.0, rows), rows, clock, capsys)
    assert sum(len(line) + 1 for line in lines) < 600_000
    assert len(lines) > 7 * 24 * 50  # and yet says something about every minute
    assert lines[1:3] == [f"rewrite: {n}/{rows} ({10 * n} s, {10 * (rows - n)} s left)" for n in (2, 3)]


def test_a_note_says_what_is_done_before_the_first_row(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with show_progress() as progress:
        progress("rewrite", 0, 40)
        progress("rewrite", 0, 40, "loading the model")
        for second in range(1, 21):
            clock.now = 1000.0 + second
            progress("rewrite", 0, 40, f"{100 * second:,} tokens")
        clock.now = 1030.0
        progress("rewrite", 10, 40)
    assert capsys.readouterr().err.splitlines() == [
        "rewrite: 1,000 tokens (10 s)",
        "rewrite: 2,000 tokens (20 s)",
        "rewrite: 10/40 (30 s)",
    ]


def test_silent_work_is_shown_with_its_time(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    lines = module.Display(lines=True)
    lines.repeat()
    lines("train sdft", 0, 0, "loading the model")
    for clock.now in (1001.0, 1009.0, 1010.0, 1019.0, 1020.0):
        lines.repeat()
    lines("train sdft", 9, 9)
    lines("train sdft", 9, 9)
    clock.now = 1100.0
    lines.repeat()
    assert capsys.readouterr().err.splitlines() == [
        "train sdft: loading the model (10 s)",
        "train sdft: loading the model (20 s)",
        "train sdft: 9/9 (20 s)",
    ]


def test_a_short_stage_is_one_line(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress() as progress:
        progress("data", 0, 0)
        for label in ("data, counting", "data, near duplicates", "evaluate seed gsm8k"):
            for done in range(40):
                clock.now += 0.1
                progress(label, done, 40)
            progress(label, 40, 40)
        progress("shift sdft", 0, 0)
        clock.now += 3
    assert capsys.readouterr().err.splitlines() == [
        "data, counting: 40/40 (4 s)",
        "evaluate seed gsm8k: 40/40 (4 s)",
        "shift sdft (3 s)",
    ]


def test_work_of_which_the_end_is_not_known_is_counted(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with show_progress() as progress:
        for second in range(25):
            clock.now += 1
            progress("data, counting", 10_000 * (second + 1), 0)
        progress("data, counting", 250_000, 250_000)
    assert capsys.readouterr().err.splitlines() == [
        "data, counting: 110000 (10 s)",
        "data, counting: 210000 (20 s)",
    ]


@pytest.mark.parametrize(("size", "every"), [(1, 0.5), (1500, 40.0), (4, 90.0)])
def test_a_bar_says_the_same(size: int, every: float, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches larger than what rich remembers, and slower than the time that it looks back on, among them."""
    screen, total = StringIO(), 10 * size * max(1, int(60 / every))
    monkeypatch.setattr(module, "err", Console(file=screen, force_terminal=True, width=80))
    work = [step for step in in_batches(size, every, total, loading=100.0) if step[1] <= 0.7 * total]
    with show_progress() as progress:
        for at, done in work:
            clock.now = 1000.0 + at
            progress("rewrite", done, total)
        clock.now += every / 2  # and goes on counting while a batch is computed
        module.err.print(progress)
    drawn = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.getvalue()).splitlines()
    last = [line for line in drawn if line.startswith("rewrite ")][-1]
    assert f"{work[-1][1]}/{total}" in last
    hours, minutes, seconds = map(int, re.findall(r"(\d+):(\d\d):(\d\d) left", last)[-1])
    left = (total - work[-1][1]) / size * every - every / 2
    assert 3600 * hours + 60 * minutes + seconds == pytest.approx(left, rel=0.03, abs=1)
    assert f"{size / every:.1f}/s" in last


@pytest.mark.parametrize("rows", [24, 10])
def test_a_terminal_shows_the_finished_stages_and_one_live_area(rows: int, tmp_path: Path) -> None:
    recipe = {
        "model": "demo", "task": "demo-maths", "data": {"path": "demo-maths", "n": 40}, "gap": False,
        "rewrite": {"backend": "fake", "min_accepted": 0}, "arms": {"seed": {"data": "none"}},
        "evaluate": {"backend": "fake", "tasks": ["demo-maths", "demo-tool", "demo-code", "demo-lists"]},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    words = [sys.executable, "-m", "selfdistill", "run", "recipe.yaml", "--dir", "run"]
    screen = Terminal(rows, 60)
    screen.run(words, tmp_path)
    stages = ["data", "rewrite", "verify", *(f"evaluate seed {task}" for task in recipe["evaluate"]["tasks"])]  # type: ignore[index]
    found = [line for line in screen.lines if re.fullmatch(r"\[\d+/11\] .*: (\d+)/\1 \(\d s\)", line)]
    assert [re.sub(r"\[.*\] |:.*", "", line) for line in found] == stages
    assert screen.most_steps == 1
    assert not [line for line in screen.lines if line.startswith("step") or "━" in line]
    again = Terminal(rows, 200)
    again.run(words, tmp_path)
    shown = "Nothing to do: every step in run is finished. Show the verdict: selfdistill report run"
    assert [line for line in again.lines if line] == [shown]


def test_the_live_area_is_two_lines_in_any_width(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (30, 40, 80):
        screen = StringIO()
        monkeypatch.setattr(module, "err", Console(file=screen, force_terminal=True, width=width))
        with show_progress() as progress:
            progress(WHOLE, 30, 57, "90")
            for done in range(20):
                clock.now += 1
                progress("evaluate vanilla-low-lr demo-maths-other", done, 200)
            module.err.print(progress)
        drawn = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.getvalue()).splitlines()
        lines = [line for line in drawn if not line.startswith("[31/57]")]
        assert max(map(len, lines)) <= width
        assert any(line.startswith("step 31 of 57, about 5 m") for line in lines)


def test_on_the_way_through_a_window_a_row_costs_what_it_costs_on_average() -> None:
    """What the `hf` backend's time left rests on: it does neither the long rows first nor the short ones."""
    rows = [TokenRow(str(n), [1] * (20 + n * 7919 % 700), 64) for n in range(1024)]
    parts = list(batches(rows, 8192))
    assert max(len(row.ids) for row in parts[0]) == max(len(row.ids) for row in rows)
    done = 0
    for number, part in enumerate(parts, 1):
        done += len(part)
        if number > len(parts) / 10:  # a batch takes about as long as another: it is as many tokens
            assert number / done == pytest.approx(len(parts) / len(rows), rel=0.2)
