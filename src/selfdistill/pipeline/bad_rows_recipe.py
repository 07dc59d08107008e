"""The parts of `init` that are about rows that can't be used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..data import BadRow

_SHOWN = 3


def bad_row_lines(bad: Sequence[BadRow], count: str, skips: bool, recipe: str) -> Iterator[str]:
    """How many rows can't be used (`count`), the first of them, and what a run does: with `skips` it leaves them out.
    `recipe` is the name of the recipe's file."""
    yield f"{count} can't be used:"
    yield from (f"  {row.where}: {row.reason}" for row in bad[:_SHOWN])
    if len(bad) > _SHOWN:
        yield f"  and {len(bad) - _SHOWN:,} more"
    if skips:
        yield "A run leaves these rows out, and lists them in data/bad_rows.jsonl."
        return
    yield (
        f"A run stops at such rows. Fix the data; or uncomment `on_bad_row: skip` in {recipe}, so that a run leaves "
        "them out and lists them in data/bad_rows.jsonl."
    )


def bad_row_comment(count: str | None) -> str:
    """The comment on `on_bad_row` in a recipe. `count` is None if no row is known that can't be used."""
    if count is None:
        return "leaves out rows that can't be used, in place of stopping, and lists them in bad_rows.jsonl"
    return f"{count} can't be used, and a run stops at them; uncomment this line to leave them out"
