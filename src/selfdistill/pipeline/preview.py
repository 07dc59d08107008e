"""Preview."""

from __future__ import annotations

from ..models.renderer import Renderer
from ..types import Messages


def marked(renderer: Renderer, prompt: Messages, response: str) -> str:
    """The training sequence of a response, with ⟦⟧ around the tokens that loss is taken on."""
    text = ""
    sequence = renderer.response_row(prompt, response)
    spans: list[tuple[bool, list[int]]] = []
    for token, trained in zip(sequence.input_ids, sequence.trained, strict=True):
        if not spans or spans[-1][0] != trained:
            spans.append((trained, []))
        spans[-1][1].append(token)
    for trained, tokens in spans:
        part = str(renderer.tokenizer.decode(tokens))
        text += f"⟦{part}⟧" if trained else part
    return text
