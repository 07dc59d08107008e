"""A judge that is a classifier: the text that it reads in place of a chat model's question."""

from __future__ import annotations

from dataclasses import replace

from ..errors import RecipeError
from ..types import Example, Message, Messages
from .judged import Judging


def asked_of_classifier(judging: Judging) -> Judging:
    """`judging` for the backend `classifier`, which reads the chat itself: the request, then the answer as the last
    turn. Raises RecipeError where answers are compared, which no classifier can do."""
    if judging.against != "nothing":
        raise RecipeError(
            "A classifier judges single answers and can't compare two; name a chat model in `judge`, or leave the "
            "tasks that compare answers out of evaluate.tasks."
        )

    def ask(example: Example, answer: str, other: str) -> tuple[Messages, ...]:
        return tuple((*example.prompt, Message("assistant", answer)) for _ in judging.ask(example, answer, other))

    return replace(judging, ask=ask)
