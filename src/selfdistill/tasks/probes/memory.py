"""Memory over several turns: a fact that the user told earlier in the chat.

    user: My sister Ana has a cat.   assistant: Good to know.   user: I live in Riga.   assistant: Noted.
    user: Which animal does Ana have?

The easy level has three facts, the medium one four with chat between them and a correction, the hard one seven with
corrections and four exchanges between people; some of its questions ask for the first value. An answer passes if it
holds the right value and no other value of the chat.
"""

from __future__ import annotations

from random import Random

from ...types import Message
from . import pools
from .items import ProbeItem, probe
from .lookup import grade

_FRUITS = tuple(fruit for fruit in pools.FRUITS if fruit[0] not in "aeiou")  # after "a"
_FACTS = {
    "pet": (pools.PETS, "{} has a {}.", "Which animal does {} have?", "No, wait: {} has a {} now."),
    "city": (pools.CITIES, "{} lives in {}.", "Where does {} live?", "Something new: {} moved to {}."),
    "job": (pools.JOBS, "{} is a {}.", "What is the job of {}?", "I was wrong: {} is a {}."),
    "fruit": (_FRUITS, "{} brought a {}.", "Which fruit did {} bring?", "Sorry, {} brought a {}, not that."),
    "music": (
        pools.INSTRUMENTS,
        "{} plays the {}.",
        "Which instrument does {} play?",
        "Oh, {} took up the {} instead.",
    ),
}
_WHOSE = ("My friend {}", "My cousin {}", "My neighbour {}", "My uncle's friend {}")
_NODS = ("Good to know.", "Noted.", "Thank you, I'll remember that.", "All right.", "How nice!", "I see.")
_CHAT = (
    ("It rained all morning.", "Then a book is the right thing."), ("I am tired today.", "Take a break if you can."),
    ("The bus was late again.", "That is annoying."), ("I had soup for lunch.", "That sounds good."),
    ("My shoes are too small.", "You may need a new pair."), ("The shop was closed.", "Maybe it opens later."),
)  # fmt: skip
_SWAP = {"pet": "animals", "city": "homes", "job": "jobs", "fruit": "fruits", "music": "instruments"}
# Facts, turns of chat, corrections, and exchanges.
_STEPS = {"easy": (3, 0, 0, 0), "medium": (4, 2, 1, 0), "hard": (7, 2, 2, 4)}


def make(rng: Random, step: str) -> ProbeItem:
    told, chat, corrections, swaps = _STEPS[step]
    people = pools.some(rng, pools.NAMES, told)
    kind = rng.choice(list(_FACTS))
    pool, form, question, correction = _FACTS[kind]
    values = pools.some(rng, pool, told + corrections)
    facts = dict(zip(people, values, strict=False))
    turns = [(_told(rng, form, person, value), rng.choice(_NODS)) for person, value in facts.items()]
    for said in rng.sample(_CHAT, chat):
        turns.insert(rng.randint(1, len(turns)), said)
    now = dict(facts)
    for person, value in zip(rng.sample(people, corrections), values[told:], strict=True):
        turns.append((correction.format(person, value), rng.choice(_NODS)))
        now[person] = value
    for one, other in (rng.sample(people, 2) for _ in range(swaps)):
        turns.append((f"By the way, {one} and {other} have swapped {_SWAP[kind]}.", rng.choice(_NODS)))
        now[one], now[other] = now[other], now[one]
    changed = [person for person in people if now[person] != facts[person]]
    first = step == "hard" and bool(changed) and rng.random() < 0.25
    person = rng.choice(changed if changed and (step == "hard" or rng.random() < 0.5) else people)
    answer = facts[person] if first else now[person]
    asked = question.format(person)
    asked = f"What was the first thing that I told you: {asked[0].lower()}{asked[1:]}" if first else asked
    others = sorted({*facts.values(), *now.values()} - {answer})
    messages = [message for said, nod in turns for message in (Message("user", said), Message("assistant", nod))]
    last = Message("user", f"{asked} Answer with a word or two.")
    wrong = (f"It is {others[0]}.", "I do not remember that.", "")
    extra = {"answer": answer, "others": others}
    return ProbeItem("first value" if first else "now", (*messages, last), f"{answer}.", wrong, extra)


def _told(rng: Random, form: str, person: str, value: str) -> str:
    return form.format(rng.choice(_WHOSE).format(person), value)


TASK = probe("memory", "memory over turns", make, grade)
