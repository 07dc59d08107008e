"""How a chat template writes an answer and ends it, found by rendering a conversation with an answer."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RenderError
from .chat_template import ANSWER, USER, Chat, ChatTemplate
from .tokens import Tokens


@dataclass(frozen=True)
class AnswerTurn:
    """`opening` is text that the template writes between its generation prompt and an answer; it belongs to the prompt.
    `before` is white space at the same place, which the model writes. `after` is text between the answer and the token
    `end`. `strips` is whether the template cuts white space around an answer. `unknown` is the text that ends an answer
    if it is not a special token."""

    opening: str = ""
    before: str = ""
    after: str = ""
    end: int | None = None
    strips: bool = False
    unknown: str = ""


def find_answer_turn(template: ChatTemplate, tokens: Tokens, thinks: bool) -> AnswerTurn:
    """The answer's turn in `template`. A template for single turns can't render one: then the answer follows the prompt
    directly and its end is unknown. If the model `thinks`, it writes the text before an answer itself."""
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
