"""Checks of every rewrite, whatever its answer. They come before the grader."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set
from itertools import groupby

from ..recipe import Filters
from ..types import Completion, Example
from .arithmetic import contradictions
from .leaks import goes_on, is_new, leak
from .refusals import refuses
from .scripts import script

# Marks that a chat template writes. If the original holds one too, it is the subject of the text.
_CHAT_MARKER = re.compile(
    r"<\|[\w ]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>", re.IGNORECASE
)

_WORDS = re.compile(r"[぀-ヿ㐀-鿿]|[^\W぀-ヿ㐀-鿿]+")
_LONG_RUN = re.compile(r"([^\W_]{1,4}?)\1{31,}")
_LONGEST_PHRASE = 20
_MOST_CHARACTERS = 50_000
_SHORT = 200


def check(example: Example, completion: Completion, settings: Filters, headings: Set[str] = frozenset()) -> str | None:
    """Why `completion` can't stand for the example's reference, whatever it answers; None where nothing speaks against
    it. The reason is that of the first check that fails, in the order of this function. `headings` are those of the
    rewriting template."""
    text, reference = completion.text, example.reference
    if completion.finish == "error":
        return "backend error"
    if not text.strip():
        return "empty"
    if completion.finish == "length":
        return "cut off at the limit"
    if leaked := leaks(text, example, settings, headings):
        return leaked
    if settings.refusal and refuses(text) and not refuses(reference):
        return "refuses where the reference does not"
    if settings.max_repeats is not None and _repeats_anew(text, reference, settings.max_repeats):
        return "repeats itself"
    if settings.script and _differ(script(text), script(reference)):
        return "other script than the reference"
    if settings.arithmetic and _miscalculates(text, example):
        return "arithmetic that contradicts itself"
    return _length(text, reference, settings)


def leaks(text: str, example: Example, settings: Filters, headings: Set[str] = frozenset()) -> str | None:
    """Why a text shows that it was written as a rewrite, or that its end of turn is missing; None if it does not. For
    any part of a completion, such as a think trace."""
    if settings.end_of_turn and is_new(_CHAT_MARKER, text, example.reference):
        return "chat marker in the text"
    if settings.end_of_turn and goes_on(text) and not goes_on(example.reference):
        return "goes on with turns of its own"
    return leak(text, example.reference, example.instruction, headings) if settings.reference_talk else None


def _repeats_anew(text: str, reference: str, limit: int) -> bool:
    return repeats(text, limit) and not repeats(reference, limit)


def repeats(text: str, limit: int) -> bool:
    """Whether something stands more than `limit` times in a row: a line, or a phrase of up to 20 words (in Chinese and
    Japanese, of signs); or a run of the same one to four letters or digits 32 times."""
    text = text[:_MOST_CHARACTERS]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = [word.casefold() for word in _WORDS.findall(text)]
    return (
        _in_a_row(lines, 1) > limit
        or any(
            _in_a_row(stretch, length) > limit
            for stretch in _frequent(words, limit)
            for length in range(1, min(_LONGEST_PHRASE, len(stretch) // limit) + 1)
        )
        or any(len(word) >= 32 and _LONG_RUN.search(word) for word in words)
    )


def _frequent(words: list[str], limit: int) -> list[list[str]]:
    """The stretches of words that each occur more than `limit` times: a phrase that repeats lies within one."""
    counts = Counter(words)
    stretches = groupby(words, lambda word: counts[word] > limit)
    return [stretch for often, group in stretches if often and len(stretch := list(group)) > limit]


def _in_a_row(items: list[str], length: int) -> int:
    """How many times a stretch of `length` items occurs in immediate succession, at most."""
    longest = run = 0
    for item, before in zip(items[length:], items, strict=False):
        run = run + 1 if item == before else 0
        longest = max(longest, run)
    return longest // length + 1 if items else 0


def _miscalculates(text: str, example: Example) -> bool:
    """Whether the text holds a wrong equation that neither the reference nor a turn of the prompt holds."""
    wrong = contradictions(text)
    given = (example.reference, *(message.content for message in example.prompt)) if wrong else ()
    return bool({*wrong} - {equation for each in given for equation in contradictions(each)})


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def _length(text: str, reference: str, settings: Filters) -> str | None:
    """Lengths in characters. A reference under 200 counts as 200 where the text is long, and sets no least length: a
    worked answer to "Yes" or "18" is what rewriting is for."""
    length, wanted = len(text.strip()), len(reference.strip())
    shortest, longest = settings.min_length_ratio, settings.max_length_ratio
    if shortest is not None and wanted >= _SHORT and length < shortest * wanted:
        return "too short beside the reference"
    if longest is not None and length > longest * max(wanted, _SHORT):
        return "too long beside the reference"
    return None
