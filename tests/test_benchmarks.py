"""The scripts of benchmarks/ run and tell what they measured; whether it is fast is not tested here."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from graders import CORRUPTIONS, PARAPHRASES, judge, pairs
from pairs import Row, alternate, collect, ratios, table
from support.tiny import tiny_model

ROOT = Path(__file__).parents[1]


def run(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sides_are_measured_in_turn() -> None:
    calls: list[str] = []

    def side(name: str, figure: float) -> float:
        calls.append(name)
        return figure

    ours, theirs = alternate([lambda n: side("ours", 4.0 + n), lambda n: side("theirs", 2.0)], 2)
    assert calls == ["ours", "theirs", "ours", "theirs"]
    assert ratios(ours, theirs) == [2.0, 2.5]


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (Row("a", "b", [2.0, 1.0, 4.0], "tokens/s", 2000.0, 1000.0, at_least=2), "≥ 2 | 2.00 (1.00 to 4.00) | 2,000"),
        (Row("a", "b", [2.0], "tokens/s", 2.0, 1.0, at_least=2.1), "| 1.00 tokens/s | **no** |"),
        (Row("a", "", [0.3], "s", 0.3, below=0.3), "| < 0.3 | 0.30 (0.30 to 0.30) | 0.30 s |  | **no** |"),
        (Row("a", "", [9.0], "rows/s", 9.0), "|  |  | 9.00 rows/s |  |  |"),
    ],
)
def test_a_row_says_whether_its_goal_is_met(row: Row, cells: str) -> None:
    assert cells in table([row], [])
    assert ("**no**" in cells) == (row.met is False)


def test_what_fails_keeps_what_was_told_before_it(capfd: pytest.CaptureFixture[str]) -> None:
    program = "from pairs import Row; Row('a', 'b', [1.0], 's', 1.0).tell(); print('seen'); raise SystemExit('why')"
    rows, failure = collect(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); {program}"]
    )
    assert ([row.what for row in rows], failure) == (["a"], "why")
    assert "seen" in capfd.readouterr().out
    assert collect([sys.executable, "-c", "import time; time.sleep(60)"], 0.2) == (
        [],
        "killed, after 0 s at the latest",
    )


def test_make_bench_tells_what_was_measured_and_what_was_not() -> None:
    out = run("-m", "benchmarks", "--quick", "--only", "startup")
    assert "| check, 100 rows |  | < 3 |" in out.partition("All of it")[2]


def test_the_gpu_script_on_a_tiny_model(tmp_path: Path) -> None:
    run("benchmarks/gpu.py", "--tiny", "--only", "rewrite", "--folder", tmp_path, "--json", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [row["against"] for row in figures["rows"]] == ["generate, batch 1"]
    assert figures["rows"][0]["ours"] > 0
    assert set(figures["seconds"]) == {"make", "rewrite"}
    assert figures["left_out"] == []


def test_the_judge_of_the_graders_table_tells_its_progress_and_a_limit_keeps_every_kind(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = list(pairs(real_data, "report", 1, 300))
    assert Counter(pair.kind for pair in found) == dict.fromkeys([*CORRUPTIONS, *PARAPHRASES], 1)
    model = tiny_model(tmp_path / "tiny", context=2048)
    assert len(judge(found, str(model), "float32", 0.5)) == len(found)
    assert f"judge: {4 * len(found)}/{4 * len(found)}" in capsys.readouterr().err


def test_the_leaks_table_shows_alarms_and_findings(real_data: Path) -> None:
    """A table of false alarms and one of the findings in published rewrites."""
    out = run("benchmarks/leaks.py", real_data)
    assert "| references, lima_train | 1,082 | 0 |" in out
    assert "| published rewrites, openfunction | 222 |" in out


def test_choices_are_scored_as_lm_eval_scores_them(tmp_path: Path) -> None:
    rows = tmp_path / "arc.jsonl"
    choices = {"text": ["The moon pulls the sea", "Fish push it", "It is cold"], "label": ["A", "B", "C"]}
    asked = [f"Why are there tides {number}?" for number in range(4)]
    lines = [json.dumps({"question": each, "choices": choices, "answerKey": "A"}) for each in asked]
    rows.write_text("\n".join(lines))
    out = run("benchmarks/choices.py", rows, "--rows", 4, "--pairs", 1, "--dtype", "float32")
    assert json.loads(out.splitlines()[-1])["apart"] < 1e-3
