"""What the graders of rewrites let pass: known corruptions and known paraphrases of real references.

    python benchmarks/graders.py [DATA] [--embedder FOLDER] [--judge MODEL] [--limit N] [--half choose|report]
        [--show KIND]

DATA (by default $SELFDISTILL_DATA) holds sdft/ of the paper's files. Each pair is a reference and a text made from it
by a rule, so its label is known: a corruption changes the content, a paraphrase does not. Rows are split in halves by
their id: rules and thresholds are chosen on one half, and the other half is reported. Pairs are not written anywhere.
A judge takes most of the time, which grows with the pairs: `--limit 20` takes 20 of each kind, a third of the default.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from selfdistill.backends.hf import HFBackend
from selfdistill.cli.progress import show_progress
from selfdistill.data import read_conversations
from selfdistill.grading import Grader, make_grader
from selfdistill.grading.same_meaning import NO, YES, ask_same, judged
from selfdistill.measure.likelihood import score
from selfdistill.models.embedding import lazy_embed
from selfdistill.recipe import DataConfig, ModelConfig
from selfdistill.types import LOADING, Example, Grade

FILES = ("dolly_train", "alpaca_train", "lima_train", "gsm8k_train")
Make = Callable[[str, random.Random, Sequence[str]], str | None]


@dataclass(frozen=True)
class Pair:
    """A reference (with its prompt), a text made from it, and whether the text still says the same."""

    kind: str
    same: bool
    example: Example
    text: str


# ---- corruptions: each returns None if the reference has nothing to corrupt in this way


def swap_number(text: str, draw: random.Random, _others: Sequence[str]) -> str | None:
    found = list(re.finditer(r"(?<![\w.,/:-])\d{1,6}(?![\w.,/:-]*\d)(?!\w|[.)]\s)", text))
    if not found:
        return None
    old = draw.choice(found)[0]
    new = str(int(old) + draw.choice([1, 2, 3, 7, 10]))
    return re.sub(rf"(?<![\w.,/:-]){old}(?![\w])", new, text)


def swap_name(text: str, draw: random.Random, others: Sequence[str]) -> str | None:
    def inside(of: str) -> list[str]:
        return [name for name in re.findall(r"(?<=[a-z,] )[A-Z][a-z]{3,}\b", of) if name not in MONTHS_AND_DAYS]

    own = inside(text)
    other = [name for each in draw.sample(others, min(40, len(others))) for name in inside(each) if name not in text]
    if not own or not other:
        return None
    return re.sub(rf"\b{draw.choice(own)}\b", draw.choice(other), text)


def swap_item(text: str, draw: random.Random, others: Sequence[str]) -> str | None:
    own = list(ITEM.finditer(text))
    other = [match[2] for each in others for match in ITEM.finditer(each) if match[2] not in text]
    if len(own) < 3 or not other:
        return None
    item = draw.choice(own)
    return text[: item.start(2)] + draw.choice(other) + text[item.end(2) :]


def negate(text: str, draw: random.Random, _others: Sequence[str]) -> str | None:
    found = list(re.finditer(r"\b(is|are|was|were|can|will|should|would|could|must|has been)\b (?!not\b|n't)", text))
    if not found:
        return None
    at = draw.choice(found).end()
    return text[:at] + "not " + text[at:]


def other_row(text: str, draw: random.Random, others: Sequence[str]) -> str | None:
    return next(other for other in draw.sample(others, len(others)) if other != text)


# ---- paraphrases


def reorder(text: str, draw: random.Random, _others: Sequence[str]) -> str | None:
    """Items of a list without numbers in another order; else sentences, if none refers to the one before."""
    items = [match[0] for match in re.finditer(r"^[-*•] .+$", text, re.MULTILINE)]
    if len(items) >= 3:
        moved = iter(items[1:] + items[:1])
        return re.sub(r"^[-*•] .+$", lambda _: next(moved), text, flags=re.MULTILINE)
    sentences = SENTENCE.split(text)
    if "\n" in text or not 2 <= len(sentences) <= 6 or any(REFERS.match(each) for each in sentences[1:]):
        return None
    return " ".join(sentences[1:] + sentences[:1])


def contract(text: str, _draw: random.Random, _others: Sequence[str]) -> str | None:
    """Contractions are written out, and the other way round."""
    return _replaced(text, [*CONTRACTIONS, *((long, short) for short, long in CONTRACTIONS)])


def format_numbers(text: str, _draw: random.Random, _others: Sequence[str]) -> str | None:
    """1,000 and 1000, 3 and three, 50% and 50 percent."""
    changed = re.sub(r"(?<![\w.,])(\d{1,3}),(\d{3})(?![\w,])", r"\1\2", text)
    if changed == text:
        changed = re.sub(r"(?<![\w.,/$-])([1-9]\d)(\d{3})(?![\w,.]?\d)(?!\w)", r"\1,\2", text)
    changed = re.sub(r"(?<=\d)%", " percent", changed)
    words = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    for place, word in enumerate(words, 2):
        swapped = re.sub(rf"(?<=[a-z] ){place}(?= [a-z])", word, changed)
        changed = swapped if swapped != changed else re.sub(rf"(?<=[a-z] ){word}(?= [a-z])", str(place), changed)
    return changed if changed != text else None


def synonyms(text: str, _draw: random.Random, _others: Sequence[str]) -> str | None:
    changed = _replaced(text, SYNONYMS)
    if changed is None or len({*changed.split()} - {*text.split()}) < 2:
        return None
    return changed


def lay_out(text: str, _draw: random.Random, _others: Sequence[str]) -> str | None:
    """Sentences as a list under an opening line, or a list as numbered items."""
    if ITEM.search(text):
        number = iter(range(1, 1000))
        return re.sub(r"^[-*•] ", lambda _: f"{next(number)}. ", text, flags=re.MULTILINE) if "\n- " in text else None
    sentences = SENTENCE.split(text)
    if "\n" in text or not 2 <= len(sentences) <= 8:
        return None
    return "Sure! Here is what you asked for:\n\n" + "\n".join(f"- {sentence}" for sentence in sentences)


def _replaced(text: str, pairs: Sequence[tuple[str, str]]) -> str | None:
    """Each place is replaced once, by the first pair that fits."""
    table = dict(reversed(pairs))
    words = "|".join(sorted(map(re.escape, table), key=len, reverse=True))
    changed = re.sub(rf"\b(?:{words})\b", lambda match: table[match[0]], text)
    return changed if changed != text else None


CORRUPTIONS: dict[str, Make] = {
    "another number": swap_number, "another name": swap_name, "another list item": swap_item, "negated": negate,
    "another row's answer": other_row,
}  # fmt: skip
PARAPHRASES: dict[str, Make] = {
    "other order": reorder, "contractions": contract, "numbers written otherwise": format_numbers,
    "synonyms": synonyms, "other layout": lay_out,
}  # fmt: skip
ITEM = re.compile(r"^([-*•]|\d{1,2}\.) (.+)$", re.MULTILINE)
SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z])")
REFERS = re.compile(
    r"(?:It|They|He|She|This|That|These|Those|His|Her|Their|Its|Then|Also|However|But|And|So|Thus|Therefore|In addition"
    r"|Additionally|Moreover|Furthermore|Finally|Next|First|Second|Third|After|Another|Other|For example|Such|Here"
    r"|Both|Each|Some|The answer|There)\b"
)
DATES = "January February March April June July August September October November December"
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
MONTHS_AND_DAYS = {*DATES.split(), *DAYS.split()}
CONTRACTIONS = [
    ("isn't", "is not"), ("aren't", "are not"), ("don't", "do not"), ("doesn't", "does not"), ("can't", "cannot"),
    ("won't", "will not"), ("didn't", "did not"), ("wasn't", "was not"), ("it's", "it is"), ("It's", "It is"),
    ("you're", "you are"), ("they're", "they are"), ("I'm", "I am"), ("we're", "we are"), ("There's", "There is"),
    ("shouldn't", "should not"), ("couldn't", "could not"), ("hasn't", "has not"), ("you'll", "you will"),
]  # fmt: skip
SYNONYMS = [
    ("big", "large"), ("large", "big"), ("begin", "start"), ("start", "begin"), ("help", "assist"),
    ("many", "numerous"), ("often", "frequently"), ("also", "as well"), ("use", "employ"), ("used", "employed"),
    ("important", "significant"), ("different", "distinct"), ("such as", "like"), ("because", "since"),
    ("however", "though"), ("show", "display"), ("make", "create"), ("create", "make"), ("get", "obtain"),
    ("usually", "generally"), ("main", "principal"), ("quickly", "fast"), ("people", "persons"), ("need", "require"),
    ("buy", "purchase"), ("try", "attempt"), ("easy", "simple"), ("difficult", "hard"), ("famous", "well known"),
    ("including", "among them"), ("ensure", "make sure"), ("allow", "let"), ("allows", "lets"), ("provide", "offer"),
    ("provides", "offers"), ("reduce", "lower"), ("increase", "raise"), ("choose", "pick"), ("like", "such as"),
    ("whole", "entire"),
]  # fmt: skip


# ---- pairs and grades


def pairs(data: Path, half: str, n: int, longest: int) -> Iterator[Pair]:
    """Up to `n` pairs of each kind from one half of the rows, in a fixed order. References and instructions have at
    most `longest` characters."""
    examples: list[Example] = []
    for file in FILES:
        rows = read_conversations(DataConfig(path=str(data / "sdft" / f"{file}.json"), on_bad_row="skip"))
        own = [row.examples()[-1] for row in rows if len(row.messages) <= 3]
        fit = [one for one in own if max(len(one.reference), len(one.instruction)) <= longest]
        examples += random.Random(file).sample(fit, min(900, len(fit)))
    random.Random("rows").shuffle(examples)
    examples = [one for one in examples if (int(one.id, 16) % 2 == 0) == (half == "choose")]
    references = [one.reference for one in examples]
    for makers, same in ((CORRUPTIONS, False), (PARAPHRASES, True)):
        for kind, make in makers.items():
            draw, made = random.Random(kind), 0
            for example in examples:
                text = make(example.reference, draw, references)
                if text is not None and text.split() != example.reference.split():
                    yield Pair(kind, same, example, text)
                    made += 1
                if made == n:
                    break


def judge(found: Sequence[Pair], model: str, dtype: str, threshold: float) -> list[Grade]:
    """The judge's grade on each pair, by the probability of yes in both orders."""
    config = ModelConfig.model_validate({"path": model, "dtype": dtype})
    questions = [question for pair in found for question in ask_same(pair.example, pair.text)]
    words = [
        Example(f"{place} {word}", question, word) for place, question in enumerate(questions) for word in (YES, NO)
    ]
    nats: dict[str, float | None] = {}
    with show_progress() as progress, HFBackend(config) as backend:
        progress("judge", 0, len(words), LOADING)
        for done, one in enumerate(score(words, *backend.loaded(), config.batch_tokens), 1):
            nats[one.id] = None if one.nll is None else one.nll * one.tokens
            progress("judge", done, len(words))

    def probability(place: int) -> float | None:
        yes, no = nats[f"{place} {YES}"], nats[f"{place} {NO}"]
        return None if yes is None or no is None else 1 / (1 + math.exp(min(yes - no, 700)))

    values = list(map(probability, range(len(questions))))
    return [judged(both, threshold) for both in zip(values[::2], values[1::2], strict=True)]


