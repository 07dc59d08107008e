"""Find out, by rendering probe conversations, whether a chat template makes the model think before it answers.

A model that thinks writes its reasoning before the answer, between marks such as <think> and </think>. If it were
trained on answers without reasoning at the place where it starts to reason, it would learn to stop reasoning: see
`think_block` for what stands there in training.
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
"""The opening and closing marks of published models, for chat templates. `grading.traces` has the patterns that find
these marks and their variants in replies: add a new family there too."""
FIELDS = ("reasoning_content", "reasoning", "thinking")
REASONING = "It is named after an icon."
"""The trace of probe conversations."""
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
    """How a template handles reasoning.

    `none`: it has no reasoning. `off`: it has reasoning, and the answer starts without. `on`: the model reasons before
    it answers; `switch` then holds the arguments that turn this off, if the template has any.

    With `off`, `ending` is the text that every prompt must end with (empty if nothing closes the reasoning), and an
    answer must not contain any of `marks`.
    """

    mode: Literal["none", "off", "on"]
    ending: str = ""
    marks: tuple[str, ...] = ()
    switch: Mapping[str, Any] | None = None


def find_thinking(template: ChatTemplate) -> Thinking:
    """How `template` handles reasoning with its present arguments."""
    found = _mode(template, {})
    if found.mode != "on":
        return found
    for switch in _SWITCHES:
        if _mode(template, switch).mode != "on":
            return Thinking("on", marks=found.marks, switch=switch)
    return found


def reasoning_names(template: ChatTemplate) -> tuple[str, ...]:
    """The names under which `template` reads the reasoning of an assistant's turn."""
    user: Chat = [{"role": "user", "content": USER}]
    found = []
    for name in FIELDS:
        try:
            text = template.apply([*user, {"role": "assistant", "content": ANSWER, name: REASONING}], generate=False)
        except RenderError:
            continue
        if REASONING in text:
            found.append(name)
    return tuple(found[:1])


def has_mark(text: str) -> bool:
    """Whether a template's text contains a mark of reasoning."""
    return any(_is_written(*marks, text) for marks in MARKS)


def _is_written(opening: str, closing: str, text: str) -> bool:
    return opening in text or (closing in text and closing != "<|end|>")  # which also ends an answer


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
        for name in _BOOLEAN:  # off by default, turned on in the system turn
            on, off = (render(user, True, **{name: value}) for value in (True, False))
            if on is not None and on != off and off == prompt:
                return Thinking("off", marks=marks)
    return Thinking("on", marks=marks)


def _known_marks(render: Any, text: str) -> tuple[str, ...]:
    """The marks that the template writes, cuts out of an answer, or refuses in an answer."""
    known: list[str] = []
    cuts_any = _cuts(render, f"<note>{REASONING}</note>{ANSWER}")
    for opening, closing in MARKS:
        written = _is_written(opening, closing, text)
        if written or (not cuts_any and _cuts(render, f"{opening}{REASONING}{closing}{ANSWER}")):
            known += [opening, closing]
    return tuple(known)


def _cuts(render: Any, content: str) -> bool:
    """Whether the template changes an answer with this content, in the last turn or in an earlier turn."""
    for after in ([], [{"role": "user", "content": USER}]):
        plain, marked = (
            render([{"role": "user", "content": USER}, {"role": "assistant", "content": text}, *after], bool(after))
            for text in (ANSWER, content)
        )
        if plain is not None and (marked is None or marked != plain.replace(ANSWER, content)):
            return True
    return False


def _shows_reasoning(render: Any) -> bool:
    turn = {"role": "assistant", "content": ANSWER, **dict.fromkeys(FIELDS, REASONING)}
    return REASONING in (render([{"role": "user", "content": USER}, turn], False) or "")
