"""A model's chat template, applied with the recipe's arguments and with a fixed date instead of the clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, RecipeError, RenderError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The Alpaca format (Taori et al. 2023; the paper's figure 10), used instead of the model's own chat template.
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
# The rewriting templates contain the Alpaca headings already, so a rewriting prompt in the Alpaca format gets no frame.
PLAIN = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{% if not loop.first and message.role != 'assistant' %}{{ '\n\n' }}{% endif %}{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt and messages[-1].content[-1:] != '\n' %}{{ '\n\n' }}{% endif %}"
)
CHAT_TEMPLATES = {"alpaca": ALPACA, "plain": PLAIN}

Chat = list[dict[str, Any]]
USER, ANSWER = "Where does the Znamenka begin?", "At the Borovitskaya square."
"""Texts of probe conversations. No template contains them."""
_PROBES: tuple[Chat, ...] = (
    [{"role": "user", "content": USER}],
    [{"role": "system", "content": ANSWER}, {"role": "user", "content": USER}],
)
_FAR = timedelta(days=400)
_DATE_NAME = re.compile(r"\b\w*(?:date|today)\w*\b")


class ChatTemplate:
    """The template `chat` (the model's own), a template of `CHAT_TEMPLATES`, or a Jinja file.

    Templates read the clock through `strftime_now`, which returns midnight of `day` (default: today). `formats` holds
    the date formats that the template asked for; it is empty if the template writes no date.
    Raises ModelError if the model has no template, RecipeError if `chat_template` names none.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str,
        arguments: Mapping[str, Any] | None,
        day: date | None,
    ) -> None:
        self._tokenizer, self._source = tokenizer, chat_template
        self._own = _template_text(tokenizer, chat_template)
        self.source = self._own or _model_template(tokenizer)
        self.arguments = dict(arguments or {})
        self.day = day or datetime.now(UTC).date()
        self.formats: dict[str, None] = {}
        for probe in _PROBES if "strftime_now" in self.source else ():
            self._try(probe)

    @property
    def name(self) -> str:
        """The template's name in error messages."""
        return (
            f"of {self._tokenizer.name_or_path}"
            if self._source == "chat"
            else f"in model.chat_template, {self._source},"
        )

    def apply(self, chat: Chat, generate: bool, changes: Mapping[str, Any] | None = None) -> str:
        """The text of a conversation, with the opening of an answer if `generate`. `changes` are extra arguments.

        Raises RenderError with the template's reason if it refuses the conversation.
        """
        clock = {"strftime_now": self._now} if "strftime_now" in self.source else {}
        try:
            rendered = self._tokenizer.apply_chat_template(
                chat,
                chat_template=self._own,
                add_generation_prompt=generate,
                tokenize=False,
                **{**clock, **self.arguments, **(changes or {})},
            )
            rendered.encode()  # a tokenizer refuses half of a surrogate pair
        except RecursionError as error:
            raise RenderError("the chat template never ends") from error
        except Exception as error:  # a template is a program and can fail in any way
            raise RenderError(f"the chat template refuses the prompt: {_reason(error)}") from error
        assert isinstance(rendered, str)
        return rendered

    def date_arguments(self) -> dict[str, str] | None:
        """The arguments that make a server write `day` when it applies this template. Empty if the template writes no
        date, None if it has no argument for the date."""
        if not self.formats:
            return {}
        other = ChatTemplate(self._tokenizer, self._source, self.arguments, self.day - _FAR)
        for name in dict.fromkeys(_DATE_NAME.findall(self.source)):
            for form in self.formats:
                given = {name: self._now(form)}
                if all(other._try(probe, given) == self._try(probe) for probe in _PROBES):
                    return given
        return None

    def _try(self, chat: Chat, changes: Mapping[str, Any] | None = None) -> str:
        """`apply` for a prompt; empty if the template refuses it."""
        try:
            return self.apply(chat, generate=True, changes=changes)
        except RenderError:
            return ""

    def _now(self, form: str) -> str:
        self.formats[form] = None
        return datetime.combine(self.day, time()).strftime(form)


def _reason(error: Exception) -> str:
    from jinja2 import TemplateError

    text = " ".join(str(error).split()).rstrip(".") or "no reason given"
    return text if type(error) is TemplateError else f"{type(error).__name__}: {text}"


def _template_text(tokenizer: PreTrainedTokenizerBase, chat_template: str) -> str | None:
    """The Jinja text of a chat template; None for the tokenizer's own template."""
    if chat_template in CHAT_TEMPLATES:
        return CHAT_TEMPLATES[chat_template]
    if chat_template == "chat":
        if tokenizer.chat_template:
            return None
        raise ModelError(
            f"{tokenizer.name_or_path} has no chat template, so it looks like a base model, and SDFT needs a model "
            "that follows instructions; use its chat or instruct version, or set model.chat_template to alpaca or a "
            "Jinja file."
        )
    path = Path(chat_template)
    if not is_file(path):
        raise RecipeError(
            f"model.chat_template '{chat_template}' is neither chat nor alpaca nor a Jinja file; check its path."
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The chat template {path} can't be read ({error}); check model.chat_template.") from None


def _model_template(tokenizer: PreTrainedTokenizerBase) -> str:
    template = tokenizer.chat_template
    if isinstance(template, dict) and "default" not in template:
        raise ModelError(
            f"{tokenizer.name_or_path} has several chat templates ({', '.join(sorted(template))}) and none is called "
            "default; write the one to use into a Jinja file, and set model.chat_template to this file."
        )
    return str(tokenizer.get_chat_template())


def is_file(path: Path) -> bool:
    """`Path.is_file`, but False for a name that is too long for a file."""
    try:
        return path.is_file()
    except OSError:
        return False
