"""Asks a model through lm-eval, and saves the results as grades and a score."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

from ..errors import StageError
from ..grading.endings import ending
from ..grading.traces import split
from ..measure.scores import no_final_answer
from ..measure.stats import Z95, mean_interval
from ..measure.trace_measures import trace_row
from ..store.rows import write_lines
from ..types import Completion, Grade, Report, Score, content_id
from .benchmark import Benchmark, generates, gold
from .quiet import quiet


def evaluate(benchmark: Benchmark, lm: Any, folder: Path, progress: Report = lambda *_: None) -> Score:
    """Ask `lm` (see `open_lm`), grade the answers, and write `answers.jsonl` and `grades.jsonl` to `folder`, one row
    per item. The value and standard error are lm-eval's. The interval is value ± 1.96 standard errors. If all items
    have the same result, the standard error is zero and the interval is that of `stats.mean_interval`.

    If the model thinks, a generated answer is graded without its trace, and choices are scored after an empty think
    block, where an answer starts. Raises StageError if the model's context has no room for an answer.
    """
    lm.scores_choices = not any(map(generates, benchmark.parts.values()))
    results = _ask(benchmark, lm, progress)
    answers, grades, ends = [], [], []
    for name, part in benchmark.parts.items():
        for sample in results["samples"][name]:
            answer = _answer(benchmark, part, sample)
            answers.append({"id": content_id(name, sample["doc"]), **answer})
            grades.append(_grade(benchmark, part, sample, answer["text"]))
            ends.append(_ends(lm, part, sample, answer["text"]))
    write_lines(folder / "answers.jsonl", answers)
    buckets = [_bucket(grade) for grade in grades]
    rows = zip(answers, buckets, grades, ends, strict=True)
    lines = ({"id": a["id"], "bucket": b, "grade": grade.to_json(), **end} for a, b, grade, end in rows)
    write_lines(folder / "grades.jsonl", lines)
    details = {"few_shot": benchmark.few_shot, "cut_prompts": getattr(lm, "cut", 0)}
    return _score(benchmark, results["results"], grades, Counter(buckets), details)


def _ask(benchmark: Benchmark, lm: Any, progress: Report) -> dict[str, Any]:
    import lm_eval.evaluator

    parts = benchmark.parts.values()
    for part in parts:
        room = part.get_config("generation_kwargs").get("max_gen_toks", 0) + lm.thinking if generates(part) else 0
        if room >= lm.max_length:
            raise StageError(
                f"'{benchmark.entry.name}' asks for answers of up to {room} tokens, and the model's context holds "
                f"{lm.max_length}; set a lower max_new_tokens for this task."
            )
    with quiet(), _reported(lm, benchmark, progress):
        # lm-eval reads an empty list in `samples` as all items, so `parts` has only tasks with drawn items.
        found: dict[str, Any] = lm_eval.evaluator.evaluate(
            lm,
            {"tasks": benchmark.parts, "groups": benchmark.groups},
            samples=benchmark.drawn,
            bootstrap_iters=1,  # any number but 0: the standard errors used here have a closed form
            system_instruction=benchmark.entry.system,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
        )
    return found


@contextmanager
def _reported(lm: Any, benchmark: Benchmark, progress: Report) -> Iterator[None]:
    """Report progress through lm-eval's cache hook, which is called with each answer."""
    total = sum(
        1 if generates(part) else len(part.doc_to_choice(part.eval_docs[index]))
        for name, part in benchmark.parts.items()
        for index in benchmark.drawn[name]
    )
    done = 0

    class Hook:
        def add_partial(self, *_: Any) -> None:
            nonlocal done
            done += 1
            progress(done, total)

    before = lm.cache_hook
    lm.set_cache_hook(Hook())
    try:
        progress(0, total)
        yield
    finally:
        lm.set_cache_hook(before)


def _answer(benchmark: Benchmark, part: Any, sample: dict[str, Any]) -> dict[str, Any]:
    """Return the model's text, or the candidate that the metric prefers with the log-likelihood of each candidate."""
    if generates(part):
        return {"text": sample["resps"][0][0]}
    choices = [str(choice) for choice in part.doc_to_choice(sample["doc"])]
    sums = [float(likelihood) for likelihood, _ in sample["filtered_resps"]]
    means = [value / len(choice) for value, choice in zip(sums, choices, strict=True)]
    ranked = means if benchmark.harness.metric == "acc_norm" else sums
    best = max(range(len(choices)), key=ranked.__getitem__)
    return {"text": choices[best], "choices": choices, "log_likelihoods": sums}


