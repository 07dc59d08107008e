"""Text to token ids and back, without additions: what a tokenizer does by itself, seen from a chat template."""

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
        # A tokenizer may mark the start of a text (Llama 2's puts a space there). A response isn't the start of one,
        # so it is encoded after a line break, which no token joins with what follows.
        first = tokenizer.convert_ids_to_tokens(self.encode("a"))[:1]
        self._anchor = "\n" if first and first[0].startswith(("▁", "Ġ")) else ""
        self._anchor_ids = self.encode(self._anchor) if self._anchor else []

    def encode(self, text: str) -> list[int]:
        """Special tokens in the text are read as such."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return ids

    def encode_answer(self, text: str) -> list[int] | None:
        """The ids with which an answer's text follows a prompt; None if they don't decode to the text.

        Special tokens that stand in it as text are encoded as text, so that they end no turn. Unicode's canonically
        equivalent forms, which some tokenizers normalise, are the same text.
        """
        ids: list[int] = self._tokenizer.encode(
            self._anchor + text, add_special_tokens=False, split_special_tokens=True, verbose=False
        )
        start = len(self._anchor_ids)
        if ids[:start] != self._anchor_ids or not _same(self._decode(ids), self._decode(self._anchor_ids) + text):
            return None
        return ids[start:]

    def first_end(self, text: str) -> int | None:
        """The first special token in a text, or else its first added token that is not white space."""
        ids = self.encode(text) if text else []
        return next((token for kind in (self.special, self.added) for token in ids if token in kind), None)

    def written(self, ids: Iterable[int]) -> list[str]:
        """The tokens as they stand in the vocabulary."""
        return [str(self._tokenizer.convert_ids_to_tokens(token)) for token in ids]

    def _decode(self, ids: Sequence[int]) -> str:
        if not ids:
            return ""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _same(decoded: str, text: str) -> bool:
    return decoded == text or unicodedata.normalize("NFC", decoded) == unicodedata.normalize("NFC", text)
