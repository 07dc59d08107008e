"""Held-out rows that leak: the same prompt in another dress, near duplicates, items of tasks."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example as hypothesis_example
from hypothesis import given
from hypothesis import strategies as st

from selfdistill.data import data_notes, item_notes, iter_conversations, prepare, prompt_key
from selfdistill.data.contamination import near_duplicates, normalised
from selfdistill.errors import DataError
from selfdistill.pipeline.context import make_context
from selfdistill.pipeline.data import prepare_data
from selfdistill.pipeline.evaluate import prepare_items
from selfdistill.recipe import DataConfig, make_recipe
from selfdistill.store.experiment import Experiment
from selfdistill.types import Conversation, Message, silent

TOPICS = [
    "Who wrote Emma?",
    "Why is the sky blue?",
    "List 3 trees.",
    "Don't panic — explain tides.",
    "Define “entropy”.",
]
DRESSES = {
    "a space": lambda text: text.replace(" ", "  ", 1) + " ",
    "a capital letter": str.upper,
    "a full stop": lambda text: text.rstrip("?.") + ".",
    "no punctuation at the end": lambda text: text.rstrip("?."),
    "quotes and dashes": lambda text: text.replace("'", "’").replace("—", "-").replace("“", '"').replace("”", '"'),
    "full width": lambda text: text.replace("?", "？").replace("3", "３"),
    "a zero-width space": lambda text: text.replace(" ", " \u200b", 1),
}


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def config(path: str, **settings: Any) -> DataConfig:
    return DataConfig.model_validate({"path": path, **settings})


def row(question: str, answer: str = "a", **more: str) -> dict[str, str]:
    return {"question": question, "answer": answer, **more}


ON_TOPICS = [row(text) for text in TOPICS]


@pytest.mark.parametrize("dress", DRESSES)
def test_the_same_question_in_another_dress_is_left_out(tmp_path: Path, dress: str) -> None:
    rows = [row(text) for text in TOPICS] + [row(DRESSES[dress](text), "b") for text in TOPICS]
    others = [row(f"Question {letter}?") for letter in "abcdefgh"]
    config = DataConfig(path=str(write(tmp_path / "d.jsonl", rows + others)), heldout=9, seed=3)
    counts = prepare(config, tmp_path / "out")
    train = {prompt_key(e.prompt) for c in iter_conversations(tmp_path / "out/train.jsonl") for e in c.examples()}
    held = [prompt_key(c.examples()[-1].prompt) for c in iter_conversations(tmp_path / "out/heldout.jsonl")]
    assert not train & set(held)
    assert len(set(held)) == len(held) == counts.heldout
    assert counts.contaminated == 9 - counts.heldout > 0
    assert "for data.heldout left out, because their prompts are trained on" in next(data_notes(counts.to_json()))


def test_the_system_text_makes_no_other_question(tmp_path: Path) -> None:
    rows = [row(f"Question {letter}?", system=system) for letter in "abcdef" for system in ("Be brief.", "Be kind.")]
    counts = prepare(DataConfig(path=str(write(tmp_path / "d.jsonl", rows)), heldout=4), tmp_path / "out")
    assert counts.contaminated > 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 3.5 times 2?", "What is 35 times 2?"),
        ("What is 5-3?", "What is 5+3?"),
        ("What is -5?", "What is 5?"),
        ("Is 1,2 in the list?", "Is 12 in the list?"),
        ("Print a[1].", "Print a(1)."),
        ("Résumé?", "Resume?"),
        ("数は?", "数が?"),
        ("Solve x != 2 for x.", "Solve x = 2 for x."),
        ("What is .5 + 1?", "What is 5 + 1?"),
        ("Is 3! = 6?", "Is 3 = 6?"),
        ("???", "..."),
    ],
)
def test_other_questions_stay_different(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@given(st.text())
@hypothesis_example(":´")
def test_spaces_around_a_text_change_nothing(text: str) -> None:
    assert normalised(f" {text}\n") == normalised(text)
    assert normalised(text).split() == normalised(text).split(" ") or not normalised(text)


STORY = "A farmer has {} cows and sells {} of them at the market on Monday. How many cows does the farmer have left?"


def chat(question: str) -> Conversation:
    return Conversation((Message("user", question), Message("assistant", "x")))


def test_near_duplicates_are_found_by_similarity() -> None:
    held = [
        chat(STORY.format(12, 5)),
        chat("Who painted the ceiling of the Sistine Chapel?"),
        chat("农夫有十二头牛，卖掉五头，还剩几头牛？"),
    ]
    train = [chat("Name a fruit."), chat(STORY.format(30, 7)), chat("农夫有十三头牛，卖掉五头，还剩几头？")]
    near = near_duplicates(held, train, threshold=0.9)
    assert near.found == {0, 2}
    assert near.pair == (STORY.format(12, 5), STORY.format(30, 7))
    assert near_duplicates(held, train, threshold=1.0).found == set()
    assert near_duplicates(held[1:2], train, threshold=0.9).pair is None


def test_near_duplicates_are_counted_and_left_out_only_if_the_recipe_asks(tmp_path: Path) -> None:
    rows = [row(STORY.format(at, at - 1)) for at in range(2, 12)] + [row(text) for text in TOPICS]
    path = str(write(tmp_path / "d.jsonl", rows))
    kept = prepare(DataConfig(path=path, heldout=6), tmp_path / "kept")
    assert (kept.heldout, kept.dropped) == (6, 0)
    assert 0 < kept.near_duplicates < 6
    (note,) = data_notes(kept.to_json())
    assert "nearly repeat a training row, and are kept; data.near_duplicates.drop=true leaves them out" in note
    assert "A farmer has" in note
    (all_of_them,) = data_notes({**kept.to_json(), "near_duplicates": 6})
    assert "and are kept, since these are all; give the task heldout a path to other rows" in all_of_them
    wanted = {"threshold": 0.9, "drop": True}
    left = prepare(config(path, heldout=6, near_duplicates=wanted), tmp_path / "left")
    assert left.dropped == left.near_duplicates == kept.near_duplicates == 6 - left.heldout
    off = config(path, heldout=6, near_duplicates={"threshold": None})
    assert prepare(off, tmp_path / "off").near_duplicates == 0
    template = config(str(write(tmp_path / "t.jsonl", rows[:10])), heldout=2, near_duplicates=wanted)
    with pytest.raises(DataError, match=r"nearly repeat a training row; set data\.near_duplicates\.drop to false"):
        prepare(template, tmp_path / "none")


def items(
    folder: Path, test: list[dict[str, str]], task: str, train: list[dict[str, str]] = ON_TOPICS
) -> tuple[int, dict[str, Any]]:
    """How many items a task has whose file is `test`, after training on `train`; and what was counted."""
    write(folder / "train.jsonl", train)
    write(folder / "test.jsonl", test)
    recipe = make_recipe(
        {
            "model": "demo",
            "data": str(folder / "train.jsonl"),
            "evaluate": {"tasks": [{"task": task, "path": str(folder / "test.jsonl")}]},
        }
    )
    experiment, plan = Experiment(folder / "run", recipe), make_context(recipe)
    experiment.begin()
    prepare_data(experiment, plan, silent)
    prepare_items(experiment, plan)
    return len((folder / f"run/items/{task}.jsonl").read_text().splitlines()), experiment.counts(f"items/{task}")


def test_a_test_file_is_compared_with_the_training_rows(tmp_path: Path) -> None:
    test = [row(TOPICS[0].upper()), row("What is new?")]
    assert items(tmp_path, test, "heldout") == (1, {"items": 1, "bad": 0, "trained_on": 1, "left_out": 1})
    near = [row(STORY.format(30, 7)), row("What is new?")]
    kept, counts = items(tmp_path / "c", near, "heldout", train=[row(STORY.format(12, 5))])
    assert (kept, counts["near_duplicates"]) == (2, 1)
    (note,) = item_notes("heldout", counts)
    assert "heldout: 1 item kept although close to a training row. For example, asked: 'A farmer has 30" in note
    assert items(tmp_path / "b", test, "multiarith")[1] == {"items": 2, "bad": 0, "trained_on": 1, "left_out": 0}
