"""Whether a rewrite states what its reference states, by what can be compared without a model: numbers, dates,
quotations, code spans, addresses and proper names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache

from ..types import Grade
from .amounts import Amount, Amounts, amounts, follows
from .proper_names import Names, missing_names, names, names_are_marked

_MOST_CHARACTERS = 50_000
_SHOWN = 200
_FENCED = re.compile(r"```[^`]*+```|```.*\Z", re.DOTALL)
_CODE = re.compile(r"`([^`\n]{1,200}+)`")
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'`)\]}]{1,500}|\b[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,5}")
_QUOTED = re.compile(
    r"\"([^\"\n]{2,300})\"|“([^”\n]{2,300})”|«([^»\n]{2,300})»|„([^“”\n]{2,300})[“”]|「([^」\n]{2,300})」"
)
_NOT_LETTERS = re.compile(r"[\W_]+")


def facts(reference: str, text: str, *, prompt: str, asked: str | None = None) -> Grade:
    """Whether the text holds every number, date, quotation, code span, address and proper name that the reference adds
    to the prompt, and no number, address or name that neither of them holds. `prompt` is all turns before the response,
    `asked` these turns without the results of tools, which a response is there to report.

    Numbers are compared by value, and those that follow from the numbers of prompt and reference by one operation are
    allowed. Fenced code is not compared. Names are recognised in languages that capitalise names only. Passes with
    `checked` off if the reference adds nothing that can be compared.
    """
    if max(map(len, (reference, text, prompt))) > _MOST_CHARACTERS:
        return Grade("unjudged", "too long to compare facts")
    given, wanted, found = _Facts(prompt), _read(reference), _Facts(text)
    added = _added(wanted, given if asked is None or asked == prompt else _Facts(asked))
    for kind, missing in _missing(added, found, wanted).items():
        if missing:
            return Grade("fail", f"a {kind} of the reference is missing", _shown(missing), None)
    for kind, invented in _invented(found, given, wanted).items():
        if invented:
            return Grade("fail", f"a {kind} that the reference does not hold", None, _shown(invented))
    if not any(added.values()):
        return Grade("pass", "nothing to compare in the reference", checked=False)
    return Grade("pass", "same facts", _shown([value for values in added.values() for value in values]))


@dataclass(frozen=True)
class _Facts:
    """A text, read for its facts on demand."""

    text: str

    @cached_property
    def unfenced(self) -> str:
        return _FENCED.sub("\n", self.text)

    @cached_property
    def prose(self) -> str:
        """The text without code and addresses, whose capitals and digits mean something else."""
        return _URL.sub(" ", _CODE.sub(" x ", self.unfenced))

    @cached_property
    def amounts(self) -> Amounts:
        return amounts(self.prose)

    @cached_property
    def mentioned(self) -> frozenset[Amount]:
        """The amounts of the whole text, code included."""
        return self.amounts.mentioned | amounts(self.text).mentioned

    @cached_property
    def held(self) -> frozenset[Amount]:
        """The amounts that the text mentions, and the numbers of the items of its lists."""
        return self.mentioned | self.amounts.markers

    @cached_property
    def names(self) -> Names:
        return names(self.prose)

    @cached_property
    def words(self) -> frozenset[str]:
        return self.names.words | names(self.text).words

    @cached_property
    def urls(self) -> frozenset[str]:
        return frozenset(_address(match[0]) for match in _URL.finditer(self.unfenced))

    @cached_property
    def code(self) -> frozenset[str]:
        return frozenset(stripped for match in _CODE.finditer(self.unfenced) if (stripped := "".join(match[1].split())))

    @cached_property
    def quotations(self) -> frozenset[str]:
        """Quoted passages of at least two words. A single word in quotation marks is often no quotation."""
        quoted = (next(filter(None, match.groups())) for match in _QUOTED.finditer(self.unfenced))
        return frozenset(letters for passage in quoted if " " in (letters := _letters(passage)))

    @cached_property
    def letters(self) -> str:
        return f" {_letters(self.text)} "

    @cached_property
    def unspaced(self) -> str:
        return "".join(self.text.split())


@lru_cache(maxsize=8)
def _read(text: str) -> _Facts:
    """The facts of a reference, which is compared with several texts in a row."""
    return _Facts(text)


def _added(reference: _Facts, prompt: _Facts) -> dict[str, list[Amount]]:
    """What the reference adds to the prompt, by kind."""
    known = reference.names, prompt.names
    sure = known[0].sure | (known[0].opening & known[1].sure)
    marked = _mark_names(reference, prompt)
    named = (sure | known[0].items) - known[0].small - known[1].small if marked else ()
    added: dict[str, Iterable[Amount]] = {
        "number": [n for n in reference.amounts.stated if n not in prompt.held],
        "name": missing_names(named, prompt.words),
        "quotation": [quoted for quoted in reference.quotations if quoted not in prompt.letters],
        "code span": [code for code in reference.code if code not in prompt.unspaced],
        "web address": reference.urls - prompt.urls,
    }
    return {kind: sorted(values, key=str) for kind, values in added.items()}


def _missing(added: dict[str, list[Amount]], found: _Facts, reference: _Facts) -> dict[str, list[Amount]]:
    """The facts of the reference that the text lacks. A list's marker stands for another marker, not for a number."""
    there = found.mentioned | (found.amounts.markers & reference.amounts.enumerated)
    return {
        "number": [n for n in added["number"] if n not in there],
        "name": [*missing_names(map(str, added["name"]), found.words)],
        "quotation": [quoted for quoted in added["quotation"] if f" {quoted} " not in found.letters],
        "code span": [code for code in added["code span"] if str(code) not in found.unspaced],
        "web address": [url for url in added["web address"] if url not in found.urls],
    }


