"""Ways in which a file comes to harm on a disk or on the way to another machine."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

# Files that are made again at the end of every run (verdict.json, the pages), the lock, and the log that a training
# shows its losses by, need no checksum.
FILES = (
    "manifest.json", "data/*.jsonl", "items/*.jsonl", "rewrite/*.jsonl", "arms/*/data.jsonl", "arms/*/train.json",
    "arms/*/interpolation.json", "arms/*/model/*", "arms/*/evaluate/*/*", "shift/*.json",
)  # fmt: skip
CHECKPOINTS = ("arms/*/checkpoints/*/*",)


def pick(rng: random.Random, where: Path, patterns: tuple[str, ...] = FILES) -> Path | None:
    found = sorted(path for pattern in patterns for path in where.glob(pattern))
    found = [
        path for path in found if path.is_file() and path.stat().st_size and path.suffix not in (".damaged", ".partial")
    ]
    return rng.choice(found) if found else None


def flip_a_bit(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut_a_row(rng: random.Random, path: Path) -> None:
    """A line loses its end; of a file that has no lines, the file."""
    content = path.read_bytes()
    at = rng.randrange(len(content))
    end = content.find(b"\n", at) if path.suffix == ".jsonl" else len(content)
    path.write_bytes(content[:at] + content[end:])


def tear(rng: random.Random, path: Path) -> None:
    """The file's last bytes are not there, as after power was lost."""
    content = path.read_bytes()
    path.write_bytes(content[: -min(len(content), rng.randrange(1, 60))])


def zero_a_block(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    size = min(512, len(content) - at)
    content[at : at + size] = bytes(size)
    path.write_bytes(content)


def remove(_rng: random.Random, path: Path) -> None:
    path.unlink()


DAMAGE: dict[str, Callable[[random.Random, Path], None]] = {
    "a flipped bit": flip_a_bit,
    "a truncated row": cut_a_row,
    "a torn end": tear,
    "a block of zeros": zero_a_block,
    "a missing file": remove,
}
