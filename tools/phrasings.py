"""The wordings that `tools.compare_phrasings` compares, in addition to the templates in `prompts.REWRITING`."""

from __future__ import annotations

from selfdistill.generation.prompts import REWRITING, RewritingTemplate
from selfdistill.types import Message

# The product's templates that are compared, per task.
TEMPLATES = {"dolly": ("using", "own-words"), "gsm8k": ("math",), "openfunctions": ("refer", "call")}

# The sentence that names the form of an answer, per task.
FORMS = {
    "dolly": "Write only the answer.",
    "gsm8k": "Work step by step, and end with the sentence: The answer is N.",
    "openfunctions": "Answer with one function call in the form name(parameter=value), and nothing else.",
}

# A worked example for word problems: instruction, reference and rewrite. It is from no dataset.
_PROBLEM = (
    "Mira has 3 boxes with 8 pears each. She eats 5 pears. How many are left?",
    "3*8=24 pears in the boxes.\n24-5=19 pears are left.\nThe answer is 19.",
    "Mira starts with 3 * 8 = 24 pears. After she eats 5 pears, she has 24 - 5 = 19 pears. The answer is 19.",
)
_DIRECT = (
    "Rewrite the answer below in your own words. Keep every fact, name and number. {form}\n\n"
    "Question: {instruction}\n\nAnswer: {reference}"
)
_AFTER = (
    "{instruction}\n\nA correct answer is:\n{reference}\n\nGive this answer in other words, with the same facts. {form}"
)
_STEPS = (
    "Question: {instruction}\n\nSolution: {reference}\n\nTell this solution in your own words, step by step. Copy "
    "every calculation as it is, and end with the sentence: The answer is N."
)
_AGAIN = (Message("user", "{instruction}"), Message("assistant", "{reference}"))
_SHORT_CALL = (
    "Question: Which buses leave the harbour after 9 in the evening?\n\nFunction to be used: buses.departures\n"
    "Parameters: stop, after",
    "buses.departures(stop='harbour', after=21)",
    "buses.departures(stop='harbour', after=21)",
)


def phrasings(task: str) -> dict[str, RewritingTemplate]:
    """The wordings for a task of `FORMS`, by name."""
    form = FORMS[task]
    direct = _DIRECT.replace("{form}", form)
    general = {
        "direct": RewritingTemplate(_DIRECT.replace("{form}", "Write only the answer.")),
        "direct-form": RewritingTemplate(direct),
        "direct-words": RewritingTemplate(direct.replace(" {reference}", " {reference}\n\nUse at most {words} words.")),
        "after": RewritingTemplate(_AFTER.replace("{form}", form)),
        "system": RewritingTemplate(
            "{instruction}",
            system=f"You know the answer to the user's question: {{reference}}\nGive it in your own words. {form}",
        ),
        "again": RewritingTemplate(f"Say that again in other words, with the same facts. {form}", before=_AGAIN),
        "again-words": RewritingTemplate(
            f"Say that again in other words, with the same facts, in about {{words}} words. {form}", before=_AGAIN
        ),
    }
    if task == "dolly":
        del general["direct-form"]  # equal to `direct`
    call = REWRITING["call"].user
    special: dict[str, dict[str, RewritingTemplate]] = {
        "dolly": {},
        "gsm8k": {"direct-example": _shown(direct, *_PROBLEM), "steps-example": _shown(_STEPS, *_PROBLEM)},
        "openfunctions": {
            "call-plain": RewritingTemplate(call),
            "call-short": _shown(call, *_SHORT_CALL),
            "call-again": RewritingTemplate("Repeat your answer.", before=_AGAIN),
        },
    }
    return {name: REWRITING[name] for name in TEMPLATES[task]} | special[task] | general


def _shown(user: str, instruction: str, reference: str, rewrite: str) -> RewritingTemplate:
    """The wording after one worked example."""
    shown = user.replace("{instruction}", instruction).replace("{reference}", reference)
    return RewritingTemplate(user, before=(Message("user", shown), Message("assistant", rewrite)))
