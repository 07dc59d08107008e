"""Append-only rows: found again by id, torn lines cut off, damage named."""

import json
from itertools import compress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfdistill.errors import ExperimentError
from selfdistill.store.rows import RowFile, first_occurrences, parse_line, read_lines, seal_line, write_lines
from selfdistill.types import content_id

texts = st.text(alphabet=st.characters(), max_size=40)  # lone surrogates too


@given(rows=st.dictionaries(st.integers(), texts, max_size=30))
def test_rows_come_back_by_id(rows: dict[int, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    by_id = {content_id(key): text for key, text in rows.items()}
    with RowFile(path) as file:
        for row_id, text in by_id.items():
            assert row_id not in file
            file.append({"id": row_id, "text": text})
    with RowFile(path) as file:
        assert len(file) == len(by_id)
        for row_id, text in by_id.items():
            row = file.get(row_id)
            assert row is not None
            assert row["text"] == text
        assert content_id("another") not in file


@given(cut=st.integers(min_value=0, max_value=200))
def test_a_torn_last_line_is_cut_off_and_appending_goes_on(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{"id": content_id(n), "text": "é" * n} for n in range(5)]
    whole = b"".join(map(seal_line, rows))
    path.write_bytes(whole[: min(cut, len(whole))])
    with RowFile(path) as file:
        missing = [row for row in rows if row["id"] not in file]
        for row in missing:
            file.append(row)
    assert path.read_bytes() == whole


def sealed_rows(path: Path, count: int = 6) -> list[dict[str, object]]:
    rows = [{"id": content_id(n), "text": f"é {n} }}\n"} for n in range(count)]
    with RowFile(path) as file:
        for row in rows:
            file.append(row)
    return rows


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), how=st.sampled_from(["flip", "cut", "drop"]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_found_and_only_its_rows_are_missing(
    place: float, bit: int, how: str, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped bit anywhere (in the checksum, its key, a line's end), a row cut short, a byte lost."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = sealed_rows(path)
    whole = path.read_bytes()
    at = int(place * len(whole))
    end = whole.index(b"\n", at)
    damaged = bytearray(whole)
    if how == "flip":
        damaged[at] ^= 1 << bit
    elif how == "drop":
        del damaged[at]
    else:
        del damaged[at:end]
    path.write_bytes(damaged)
    hit = whole[:at].count(b"\n")
    lost = {hit, hit + 1} if at == end and how != "cut" else {hit}
    if at == end and how == "cut":
        lost = set()  # nothing was cut
    torn = how != "cut" and at == len(whole) - 1 and not damaged.endswith(b"\n")
    if lost and not torn:
        with pytest.raises(ExperimentError, match=r"rows\.jsonl: lines? .*damaged"):
            RowFile(path, reading=True)
    caplog.clear()
    with RowFile(path) as file:
        missing = [row for row in rows if row["id"] not in file]
        assert {rows.index(row) for row in missing} == {n for n in lost if n < len(rows)}
        assert all(file.get(str(row["id"])) == row for row in rows if row not in missing)
        for row in missing:
            file.append(row)
    if lost and not torn:
        assert "damaged; moved to rows.jsonl.damaged, and made again" in caplog.text
        assert path.with_name("rows.jsonl.damaged").read_bytes() in bytes(damaged)
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_a_row_stays_readable_json_and_one_without_checksum_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = sealed_rows(path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert {key: value for key, value in json.loads(lines[0]).items() if key != "crc"} == rows[0]
    edited = {"id": rows[1]["id"], "text": "by hand"}
    path.write_bytes(lines[0] + json.dumps(edited).encode() + b"\n" + b"".join(lines[2:]))
    with RowFile(path) as file:
        assert len(file) == len(rows)
        assert file.get(str(rows[1]["id"])) == edited
    assert [row["text"] for row in read_lines(path)][:2] == [rows[0]["text"], "by hand"]
    with pytest.raises(ValueError, match="checksum"):
        parse_line(lines[0].replace(b"0 }", b"1 }"))


def test_a_damaged_line_of_a_finished_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a":\n')
    with pytest.raises(ExperimentError, match="line 2 is damaged"):
        list(read_lines(path))


def test_write_lines_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_lines(path, [{"a": 1}])

    def failing():  # type: ignore[no-untyped-def]
        yield {"a": 2}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lines(path, failing())
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}]
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


@given(st.lists(st.integers(0, 20)))
def test_first_occurrences_are_found(numbers: list[int]) -> None:
    ids = [content_id(number) for number in numbers]
    assert list(compress(ids, first_occurrences(ids))) == list(dict.fromkeys(ids))
