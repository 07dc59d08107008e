"""What was found in the data, and how it is told: one sentence for everything that was left out or needs a look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DataCounts:
    """What `prepare` found and wrote. `rows` are the usable rows of the source, `bad` the others.

    `train` and `heldout` are rows, `examples` the assistant turns in `train` that are trained on, `duplicates` those of
    them that occur before. `contaminated` rows were drawn for `heldout`, but were left out because their prompt is, up
    to case, spaces and punctuation, that of a training row or of another of them. `near_duplicates` rows of `heldout`
    resemble a training row, as `near_pair` shows; `dropped` of them were left out. `short` is how many rows fewer than
    `n` there were.

    Of the training rows: `untrained` assistant turns are context only, `reasoning` turns lost their reasoning, and the
    prompts of `markup` rows hold chat markup as text, first `markup_example`.
    """

    rows: int
    bad: int
    train: int
    heldout: int
    examples: int
    duplicates: int = 0
    contaminated: int = 0
    short: int = 0
    near_duplicates: int = 0
    dropped: int = 0
    near_pair: tuple[str, str] | None = None
    untrained: int = 0
    reasoning: int = 0
    markup: int = 0
    markup_example: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def data_notes(counts: Mapping[str, Any], bad_rows: str = "data/bad_rows.jsonl") -> Iterator[str]:
    """A sentence for each kind of row or turn that was left out, or that needs a look, with the next step."""
    if bad := counts.get("bad"):
        yield f"{_rows(bad)} of the data couldn't be used; they are in {bad_rows} with the reason."
    if contaminated := counts.get("contaminated"):
        yield (
            f"{_rows(contaminated)} drawn for data.heldout were left out, because they ask what is trained on or "
            "repeat each other (compared without case, spaces, punctuation and system text)."
        )
    if near := counts.get("near_duplicates"):
        held, trained = counts["near_pair"]
        kept = "are kept; data.near_duplicates.drop=true leaves them out"
        yield (
            f"{_rows(near)} of data.heldout nearly repeat a training row, and "
            f"{'were left out' if counts.get('dropped') else kept}. "
            f"For example, held out: {held!r}; trained on: {trained!r}."
        )
    if untrained := counts.get("untrained"):
        yield f"{untrained:,} assistant turns are context only, as their marks say: no arm trains on them."
    if reasoning := counts.get("reasoning"):
        yield (
            f"{reasoning:,} assistant turns held reasoning, which was left out: the answers alone are trained on and "
            "graded."
        )
    if markup := counts.get("markup"):
        yield markup_note(markup, str(counts["markup_example"]))
    if short := counts.get("short"):
        yield f"The data holds {_rows(short)} fewer than data.n asks for; all were used."


def item_notes(task: str, counts: Mapping[str, Any]) -> Iterator[str]:
    """The same for the items of a task."""
    if bad := counts.get("bad"):
        yield f"{task}: {_rows(bad)} couldn't be used as items, the first is {counts['first_bad']}."
    if trained := counts.get("trained_on"):
        done = "and were left out" if counts.get("left_out") else "so its score may be too high; they are kept"
        yield (
            f"{task}: {trained:,} items ask what is trained on (compared without case, spaces, punctuation and system "
            f"text), {done}."
        )


def markup_note(rows: int, example: str) -> str:
    return (
        f"Chat markup in the prompts of {_rows(rows)}, as if a chat template had rendered it already, for example "
        f"{example}. The model's own template is put around it a second time; take the markup out of the data, or set "
        "model.chat_template to a template file that adds nothing."
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