def _ends(lm: Any, part: Any, sample: dict[str, Any], text: str) -> dict[str, list[Any]]:
    """Return how a generated answer ends, and what its think trace looks like if the model thinks; nothing for a
    choice."""
    if not generates(part):
        return {}
    prompt = sample["arguments"][0][0]
    reply = getattr(lm, "replies", {}).get(prompt) or _reply(lm, part, text)
    return {"ends": [ending(reply)], **({"traces": trace_row(reply)} if lm.thinks else {})}


def _reply(lm: Any, part: Any, text: str) -> Completion:
    """Return a generated answer with its end, if the model does not keep it. lm-eval does not say which answers were
    cut off, so a text is taken as cut off if it has at least 95 % as many tokens as the limit, which trace and answer
    share."""
    tokens, room = len(lm.tok_encode(text)), part.get_config("generation_kwargs").get("max_gen_toks", 0) + lm.thinking
    reply = Completion("", text, "length" if room and tokens >= 0.95 * room else "stop", tokens)
    if not lm.thinks:
        return reply
    found = split(text)
    return replace(reply, thinking_tokens=tokens if found.answer is None else len(lm.tok_encode(text[: found.end])))


def _grade(benchmark: Benchmark, part: Any, sample: dict[str, Any], text: str) -> Grade:
    """Return an item's metric as a grade. A metric between 0 and 1 (mc2) passes from 0.5 and keeps its value."""
    value = float(sample[benchmark.harness.metric])
    if generates(part):
        if split(text).answer is None:
            return no_final_answer()
        kinds = zip(sample["doc"]["instruction_id_list"], sample["inst_level_strict_acc"], strict=True)
        broken = [kind for kind, followed in kinds if not followed]
        reason = f"breaks {broken[0]}" if broken else "follows all instructions"
        return Grade("fail" if broken else "pass", reason)
    right = str(part.doc_to_choice(sample["doc"])[gold(part, sample["doc"])])
    if any(math.isnan(likelihood) for likelihood, _ in sample["filtered_resps"]):  # argmax would take the first
        return Grade("unjudged", "the model's likelihoods are not numbers", right, text)
    if math.isnan(value):  # mc2, if the probability of every candidate is 0 in floating point
        return Grade("unjudged", "probabilities underflow", right, text)
    if benchmark.harness.task == "truthfulqa_mc2":
        if value >= 0.5:
            return Grade("pass", "true answers likelier", right, text, value)
        return Grade("fail", "false answers likelier", right, text, value)
    return Grade("pass", "right choice", right, text) if value else Grade("fail", "wrong choice", right, text)


def _bucket(grade: Grade) -> str:
    if grade == no_final_answer():
        return "unanswered"
    return {"pass": "passed", "fail": "failed", "unjudged": "unjudged"}[grade.outcome]


def _score(
    benchmark: Benchmark,
    results: dict[str, Any],
    grades: Sequence[Grade],
    buckets: Counter[str],
    details: dict[str, float],
) -> Score:
    """Return lm-eval's value and standard error. lm-eval has none if an item could not be judged or a subject has one
    item; then the same formulas are applied to the judged items."""
    metric = benchmark.harness.metric
    found = results[benchmark.harness.task]
    value, error = found[f"{metric},none"], found[f"{metric}_stderr,none"]
    judged = [v.passed if v.value is None else v.value for v in grades if v.outcome != "unjudged"]
    if len(judged) < len(grades):
        value = sum(judged) / len(judged) if judged else None
    if error == "N/A" or math.isnan(error):
        error = stdev(judged) / math.sqrt(len(judged)) if len(judged) > 1 else math.inf
    others = {
        key.removesuffix(",none"): float(number)
        for key, number in found.items()
        if key.endswith(",none") and "_stderr" not in key and key != f"{metric},none"
    }
    low = high = None
    interval = "none"
    if value is not None and error:
        low, high = max(0.0, float(value - Z95 * error)), min(1.0, float(value + Z95 * error))
        interval = "lm-eval standard error"
    elif value is not None:  # the same result for all items, so no standard error
        low, high, interval = mean_interval([dict(enumerate(map(float, judged)))])
    return Score(
        task=benchmark.entry.name,
        metric=benchmark.metric,
        value=None if value is None else float(value),
        low=low,
        high=high,
        n=len(grades),
        **{name: buckets[name] for name in ("passed", "failed", "unjudged", "unanswered")},
        interval=interval,
        reasons=dict(Counter(v.reason for v in grades if not v.passed).most_common()),
        details={**details, **others, **({"stderr": float(error)} if math.isfinite(error) else {})},
    )
