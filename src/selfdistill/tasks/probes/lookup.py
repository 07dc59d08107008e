"""Facts looked up in a text, with distractors, and questions that the text does not answer.

    Ana is a baker and lives in Riga. Boris is a nurse and lives in Oslo. ...
    Question: Where does Boris live? Answer with a few words; if the text does not say it, answer "not stated".

The easy level has three people, the medium one six or seven in mixed order, the hard one fourteen with moves that
change earlier facts, and its questions lead over three people ("the boss of the boss of the person who has a cat"). An
answer passes if it holds the right value, neither denies it nor reports that it is not stated, and holds none of the
other values in the text; for a question that the text does not answer, if it reports that, holds none of the values
and does not guess.
"""

from __future__ import annotations

import re
from random import Random

from ...types import Example, Grade
from . import pools
from .items import ProbeItem, ask, probe

_PROMPT = (
    'Read the text and answer the question in a few words. If the text does not say it, answer "not stated".\n\n'
    "Text: {text}\n\nQuestion: {question}"
)
_UNSTATED = re.compile(
    r"(?:\bnot|n[’']t) (?:\w+ ){0,2}(?:stated?|say|said|tell|told|mention\w*|specif(?:y|ied)|given?|know\w*|provided?"
    r"|answer\w*|clear|found|include\w*|indicated?)\b|\b(?:unknown|unstated|no (?:mention|information))\b",
    re.IGNORECASE,
)
_GUESSES = re.compile(
    r"\b(?:but|however),? (?:it|that|this|he|she|they|I)\b(?! (?:does|do|is|are|was)(?: not|n[’']t)\b)"
    r"|\b(?:maybe|perhaps|probably|possibly|likely)\b|\bI(?:'d| would)? (?:think|guess|assume|believe)\b",
    re.IGNORECASE,
)
_FACTS = {
    "job": (pools.JOBS, "{} is a {}.", "What is the job of {}?"),
    "city": (pools.CITIES, "{} lives in {}.", "Where does {} live?"),
    "pet": (pools.PETS, "{} has a {}.", "Which animal does {} have?"),
    "colour": (pools.COLOURS, "The door of {} is {}.", "Which colour is the door of {}?"),
    "music": (pools.INSTRUMENTS, "{} plays the {}.", "Which instrument does {} play?"),
}
_PEOPLE = {"easy": (3, 3), "medium": (6, 7), "hard": (13, 14)}
_UNANSWERABLE = {"easy": 0.15, "medium": 0.25, "hard": 0.25}
_KNOWN = {"easy": 2, "medium": 2, "hard": 3}


def holds(text: str, value: str) -> bool:
    """Whether a value occurs as a word, also in the plural."""
    return re.search(rf"(?<!\w){re.escape(value)}(?:e?s)?(?!\w)", text, re.IGNORECASE) is not None


def denies(text: str, value: str) -> bool:
    """Whether a text says `not` before a value, such as "it is not the cello"."""
    pattern = rf"(?:\bnot|n[’']t)\s+(?:(?:in|a|an|the|word|number)\s+)*[\"'`*]*{re.escape(value)}(?!\w)"
    return re.search(pattern, text, re.IGNORECASE) is not None


def grade(example: Example, text: str) -> Grade:
    """Passes the right value alone; for an unanswerable question, a report of that."""
    answer, others = example.extra["answer"], example.extra["others"]
    wrong = next((other for other in others if holds(text, other)), None)
    if not text.strip():
        return Grade("fail", "empty", answer)
    if wrong is not None:
        return Grade("fail", "holds another value", answer or "not stated", wrong)
    if answer is None:
        found = _UNSTATED.search(text)
        unstated = found is not None and not _GUESSES.search(text, found.end())
        return Grade(
            "pass" if unstated else "fail", "not stated" if unstated else "answers anyway", "not stated", text[:80]
        )
    if _UNSTATED.search(text) or denies(text, answer):
        return Grade("fail", "denies the value", answer, text[:80])
    if holds(text, answer):
        return Grade("pass", "holds the value", answer)
    return Grade("fail", "value missing", answer, text[:80])


