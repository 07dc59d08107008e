"""A row as a conversation: its format reads the turns, and this module checks what every format has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ..recipe.model import reserved_arguments
from ..types import Conversation, Message, Messages, with_chat_of
from .bad_rows import UnusableError
from .formats import Fields, Format, answers_in, is_texts
from .tool_rows import linked, parsed, tools_in_text
from .turns import MEDIA, Turn, gather_unused, truth
from .values import as_json, is_filled, kind, known

# Columns that can't be ignored without changing what is learned, each with the reason or the alternative.
_NO_TOOLS = "this format has no tools; write the row as messages, whose column `tools` defines them"
_REFUSED = {
    **dict.fromkeys(("tools", "functions", "tool_calls", "function_call"), _NO_TOOLS),
    **MEDIA,
    "documents": "documents are not supported; write them into the prompt",
}
_ARGUMENTS = "chat_template_kwargs"
_ROW_MARKS = ("weight", "sample_weight", "loss_weight", "train", "trainable")
_REPEATED = (("user", "user"), ("assistant", "assistant"), ("tool", "user"))


def read_conversation(form: Format, row: Mapping[str, Any], columns: Mapping[str, str]) -> Conversation:
    """The conversation in a row. `extra` holds the columns and turn fields that are not read. Raises UnusableError."""
    fields = Fields(row, form, columns)
    used = {fields.name(field) for field in (*form.required, *form.optional)} | {*columns.values(), _ARGUMENTS}
    _refuse(row, used)
    turns = form.read(fields)
    system = fields.maybe("system")
    if system.strip() and not (turns and turns[0].message == Message("system", system)):
        turns.insert(0, Turn(Message("system", system)))
    messages = tuple(turn.message for turn in turns)
    if fields.tools and messages[0].role == "system" and (written := tools_in_text(messages[0].content)):
        messages = (Message("system", written[1]), *messages[1:]) if written[1] else messages[1:]
        turns = turns if written[1] else turns[1:]
    _check_turns(messages)
    if fields.tools or any(message.role == "tool" or message.tool_calls for message in messages):
        messages = linked(messages, fields.tools)
    messages = _with_chat(messages, fields)
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    untrained = tuple(index for index in answers if not turns[index].trained)
    if len(untrained) == len(answers):
        raise UnusableError("every assistant turn is marked as context only, so there is no response to learn")
    return Conversation(messages, _extra(fields, used, turns), untrained)


def _with_chat(messages: Messages, fields: Fields) -> Messages:
    """The messages with the row's tools and template arguments."""
    given = fields.row.get(_ARGUMENTS)
    if not fields.tools and not is_filled(given):
        return messages
    arguments = parsed(given, f"`{_ARGUMENTS}`") if is_filled(given) else {}
    if not isinstance(arguments, dict):
        raise UnusableError(f"`{_ARGUMENTS}` is {kind(arguments)}, not an object")
    arguments = {name: value for name, value in arguments.items() if value is not None}
    if reserved := reserved_arguments(arguments):
        raise UnusableError(f"`{_ARGUMENTS}` can't hold {', '.join(reserved)}")
    first = replace(messages[0], tools=fields.tools, template_kwargs=arguments)
    return with_chat_of(messages, (first,))


def _refuse(row: Mapping[str, Any], used: set[str]) -> None:
    for name in _REFUSED.keys() & row.keys() - used:
        if is_filled(row[name]):
            raise UnusableError(f"`{name}` is filled: {_REFUSED[name]}")
    for name in _ROW_MARKS:
        if name in row and name not in used and is_filled(row[name]) and not _is_one(row[name]):
            raise UnusableError(
                f"`{name}` is {row[name]!r}; rows are not weighted. Take out the rows that are not to be trained on, "
                "or rename the column if it means something else"
            )


def _is_one(value: Any) -> bool:
    try:
        return truth(value, "")
    except UnusableError:
        return False


def _extra(fields: Fields, used: set[str], turns: Sequence[Turn]) -> dict[str, Any]:
    extra = {key: as_json(value) for key, value in fields.row.items() if key not in used and known(value) is value}
    several = fields.form.several or ""
    answers: Any = answers_in(fields.get(several))
    if several and is_texts(answers) and len(answers) > 1:
        extra[f"{fields.name(several)} after the first"] = answers[1:]
    return extra | gather_unused(turns, fields.name(next(iter(fields.form.required))))


def _check_turns(messages: Sequence[Message]) -> None:
    """Only the first message may be a system message; user and assistant alternate, except that results of tools stand
    between two turns of the assistant; the last turn is the assistant's."""
    roles = [message.role for message in messages]
    if roles == ["user", "assistant"]:  # nearly all rows
        return
    if "assistant" not in roles:
        raise UnusableError("no assistant turn, so there is no response to learn")
    turns = roles[1:] if roles[0] == "system" else roles
    if "system" in turns:
        raise UnusableError("only the first message may be a system message")
    if turns[0] == "assistant":
        raise UnusableError("the first turn is the assistant's, so it answers nothing")
    if turns[0] == "tool" or any(pair == ("user", "tool") for pair in pairwise(turns)):
        raise UnusableError("a tool's result without a call")
    if any(pair in _REPEATED for pair in pairwise(turns)):
        raise UnusableError("turns don't alternate between user and assistant")
    if turns[-1] != "assistant":
        whose = "the user's" if turns[-1] == "user" else "a tool's"
        raise UnusableError(f"the last turn is {whose}, without a response")
