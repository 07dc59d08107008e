"""The rows of a group that are being answered: who they are, and their part of the key-value cache.

Every row ends at the cache's last position, and starts where its prompt does. So a row whose prompt was read later only
has more positions before its start, which are masked; positions that no row uses any more are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .batches import TokenRow
from .key_values import forget, growing_cache, join
from .prefill import next_logits, read_prompts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_UNUSED = 64  # positions that no row uses, from which they are dropped: each time the cache is copied
_KEEP = 0.75  # without plain layers, dropping rows copies the whole cache: wait for so few unfinished rows


class InFlight:
    """`numbers` are the rows in flight by their numbers in the group, shape (rows,). `logits` choose the next token of
    each, shape (rows, vocabulary)."""

    def __init__(self, model: PreTrainedModel, rows: Sequence[TokenRow], first: int) -> None:
        """Reads the prompts of `rows`, whose numbers start at `first`."""
        import torch

        self._model = model
        self._cache, self.plain = growing_cache(model, max(len(row.ids) for row in rows))
        self.logits, self._mask, positions = read_prompts(model, rows, self._cache, in_parts=self.plain)
        self._position = positions[:, -1:]
        self.numbers = torch.arange(first, first + len(rows), device=model.device)

    def join(self, rows: Sequence[TokenRow], first: int) -> None:
        """Reads the prompts of further rows. None is longer than the cache, and there are places for them."""
        import torch

        new = InFlight(self._model, rows, first)
        length = self._mask.shape[1]
        missing = new._mask.new_zeros(len(rows), length - new._mask.shape[1])
        join(self._cache, new._cache)
        self._mask = torch.cat([self._mask, torch.cat([missing, new._mask], dim=1)])
        self._position = torch.cat([self._position, new._position])
        self.numbers = torch.cat([self.numbers, new.numbers])
        self.logits = torch.cat([self.logits, new.logits])

    def drop(self, alive: torch.Tensor, working: int) -> torch.Tensor | None:
        """Drops finished rows. `alive`, of shape (rows,), has `working` rows that go on. Returns which rows are in
        flight now, by their former places; None if nothing was dropped, because it would cost more than it saves."""
        if working >= (len(alive) if self.plain else _KEEP * len(alive)):
            return None
        kept = _closed_up(alive, working)
        self._cache.reorder_cache(kept)  # exists for layers of every kind
        self.numbers, self._mask, self._position = self.numbers[kept], self._mask[kept], self._position[kept]
        if self.plain and (unused := int(self._mask.argmax(dim=1).min())) >= _UNUSED:
            forget(self._cache, unused)
            self._mask = self._mask[:, unused:]
        return kept

    def step(self, chosen: torch.Tensor) -> None:
        """Appends one token to each row in flight."""
        import torch

        self._mask = torch.cat([self._mask, self._mask.new_ones(len(chosen), 1)], dim=1)
        self._position = self._position + 1
        self.logits = next_logits(self._model, self._cache, chosen[:, None], self._mask, self._position)[:, -1]


def _closed_up(alive: torch.Tensor, working: int) -> torch.Tensor:
    """Return the row for each of the first `working` places: finished rows are replaced by unfinished ones from
    behind."""
    import torch

    kept = torch.arange(working, device=alive.device)
    kept[~alive[:working]] = alive[working:].nonzero()[:, 0] + working
    return kept