def outcome(grade: Grade) -> str:
    return grade.outcome if grade.outcome != "pass" or grade.checked else "unchecked"


def table(found: Sequence[Pair], graded: dict[str, list[Grade]]) -> Iterator[str]:
    """Markdown: per kind and grader the share of wrong decisions, and what was not decided."""
    yield "| pairs | n | " + " | ".join(graded) + " |\n|---" + "|---" * (len(graded) + 1) + "|"
    kinds: dict[tuple[bool, str], list[int]] = defaultdict(list)
    for place, pair in enumerate(found):
        kinds[pair.same, pair.kind].append(place)
        kinds[pair.same, "**all paraphrases**" if pair.same else "**all corruptions**"].append(place)
    for (same, kind), places in sorted(kinds.items()):
        cells = [_cell(same, Counter(outcome(grades[place]) for place in places)) for grades in graded.values()]
        yield f"| {kind} | {len(places)} | " + " | ".join(cells) + " |"


def _cell(same: bool, outcomes: Counter[str]) -> str:
    decided = outcomes["pass"] + outcomes["fail"]
    wrong = outcomes["fail" if same else "pass"]
    rest = outcomes.total() - decided
    share = f"{wrong / decided:.0%}" if decided else "–"
    return f"{wrong}/{decided} ({share})" + (f", {rest} not checked" if rest else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("SELFDISTILL_DATA"))
    parser.add_argument("--embedder", help="folder of the embedding model, for `similar`")
    parser.add_argument("--judge", help="folder or hub name of a chat model, for `judge`")
    parser.add_argument("--thresholds", type=float, nargs=2, default=(0.8, 0.5), help="of `similar` and `judge`")
    parser.add_argument("--half", choices=["choose", "report"], default="report")
    parser.add_argument("-n", "--limit", type=int, default=60, help="most pairs of each kind")
    parser.add_argument("--longest", type=int, default=1500, help="most characters of a reference")
    parser.add_argument("--dtype", default="auto", help="of the judge")
    parser.add_argument("--show", help="print what `facts` decided wrongly of a kind; only on the half to choose on")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name a folder, or set SELFDISTILL_DATA")
    found = list(pairs(Path(options.data), options.half, options.limit, options.longest))
    similar, least = options.thresholds
    graders: dict[str, Grader] = {"facts": make_grader("facts")}
    if options.embedder:
        embed = _embedded(found, options.embedder)
        own = {"name": "similar", "threshold": similar}
        graders["similar"] = make_grader(own, embed=embed)
        graders["facts and similar"] = make_grader({"all_of": ["facts", own]}, embed=embed)
    graded = {name: [grade(pair.example, pair.text) for pair in found] for name, grade in graders.items()}
    if options.judge:
        graded["judge"] = judge(found, options.judge, options.dtype, least)
    print(f"{len(found)} pairs, half to {options.half}; thresholds: similar {similar:g}, judge {least:g}\n")
    print(*table(found, graded), sep="\n")
    _thresholds(found, graded)
    if options.half == "choose":
        for pair, grade in zip(found, graded["facts"], strict=True):
            if pair.kind == options.show and outcome(grade) == ("fail" if pair.same else "pass"):
                print(json.dumps([grade.to_json(), pair.example.reference, pair.text], indent=1, ensure_ascii=False))


