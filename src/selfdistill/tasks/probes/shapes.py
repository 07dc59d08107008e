"""Length and format: how many sentences, words, lines or items, a table, fields, or one word alone.

    Describe the sea. Write exactly 3 sentences.

The easy level asks for one form with small numbers, the medium one for larger numbers or a tight range, the hard one
for several forms at once. An answer passes if its form is the one that is asked for; its content is not graded.
"""

from __future__ import annotations

from random import Random
from typing import Any

from . import pools
from .constraints import Rule, counted_words, first_broken, grade, worded, wrong_texts
from .items import ProbeItem, ask, probe

_ASKED = ("Describe {}.", "Write about {}.", "Tell me something about {}.", "What should a child know about {}?")
_FILLERS = (
    "People have always liked it", "It can be found in many places", "There is much to learn about it",
    "Some days are better for it than others", "My neighbour talks about it every week", "It takes time and patience",
    "Nobody knows where it all began", "The best of it is free", "Old books have a lot to say on it",
    "It has a place in many songs", "Children ask good questions about it", "It looks different in the evening",
)  # fmt: skip
_LABELS = ("Name", "Place", "Price", "Size", "Colour", "Reason", "Season", "Risk", "Author", "Length", "Owner", "Start")
_FACTS = {
    "What colour do you get from blue and yellow?": "green", "What is the opposite of hot?": "cold",
    "Which animal barks?": "dog", "What do bees make?": "honey", "How many days has a week?": "seven",
    "What do you call frozen water?": "ice", "Which season comes after winter?": "spring",
    "What is the first letter of the alphabet?": "a", "What do cows drink as calves?": "milk",
    "What is the opposite of left?": "right", "Which star gives us daylight?": "sun",
    "What do you open a lock with?": "key",
}  # fmt: skip
_SIZES = {"easy": (2, 3), "medium": (4, 7), "hard": (5, 9)}


def make(rng: Random, step: str) -> ProbeItem:
    while True:
        rules = _drawn(rng, step)
        if rules[0][0] == "only":
            question, answer = rng.choice(list(_FACTS.items()))
            rules, gold = [("only", answer)], answer
            mood = rng.choice(("", "I am in a hurry. ", "A quick one: ", "For a quiz: ", "My son asks: "))
            asked = f"{mood}{question} {rng.choice(('One word, please.', 'I need one word.', 'Just the word.'))}"
        else:
            gold = _written(rules, rng)
            asked = rng.choice(_ASKED).format(rng.choice(pools.TOPICS))
        wrong = wrong_texts(rules, gold, rng)
        if wrong and first_broken(rules, gold) is None:
            kind = "+".join(kind for kind, _ in rules)
            return ProbeItem(
                kind, ask(f"{asked} {worded(rules)}"), gold, wrong, {"rules": [list(rule) for rule in rules]}
            )


def _drawn(rng: Random, step: str) -> list[Rule]:
    """The rules of an item. At the hard level a second rule limits the words of the whole text."""
    kinds = ["sentences", "words", "numbered", "paragraphs"]
    kind = rng.choice([*kinds, "items", "only"] if step == "easy" else [*kinds, "bullets", "lines", "table", "fields"])
    rule: Rule = (kind, _value(kind, rng, step))
    if step != "hard" or kind in ("words", "only"):
        return [rule]
    gold = _written([rule], rng)
    length = counted_words(gold)
    low = max(1, length - rng.randint(1, 4))
    return [rule, ("words", [low, length + rng.randint(1, 5)])]


def _value(kind: str, rng: Random, step: str) -> Any:
    low, high = _SIZES[step]
    match kind:
        case "words":
            start = rng.randint(10, 30) if step == "easy" else rng.randint(30, 90)
            return [start, start + {"easy": 80, "medium": 15, "hard": 4}[step]]
        case "paragraphs":
            return rng.randint(2, 3) if step == "easy" else rng.randint(3, 5)
        case "table":
            return [rng.randint(low, high), rng.randint(2, 3) if step == "easy" else rng.randint(3, 4)]
        case "fields":
            return rng.sample(_LABELS, rng.randint(low, min(high, 6)))
        case "lines":
            return [rng.randint(low, high), rng.randint(8, 12) if step == "easy" else rng.randint(5, 7)]
        case "only":
            return ""
        case _:
            return rng.randint(low, high)


def _written(rules: list[Rule], rng: Random) -> str:
    """A text in the form of the first rule."""
    kind, value = rules[0]
    texts = [f"{text}." for text in rng.sample(_FILLERS, len(_FILLERS))]
    match kind:
        case "words":
            middle = (value[0] + value[1]) // 2
            chosen = " ".join(texts * 4).split()[:middle]
            return f"{' '.join(chosen).rstrip('.')}."
        case "bullets" | "items":
            return "\n".join(f"- {text}" for text in texts[:value])
        case "numbered":
            return "\n".join(f"{place}. {text}" for place, text in enumerate(texts[:value], 1))
        case "paragraphs":
            return "\n\n".join(texts[:value])
        case "table":
            rows, columns = value
            line = "|" + " --- |" * columns
            cells = [f"| {' | '.join(rng.sample(pools.WORDS, columns))} |" for _ in range(rows)]
            return "\n".join(["|" + " Head |" * columns, line, *cells])
        case "fields":
            return "\n".join(f"{name}: as it should be" for name in value)
        case "lines":
            return "\n".join(f"Look at the {word}" for word in rng.sample(pools.WORDS, value[0]))
        case _:
            return " ".join(texts[:value])


TASK = probe("format", "length and format", make, grade)
