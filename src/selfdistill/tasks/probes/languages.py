"""Answering in the language asked for, of fifteen.

    Write two sentences about bread. Answer in Polish.

At the easy level the question is in the language itself, at the medium one it is in English, and at the hard one each
of five lines has to be in the language of a word that is given, in reverse order. The language is found by rule
(`language_of`). An answer passes if it is in the language asked for; its content is not graded.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

from ...grading.endings import ends_in_loop
from ...types import Example, Grade
from . import pools
from .constraints import echoes
from .items import ProbeItem, ask, probe
from .language_of import language_of

# Of each language: a request in it, for a person and about a topic; topics; a word; and sentences for right answers.
_ROWS = Path(__file__).with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
_OWN: dict[str, dict[str, Any]] = {row["language"]: row for row in map(json.loads, _ROWS)}
_ENGLISH = (
    "Today is a very nice day, and we are in the park with the dog.", "The cat is asleep on the chair in the kitchen.",
    "My sister reads a book that she got from her friend.",
)  # fmt: skip
_ASKED = (
    "Write two sentences about {topic}.", "Tell {name} something about {topic}.", "What do people like about {topic}?",
    "Write {name} a short note about {topic}.", "Describe {topic} to {name}.",
)  # fmt: skip
_LINES = 5


def _repeats(text: str) -> bool:
    """Whether a text says next to nothing: fewer than half of its words, or of its signs without spaces fewer than
    three in ten, are different; or it ends in a loop."""
    words = re.findall(r"[^\s.,;:!?。、，]+", text.casefold())
    signs = [sign for sign in text if sign.isalpha()]
    spaced = len(words) * 10 > len(signs)  # words of ten letters or fewer
    few = len({*words}) * 2 < len(words) if spaced else len({*signs}) * 10 < len(signs) * 3
    return few or ends_in_loop(text)


def grade(example: Example, text: str) -> Grade:
    """Passes an answer in the language asked for that does not repeat itself or the question; if several are
    asked for, one line in each, in their order."""
    asked = list(example.extra["languages"])
    if _repeats(text):
        return Grade("fail", "repeats itself", ", ".join(asked))
    if echoes(text, example.instruction):
        return Grade("fail", "repeats the question", ", ".join(asked))
    lines = [line for line in text.splitlines() if line.strip()]
    parts = lines if len(asked) > 1 else [text]
    found = [language_of(part) for part in parts]
    expected, shown = ", ".join(asked), ", ".join(name or "none" for name in found[:10])
    if found == asked:
        return Grade("pass", "in the language asked for", expected, shown)
    if len(asked) > 1 and len(found) != len(asked):
        return Grade("fail", "another number of lines", expected, shown)
    reason = (
        "in English" if found == ["English"] else "language not recognised" if found == [None] else "other language"
    )
    return Grade("fail", reason, expected, shown)


def make(rng: Random, step: str) -> ProbeItem:
    name = rng.choice(pools.NAMES)
    if step == "hard":
        return _several(rng, name)
    language = rng.choice(list(_OWN))
    own = _OWN[language]
    if step == "easy":
        asked = own["request"].format(name, rng.choice(own["topics"]))
    else:
        asked = rng.choice(_ASKED).format(topic=rng.choice(pools.TOPICS), name=name) + f" Answer in {language}."
    other = rng.choice([each for each in _OWN if each != language])
    gold, wrong = (
        " ".join(rng.sample(own["answers"], 2)),
        (" ".join(_ENGLISH[:2]), " ".join(_OWN[other]["answers"][:2]), ""),
    )
    return ProbeItem(language, ask(asked), gold, wrong, {"languages": [language]})


def _several(rng: Random, name: str) -> ProbeItem:
    """A line in each of several languages, which are named by a word of theirs, in reverse order."""
    # "casa" is a word of three languages, so at most one of them would be known by it: these are left out.
    known = [language for language in _OWN if _OWN[language]["word"] != "casa"]
    languages = rng.sample(known, _LINES)
    words = ", ".join(_OWN[language]["word"] for language in languages[::-1])
    asked = (
        f"Write exactly {_LINES} lines for {name} about {rng.choice(pools.TOPICS)}, each with one whole sentence. Each "
        f"line is in the language of one of these words, in reverse order, so the last word gives the language of the "
        f"first line: {words}. Write nothing else."
    )
    lines = [rng.choice(_OWN[language]["answers"]) for language in languages]
    wrong = ("\n".join(lines[::-1]), "\n".join(lines[:-1]), "\n".join([*lines[:2], _ENGLISH[0], *lines[3:]]))
    return ProbeItem("several", ask(asked), "\n".join(lines), wrong, {"languages": languages})


TASK = probe("languages", "language asked for", make, grade)
