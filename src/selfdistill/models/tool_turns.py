"""Tools in the prompts and calls in the answers of one chat template, found by rendering.

A template is used for tools only if it prints their definitions, calls and results, and if the calls that it writes can
be read back. Otherwise `problem` says why; `in_plain_text` (the setting `tools_in: system`) needs nothing from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import RenderError
from ..types import FunctionCall, Message, Messages, tools_of, write_reply
from .call_notations import Tools, normal_text, read_calls_of
from .chat_template import ANSWER, USER, Chat, ChatTemplate
from .think_block import ThinkBlock
from .thinking import FIELDS, REASONING
from .tokens import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM = (
    "You may call these functions to answer the user:\n<tools>\n{tools}\n</tools>\n\n"
    "To call a function, write its name and arguments as JSON between <tool_call> and </tool_call>:\n"
    '<tool_call>\n{{"name": "...", "arguments": {{...}}}}\n</tool_call>'
)
_NAME, _PARAMETER = "find_the_znamenka", "street_name"
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "Find it.",
        "parameters": {"type": "object", "properties": {_PARAMETER: {"type": "string"}}, "required": [_PARAMETER]},
    },
}
_PROBE = FunctionCall(_NAME, {_PARAMETER: ANSWER})


def in_plain_text(messages: Messages) -> Messages:
    """The chat without tools: the definitions stand in the system turn, calls in the text of the assistant's turns as
    `write_reply` writes them, and the results between two turns of the assistant in one turn of the user."""
    tools = tools_of(messages)
    if not tools:
        return messages
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    written = _SYSTEM.format(tools=listed)
    own = messages[0].role == "system"
    if own and messages[0].content.strip():
        written = f"{messages[0].content}\n\n{written}"
    plain = [Message("system", written, template_kwargs=messages[0].template_kwargs)]
    for message in messages[own:]:
        if message.role != "tool":
            plain.append(replace(message, content=message.text, tool_calls=(), tools=(), template_kwargs={}))
            continue
        result = f"<tool_response>\n{message.content}\n</tool_response>"
        if plain[-1].role == "user":
            plain[-1] = replace(plain[-1], content=f"{plain[-1].content}\n{result}")
        else:
            plain.append(Message("user", result))
    return tuple(plain)


def chat_of(messages: Iterable[Message], reasoning: Sequence[str] = (), arguments_as_text: bool = False) -> Chat:
    """The messages as a chat template, or a server, reads them. `reasoning` are the names under which it reads the
    reasoning. Calls are numbered in nine characters, because Mistral's templates refuse other ids."""
    chat: Chat = []
    number, last = 0, dict[str, tuple[str, str]]()
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning:
            turn |= dict.fromkeys(reasoning, message.reasoning)
        if message.tool_calls:
            last = {}
            turn["tool_calls"] = []
            for call in message.tool_calls:
                number += 1
                last[call.id] = f"call{number:05d}", call.name
                values = json.dumps(call.arguments, ensure_ascii=False) if arguments_as_text else call.arguments
                function = {"name": call.name, "arguments": values}
                turn["tool_calls"].append({"id": last[call.id][0], "type": "function", "function": function})
        if message.role == "tool":
            turn["tool_call_id"], turn["name"] = last.get(message.tool_call_id, (message.tool_call_id, ""))
        chat.append(turn)
    return chat


def chat_arguments(messages: Messages) -> dict[str, Any]:
    """The argument of a chat template, or of a server, that holds the tools."""
    tools = tools_of(messages)
    return {"tools": list(tools)} if tools else {}


@dataclass(frozen=True)
class CallAnswer:
    """The text of an answer that calls tools, up to its end of turn, and the token that ends it (None if the template
    doesn't say)."""

    text: str
    end: int | None


