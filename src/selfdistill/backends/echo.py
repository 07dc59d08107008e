"""Whose answer is it? What a server repeats of a request in its answer, it has to repeat in every answer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any
from uuid import uuid4

HEADER = "X-Request-Id"
# So many answers without the request's id say that the server repeats none, rather than that they are another's.
_SILENT = 3


class StrayError(Exception):
    """An answer that belongs to another request."""


class Echo:
    """The ids of one run's requests, and what the server showed of them so far.

    vLLM makes the answer's `id` of the header X-Request-Id; `transformers serve` does so too and sends the header back;
    many servers show neither, and then nothing can be known. All ids of a run begin alike, so that another request's
    answer is known before the server has shown anything.
    """

    def __init__(self, model: str) -> None:
        self._model, self._run, self._numbers = model, uuid4().hex, count()
        self._shown: set[str] = set()
        self._silent = 0

    def new_id(self) -> str:
        """As long as any other, so that none is part of another."""
        return f"{self._run}{next(self._numbers):012x}"

    def is_answer(self, request: str, reply: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
        """False where it can't be told yet: ask again. That is so for the first two answers without an id, until one
        has shown its own. Raises StrayError where it is another request's answer, or another model's."""
        places = {"id": reply.get("id"), "header": headers.get(HEADER), "model": reply.get("model")}
        for place, found in places.items():
            own = self._model if place == "model" else request
            text = found if isinstance(found, str) else ""
            if text == own or (place != "model" and own in text):
                self._shown.add(place)
            elif place in self._shown or (self._run in text and place != "model"):
                raise StrayError(f"the answer to another request (its {place} is {text!r})")
        if self._shown & {"id", "header"}:
            return True
        self._silent += 1
        return self._silent >= _SILENT
