"""Hostile text: pieces that mean something to a parser, mixed with what Unicode and terminals hold."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from selfdistill.types import Example, Message

ODD = [
    "\x00", "\r", "\r\n", "\n", " ", "\t", "\x0b", "\x1c", "\x1b[31m", "\x1b]0;x\x07", "\x7f", "\x85", "\xa0", "\xad",
    "\ufeff", "\ufffe", "\u200b", "\u200d", "\u202e", "\u2066", "\u2028", "\u2029", "\u0301", "\u0345", "\ud800",
    "\udfff", "\ud83d", "é", "e\u0301", "ß", "ŉ", "İ", "ı", "ﬁ", "Ω", "שלום", "مرحبا", "１２", "٣٤", "۵", "१", "²",
    "½", "Ⅷ", "①", "😀", "👩‍👩‍👧", "🏳️‍🌈", "\U0010ffff", "是", "，", "．", "－", "＃", "a" * 40, "9" * 5000,
]  # fmt: skip
"""Controls, marks that join, hide or turn round, half a surrogate pair, letters whose case changes their length, digits
of other scripts, and what is long."""


def mixed(pieces: Sequence[str], most: int = 10) -> st.SearchStrategy[str]:
    """Texts of up to `most` parts: `pieces`, odd signs, and any text."""
    part = st.one_of(st.sampled_from(pieces), st.sampled_from(pieces), st.sampled_from(ODD), st.text(max_size=6))
    return st.lists(part, max_size=most).map("".join)


def plain(text: str) -> str:
    """`text` as a file in UTF-8 can hold it."""
    return text.encode("utf-8", "replace").decode()


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(ODD), st.text(max_size=8),
    st.sampled_from(["user", "assistant", "system", "stop", "length", "error", "pass", "../../etc/passwd", "=1+1"]),
)  # fmt: skip


def values(keys: Sequence[str]) -> st.SearchStrategy[Any]:
    """Plain JSON values of some depth, with `keys` among the names of their objects."""
    names = st.one_of(st.sampled_from(keys), st.sampled_from(keys), st.text(max_size=6))
    return st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
    )


def damaged(whole: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of `whole` with up to four places overwritten, cut out, or doubled."""
    noise = st.binary(max_size=4) | st.sampled_from([b"\x00", b"\n", b"\r", b"[" * 3000, b'"', b"\xff\xfe", b"{", b"}"])
    change = st.tuples(st.floats(0, 1), st.integers(0, 9), noise)

    def apply(made: tuple[bytes, list[tuple[float, int, bytes]]]) -> bytes:
        data, changes = made
        for share, length, new in changes:
            place = int(share * len(data))
            data = data[:place] + new + data[place + length :]
        return data

    return st.tuples(st.sampled_from(whole), st.lists(change, max_size=4)).map(apply)


def json_bytes(value: Any) -> bytes:
    """As Python writes it: NaN and half surrogate pairs, too, which not every reader takes."""
    return json.dumps(value).encode()


@dataclass(frozen=True)
class Target:
    """A strategy for inputs, and a check of one, which raises where something is wrong: another exception than those
    that a user can mend, a row lost or changed, a verdict that hangs on what it should not."""

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    share: float = 1.0
    """How many inputs it is given beside the others; less for what takes long."""


@cache
def folder() -> Path:
    """A folder for the files that targets read."""
    made = Path(tempfile.mkdtemp(prefix="selfdistill-fuzz-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def written(name: str, data: bytes) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


def example(reference: str, asked: str = "What is asked?", **extra: Any) -> Example:
    return Example.of((Message("user", asked),), reference, extra)