def make(rng: Random, step: str) -> ProbeItem:
    people = pools.some(rng, pools.NAMES, rng.randint(*_PEOPLE[step]))
    facts = _drawn(rng, people, step)
    told = [(person, kind, value) for person, own in facts.items() for kind, value in own.items()]
    if step != "easy":
        rng.shuffle(told)
    lines = [_FACTS[kind][1].format(person, value) for person, kind, value in told]
    moved: dict[str, str] = {}
    if step == "hard":
        moved = _moves(rng, facts)
        lines += [f"Last week {person} moved to {city}." for person, city in moved.items()]
        lines += [f"{person} works for {boss}." for person, boss in _bosses(people)]
        rng.shuffle(lines)
    stated = rng.random() > _UNANSWERABLE[step]
    person, kind = _asked(rng, facts, moved, stated)
    answer = None if not stated else moved.get(person) if kind == "city" and person in moved else facts[person][kind]
    question = _FACTS[kind][2].format(_named(rng, person, people, facts) if step == "hard" else person)
    values = [*{value for _, of, value in told if of == kind}, *(moved.values() if kind == "city" else ())]
    others = sorted({value for value in values if value != answer})
    other = rng.choice(others)
    gold = "not stated" if answer is None else answer
    wrong = (f"It is {other}.", "not stated" if answer else f"{other}, as far as I know", "Let me think about it.")
    text = _PROMPT.format(text=" ".join(lines), question=question)
    return ProbeItem("stated" if stated else "not stated", ask(text), gold, wrong, {"answer": answer, "others": others})


def _drawn(rng: Random, people: list[str], step: str) -> dict[str, dict[str, str]]:
    """Facts of each person. Two people never share a value, and every kind of fact is told of two people or more."""
    kinds = rng.sample(list(_FACTS), {"easy": 3, "medium": 4, "hard": 5}[step])
    while True:
        left = {kind: rng.sample(_FACTS[kind][0], len(_FACTS[kind][0])) for kind in kinds}
        facts: dict[str, dict[str, str]] = {}
        for person in people:
            own = [kind for kind in rng.sample(kinds, _KNOWN[step]) if left[kind]]
            facts[person] = {kind: left[kind].pop() for kind in own}
        told = [kind for own in facts.values() for kind in own]
        partly = any(0 < told.count(kind) < len(people) for kind in kinds)
        if partly and all(told.count(kind) != 1 for kind in kinds):
            return facts


def _moves(rng: Random, facts: dict[str, dict[str, str]]) -> dict[str, str]:
    """New cities of two people whose old city is told."""
    taken = {own.get("city") for own in facts.values()}
    free = [city for city in pools.CITIES if city not in taken]
    settled = [person for person, own in facts.items() if "city" in own]
    return dict(zip(rng.sample(settled, min(2, len(settled))), rng.sample(free, 2), strict=False))


def _asked(rng: Random, facts: dict[str, dict[str, str]], moved: dict[str, str], stated: bool) -> tuple[str, str]:
    """A person and a kind of fact that is told of this person, or only of others."""
    kinds = sorted({kind for own in facts.values() for kind in own})
    pairs = [(person, kind) for person, own in facts.items() for kind in kinds if (kind in own) == stated and own]
    if moved and stated and rng.random() < 0.4:
        return rng.choice([(person, "city") for person in moved])
    return rng.choice(pairs)


def _bosses(people: list[str]) -> list[tuple[str, str]]:
    """Each person with the person whom he or she works for: the next one, in a circle."""
    return list(zip(people, [*people[1:], people[0]], strict=True))


def _named(rng: Random, person: str, people: list[str], facts: dict[str, dict[str, str]]) -> str:
    """The person as the boss of the boss of somebody, who is named by another fact, such as "the person who has a
    cat"."""
    forms = {
        "job": "the {}", "pet": "the person who has a {}", "music": "the person who plays the {}",
        "colour": "the person whose door is {}",
    }  # fmt: skip
    first = people[people.index(person) - 2]
    known = [kind for kind in facts[first] if kind in forms]
    chosen = rng.choice(known)
    return f"the boss of the boss of {forms[chosen].format(facts[first][chosen])}"


TASK = probe("lookup", "facts in a text", make, grade)
