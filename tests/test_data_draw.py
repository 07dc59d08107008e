"""An experiment's own data: draws, held-out rows, duplicates, bad rows, and conversations put together again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rows import write_rows

from selfdistill.data import DataCounts, OnBad, iter_conversations, prepare
from selfdistill.errors import DataError, ExperimentError
from selfdistill.recipe import DataConfig
from selfdistill.types import Conversation, Message


def numbered(count: int) -> list[dict[str, str]]:
    return [{"question": f"Question {i} ü", "answer": f"{i}"} for i in range(count)]


def run(folder: Path, rows: list[Any], **config: Any) -> tuple[DataCounts, list[str], list[str]]:
    """Counts, and the references of the training and of the held-out rows."""
    counts = prepare(DataConfig(path=str(write_rows(folder / "d.jsonl", rows)), **config), folder / "out")
    train, heldout = (
        [example.reference for row in iter_conversations(folder / "out" / name) for example in row.examples()]
        for name in ("train.jsonl", "heldout.jsonl")
    )
    return counts, train, heldout


def test_without_n_all_rows_are_taken_in_order(tmp_path: Path) -> None:
    counts, train, heldout = run(tmp_path, numbered(20))
    assert (train, heldout) == ([str(i) for i in range(20)], [])
    assert counts == DataCounts(rows=20, bad=0, train=20, heldout=0, examples=20)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "bad_rows.jsonl",
        "heldout.jsonl",
        "train.jsonl",
    ]
    assert "Question 3 ü" in (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8")


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(3, 60),
    n=st.integers(1, 60),
    more=st.integers(0, 20),
    heldout=st.integers(0, 20),
    seed=st.integers(0, 2**32 - 2),
)
def test_draws_are_nested_and_apart_from_what_is_held_out(
    tmp_path_factory: pytest.TempPathFactory, count: int, n: int, more: int, heldout: int, seed: int
) -> None:
    heldout = min(heldout, count - 1)
    folder = tmp_path_factory.mktemp("draw")
    rows = numbered(count)
    small, train, held = run(folder, rows, n=n, heldout=heldout, seed=seed)
    _, wider, held_again = run(folder, rows, n=n + more, heldout=heldout, seed=seed)
    _, everything, _ = run(folder, rows, heldout=heldout, seed=seed)
    assert held == held_again
    assert set(train) <= set(wider) <= set(everything)
    assert not set(everything) & set(held)
    assert sorted([*everything, *held], key=int) == [row["answer"] for row in rows]
    assert train == sorted(train, key=int)
    assert (small.train, small.heldout) == (len(train), heldout)
    assert small.train + small.short == n


def test_the_draw_of_a_seed_never_changes(tmp_path: Path) -> None:
    _, train, heldout = run(tmp_path, numbered(12), n=4, heldout=2, seed=7)
    assert (train, heldout) == (["0", "1", "2", "5"], ["7", "10"])
    _, other, _ = run(tmp_path, numbered(12), n=4, heldout=2, seed=8)
    assert other != train


def test_duplicates_are_counted_and_kept(tmp_path: Path) -> None:
    rows = [*numbered(3), *numbered(2), numbered(1)[0]]
    counts, train, _ = run(tmp_path, rows)
    assert train == ["0", "1", "2", "0", "1", "0"]
    assert (counts.examples, counts.duplicates) == (6, 3)


def test_held_out_rows_that_are_trained_on_too_are_left_out(tmp_path: Path) -> None:
    # Twice the same prompt, with another answer each time: that leaks as well.
    rows = [*numbered(30), *({**row, "answer": f"{row['answer']}, that is"} for row in numbered(10))]
    counts, train, heldout = run(tmp_path, rows, heldout=12, seed=1)
    assert counts.contaminated > 0
    assert counts.heldout + counts.contaminated == 12
    assert not {row.split(",")[0] for row in heldout} & {row.split(",")[0] for row in train}
    with pytest.raises(DataError, match=r"rows drawn for data\.heldout have prompts that are trained on too"):
        run(tmp_path, numbered(4) * 30, heldout=2)


def test_chats_that_open_alike_can_be_held_out(tmp_path: Path) -> None:
    first = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = [
        {"messages": [*first, {"role": "user", "content": q}, {"role": "assistant", "content": "x"}]} for q in "abcdef"
    ]
    counts, _, _ = run(tmp_path, rows, heldout=2)
    assert (counts.heldout, counts.contaminated) == (2, 0)


def test_multi_turn_rows_share_an_example_where_they_begin_alike(tmp_path: Path) -> None:
    first = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = [
        {"messages": [*first, {"role": "user", "content": q}, {"role": "assistant", "content": "x"}]} for q in "abc"
    ]
    counts, _, _ = run(tmp_path, rows)
    assert (counts.train, counts.examples, counts.duplicates) == (3, 6, 2)


def test_bad_rows_are_written_once_with_their_reasons(tmp_path: Path) -> None:
    rows = [*numbered(5), {"question": "no answer"}, {"question": "q", "answer": "é" * 5000 + "\ud83d"}, *numbered(3)]
    for config in ({}, {"n": 3}):
        counts, _, _ = run(tmp_path, rows, on_bad_row="skip", **config)
        bad = [json.loads(line) for line in (tmp_path / "out" / "bad_rows.jsonl").read_bytes().splitlines()]
        assert (counts.rows, counts.bad) == (8, 2)
        assert [row["where"] for row in bad] == ["d.jsonl line 6", "d.jsonl line 7"]
        assert bad[0]["reason"] == "`answer` is missing"
        assert all(len(row["text"]) <= 2000 for row in bad)


def test_an_error_leaves_the_files_as_they_were(tmp_path: Path) -> None:
    run(tmp_path, numbered(3))
    before = (tmp_path / "out" / "train.jsonl").read_bytes()
    with pytest.raises(DataError, match="line 6: `answer` is missing"):
        run(tmp_path, [*numbered(5), {"question": "x"}])
    assert (tmp_path / "out" / "train.jsonl").read_bytes() == before
    assert not list((tmp_path / "out").glob("*.partial"))


def test_holding_out_more_rows_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 5 usable rows, and data\.heldout sets 5 aside"):
        run(tmp_path, numbered(5), heldout=5)


def test_fewer_rows_than_asked_for_are_all_used(tmp_path: Path) -> None:
    counts, train, _ = run(tmp_path, numbered(5), n=8)
    assert (len(train), counts.short) == (5, 3)


def test_a_source_that_changes_between_the_passes_is_refused(tmp_path: Path) -> None:
    sizes = iter((6, 7))

    def load(config: DataConfig, on_bad: OnBad | None = None) -> Iterator[Conversation]:
        for row in numbered(next(sizes)):
            yield Conversation((Message("user", row["question"]), Message("assistant", row["answer"])))

    with pytest.raises(DataError, match="changed while it was read"):
        prepare(DataConfig(path="made-up", n=2), tmp_path / "out", load)


def test_a_damaged_file_names_its_line(tmp_path: Path) -> None:
    run(tmp_path, numbered(2))
    path = tmp_path / "out" / "train.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ExperimentError, match="line 2 is damaged"):
        list(iter_conversations(path))


@pytest.mark.parametrize(
    ("name", "rows", "examples", "duplicates"),
    [
        ("sdft/alpaca_train.json", 2000, 2000, 0),
        ("sdft/gsm8k_train.json", 7473, 7473, 0),
        ("sdft/lima_train.json", 1029, 1082, 0),
        ("sdft/openfunction_train.json", 2211, 2211, 522),
        ("gsm8k/train.jsonl", 7473, 7473, 0),
    ],
)
def test_the_papers_files_are_read_whole(
    tmp_path: Path, real_data: Path, name: str, rows: int, examples: int, duplicates: int
) -> None:
    counts = prepare(DataConfig(path=str(real_data / name)), tmp_path)
    assert (counts.rows, counts.examples, counts.duplicates, counts.bad) == (rows, examples, duplicates, 0)


def test_reading_many_rows_reports_progress(tmp_path: Path) -> None:
    path, seen = write_rows(tmp_path / "d.jsonl", numbered(25_000)), []

    def told(*step: Any) -> None:
        seen.append(step)

    prepare(DataConfig(path=str(path)), tmp_path / "all", progress=told)
    assert seen == [("data", 10_000, 0), ("data", 20_000, 0), ("data", 25_000, 25_000)]
    seen.clear()
    prepare(DataConfig(path=str(path), n=10), tmp_path / "ten", progress=told)
    assert seen[:3] == [("data, counting", done, total) for done, total in ((10_000, 0), (20_000, 0), (25_000, 25_000))]
    assert seen[3:] == [("data", done, 25_000) for done in (10_000, 20_000, 25_000)]
