"""Counts of the data, and a sentence for every kind of row that was left out or needs a look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..types.wording import counted

_REASONING: Mapping[str | None, str] = {
    None: "held reasoning, which was left out: only the answers are trained on and graded",
    "off": "held reasoning, which was left out because model.reasoning is off",
    "trained": "with reasoning, which is trained on as part of the original response",
    "masked": "with reasoning, which stands before the answer and is not trained on",
}
"""What happened to the reasoning that rows bring, by the key `reasoning_use` of the counts."""


@dataclass(frozen=True)
class DataCounts:
    """Counts of the rows that `prepare` read and wrote.

    `rows` and `bad`: the usable and the bad rows of the source. `train` and `heldout`: the rows written. `examples`:
    the assistant turns in `train` that are trained on. `duplicates`: the examples that repeat an earlier one.
    `contaminated`: rows that were drawn for `heldout` and left out, because a training row or another held-out row has
    the same prompt (ignoring case, spaces and punctuation). `near_duplicates`: held-out rows that resemble a training
    row, as the example `near_pair` shows; `dropped` of them were left out. `short`: the rows that are missing from `n`.

    In the training rows: `untrained` assistant turns are context only, `reasoning` turns hold reasoning, `markup` rows
    contain chat markup, for example `markup_example`, and `think_marks` rows hold a mark of a think trace, such as
    `think_mark`, in a turn that is not the assistant's.
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
    think_marks: int = 0
    think_mark: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def data_notes(counts: Mapping[str, Any], bad_rows: str = "data/bad_rows.jsonl") -> Iterator[str]:
    """A sentence for each kind of row or turn that was left out, or that needs a look, with the next step."""
    if bad := counts.get("bad"):
        yield f"{counted(bad, 'row')} of the data couldn't be used; they are in {bad_rows} with the reason."
    if contaminated := counts.get("contaminated"):
        yield (
            f"{counted(contaminated, 'row')} drawn for data.heldout left out, because their prompts are trained on or "
            "repeat each other (compared without case, spaces, punctuation and system text)."
        )
    if near := counts.get("near_duplicates"):
        kept = "are kept; data.near_duplicates.drop=true leaves them out"
        if near == counts.get("heldout"):
            kept = "are kept, since these are all; give the task heldout a path to other rows, or raise the threshold"
        yield (
            f"{counted(near, 'row')} of data.heldout nearly repeat a training row, and "
            f"{'were left out' if counts.get('dropped') else kept}. Their prompts are at least as similar as "
            f"data.near_duplicates.threshold says; the training rows stay.{_pair(counts, 'held out')}"
        )
    if untrained := counts.get("untrained"):
        yield f"Context only because of their marks: {counted(untrained, 'assistant turn')}, on which no arm trains."
    if reasoning := counts.get("reasoning"):
        yield f"{counted(reasoning, 'assistant turn')} {_REASONING[counts.get('reasoning_use')]}."
    if markup := counts.get("markup"):
        yield markup_note(markup, counts["markup_example"])
    if marks := counts.get("think_marks"):
        yield (
            f"Marks of a think trace, such as {counts['think_mark']}, stand in a turn that is not the assistant's in "
            f"{counted(marks, 'row')}. A model that thinks may read one as the start or the end of its own trace; take "
            "them out."
        )
    if short := counts.get("short"):
        yield f"The data holds {counted(short, 'row')} fewer than data.n asks for; all rows were used."


def item_notes(task: str, counts: Mapping[str, Any]) -> Iterator[str]:
    """The sentences for the items of a task."""
    if bad := counts.get("bad"):
        first = f", the first is {counts['first_bad']}" if counts.get("first_bad") else ""
        yield f"{task}: {counted(bad, 'row')} couldn't be used as items{first}."
    if trained := counts.get("trained_on"):
        done = "and were left out" if counts.get("left_out") else "so its score may be too high; they are kept"
        yield (
            f"{task}: the prompts of {counted(trained, 'item')} are trained on (compared without case, spaces, "
            f"punctuation and system text), {done}."
        )
    if near := counts.get("near_duplicates"):
        yield f"{task}: {counted(near, 'item')} kept although close to a training row.{_pair(counts, 'asked')}"
    if short := counts.get("short"):
        yield f"{task}: {counted(short, 'item')} fewer than its n; all of them were asked."


def without_examples(counts: Mapping[str, Any]) -> dict[str, Any]:
    """The counts without text of single rows. Their sentences are the same, but for the examples."""
    return {**counts, "near_pair": None, "markup_example": None, "first_bad": None}


def _pair(counts: Mapping[str, Any], first: str) -> str:
    """The example of two rows that nearly repeat each other; empty without one."""
    if not counts.get("near_pair"):
        return ""
    own, trained = counts["near_pair"]
    return f" For example, {first}: {own!r}; trained on: {trained!r}."


def duplicates_note(duplicates: int, examples: int) -> str:
    """What a run does with examples that repeat an earlier one."""
    return (
        f"{duplicates:,} of {counted(examples, 'response')} repeat an earlier one exactly, with the same prompt. All "
        "are kept: a repeated response is rewritten once, and trained on as often as it occurs. No setting leaves them "
        "out; to train on each once, take the repeated rows out of the data"
    )


def markup_note(rows: int, example: str | None) -> str:
    shown = f", for example {example}" if example else ""
    return (
        f"Chat markup in the prompts or responses of {counted(rows, 'row')}, as if a chat template had rendered it "
        f"already{shown}. The model's own template would wrap it a second time; take the markup out of "
        "the data, or set model.chat_template to a template file that adds nothing."
    )
