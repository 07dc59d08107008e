"""The places at which a text announces its answer: "The answer is", "Final answer:", `####`, `\\boxed{}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_VERB = (
    r"(?:(?:is|are|was|would be|will be|should be|must be|has to be|equals|comes (?:out )?to|of|ist|est|es|è|é)\b"
    r"|[:=→]|[-–] |-> ?)"
)


def mark(nouns: str) -> str:
    """A pattern, for any letter case, of "The final NOUN to this question is therefore" or "**NOUN:**"."""
    return rf"\b{nouns}\b[*_\"`)]{{0,3}}(?: to(?: [a-z]{{1,12}}){{1,4}}?)?,?\s?(?:[a-z]{{4,9}},? )?[*_]{{0,3}}{_VERB}"


NOUN = r"(?:answers?|final result|antwort|réponse|respuesta|risposta|resposta|ответ)"
_MARK = re.compile(
    rf"####+|<answer>|\\f?boxed\b|答案(?:是|为|[:：])|답은|{mark(NOUN)}|"
    rf"(?:^|\n)[#>*_ \t]{{0,9}}(?:the |my |final |correct ){{0,3}}{NOUN}[*_ \t]{{0,4}}(?=\n)",
    re.IGNORECASE,
)


class Announced(NamedTuple):
    """The text after a mark, up to the next mark. A verb such as "is" announces only the rest of its sentence."""

    text: str
    boxed: bool
    verb: bool


def announced(text: str) -> Iterator[Announced]:
    """The announcements of a text, from the last to the first."""
    end = len(text)
    for found in reversed(list(_MARK.finditer(text))):
        boxed = found[0].startswith("\\")
        rest = text[found.end() : end]
        yield Announced(_braced(rest) if boxed else rest, boxed, found[0][-1:].isalpha())
        end = found.start()


def _braced(text: str) -> str:
    """The content of the braces that `text` opens with; without braces, the first word."""
    if not text.startswith("{"):
        return text.lstrip(" ").partition("$")[0].partition("\n")[0].partition(" ")[0]
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if not depth:
            return text[1:at]
    return text[1:].partition("\n")[0]
