"""Rows that were marked by hand: what is trained, what is counted, what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Done
from support.rows import read_rows, write_rows
from support.tiny import tiny_model

from selfdistill.errors import ExperimentError
from selfdistill.store.marks import MARKS, HandMark, append_mark, marks_counts, read_marks

Command = Callable[..., Done]
ODD = "é\n\u2028\x85\ud83d"
EDIT = "Nine and nine make eighteen.\n#### 18"
ARMS: dict[str, Any] = {
    "seed": {"data": "none"},
    "vanilla": {"data": "original"},
    "sdft": {"data": "rewrites"},
    "best": {"data": "rewrites", "best_of": 2},
    "cascade": {"data": "cascade"},
    "other": {"data": "rewrites", "template": "refer"},
}


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, and an experiment in which the fake backend has rewritten thirty rows; some rewrites are rejected."""
    from selfdistill import load_recipe, pipeline
    from selfdistill.store.experiment import Experiment

    folder = tmp_path_factory.mktemp("marks")
    rows = [{"question": f"Say {n} plus {n}.", "answer": f"{n} + {n} = {2 * n}.\n#### {2 * n}"} for n in range(30)]
    recipe = {
        "model": {"path": str(tiny_model(folder / "model")), "dtype": "float32"},
        "data": {"path": str(write_rows(folder / "rows.jsonl", rows))},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": {"max_steps": 1, "batch_size": 4, "micro_batch_size": 4, "max_length": 256},
        "arms": ARMS,
        "evaluate": {"backend": "fake", "tasks": []},
        "gap": False,
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    short = {**recipe, "arms": {name: ARMS[name] for name in ("seed", "sdft")}}
    (folder / "short.yaml").write_text(json.dumps(short), encoding="utf-8")
    pipeline.rewrite(Experiment(folder / "run", load_recipe(folder / "recipe.yaml")))
    return folder


@pytest.fixture
def where(rewritten: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rewritten / "run", tmp_path / "run"))


def rewrites(where: Path) -> list[dict[str, Any]]:
    return read_rows(where / "rewrite" / "rewrites.jsonl")


def trained(where: Path, arm: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_rows(where / "arms" / arm / "data.jsonl")}


def test_a_run_trains_on_what_the_marks_say(rewritten: Path, where: Path, command: Command) -> None:
    rows = rewrites(where)
    kept, rejected = ([row for row in rows if (row["source"] == source)] for source in ("rewrite", "original"))
    usable = next(row for row in rejected if row["completion"]["finish"] == "stop" and row["completion"]["text"])
    edited, original = kept[0], kept[1]
    append_mark(where, edited["id"], HandMark("edit", EDIT))
    append_mark(where, original["id"], HandMark("original"))
    append_mark(where, usable["id"], HandMark("good"))
    append_mark(where, kept[2]["id"], HandMark("original"))
    append_mark(where, kept[2]["id"], HandMark("none"))
    append_mark(where, "0" * 16, HandMark("original"))
    done = command("run", rewritten / "recipe.yaml", "--dir", where)
    assert done.code == 0, done.err
    counted = "3 rows by hand: 1 original, 1 edit, 1 rewrite"
    assert f"- {counted}." in done.out
    assert f"{counted}; 1 mark of rows that the data does not hold." in (where / "log.txt").read_text()
    assert json.loads((where / "verdict.json").read_text())["by_hand"] == {"original": 1, "edit": 1, "good": 1}
    for arm in ("sdft", "best", "cascade"):
        found = trained(where, arm)
        assert (found[edited["id"]]["response"], found[edited["id"]]["source"]) == (EDIT, "edit")
        assert found[original["id"]]["source"] == "original"
        assert found[original["id"]]["response"] == original["example"]["reference"]
        assert found[kept[2]["id"]]["source"] != "original"
    assert trained(where, "sdft")[usable["id"]]["response"] == usable["completion"]["text"]
    for arm in ("vanilla", "other"):  # they don't train on the rewrites that a person sees
        assert EDIT not in {row["response"] for row in trained(where, arm).values()}
    assert Counter(row["source"] for row in trained(where, "sdft").values())["edit"] == 1


