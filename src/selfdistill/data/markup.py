"""Finds prompts that a chat template has already rendered. The model's template would wrap them a second time."""

from __future__ import annotations

import re

from ..types import Conversation

_MARKS = re.compile(
    r"<\|im_(?:start|end)\|>|\[/?INST\]|<</?SYS>>|<\|(?:start|end)_header_id\|>|<\|header_(?:start|end)\|>|<\|eot(?:_id)?\|>"
    r"|</?(?:start|end)_of_turn>|<\|?turn\|?>|<\|(?:begin|end)_of_text\|>|<\|endoftext\|>|<\|(?:user|assistant|system)\|>"
    r"|<\|(?:START|END)_OF_TURN_TOKEN\|>|<[|｜](?:User|Assistant)[|｜]>|<[|｜](?:begin|end)▁of▁sentence[|｜]>"
    r"|<\|start\|>(?:system|developer|user|assistant)|<\|channel\|>|\[SYSTEM_PROMPT\]"
)
_START = re.compile(r"\s*<(?:s|bos)>")
_SCAFFOLDS = (
    re.compile(r"(### ?Instruction:).*(### ?Response:)", re.DOTALL),
    re.compile(r"^(### ?(?:Human|User):).*^(### ?Assistant:)", re.DOTALL | re.MULTILINE),
    re.compile(r"^((?:Human|User|USER):).*\s((?:Assistant|ASSISTANT|AI|Bot):)", re.DOTALL | re.MULTILINE),
)
_END = re.compile(
    r"(?:</s>|<eos>|<\|im_end\|>|<\|eot(?:_id)?\|>|<\|end(?:oftext|_of_text)?\|>|<end_of_turn>|<\|END_OF_TURN_TOKEN\|>"
    r"|<[|｜]end▁of▁sentence[|｜]>)\s*\Z"
)
_SHOWN = 80


def chat_markup(conversation: Conversation) -> str | None:
    """The first mark of a chat template in the text of a prompt, or at the end of a response, with the text. None if
    there is none."""
    for example in conversation.examples():
        for message in example.prompt:
            if mark := find_markup(message.text):
                return f"{mark} in {_short(message.text)!r}"
        if example.reference.rstrip().endswith(">") and (end := _END.search(example.reference)):
            return f"{end[0].strip()} in {_short(example.reference)!r}"
    return None


def find_markup(text: str) -> str | None:
    if ("<" in text or "[" in text) and (mark := _MARKS.search(text) or _START.match(text)):
        return mark[0].strip()
    for scaffold in _SCAFFOLDS if ":" in text else ():
        if frame := scaffold.search(text):
            return f"{frame[1]} … {frame[2]}"
    return None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
