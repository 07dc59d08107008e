"""The text around a think trace in one chat template, found by rendering: prompt, opening, trace, closing, answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RenderError
from .chat_template import ANSWER, USER, Chat, ChatTemplate
from .thinking import MARKS, REASONING
from .tokens import Tokens

Piece = tuple[str, bool]
"""A text, and whether the names of special tokens in it are special tokens."""
_ON_LINES = {"<think>": "\n\n", "<thinking>": "\n\n", "<reasoning>": "\n\n", "<|channel>thought": ""}
"""Opening marks whose models write the trace on lines of its own, if the template does not show how, with the white
space after the closing mark."""


@dataclass(frozen=True)
class ThinkBlock:
    """The text that a model writes around its think trace. `opening` is empty if the prompt opens the block. `empty` is
    the whole block without a trace, as the template writes it before an answer if it does."""

    opening: str
    closing: str
    empty: str

    @property
    def marks(self) -> tuple[str, ...]:
        """The opening mark, if the model writes it, and the closing mark."""
        return tuple(filter(None, (self.opening.strip(), self.closing.strip())))

    def pieces(self, trace: str) -> list[Piece]:
        """The block with a trace, which may be empty. The trace stays plain text, whatever it contains."""
        if not trace:
            return _mark(self.empty)
        return [*_mark(self.opening), (trace, False), *_mark(self.closing)]


def find_think_block(template: ChatTemplate, marks: Sequence[str], names: Sequence[str]) -> ThinkBlock | None:
    """The block of a template that makes the model think; None if it can't be found. `marks` are the template's marks
    of reasoning, `names` the names under which it reads the reasoning of a turn."""
    user: Chat = [{"role": "user", "content": USER}]

    def render(generate: bool, *turns: dict[str, Any]) -> str:
        try:
            return template.apply([*user, *turns], generate)
        except RenderError:
            return ""

    prompt, answered = render(True), render(False, {"role": "assistant", "content": ANSWER})
    around = _shown(prompt, render(False, {"role": "assistant", "content": ANSWER, **dict.fromkeys(names, REASONING)}))
    opening, closing = around or _by_marks(prompt, answered, marks)
    if not closing.strip():
        return None
    between = answered[len(prompt) :].partition(ANSWER)[0] if answered.startswith(prompt) else ""
    return ThinkBlock(opening, closing, between if between.strip() else opening + closing)


def encode_pieces(tokens: Tokens, pieces: Iterable[Piece]) -> list[int] | None:
    """The token ids of a text in pieces; None if they don't decode to it. Plain texts that touch are encoded together,
    as a model writes them: its tokens join the end of a sentence with the line break after it."""
    joined: list[Piece] = []
    for text, is_mark in pieces:
        if joined and not is_mark and not joined[-1][1]:
            joined[-1] = joined[-1][0] + text, False
        elif text:
            joined.append((text, is_mark))
    ids: list[int] = []
    for text, is_mark in joined:
        found = tokens.encode_answer(text, is_mark)
        if found is None:
            return None
        ids += found
    return ids


def _shown(prompt: str, whole: str) -> tuple[str, str] | None:
    """Opening and closing, if the template shows the reasoning of a turn right after the prompt."""
    opening, shown, rest = whole[len(prompt) :].partition(REASONING)
    closing, found, _ = rest.partition(ANSWER)
    return (opening, closing) if whole.startswith(prompt) and shown and found else None


def _by_marks(prompt: str, answered: str, marks: Sequence[str]) -> tuple[str, str]:
    """Opening and closing by the marks of the family, for templates that don't show reasoning."""
    known = [pair for pair in MARKS if pair[0] in marks or pair[1] in marks]
    opened = [pair for pair in known if prompt.rstrip().endswith(pair[0])]
    if not known:
        return "", ""
    start, end = (opened or known)[0]
    on_lines = prompt.endswith("\n") if opened else start in _ON_LINES
    _, written, after = answered.partition(ANSWER)[0].rpartition(end)
    before, behind = ("\n", _ON_LINES.get(start, "\n\n")) if on_lines else ("", "")
    closing = f"{before}{end}{after if written and not after.strip() else behind}"
    return ("" if opened else f"{start}{before}"), closing


def _mark(text: str) -> list[Piece]:
    """A mark, and the white space around it as plain text."""
    mark = text.strip()
    if not mark:
        return [(text, False)]
    lead, _, trail = text.partition(mark)
    return [(lead, False), (mark, True), (trail, False)]