class ToolTurns:
    """The chats of `template`, with tools, and with reasoning under the names `reasoning`. `block` is the think block
    of a model that thinks.

    `problem` is why it can't be used for tools, empty if it can. `end` is the token that ends an answer with a call.
    """

    def __init__(
        self,
        template: ChatTemplate,
        tokens: Tokens,
        tokenizer: PreTrainedTokenizerBase,
        reasoning: Sequence[str],
        block: ThinkBlock | None,
    ) -> None:
        self._template, self._tokens, self._tokenizer, self._reasoning = template, tokens, tokenizer, reasoning
        self._block = block
        self.arguments_as_text = False
        self.end: int | None = None
        self.problem = self._find()

    def _find(self) -> str:
        asked = (Message("user", USER, tools=(_TOOL,)),)
        if "tools" not in self._template.source:
            return "leaves out the definitions of tools"
        try:
            prompt = self.text(asked)
        except RenderError as error:
            return f"can't show tools ({error})"
        if _NAME not in prompt:
            return "leaves out the definitions of tools"
        for self.arguments_as_text in (False, True):
            try:
                found = self.answer(asked, prompt, "", (_PROBE,))
                result = Message("tool", USER[::-1], tool_call_id="")
                shown = self.text((*asked, Message("assistant", "", tool_calls=(_PROBE,)), result))
            except RenderError as error:
                reason = str(error)
                continue
            self.end = found.end
            return "" if USER[::-1] in shown else "leaves out the results of tools"
        return f"can't show calls of tools ({reason})"

    def text(self, messages: Messages, generate: bool = True) -> str:
        """The rendered chat. Raises RenderError."""
        chat = chat_of(messages, self._reasoning, self.arguments_as_text)
        return self._template.apply(chat, generate, chat_arguments(messages))

    def answer(self, prompt: Messages, start: str, content: str, calls: Sequence[FunctionCall]) -> CallAnswer:
        """What the template writes for an answer after `start`, the text of the prompt, and after the think block if
        the model thinks. Raises RenderError if it refuses the calls, or doesn't write them so that they can be read
        back."""
        calls = [replace(call, id=str(place)) for place, call in enumerate(calls)]
        turn = Message("assistant", content, tool_calls=tuple(calls))
        if self._block:
            turn = replace(turn, reasoning=REASONING if self._reasoning else "")
            start += "".join(text for text, _ in self._block.pieces(turn.reasoning))
        whole = self.text((*prompt, turn), generate=False)
        if not whole.startswith(start):
            raise RenderError("the chat template writes a call at another place than an answer")
        text, end = self._tokens.split_end(whole[len(start) :])
        if end is None or not self._reads_back(text, start, turn, tools_of(prompt)):
            text, end = whole[len(start) :], None
            results = [Message("tool", USER, tool_call_id=call.id) for call in calls]
            further = self.text((*prompt, turn, *results))[len(start) :]
            if further.startswith(text):
                end = self._tokens.first_special(further[len(text) :])
            if not self._reads_back(text, start, turn, tools_of(prompt)):
                raise RenderError("the chat template doesn't write the call so that it can be read back")
        return CallAnswer(text, end)

    def _reads_back(self, text: str, start: str, turn: Message, tools: Tools) -> bool:
        try:
            content, calls = self._read(text, start, tools)
        except ValueError:
            return False
        same = [(call.name, call.arguments) for call in calls] == [(c.name, c.arguments) for c in turn.tool_calls]
        return same and content.strip() == turn.content.strip()

    def normal_text(self, text: str, start: str, tools: Tools) -> str:
        """A reply to the prompt `start` in the form of `write_reply`, see `call_notations.normal_text`."""
        return normal_text(text, tools, lambda reply, known: self._read(reply, start, known))

    def _read(self, text: str, start: str, tools: Tools) -> tuple[str, list[FunctionCall]]:
        """The content and the calls of a reply, by the tokenizer's own response template if it has one, else by the
        table of notations. Raises ValueError if a call can't be read."""
        _, content, calls = self._by_template(text, start, tools)
        return (content, calls) if calls else read_calls_of(text, tools)

    def parsed(self, text: str, start: str, tools: Tools) -> tuple[str, str] | None:
        """The reasoning and the rest of a reply, by the tokenizer's response template; None if it has none, or does not
        find both."""
        reasoning, content, calls = self._by_template(text, start, tools)
        rest = write_reply(content.strip(), calls)
        return (reasoning, rest) if reasoning.strip() and rest else None

    def _by_template(self, text: str, start: str, tools: Tools) -> tuple[str, str, list[FunctionCall]]:
        """Reasoning, content and calls by transformers' `parse_response`; all empty if it can't be used."""
        if not getattr(self._tokenizer, "response_template", None):
            return "", "", []
        try:
            parsed: Any = self._tokenizer.parse_response(text, prefix=start, tools=list(tools))
            calls = [_function(call) for call in parsed.get("tool_calls") or ()]
            reasoning = next((parsed[name] for name in FIELDS if isinstance(parsed.get(name), str)), "")
            return reasoning, parsed.get("content") or "", calls
        except Exception:  # the template is the model's, and can fail in any way
            return "", "", []


def _function(call: Mapping[str, Any]) -> FunctionCall:
    function = call.get("function", call)
    return FunctionCall(function["name"], dict(function["arguments"]))
