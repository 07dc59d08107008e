"""Contamination between training and evaluation: prompts that are the same, or nearly the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ..store.rows import id_number
from ..types import Conversation, Messages, content_id

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_FORMS = str.maketrans(
    {**dict.fromkeys("‘’‚‛`´′", "'"), **dict.fromkeys("“”„‟«»″", '"'), **dict.fromkeys("‐‑‒–—―−", "-")}
)
_UNSEEN = re.compile(r"[\u00ad\u200b-\u200f\u2060\ufeff]")
_QUOTES = re.compile("['\"]")
# Marks at the end of a word. After a number, "!" is a factorial; before "=", it is an operator.
_MARKS = re.compile(
    r"[¿¡。、]|(?<=[^\W\d])[,;:.?!]+(?=\s|$|[^\W\d])|(?<=[\d)\]%\s])[,;:.?]+(?=\s|$)|(?<=\s)[?!]+$", re.MULTILINE
)
_SPACE = re.compile(r"\s+")
_CHUNK = 2000  # training prompts per comparison
_SHARED = 0.3  # prompts that share fewer of the held-out prompt's words are not compared
_SHOWN = 160


def normalised(text: str) -> str:
    """The text without differences that don't change a question: case, white space, forms of characters (NFKC),
    quotation marks, dashes and punctuation. Marks within numbers and formulas such as 3.5 or x!=2 stay."""
    text = _UNSEEN.sub("", unicodedata.normalize("NFKC", text)).translate(_FORMS).casefold().strip()
    return _SPACE.sub(" ", _MARKS.sub(" ", _QUOTES.sub("", text))).strip() or text.strip()


def prompt_text(prompt: Messages) -> str:
    """The text by which a prompt is compared: every turn normalised, without the system message."""
    return "\n".join(normalised(message.text) for message in prompt if message.role != "system")


def prompt_key(prompt: Messages) -> str:
    """An id that two prompts share if their normalised texts are equal."""
    return content_id(prompt_text(prompt))


def asked_last(conversation: Conversation) -> str:
    """The `prompt_key` of the last example. Earlier turns may be shared, because many chats open with one greeting."""
    return prompt_key(conversation.examples()[-1].prompt)


def asks_any(conversation: Conversation, keys: Set[str]) -> bool:
    """Whether a turn that is trained on answers one of the prompts with these `prompt_key`s."""
    return any(prompt_key(example.prompt) in keys for example in conversation.examples())


def prompt_numbers(conversation: Conversation) -> list[int]:
    return [id_number(prompt_key(example.prompt)) for example in conversation.examples()]


@dataclass
class NearDuplicates:
    """The held-out rows that resemble a training row, and the first pair that was found."""

    found: set[int] = field(default_factory=set)
    pair: tuple[str, str] | None = None


def near_duplicates(
    heldout: Sequence[Conversation],
    train: Iterable[Conversation],
    threshold: float,
    progress: Callable[[int], None] = lambda done: None,
) -> NearDuplicates:
    """The rows of `heldout` whose last prompt has a similarity of at least `threshold` to a prompt of `train`.

    Similarity: rapidfuzz's normalised InDel similarity of the normalised texts, 1 for equal texts. `train` is streamed
    once. A held-out row is compared until a near duplicate is found.
    """
    from rapidfuzz.distance import Indel

    near, texts = NearDuplicates(), [prompt_text(row.examples()[-1].prompt) for row in heldout]
    index = _WordIndex(texts, threshold)
    prompts = ((prompt_text(example.prompt), example.instruction) for row in train for example in row.examples())
    done = 0
    while len(near.found) < len(texts) and (chunk := list(islice(prompts, _CHUNK))):
        for held, place in index.pairs([text for text, _ in chunk]):
            if held in near.found:
                continue
            if Indel.normalized_similarity(texts[held], chunk[place][0], score_cutoff=threshold) >= threshold:
                near.found.add(held)
                near.pair = near.pair or (_short(heldout[held].examples()[-1].instruction), _short(chunk[place][1]))
        index.drop(near.found)
        done += len(chunk)
        progress(done)
    return near


class _WordIndex:
    """Finds pairs of held-out and other texts that share many words, with one sparse matrix product."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._ratio = threshold / (2 - threshold)  # if the lengths differ more, the similarity is below the threshold
        self._words: dict[str, int] = {}
        self._lengths = np.array([len(text) for text in texts])
        self._held = self._matrix(texts, grow=True)
        self._least = np.maximum(1, _SHARED * np.diff(self._held.indptr))
        self._open = np.ones(len(texts), dtype=bool)

    def drop(self, found: set[int]) -> None:
        self._open[list(found)] = False

    def pairs(self, texts: Sequence[str]) -> Iterable[tuple[int, int]]:
        """Index pairs (held-out text, other text) that share enough words and have similar lengths."""
        shared = (self._held @ self._matrix(texts).T).tocoo()
        held, other = shared.row, shared.col
        lengths = np.array([len(text) for text in texts])
        ratio = self._lengths[held] / np.maximum(1, lengths[other])
        keep = (
            self._open[held] & (shared.data >= self._least[held]) & (ratio >= self._ratio) & (ratio <= 1 / self._ratio)
        )
        return zip(held[keep].tolist(), other[keep].tolist(), strict=True)

    def _matrix(self, texts: Sequence[str], grow: bool = False) -> csr_matrix:
        from scipy.sparse import csr_matrix

        columns: list[int] = []
        ends = [0]
        for text in texts:
            words = _words(text)
            if grow:
                columns += [self._words.setdefault(word, len(self._words)) for word in words]
            else:
                columns += [self._words[word] for word in words if word in self._words]
            ends.append(len(columns))
        return csr_matrix(
            (np.ones(len(columns), np.int32), columns, ends), shape=(len(texts), max(1, len(self._words)))
        )


def _words(text: str) -> set[str]:
    """The words of a text, and also its pairs of characters if the script may not separate words by spaces."""
    words = set(text.split())
    return words if text.isascii() else words | {text[at : at + 2] for at in range(len(text) - 1)}


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