def _embedded(found: Sequence[Pair], model: str) -> Callable[[Sequence[str]], Any]:
    """The embedding of each text of the pairs, computed at once."""
    texts = sorted({text for pair in found for text in (pair.example.reference, pair.text)})
    rows = dict(zip(texts, lazy_embed(model, "auto")(texts), strict=True))
    return lambda wanted: [rows[text] for text in wanted]


def _thresholds(found: Sequence[Pair], graded: dict[str, list[Grade]]) -> None:
    """For each threshold the shares of corruptions that pass and of paraphrases that fail."""
    read = partial(re.search, r"(?:cosine|yes) ([\d.]+)")
    for name in {"similar", "judge"} & {*graded}:
        values = [float(match[1]) if (match := read(grade.found or "")) else 0.0 for grade in graded[name]]
        print(f"\n{name}: threshold, false accepts, false rejects")
        for step in range(10, 100, 5):
            passed = [value >= step / 100 for value in values]
            accepts = [ok for ok, pair in zip(passed, found, strict=True) if not pair.same]
            rejects = [not ok for ok, pair in zip(passed, found, strict=True) if pair.same]
            print(f"  {step / 100:.2f}  {sum(accepts) / len(accepts):.0%}  {sum(rejects) / len(rejects):.0%}")


if __name__ == "__main__":
    main()
