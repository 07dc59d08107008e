"""Rewriting templates: the prompts in which the seed model rewrites a response (eq. 3)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..demo import SEEDS
from ..errors import RecipeError
from ..models.chat_template import is_file
from ..models.slots import fill
from ..recipe.plain_yaml import as_written, parse_yaml
from ..types import Example, Message, Messages, messages_from_json, with_chat_of


@dataclass(frozen=True)
class RewritingTemplate:
    """A rewriting prompt (eq. 3): a user turn, and optionally a system message, turns before the user turn, and a
    prefill. Slots in every part: {instruction}, {reference}, and {words}, the number of words of the reference. The
    prefill starts the assistant turn and is not trained on."""

    user: str
    system: str | None = None
    before: tuple[Message, ...] = ()
    prefill: str | None = None

    @property
    def parts(self) -> list[str]:
        """All texts of the template."""
        return [self.user, *filter(None, (self.system, self.prefill)), *(turn.content for turn in self.before)]

    def to_json(self) -> dict[str, Any]:
        """The template as it identifies rewrites. Fields of messages that are empty are left out, so that a field that
        a later version adds makes no other template."""
        before = [turn.to_json() for turn in self.before]
        return {"user": self.user, "system": self.system, "before": before, "prefill": self.prefill}


_OWN_WORDS = (
    "Rewrite the answer below in your own words. Keep every fact, name and number. Write only the answer.\n\n"
    "Question: {instruction}\n\nAnswer: {reference}"
)

_CALL = (
    "{instruction}\n\nThe correct call is:\n{reference}\n\nAnswer with this call on one line, without code around it "
    "and without explanation."
)


def _with_example(user: str, instruction: str, reference: str, rewrite: str) -> RewritingTemplate:
    """The template with a rewrite of one example before the user turn."""
    shown = fill(user, {"instruction": instruction, "reference": reference})
    return RewritingTemplate(user, before=(Message("user", shown), Message("assistant", rewrite)))


CALLING = RewritingTemplate(
    "{instruction}\n\nThe correct call is:\n{reference}\n\nAnswer with this call: the same function with the same "
    "arguments, or all of them if there are several. Do not explain it."
)
"""For turns that call tools, whatever the recipe's template: no text is to be put in other words."""

# `own-words` and `call` were chosen among other wordings with a real model (docs/rewrites.md). The others
# are the paper's: two general templates (figure 3 and section 5.2) and one for maths (figure 12), named by the paper's
# phrases. Their wording is ours, since the paper shows its templates as pictures. The demo's seed was taught these
# three.
REWRITING = {
    "own-words": _with_example(
        _OWN_WORDS,
        "Why do bakers let dough rest?",
        "Resting lets the gluten relax, and the yeast makes gas, so the bread gets lighter. It takes 1 to 2 hours.",
        "While dough rests for 1 to 2 hours, its gluten relaxes and the yeast produces gas. The bread becomes lighter.",
    ),
    "call": _with_example(
        _CALL,
        "Construct a function call to answer the given question using keyword arguments based on the provided "
        "specifications:\n\nQuestion: Which buses leave the harbour after 9 in the evening?\n\nFunction to be used: "
        "buses.departures\nDescription: Lists departures.\nParameters:\n1. stop (type: string) - Name of the stop.\n"
        "2. after (type: integer) - Earliest hour.\nRequired: [stop]\n\nFormat your response as a single string using "
        "keyword arguments.",
        "buses.departures(stop='harbour', after=21)",
        "buses.departures(stop='harbour', after=21)",
    ),
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


def template_for(model: str, name: str) -> str:
    """`name`, or `using` if the demo's seeds, which were taught the paper's wording alone, would not understand it."""
    return "using" if model in SEEDS and name in ("own-words", "call") else name


def rewriting_chat_template(chat_template: str, template: RewritingTemplate) -> str:
    """The chat template of rewriting prompts. With `alpaca`, a rewriting template that has headings of this format or
    begins the answer itself, as the paper's do, gets no second frame."""
    framed = "### " in template.user or template.prefill is not None
    return "plain" if chat_template == "alpaca" and framed else chat_template


def load_template(name: str) -> RewritingTemplate:
    """A template by its name in `REWRITING` or by its file: a text file is the user turn, a YAML file has user, system,
    before and prefill.

    Raises RecipeError if there is no such template, or if its turns lack the slot for the instruction or the reference.
    """
    if name in REWRITING:
        return REWRITING[name]
    path = Path(name)
    if not is_file(path):
        near = difflib.get_close_matches(name, REWRITING, n=1)
        meant = f"did you mean '{near[0]}'? The templates are" if near else "choose"
        raise RecipeError(f"There is no rewriting template '{name}'; {meant} {', '.join(REWRITING)}, or name a file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        values: Any = as_written(parse_yaml(text)) if path.suffix in (".yaml", ".yml") else {"user": text}
        template = RewritingTemplate(**{**values, "before": messages_from_json(values.get("before") or [])})
        if not all(isinstance(part, str) for part in template.parts):
            raise TypeError("user, system, prefill and the content of turns must be texts")
        if {turn.role for turn in template.before} - {"user", "assistant"}:
            raise ValueError("the turns before must have role user or assistant")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RecipeError(
            f"The template {path} can't be used ({error}); write a text file, or YAML with user, system, before and "
            "prefill."
        ) from None
    shown = "".join([template.user, *(turn.content for turn in template.before)])
    missing = [slot for slot in ("{instruction}", "{reference}") if slot not in shown]
    if missing:
        raise RecipeError(f"The turns of the template {path} have no slot {' and no slot '.join(missing)}; add it.")
    return template


def rewriting_messages(template: RewritingTemplate, example: Example) -> Messages:
    """The rewriting prompt of `example`: the turns before the last instruction unchanged, then the template's turns
    with the instruction and the reference. Calls and results that follow the instruction are written after it. A turn
    that calls tools is rewritten by `CALLING`."""
    if example.calls:
        template = CALLING
    words = str(len(example.reference.split()))
    last = max((place for place, turn in enumerate(example.prompt) if turn.role == "user"), default=0)
    slots = {"instruction": _instruction(example, last), "reference": example.reference, "words": words}
    turns = [*template.before, Message("user", template.user)]
    messages = [*example.prompt[:last], *(Message(turn.role, fill(turn.content, slots)) for turn in turns)]
    if template.system:
        own = f"\n\n{messages.pop(0).content}" if messages[0].role == "system" else ""
        messages.insert(0, Message("system", fill(template.system, slots) + own))
    if template.prefill:
        messages.append(Message("assistant", fill(template.prefill, slots)))
    return with_chat_of(messages, example.prompt)


def _instruction(example: Example, last: int) -> str:
    """The last instruction, with the calls and results after it."""
    later = example.prompt[last + 1 :]
    if not later:
        return example.instruction
    done = [f"<tool_response>\n{turn.text}\n</tool_response>" if turn.role == "tool" else turn.text for turn in later]
    return "\n".join([example.instruction, "\nYou have made these calls already, with these results:", *done])
