"""Multiple choice and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import RecipeError
from ..types import Verdict

_MARKER = re.compile(r"\banswer(?:\s{1,3}is)?\s{0,3}:?|\blabel\s{0,3}:|####|\\boxed\{(?:\\text\{)?", re.IGNORECASE)
_LETTER = re.compile(r"\(?([A-Z])(?:[).:,}*]|\s*$|(?=\n))")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_FRAME = " \t\r\n.:;,!*_\"'`()[]{}$\\"


def choice(reference: str, text: str, *, labels: Sequence[str] | None = None) -> Verdict:
    """Whether both texts choose the same letter, or the same of `labels`.

    With `labels`: the label after the last "answer is" (or "Answer:", "Label:", `####`, `\\boxed{}`), else the only one
    that the text names; letter case doesn't count. Without: a capital letter, alone, bracketed as in (B), or with its
    option as in "B. Paris"; or, where the reference is no letter, its whole text. A reference without a choice is
    unjudged. Raises RecipeError where `labels` are not at least two different texts.
    """
    if labels is not None:
        labels = [str(label) for label in labels] if isinstance(labels, list | tuple) else []
        if len({label.casefold().strip() for label in labels} - {""}) < 2:
            raise RecipeError("The grader `choice` needs at least two different `labels`, for example [yes, no].")
        expected, found = _label(reference, labels), _label(text, labels)
    elif (letter := _letter(reference)) is not None:
        expected, found = letter, _letter(text)
    else:
        expected, found = _option(reference) or None, _option(text)
    if expected is None:
        return Verdict("unjudged", "no choice in the reference")
    if found is None:
        return Verdict("fail", "no choice found", expected)
    if found == expected:
        return Verdict("pass", "same choice", expected, found)
    return Verdict("fail", "choice differs", expected, found[:200])


def _announced(text: str) -> str | None:
    """What stands after the last announcement of an answer, on its line."""
    marker = None
    for marker in _MARKER.finditer(text):  # noqa: B007 (the last one is what is wanted)
        pass
    if marker is None:
        return None
    return text[marker.end() :].lstrip(_FRAME.replace("(", "")).partition("\n")[0] or None


def _letter(text: str) -> str | None:
    text = text.strip(" \t\r\n*_`\"'$")
    announced = _announced(text)
    if announced and (match := _LETTER.match(announced) or re.match(r"\(?([A-Z])\b(?!')", announced)):
        return match[1]
    if match := _LETTER.match(text):
        return match[1]
    letters = set(_BRACKETED.findall(text))
    return letters.pop() if len(letters) == 1 else None


def _label(text: str, labels: Sequence[str]) -> str | None:
    """One of `labels`; longer ones first, so that "not entailed" isn't read as "entailed"."""
    ordered = sorted(labels, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(label.strip())}(?!\w)" for label in ordered), re.IGNORECASE)
    if (announced := _announced(text)) and (match := pattern.match(announced.lstrip("("))):
        return match[0].casefold()
    found = {match[0].casefold() for match in pattern.finditer(text)}
    return found.pop() if len(found) == 1 else None


def _option(text: str) -> str:
    """What is announced, else the whole text, without marks around it."""
    return (_announced(text) or text).strip(_FRAME).casefold()
