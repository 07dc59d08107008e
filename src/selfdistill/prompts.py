"""From an example to token ids: rewriting templates, and the one function that renders messages.

Every backend, training and evaluation render through `Renderer`, so the chat template is applied once and a prompt has
the same tokens wherever it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config.plain_yaml import as_written, parse_yaml
from .errors import ModelError, RecipeError
from .types import Example, Message, Messages, messages_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RewritingTemplate:
    """The rewriting prompt (eq. 3): a user turn with the slots {instruction} and {reference}, and where wanted a
    system message and a prefill that starts the assistant turn. The prefill is no part of the training target."""

    user: str
    system: str | None = None
    prefill: str | None = None


# Two task-independent wordings (the paper's figure 3 and section 5.2) and one for maths (figure 12), in our words: the
# paper's figures are pictures. The phrases that name the templates are the paper's.
REWRITING = {
    "using": RewritingTemplate(
        "Below is an instruction and a reference answer. Using the reference answer as a guide, write your own answer "
        "to the instruction.\n\n### Instruction:\n{instruction}\n\n### Reference answer:\n{reference}\n\n"
        "### Your answer:\n"
    ),
    "refer": RewritingTemplate(
        "Below is an instruction and a reference answer. Refer to the reference answer and write your own answer "
        "to the instruction.\n\n### Instruction:\n{instruction}\n\n### Reference answer:\n{reference}\n\n"
        "### Your answer:\n"
    ),
    "math": RewritingTemplate(
        system="You are an expert in mathematics. Solve the problem step by step in your own words, reaching the "
        "result of the reference answer, and end with the sentence: The answer is N.",
        user="{instruction}\n\nReference answer: {reference}",
        prefill="Let's think step by step.\n",
    ),
}

_MARK = "selfdistill-answer-goes-here"

# The Alpaca layout (Taori et al. 2023; the paper's figure 10), in place of the model's own chat template.
ALPACA = (
    "{{ bos_token or '' }}"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}\n\n"
    "{% else %}Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n{% endif %}"
    "{% for message in messages %}"
    "{% if message.role == 'user' %}### Instruction:\n{{ message.content }}\n\n"
    "{% elif message.role == 'assistant' %}### Response:\n{{ message.content }}{{ eos_token }}"
    "{% if not loop.last %}{{ '\n\n' }}{% endif %}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}"
)
# A rewriting prompt is a whole Alpaca page in itself: under the Alpaca layout it stands alone, without further frame.
PLAIN = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{% if not loop.first and message.role != 'assistant' %}{{ '\n\n' }}{% endif %}{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt and messages[-1].content[-1:] != '\n' %}{{ '\n\n' }}{% endif %}"
)
LAYOUTS = {"alpaca": ALPACA, "plain": PLAIN}


_SLOT = re.compile(r"\{(\w+)\}")


def rewriting_layout(layout: str) -> str:
    return "plain" if layout == "alpaca" else layout


def fill(template: str, slots: Mapping[str, str]) -> str:
    """Puts `slots` in for `{name}` in one pass: what is filled in is never read again, and other braces stay."""
    return _SLOT.sub(lambda match: slots.get(match[1], match[0]), template)


def load_template(name: str) -> RewritingTemplate:
    """A template of `REWRITING`, or the user's own file: text (the user turn), or YAML with user, system, prefill.

    Raises RecipeError where there is no such template or it has no slot for the instruction or the reference.
    """
    if name in REWRITING:
        return REWRITING[name]
    path = Path(name)
    if not _is_file(path):
        raise RecipeError(f"There is no rewriting template '{name}': choose {', '.join(REWRITING)}, or name a file.")
    try:
        text = path.read_text(encoding="utf-8")
        values: Any = as_written(parse_yaml(text)) if path.suffix in (".yaml", ".yml") else {"user": text}
        template = RewritingTemplate(**values)
        parts = (template.user, template.system or "", template.prefill or "")
        if not all(isinstance(part, str) for part in parts):
            raise TypeError("its parts are texts")
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(f"The template {path} is not usable: {error}; it has user, system and prefill.") from None
    missing = [slot for slot in ("{instruction}", "{reference}") if slot not in template.user]
    if missing:
        raise RecipeError(f"The template {path} has no slot {' and no '.join(missing)} in its user turn; add it.")
    return template


def rewriting_messages(template: RewritingTemplate, example: Example) -> Messages:
    """The rewriting prompt of `example`: earlier turns as they are, the last user turn with the reference beside it."""
    slots = {"instruction": example.instruction, "reference": example.reference}
    messages = [*example.prompt[:-1], Message("user", fill(template.user, slots))]
    if template.system:
        own = f"\n\n{messages.pop(0).content}" if messages[0].role == "system" else ""
        messages.insert(0, Message("system", template.system + own))
    if template.prefill:
        messages.append(Message("assistant", template.prefill))
    return tuple(messages)


@dataclass(frozen=True)
class TrainingRow:
    """Token ids of one sequence, and for each whether loss is taken on it (responses and their end of turn)."""

    input_ids: list[int]
    trained: list[bool]


class Renderer:
    """Messages to text and token ids by one tokenizer and layout.

    `layout` is `chat` (the model's own template), a name of `LAYOUTS`, or a Jinja chat template file.
    `stop_ids` are the tokens that end a turn. Raises ModelError where the model has no chat template.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        layout: str = "chat",
        template_kwargs: Mapping[str, Any] | None = None,
        stop_ids: Sequence[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self._kwargs = dict(template_kwargs or {})
        self._template = _layout_template(tokenizer, layout)
        self.stop_ids = set(stop_ids)
        if tokenizer.eos_token_id is not None:
            self.stop_ids.add(tokenizer.eos_token_id)
        if not self.stop_ids:
            raise ModelError("The tokenizer names no end-of-turn token; set eos_token in its tokenizer_config.json.")
        self.has_system_role = self._takes_system_role()

    def text(self, messages: Messages) -> str:
        """The prompt that the model continues; a last assistant message is a prefill, appended as it is."""
        if messages and messages[-1].role == "assistant":
            return self.text(messages[:-1]) + messages[-1].content
        return self._apply(messages, generate=True)

    def ids(self, messages: Messages) -> list[int]:
        """`text` as token ids. Special tokens, BOS too, come from the template alone, so that none is doubled."""
        return self._encode(self.text(messages))

    def training_rows(self, messages: Messages) -> list[TrainingRow]:
        """A conversation as training sequences: loss on each response and its end of turn, on nothing else.

        One row, whose prompts have just the tokens that generation would see; where the template changes earlier turns
        as a conversation goes on (as some reasoning models' do), one row for each assistant turn.
        """
        rows: list[TrainingRow] = []
        for turn, message in enumerate(messages):
            if message.role != "assistant":
                continue
            prompt, response = self.ids(messages[:turn]), self._response_ids(messages[: turn + 1])
            before = rows[-1] if rows else TrainingRow([], [])
            start = len(before.input_ids)
            if prompt[:start] == before.input_ids:
                rows = rows[:-1]
            else:
                before, start = TrainingRow([], []), 0
            rows.append(_joined(before, prompt[start:], response, self.stop_ids))
        return rows

    def response_row(self, prompt: Messages, response: str) -> TrainingRow:
        """A prompt and its response, loss on the response alone: up to there, the tokens of `training_rows`."""
        response_ids = self._response_ids((*prompt, Message("assistant", response)))
        return _joined(TrainingRow([], []), self.ids(prompt), response_ids, self.stop_ids)

    def _response_ids(self, messages: Messages) -> list[int]:
        """The last message and its end of turn, as they follow the prompt's tokens."""
        before, whole = self.text(messages[:-1]), self._apply(messages, generate=False)
        prompt, ids = self._encode(before), self._encode(whole)
        if ids[: len(prompt)] == prompt:
            ids = ids[len(prompt) :]
        elif whole.startswith(before):  # a merge across the seam, which generation can't make
            ids = self._encode(whole[len(before) :])
        else:  # the template opens a turn to generate in another way than a past one
            marked = self._apply((*messages[:-1], Message("assistant", _MARK)), generate=False)
            ahead, mark, _ = marked.partition(_MARK)
            found = mark and whole.startswith(ahead)
            ids = self._encode(whole[len(ahead) :] if found else messages[-1].content.strip())
        if not any(token in self.stop_ids for token in ids[-4:]):
            eos = self.tokenizer.eos_token_id
            ids.append(eos if eos is not None else min(self.stop_ids))
        return ids

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return ids

    def _apply(self, messages: Messages, generate: bool) -> str:
        if not self.has_system_role:
            messages = _fold_system(messages)
        return self._raw(messages, generate)

    def _raw(self, messages: Messages, generate: bool) -> str:
        from jinja2 import TemplateError

        try:
            rendered = self.tokenizer.apply_chat_template(
                messages_json(messages),
                chat_template=self._template,
                add_generation_prompt=generate,
                tokenize=False,
                **self._kwargs,
            )
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            # A template may do anything wrong that a program can; what it asks for by `raise_exception` is no more.
            raise TemplateError(f"{type(error).__name__}: {error}") from error
        assert isinstance(rendered, str)
        return rendered

    def _takes_system_role(self) -> bool:
        """Whether a system message reaches the prompt: templates without that role raise, or leave it out."""
        from jinja2 import TemplateError

        try:
            text = self._raw((Message("system", "Znamenka"), Message("user", "Hi")), generate=True)
        except TemplateError:
            return False
        return "Znamenka" in text


def _joined(before: TrainingRow, prompt: list[int], response: list[int], stop_ids: set[int]) -> TrainingRow:
    """`before` with what it is asked next and the response to that. What a template adds after the end of turn, such as
    a newline, is never generated, so it isn't trained either."""
    end = max(place for place, token in enumerate(response) if token in stop_ids) + 1
    return TrainingRow(
        before.input_ids + prompt + response,
        before.trained + [False] * len(prompt) + [True] * end + [False] * (len(response) - end),
    )


def _layout_template(tokenizer: PreTrainedTokenizerBase, layout: str) -> str | None:
    if layout in LAYOUTS:
        return LAYOUTS[layout]
    if layout == "chat":
        if tokenizer.chat_template:
            return None  # the tokenizer's own
        raise ModelError(
            f"{tokenizer.name_or_path} has no chat template, so it looks like a base model, and SDFT needs a model "
            "that follows instructions: use its chat or instruct version, or name a template in model.layout (alpaca, "
            "or a Jinja file)."
        )
    path = Path(layout)
    if not _is_file(path):
        raise RecipeError(f"model.layout '{layout}' is neither chat, alpaca nor a file with a Jinja chat template.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The template model.layout names, {path}, can't be read: {error}.") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long a name, for one
        return False


def _fold_system(messages: Messages) -> Messages:
    """A system message put in front of the first user turn, for templates that have no system role."""
    if not messages or messages[0].role != "system":
        return messages
    system, rest = messages[0].content, messages[1:]
    if not rest or rest[0].role != "user":
        return (Message("user", system), *rest)
    return (Message("user", f"{system}\n\n{rest[0].content}"), *rest[1:])