def page_rows(where: Path) -> dict[str, dict[str, Any]]:
    """The rows of rewrites.html by id."""
    page = (where / "rewrites.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return {row["id"]: row for row in json.loads(data)}


@pytest.mark.parametrize("arm", ["sdft", "cascade"])
def test_the_page_the_card_and_a_push_hold_what_was_trained(
    rewritten: Path, where: Path, command: Command, arm: str
) -> None:
    from selfdistill.pipeline.push import plan_uploads
    from selfdistill.store.experiment import Experiment

    kept = [row for row in rewrites(where) if row["source"] == "rewrite"]
    edited, original, other = kept[0]["id"], kept[1]["id"], kept[2]["id"]
    append_mark(where, edited, HandMark("edit", EDIT))
    append_mark(where, original, HandMark("original"))
    recipe = json.loads((rewritten / "short.yaml").read_text(encoding="utf-8"))
    recipe["arms"] = {"seed": ARMS["seed"], arm: ARMS[arm]}
    (where.parent / "recipe.yaml").write_text(json.dumps({**recipe, "gap": True}), encoding="utf-8")
    done = command("run", where.parent / "recipe.yaml", "--dir", where)
    assert done.code == 0, done.err

    shown = page_rows(where)
    assert [shown[row]["trained"] for row in (edited, original, other)] == ["edit", "original", "rewrite"]
    assert [shown[row]["mark"] for row in (edited, original, other)] == ["edit", "original", None]
    assert shown[edited]["edit"] == EDIT
    assert shown[edited]["rewrite"] == kept[0]["completion"]["text"]
    assert "2 rows by hand: 1 original, 1 edit" in (where / "rewrites.html").read_text(encoding="utf-8")

    (upload,) = [each for each in plan_uploads(Experiment.open(where), arm, "org/m", "org/d") if each.kind == "dataset"]
    (name,) = {*upload.files} - {"README.md"}
    sent = {row["id"]: row for row in read_rows(upload.folder / name)}
    assert (sent[edited]["completion"]["text"], sent[edited]["source"], sent[edited]["mark"]) == (EDIT, "edit", "edit")
    assert (sent[original]["source"], sent[other]["source"], sent[other]["mark"]) == ("original", "rewrite", None)
    for card in (upload.card, (where / "rewrite" / "README.md").read_text(encoding="utf-8")):
        assert f"data_files: {name}" in card
        assert "A person then decided about 2 rows by hand: 1 original, 1 edit." in card

    gap = {row["id"]: row for row in read_rows(where / "rewrite" / "gap.jsonl")}
    assert [gap[row]["chosen"] for row in (edited, original, other)] == ["rewrite", "original", "rewrite"]

    append_mark(where, other, HandMark("original"))  # after the training: the page goes on to show what was trained
    assert command("report", where).code == 0
    assert {row: each["mark"] for row, each in page_rows(where).items()} == {
        row: each["mark"] for row, each in shown.items()
    }
    assert "Marks were given or taken back since" in (where / "rewrites.html").read_text(encoding="utf-8")


def test_a_preview_shows_the_marks(rewritten: Path, where: Path, command: Command) -> None:
    append_mark(where, rewrites(where)[0]["id"], HandMark("edit", EDIT))
    append_mark(where, rewrites(where)[1]["id"], HandMark("original"))
    done = command("preview", rewritten / "short.yaml", "--dir", where, "-n", 2)
    assert done.code == 0, done.err
    first, second = done.said.split("Row 2 of 2")
    assert "edited by hand" in first
    assert "⟦Nine and nine make eighteen. #### 18" in first
    assert "original chosen by hand" in second


def test_a_mark_after_the_training_is_refused_and_a_new_directory_takes_it(
    rewritten: Path, where: Path, command: Command, neighbours: None
) -> None:
    append_mark(where, rewrites(where)[0]["id"], HandMark("edit", EDIT))
    assert command("run", rewritten / "short.yaml", "--dir", where).code == 0
    weights = (where / "arms/sdft/model/adapter_model.safetensors").read_bytes()
    append_mark(where, rewrites(where)[1]["id"], HandMark("original"))
    refused = command("run", rewritten / "short.yaml", "--dir", where)
    assert refused.code == 2
    assert "the arm would have to be trained again" in refused.said
    assert (where / "arms/sdft/model/adapter_model.safetensors").read_bytes() == weights
    other = where.with_name("other")
    (other / "rewrite").mkdir(parents=True)
    shutil.copy(where / MARKS, other / MARKS)
    done = command("run", rewritten / "short.yaml", "--dir", other)
    assert done.code == 0, done.err
    assert "are taken from" in (other / "log.txt").read_text()
    assert "2 rows by hand: 1 original, 1 edit." in done.said
    append_mark(where, rewrites(where)[1]["id"], HandMark("none"))
    assert command("run", rewritten / "short.yaml", "--dir", where).code == 0


def test_marks_that_come_while_rewrites_arrive_are_respected(rewritten: Path, tmp_path: Path, command: Command) -> None:
    """They are read when the responses are chosen, not when the run begins."""
    from selfdistill import load_recipe, pipeline

    where = tmp_path / "run"
    edited = rewrites(rewritten / "run")[0]["id"]

    def mark_at_once(label: str, *_: object) -> None:
        if label == "rewrite" and not read_marks(where):
            append_mark(where, edited, HandMark("edit", EDIT))

    recipe = load_recipe(rewritten / "short.yaml")
    verdict = pipeline.run(recipe, where, mark_at_once)
    assert verdict["by_hand"] == {"edit": 1}
    assert trained(where, "sdft")[edited]["response"] == EDIT
    done = command("run", rewritten / "short.yaml", "--dir", where)
    assert (done.code, "Nothing to do" in done.out) == (0, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [("So it is <|im_end|> 18.", "chat marker in the text"), ("word " * 400, "over 256 tokens with its prompt")],
)
def test_an_edit_that_cannot_be_trained_on_stops_the_run(
    rewritten: Path, where: Path, command: Command, text: str, message: str
) -> None:
    row = rewrites(where)[0]["id"]
    append_mark(where, row, HandMark("edit", text))
    done = command("run", rewritten / "short.yaml", "--dir", where)
    assert done.code == 2
    assert f"marks the row {row} as edit, but the text can't be trained on: {message}" in done.said
    append_mark(where, row, HandMark("original"))
    assert command("rewrite", rewritten / "short.yaml", "--dir", where).code == 0


def test_a_rewrite_that_was_cut_off_is_never_good(rewritten: Path, where: Path, command: Command) -> None:
    cut = next(row["id"] for row in rewrites(where) if row["completion"]["finish"] == "length")
    append_mark(where, cut, HandMark("good"))
    done = command("rewrite", rewritten / "short.yaml", "--dir", where)
    assert done.code == 2
    assert "it was cut off" in done.said


def test_an_export_has_the_marked_rows_too(rewritten: Path, where: Path, command: Command) -> None:
    edited = rewrites(where)[0]["id"]
    append_mark(where, edited, HandMark("edit", EDIT))
    done = command("export", where, "--to", "jsonl")
    assert done.code == 2
    assert "selfdistill rewrite" in done.said
    assert command("rewrite", rewritten / "short.yaml", "--dir", where).code == 0
    assert command("export", where, "--to", "jsonl").code == 0
    assert EDIT in {row["response"] for row in read_rows(next((where / "export").rglob("*.jsonl")))}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 2 is not a mark: it is not JSON"),
        ("[1]", 'it needs the key "id"'),
        ('{"id": "a", "mark": "bad"}', '"mark" must be one of good, original, edit, none'),
        ('{"id": "a", "mark": "edit"}', 'an edit needs the key "text"'),
    ],
)
def test_a_line_that_is_not_a_mark_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "rewrite").mkdir()
    (tmp_path / MARKS).write_text(f'{{"id": "b", "mark": "good"}}\n{line}', encoding="utf-8")
    with pytest.raises(ExperimentError, match="line 2") as error:
        read_marks(tmp_path)
    assert message in str(error.value)


def test_lines_of_a_hand_and_of_the_workbench_stand_apart(tmp_path: Path) -> None:
    (tmp_path / "rewrite").mkdir()
    (tmp_path / MARKS).write_text('\n{"id": "a", "mark": "original", "why": "my notes"}', encoding="utf-8")
    append_mark(tmp_path, "b", HandMark("edit", ODD))
    append_mark(tmp_path, "c", HandMark("good"))
    append_mark(tmp_path, "c", HandMark("none"))
    assert read_marks(tmp_path) == {"a": HandMark("original"), "b": HandMark("edit", ODD)}


def test_counts_are_words() -> None:
    assert marks_counts({"original": 2, "edit": 1}) == "3 rows by hand: 2 originals, 1 edit"
