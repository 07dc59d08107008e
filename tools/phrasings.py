"""The wordings that `tools.compare_phrasings` compares, in addition to the templates in `prompts.REWRITING`."""

from __future__ import annotations

from selfdistill.generation.prompts import RewritingTemplate
from selfdistill.types import Message

# The sentence that names the form of an answer, per task.
FORMS = {
    "dolly": "Write only the answer.",
    "gsm8k": "Work step by step, and end with the sentence: The answer is N.",
    "openfunctions": "Answer with one function call in the form name(parameter=value), and nothing else.",
}

# The beginning of an answer, per task.
PREFILLS = {
    "dolly": "In other words: ",
    "gsm8k": "Let's think step by step.\n",
    "openfunctions": "The function call is: ",
}

# A worked example per task: instruction, reference and rewrite. None of them is from a dataset.
EXAMPLES = {
    "dolly": (
        "Why do bakers let dough rest?",
        "Resting lets the gluten relax, and the yeast makes gas, so the bread gets lighter. It takes 1 to 2 hours.",
        "While dough rests for 1 to 2 hours, its gluten relaxes and the yeast produces gas. The bread becomes lighter.",
    ),
    "gsm8k": (
        "Mira has 3 boxes with 8 pears each. She eats 5 pears. How many are left?",
        "3*8=24 pears in the boxes.\n24-5=19 pears are left.\nThe answer is 19.",
        "Mira starts with 3 * 8 = 24 pears. After she eats 5 pears, she has 24 - 5 = 19 pears. The answer is 19.",
    ),
    "openfunctions": (
        "Construct a function call to answer the given question using keyword arguments based on the provided "
        "specifications:\n\nQuestion: Which buses leave the harbour after 9 in the evening?\n\nFunction to be used: "
        "buses.departures\nDescription: Lists departures.\nParameters:\n1. stop (type: string) - Name of the stop.\n"
        "2. after (type: integer) - Earliest hour.\nRequired: [stop]\n\nFormat your response as a single string using "
        "keyword arguments.",
        "buses.departures(stop='harbour', after=21)",
        "buses.departures(stop='harbour', after=21)",
    ),
}

_SHORT = (
    "Question: Which buses leave the harbour after 9 in the evening?\n\nFunction to be used: buses.departures\n"
    "Parameters: stop, after"
)
_DIRECT = (
    "Rewrite the answer below in your own words. Keep every fact, name and number. {form}\n\n"
    "Question: {instruction}\n\nAnswer: {reference}"
)
_AFTER = (
    "{instruction}\n\nA correct answer is:\n{reference}\n\nGive this answer in other words, with the same facts. {form}"
)
_CALL = (
    "{instruction}\n\nThe correct call is:\n{reference}\n\nAnswer with this call on one line, without code around it "
    "and without explanation."
)
_STEPS = (
    "Question: {instruction}\n\nSolution: {reference}\n\nTell this solution in your own words, step by step. Copy "
    "every calculation as it is, and end with the sentence: The answer is N."
)
_AGAIN = (Message("user", "{instruction}"), Message("assistant", "{reference}"))


def phrasings(task: str) -> dict[str, RewritingTemplate]:
    """The wordings for a task of `FORMS`, by name."""
    form = FORMS[task]
    direct, after = _DIRECT.replace("{form}", form), _AFTER.replace("{form}", form)
    instruction, reference, rewrite = EXAMPLES[task]
    shown = direct.replace("{instruction}", instruction).replace("{reference}", reference)
    called = _CALL.replace("{instruction}", instruction).replace("{reference}", reference)
    calls = {
        "call": RewritingTemplate(_CALL),
        "call-sentence": RewritingTemplate(
            "{instruction}\n\nThe correct call is:\n{reference}\n\nAnswer with one short sentence and this call.",
            before=(
                Message("user", called.partition("Answer with")[0] + "Answer with one short sentence and this call."),
                Message("assistant", f"This call lists the buses:\n`{rewrite}`"),
            ),
        ),
        "call-short-example": RewritingTemplate(
            _CALL,
            before=(
                Message("user", _CALL.replace("{instruction}", _SHORT).replace("{reference}", reference)),
                Message("assistant", rewrite),
            ),
        ),
        "call-repeat": RewritingTemplate("{instruction}\n\nRepeat this line:\n{reference}"),
        "call-again": RewritingTemplate("Repeat your answer.", before=_AGAIN),
        "call-example": RewritingTemplate(_CALL, before=(Message("user", called), Message("assistant", rewrite))),
    }
    told = _STEPS.replace("{instruction}", instruction).replace("{reference}", reference)
    steps = {"steps-example": RewritingTemplate(_STEPS, before=(Message("user", told), Message("assistant", rewrite)))}
    own = {"openfunctions": calls, "gsm8k": steps}
    return own.get(task, {}) | {
        "direct": RewritingTemplate(_DIRECT.replace(" {form}", " Write only the answer.")),
        "direct-form": RewritingTemplate(direct),
        "direct-words": RewritingTemplate(direct.replace(" {reference}", " {reference}\n\nUse at most {words} words.")),
        "direct-example": RewritingTemplate(direct, before=(Message("user", shown), Message("assistant", rewrite))),
        "example-words": RewritingTemplate(
            direct.replace(" {reference}", " {reference}\n\nUse at most {words} words."),
            before=(
                Message("user", f"{shown}\n\nUse at most {len(reference.split())} words."),
                Message("assistant", rewrite),
            ),
        ),
        "direct-prefill": RewritingTemplate(direct, prefill=PREFILLS[task]),
        "example-prefill": RewritingTemplate(
            direct, before=(Message("user", shown), Message("assistant", rewrite)), prefill=PREFILLS[task]
        ),
        "after": RewritingTemplate(after),
        "system": RewritingTemplate(
            "{instruction}",
            system=f"You know the answer to the user's question: {{reference}}\nGive it in your own words. {form}",
        ),
        "again": RewritingTemplate(f"Say that again in other words, with the same facts. {form}", before=_AGAIN),
        "again-words": RewritingTemplate(
            f"Say that again in other words, with the same facts, in about {{words}} words. {form}", before=_AGAIN
        ),
        "repeat": RewritingTemplate("{instruction}", before=_AGAIN),
    }
