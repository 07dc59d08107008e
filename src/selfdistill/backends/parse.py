"""A completion becomes reasoning, content and calls of tools: the one place where the text of a model is taken apart.

transformers' `parse_response` does it if the tokenizer has a response template. Otherwise, and for a reply that such a
template can't take apart (a trace that is cut off looks like an answer to some), two tables of families do:
`grading.traces` and `models.call_notations`. The result is a text of one form, which `grading.traces.split` and
`types.read_reply` read. The text as the model wrote it is kept in `raw`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..grading.traces import join, opened, split
from ..models.call_notations import normal_text
from ..types import Completion

if TYPE_CHECKING:
    from ..models.renderer import Renderer

Tools = Sequence[Mapping[str, Any]]


def in_one_form(completion: Completion, tools: Tools, renderer: Renderer | None, asked: str) -> Completion:
    """The completion with its trace first and calls as `write_reply` writes them. `asked` is the rendered prompt. If it
    opens a think trace, the opening mark is at the start of the completion. Without a renderer the tables alone are
    used: a server applied its own template."""
    thinks = renderer is not None and renderer.thinks
    if not tools and not thinks:
        return completion
    found = split(completion.text)
    if found.answer is None:  # cut off inside the trace: there is no content, and no call
        return completion
    traced = found.answer != completion.text
    own = completion.text.removeprefix(opened(asked))
    if renderer and traced and (parsed := renderer.parsed(own, asked, tools)):
        return completion.with_text(join(*parsed))
    if not tools:
        return completion
    normal = renderer.normal_text(found.answer, asked, tools) if renderer else normal_text(found.answer, tools)
    if normal == found.answer:
        return completion
    return completion.with_text(join(found.reasoning, normal) if traced else normal)


def trace_tokens(ids: Sequence[int], renderer: Renderer, mark: str) -> tuple[int, bool]:
    """The tokens of the think trace in the new tokens `ids`, with its marks, and whether the trace has ended. A reply
    without a trace has 0, and has ended. `mark` is the opening mark at the end of the prompt."""

    def written(count: int) -> str:
        return mark + str(
            renderer.tokenizer.decode(list(ids[:count]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    text = written(len(ids))
    found = split(text)
    if found.answer is None:
        return len(ids), False
    if found.answer == text:
        return 0, True
    return bisect_left(range(len(ids)), found.end, key=lambda count: len(written(count))), True
