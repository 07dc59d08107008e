"""Reads 1,000,000 rows of JSONL and of one JSON array: rows per second and peak memory.

python benchmarks/read_million.py [rows]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pairs import Row

TEXT = "the model reads a row of its training data and keeps what it knew before über naïve 数据 данные"
WORDS = TEXT.split()


def row(index: int) -> str:
    """An Alpaca row of about 600 characters; every row is different."""
    text = [" ".join(WORDS[(index * 7 + i * k) % len(WORDS)] for i in range(40)) for k in (3, 5)]
    fields = {"instruction": f"Question {index}: {text[0]}", "input": "", "output": f"{text[1]} {index}"}
    return json.dumps(fields, ensure_ascii=index % 2 == 0)


def write(path: Path, count: int) -> None:
    start, between, end = ("", "\n", "\n") if path.suffix == ".jsonl" else ("[", ",\n", "]\n")

    def lines() -> Iterator[str]:
        for index in range(count):
            yield (between if index else start) + row(index)

    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines())
        file.write(end)


def measure(path: Path, draw: dict[str, int]) -> None:
    """Runs in a separate process, so that the peak memory is that of reading."""
    from selfdistill.data import prepare
    from selfdistill.recipe import DataConfig

    start = time.perf_counter()
    counts = prepare(DataConfig.model_validate({"path": str(path), **draw}), path.parent / "data")
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak = usage.ru_maxrss / 1024  # KiB on Linux
    cpu = usage.ru_utime + usage.ru_stime
    what = f"reading {counts.rows:,} rows, {path.name}, {json.dumps(draw)}"
    Row(what, "", [counts.rows / seconds], "rows/s", counts.rows / seconds, note=f"peak {peak:.0f} MiB").tell()
    print(
        f"{path.name:12} {json.dumps(draw):34} {seconds:6.1f} s  {counts.rows / seconds:9,.0f} rows/s  "
        f"CPU {cpu:6.1f} s {counts.rows / cpu:9,.0f} rows/s  "
        f"peak {peak:5.0f} MiB  train {counts.train:,}  held out {counts.heldout:,}",
        flush=True,
    )


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--measure":
        measure(Path(sys.argv[2]), json.loads(sys.argv[3]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for name in ("rows.jsonl", "rows.json"):
            path = Path(folder) / name
            write(path, count)
            draws: list[dict[str, int]] = [{}, {"n": count // 2, "heldout": 1000}]
            for draw in draws:
                command = [sys.executable, __file__, "--measure", str(path), json.dumps(draw)]
                subprocess.run(command, check=True)
            path.unlink()


if __name__ == "__main__":
    main()
