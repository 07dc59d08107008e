"""Step 3, choosing: the response to train on, for arms that choose among several answers of the seed.

Reads the rewrites.jsonl of each answer set, and rewrite/marks.jsonl if rows were marked by hand (see `by_hand`). Writes
rewrite/cascade.jsonl, or rewrite/best-N.jsonl with the scores that it needs, or rewrite/marked-rewrites.jsonl.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ExperimentError, StageError
from ..measure.gap import responses
from ..measure.likelihood import score_missing
from ..recipe import ArmConfig
from ..store.experiment import Experiment
from ..store.marks import marks_id
from ..store.rows import RowFile, read_lines, write_lines
from ..store.stage import Stage
from ..types import Example, Grade, Progress, Report, Rewrite, content_id
from .by_hand import AnswerRow, ByHand, marks_for
from .context import Context
from .reasoning import decided
from .rewrite import answer_sets, needs_rewrites
from .verify import verify_settings

_log = logging.getLogger(__name__)
_REWRITES = ArmConfig(data="rewrites", reasoning="mask")  # think traces stay as they were answered


def choice_stage(context: Context, arm: ArmConfig) -> Stage | None:
    """The stage that writes the response to train on for each example; None if the arm trains on originals alone. With
    `reasoning: own` it also decides about the think traces."""
    sets, own, marks = answer_sets(context, arm), decided(context, arm) == "own", marks_for(context, arm)
    inputs = tuple(answers.verifying for answers in sets)
    if len(sets) < 2 and not (sets and own) and not marks:
        return inputs[0] if inputs else None
    how = f"best-{arm.best_of}" if arm.best_of else "cascade" if len(sets) > 1 else "rewrites"
    parts = ["marked" if marks else "", "traces" if own else "", how if sets[-1].kind != "self" else "", sets[-1].kind]
    name = "-".join(filter(None, parts))
    # The settings of the inputs are repeated here, so that an error about a change can name them.
    settings = {**verify_settings(context), **(_scoring_settings(context, arm) if arm.best_of else {})}
    settings |= {"marks": marks_id(marks)} if marks else {}
    output, scores = f"rewrite/{name}.jsonl", (f"rewrite/{name}-likelihoods.jsonl",) if arm.best_of else ()
    return Stage(f"choose/{name}", output, settings, inputs, on_change="rerun", other_outputs=scores, row_files=scores)


def marked_stage(context: Context) -> Stage | None:
    """The stage that writes the recipe's rewrites with the marks applied, whatever the arms choose among; None without
    marks."""
    return choice_stage(context, _REWRITES) if context.marks and needs_rewrites(context) else None


def _choosing(context: Context) -> list[ArmConfig]:
    """The arms, and one that stands for the recipe's rewrites if rows are marked."""
    return [*context.recipe.arms.values(), *([_REWRITES] if marked_stage(context) else [])]


def choice_stages(context: Context) -> list[Stage]:
    stages = (choice_stage(context, arm) for arm in _choosing(context))
    chosen = (stage for stage in stages if stage and stage.name.startswith("choose/"))
    return list({(stage.name, stage.fingerprint): stage for stage in chosen}.values())


def _scoring_settings(context: Context, arm: ArmConfig) -> dict[str, Any]:
    """The settings that the likelihoods of `best_of` depend on."""
    return context.model_settings(context.model_of(arm), "choose")


def choose_responses(experiment: Experiment, context: Context, progress: Progress) -> None:
    for arm in _choosing(context):
        _choose(experiment, context, arm, progress)


def _choose(experiment: Experiment, context: Context, arm: ArmConfig, progress: Progress) -> None:
    stage, sets, own = choice_stage(context, arm), answer_sets(context, arm), decided(context, arm) == "own"
    if stage is None or not stage.name.startswith("choose/"):
        return
    if not experiment.finished(stage):
        _write_choices(experiment, context, arm, stage, progress)
    if own and any(answers.source == "rewrite" for answers in sets):
        _check_share(experiment, context, stage)


def _check_share(experiment: Experiment, context: Context, stage: Stage) -> None:
    """Raises StageError if fewer than `min_accepted` of the rows train on an answer of the seed."""
    least, counts = context.recipe.rewrite.min_accepted, experiment.counts(stage.name)
    kept = counts["rows"] - counts["sources"].get("original", 0)
    if counts["rows"] and kept / counts["rows"] < least:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts["reasons"].items())
        raise StageError(
            f"Only {kept} of {counts['rows']} rows have an answer of the seed with a think trace to train on "
            f"({reasons}), less than rewrite.min_accepted = {least:g}, so SDFT would train on the originals. Look at "
            f"{experiment.path(stage.output)}; set the arm's reasoning to mask, which trains on no traces, try another "
            "grader here, another template or model in a new directory, or lower rewrite.min_accepted."
        )


