"""The method: the seed model rewrites each response (eq. 3), and a rewrite that passes its check replaces it (eq. 4).

Read this first. `prompts.py` holds the rewriting templates, `grading/` the graders and filters, and `resume.py` asks a
backend for the completions that a file lacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from ..backends import Backend
from ..errors import StageError
from ..grading import Grader, verify
from ..grading.guided_traces import state_fault, trace_fault
from ..grading.leaks import template_headings
from ..grading.trace_states import trace_state
from ..grading.traces import split
from ..recipe import Filters, Sampling
from ..store.rows import RowFile
from ..types import (
    Completion,
    Example,
    Grade,
    Messages,
    Prompt,
    Report,
    Rewrite,
    Thought,
    content_id,
    messages_json,
)
from .prompts import RewritingTemplate, rewriting_messages
from .resume import LazyBackend, complete, sample_id


class Untrainable(Protocol):
    """Returns why a response to a prompt can't be trained without loss, None if it can: `Renderer.untrainable`."""

    def __call__(self, prompt: Messages, response: str, thought: Thought | None = None, /) -> str | None: ...


@dataclass(frozen=True)
class Rewriter:
    """How responses are rewritten, and which rewrites are kept.

    With no `template` the seed answers the prompt alone and does not see the reference. `sample` numbers the draws if
    there are several per example. Prompt ids depend on the messages, `model` (any text that identifies the seed),
    `sampling` and `sample`; sampling is seeded by the id.

    If the seed `thinks`, its answer is verified without the think trace, and the trace by a filter of its own. With
    `must_be_checked`, an answer passes only if the grader compared it with the reference.
    """

    template: RewritingTemplate | None
    grade: Grader
    sampling: Sampling
    filters: Filters = field(default_factory=Filters)
    model: str = ""
    sample: int = 0
    thinks: bool = False
    must_be_checked: bool = False

    def rewrite(
        self, examples: Iterable[Example], backend: Backend, untrainable: Untrainable | None = None
    ) -> list[Rewrite]:
        """Return a verified rewrite per example, in order; `Rewrite.response` is the text to train on.

        Everything is kept in memory. `generate` and `select` are the two halves of this function for files.
        """
        examples = list(examples)
        prompts = {prompt.id: prompt for prompt in map(self.prompt, examples)}
        completions = {completion.id: completion for completion in backend.generate(prompts.values(), self.sampling)}
        return [self.verify(example, completions[self.prompt(example).id], untrainable) for example in examples]

    def prompt(self, example: Example) -> Prompt:
        """The prompt that the seed sees: c, x and y of eq. 3, the instruction with the original response. A seed that
        thinks gets no prefill, because its turn starts with the trace."""
        template = replace(self.template, prefill=None) if self.template and self.thinks else self.template
        messages = rewriting_messages(template, example) if template else example.prompt
        own_id = content_id(messages_json(messages), self.model, self._sampling)
        return Prompt(sample_id(own_id, self.sample), messages)

    def verify(self, example: Example, completion: Completion, untrainable: Untrainable | None = None) -> Rewrite:
        """ỹ' of one example (eq. 4): the completion with its grade. A text that is `untrainable` fails. If the seed
        thinks, the completion's text is the answer alone."""
        state = trace_state(completion) if self.thinks else None
        if state in ("truncated", "unclosed"):
            return Rewrite(example, completion, Grade("fail", str(state_fault(state))))
        if state is not None:
            found = split(completion.text)
            whole = completion.raw or completion.text
            completion = replace(completion, text=found.answer or "", reasoning=found.reasoning, raw=whole)
        grade = verify(example, completion, self.filters, self.grade, self._headings)
        if grade.passed and untrainable and (reason := untrainable(example.prompt, completion.text)):
            grade = Grade("fail", reason)
        if grade.passed and self.must_be_checked and not grade.checked:
            grade = Grade("fail", "nothing to compare with the reference")
        fault = None
        if state is not None and grade.passed:
            fault = state_fault(state) or self._trace_fault(example, completion, untrainable)
        return Rewrite(example, completion, grade, fault)

    def _trace_fault(self, example: Example, completion: Completion, untrainable: Untrainable | None) -> str | None:
        trace = completion.reasoning
        if reason := trace_fault(trace, example, self.filters, self._headings, guided=self.template is not None):
            return reason
        return untrainable(example.prompt, completion.text, Thought(trace)) if untrainable else None

    def generate(
        self,
        examples: Iterable[Example],
        total: int,
        backend: LazyBackend,
        rows: RowFile,
        progress: Report,
    ) -> int:
        """Append to `rows` ỹ ~ f_θ(· | c, x, y) of each of the `total` different examples, unless it is there already.

        Returns the number of transient failures. Raises StageError as `complete` does.
        """
        return complete(map(self.prompt, examples), total, backend, self.sampling, rows, progress)

    def select(
        self, examples: Iterable[Example], rows: RowFile, untrainable: Untrainable | None = None
    ) -> Iterator[Rewrite]:
        """Verify the completion in `rows` of each example. Raises StageError if one is missing."""
        for example in examples:
            row = rows.get(self.prompt(example).id)
            if row is None:
                raise StageError(f"{rows.path} lacks the completion of {example.id}; run `selfdistill rewrite` again.")
            yield self.verify(example, Completion.from_json(row), untrainable)

    @cached_property
    def _sampling(self) -> dict[str, Any]:
        return self.sampling.model_dump()

    @cached_property
    def _headings(self) -> frozenset[str]:
        return template_headings(self.template.user) if self.template else frozenset()


class Acceptance:
    """Counts rewrites by the reason of their grade. Look at these counts first: an example whose rewrite was rejected
    is trained on its original response. Rewrites that were kept without a check of their content are counted apart."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.accepted = self.unchecked = 0
        self.traces = 0
        self.trace_faults: Counter[str] = Counter()

    def add(self, grade: Grade) -> None:
        if not grade.passed:
            self.reasons[grade.reason] += 1
        elif grade.checked:
            self.accepted += 1
        else:
            self.unchecked += 1

    def count(self, rewrites: Iterable[Rewrite]) -> Iterator[Rewrite]:
        for rewrite in rewrites:
            self.add(rewrite.grade)
            if rewrite.grade.passed and rewrite.trace_fault:
                self.trace_faults[rewrite.trace_fault] += 1
            elif rewrite.grade.passed and rewrite.completion.reasoning:
                self.traces += 1
            yield rewrite

    def to_json(self) -> dict[str, Any]:
        """`rate` is the share of the rows whose rewrite is trained on: accepted, or kept unchecked. `traces` counts the
        think traces next to these rewrites that can be trained on, and the reasons why the others can't."""
        kept = self.accepted + self.unchecked
        rows = kept + self.reasons.total()
        counts: dict[str, Any] = {
            "rows": rows,
            "accepted": self.accepted,
            "unchecked": self.unchecked,
            "rate": kept / rows if rows else None,
            "reasons": dict(self.reasons.most_common()),
        }
        if self.traces or self.trace_faults:
            counts["traces"] = {"usable": self.traces, "faults": dict(self.trace_faults.most_common())}
        return counts
