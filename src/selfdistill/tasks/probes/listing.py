"""Operations on lists, strings and numbers.

    Write these words from Z to A: plum, fig, kiwi. Answer with the result alone; separate several items by commas.

The easy level has one operation on a few items, the medium one a harder operation on five to seven, the hard one three
operations in a row on ten to fourteen. An answer passes if it ends with the right list and no longer one, or, if one
item or number is asked for, if it holds this one and no other of the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from ...types import Example, Grade
from . import pools
from .items import ProbeItem, ask, probe
from .lookup import denies

_ALONE = " Answer with the result alone."
_ALONE_LIST = " Answer with the result alone, separated by commas."
_NUMBER = re.compile(r"\d+")
_SPELLED = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
_JUNK = re.compile(r"[\"'`*\[\]()“”‘’{}]")
_MARK = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s+")
_LABEL = re.compile(r"(?:^|.*\W)(?:is|are|be|result|list|answer|order|value)$", re.IGNORECASE | re.DOTALL)


def grade(example: Example, text: str) -> Grade:
    """Passes a text whose last line, or whose bullet points, are the right items, after a label or none. If one item is
    asked for, also a text that holds it and no other of the list; if a number, one that holds no other number."""
    expected, others = example.extra["answer"], example.extra["others"]
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("```")]
    if not lines:
        return Grade("fail", "empty", expected)
    marked = [_MARK.sub("", line) for line in lines if _MARK.match(line)]
    readings = [lines[-1], ", ".join(marked), ", ".join(lines)]
    if any(_same(_plain(reading), expected) for reading in readings) or _holds_alone(text, expected, others):
        return Grade("pass", "same result", expected)
    return Grade("fail", "result differs", expected, lines[-1][-80:])


def _holds_alone(text: str, expected: str, others: list[str] | None) -> bool:
    """Whether a single item or number is the only one in a text; False if several are asked for (`others` is None)."""
    if others is None or denies(text, expected):
        return False
    if expected.isdigit():
        spelled = [str(_SPELLED[word]) for word in re.findall(r"[a-z]+", text.lower()) if word in _SPELLED]
        return {*_NUMBER.findall(text), *spelled} == {expected}
    return _word_in(expected, text) and not any(_word_in(other, text) for other in others)


def _word_in(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


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
    ("What is the first word of this list: {}?", lambda items: items[:1]),
    ("What is the last word of this list: {}?", lambda items: items[-1:]),
    ("How many words are in this list: {}?", lambda items: [str(len(items))]),
    ("Add the word end to this list: {}.", lambda items: [*items, "end"]),
    ("Write this list without its first word: {}.", lambda items: items[1:]),
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
    if step == "easy" and rng.random() < 0.6:
        return _simple(rng)
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


def _simple(rng: Random) -> ProbeItem:
    """An item about numbers, letters or one word."""
    numbers = rng.sample(range(2, 99), rng.randint(3, 4))
    listed, (word, *others) = ", ".join(map(str, numbers)), pools.some(rng, pools.WORDS, 4)
    start, length = rng.randint(1, 60), rng.randint(3, 6)
    match rng.randrange(6):
        case 0:
            return _item(rng, "greatest", f"Which of these numbers is the greatest: {listed}?", [str(max(numbers))], [])
        case 1:
            ordered = [str(number) for number in sorted(numbers)]
            return _item(rng, "sort", f"Sort these numbers from the smallest to the greatest: {listed}.", ordered, [])
        case 2:
            counted = [str(number) for number in range(start, start + length)]
            return _item(rng, "count", f"Write the numbers from {start} to {start + length - 1}.", counted, [])
        case 3:
            text = f"Write the word {word} {length} times."
            return _item(rng, "repeat", text, [word] * length, others)
        case 4:
            text = f"Which number comes right after {start}?"
            return _item(rng, "next", text, [str(start + 1)], [])
        case _:
            text = f"Which of these words begins with the letter {word[0]}: {', '.join(sorted([word, *others]))}?"
            alone = [other for other in others if other[0] != word[0]]
            return _item(rng, "begins", text, [word], alone) if len(alone) == len(others) else _simple(rng)


def _item(rng: Random, kind: str, text: str, done: list[str], items: list[str]) -> ProbeItem:
    """`items` are the words of the list, from which a wrong answer may be taken."""
    answer, single = ", ".join(done), len(done) == 1
    if single and answer.isdigit():
        wrong = (str(int(answer) + 1), f"{answer} or {int(answer) + 2}", "I would rather not do that, my friend.")
    elif single:
        other = rng.choice([item for item in items if item not in done])
        wrong = (other, f"{answer}, {other}", "I would rather not do that, my friend.")
    else:
        added = rng.choice(pools.COLOURS)
        changed = [*done[1:], done[0]] if len({*done}) > 1 else done[1:]
        wrong = (", ".join(changed), f"{answer}, {added}", "I would rather not do that, my friend.")
    others = [item for item in items if item not in done] if single else None
    extra = {"answer": answer, "others": others}
    return ProbeItem(kind, ask(text + (_ALONE if single else _ALONE_LIST)), answer, wrong, extra)


TASK = probe("lists", "lists and strings", make, grade)
