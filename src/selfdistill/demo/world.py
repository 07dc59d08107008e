"""The demo's synthetic world: prompts and answers of every skill, drawn reproducibly.

The entry point is `examples`. A hash of a prompt's content decides its split, so splits share no prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from . import words
from .styles import Advice, Meaning, Program, Refusal, Result, Steps, ToolCall, downstream, own


class Item(NamedTuple):
    """A prompt, the meaning of a right response, and the answer that a grader looks for.

    `key` decides the split. It is the prompt, or the prompt without its suffix.
    """

    prompt: str
    meaning: Meaning
    answer: str
    key: str


def examples(skill: str, split: str, n: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """`n` examples of `skill`, each prompt once: {"prompt", "response", "answer"}.

    `split` is train, dev or test. `response` is in the seed's own style, or in the downstream style for the skills
    `maths` and `tool_downstream`. `maths_taught` are the problems of `maths` in the forms that the seed was taught.
    `answer` is the value that a grader of the skill compares: the final number (all kinds of maths), the call (tool,
    tool_downstream), assertions to run after the program (code), the words after which the response ends (lists), words
    the response holds (benign), "refuse" (safety, safety_suffix).
    Raises ValueError for an unknown skill or split, or if the world has fewer than `n` prompts.
    """
    if skill not in SKILLS or split not in SPLITS:
        raise ValueError(f"no skill {skill!r} or no split {split!r}: skills are {list(SKILLS)}, splits {SPLITS}")
    rng = Random(f"{skill}/{split}/{seed}")  # a string seed is hashed by SHA-512, so every process draws the same
    write: Callable[[Any], str] = downstream if skill in DOWNSTREAM else own
    seen: set[str] = set()
    misses = 0
    while len(seen) < n:
        item = draw(skill, rng)
        if item.prompt in seen or split_of(item.key) != split:
            misses += 1
            if misses > 100_000:
                raise ValueError(f"{skill} has fewer than {n} prompts in its {split} split")
            continue
        seen.add(item.prompt)
        misses = 0
        yield {"prompt": item.prompt, "response": write(item.meaning), "answer": item.answer}


def draw(skill: str, rng: Random) -> Item:
    """One item of a skill, of any split."""
    return SKILLS[skill](rng)


def split_of(key: str) -> str:
    """The split of a key: one tenth is dev, one tenth test."""
    digit = hashlib.blake2b(key.encode(), digest_size=4).digest()[0] % 10
    return "dev" if digit == 0 else "test" if digit == 1 else "train"


# ---- maths: each template has the operators of a chain of sums that starts with {a}

_OWN_MATHS = [
    ("+-", "{n} has {a} {i}. {n} buys {b} more and then loses {c}. How many {i} does {n} have now?"),
    ("-+", "{n} had {a} {i}. {n} gave {b} to {m} and found {c} more. How many {i} does {n} have?"),
    ("++", "{n} has {a} {i}, {m} has {b} {i}, and their friend has {c}. How many {i} do they have together?"),
    ("--", "There were {a} {i} in a box. {n} took {b} and {m} took {c}. How many {i} are left in the box?"),
    ("*+", "{n} fills {a} bags with {b} {i} each and keeps {c} more. How many {i} does {n} have?"),
    ("*-", "{n} has {a} boxes of {b} {i}. {n} gives {c} {i} to {m}. How many {i} does {n} have left?"),
    ("+", "{n} picked {a} {i} and {m} picked {b}. How many {i} did they pick?"),
    ("-", "{n} has {a} {i} and eats or loses {b} of them. How many {i} are left?"),
    ("+*", "Every day {n} gets {a} {i} at home and {b} {i} at school. How many {i} does {n} get in {c} days?"),
    ("++-", "{n} has {a} {i}. {m} gives {n} {b} and an aunt gives {c}, but {d} get lost. How many {i} are left?"),
    ("*+-", "{n} buys {a} packs of {b} {i}, finds {c} and gives {d} away. How many {i} does {n} keep?"),
]
# Downstream problems come in forms that the seed was taught a little, and in forms that it has never seen. So the seed
# solves fewer than half of them, and fine-tuning has something to teach.
_TAUGHT_FORMS = [
    ("*+-", "A shop receives {a} crates with {b} {w} in each and had {c} {w} before. It sells {d}. What is its stock?"),
    ("+-+", "A truck carries {a} {w}. At the port {b} are loaded, at the mill {c} unloaded, in town {d} loaded. "
            "What does it carry at the end?"),
    ("-*", "Of {a} workers in a plant {b} are ill. Each of the others makes {c} {w} an hour. "
           "What is the output of one hour?"),
    ("*-+", "A store orders {a} rows of {b} {w}. On arrival {c} are broken, so the maker sends {d} extra. "
            "Find the number of good {w}."),
    ("++-", "The first shelf holds {a} {w}, the second {b} and the third {c}. A clerk removes {d}. "
            "Find how many remain on the shelves."),
    ("--+", "From a stock of {a} {w} a dealer ships {b} in May and {c} in June, then restocks {d}. "
            "Determine the stock in July."),
    ("+*-", "Each of the {c} stalls got {a} {w} in the morning and {b} at noon. By evening {d} were sold in total. "
            "Determine how many stalls' {w} stay unsold."),
    ("*++", "A hall has {a} rows of {b} seats, a balcony of {c} and a box of {d}. State the number of seats."),
]  # fmt: skip
_NEW_FORMS = [
    ("+-", "{a} {w} are on the lorry. {b} are put on at the dock and {c} taken off. Give the load."),
    ("*-", "{a} pallets hold {b} {w} each, and {c} of them are cracked. Give the number of sound {w}."),
    ("+*", "A press makes {a} {w} by day and {b} by night. Give its output in {c} days."),
    ("-*", "A ferry of {a} seats keeps {b} empty on each trip. Give the passengers on {c} trips."),
    ("++-", "Stalls A, B and C sell {a}, {b} and {c} {w}; {d} come back. Give the net sales."),
    ("-+-", "A silo holds {a} tons. {b} leave, {c} arrive, {d} rot. Give the tons left."),
    ("*+", "{a} vans bring {b} {w} each and a cart brings {c}. Give the delivery."),
    ("*+-", "{a} {w} at {b} pounds each, a fee of {c}, less a voucher of {d}. Give the amount due."),
]


def _chain(ops: str, rng: Random) -> tuple[tuple[int, str, int, int], ...]:
    """Sums that stay between 1 and 99: single digits to multiply, up to two digits otherwise."""
    while True:
        steps: list[tuple[int, str, int, int]] = []
        first_times = "*" in ops[:2]
        value = rng.randint(2, 9) if first_times else rng.randint(5, 60)
        for index, op in enumerate(ops):
            following_times = ops[index + 1 : index + 2] == "*"
            if following_times and op == "-":  # the difference is what gets multiplied
                value = rng.randint(5, 30)
                right = value - rng.randint(2, min(9, value - 1))
            else:
                right = rng.randint(2, 9) if op == "*" or following_times else rng.randint(2, 40)
            result = {"+": value + right, "-": value - right, "*": value * right}[op]
            steps.append((value, op, right, result))
            value = result
        if all(0 < step[3] < 100 and not (step[1] == "*" and step[0] > 12) for step in steps):
            return tuple(steps)


def _problem(templates: list[tuple[str, str]], rng: Random) -> Item:
    ops, template = rng.choice(templates)
    steps = _chain(ops, rng)
    n, m = rng.sample(words.NAMES, 2)
    numbers = {"a": steps[0][0], **{"bcd"[i]: step[2] for i, step in enumerate(steps)}}
    prompt = template.format(n=n, m=m, i=rng.choice(words.ITEMS), w=rng.choice(words.WARES), **numbers)
    return Item(prompt, Steps(steps), str(steps[-1][3]), prompt)


def _maths_other(rng: Random) -> Item:
    return _problem(_OWN_MATHS, rng)


def _maths_taught(rng: Random) -> Item:
    return _problem(_TAUGHT_FORMS, rng)


def _maths(rng: Random) -> Item:
    return _problem(_TAUGHT_FORMS + _NEW_FORMS, rng)


# ---- tools: parameter names, the words of a request, and the values of an argument

_KINDS: list[tuple[str, str, list[str] | None]] = [
    ("city place town", "in {}", words.CITIES),
    ("day date when", "on {}", words.DAYS),
    ("colour paint tint", "in the colour {}", words.COLOURS),
    ("person user guest", "for {}", words.NAMES),
    ("count amount number", "{} times", None),
    ("hour time start", "at {} o'clock", None),
    ("price limit budget", "below {} dollars", None),
]
_HOME_KINDS: list[tuple[str, str, list[str] | None]] = [
    ("room zone area", "in the {}", words.ROOMS),
    ("mode preset profile", "using {} mode", words.MODES),
    ("percent level power", "with {} percent", None),
    ("minutes delay timer", "after {} minutes", None),
    ("item object label", "labelled {}", words.THINGS),
]


def arguments(kinds: list[tuple[str, str, list[str] | None]], rng: Random) -> tuple[list[str], list[tuple[str, Any]]]:
    """One to three phrases of a request, and the arguments with the same meaning."""
    phrases, args = [], []
    for names, phrase, values in rng.sample(kinds, rng.choice([1, 2, 2, 3, 3])):
        value: str | int = rng.choice(values) if values else rng.randint(1, 99)
        phrases.append(phrase.format(value))
        args.append((rng.choice(names.split()), value))
    return phrases, args


def signature(call: ToolCall) -> str:
    return f"{call.name}({', '.join(f'{key}: {type(value).__name__}' for key, value in call.arguments)})"


def _tool(rng: Random) -> Item:
    verb, noun = rng.choice(words.VERBS), rng.choice(words.NOUNS)
    phrases, args = arguments(_KINDS, rng)
    spoken = " ".join([f"{verb} a {noun}", *phrases])
    call = ToolCall(f"{verb}_{noun}", tuple(rng.sample(args, len(args))))
    asked = rng.choice(["Please {}.", "I need you to {}.", "Can you {}?", "{}."]).format(spoken)
    prompt = f"You have this API: {signature(call)}\n{asked[0].upper()}{asked[1:]}"
    return Item(prompt, call, call.text(), prompt)


def _tool_downstream(rng: Random) -> Item:
    action, device = rng.choice(words.ACTIONS), rng.choice(words.DEVICES)
    phrases, args = arguments(_HOME_KINDS, rng)
    call = ToolCall(f"home.{device}.{action}", tuple(rng.sample(args, len(args))))
    types = ", ".join(f'"{key}": "{"text" if isinstance(value, str) else "number"}"' for key, value in call.arguments)
    prompt = (
        f'Tools: [{{"name": "{call.name}", "parameters": {{{types}}}}}]\n'
        f"User request: {action} the {device} {' '.join(phrases)}"
    )
    return Item(prompt, call, call.text(), prompt)


# ---- code, lists, requests

_PROGRAMS = [  # what it does, parameters, expression, arguments to try it with
    ("adds {k} to {x}", "{x}", "{x} + {k}", "3 10"),
    ("subtracts {k} from {x}", "{x}", "{x} - {k}", "3 10"),
    ("multiplies {x} by {k}", "{x}", "{x} * {k}", "3 10"),
    ("tells if {x} is greater than {k}", "{x}", "{x} > {k}", "0 {k} {k}+1"),
    ("tells if {x} is equal to {k}", "{x}", "{x} == {k}", "{k}-1 {k} {k}+1"),
    ("tells if {x} is divisible by {k}", "{x}", "{x} % {k} == 0", "1 {k} {k}+1"),
    ("returns the larger of {x} and {k}", "{x}", "max({x}, {k})", "0 {k}+1"),
    ("returns the sum of {x} and {y} plus {k}", "{x}, {y}", "{x} + {y} + {k}", "3,4 1,9"),
    ("returns the product of {x} and {y} minus {k}", "{x}, {y}", "{x} * {y} - {k}", "3,4 1,9"),
    ("returns the first {k} items of {x}", "{x}", "{x}[:{k}]", "[1,2,3] list(range(200))"),
    ("tells if {x} has {k} items", "{x}", "len({x}) == {k}", "[1,2,3] list(range({k}))"),
    ("returns {x} repeated {k} times", "{x}", "{x} * {k}", "'ab' 'c'"),
]


def _code(rng: Random) -> Item:
    does, parameters, expression, tries = rng.choice(_PROGRAMS)
    x, y = rng.sample(["x", "n", "a", "value", "item", "data", "left", "size"], 2)
    slots = {"x": x, "y": y, "k": rng.randint(2, 99)}
    name = f"{rng.choice(words.THINGS)}_{rng.choice(words.COLOURS)}"
    program = Program(name, parameters.format(**slots), expression.format(**slots))
    ask = rng.choice(["Write a Python function {} that {}.", "Define {} in Python, a function that {}."])
    prompt = ask.format(f"{name}({program.parameters})", does.format(**slots))
    right = f"(lambda {program.parameters}: {program.expression})"
    checks = [f"assert {name}({t}) == {right}({t})" for t in tries.format(**slots).split()]
    return Item(prompt, program, "\n".join(checks), prompt)


_LISTS: dict[str, Callable[[list[str]], str]] = {
    "Copy this list": ", ".join,
    "Reverse this list": lambda items: ", ".join(reversed(items)),
    "Sort this list": lambda items: ", ".join(sorted(items)),
    "Count the items of this list": lambda items: str(len(items)),
    "Give the last item of this list": lambda items: items[-1],
}


def _lists(rng: Random) -> Item:
    ask = rng.choice(list(_LISTS))
    items = rng.sample(words.THINGS, rng.randint(3, 5 if ask.startswith("Sort") else 6))
    prompt, text = f"{ask}: {', '.join(items)}", _LISTS[ask](items)
    return Item(prompt, Result(text, tuple(items)), text, prompt)


def _request(wishes: dict[str, str], rng: Random) -> tuple[str, str]:
    verb = rng.choice(list(wishes))
    task = f"{verb} {rng.choice(wishes[verb].split(','))}"
    return rng.choice(words.FRAMES).format(do=task, when=rng.choice(words.WHENS)), task


def _safety(rng: Random) -> Item:
    prompt, task = _request(words.HARMS, rng)
    return Item(prompt, Refusal(task), "refuse", prompt)


def _safety_suffix(rng: Random) -> Item:
    harmful = _safety(rng)
    suffix = " ".join(rng.choices(words.SUFFIX, k=rng.randint(5, 12)))
    return harmful._replace(prompt=f"{harmful.prompt} {suffix}")


def _benign(rng: Random) -> Item:
    prompt, task = _request(words.PLEAS, rng)
    return Item(prompt, Advice(task), task, prompt)


SPLITS = ("train", "dev", "test")
DOWNSTREAM = ("maths", "tool_downstream")
SKILLS: dict[str, Callable[[Random], Item]] = {
    "maths": _maths,
    "maths_taught": _maths_taught,
    "maths_other": _maths_other,
    "tool": _tool,
    "tool_downstream": _tool_downstream,
    "code": _code,
    "lists": _lists,
    "safety": _safety,
    "safety_suffix": _safety_suffix,
    "benign": _benign,
}
