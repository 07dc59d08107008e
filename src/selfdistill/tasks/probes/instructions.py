"""Instructions with constraints that a rule can verify, in the user turn.

    Write a short text about cats. Use the word "river" at least twice. End your answer with a question.

The easy level has one constraint, the medium one two or three, the hard one four or five. An answer passes if it keeps
all of them.
"""

from __future__ import annotations

from random import Random

from . import pools
from .constraints import KINDS, Rule, first_broken, grade, worded, wrong_texts
from .items import ProbeItem, ask, probe

_ASKED = (
    "Write a short text about {topic}.", "Tell me something about {topic}.", "Describe {topic} in a few sentences.",
    "What do people like about {topic}?", "Write a short note to a friend about {topic}.",
)  # fmt: skip
STARTS = (
    "Here is my answer.", "Let us begin.", "Listen to this.", "One thing first.", "Good morning to all.",
    "This is worth a look.", "Once more with care.",
)  # fmt: skip
ENDS = (
    "That is all for now.", "Now it is your turn.", "This is where I stop.", "See you next week.",
    "Thank you for reading.", "More will follow soon.", "Please keep this text.",
)  # fmt: skip
_FILLERS = (
    "Many people like it a lot.", "It is calm and bright.", "You can find it in most towns.", "Old and young enjoy it.",
    "A day with it is a good day.", "No two of them look alike.", "Some say it was here first.",
    "It makes us smile.", "You may find joy in it.", "Both of us know it.", "It is a small gift to all.",
    "I love it.", "We saw it on Sunday.", "It can last for hours.", "Kids ask for it again and again.",
    "All of it is fun.", "This is a small thing.", "Such days go by fast.", "That is why so many visit.",
    "Our town has much of it.", "It is good to look at.", "You should try it.",
)  # fmt: skip
_USES = (
    "Every {} counts.",
    "A {} is close by.",
    "I saw the {} there.",
    "Then comes one more {}.",
    "No {} is too small.",
)
_FORBIDDEN = ("the", "very", "and", "is", "it", "good", "many", "you")
# Rules of one group exclude each other.
_GROUPS: dict[str, str] = {
    "starts": "begin", "title": "begin", "quoted": "begin", "ends": "end", "postscript": "end", "question": "end",
    "lower": "case", "upper": "case", "avoids": "lexical", "letter": "lexical",
}  # fmt: skip
_CLASHES = (
    {"quoted", "ends"}, {"quoted", "postscript"}, {"quoted", "question"}, {"lower", "starts"}, {"lower", "ends"},
    {"lower", "postscript"}, {"upper", "starts"}, {"upper", "ends"}, {"starts", "letter"}, {"ends", "letter"},
    {"starts", "avoids"}, {"ends", "avoids"},
)  # fmt: skip
EASY = ("uses", "starts", "ends", "lower", "upper", "quoted", "title", "postscript", "question", "bold")
_ALL = (*EASY, "avoids", "letter", "no_comma")
TEXT: Rule = ("text", 5)
COUNTS = {"easy": (1, 1), "medium": (2, 3), "hard": (4, 5)}


def value_of(kind: str, rng: Random, step: str) -> object:
    """A value of a rule; at harder levels the rule asks for more."""
    match kind:
        case "uses":
            return [rng.choice(pools.WORDS), rng.randint(1, 2) if step == "easy" else rng.randint(2, 4)]
        case "avoids":
            return rng.choice(_FORBIDDEN)
        case "letter":
            return rng.choice("bkwpg" if step == "medium" else "rdhmc")
        case "starts":
            return rng.choice(STARTS)
        case "ends":
            return rng.choice(ENDS)
        case "bold":
            return rng.randint(1, 2) if step == "easy" else rng.randint(2, 4)
        case _:
            return True


def drawn_rules(rng: Random, kinds: tuple[str, ...], count: int, step: str) -> list[Rule]:
    """`count` rules that can be kept together."""
    while True:
        chosen = rng.sample(kinds, count)
        groups = [_GROUPS[kind] for kind in chosen if kind in _GROUPS]
        if len({*groups}) == len(groups) and not any(pair <= {*chosen} for pair in _CLASHES):
            return [(kind, value_of(kind, rng, step)) for kind in chosen]


def compose(rules: list[Rule], rng: Random) -> str:
    """A text that keeps the rules, if they can be kept."""
    values = dict(rules)
    body = [text for text in rng.sample(_FILLERS, len(_FILLERS)) if _allowed(text, values)][:3]
    if "uses" in values:
        word, count = values["uses"]
        body += [form.format(word) for form in _USES if _allowed(form, values)][:count]
    if "bold" in values:
        body = [f"*{text[:-1]}*." if place < values["bold"] else text for place, text in enumerate(body)]
    if "question" in values:
        body.append("Why not?" if _allowed("Why not?", values) else "So?")
    text = " ".join([values["starts"], *body] if "starts" in values else body)
    text = f"{text} {values['ends']}" if "ends" in values else text
    text = f"<<A text>>\n{text}" if "title" in values else text
    text = f"{text}\n\nP.S. So long!" if "postscript" in values else text
    text = text.lower() if "lower" in values else text.upper() if "upper" in values else text
    return f'"{text}"' if "quoted" in values else text


def _allowed(text: str, values: dict[str, object]) -> bool:
    return all(KINDS[kind].kept(values[kind], text) for kind in ("avoids", "letter") if kind in values)


def make(rng: Random, step: str) -> ProbeItem:
    while True:
        count = rng.randint(*COUNTS[step])
        rules = drawn_rules(rng, EASY if step == "easy" else _ALL, count, step)
        gold = compose(rules, rng)
        wrong = wrong_texts(rules, gold, rng)
        if wrong and first_broken((TEXT, *rules), gold) is None:
            asked = rng.choice(_ASKED).format(topic=rng.choice(pools.TOPICS))
            kind = "+".join(sorted(kind for kind, _ in rules))
            kept = [list(rule) for rule in (TEXT, *rules)]
            return ProbeItem(kind, ask(f"{asked} {worded(rules)}"), gold, wrong, {"rules": kept})


TASK = probe("instructions", "instructions", make, grade)
