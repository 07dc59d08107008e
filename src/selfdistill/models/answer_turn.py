"""How a chat template writes an answer, and what ends it: read off a conversation in which an answer stands."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RenderError
from .chat_template import ANSWER, USER, Chat, ChatTemplate
from .tokens import Tokens


@dataclass(frozen=True)
class AnswerTurn:
    """`opening` is what the template writes between its own generation prompt and an answer, so it belongs to the
    prompt; `before` is white space there, which the model writes. `after` is text between the answer and the token
    `end`. `strips` is whether the template cuts white space around an answer. `unknown` is an ending that is no
    special token."""

    opening: str = ""
    before: str = ""
    after: str = ""
    end: int | None = None
    strips: bool = False
    unknown: str = ""


def find_answer_turn(template: ChatTemplate, tokens: Tokens, thinks: bool) -> AnswerTurn:
    """The answer's turn in `template`. A template for single turns can't show one: then the answer follows the prompt,
    and nothing is known of its end. If the model `thinks`, what stands before an answer is its own."""
    user: Chat = [{"role": "user", "content": USER}]
    try:
        prompt = template.apply(user, generate=True)
        whole, padded = (
            template.apply([*user, {"role": "assistant", "content": content}], generate=False)
            for content in (ANSWER, f"\n {ANSWER} \n")
        )
    except RenderError:
        return AnswerTurn()
    ahead, found, behind = whole.partition(ANSWER)
    if not found:
        return AnswerTurn()
    between = ahead[len(prompt) :] if ahead.startswith(prompt) and not thinks else ""
    opening, before = (between, "") if between.strip() else ("", between)
    strips = f"\n {ANSWER} \n" not in padded
    end = tokens.first_end(behind)
    if end is None:
        return AnswerTurn(opening, before, strips=strips, unknown=behind.strip())
    after = behind.partition(tokens.written([end])[0])[0]
    return AnswerTurn(opening, before, after, end, strips)
