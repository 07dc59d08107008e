"""Rewriting templates: from an example to the prompt in which the seed model rewrites the response (eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..models.chat_template import is_file
from ..models.slots import fill
from ..recipe.plain_yaml import as_written, parse_yaml
from ..types import Example, Message, Messages


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


def rewriting_chat_template(chat_template: str) -> str:
    return "plain" if chat_template == "alpaca" else chat_template


def load_template(name: str) -> RewritingTemplate:
    """A template of `REWRITING`, or the user's own file: text (the user turn), or YAML with user, system, prefill.

    Raises RecipeError where there is no such template or it has no slot for the instruction or the reference.
    """
    if name in REWRITING:
        return REWRITING[name]
    path = Path(name)
    if not is_file(path):
        raise RecipeError(f"There is no rewriting template '{name}': choose {', '.join(REWRITING)}, or name a file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
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
