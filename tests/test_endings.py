"""How answers end: no text that may make sense is a loop or garble, and every endless repetition is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.tiny import tiny_model

from selfdistill.backends import open_backend
from selfdistill.backends.loops import LONGEST, SHORTEST, TIMES, LoopWatch, in_loop
from selfdistill.grading.endings import ending, ends_in_loop, unreadable, without_loop
from selfdistill.measure.comparisons import Pair, compare
from selfdistill.measure.degeneration import degeneration, of_degenerate, sound
from selfdistill.measure.scores import grade
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.reports.answer_ends import degeneration_rows, degeneration_sentences
from selfdistill.reports.findings import Findings
from selfdistill.store.rows import RowFile
from selfdistill.tasks import Task, get_task
from selfdistill.types import Completion, Example, Finish, Grade, Message, Prompt

LINES = st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n"), max_size=60), unique=True)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufffd"), max_size=200)


@given(LINES)
def test_no_text_of_distinct_lines_is_a_loop(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert not ends_in_loop(text)
    assert without_loop(text) == text


@given(TEXTS, TEXTS.filter(bool), st.integers(4, 9), st.integers(0, 200))
def test_a_tail_that_repeats_is_always_a_loop_wherever_it_is_cut(text: str, tail: str, times: int, more: int) -> None:
    times = max(times, -(-100 // len(tail)))
    looped = text + tail * times + tail[: more % len(tail)]
    assert ends_in_loop(looped)
    assert ending(Completion("", looped, "length")) == "loop"
    # What an answer says before it repeats itself does not depend on the place of the cut.
    assert without_loop(looped) == without_loop(text + tail * (times + 3))
    assert (text + tail).startswith(without_loop(looped))


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(str, range(1, 101))),
        json.dumps([{"id": number, "active": True, "score": 0} for number in range(80)]),
        "| month | income |\n|---|---|\n" + "".join(f"| {month} | 0 |\n" for month in range(60)),
        "def rows():\n" + "".join(f"    yield make_row({number}, 0, 0, None)\n" for number in range(40)),
        "Δx αβγδ ΔTμm λmax " * 3,
        "Hello, Привет, 你好, Γειά σου, שלום, नमस्ते, こんにちは, 안녕하세요, สวัสดี",
        "iPhoneを買いました。GPUとCPUのPythonコードです。",
    ],
)
def test_texts_that_repeat_for_a_reason_are_read(text: str) -> None:
    assert not ends_in_loop(text)
    assert unreadable(text) is None


@pytest.mark.parametrize(
    ("text", "finish", "found"),
    [
        ("It is four.", "stop", "stop"),
        ("It is four, sin", "length", "limit"),
        ("Once. " + "And then it rained again. " * 20, "length", "loop"),
        ("Once. " + "And then it rained again. " * 20, "stop", "stop"),  # the model ended it
        ("Once. " + "And then it rained again. " * 20, "loop", "loop"),
        ("<think>\nHm. " + "Let me check that again. " * 20, "length", "loop"),
        ("<think>\nHm. ", "length", "limit"),
        ("<think>\nHm.\n</think>\n", "stop", "empty"),
        ("", "stop", "empty"),
        ("\ufffd\ufffd of \ufffd\ufffd the \ufffd", "stop", "garbled"),
        ("словar домiк ключok дverь окnо машиnа", "stop", "garbled"),
        ("", "error", "error"),
    ],
)
def test_every_answer_has_one_ending(text: str, finish: Finish, found: str) -> None:
    assert ending(Completion("", text, finish)) == found


@given(st.lists(st.integers(0, 3), max_size=60), st.lists(st.integers(0, 9), min_size=1, max_size=LONGEST), st.data())
def test_the_watch_finds_what_the_rule_says_at_every_step(start: list[int], tail: list[int], data: Any) -> None:
    import torch

    rows = [start + tail * 600, [*range(10_000)]]
    steps = data.draw(st.integers(SHORTEST * TIMES, 600))
    answers = torch.tensor([row[:steps] for row in rows])
    watch, both = LoopWatch(2, steps, answers.device), torch.arange(2)
    for step in range(steps):
        found = watch.looping(answers, both, torch.tensor([step, step])).tolist()
        assert found == [in_loop(row[: step + 1]) for row in rows]
    assert in_loop(start + tail * (TIMES * LONGEST // len(tail)))


def test_a_loop_ends_an_answer_early_and_no_other_answer(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    # Without what its layers add, the next token depends on the last one alone, so every answer is in a cycle soon.
    weights = load_file(folder / "model.safetensors")
    cut = {name: value * 0 if "o_proj" in name or "down_proj" in name else value for name, value in weights.items()}
    save_file(cut, folder / "model.safetensors", {"format": "pt"})
    model = ModelConfig(path=str(folder), dtype="float32", device="cpu", batch_tokens=3000)
    prompts = [Prompt(str(n), (Message("user", "ab" * n), Message("assistant", chr(97 + n)))) for n in range(20)]

    def answers(stop: bool) -> dict[str, Completion]:
        with open_backend("hf", model) as backend:
            sampling = Sampling(max_new_tokens=300, stop_loops=stop)
            return {answer.id: answer for answer in backend.generate(prompts, sampling)}

    stopped, whole = answers(True), answers(False)
    looped = {name for name, answer in stopped.items() if answer.finish == "loop"}
    assert looped
    assert {answer.finish for answer in whole.values()} <= {"stop", "length"}
    for name, answer in stopped.items():
        if name in looped:
            assert SHORTEST * TIMES <= answer.tokens < 300
            assert whole[name].text.startswith(answer.text)
            assert ends_in_loop(answer.text)
        else:
            assert answer == whole[name]


# ---- measured


ITEMS = [Example.of((Message("user", f"How do I sink putt {n}?"),), "") for n in range(40)]
LOOP = "Look at the hole and then hit it. " * 12


def graded(task: Task, path: Path, texts: list[str], finish: Finish = "length") -> list[dict[str, Any]]:
    with RowFile(path) as rows:
        for item, text in zip(ITEMS, texts, strict=True):
            rows.append(Completion(item.id, text, finish, 9).to_json())
    with RowFile(path, reading=True) as rows:
        return list(grade(task, ITEMS, rows))


def test_loops_and_garble_are_a_measure_of_their_own_and_refusals_another(tmp_path: Path) -> None:
    task = get_task("overrefusal")
    seed = graded(task, tmp_path / "seed.jsonl", ["Look at the hole, and"] * 39 + [LOOP])
    worse = graded(task, tmp_path / "arm.jsonl", [LOOP] * 12 + ["", "I'm sorry, but no."] + ["Just hit it"] * 26)
    assert [row["bucket"] for row in worse].count("passed") == 39  # only the refusal fails
    assert [row["ends"] for row in worse[11:15]] == [["loop"], ["empty"], ["limit"], ["limit"]]
    (row,) = degeneration({"overrefusal": {"seed": [seed], "sdft": [worse]}})
    assert row["arms"]["seed"]["value"] == pytest.approx(1 / 40)
    arm = row["arms"]["sdft"]
    assert (arm["value"], arm["n"], arm["endings"]) == (
        pytest.approx(13 / 40),
        40,
        {"loop": 12, "empty": 1, "limit": 27},
    )
    assert arm["low"] < 13 / 40 < arm["high"]

    pair = Pair("overrefusal", "sdft", "seed", [sound(worse)], [sound(seed)])
    (found,) = [of_degenerate(row) for row in compare([pair], 0.05)]
    assert (found.word, found.gained, found.lost, found.difference) == ("forgot", 13, 1, pytest.approx(12 / 40))
    assert 0 < found.low < 12 / 40 < found.high
    verdict = {"arms": ["seed", "sdft"], "seed_arm": "seed", "tasks": [], "comparisons": []}
    measured = {"tasks": [row], "comparisons": [found.to_json()]}
    (sentence,) = degeneration_sentences(Findings.of(verdict), measured)
    assert sentence.startswith("In this training run of sdft, answers that end in a loop or in garble")
    assert "more on overrefusal (+30.0 points" in sentence
    assert [shown.counts["loop"] for shown in degeneration_rows(Findings.of(verdict), measured)] == [1, 12]
    calm = {"tasks": [row], "comparisons": [{**found.to_json(), "word": "kept"}]}
    assert degeneration_sentences(Findings.of(verdict), calm) == []


def test_several_samples_share_an_items_value_and_errors_are_left_out() -> None:
    rows = [{"id": "a", "ends": ["loop", "stop", "error", "limit"]}, {"id": "b", "ends": ["error"]}]
    assert sound([{**row, "bucket": "passed", "grade": Grade("pass", "").to_json()} for row in rows]) == {
        ("a", 0): pytest.approx(2 / 3)
    }


@given(TEXTS, st.sampled_from(["stop", "length", "loop", "error"]))
def test_any_answer_has_an_ending(text: str, finish: Finish) -> None:
    assume("\x1b" not in text)
    assert ending(Completion("", text, finish)) in ("stop", "limit", "loop", "garbled", "empty", "error")
