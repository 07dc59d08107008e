"""Rewriting templates: the prompts in which the seed model rewrites a response (eq. 3)."""

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
    """A rewriting prompt (eq. 3): a user turn with the slots {instruction} and {reference}, an optional system message
    and an optional prefill. The prefill starts the assistant turn and is not trained on."""

    user: str
    system: str | None = None
    prefill: str | None = None


# Two general templates (the paper's figure 3 and section 5.2) and one for maths (figure 12). The names are the paper's
# phrases. The wording is ours, since the paper shows its templates as pictures.
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
    """A template by its name in `REWRITING` or by its file: a text file is the user turn, a YAML file has user, system
    and prefill.

    Raises RecipeError if there is no such template, or if it lacks the slot for the instruction or the reference.
    """
    if name in REWRITING:
        return REWRITING[name]
    path = Path(name)
    if not is_file(path):
        raise RecipeError(f"There is no rewriting template '{name}'; choose {', '.join(REWRITING)}, or name a file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        values: Any = as_written(parse_yaml(text)) if path.suffix in (".yaml", ".yml") else {"user": text}
        template = RewritingTemplate(**values)
        parts = (template.user, template.system or "", template.prefill or "")
        if not all(isinstance(part, str) for part in parts):
            raise TypeError("user, system and prefill must be texts")
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(
            f"The template {path} can't be used ({error}); write a text file, or YAML with user, system and prefill."
        ) from None
    missing = [slot for slot in ("{instruction}", "{reference}") if slot not in template.user]
    if missing:
        raise RecipeError(f"The user turn of the template {path} has no slot {' and no slot '.join(missing)}; add it.")
    return template


def rewriting_messages(template: RewritingTemplate, example: Example) -> Messages:
    """The rewriting prompt of `example`: the earlier turns unchanged, then the template's user turn with the last
    instruction and the reference."""
    slots = {"instruction": example.instruction, "reference": example.reference}
    messages = [*example.prompt[:-1], Message("user", fill(template.user, slots))]
    if template.system:
        own = f"\n\n{messages.pop(0).content}" if messages[0].role == "system" else ""
        messages.insert(0, Message("system", template.system + own))
    if template.prefill:
        messages.append(Message("assistant", template.prefill))
    return tuple(messages)
