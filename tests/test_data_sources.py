"""Rows from files, folders and the hub: good ones come through, bad ones are named."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdistill.data import BadRow, json_rows, read_conversations, read_records, read_rows
from selfdistill.errors import DataError
from selfdistill.recipe import DataConfig

ROWS = [{"question": f"What is {i}?", "answer": f"{i} — é 数 🙂\n\u2028end"} for i in range(5)]


def rows_of(path: Path, **settings: Any) -> list[tuple[str, Any]]:
    return list(read_rows(DataConfig(path=str(path), **settings)))


def good(path: Path, **settings: Any) -> list[dict[str, Any]]:
    return [row for _, row in read_records(DataConfig(path=str(path), **settings))]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(rows: list[Any], ensure_ascii: bool = False) -> str:
    return "".join(json.dumps(row, ensure_ascii=ensure_ascii) + "\n" for row in rows)


def write_csv(path: Path, rows: list[dict[str, str]], encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, ensure_ascii: bool, bom: bytes) -> None:
    jsonl = write(tmp_path / "a.jsonl", bom + lines(ROWS, ensure_ascii).encode())
    windows = write(tmp_path / "w.jsonl", bom + lines(ROWS, ensure_ascii).replace("\n", "\r\n").encode())
    array = write(tmp_path / "a.json", bom + json.dumps(ROWS, ensure_ascii=ensure_ascii, indent=2).encode())
    table = write_csv(tmp_path / "a.csv", ROWS, "utf-8-sig" if bom else "utf-8")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=2)
    misnamed = write(tmp_path / "lines.json", bom + lines(ROWS, ensure_ascii).encode())
    no_suffix = write(tmp_path / "rows", bom + json.dumps(ROWS).encode())
    for path in (jsonl, windows, array, table, tmp_path / "a.parquet", misnamed, no_suffix):
        assert good(path) == ROWS, path.name


def test_parquet_without_a_suffix_is_recognised(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows")
    assert good(tmp_path / "rows") == ROWS


def test_saved_dataset_folders_are_read(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    dataset = Dataset.from_list(ROWS)
    dataset.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": dataset, "test": dataset.select([0])}).save_to_disk(str(tmp_path / "both"))
    assert good(tmp_path / "one") == ROWS
    assert good(tmp_path / "both") == ROWS
    assert good(tmp_path / "both", split="test") == ROWS[:1]
    with pytest.raises(DataError, match=r"no split 'dev'.* one of train, test"):
        good(tmp_path / "both", split="dev")


def test_where_names_line_or_index(tmp_path: Path) -> None:
    text = "\n" + lines(ROWS[:2]) + "\n\n" + lines(ROWS[2:3])
    assert [where for where, _ in rows_of(write(tmp_path / "d.jsonl", text))] == [
        "d.jsonl line 2",
        "d.jsonl line 3",
        "d.jsonl line 6",
    ]
    assert [where for where, _ in rows_of(write(tmp_path / "d.json", json.dumps(ROWS[:2])))] == [
        "d.json index 0",
        "d.json index 1",
    ]
    table = write(tmp_path / "d.csv", 'a,b\n1,"x\ny"\n\n2,z\n')
    assert [where for where, _ in rows_of(table)] == ["d.csv line 2", "d.csv line 5"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "not JSON: "),
        (b"nonsense", "not JSON: Expecting value at column 1"),
        (b'{"a": "b', "not JSON: Unterminated string starting at column 7"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "x\xe9", oops', "not UTF-8"),
        (b"[1, 2]", "is not an object"),
        (b"null", "is not an object"),
        (b'"text"', "is not an object"),
        (b'{"a": "\\ud83d"}', "half a surrogate pair"),
        (b'{"\\uDC00": 1}', "half a surrogate pair"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "limit"),
    ],
)
def test_a_bad_line_is_named_and_the_next_is_read(tmp_path: Path, line: bytes, reason: str) -> None:
    path = write(tmp_path / "d.jsonl", b'{"a": "one"}\n' + line + b'\n{"a": "\\ud83d\\ude42"}\n')
    first, bad, last = rows_of(path)
    assert (first[1], last) == ({"a": "one"}, ("d.jsonl line 3", {"a": "🙂"}))
    assert isinstance(bad[1], BadRow)
    assert bad[1].where == "d.jsonl line 2"
    assert reason in bad[1].reason
    assert len(bad[1].text) <= 2000
    assert json.dumps(bad[1].to_json(), ensure_ascii=False).encode()


def test_bad_rows_of_an_array_are_named_by_index(tmp_path: Path) -> None:
    content = b'[{"a": "one"}, 7, {"a": "\xff"}, {"a": "\\ud83d"}, "x", {"a": "last"}]'
    rows = rows_of(write(tmp_path / "d.json", content))
    reasons = {where: row.reason for where, row in rows if isinstance(row, BadRow)}
    assert [row for _, row in rows if not isinstance(row, BadRow)] == [{"a": "one"}, {"a": "last"}]
    assert list(reasons) == [f"d.json index {i}" for i in (1, 2, 3, 4)]
    assert reasons["d.json index 2"] == "not UTF-8"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"a": 1}, {"a": ', "index 1, near line 1: the file ends inside the array"),
        ('[{"a": 1}, {"a": "text', "ends inside the array"),
        ('[{"a": 1}', "ends inside the array"),
        ('[{"a": 1},', "ends inside the array"),
        ("[", "ends inside the array"),
        ('[{"a": 1}\n {"a": 2}]', "index 1, near line 2: expected , or \\], found '{'"),
        ('[{"a": 1},]', "not JSON: Expecting value"),
        ('[{"a": 1}, {a: 2}, ' + '{"a": 3}, ' * 10 + "{}]", "index 1.*not JSON: Expecting property name"),
        ('[{"a": 1}] tail', "text after the array"),
        ('[{"a": 1}][{"a": 1}]', "text after the array"),
    ],
)
def test_a_broken_array_stops_with_place_and_reason(tmp_path: Path, content: str, reason: str) -> None:
    path = write(tmp_path / "d.json", content)
    with pytest.raises(DataError, match=reason):
        rows_of(path, on_bad_row="skip")


def test_an_array_larger_than_the_chunks_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": 'é数🙂\\"' * i, "n": i} for i in range(300)]
    for chunk in (1, 7, 1000):
        monkeypatch.setattr(json_rows, "_CHUNK", chunk)
        for ensure_ascii in (True, False):
            path = write(tmp_path / "d.json", json.dumps(rows[: 20 * chunk], ensure_ascii=ensure_ascii, indent=1))
            assert good(path) == rows[: 20 * chunk]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=4), min_size=1, max_size=6
    ),
    ensure_ascii=st.booleans(),
    indent=st.none() | st.integers(0, 2),
    chunk=st.integers(1, 64),
)
def test_json_rows_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], ensure_ascii: bool, indent: int | None, chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("json")
    array = write(folder / "d.json", json.dumps(rows, ensure_ascii=ensure_ascii, indent=indent))
    by_line = write(folder / "d.jsonl", lines(rows, ensure_ascii))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "_CHUNK", chunk)
        assert good(array) == rows
    if len(rows) > 1 or json_rows.rows_of_columns(rows[0]) is None:
        assert good(by_line) == rows


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200), suffix=st.sampled_from(["json", "jsonl", "csv", "parquet", "txt"]))
def test_any_bytes_give_rows_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = write(tmp_path_factory.mktemp("any") / f"d.{suffix}", content)
    try:
        rows = rows_of(path)
    except DataError:
        return
    assert all(where and isinstance(row, (dict, BadRow)) for where, row in rows)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_a_huge_row_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(json_rows, "MAX_ROW", 1000)
    monkeypatch.setattr(json_rows, "_CHUNK", 100)
    huge = json.dumps({"a": "x" * 5000})
    if suffix == "jsonl":
        first, bad, last = rows_of(write(tmp_path / "d.jsonl", f'{{"a": 1}}\n{huge}\n{{"a": 2}}\n'))
        assert (first[1], last) == ({"a": 1}, ("d.jsonl line 3", {"a": 2}))
        assert isinstance(bad[1], BadRow)
        assert "is longer than" in bad[1].reason
    else:
        with pytest.raises(DataError, match=r"index 1.*is longer than"):
            rows_of(write(tmp_path / "d.json", f'[{{"a": 1}}, {huge}]'))


def test_csv_rows_that_do_not_fit_the_header_are_named(tmp_path: Path) -> None:
    content = b'question,answer\none,two\nthree\na,b,c\n"q" x,y\nx,\xff\nlast,row\n'
    rows = rows_of(write(tmp_path / "d.csv", content))
    reasons = {where: row.reason for where, row in rows if isinstance(row, BadRow)}
    assert reasons == {
        "d.csv line 3": "has 1 fields, the header has 2",
        "d.csv line 4": "has 3 fields, the header has 2",
        "d.csv line 5": "not CSV: ',' expected after '\"'",
        "d.csv line 6": "not UTF-8",
    }
    assert rows[-1] == ("d.csv line 7", {"question": "last", "answer": "row"})


def test_a_csv_quote_that_is_never_closed_does_not_swallow_the_rest_in_silence(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path / "d.csv", 'a,b\n1,2\n3,"4\n5,6\n'))
    assert rows[0][1] == {"a": "1", "b": "2"}
    assert isinstance(rows[1][1], BadRow)
    assert "unexpected end of data" in rows[1][1].reason


def test_csv_columns_named_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names columns twice in line 1: a"):
        rows_of(write(tmp_path / "d.csv", "a,b,a\n1,2,3\n"))


def broken_parquet(path: Path) -> Path:
    return write(path, b"PAR1 this is not parquet")


def test_a_source_that_is_none_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    cases = {
        "missing.jsonl": "There is no data file .*missing.jsonl; check the path",
        "folder": "holds no data files",
        "broken.parquet": "can't be read as Parquet",
        "notes.txt": "is not recognised; rename it to .json",
        "wide.json": "is UTF-16; save it as UTF-8",
        "pretty.json": "holds an object over several lines",
    }
    broken_parquet(tmp_path / "broken.parquet")
    write(tmp_path / "notes.txt", "Dear diary")
    write(tmp_path / "wide.json", json.dumps(ROWS).encode("utf-16"))
    write(tmp_path / "pretty.json", "\n".join(json.dumps(row, indent=2) for row in ROWS))
    for name, message in cases.items():
        with pytest.raises(DataError, match=message):
            rows_of(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_read_permission_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", lines(ROWS))
    path.chmod(0)
    with pytest.raises(DataError, match="check the file and its permissions"):
        rows_of(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", ""), ("a.json", "[]"), ("a.json", " [ \n] "), ("a.jsonl", "\n\n"), ("a.csv", "q,a\n")],
)
def test_an_empty_dataset_is_refused(tmp_path: Path, name: str, content: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match="it holds no rows"):
        good(path)
    with pytest.raises(DataError, match="it holds no rows"):
        list(read_conversations(DataConfig(path=str(path))))


def test_the_first_ten_bad_rows_are_listed(tmp_path: Path) -> None:
    two = write(tmp_path / "two.jsonl", '{"a": 1}\noops\nnull\n')
    with pytest.raises(DataError) as told:
        good(two)
    assert "2 rows can't be used:\n  two.jsonl line 2: not JSON" in str(told.value)
    assert "  two.jsonl line 3: is not an object" in str(told.value)
    assert "on_bad_row" in str(told.value)
    many = write(tmp_path / "many.jsonl", "oops\n" * 50)
    with pytest.raises(DataError) as told:
        good(many)
    assert "at least 10 rows" in str(told.value)
    assert str(told.value).count("not JSON") == 10


def test_skipped_rows_are_handed_over(tmp_path: Path) -> None:
    config = DataConfig(path=str(write(tmp_path / "d.jsonl", '{"a": 1}\noops\n{"a": 2}\n')), on_bad_row="skip")
    bad: list[BadRow] = []
    assert [row for _, row in read_records(config, bad.append)] == [{"a": 1}, {"a": 2}]
    assert [row.to_json() for row in bad] == [
        {"where": "d.jsonl line 2", "reason": "not JSON: Expecting value at column 1", "text": "oops"}
    ]
    with pytest.raises(DataError):  # nobody would know of it
        list(read_records(config))
    only_bad = DataConfig(path=str(write(tmp_path / "bad.jsonl", "oops\n")), on_bad_row="skip")
    with pytest.raises(DataError, match="none of its 1 rows can be used"):
        list(read_records(only_bad, bad.append))


def test_an_unreachable_hub_name_is_an_error_with_advice(tmp_path: Path) -> None:
    code = (
        "from selfdistill.recipe import DataConfig\nfrom selfdistill.data import read_rows\n"
        "from selfdistill.errors import DataError\n"
        "try:\n    list(read_rows(DataConfig(path='no-such-org/no-such-data')))\n"
        "except DataError as error:\n    print(error)\n"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "The hub dataset no-such-org/no-such-data can't be loaded" in done.stdout
    assert "check its name, data.config, data.split and the network" in done.stdout


def test_importing_data_is_cheap() -> None:
    code = "import sys, selfdistill.data.export; print({'datasets', 'torch', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_csv_fields_may_be_long(tmp_path: Path) -> None:
    row = {"question": "q" * 200_000, "answer": "a"}
    assert good(write_csv(tmp_path / "d.csv", [row])) == [row]
    assert json_rows.MAX_ROW > 1 << 20