def _write_choices(experiment: Experiment, context: Context, arm: ArmConfig, stage: Stage, progress: Progress) -> None:
    sets, own = answer_sets(context, arm), decided(context, arm) == "own"
    by_hand = ByHand(experiment, context, arm)
    sources: Counter[str] = Counter()
    samples: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    with experiment.run_stage(stage) as run, ExitStack() as stack:
        paths = [experiment.path(answers.verifying.output) for answers in sets]
        files = [stack.enter_context(RowFile(path, reading=True)) for path in paths]
        choose: Callable[[Sequence[AnswerRow]], AnswerRow] = cascade
        if arm.best_of:
            scores = experiment.path(*stage.row_files)
            choose = _best(context, arm, lambda: _rows(files, by_hand), scores, partial(progress, stage.name), stack)

        def chosen() -> Iterator[AnswerRow]:
            for rows in _rows(files, by_hand):
                row = by_hand.decide(choose([with_trace_checked(row) for row in rows] if own else rows))
                sources[row["source"]] += 1
                if row["source"] == "original":
                    faults[row["grade"]["reason"]] += 1
                if "sample" in row:
                    samples[str(row["sample"])] += 1
                yield row

        write_lines(experiment.path(stage.output), chosen())
        run.counts = {"rows": sources.total(), "sources": dict(sources.most_common())}
        if own:
            run.counts["reasons"] = dict(faults.most_common())
        if by_hand.marks:
            run.counts["by_hand"] = dict(by_hand.counts)
            _log.warning("%s.", by_hand.sentence)
        if arm.best_of:
            run.counts["samples"] = dict(sorted(samples.items()))


def _rows(files: Sequence[RowFile], by_hand: ByHand) -> Iterator[list[AnswerRow]]:
    """The rows of each example, one per file, with rewrites accepted that are marked good. Raises ExperimentError if a
    file lacks a row."""
    for example_id in (row["id"] for row in read_lines(files[0].path)):
        rows = []
        for file in files:
            row = file.get(example_id)
            if row is None:
                raise ExperimentError(f"{file.path} lacks the row {example_id}; delete it and run again.")
            rows.append(row)
        yield by_hand.accept(rows)


def _best(
    context: Context,
    arm: ArmConfig,
    read: Callable[[], Iterator[list[AnswerRow]]],
    path: Path,
    progress: Report,
    stack: ExitStack,
) -> Callable[[Sequence[AnswerRow]], AnswerRow]:
    """Scores the answers that have no score in `path` yet. Returns a function that chooses the likeliest."""
    model = content_id(_scoring_settings(context, arm))

    def examples() -> Iterator[Example]:
        return (example for rows in read() for example in to_score(rows, model))

    with RowFile(path) as scores:
        score_missing(examples, context.model_of(arm), scores, progress, deciding=True)
    return partial(best, scores=stack.enter_context(RowFile(path, reading=True)), model=model)


# ---- the choice among the rows of one example


def with_trace_checked(row: AnswerRow) -> AnswerRow:
    """The row, failed if its think trace can't be trained on."""
    fault = row.get("trace_fault")
    if fault is None or row["source"] == "original":
        return row
    return {**row, "source": "original", "grade": Grade("fail", fault).to_json()}


def cascade(rows: Sequence[AnswerRow]) -> AnswerRow:
    """The first row whose answer passed, else the last row, which falls back to the original (arXiv 2509.15157)."""
    return next((row for row in rows if row["source"] != "original"), rows[-1])


def best(rows: Sequence[AnswerRow], scores: RowFile, model: str) -> AnswerRow:
    """The answer with the lowest mean nats per token in `scores` among those that passed, with `nll` and `sample`. The
    first drawn wins a tie; an answer without a score comes last."""
    passed = [(sample, row) for sample, row in enumerate(rows) if row["source"] != "original"]
    if len(passed) < 2:
        return {**passed[0][1], "sample": passed[0][0]} if passed else rows[0]
    scored = [(_nll(row, scores, model), sample, row) for sample, row in passed]
    nll, sample, row = min(scored, key=lambda found: (math.inf if found[0] is None else found[0], found[1]))
    return {**row, "sample": sample, "nll": nll}


def to_score(rows: Sequence[AnswerRow], model: str) -> list[Example]:
    """The answers that `best` chooses among, each with the id under which its score is filed."""
    passed = [row for row in rows if row["source"] != "original"]
    return [_answer(row, model) for row in passed] if len(passed) > 1 else []


def _nll(row: AnswerRow, scores: RowFile, model: str) -> float | None:
    score = scores.get(_answer(row, model).id)
    nll: float | None = score["nll"] if score else None
    return nll


def _answer(row: AnswerRow, model: str) -> Example:
    return responses(Rewrite.from_json(row), model)[-1]
