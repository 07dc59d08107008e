"""Whether two texts are near each other in the space of a sentence embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import RecipeError
from ..types import Grade

Embed = Callable[[Sequence[str]], Any]
"""Returns an array with a row of length 1 per text."""


def similar(reference: str, text: str, *, embed: Embed, threshold: float = 0.8) -> Grade:
    """Whether the cosine of both texts' embeddings is at least `threshold`. An embedding sees the subject of a text and
    little of its details: a swapped number or name hardly changes it. An empty reference is unjudged.

    Raises RecipeError if the threshold is not between 0 and 1, ModelError if the embedding model can't be loaded.
    """
    if not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise RecipeError(f"The threshold of `similar` is {threshold}; write a number between 0 and 1.")
    if not reference.strip():
        return Grade("unjudged", "empty reference")
    if not text.strip():
        return Grade("fail", "not similar to the reference", found="empty")
    cosine = 1.0
    if reference != text:
        one, other = embed([reference, text])
        cosine = float(one @ other)
    reason = "similar to the reference" if cosine >= threshold else "not similar to the reference"
    return Grade("pass" if cosine >= threshold else "fail", reason, f"cosine {threshold:g}", f"cosine {cosine:.3f}")
