"""Multiple choice and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from ..errors import RecipeError
from ..types import Grade
from .announcements import NOUN, announced, mark

_MOST = 1_000  # mentions that are read
_FRAME = " \t\r\n.:;,!*_\"'`()[]{}$\\"

# A letter that names a choice. "A" and "I" are also words; a small letter needs a bracket or the end of the line.
_LETTER = (
    r"(?<![\w'’])(?:[A-Z](?![\w'’])"
    r"(?!(?<=[AI]) (?!(?:is|because|since|as|and|or|but|for|over|rather than|instead of)\b)[a-z])"
    r"|[a-z](?=\)|[.*_}$]{0,4}(?:\n|$)))"
)
_MARKED = r"(?<=\()[A-Za-z](?=\))|(?<=\*\*)[A-Z](?=\*\*)|(?i:(?<=option )|(?<=choice )|(?<=answer ))[A-Z](?![\w'’])"
_WRAP = r"[\s*_\"'`(\[{$\\:]{0,8}(?:(?:text|textbf|mathrm|boxed)\{)?"
_LEAD = (
    r"(?i:(?:therefore|thus|then|clearly|definitely|most likely|probably|simply|actually|indeed|option|choice|answer"
    r"|letter|label|statement|the|an?)\b[\s:,*(]{1,4}){0,3}"
)
_NAMED = (
    rf"(?:{NOUN}|options?|choice|letter|label|category|class|classification|sentiment|prediction|grade|ans"
    r"|(?:correct|right) one|best(?: one)?)"
)
_SAID = (
    r"\bI(?:['’]d|['’]ll| would| will)? (?:choose|chose|pick|select|go with|say|vote for)|\bI['’]m going with"
    r"|\b(?:it|this|that)(?:['’]s| is| must be| would be| has to be)|\b(?:so|therefore|thus|hence),?"
)
_SAID_END = r"[)}\]*_\"'`$]{0,4}\s{0,3}(?:[.,;!\n]|$|\b(?:because|since|as|for|over|rather than|instead of)\b)"
_RIGHT = (
    r"[)\]}*_.\"'`]{0,4} (?i:(?:is|seems|must be|would be) (?:the |my |clearly )?"
    r"(?:correct|right|answer|(?:best|only|final) (?:answer|option|choice|one))\b(?!-)(?! (?:only )?if\b))"
)
_LINE_END = r"(?:[).:,;!}\]*_\"'`$]|\s[-–(]|\s{0,9}$|\s{1,3}because\b)"
# "not B", "isn't a spam message", "nicht B", "hardly B"; "B is wrong", "B, but that's wrong".
_NEGATION = (
    r"(?i:\b(?:not|never|cannot|neither|nor|nicht|keine?n?|pas|non|не|rather than|instead of|hardly|scarcely|barely"
    r"|far from|anything but|by no means|(?:false|untrue|incorrect|impossible|unlikely) that"
    r"|(?:wrong|incorrect|impossible|a mistake) to{no})|n['’]t)"
    r"(?: (?!(?:but|hard|difficult|surprising)\b)[^\W\d](?:[^\W\d]|['’]){{0,11}}){{0,5}}[ *_\"'`(]{{1,4}}$"
    r"|(?:不|非|没有?)(?:是)?$"
)
_FALSE = r"(?:(?:also|clearly|the)\s)?(?:not|wrong|incorrect|never|cannot|(?<=n't)|(?<=n’t)|too)\b"
_DENIED = re.compile(
    rf"[)\]}}*_.\"'`]{{0,4}}\s(?:is|was|are|does|do|can|could|would|seems?)(?:\s|n['’]t\b)\s?{_FALSE}"
    r"|[)\]}*_.\"'`]{0,4}[^\S\n]not (?:correct|right)\b"
    r"|[)\]}*_.\"'`]{0,4}, but (?:that|this|it|they|he|she)(?:['’]s|['’]re| is| are| was| were| would be) "
    r"(?:wrong|incorrect|mistaken|not)\b",
    re.IGNORECASE,
)
# "B wrong", "B) too small". In "B) Not enough information" these words are the choice's own text.
_DENIED_BRIEFLY = re.compile(rf"[)\]}}*_.\"'`]{{0,4}}[^\S\n]{_FALSE}", re.IGNORECASE)
# Hypothetical choices: what others may say, or what would be true in another case, as in "some might argue" and "if x
# were 2, the answer would be".
_SUPPOSED = re.compile(
    r"(?<!\bI )\b(?:might|may|could|would) (?:\w{1,12} )?(?:say|argue|think|claim|guess|assume|believe|suggest)\b"
    r"|\b(?:some|many|most|others|people|students) (?:\w{1,12} ){0,3}(?:say|argue|think|claim|guess|assume|believe)\b"
    r"|\btempt(?:ed|ing)\b|\b(?:might|may|could) be\b"
    r"|\bif (?!(?:I|we|you|one) (?:had|have|were) to\b).{0,150}\b(?:had|was|were|would|instead)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<!\bvs)(?<!\be\.g)(?<!\bcf)[.!]\s")
_CLAUSE_END = re.compile(r"[.!?;\n]|\b(?:but|yet|however|so|therefore|thus|hence|actually|in fact)\b", re.IGNORECASE)
_TAG = re.compile(r"^\W{0,4}[A-Z]\b\W{0,4}")
_NO_DOUBT = (
    r"(?! (?:doubt|question|one|other|such|evidence|proof|reason|indication|sign|mention|information|need|way|idea"
    r"|longer|more|matter|difference)\b)"
)
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


class _Rules(NamedTuple):
    announces: re.Pattern[str]
    or_else: re.Pattern[str]
    opens: re.Pattern[str]
    mentions: re.Pattern[str]
    negated: re.Pattern[str]
    letters: bool

    def same_case(self, name: str) -> str:
        return name.upper() if self.letters else " ".join(name.split()).casefold()


def choice(reference: str, text: str, *, labels: Sequence[str] | None = None) -> Grade:
    """Whether both texts choose the same letter, or the same one of `labels`; letter case is ignored for labels.

    The last announcement decides: "the answer is B", "Answer: B", "\\boxed{B}", "I choose B", "it's B", "B is correct".
    A hypothetical announcement ("some might say the answer is A") decides only if there is no other announcement. If
    nothing is announced, a line that is or opens with a choice decides ("B", "(B)", "B) Paris", "positive, because").
    Without such a line, the only choice that the text mentions decides; else the last line or sentence, if it consists
    of a choice. A negated choice ("not B", "isn't spam", "hardly true", "B is wrong") never counts, and two choices
    that could both be meant ("B or C") are not an answer. Without `labels`, a reference that is not a letter is
    compared with the announced text, else with the text or its first paragraph. A reference without a choice is
    unjudged. Raises RecipeError if `labels` are not at least two different texts.
    """
    if labels is not None:
        labels = [" ".join(str(label).split()) for label in labels] if isinstance(labels, list | tuple) else []
        if len({label.casefold() for label in labels} - {""}) < 2:
            raise RecipeError("The grader `choice` needs at least two different `labels`, for example [yes, no].")
    names = tuple(label for label in labels or () if label)
    expected = _chosen(reference, names)
    if expected is not None:
        found = _chosen(text, names)
        if found is None and not names and _option(text) == _option(_TAG.sub("", reference)) != "":
            found = expected
    elif names:
        return Grade("unjudged", "no choice in the reference")
    else:
        expected, found = _option(reference) or None, _option(text)
    if expected is None:
        return Grade("unjudged", "no choice in the reference")
    if found is None:
        return Grade("fail", "no choice found", expected)
    if found == expected:
        return Grade("pass", "same choice", expected, found)
    return Grade("fail", "choice differs", expected, found[:200])


@lru_cache(maxsize=64)
def _rules(labels: tuple[str, ...]) -> _Rules:
    """The patterns for these labels, or for capital letters if there are no labels."""
    letters = all(re.fullmatch("[A-Z]", label) for label in labels)
    spelled = "|".join(map(_spelled, sorted(labels, key=len, reverse=True)))
    name, mentioned = (_LETTER, _MARKED) if letters else (f"(?i:{spelled})",) * 2
    x = rf"{_WRAP}({name})"
    no = "" if "no" in map(str.casefold, labels) else f"|no{_NO_DOUBT}"
    return _Rules(
        re.compile(
            rf"(?i:(?<!#)#{{4,}}+|<answer>|\\f?boxed(?={{)|答案(?:是|为|[:：])|답은|{mark(_NAMED)}"
            rf"|\b{NOUN} (?:might|may|could) be\b){_WRAP}{_LEAD}{x}"
            rf"|(?i:{_SAID})\s{_LEAD}{x}(?={_SAID_END})|(?:(?<=\W)|(?<![\s\S]))({name}){_RIGHT}",
        ),
        re.compile(
            rf"[)\]}}*_.\"'`]{{0,4}}(?:,?\s?(?i:or|and)\s|\s?[/&]|,(?={x}\W{{0,3}}(?:,|$|and\b|or\b))){_LEAD}{x}"
        ),
        re.compile(rf"^[ \t>*#_-]{{0,6}}(?i:option |choice |answer )?{x}{_LINE_END}", re.MULTILINE),
        re.compile(mentioned),
        re.compile(_NEGATION.format(no=no)),
        letters,
    )


def _spelled(label: str) -> str:
    """A pattern for a label: whole words, unless the label's script doesn't separate words."""
    words = r"\s+".join(map(re.escape, label.split()))
    before = "" if _UNSPACED.match(label[0]) else r"(?<!\w)"
    after = "" if _UNSPACED.match(label[-1]) else r"(?!\w)"
    return before + words + after + (_NO_DOUBT if label.casefold() == "no" else "")


def _chosen(text: str, labels: tuple[str, ...]) -> str | None:
    """The letter or label that `text` chooses, None if it chooses none or more than one."""
    rules, text = _rules(labels), text.strip()
    supposed: set[str] = set()
    for match in reversed(list(rules.announces.finditer(text))):
        if names := _names(match, rules):
            if not _supposed(match):
                return names.pop() if len(names) == 1 else None
            supposed = supposed or names
    if supposed:
        return supposed.pop() if len(supposed) == 1 else None
    for pattern, briefly in ((rules.opens, True), (rules.opens, False), (rules.mentions, True)):
        matches = islice(pattern.finditer(text), _MOST)
        if names := {name for match in matches for name in _names(match, rules, briefly)}:
            return names.pop() if len(names) == 1 else _alone(text, rules)
    return _alone(text, rules)


def _supposed(match: re.Match[str]) -> bool:
    """Whether the clause before the choice makes the choice hypothetical."""
    start = match.start(match.lastindex or 0)
    *_, clause = _CLAUSE_END.split(match.string[max(0, start - 200) : start])
    return bool(_SUPPOSED.search(clause))


def _names(match: re.Match[str], rules: _Rules, briefly: bool = False) -> set[str]:
    """The choice in a match, and a second choice after "or" if there is one; empty if the choice is negated, or with
    `briefly` if a word such as "wrong" or "not" follows it."""
    group = match.lastindex or 0
    start, end = match.span(group)
    text = match.string
    if rules.negated.search(text[max(0, start - 60) : start]) or _DENIED.match(text, end):
        return set()
    if briefly and _DENIED_BRIEFLY.match(text, end):
        return set()
    other = rules.or_else.match(text, end)
    return {rules.same_case(name) for name in (match[group], other and other[other.lastindex or 0]) if name}


def _alone(text: str, rules: _Rules) -> str | None:
    """The choice that is the whole of the last line or sentence, or a paragraph that repeats one option of a list."""
    line = text.rpartition("\n")[2]
    before, _, paragraph = text.rpartition("\n\n")
    repeated = line == paragraph and line.strip() in map(str.strip, before.split("\n"))
    *others, sentence = _SENTENCE_END.split(line[-200:].rstrip(_FRAME))
    for last in (line, sentence) if others and " " in others[-1] else (line,):
        match = rules.opens.match(last)
        if match and (repeated or not last[match.end(1) :].strip(_FRAME)) and len(names := _names(match, rules)) == 1:
            return names.pop()
    return None


def _option(text: str) -> str:
    """The announced text, else the whole text or its first paragraph, without marks around it."""
    for said in announced(text):
        return said.text.strip(_FRAME).partition("\n")[0].strip(_FRAME).casefold()
    return text.strip(_FRAME).partition("\n\n")[0].strip(_FRAME).casefold()
