"""Text to token ids and back. A tokenizer adds nothing of its own to the text of a chat template."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokens:
    """The token ids of a rendered text. `special` are the ids of special tokens, `added` of all added tokens that are
    not white space."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.special = {place for place, token in added.items() if token.special} | set(tokenizer.all_special_ids)
        self.added = {place for place, token in added.items() if token.content.strip()}
        # A tokenizer may mark the start of a text (Llama 2's adds a space). A response does not start a text, so it is
        # encoded after a line break, which no token joins with the next character.
        first = tokenizer.convert_ids_to_tokens(self.encode("a"))[:1]
        self._anchor = "\n" if first and first[0].startswith(("▁", "Ġ")) else ""
        self._anchor_ids = self.encode(self._anchor) if self._anchor else []

    def encode(self, text: str) -> list[int]:
        """The ids of a rendered text. The names of special tokens in it become special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return ids

    def encode_answer(self, text: str, marks: bool) -> list[int] | None:
        """The ids of an answer's text after a prompt; None if they don't decode to the text.

        The names of special tokens in it are encoded as plain text, so that they end no turn; with `marks`, as special
        tokens. Canonically equivalent Unicode forms, which some tokenizers normalise, count as the same text.
        """
        ids: list[int] = self._tokenizer.encode(
            self._anchor + text, add_special_tokens=False, split_special_tokens=not marks, verbose=False
        )
        start = len(self._anchor_ids)
        if ids[:start] != self._anchor_ids or not _same(self._decode(ids), self._decode(self._anchor_ids) + text):
            return None
        return ids[start:]

    def first_end(self, text: str) -> int | None:
        """The id of the first special token in a text, else of its first added token that is not white space."""
        ids = self.encode(text) if text else []
        return next((token for kind in (self.special, self.added) for token in ids if token in kind), None)

    def first_special(self, text: str) -> int | None:
        """The id of the first special token in a text."""
        return next((token for token in self.encode(text) if token in self.special), None)

    def split_end(self, text: str) -> tuple[str, int | None]:
        """A text without the special token at its end, and the token's id. White space after the token is ignored."""
        ids = self.encode(text.rstrip())
        if not ids or ids[-1] not in self.special:
            return text, None
        return text.rstrip().removesuffix(self.written(ids[-1:])[0]), ids[-1]

    def named(self, text: str) -> str | None:
        """The first special token whose name is part of the text."""
        return next((name for name in self.written(self.special) if name and name in text), None)

    def written(self, ids: Iterable[int]) -> list[str]:
        """The tokens as the vocabulary writes them."""
        return [str(self._tokenizer.convert_ids_to_tokens(token)) for token in ids]

    def _decode(self, ids: Sequence[int]) -> str:
        if not ids:
            return ""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _same(decoded: str, text: str) -> bool:
    return decoded == text or unicodedata.normalize("NFC", decoded) == unicodedata.normalize("NFC", text)
