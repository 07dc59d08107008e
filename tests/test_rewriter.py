"""The method as a library: the same rewrites in memory, through files, in the example, and in an experiment."""

from __future__ import annotations

import json
import runpy
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

import pytest

import selfdistill
from selfdistill import Example, Experiment, Filters, Message, Prompt, Rewriter, Sampling, load_template, make_grader
from selfdistill.backends.fake import FakeBackend
from selfdistill.generation.resume import LazyBackend
from selfdistill.recipe import ModelConfig, make_recipe
from selfdistill.store.rows import RowFile, read_lines
from selfdistill.types import Completion

EXAMPLE = Path(__file__).parents[1] / "examples" / "sdft_in_100_lines.py"
REWRITER = Rewriter(
    load_template("using"), make_grader("final_number"), Sampling(), Filters(min_length_ratio=None), model="demo"
)


class Counts(FakeBackend):
    """Counts how often each prompt is asked, and answers in reverse order."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(path="fake"))
        self.asked: Counter[str] = Counter()

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        prompts = list(prompts)
        self.asked.update(prompt.id for prompt in prompts)
        yield from reversed(list(super().generate(prompts, sampling, done)))


def examples(count: int) -> list[Example]:
    return [
        Example.of((Message("user", f"What is {n} + {n}?"),), f"It is {2 * n}.\n#### {2 * n}") for n in range(count)
    ]


def test_rewrites_in_memory_are_those_through_files(tmp_path: Path) -> None:
    model, rows = ModelConfig(path="fake"), examples(30)
    with FakeBackend(model) as backend:
        in_memory = REWRITER.rewrite(rows, backend)
    with LazyBackend(lambda: FakeBackend(model)) as lazy, RowFile(tmp_path / "rows.jsonl") as file:
        REWRITER.generate(rows, len(rows), lazy, file, lambda *_: None)
    with RowFile(tmp_path / "rows.jsonl", reading=True) as file:
        assert list(REWRITER.select(rows, file)) == in_memory
    assert [rewrite.example for rewrite in in_memory] == rows
    assert {rewrite.source for rewrite in in_memory} == {"rewrite", "original"}
    for rewrite in in_memory:
        chosen = rewrite.completion.text if rewrite.source == "rewrite" else rewrite.example.reference
        assert rewrite.response == chosen


def test_progress_counts_no_more_than_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    """A file may hold more: a baseline has the answers of later looks, and data.n may have been lowered."""
    reports: list[tuple[int, int | None]] = []

    def report(done: int, total: int | None, _note: str = "") -> None:
        reports.append((done, total))

    for rows in (examples(30), examples(30)[:10]):
        reports.clear()
        with (
            LazyBackend(lambda: FakeBackend(ModelConfig(path="fake"))) as lazy,
            RowFile(tmp_path / "rows.jsonl") as file,
        ):
            REWRITER.generate(rows, len(rows), lazy, file, report)
    assert reports == [(10, 10)]


def test_equal_examples_are_asked_once_and_answers_may_come_in_any_order() -> None:
    backend = Counts()
    rewrites = REWRITER.rewrite([*examples(5), *examples(5)], backend)
    assert set(backend.asked.values()) == {1}
    assert [rewrite.example for rewrite in rewrites] == [*examples(5), *examples(5)]
    assert rewrites[:5] == rewrites[5:]


def test_an_untrainable_rewrite_is_not_chosen() -> None:
    with FakeBackend(ModelConfig(path="fake")) as backend:
        rewrites = REWRITER.rewrite(examples(30), backend, lambda prompt, text: "too odd")
    assert {rewrite.source for rewrite in rewrites} == {"original"}
    assert "too odd" in {rewrite.grade.reason for rewrite in rewrites}


def test_the_example_prints_a_table_and_rewrites_as_an_experiment_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 100
    words = ["--rows", "12", "--items", "3", "--epochs", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *words])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert printed[0].split() == ["arm", "demo-maths", "demo-tool-other"]
    assert [line.split()[0] for line in printed[1:]] == ["seed", "vanilla", "sdft"]
    assert all(value.endswith("%") for line in printed[1:] for value in line.split()[1:])

    values = {
        "model": {"path": "demo", "dtype": "float32"},
        "task": "demo-maths",
        "data": {"path": "demo-maths", "n": 12},
        "rewrite": {"template": "using", "sampling": {"preset": "greedy", "max_new_tokens": 128}},
    }
    experiment = Experiment(tmp_path / "run", make_recipe(values))
    selfdistill.rewrite(experiment)
    ours = [json.loads(line) for line in (tmp_path / "out" / "rewrites.jsonl").read_text().splitlines()]
    theirs = list(read_lines(experiment.path("rewrite", "rewrites.jsonl")))
    assert len(ours) == 12
    for row in [*ours, *theirs]:
        del row["completion"]["id"]  # depends on the model's identity
    assert ours == theirs
