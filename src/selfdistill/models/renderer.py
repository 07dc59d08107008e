"""Messages to token ids. Backends, training and evaluation all use `Renderer`, so a prompt has the same tokens
everywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ModelError, RenderError
from ..types import Message, Messages, Thought, read_reply, tools_of, with_chat_of
from .answer_turn import find_answer_turn
from .chat_template import ANSWER, USER, ChatTemplate
from .think_block import Piece, encode_pieces, find_think_block
from .thinking import Thinking, find_thinking, reasoning_names
from .tokens import Tokens
from .tool_turns import ToolTurns, in_plain_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TrainingRow:
    """The token ids of one sequence, and for each id whether loss is taken on it (a response and its end of turn)."""

    input_ids: list[int]
    trained: list[bool]


class Renderer:
    """Messages to text and token ids by one tokenizer and chat template.

    `chat_template`, `template_kwargs` and `day` are arguments of `ChatTemplate`. `thinking` is how the template handles
    reasoning, which `reasoning` off turns off; `block` is the think block of a model that thinks. `end_of_turn` is the
    token that the template puts after an answer, else the tokenizer's eos. The attribute `stop_ids` holds this token,
    eos, and the given `stop_ids` that can't be part of an answer's text. `warnings` are sentences for the user. With
    `tools_in` system, tools are shown as text, see `in_plain_text`.

    Raises ModelError if the model has no chat template, if the template can't show a user's message, or if its
    reasoning can't be turned off.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str = "chat",
        template_kwargs: Mapping[str, Any] | None = None,
        stop_ids: Sequence[int] = (),
        day: date | None = None,
        tools_in: Literal["template", "system"] = "template",
        reasoning: Literal["own", "mask", "off"] | None = None,
    ) -> None:
        self.tokenizer, self.warnings = tokenizer, list[str]()
        self._chat_template, self._given_stop_ids = chat_template, stop_ids
        self._tools_in, self._decided = tools_in, reasoning
        self._of_arguments: dict[str, Renderer] = {}
        self.template, self._tokens = ChatTemplate(tokenizer, chat_template, template_kwargs, day), Tokens(tokenizer)
        self._check_that_text_is_shown()
        self.thinking = find_thinking(self.template)
        if reasoning == "off" and self.thinking.mode == "on":
            self.template, self.thinking = self._turned_off()
        names = reasoning_names(self.template) if self.thinks else ()
        self.block = find_think_block(self.template, self.thinking.marks, names) if self.thinks else None
        self._marks = (*self.thinking.marks, *(self.block.marks if self.block else ()))
        self._turns = ToolTurns(self.template, self._tokens, tokenizer, names, self.block)
        self.has_system_role = self._takes_system_role()
        self._turn = find_answer_turn(self.template, self._tokens, self.thinks)
        self.stop_ids = self._declared(stop_ids)
        if tokenizer.eos_token_id is not None:
            self.stop_ids.add(tokenizer.eos_token_id)
        self.end_of_turn = self._end_of_turn()
        self.stop_ids.add(self.end_of_turn)
        if self._turns.end is not None:
            self.stop_ids.add(self._turns.end)

    @property
    def thinks(self) -> bool:
        """Whether the model reasons before it answers."""
        return self.thinking.mode == "on"

    # ---- prompts

    def text(self, messages: Messages) -> str:
        """The text of a prompt, up to where the model continues. A last assistant message is a prefill: the start of
        the answer, which follows an empty block if the model thinks.

        Raises RenderError if the template refuses the messages or doesn't show their tools, or if they turn on
        reasoning that is turned off.
        """
        render, messages = self._for(messages)
        if messages and messages[-1].role == "assistant":
            before = render.block.empty if render.block else render._turn.before
            return render.text(messages[:-1]) + before + messages[-1].content
        text = render._turns.text(messages if render.has_system_role else _fold_system(messages))
        if not text.endswith(render.thinking.ending):
            raise RenderError("its text turns on the reasoning that the recipe turns off (for example by /think)")
        return text + render._turn.opening

    def ids(self, messages: Messages) -> list[int]:
        """The token ids of `text`. Special tokens, also BOS, come only from the template, so that none is doubled."""
        return self._tokens.encode(self.text(messages))

    def normal_text(self, text: str, prompt: str, tools: Sequence[Mapping[str, Any]]) -> str:
        """A reply to the rendered `prompt`, with calls of `tools` in the form of `write_reply`."""
        return self._turns.normal_text(text, prompt, tools)

    def parsed(self, text: str, prompt: str, tools: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
        """The reasoning and the rest of a reply to the rendered `prompt`, by the tokenizer's response template; None if
        it has none, or can't tell the two apart."""
        return self._turns.parsed(text, prompt, tools)

    def _for(self, messages: Messages) -> tuple[Renderer, Messages]:
        """The renderer with the messages' own template arguments, and the messages as it shows them."""
        arguments = messages[0].template_kwargs if messages else {}
        if arguments:
            render = self._with(arguments)
            return render._for((replace(messages[0], template_kwargs={}), *messages[1:]))
        if self._tools_in == "system":
            return self, in_plain_text(messages)
        try:
            self.refuse_tools(messages)
        except ModelError as error:
            raise RenderError(str(error).rstrip(".")) from error
        return self, messages

    def _with(self, arguments: Mapping[str, Any]) -> Renderer:
        """The renderer with further template arguments. Raises RenderError."""
        key = json.dumps(arguments, sort_keys=True)
        if key not in self._of_arguments:
            own = {**self.template.arguments, **arguments}
            given = self._chat_template, own, self._given_stop_ids, self.template.day, self._tools_in, self._decided
            try:
                self._of_arguments[key] = Renderer(self.tokenizer, *given)
            except ModelError as error:
                raise RenderError(f"its template arguments {key} can't be used: {error}") from error
        found = self._of_arguments[key]
        if found.thinking.mode == "on" and self.thinking.mode != "on":
            raise RenderError(f"its template arguments {key} turn on the reasoning that the recipe turns off")
        return found

    # ---- training

    def response_row(self, prompt: Messages, response: str, thought: Thought | None = None) -> TrainingRow:
        """The prompt's tokens as in generation, then the response and its end of turn, with loss on these two.

        If the model thinks, its think block stands between prompt and response, with loss on it if `thought` is
        trained; without a thought it is empty and has no loss. A model that does not think ignores the thought.

        White space around the response is cut if the template cuts it. Prompt and response are encoded separately, as
        in generation, so that no token crosses the boundary. Calls of tools are written as the template writes them.
        Raises RenderError if the prompt can't be rendered or the response can't be trained (see `untrainable`),
        ModelError as `refuse_unmarked`.
        """
        render, prompt = self._for(prompt)
        ids = render.ids(prompt)
        block, answer = render._response(prompt, response, thought)
        untrained = ids + block
        return TrainingRow(untrained + answer, [False] * len(untrained) + [True] * len(answer))

    def untrainable(self, prompt: Messages, response: str, thought: Thought | None = None) -> str | None:
        """Why a response to a prompt can't be trained, None if it can. Its tokens may not decode to its text, it or its
        thought may contain a mark of reasoning, or the template may refuse its calls."""
        try:
            render, prompt = self._for(prompt)
            render._response(prompt, response, thought)
        except RenderError as error:
            return str(error)
        return None

    @property
    def tools_problem(self) -> str:
        """Why the chat template can't be used for tools, as the end of a sentence; empty if it can."""
        return self._turns.problem

    def refuse_tools(self, messages: Messages) -> None:
        """Raises ModelError if the chat has tools and the template doesn't show them."""
        if tools_of(messages) and self._turns.problem and self._tools_in == "template":
            raise ModelError(
                f"The chat template {self.template.name} {self._turns.problem}, and the data has tools; set "
                "model.tools_in to system, which writes tools, calls and results as text."
            )

    def refuse_unmarked(self) -> None:
        """Raises ModelError if the model thinks and nothing marks where its traces begin and end."""
        if not self.thinks or self.block is not None:
            return
        todo = "set model.chat_template to a Jinja chat template without reasoning"
        if self.thinking.switch:
            todo = "turn this off with model.reasoning: off"
        raise ModelError(
            f"The chat template {self.template.name} lets the model think before it answers, and no known marks show "
            f"where a think trace begins and ends, so it can't be trained; {todo}."
        )

    def _response(self, prompt: Messages, response: str, thought: Thought | None) -> tuple[list[int], list[int]]:
        """The tokens between prompt and response that are not trained, and the trained tokens. Raises RenderError."""
        self.refuse_unmarked()
        answer, end = self._answer(prompt, response)
        if self.block is None:
            return [], self._encoded([answer], end)
        thought = thought or Thought(trained=False)
        trace = thought.text.strip()
        if mark := next((mark for mark in self._marks if mark in trace), None):
            raise RenderError(f"its think trace holds {mark}, which marks where a trace begins or ends")
        pieces = self.block.pieces(trace)
        if thought.trained:
            return [], self._encoded([*pieces, answer], end)
        return self._encoded(pieces), self._encoded([answer], end)

    def _answer(self, prompt: Messages, response: str) -> tuple[Piece, int]:
        """The text of a response as the template writes it, and its end of turn. Raises RenderError if it can't be
        trained."""
        if mark := next((mark for mark in self._marks if mark in response), None):
            why = "marks where a think trace begins or ends" if self.thinks else "reasoning is turned off"
            raise RenderError(f"the response holds {mark}, {'which' if self.thinks else 'and'} {why}")
        if tools_of(prompt):
            try:
                content, calls = read_reply(response)
            except ValueError as error:
                raise RenderError(f"the response holds {error}") from None
            if calls:
                texts = content + json.dumps([call.arguments for call in calls], ensure_ascii=False)
                if name := self._tokens.named(texts):
                    raise RenderError(f"the response calls a tool and holds {name}, which is a special token")
                shown = prompt if self.has_system_role else _fold_system(prompt)
                call = self._turns.answer(shown, self.text(prompt), content, calls)
                return (call.text, True), self.end_of_turn if call.end is None else call.end
        text = self._turn.before + (response.strip() if self._turn.strips else response) + self._turn.after
        return (text, False), self.end_of_turn

    def _encoded(self, pieces: Sequence[Piece], end: int | None = None) -> list[int]:
        """The tokens of a text in pieces, then the end of turn. Raises RenderError."""
        ids = encode_pieces(self._tokens, pieces)
        if ids is None:
            raise RenderError("the tokenizer can't write the response without loss: its tokens decode to another text")
        if any(is_mark for _, is_mark in pieces) and self.stop_ids.intersection(ids):
            raise RenderError("the response holds an end of turn before its end")
        return ids if end is None else [*ids, end]

    # ---- probes of the template

    def _turned_off(self) -> tuple[ChatTemplate, Thinking]:
        """The template with its reasoning turned off. Raises ModelError if it has no switch for that."""
        if not self.thinking.switch:
            raise ModelError(
                f"The chat template {self.template.name} lets the model think before it answers and has no switch for "
                "this, so model.reasoning can't be off; set it to own or mask, or set model.chat_template to a Jinja "
                "chat template without reasoning."
            )
        arguments = {**self.template.arguments, **self.thinking.switch}
        template = ChatTemplate(self.tokenizer, self._chat_template, arguments, self.template.day)
        return template, find_thinking(template)

    def _check_that_text_is_shown(self) -> None:
        try:
            text = self.template.apply([{"role": "user", "content": USER}], generate=True)
        except RenderError as error:
            raise ModelError(
                f"The chat template {self.template.name} can't be used, even for one message ({error}); check "
                "model.template_kwargs, or set model.chat_template to another Jinja chat template."
            ) from error
        if USER not in text:
            raise ModelError(
                f"The chat template {self.template.name} leaves out the text of a user's message, as templates for "
                "images do; set model.chat_template to a Jinja chat template for text."
            )

    def _takes_system_role(self) -> bool:
        """Whether a system message reaches the prompt. Templates without this role raise an error or leave it out."""
        chat = [{"role": "system", "content": ANSWER}, {"role": "user", "content": USER}]
        try:
            return ANSWER in self.template.apply(chat, generate=True)
        except RenderError:
            return False

    def _declared(self, stop_ids: Sequence[int]) -> set[int]:
        """The ids in `stop_ids` that can't be part of an answer's text, which are the ids of added tokens."""
        known = {stop for stop in stop_ids if stop in self._tokens.special | self._tokens.added}
        if ordinary := sorted(set(stop_ids) - known):
            self.warnings.append(
                f"generation_config.json names {', '.join(map(str, ordinary))} as eos_token_id, which is not a special "
                "token of the tokenizer. It is ignored, since it would cut answers short."
            )
        return known

    def _end_of_turn(self) -> int:
        if self._turn.end is not None:
            return self._turn.end
        eos = self.tokenizer.eos_token_id
        if eos is None and not self.stop_ids:
            raise ModelError("The tokenizer has no end-of-turn token; set eos_token in its tokenizer_config.json.")
        end: int = min(self.stop_ids) if eos is None else eos
        if self._turn.unknown:
            self.warnings.append(
                f"The chat template {self.template.name} ends an answer with {self._turn.unknown!r}, which is not a "
                f"special token of the tokenizer. Answers end with {self._tokens.written([end])[0]} instead."
            )
        return end


def _fold_system(messages: Messages) -> Messages:
    """Move a system message to the start of the first user turn, for templates without a system role."""
    if not messages or messages[0].role != "system":
        return messages
    system, rest = messages[0].content, messages[1:]
    if rest and rest[0].role == "user":
        system, rest = f"{system}\n\n{rest[0].content}", rest[1:]
    return with_chat_of((Message("user", system), *rest), messages)
