"""Does a chat template make the model think before it answers? Found by rendering probe conversations.

A model that thinks writes its reasoning before the answer, between marks such as <think> and </think>. Training an
answer without reasoning at the place where such a model starts to reason would teach it to stop reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import RenderError
from .chat_template import ANSWER, USER, Chat, ChatTemplate

MARKS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|channel>thought", "<channel|>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
"""The opening and the closing of reasoning, as published models write them. `grading.traces` reads the same marks in
replies, with their variants: add a new family there too."""
_FIELDS = ("reasoning_content", "reasoning", "thinking")
_REASONING = "It is named after an icon."
_BOOLEAN = ("enable_thinking", "thinking", "reasoning", "enable_reasoning")
_SWITCHES: tuple[dict[str, Any], ...] = (
    *({name: False} for name in _BOOLEAN),
    {"thinking_budget": 0},
    {"reasoning_effort": "none"},
    {"thinking_mode": "off"},
    {"thinking": "disabled"},
)


@dataclass(frozen=True)
class Thinking:
    """`none`: the template knows no reasoning. `off`: it does, and the answer starts without. `on`: the model reasons
    before it answers; `switch` then holds the arguments that turn this off, if the template has such.

    With `off`, `ending` is how every prompt has to end (empty if nothing closes the reasoning), and `marks` must not
    stand in an answer.
    """

    mode: Literal["none", "off", "on"]
    ending: str = ""
    marks: tuple[str, ...] = ()
    switch: Mapping[str, Any] | None = None


def find_thinking(template: ChatTemplate) -> Thinking:
    """What `template` does about reasoning with the arguments that it has."""
    found = _mode(template, {})
    if found.mode != "on":
        return found
    for switch in _SWITCHES:
        if _mode(template, switch).mode != "on":
            return Thinking("on", marks=found.marks, switch=switch)
    return found


def has_mark(text: str) -> bool:
    """Whether a mark of reasoning stands in a template's text."""
    return any(opening in text or (closing in text and closing != "<|end|>") for opening, closing in MARKS)


def _mode(template: ChatTemplate, changes: Mapping[str, Any]) -> Thinking:
    user: Chat = [{"role": "user", "content": USER}]

    def render(chat: Chat, generate: bool, **more: Any) -> str | None:
        try:
            return template.apply(chat, generate, {**changes, **more})
        except RenderError:
            return None

    prompt = render(user, True) or ""
    answered = render([*user, {"role": "assistant", "content": ANSWER}], False) or ""
    marks = _known_marks(render, prompt + answered)
    closing = next((mark for _, mark in MARKS if mark in marks and prompt.rstrip().endswith(mark)), None)
    if closing is not None:
        return Thinking("off", prompt[prompt.rindex(closing) :], marks)
    arguments = {**template.arguments, **changes}
    turned_on = any(arguments.get(name) and render(user, True, **{name: False}) != prompt for name in _BOOLEAN)
    if not (marks or turned_on or _shows_reasoning(render)):
        return Thinking("none")
    if not (turned_on or has_mark(prompt) or has_mark(answered)):
        for name in _BOOLEAN:  # off by default, and turned on in the system turn
            on, off = (render(user, True, **{name: value}) for value in (True, False))
            if on is not None and on != off and off == prompt:
                return Thinking("off", marks=marks)
    return Thinking("on", marks=marks)


def _known_marks(render: Any, text: str) -> tuple[str, ...]:
    """The marks that the template writes, and those that it cuts out of an answer or refuses there."""
    known: list[str] = []
    cuts_any = _cuts(render, f"<note>{_REASONING}</note>{ANSWER}")
    for opening, closing in MARKS:
        written = opening in text or (closing in text and closing != "<|end|>")
        if written or (not cuts_any and _cuts(render, f"{opening}{_REASONING}{closing}{ANSWER}")):
            known += [opening, closing]
    return tuple(known)


def _cuts(render: Any, content: str) -> bool:
    """Whether the template changes an answer with this content, as the last turn or as an earlier one."""
    for after in ([], [{"role": "user", "content": USER}]):
        plain, marked = (
            render([{"role": "user", "content": USER}, {"role": "assistant", "content": text}, *after], bool(after))
            for text in (ANSWER, content)
        )
        if plain is not None and (marked is None or marked != plain.replace(ANSWER, content)):
            return True
    return False


def _shows_reasoning(render: Any) -> bool:
    turn = {"role": "assistant", "content": ANSWER, **dict.fromkeys(_FIELDS, _REASONING)}
    return _REASONING in (render([{"role": "user", "content": USER}, turn], False) or "")
