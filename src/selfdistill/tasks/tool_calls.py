"""The calls of the recipe's own held-out rows: each turn of a row with tools, after the original turns before it. A
turn passes if it makes the calls of the reference by value, in any order, and no call if the reference makes none.

    {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {...}}}],
     "messages": [{"role": "user", "content": "How warm is it in Oslo?"},
                  {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {...}}}]}]}
"""

from __future__ import annotations

from ..data import read_conversations
from ..grading.calls import same_tool_calls
from ..types import Conversation, Example, Grade
from . import Task


def grade(example: Example, text: str) -> Grade:
    return same_tool_calls(example.reference, text, example.tools)


def turns_with_tools(conversation: Conversation) -> list[Example]:
    return [example for example in conversation.examples() if example.tools]


TASK = Task(
    name="tool_calls", skill="tool use", grade=grade, load=read_conversations, items=turns_with_tools, own_rows=True
)
