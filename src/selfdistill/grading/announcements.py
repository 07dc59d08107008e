"""Where a text announces its answer: "The answer is", "Final answer:", `####`, `\\boxed{}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_NOUN = r"(?:answers?|final result|antwort|réponse|respuesta|risposta|resposta|ответ)"
_VERB = r"(?:(?:is|are|was|would be|will be|should be|must be|has to be|equals|comes (?:out )?to|of|ist|est|es|è|é)\b|[:=→]|[-–] |-> ?)"
MARK = re.compile(
    r"####+|<answer>|\\f?boxed\b|\\fbox\b|答案(?:是|为|[:：])|答えは|정답은|"
    rf"\b{_NOUN}\b[*_\"`)]{{0,3}}(?: to(?: [a-z]{{1,12}}){{1,4}}?)?,?\s?(?:[a-z]{{4,9}},? )?[*_]{{0,3}}{_VERB}|"
    rf"(?:^|\n)[#>*_ \t]{{0,9}}(?:the |my |final |correct ){{0,3}}{_NOUN}[*_ \t]{{0,4}}(?=\n)",
    re.IGNORECASE,
)


class Announced(NamedTuple):
    """What follows a mark, up to the next mark. A verb such as "is" announces the rest of its sentence alone."""

    text: str
    boxed: bool
    verb: bool


def announced(text: str) -> Iterator[Announced]:
    """The announcements of a text, the last first."""
    end = len(text)
    for mark in reversed(list(MARK.finditer(text))):
        boxed = mark[0].startswith("\\")
        yield Announced(
            _braced(text[mark.end() : end]) if boxed else text[mark.end() : end], boxed, mark[0][-1:].isalpha()
        )
        end = mark.start()


def _braced(text: str) -> str:
    """What stands in the braces that `text` opens with; without braces, the first word."""
    if not text.startswith("{"):
        return text.lstrip(" ").partition("$")[0].partition("\n")[0].partition(" ")[0]
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if not depth:
            return text[1:at]
    return text[1:].partition("\n")[0]
