"""Grade answers with a judge model: ask the questions that have no saved reply, then read the replies. Grading again
needs no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..demo import SEEDS
from ..generation.resume import LazyBackend, complete
from ..grading.endings import ending
from ..grading.judged import Judging
from ..grading.traces import answer_of
from ..recipe import JudgeConfig, ModelConfig, Sampling
from ..store.rows import RowFile
from ..tasks import Task
from ..types import Completion, Example, Grade, Messages, Prompt, Report, content_id, messages_json
from .scores import NO_ANSWER, GradeRow, bucket, grade_row, no_final_answer

# For a server's model without a local tokenizer. English text has about four characters per token.
_CHARACTERS_PER_TOKEN = 4


def judge(
    task: Task,
    items: Iterable[Example],
    answers: RowFile,
    others: RowFile | None,
    backend: LazyBackend,
    sampling: Sampling,
    rows: RowFile,
    identity: str,
    progress: Report,
) -> int:
    """Append to `rows` the judge's reply to each question about `answers` that has no reply yet. Returns the number of
    transient failures.

    `others` has the seed's answers if the task compares with them. A question's id is a digest of its content and
    `identity` (the judge's model and settings), so that no question is asked twice across arms and items.
    """
    judging = _judging(task)
    prompts: dict[str, Prompt] = {}
    for item in items:
        case = _case(judging, item, answers, others)
        if case.grade is None:
            prompts.update((prompt.id, prompt) for prompt in _questions(judging, case, identity))
    # The file may also have replies about answers of an earlier training of the arm.
    missing = sum(name not in rows for name in prompts)
    return complete(prompts.values(), len(rows) + missing, backend, sampling, rows, progress)


def graded(
    task: Task, items: Iterable[Example], answers: RowFile, others: RowFile | None, rows: RowFile, identity: str
) -> Iterator[GradeRow]:
    """One row per item, in the form of `scores.grade`. A comparison with another answer adds `lengths`, the characters
    of both answers. An answer without a readable reply by the judge is unjudged, so it does not count."""
    judging = _judging(task)
    for item in items:
        case = _case(judging, item, answers, others)
        grade = case.grade
        if grade is None:
            grade = _read(judging, [rows.get(prompt.id) for prompt in _questions(judging, case, identity)])
        row = grade_row(item.id, bucket(case.answer, grade), grade, [ending(case.answer)])
        if judging.against != "nothing" and case.text is not None and case.other is not None:
            row["lengths"] = [len(case.text), len(case.other)]
        yield row


@dataclass(frozen=True)
class _Case:
    """A reply, the answer in it, the answer to compare with (each None if there is none), and the grade if no judge is
    needed."""

    item: Example
    answer: Completion
    text: str | None
    other: str | None
    grade: Grade | None


def _case(judging: Judging, item: Example, answers: RowFile, others: RowFile | None) -> _Case:
    answer = _completion(answers, item.id)
    text = answer_of(answer)
    other: str | None = item.reference if judging.against == "reference" else ""
    if judging.against == "seed":
        assert others is not None, "the seed's answers are needed"
        other = answer_of(_completion(others, item.id))
    grade = None
    if answer.finish == "error":
        grade = Grade("unjudged", f"backend error: {answer.error}")
    elif other is None:
        grade = Grade("unjudged", "the other answer is missing")
    elif text is None:
        grade = no_final_answer()
    elif judging.against != "nothing" and text == other:
        grade = Grade("fail", "tie", found="the same text", value=0.5)
    return _Case(item, answer, text, other, grade)


def _completion(rows: RowFile, item_id: str) -> Completion:
    row = rows.get(item_id)
    return Completion.from_json(row) if row else Completion.failed(item_id, NO_ANSWER)


def _questions(judging: Judging, case: _Case, identity: str) -> list[Prompt]:
    return [
        Prompt(content_id(identity, messages_json(question)), question)
        for question in judging.ask(case.item, case.text or "", case.other or "")
    ]


def _read(judging: Judging, saved: Sequence[dict[str, Any] | None]) -> Grade:
    """The grade from the replies on file, without think traces. A reply that was cut off is not read, because it may be
    part of an unmarked think trace."""
    texts = []
    for row in saved:
        if row is None:
            return Grade("unjudged", "the judge was not asked")
        reply = Completion.from_json(row)
        if reply.finish == "error":
            return Grade("unjudged", "the judge failed", found=reply.error)
        text = answer_of(reply)
        if text is None:
            return Grade("unjudged", "the judge's reply ends inside its think trace", found=reply.text[-200:])
        if reply.cut_off:
            return Grade("unjudged", "the judge's reply was cut off", found=reply.text[-200:])
        texts.append(text)
    return judging.read(texts)


def _judging(task: Task) -> Judging:
    assert task.judge is not None, f"the task {task.name} is not graded by a judge"
    return task.judge


@dataclass(frozen=True)
class CostEstimate:
    """The cost of `calls` questions: prompt tokens, the most reply tokens, and the most dollars (None without prices in
    the recipe). `counted` says how tokens were counted."""

    calls: int
    input_tokens: int
    output_tokens: int
    dollars: float | None
    counted: str


def judge_cost(
    config: JudgeConfig, questions: Sequence[Messages], total: int, count_tokens: Callable[[Messages], int] | None
) -> CostEstimate:
    """The estimated cost of `total` questions, from the sample `questions`. Without `count_tokens`, a
    token is counted per four characters."""
    count = count_tokens or (lambda question: -(-sum(len(m.content) for m in question) // _CHARACTERS_PER_TOKEN))
    sampled = sum(map(count, questions))
    inputs = round(sampled / len(questions) * total) if questions else 0
    outputs = total * config.sampling.max_new_tokens
    dollars = None
    if config.input_price is not None and config.output_price is not None:
        dollars = (inputs * config.input_price + outputs * config.output_price) / 1e6
    counted = "by the judge's tokenizer" if count_tokens else f"as {_CHARACTERS_PER_TOKEN} characters each"
    return CostEstimate(total, inputs, outputs, dollars, counted)


def token_counter(model: ModelConfig) -> Callable[[Messages], int] | None:
    """A counter with the judge's own tokenizer, or None if the tokenizer is not in a local folder."""
    from ..models.loading import load_renderer

    if model.path not in SEEDS and not Path(model.path).is_dir():
        return None
    renderer = load_renderer(model)
    return lambda messages: len(renderer.ids(messages))
