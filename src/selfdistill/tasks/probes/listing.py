"""Operations on lists and strings.

    Sort these words alphabetically: plum, fig, kiwi. Answer with the list alone, separated by commas.

The easy step has one operation on three or four items, the medium one a harder operation on five to seven, the hard one
three operations in a row on ten to fourteen. An answer passes if it ends with the right list or value, and no longer
one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from ...types import Example, Grade
from . import pools
from .items import ProbeItem, ask, probe

_ALONE = " Answer with the result alone; separate several items by commas."
_JUNK = re.compile(r"[\"'`*\[\]()“”‘’{}]")
_MARK = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s+")
_LABEL = re.compile(r"(?:^|.*\W)(?:is|are|be|result|list|answer|order|value)$", re.IGNORECASE | re.DOTALL)


def grade(example: Example, text: str) -> Grade:
    """Passes a text whose last line, or whose bullet points, are the right items; a label before them is ignored."""
    expected = example.extra["answer"]
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("```")]
    if not lines:
        return Grade("fail", "empty", expected)
    marked = [_MARK.sub("", line) for line in lines if _MARK.match(line)]
    readings = [lines[-1], ", ".join(marked), ", ".join(lines)]
    if any(_same(_plain(reading), expected) for reading in readings):
        return Grade("pass", "same result", expected)
    return Grade("fail", "result differs", expected, lines[-1][-80:])


def _plain(line: str) -> str:
    line = _JUNK.sub("", line).strip().rstrip(".!").strip()
    return re.sub(r"\s*,\s*(?:and\s+)?", ", ", line)


def _same(line: str, expected: str) -> bool:
    """Whether a line is the expected text, alone or after a label such as `Answer:` or `The result is`. Capitals count
    if the expected text has them."""
    line = line if expected != expected.lower() else line.lower()
    if not line.endswith(expected):
        return False
    before = line.removesuffix(expected).rstrip()
    return not before or before.endswith((":", "=", "->", "→")) or _LABEL.match(before) is not None


Operation = tuple[str, Callable[[list[str]], list[str]]]
_EASY: tuple[Operation, ...] = (
    ("Sort these words alphabetically: {}.", sorted),
    ("Write these words in reverse order: {}.", lambda items: items[::-1]),
    ("What is the first word of this list: {}?", lambda items: items[:1]),
    ("What is the last word of this list: {}?", lambda items: items[-1:]),
    ("Write these words in capital letters: {}.", lambda items: [item.upper() for item in items]),
    ("How many words are in this list: {}?", lambda items: [str(len(items))]),
)
_MEDIUM: tuple[Operation, ...] = (
    ("Sort these words from Z to A: {}.", lambda items: sorted(items, reverse=True)),
    ("Write the first letter of each of these words: {}.", lambda items: [item[0] for item in items]),
    ("Write the words of this list that have more than five letters: {}.", lambda i: [w for w in i if len(w) > 5]),
    ("Write every second word of this list, starting with the second: {}.", lambda items: items[1::2]),
    ("Write the third word of this list backwards: {}.", lambda items: [items[2][::-1]]),
    ("How many letters do these words have in total: {}?", lambda items: [str(sum(map(len, items)))]),
    ("Write these words from the shortest to the longest, equally long ones in the same order: {}.",
     lambda items: sorted(items, key=len)),
)  # fmt: skip
_STAGES: tuple[Operation, ...] = (
    ("sort the words alphabetically", sorted),
    ("reverse the order of the list", lambda items: items[::-1]),
    ("keep every second word, starting with the first", lambda items: items[::2]),
    ("drop the words with an even number of letters", lambda items: [item for item in items if len(item) % 2]),
    ("write each word backwards", lambda items: [item[::-1] for item in items]),
    ("move the first three words to the end", lambda items: items[3:] + items[:3]),
    ("sort the words by their last letter, and words with the same last letter alphabetically",
     lambda items: sorted(items, key=lambda item: (item[-1], item))),
    ("drop the words that contain the letter e", lambda items: [item for item in items if "e" not in item]),
    ("swap the first and the last word", lambda items: [items[-1], *items[1:-1], items[0]]),
)  # fmt: skip


def make(rng: Random, step: str) -> ProbeItem:
    pool = pools.FRUITS if step == "easy" else (*pools.WORDS, *pools.FRUITS)
    while True:
        items = pools.some(rng, pool, rng.randint(*{"easy": (3, 4), "medium": (5, 7), "hard": (10, 14)}[step]))
        if step == "hard":
            stages = rng.sample(_STAGES, 3)
            kind, done = "three operations", items
            for _, operation in stages:
                done = operation(done) if len(done) > 2 else []
            told = "; then ".join(words for words, _ in stages)
            text = f"Take this list: {', '.join(items)}. Do this in order: {told}."
        else:
            words, operation = rng.choice(_EASY if step == "easy" else _MEDIUM)
            kind, done, text = words.partition(" ")[0].lower(), operation(items), words.format(", ".join(items))
        if (done and done != items) and (step != "hard" or len(done) >= 3):
            return _item(rng, kind, text, done, items)


def _item(rng: Random, kind: str, text: str, done: list[str], items: list[str]) -> ProbeItem:
    answer = ", ".join(done)
    swapped = [*done[1:], done[0]] if len(done) > 1 else [rng.choice([item for item in items if item not in done])]
    wrong = (", ".join(swapped), f"{answer}, {rng.choice(pools.COLOURS)}", "I would rather not do that, my friend.")
    return ProbeItem(kind, ask(text + _ALONE), answer, wrong, {"answer": answer})


TASK = probe("lists", "lists and strings", make, grade)
