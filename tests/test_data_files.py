"""Files as users have them: compressed, TSV, CSV, Arrow, folders of shards, objects of columns, class labels."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfdistill.data import BadRow, is_hub_name, read_conversations, read_records, read_rows
from selfdistill.data.folders import data_files
from selfdistill.errors import DataError
from selfdistill.recipe import DataConfig

ROWS = [{"question": f"What is {i}?", "answer": f"{i}; é 数"} for i in range(5)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
CSV = ("question,answer\n" + "".join(f"{row['question']},{row['answer']}\n" for row in ROWS)).encode()


def read(path: Path, **config: Any) -> list[dict[str, Any]]:
    return [row for _, row in read_records(DataConfig(path=str(path), **config))]


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("content", [(".jsonl", LINES), (".json", json.dumps(ROWS).encode()), (".csv", CSV)])
def test_compressed_text_is_read(tmp_path: Path, suffix: str, content: tuple[str, bytes]) -> None:
    packers: dict[str, Callable[[bytes], bytes]] = {
        "": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd,
    }  # fmt: skip
    kind, data = content
    path = tmp_path / f"d{kind}{suffix}"
    path.write_bytes(packers[suffix](data))
    assert read(path) == ROWS
    unnamed = tmp_path / "rows"
    unnamed.write_bytes(packers[suffix](data))
    if kind != ".csv":
        assert read(unnamed) == ROWS


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_compressed_text_that_is_cut_off_is_an_error(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(LINES * 5000)
    (tmp_path / "d.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"can't be (unpacked|read) .*(damaged or incomplete|check the file)"):
        read(tmp_path / "d.jsonl.gz", on_bad_row="skip")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("d.tsv", "question\tanswer\nWhat, then?\t2;3\n"),
        ("d.csv", "question;answer\nWhat, then?;2;3\n".replace("2;3", '"2;3"')),
        ("d.csv", 'question|answer\n"What, then?"|2;3\n'),
        ("d.csv", 'question,answer\n"What, then?",2;3\n'),
        ("d.csv", 'question,"answer"\n"What, then?",2;3\n'),
        ("d.csv", '\ufeffquestion;answer\nWhat, then?;"2;3"\n'),
        ("d.tsv.gz", "question\tanswer\nWhat, then?\t2;3\n"),
    ],
)
def test_the_delimiter_is_recognised(tmp_path: Path, name: str, text: str) -> None:
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert read(tmp_path / name) == [{"question": "What, then?", "answer": "2;3"}]


def test_a_header_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes("café,answer\nx,y\n".encode("latin-1"))
    with pytest.raises(DataError, match="column names in line 1 that are not UTF-8"):
        read(tmp_path / "d.csv")


def test_a_header_of_unknown_names_is_read_with_named_columns(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("Frage;Antwort, kurz\nx;y\n", encoding="utf-8")
    assert read(tmp_path / "d.csv", columns={"question": "Frage"})[0].keys() == {"Frage", "Antwort, kurz"}
    (tmp_path / "wide.csv").write_bytes("question,answer\nx,y\n".encode("utf-16"))
    with pytest.raises(DataError, match="is UTF-16; save it as UTF-8"):
        read(tmp_path / "wide.csv")


def test_arrow_files_and_streams_are_read(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=2)
    with pa.ipc.new_stream(tmp_path / "b.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    (tmp_path / "unnamed").write_bytes((tmp_path / "b.arrow").read_bytes())
    for name in ("a.arrow", "b.arrow", "unnamed"):
        assert read(tmp_path / name) == ROWS
    (tmp_path / "c.arrow").write_bytes(b"no arrow")
    with pytest.raises(DataError, match="can't be read as Arrow"):
        read(tmp_path / "c.arrow")


def test_class_labels_are_their_names(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"question": Value("string"), "answer": ClassLabel(names=["no", "yes"])})
    dataset = Dataset.from_dict({"question": ["a", "b", "c"], "answer": [1, 0, -1]}, features=features)
    dataset.to_parquet(str(tmp_path / "d.parquet"))
    dataset.save_to_disk(str(tmp_path / "saved"))
    shard = next((tmp_path / "saved").glob("*.arrow"))
    for path in (tmp_path / "d.parquet", tmp_path / "saved", shard):
        assert [row["answer"] for row in read(path)] == ["yes", "no", None]


@pytest.mark.parametrize(
    "value",
    [
        {"question": ["a", "b"], "answer": ["x", "y"]},
        {"question": {"0": "a", "1": "b"}, "answer": {"0": "x", "1": "y"}},
        {"messages": [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in ("ax", "by")]},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_one_object_of_columns_is_read_as_rows(tmp_path: Path, value: dict[str, Any], indent: int | None) -> None:
    (tmp_path / "d.json").write_text(json.dumps(value, indent=indent) + "\n\n", encoding="utf-8")
    conversations = read_conversations(DataConfig(path=str(tmp_path / "d.json")))
    assert [[m.content for m in row.messages] for row in conversations] == [["a", "x"], ["b", "y"]]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_single_row_is_no_object_of_columns(tmp_path: Path, indent: int | None) -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (tmp_path / "d.json").write_text(json.dumps(row, indent=indent), encoding="utf-8")
    assert read(tmp_path / "d.json") == [row]


def shards(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(ROWS[number % 5]).encode() + b"\n"
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist([ROWS[number % 5]]), path)
        else:
            path.write_bytes(gzip.compress(line) if name.endswith(".gz") else line)


def test_a_folder_of_shards_is_one_data_set(tmp_path: Path) -> None:
    shards(tmp_path / "a", "part-0.jsonl", "part-1.jsonl.gz", "part-2.jsonl")
    (tmp_path / "a" / "README.md").write_text("about")
    (tmp_path / "a" / "dataset_info.json").write_text("{}")
    assert read(tmp_path / "a") == ROWS[:3]
    shards(tmp_path / "b", *(f"data/{name}.parquet" for name in ("train-0", "train-1", "test-0")), ".git/x.jsonl")
    assert read(tmp_path / "b") == ROWS[:2]
    assert read(tmp_path / "b", split="test") == ROWS[2:3]
    assert [path.name for path in data_files(tmp_path / "b", "test")] == ["test-0.parquet"]
    (where, _), *_ = read_rows(DataConfig(path=str(tmp_path / "a")))
    assert where == "part-0.jsonl line 1"


@pytest.mark.parametrize(
    ("names", "split", "reason"),
    [
        (["notes.md"], "train", "holds no data files"),
        (["train.jsonl", "test.jsonl"], "dev", "no files of the split 'dev'; set data.split to one of test, train"),
        (["a.jsonl", "b.jsonl"], "test", "no files of the split 'test'; set data.split to one of train"),
        (["train.jsonl", "more.jsonl"], "train", "the split of more.jsonl is not clear"),
        (
            ["a.jsonl", "sub/b.jsonl"],
            "train",
            r"data files \(a.jsonl, …\), and so do folders below it \(sub/b.jsonl",
        ),
        (["a.jsonl", "b.parquet"], "train", r"holds files of several kinds \(json, parquet\)"),
    ],
)
def test_an_ambiguous_folder_is_refused(tmp_path: Path, names: list[str], split: str, reason: str) -> None:
    shards(tmp_path, *names)
    with pytest.raises(DataError, match=reason):
        read(tmp_path, split=split)


@pytest.mark.parametrize("name", ["d.zip", "d.xlsx", "d.csv"])
def test_archives_say_to_unpack_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04rest")
    with pytest.raises(DataError, match="is an archive or a spreadsheet; unpack it, or save the sheet as CSV"):
        read(tmp_path / name)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    (tmp_path / "d.parquet.gz").write_bytes(gzip.compress((tmp_path / "d.parquet").read_bytes()))
    with pytest.raises(DataError, match="is a compressed Parquet file; unpack it"):
        read(tmp_path / "d.parquet.gz")


def test_nan_in_json_is_an_empty_cell(tmp_path: Path) -> None:
    text = '{"instruction": "a", "input": NaN, "output": "b"}\n{"instruction": "a", "input": "x", "output": NaN}\n'
    (tmp_path / "d.jsonl").write_text(text, encoding="utf-8")
    bad: list[BadRow] = []
    (row,) = read_conversations(DataConfig(path=str(tmp_path / "d.jsonl"), on_bad_row="skip"), bad.append)
    assert row.messages[0].content == "a"
    assert bad[0].reason == "`output` is null"


def test_names_of_compressed_files_are_no_hub_names() -> None:
    assert not is_hub_name("data/train.jsonl.gz")
    assert not is_hub_name("data/train.tsv")
    assert is_hub_name("org/data.v2")
