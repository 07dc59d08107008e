"""What arms train on, and for how long: the same history and the same number of optimiser steps, or it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.rows import read_rows
from support.tiny import tiny_model

from selfdistill import check, make_recipe, run
from selfdistill.types import Conversation, Message

SEED = {"seed": {"data": "none"}}
ARMS: dict[str, Any] = {
    **SEED,
    "vanilla": {"data": "original"},
    "sdft": {"data": "rewrites"},
    "self": {"data": "self"},
    "half": {"data": 0.5},
    "replayed": {"data": "original", "replay": {"share": 0.5}},
}


def chats(count: int) -> list[list[dict[str, str]]]:
    """Two answers each; the later ones are much longer, so that packs would hold other numbers of rows."""
    turns = [[f"Say {n}.", f"It is {n}.", f"And {n} again?", f"{n} " * (2 + n)] for n in range(count)]
    return [[{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(row)] for row in turns]


def recipe(folder: Path, **changes: Any) -> Any:
    (folder / "rows.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in chats(8)))
    (folder / "other.jsonl").write_text("".join(json.dumps({"messages": row[:2]}) + "\n" for row in chats(6)))
    arms = {name: dict(arm) for name, arm in changes.pop("arms", ARMS).items()}
    for arm in arms.values():
        if "replay" in arm:
            arm["replay"] = {**arm["replay"], "path": str(folder / "other.jsonl")}
    values = {
        "model": {"path": str(tiny_model(folder / "model")), "dtype": "float32", "device": "cpu"},
        "data": {"path": str(folder / "rows.jsonl"), "heldout": 2},
        "rewrite": {"backend": "fake", "filters": {"min_length_ratio": None}},
        "train": {"epochs": 1, "batch_size": 4, "micro_batch_size": 4, "packing": True},
        "evaluate": {"backend": "fake", "tasks": ["heldout"]},
        "gap": False,
        "arms": arms,
        **changes,
    }
    return make_recipe(values)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("done")
    return folder / "run", run(recipe(folder), folder / "run")


def rows_of(where: Path, arm: str) -> list[dict[str, Any]]:
    return read_rows(where / "arms" / arm / "data.jsonl")


def test_every_arm_trains_each_response_after_the_original_earlier_turns(done: tuple[Path, Any]) -> None:
    where, _ = done
    lines = [json.loads(line)["messages"] for line in (where / "data" / "train.jsonl").read_text().splitlines()]
    data = [Conversation(tuple(Message(**message) for message in messages)) for messages in lines]
    examples = {example.id: example.to_json() for conversation in data for example in conversation.examples()}
    assert len(examples) == 12
    changed = set()
    for arm in ("vanilla", "sdft", "self", "half"):
        rows = rows_of(where, arm)
        assert [row["id"] for row in rows] == list(examples)
        for row in rows:
            assert row["prompt"] == examples[row["id"]]["prompt"]
            if row["response"] != examples[row["id"]]["reference"]:
                changed.add((arm, len(row["prompt"])))
    assert {("sdft", 1), ("sdft", 3)} <= changed, "both first and later turns are rewritten"
    for kind in ("rewrite", "rewrite/self"):
        rewritten = read_rows(where / kind / "rewrites.jsonl")
        assert [row["example"]["prompt"] for row in rewritten] == [example["prompt"] for example in examples.values()]


def test_arms_with_other_responses_take_as_many_steps_and_unequal_ones_are_named(done: tuple[Path, Any]) -> None:
    where, verdict = done
    stages = json.loads((where / "manifest.json").read_text())["stages"]
    steps = {arm: stages[f"train/{arm}"]["counts"]["steps"] for arm in ARMS if arm != "seed"}
    assert steps == {"vanilla": 3, "sdft": 3, "self": 3, "half": 3, "replayed": 4}
    told = " ".join(verdict["notes"])
    assert "Optimiser steps are not equal: vanilla 3, sdft 3, self 3, half 3, replayed 4." in told
    assert {arm: other["equal"] for arm, other in verdict["baseline_arms"].items()} == {
        "sdft": True, "self": True, "half": True, "replayed": False,
    }  # fmt: skip


def test_equal_steps_are_said_and_rows_that_replay_leaves_out_are_counted(tmp_path: Path) -> None:
    arms = {**SEED, "vanilla": {"data": "original"}, "old": {"data": "original", "replay": {"share": 0.5}}}
    made = recipe(tmp_path, arms=arms, train={"max_steps": 2, "batch_size": 4, "micro_batch_size": 4})
    (tmp_path / "other.jsonl").write_text((tmp_path / "rows.jsonl").read_text())
    verdict = run(made, tmp_path / "run")
    told = " ".join(verdict["notes"])
    assert "Optimiser steps are equal: 2 in each of vanilla, old." in told
    assert "old: of the rows to replay, 0 can't be used and 2 ask what is held out" in told


def test_check_says_which_arm_takes_more_steps(tmp_path: Path) -> None:
    said = " ".join(check(recipe(tmp_path)).warnings)
    assert "replayed replays 50% as many rows, so it takes about 50% more optimiser steps than vanilla" in said
    fixed = recipe(tmp_path, train={"max_steps": 2})
    assert "more optimiser steps" not in " ".join(check(fixed).warnings)
