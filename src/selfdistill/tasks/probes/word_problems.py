"""Arithmetic and word problems, graded by the final number.

    Ana has 7 stamps. Ana buys 5 more. How many stamps does Ana have now?

The easy level takes one operation on small numbers, the medium one two or three, the hard one five to seven with
percentages, remainders and products of three-digit numbers.
"""

from __future__ import annotations

from random import Random

from ...grading import make_grader
from . import pools
from .items import ProbeItem, ask, probe

_END = "End with a sentence of the form: The answer is N."


def make(rng: Random, step: str) -> ProbeItem:
    kind, text, answer = {"easy": _easy, "medium": _medium, "hard": _hard}[step](rng)
    wrong = (f"The answer is {answer + 1}.", f"The answer is {answer * 10 + 3}.", "I am not sure how to work this out.")
    asked = text if step == "easy" else f"{text} {_END}"
    return ProbeItem(kind, ask(asked), f"The answer is {answer}.", wrong)


def _easy(rng: Random) -> tuple[str, str, int]:
    (name, other), thing = pools.some(rng, pools.NAMES, 2), rng.choice(pools.THINGS)
    a, b, c = rng.randint(2, 20), rng.randint(1, 9), rng.randint(2, 6)
    match rng.randrange(6):
        case 0:
            return "arithmetic", f"What is {a} + {b}?", a + b
        case 1:
            return "arithmetic", f"What is {a + b} - {b}?", a
        case 2:
            return "arithmetic", f"What is {b} times {c}?", b * c
        case 3:
            return (
                "story",
                f"{name} has {a} {thing}. {name} buys {b} more. How many {thing} does {name} have now?",
                a + b,
            )
        case 4:
            return "story", f"{name} has {a + b} {thing} and gives {b} to {other}. How many {thing} are left?", a
        case _:
            return "story", f"{name} has {c} boxes with {b} {thing} in each. How many {thing} are there?", b * c


def _medium(rng: Random) -> tuple[str, str, int]:
    (name, other), thing = pools.some(rng, pools.NAMES, 2), rng.choice(pools.THINGS)
    a, b, c, d = rng.randint(12, 60), rng.randint(3, 12), rng.randint(3, 9), rng.randint(2, 11)
    match rng.randrange(5):
        case 0:
            return "arithmetic", f"What is {a} + {b} * {c}?", a + b * c
        case 1:
            return "arithmetic", f"What is ({a} + {b}) * {c} - {d}?", (a + b) * c - d
        case 2:
            text = f"{name} has {c} boxes with {b} {thing} in each and finds {a} more. How many {thing} is that?"
            return "story", text, b * c + a
        case 3:
            text = (
                f"{name} had {a + b + c} {thing}, gave {b} to {other}, lost {c}, and then bought {d}. How many {thing} "
                f"does {name} have now?"
            )
            return "story", text, a + d
        case _:
            text = (
                f"{name} sells {b} {thing} a day for {c} coins each. How many coins does {name} have after {d} days, "
                f"if {a} coins were there at the start?"
            )
            return "story", text, a + b * c * d


def _hard(rng: Random) -> tuple[str, str, int]:
    (name, other), thing = pools.some(rng, pools.NAMES, 2), rng.choice(pools.THINGS)
    a, b, c = rng.randint(112, 899), rng.randint(112, 899), rng.randint(13, 59)
    d, e = rng.randint(7, 19), rng.randint(3, 9)
    match rng.randrange(4):
        case 0:
            return "arithmetic", f"What is {a} * {b} - {c} * {d} + {e}?", a * b - c * d + e
        case 1:
            return "arithmetic", f"What is the remainder when {a} * {b} + {c} is divided by {d}?", (a * b + c) % d
        case 2:
            boxes, percent = 20 * rng.randint(9, 40), 5 * rng.randint(1, 9)
            left = boxes * c - boxes * percent // 100 * c
            text = (
                f"A shop has {boxes} boxes with {c} {thing} each. {percent} per cent of the boxes fall into the water "
                f"and are lost. {name} takes {a} {thing} from the others, {other} brings {e} times {d} new ones, and "
                f"the rest is shared by {d} people, who each get the same whole number. How many {thing} are left over?"
            )
            return "story", text, (left - a + e * d) % d
        case _:
            text = (
                f"On Monday {name} makes {a} {thing}, and on each of the next {e} days {c} more than the day before. "
                f"{other} breaks {d} of them every day, Monday included. How many whole {thing} are there in the end?"
            )
            total = sum(a + c * day for day in range(e + 1)) - d * (e + 1)
            return "story", text, total


TASK = probe("maths", "arithmetic and word problems", make, make_grader("final_number"))
