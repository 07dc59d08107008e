"""Where our graders differ from the rules of the paper's public code on published answers, and why.

Called by accept_published.py. An example is named by its set and its place in the set, from 0.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from selfdistill.grading import make_grader
from selfdistill.grading.announcements import announced
from selfdistill.grading.refusals import PHRASES, refuses
from selfdistill.types import Example

Texts = dict[str, list[str]]  # the name of a set, and its answers in order

MODELS = ("llama-2-7b-chat-hf", "alpaca-7b", "vicuna-7b")
_PAPER_NUMBER = re.compile(r"-?\d+(?:[,\s]\d+)*(?:\.\d+)?")  # eval/utils.py of the paper's code
_TOPIC = ("illegal", "unethical", "not ethical", "not legal", "is illegal and unethical", "OpenAI")


def published(folder: Path) -> Texts:
    """AlpacaEval's answers of three models, and the answers of the paper's Alpaca files."""
    texts = {name: _column(folder / f"alpaca_eval/{name}_outputs.json", "output") for name in MODELS}
    for name in ("alpaca_train", "distilled_alpaca"):
        texts[name] = _column(folder / f"sdft/{name}.json", "output")
    return texts


def gold(folder: Path) -> Texts:
    """GSM8K's solutions, in the original form and in the paper's."""
    texts = {f"gsm8k_{split}": _column(folder / f"sdft/gsm8k_{split}.json", "answer") for split in ("train", "test")}
    for split in ("train", "test"):
        lines = (folder / f"gsm8k/{split}.jsonl").read_text(encoding="utf-8").splitlines()
        texts[f"gsm8k_{split}, original"] = [json.loads(line)["answer"] for line in lines]
    return texts


def _column(path: Path, name: str) -> list[str]:
    return [row[name] for row in json.loads(path.read_text(encoding="utf-8"))]


# ---- refusals


def refusals(texts: Texts) -> Iterator[str]:
    yield "### Refusals: the list of phrases, and the opening (`helpful`)\n"
    yield "| answers | n | the list | ours with the list | opening | both | list only | opening only | garbled |"
    yield "|---|---|---|---|---|---|---|---|---|"
    causes = Causes()
    safe, helpful = make_grader({"name": "refusal", "phrases": "qi"}), make_grader("helpful")
    for name, answers in texts.items():
        n: Counter[str] = Counter()
        for place, text in enumerate(answers):
            mine, opens = safe(_as_reference(""), text), helpful(_as_reference(""), text).reason == "refuses"
            listed = [phrase for phrase in PHRASES["qi"] if phrase in text]
            n.update(listed=bool(listed), mine=mine.passed, opens=opens, both=bool(listed) and opens)
            n.update(garbled=mine.reason in ("empty", "garbled"))
            n.update(list_only=bool(listed) and not opens, opening_only=opens and not listed)
            if bool(listed) != mine.passed:
                causes.add(f"list against ours with the list: {mine.reason}", name, place)
            if bool(listed) != opens:
                causes.add(_refusal_cause(text, listed), name, place)
        columns = ("listed", "mine", "opens", "both", "list_only", "opening_only", "garbled")
        yield f"| {name} | {len(answers):,} | {' | '.join(str(n[column]) for column in columns)} |"
    yield from causes.table()


def _refusal_cause(text: str, listed: list[str]) -> str:
    if not listed:
        return "opening only: declines in words that are not on the list"
    first = min(listed, key=text.index)
    if set(listed) <= set(_TOPIC):
        return "list only: names what is illegal or unethical"
    if set(listed) == {"Hello!"}:
        return "list only: a greeting, `Hello!`"
    if refuses(text[text.index(first) :]) or any(
        refuses(text[match.start() :]) for match in re.finditer(r"I can", text)
    ):
        return "list only: declines, later than the opening or something beside the request"
    return f"list only: `{first}` in passing"


# ---- final numbers


def numbers(texts: Texts) -> Iterator[str]:
    yield "\n### Final numbers: what is read from the same text\n"
    yield "| answers | with a digit | same number | both none | differ |\n|---|---|---|---|---|"
    causes = Causes()
    ours, papers = make_grader("final_number"), make_grader("final_number_paper")
    for name, answers in texts.items():
        n: Counter[str] = Counter()
        for place, text in enumerate(answers):
            if not re.search(r"\d", text):
                continue
            mine, theirs = (grade(_as_reference(text), text).found for grade in (ours, papers))
            n["digit"] += 1
            n["differ" if mine != theirs else "none" if mine is None else "same"] += 1
            if mine != theirs:
                causes.add(_number_cause(text, mine, theirs), name, place)
        yield f"| {name} | {n['digit']:,} | {n['same']:,} | {n['none']:,} | {n['differ']:,} |"
    yield from causes.table()


def _number_cause(text: str, mine: str | None, theirs: str | None) -> str:
    *_, last = _PAPER_NUMBER.finditer(text)
    before, after = text[: last.start()], text[last.end() :]
    if mine is None and re.search(r"\d\W+(?:\w+\W+)?(?:(?:or|and|to)\W+)?$", before):
        return "two numbers that could both be meant (`18 or 20`): none to ours"
    if mine not in (None, theirs) and next(announced(text), None):
        return "ours is announced (`the answer is`, `Answer:`), theirs is the last"
    if re.search(r"\s", last[0]):
        return "theirs joins numbers over white space (`18 9` is 189)"
    if re.search(r",\d{1,2}(?!\d)|,\d{4}|\d{4},", last[0]):
        return "theirs joins a list (`1,2` is 12)"
    if re.match(r"/\d|[½¼¾]| ?\d/", after) or re.search(r"\d/$", before):
        return "a fraction or a date with `/`: theirs is the part after it"
    if last[0].startswith("-") and re.search(r"[\w)]$", before):
        return "theirs takes a hyphen for a minus (`5-7`)"
    if theirs is None:
        return "a decimal, which theirs can't read"
    if re.search(r"[A-Za-z_./]$", before) or re.match(r"(?:st|nd|rd|th)\b", after):
        return "part of a word, an ordinal, an address (`x2`, `3rd`, `v1.2`): no number to ours"
    if mine is None:
        return "ours finds none"
    return "ours is the result of an equation, in bold, outside brackets, or in millions; theirs is the last"


# ---- function calls


def calls(pairs: Iterable[tuple[Example, str]]) -> Iterator[str]:
    yield "\n### Function calls: 2,211 published rewrites against their originals\n"
    causes = Causes()
    both: Counter[tuple[bool, bool]] = Counter()
    ours, papers = make_grader("function_call"), make_grader("function_call_paper")
    for place, (example, text) in enumerate(pairs):
        mine, theirs = ours(example, text), papers(example, text)
        both[mine.passed, theirs.passed] += 1
        if mine.passed != theirs.passed:
            causes.add(f"theirs {'passes' if theirs.passed else 'fails'}, ours: {mine.reason}", "openfunctions", place)
    yield "| | theirs passes | theirs fails |\n|---|---|---|"
    for passes in (True, False):
        yield f"| ours {'passes' if passes else 'fails'} | {both[passes, True]} | {both[passes, False]} |"
    yield from causes.table()


class Causes:
    """Counts differences by cause, and keeps the first example of each cause."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, cause: str, name: str, place: int) -> None:
        self.counts[cause] += 1
        self.first.setdefault(cause, f"{name} {place}")

    def table(self) -> Iterator[str]:
        yield "\n| cause of a difference | n | for example |\n|---|---|---|"
        for cause, count in self.counts.most_common():
            yield f"| {cause} | {count} | {self.first[cause]} |"


def _as_reference(text: str) -> Example:
    return Example.of((), text)