def _invented(found: _Facts, prompt: _Facts, reference: _Facts) -> dict[str, list[Amount]]:
    """The numbers, addresses and names of a rewrite that neither prompt nor reference holds."""
    known = prompt.held | reference.held
    base = sorted(prompt.amounts.stated | reference.amounts.stated, key=str)
    numbers = [n for n in found.amounts.claimed if n not in known and not follows(n, base)]
    named: Iterable[str] = ()
    if _mark_names(found, prompt) and _mark_names(reference, prompt):
        sure = found.names.sure - found.names.small - prompt.words - reference.words
        named = missing_names(sorted(sure), prompt.words | reference.words)
    urls = sorted(url for url in found.urls - reference.urls - prompt.urls)
    return {"number": sorted(numbers, key=str), "name": [*named], "web address": [*urls]}


def _mark_names(response: _Facts, prompt: _Facts) -> bool:
    """Whether capitals mark names in a response: by its own words and, if these are few, by those of its prompt too."""
    return names_are_marked(response.prose) and names_are_marked(f"{prompt.prose}\n{response.prose}")


def _address(url: str) -> str:
    """A web or mail address without its scheme, www, a last slash and what a sentence puts behind it."""
    bare = re.sub(r"^(?:https?://)?(?:www\.)?", "", url.rstrip(".,;:!?*_"))
    host, slash, path = bare.partition("/")
    return (host.lower() + slash + path).rstrip("/")


def _letters(text: str) -> str:
    return _NOT_LETTERS.sub(" ", text).strip().casefold()


def _written(value: Amount) -> str:
    """A number as people write it: 29825.28, and 1/3 if it has no end."""
    if isinstance(value, str):
        return value
    # Decimal has no largest number, where float has one and where str() refuses more than 4,300 digits.
    above, below = Decimal(value.numerator), Decimal(value.denominator)
    if Fraction(above / below) == value:
        return f"{above / below:f}"
    return f"{above:f}" if below == 1 else f"{above:f}/{below:f}"


def _shown(values: Iterable[Amount]) -> str:
    shown = ", ".join(map(_written, values))
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
