"""The method: the seed model rewrites each response (eq. 3), and a rewrite that passes its check replaces it (eq. 4).

Read this first. `prompts.py` holds the rewriting templates, `grading/` the checks, `stages/` what happens around it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import StageError
from ..grading import verify
from ..grading.leaks import template_headings
from ..recipe import Filters, Sampling
from ..store.rows import RowFile
from ..types import Completion, Example, Grade, Prompt, Rewrite, content_id, messages_json
from .prompts import RewritingTemplate, rewriting_messages
from .resume import LazyBackend, complete, sample_id

Grader = Callable[[Example, str], Grade]


@dataclass(frozen=True)
class Rewriter:
    """How responses are rewritten and which rewrites are kept. `model` is the model's identity: completions are keyed
    by the content of prompt, model and sampling. With no `template` the seed answers the prompt alone, without the
    reference; `sample` counts the draws where several are made of each."""

    template: RewritingTemplate | None
    grade: Grader
    sampling: Sampling
    filters: Filters
    model: str
    sample: int = 0

    def prompt(self, example: Example) -> Prompt:
        """What the seed model is shown: instruction and original response, c, x and y of eq. 3."""
        messages = rewriting_messages(self.template, example) if self.template else example.prompt
        own_id = content_id(messages_json(messages), self.model, self._sampling)
        return Prompt(sample_id(own_id, self.sample), messages)

    @cached_property
    def _sampling(self) -> dict[str, Any]:
        return self.sampling.model_dump(exclude={"preset"})

    @cached_property
    def _headings(self) -> frozenset[str]:
        return template_headings(self.template.user) if self.template else frozenset()

    def generate(
        self,
        examples: Iterable[Example],
        total: int,
        backend: LazyBackend,
        rows: RowFile,
        progress: Callable[[int, int], None],
    ) -> int:
        """ỹ ~ f_θ(· | c, x, y) for each of the `total` different examples whose completion isn't in `rows` yet; gives
        the number of transient failures."""
        return complete(map(self.prompt, examples), total, backend, self.sampling, rows, progress)

    def select(
        self, examples: Iterable[Example], rows: RowFile, untrainable: Callable[[str], str | None] | None = None
    ) -> Iterator[Rewrite]:
        """ỹ' of each example (eq. 4): the rewrite with its grade; `Rewrite.response` falls back to the original.

        `untrainable` returns why a text can't be trained without loss (see `Renderer`): such a rewrite fails.
        """
        for example in examples:
            row = rows.get(self.prompt(example).id)
            if row is None:
                raise StageError(f"{rows.path} lacks the completion of {example.id}; run `selfdistill rewrite` again.")
            completion = Completion.from_json(row)
            grade = verify(example, completion, self.filters, self.grade, self._headings)
            if grade.passed and untrainable and (reason := untrainable(completion.text)):
                grade = Grade("fail", reason)
            yield Rewrite(example, completion, grade)


class Acceptance:
    """Counts rewrites by the reason of their grade: the first figure to look at, as what isn't accepted is trained
    on as it was."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.accepted = 0

    def count(self, rewrites: Iterable[Rewrite]) -> Iterator[Rewrite]:
        for rewrite in rewrites:
            self.accepted += rewrite.grade.passed
            if not rewrite.grade.passed:
                self.reasons[rewrite.grade.reason] += 1
            yield rewrite

    def to_json(self) -> dict[str, Any]:
        rows = self.accepted + self.reasons.total()
        return {
            "rows": rows,
            "accepted": self.accepted,
            "rate": self.accepted / rows if rows else None,
            "reasons": dict(self.reasons.most_common()),
        }
