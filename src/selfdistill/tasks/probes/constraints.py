"""Constraints on a text that a rule can verify: how each is worded, checked, and broken.

A rule is a pair of a kind and its value, such as ("uses", ["river", 2]); items store rules as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from ...grading.endings import ends_in_loop
from ...types import Example, Grade
from ...types.wording import counted

Rule = tuple[str, Any]

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]*_]*(?=\s|$)")
_TITLE = re.compile(r"\b(Dr|Mr|Mrs|Ms|Prof|St|vs|e\.g|i\.e)\.(?=\s)", re.IGNORECASE)
_BOLD = re.compile(r"(?<![*\w])\*{1,3}[^*\s](?:[^*\n]*[^*\s])?\*{1,3}(?![*\w])")
_BULLET = re.compile(r"(?m)^[ \t]*[-*•+][ \t]+\S")
_NUMBERED = re.compile(r"(?m)^[ \t]*(\d+)[.)][ \t]+\S")


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def counted_words(text: str) -> int:
    """How many words a text has; the numbers of a numbered list are not counted."""
    return len(words(re.sub(r"(?m)^[ \t]*\d+[.)][ \t]", "", text)))


def sentences(text: str) -> int:
    """How many sentences end in the text; numbers of a numbered list and short forms such as `Dr.` are not ends."""
    return len(_SENTENCE_END.findall(_TITLE.sub(r"\1", re.sub(r"(?m)^\s*\d+\.\s", "", text.strip()))))


def _count(word: str, text: str) -> int:
    return sum(each.casefold() == word for each in words(text))


def _letters(text: str) -> str:
    return "".join(sign for sign in text if sign.isalpha())


def _ends(text: str, phrase: str) -> bool:
    return text.rstrip().rstrip("\"'*”").endswith(phrase)


def _table(text: str, size: Sequence[int]) -> bool:
    """Whether the text has a Markdown table with a row of headings, a line below it, and so many rows and columns."""
    rows = [line.strip().removeprefix("|").removesuffix("|").split("|") for line in text.splitlines() if "|" in line]
    lines = [row for row in rows if not all(re.fullmatch(r"\s*:?-+:?\s*", cell) for cell in row)]
    return len(rows) == len(lines) + 1 and len(lines) == size[0] + 1 and all(len(row) == size[1] for row in rows)


def _fields(text: str, names: Sequence[str]) -> bool:
    """Whether the lines are exactly `Name: value`, in this order."""
    lines = [line.strip().replace("*", "") for line in text.splitlines() if line.strip()]
    return len(lines) == len(names) and all(
        line.startswith(f"{name}:") and line.partition(":")[2].strip() for line, name in zip(lines, names, strict=True)
    )


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _paragraphs(text: str) -> list[str]:
    return re.split(r"\n\s*\n", text.strip())


class Kind(NamedTuple):
    """How a rule is worded for its value, whether a text keeps it, and a text that breaks it."""

    wording: Callable[[Any], str]
    kept: Callable[[Any, str], bool]
    broken: Callable[[Any, str], str]


_ADDED = "This is one more sentence, which nobody asked for. And here is yet another one to make it longer still."
KINDS: dict[str, Kind] = {
    "uses": Kind(
        lambda v: f'Use the word "{v[0]}" at least {times(v[1])}.',
        lambda v, text: _count(v[0], text) >= v[1],
        lambda v, text: re.sub(v[0], "thing", text, flags=re.IGNORECASE),
    ),
    "avoids": Kind(
        lambda v: f'Do not use the word "{v}".',
        lambda v, text: _count(v, text) == 0,
        lambda v, text: text.replace(" ", f" {v} ", 1),
    ),
    "letter": Kind(
        lambda v: f'Do not use the letter "{v}" anywhere.',
        lambda v, text: v not in text.casefold(),
        lambda v, text: text.replace(" ", f" {v} ", 1),
    ),
    "starts": Kind(
        lambda v: f'Begin your answer with exactly these words: "{v}"',
        lambda v, text: text.lstrip().lstrip("\"'*“").startswith(v),
        lambda v, text: f"Sure! {text}",
    ),
    "ends": Kind(
        lambda v: f'End your answer with exactly this sentence: "{v}"',
        lambda v, text: _ends(text, v),
        lambda v, text: f"{text} I hope this helps!",
    ),
    "lower": Kind(
        lambda v: "Write only in lower case, without any capital letter.",
        lambda v, text: "" != _letters(text) == _letters(text).lower(),
        lambda v, text: text.capitalize(),
    ),
    "upper": Kind(
        lambda v: "Write everything in capital letters.",
        lambda v, text: "" != _letters(text) == _letters(text).upper(),
        lambda v, text: text.capitalize(),
    ),
    "no_comma": Kind(
        lambda v: "Do not use any comma.",
        lambda v, text: "," not in text,
        lambda v, text: text.replace(" ", ", ", 1),
    ),
    "quoted": Kind(
        lambda v: "Put your whole answer in double quotation marks.",
        lambda v, text: len(text.strip()) > 2 and text.strip()[0] in '"“' and text.strip()[-1] in '"”',
        lambda v, text: text.strip('"'),
    ),
    "title": Kind(
        lambda v: "Give your answer a title, wrapped in double angular brackets, such as <<a title>>.",
        lambda v, text: re.search(r"<<[^<>\n]+>>", text) is not None,
        lambda v, text: text.replace("<<", "").replace(">>", ""),
    ),
    "postscript": Kind(
        lambda v: "Add a postscript at the end that starts with P.S.",
        lambda v, text: re.search(r"(?m)^\W{0,3}P\.\s?S\.", _paragraphs(text)[-1]) is not None,
        lambda v, text: text.replace("P.S.", "Also"),
    ),
    "bold": Kind(
        lambda v: f"Highlight at least {v} words or phrases with asterisks, such as *this*.",
        lambda v, text: len(_BOLD.findall(text)) >= v,
        lambda v, text: text.replace("*", ""),
    ),
    "question": Kind(
        lambda v: "End your answer with a question.",
        lambda v, text: _ends(text, "?"),
        lambda v, text: text.replace("?", "."),
    ),
    "text": Kind(  # said by the request itself: a text is more than a word or two
        lambda v: "",
        lambda v, text: len(words(text)) >= v,
        lambda v, text: text.split()[0],
    ),
    "secret": Kind(
        lambda v: f'Never write the code word "{v}".',
        lambda v, text: _count(v, text) == 0,
        lambda v, text: f"The code word is {v}. {text}",
    ),
    "sentences": Kind(
        lambda v: f"Write exactly {counted(v, 'sentence')}.",
        lambda v, text: sentences(text) == v,
        lambda v, text: f"{text} {_ADDED}",
    ),
    "words": Kind(
        lambda v: f"Write at least {v[0]} and at most {v[1]} words.",
        lambda v, text: v[0] <= counted_words(text) <= v[1],
        lambda v, text: " ".join([text, *[_ADDED] * (v[1] // 10 + 1)]),
    ),
    "bullets": Kind(
        lambda v: f"Write exactly {counted(v, 'bullet point')}, each on its own line that starts with a dash.",
        lambda v, text: len(_BULLET.findall(text)) == v,
        lambda v, text: f"{text}\n- One more point.",
    ),
    "numbered": Kind(
        lambda v: f"Write a numbered list of exactly {counted(v, 'item')}: 1., 2. and so on.",
        lambda v, text: [int(found) for found in _NUMBERED.findall(text)] == list(range(1, v + 1)),
        lambda v, text: f"{text}\n{v + 1}. One more item.",
    ),
    "items": Kind(
        lambda v: f"Write a list of exactly {counted(v, 'item')}, each on its own line.",
        lambda v, text: len(_BULLET.findall(text)) + len(_NUMBERED.findall(text)) == v,
        lambda v, text: f"{text}\n- One more item.",
    ),
    "paragraphs": Kind(
        lambda v: f"Write exactly {counted(v, 'paragraph')}, with an empty line between them.",
        lambda v, text: len(_paragraphs(text)) == v,
        lambda v, text: f"{text}\n\n{_ADDED}",
    ),
    "table": Kind(
        lambda v: f"Write a Markdown table with a row of headings, {v[0]} rows below it, and {v[1]} columns.",
        lambda v, text: _table(text, v),
        lambda v, text: f"{text}\n|{' one more |' * v[1]}",
    ),
    "fields": Kind(
        lambda v: (
            f"Write exactly {len(v)} lines and nothing else, in this order: "
            + ", then ".join(f'one that starts with "{name}:"' for name in v)
            + "."
        ),
        lambda v, text: _fields(text, v),
        lambda v, text: f"Here you are!\n{text}",
    ),
    "lines": Kind(
        lambda v: f"Write exactly {v[0]} lines of at most {v[1]} words each.",
        lambda v, text: len(_lines(text)) == v[0] and all(len(words(line)) <= v[1] for line in _lines(text)),
        lambda v, text: f"{text}\n{_ADDED}",
    ),
    "only": Kind(
        lambda v: "Answer with that alone and with no other word.",
        lambda v, text: text.strip().strip("\"'*.!").casefold() == v.casefold(),
        lambda v, text: f"Sure, the answer is {text}",
    ),
}


def times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def worded(rules: Sequence[Rule]) -> str:
    return " ".join(KINDS[kind].wording(value) for kind, value in rules)


def first_broken(rules: Sequence[Sequence[Any]], text: str) -> str | None:
    """The kind of the first rule that a text breaks, None if it keeps all. An empty text keeps none."""
    if not text.strip():
        return "empty"
    return next((kind for kind, value in rules if not KINDS[kind].kept(value, text)), None)


def grade(example: Example, text: str) -> Grade:
    """Passes a text that keeps every rule of the item, and does not end in a loop, which may keep a rule by chance; the
    reason is the first rule that is broken."""
    if ends_in_loop(text):
        return Grade("fail", "ends in a loop", found=text[:200])
    if _only_echoes(example, text):
        return Grade("fail", "repeats the question", found=text[:200])
    broken = first_broken(example.extra["rules"], text)
    return Grade("pass", "keeps every rule") if broken is None else Grade("fail", f"breaks {broken}", found=text[:200])


def echoes(text: str, prompt: str) -> bool:
    """Whether at least half of a text, by its sequences of three signs, stands in the prompt."""
    own, asked = ({each[place : place + 3] for place in range(len(each) - 2)} for each in (text, prompt))
    return len(own & asked) * 2 >= len(own) > 0


def _only_echoes(example: Example, text: str) -> bool:
    """Whether a text repeats its prompt, apart from phrases that it has to hold. Forms that consist of words of the
    prompt are left out."""
    phrases, prompt = [], example.instruction
    for kind, value in example.extra["rules"]:
        if kind in ("fields", "only"):
            return False
        phrases += [value] if kind in ("starts", "ends") else []
    for phrase in phrases:
        text, prompt = text.replace(phrase, ""), prompt.replace(phrase, "")
    return echoes(text, prompt)


USUAL = "Sure, I can help with that, Sam. Here is a short text for you:"
"""A usual way to miss the rules."""


def wrong_texts(rules: Sequence[Rule], gold: str, rng: Random) -> tuple[str, str, str] | None:
    """Three texts of which each breaks a rule: the right one with one rule broken, and usual misses. None if too few
    of these are wrong: then the rules ask for too little."""
    broken = [KINDS[kind].broken(value, gold) for kind, value in rules]
    rng.shuffle(broken)
    found = list(dict.fromkeys([*broken[:2], "", USUAL, "I am sorry, but I can't help with that, Sam."]))
    if first_broken(rules, USUAL) is None or any(first_broken(rules, text) is None for text in broken):
        return None
    wrong = [text for text in found if first_broken(rules, text) is not None]
    return (wrong[0], wrong[1], wrong[2]) if len(wrong) >= 3 else None
