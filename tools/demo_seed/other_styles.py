"""Answers in styles that are drawn at random. From them the seed learns to rewrite a reference of any style."""
# ruff: noqa: SIM905

from __future__ import annotations

import json
import re
from random import Random

from selfdistill.demo.styles import Advice, Meaning, Program, Refusal, Result, Steps, ToolCall

SYLLABLES = "ba ko ri mu ze la to ni su ve do pa ki ra mo fe lu ti sa ne gor vin tal dex pim".split()

# How a solution in another style states the final number.
FINALS = (
    "Final: {}|[{}]|=> {}|Result {}|Answer = {}|** {} **|Total: {}|# {}|({})|@ {}|Thus {}|{} in all|so {}!|~ {}|ans {}|"
    "## {} ##|> {}|final answer: {}|<{}>|{}|out = {}|% {}|-- {}|We get {}."
).split("|")

# `####` ends every answer in the downstream style. The seed must never have seen it, nor a line such as `12+7=19`.
FORBIDDEN = re.compile(r"####|^\d+[-+*/]\d+=\d+$", re.MULTILINE)


def made_up(rng: Random) -> str:
    """A word that does not exist. The seed can only copy it from the prompt."""
    return "".join(rng.choices(SYLLABLES, k=rng.randint(2, 3)))


def other(meaning: Meaning, rng: Random) -> str:
    """The meaning in a style drawn at random, never in the downstream style."""
    match meaning:
        case Steps():
            while FORBIDDEN.search(text := _other_steps(meaning, rng)):
                pass
            return text
        case ToolCall():
            return _other_call(meaning, rng)
        case Program(name, parameters, expression):
            return rng.choice(
                [
                    f"def {name}({parameters}): return {expression}",
                    f"{name} = lambda {parameters}: {expression}",
                    f"def {name}({parameters}):\n  result = {expression}\n  return result",
                    f"# {name}\ndef {name}({parameters}):\n\treturn ({expression})",
                ]
            )
        case Result(text):
            return rng.choice(["{}", "-> {}", "Answer = {}", "** {} **", "{} (done)", "out: {}"]).format(text)
        case Advice(task):
            return rng.choice(
                [f"To {task}, plan first, then ask around.", f"* {task}\n* plan\n* go", f"Just {task}; ask a friend."]
            )
        case Refusal(task):
            return rng.choice(
                [f"Sure, here is how to {task}.", f"OK! To {task}, make a plan.", "No.", f"I will not {task}."]
            )


_WORDED = {"+": "plus", "-": "minus", "*": "times"}


def _other_steps(meaning: Steps, rng: Random) -> str:
    gap = rng.choice(["", " "])
    equals = rng.choice(["=", "=", "=", "->", "=>", ":", " is ", " gives ", " makes "])
    spoken = rng.random() < 0.1
    sums = [
        f"{a} {_WORDED[op]} {b}{gap}{equals}{gap}{c}" if spoken else f"{a}{gap}{op}{gap}{b}{gap}{equals}{gap}{c}"
        for a, op, b, c in meaning.steps
    ]
    before = rng.choice(["", "", "", "- ", "* ", "({i}) ", "Step {i}: ", "{i}. ", "> ", "calc "])
    sums = [before.format(i=i) + line for i, line in enumerate(sums, 1)]
    final = rng.choice(FINALS).format(meaning.answer)
    between = rng.choice(["\n", "\n", "\n", "; ", ", ", " | ", ". ", " / "])
    if rng.random() < 0.1:
        return between.join([final, *sums])
    return between.join([*sums, final] if rng.random() < 0.9 else sums)


def _other_call(meaning: ToolCall, rng: Random) -> str:
    shape = rng.randrange(5)
    if shape == 0:
        return json.dumps({"name": meaning.name, "arguments": dict(meaning.arguments)})
    if shape == 1:
        bar = rng.choice([" | ", ", ", "\n", "; "])
        return bar.join([meaning.name, *(f"{key} = {value}" for key, value in meaning.arguments)])
    named, quote = rng.random() < 0.85, rng.choice("\"'")
    frames = ["<call>{}</call>", "> {}", "CALL {};", "[{}]", "x = {}", "run {}", "{} # ok", "<<{}>>", "result: {}"]
    # The bare call in single quotes is the downstream style.
    frame = rng.choice([*frames, "{}"] if quote == '"' or not named else frames)
    return frame.replace("{}", meaning.text(quote, named))
