"""The input of a classifier as a judge, in place of the question for a chat model."""

from __future__ import annotations

from dataclasses import replace

from ..errors import RecipeError
from ..types import Example, Message, Messages
from .judged import Judging


def asked_of_classifier(judging: Judging) -> Judging:
    """`judging` for the backend `classifier`, which reads the chat itself: the request, then the answer as the last
    turn. Raises RecipeError if `judging` compares answers, because a classifier can't."""
    if judging.against != "nothing":
        raise RecipeError(
            "A classifier judges single answers and can't compare two; name a chat model in `judge`, or leave the "
            "tasks that compare answers out of evaluate.tasks."
        )

    def ask(example: Example, answer: str, other: str) -> tuple[Messages, ...]:
        return tuple((*example.prompt, Message("assistant", answer)) for _ in judging.ask(example, answer, other))

    return replace(judging, ask=ask)
