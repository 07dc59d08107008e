"""Prompts as rows of token ids, and the batches and groups in which rows are computed together.

Both depend on the prompts and the settings only. So a resumed run forms the same ones as an uninterrupted run, and its
rounding, and with it every answer, is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import RenderError
from ..grading.traces import opened
from ..recipe import Sampling
from ..types import Completion, Finish, Prompt, tools_of
from .loops import in_loop
from .parse import in_one_form, trace_tokens

if TYPE_CHECKING:
    from ..models.renderer import Renderer

BATCHES = 4  # the most in a group, since an interrupted group is computed again as a whole
WINDOW = 1024  # prompts sorted at a time: enough to find prompts of similar length, few enough for the memory
TAIL = 32  # tokens at the end of a prompt, more than any opening mark of a think trace has


@dataclass(frozen=True)
class TokenRow:
    """The token ids of a prompt, the largest number of new tokens, and the tools that the answer may call."""

    id: str
    ids: list[int]
    limit: int
    tools: tuple[Mapping[str, Any], ...] = field(default=(), kw_only=True)


T = TypeVar("T")
R = TypeVar("R", bound=TokenRow)


def rows_of(
    prompts: Iterable[Prompt], renderer: Renderer, sampling: Sampling, context: int | None
) -> tuple[list[TokenRow], list[Completion]]:
    """Return the rows of `prompts`, and an error for each prompt that cannot be asked, see `to_row`."""
    found = [to_row(prompt, renderer, sampling, context) for prompt in prompts]
    return [row for row in found if isinstance(row, TokenRow)], [row for row in found if isinstance(row, Completion)]


def to_row(prompt: Prompt, renderer: Renderer, sampling: Sampling, context: int | None) -> TokenRow | Completion:
    """Return the prompt's token ids, or an error if it cannot be rendered or `context` has no room for an answer."""
    try:
        ids = renderer.ids(prompt.messages)
    except RenderError as error:
        return Completion.failed(prompt.id, str(error))
    most = sampling.limit(renderer.thinks)
    room = most if context is None else min(most, context - len(ids))
    if not ids:
        return Completion.failed(prompt.id, "the prompt is empty")
    if room < 1:
        return Completion.failed(prompt.id, f"prompt of {len(ids)} tokens exceeds the context of {context}")
    return TokenRow(prompt.id, ids, room, tools=tools_of(prompt.messages))


def to_completion(row: TokenRow, ids: list[int], renderer: Renderer, stop_loops: bool = True) -> Completion:
    """Return the new tokens `ids` as an answer: the text before the stop token. With `stop_loops`, an answer that ends
    in a loop below its limit was stopped there.

    Other special tokens are shown, so that the filters see a leaked marker and a think trace keeps its marks. If the
    prompt ends with the opening mark of a trace, the mark is put before the text; a trace that is cut off would have no
    mark otherwise.
    """
    stopped = ids[-1] in renderer.stop_ids
    text = renderer.tokenizer.decode(
        ids[:-1] if stopped else ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    looped = stop_loops and not stopped and len(ids) < row.limit and in_loop(ids)
    finish: Finish = "stop" if stopped else "loop" if looped else "length"
    mark = opened(str(renderer.tokenizer.decode(row.ids[-TAIL:], skip_special_tokens=False)))
    completion = Completion(row.id, f"{mark}{text}", finish, len(ids))
    if not row.tools and not renderer.thinks:
        return completion
    if renderer.thinks:
        completion = replace(completion, thinking_tokens=trace_tokens(ids, renderer, mark)[0])
    asked = str(renderer.tokenizer.decode(row.ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return in_one_form(completion, row.tools, renderer, asked)


def windows(prompts: Iterable[T], size: int = WINDOW) -> Iterator[list[T]]:
    """Yield `prompts` in their order, `size` at a time."""
    stream = iter(prompts)
    while window := list(islice(stream, size)):
        yield window


@dataclass(frozen=True)
class Group(Generic[R]):
    """Rows, longest prompts first, of which at most `places` are computed at a time. As rows end, the next ones take
    their places, so one long answer does not hold up a whole batch."""

    rows: list[R]
    places: int

    @property
    def tokens(self) -> int:
        """The most tokens that the rows can have in the end, padding included."""
        return len(self.rows) * (max(len(row.ids) for row in self.rows) + max(row.limit for row in self.rows))

    def halves(self) -> tuple[Group[R], Group[R]]:
        """Half of the rows each, at half of the places."""
        middle, places = (len(self.rows) + 1) // 2, (self.places + 1) // 2
        return Group(self.rows[:middle], places), Group(self.rows[middle:], places)


def batches(rows: Sequence[R], budget: int) -> Iterator[list[R]]:
    """Yield `rows`, sorted by the length of their prompts, in batches of at most `budget` tokens and at least one row.
    Padding and room for the answers count as tokens. The order is that of `_in_turn`."""
    return (group.rows for group in _in_turn([Group(batch, len(batch)) for batch in _by_length(rows, budget)]))


def groups(rows: Sequence[R], budget: int, at_least: int = 2) -> Iterator[Group[R]]:
    """Yield `rows` in groups of up to four batches, with places for as many rows as fit under the budget. There are
    `at_least` so many groups, if there are as many batches, to be computed side by side. From the rows of one group
    alone, with `at_least` 1, the same group is formed again."""
    formed = list(_by_length(rows, budget))
    size = max(1, min(BATCHES, len(formed) // at_least))
    joined = [list(chain.from_iterable(formed[start : start + size])) for start in range(0, len(formed), size)]
    most = [max(len(row.ids) + row.limit for row in part) for part in joined]
    return _in_turn([Group(part, max(1, budget // tokens)) for part, tokens in zip(joined, most, strict=True)])


def _in_turn(formed: Iterable[Group[R]]) -> Iterator[Group[R]]:
    """Yield the groups, given longest first, in the order in which they are computed.

    The longest comes first, so that a lack of memory shows at once. After it, long and short ones alternate so that the
    cost per row stays near the average, and the time left can be estimated.
    """
    left = deque(formed)
    average = sum(group.tokens for group in left) / max(sum(len(group.rows) for group in left), 1)
    ahead = 0.0  # tokens computed so far, minus the average cost of the same number of rows
    while left:
        group = left.popleft() if ahead <= 0 else left.pop()
        ahead += group.tokens - average * len(group.rows)
        yield group


def _by_length(rows: Sequence[R], budget: int) -> Iterator[list[R]]:
    """Yield the batches, longest prompts first."""
    batch: list[R] = []
    longest = room = 0
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        longest, room = max(longest, len(row.ids)), max(room, row.limit)
        if batch and (longest + room) * (len(batch) + 1) > budget:
            yield batch
            batch, longest, room = [], len(row.ids), row.limit
        batch.append(row)
    if batch:
        yield batch
