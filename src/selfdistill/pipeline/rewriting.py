"""An experiment's data, what the seed answers to it, and the answers that arms train on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends import open_backend
from ..backends.cache import EngineCache
from ..data import data_notes, iter_conversations, prepare
from ..errors import ModelError, StageError
from ..generation.resume import LazyBackend, forget_transient
from ..generation.rewriter import Acceptance
from ..measure.likelihood import score_missing
from ..models.loading import load_renderer
from ..recipe import ArmConfig
from ..store.experiment import Experiment, Stage
from ..store.rows import RowFile, first_occurrences, read_lines, write_lines
from ..types import Example, Progress, Rewrite, content_id
from .choose import beside, best, cascade, to_score
from .plan import Plan
from .plan.responses import Candidates

_log = logging.getLogger(__name__)


def prepare_data(experiment: Experiment, plan: Plan, progress: Progress) -> None:
    stage = plan.data_stage
    if experiment.finished(stage):
        return
    with experiment.run_stage(stage) as run:
        progress("data", 0, 0)
        run.counts = prepare(plan.source, experiment.path("data"), plan.target.load, progress).to_json()
    for note in data_notes(experiment.counts(stage.name), str(experiment.path("data", "bad_rows.jsonl"))):
        _log.warning("%s", note)


def rewrite_data(experiment: Experiment, plan: Plan, progress: Progress, wanted: bool = False) -> dict[str, Any]:
    """Rewriting, verification, and the stop where too little is accepted; then what else arms choose from. Gives the
    acceptance. Exact duplicates are rewritten once."""
    prepare_data(experiment, plan, progress)
    sets = [plan.responses.rewrites()] if wanted or plan.needs_rewrites else []
    sets += [candidates for arm in plan.responses.chosen for candidates in plan.responses.candidates(arm)]
    with EngineCache([(plan.recipe.model, None)]) as cache:
        made = {each.generating.name: make_candidates(experiment, each, progress, cache) for each in _different(sets)}
    for arm in plan.responses.chosen:
        _choose(experiment, plan, arm, progress)
    return made.get(plan.rewrite_stage.name, {})


def _different(sets: list[Candidates]) -> Iterable[Candidates]:
    """Arms share the sets that they choose from."""
    return {each.generating.name: each for each in sets}.values()


def make_candidates(
    experiment: Experiment, candidates: Candidates, progress: Progress, cache: EngineCache | None = None
) -> dict[str, Any]:
    """One answer of the seed to each example, verified. Gives the acceptance; raises StageError where fewer rewrites
    than `min_accepted` pass."""
    generating, verifying = candidates.generating, candidates.verifying
    generated = experiment.finished(generating) and not _ask_again(experiment, generating)
    if not (generated and experiment.finished(verifying)):
        first = first_occurrences(example.id for example in _examples(experiment))
        if not generated:
            with experiment.run_stage(generating) as run:
                run.counts = _generate(experiment, candidates, first, progress, cache)
        with experiment.run_stage(verifying) as run:
            run.counts = _verify(experiment, candidates, first, progress)
    counts = experiment.counts(verifying.name)
    least = candidates.plan.recipe.rewrite.min_accepted
    if counts["rate"] < least and candidates.template is not None and candidates.sample == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts["reasons"].items())
        raise StageError(
            f"Only {counts['accepted']} of {counts['rows']} rewrites were accepted ({reasons}), less than "
            f"rewrite.min_accepted = {least:g}, so SDFT would train on the originals. "
            f"Look at {experiment.path(verifying.output)}; try another grader here, another template or "
            "model in a new directory, or lower rewrite.min_accepted."
        )
    return counts


def _ask_again(experiment: Experiment, generating: Stage) -> bool:
    """Whether prompts that failed for the engine's sake are asked again: until an arm is trained on what there is."""
    trained = any(name.startswith("train/") for name in experiment.manifest["stages"])
    return experiment.to_retry(generating) and not trained


def _generate(
    experiment: Experiment,
    candidates: Candidates,
    first: npt.NDArray[np.bool_],
    progress: Progress,
    cache: EngineCache | None,
) -> dict[str, Any]:
    """Asks once where several examples make one prompt, as they do where no reference is shown."""
    if candidates.template is None:
        first = first_occurrences(candidates.rewriter.prompt(example).id for example in _examples(experiment))
    forget_transient(experiment.path(candidates.generating.output))
    opener = partial(open_backend, candidates.plan.recipe.rewrite.backend, candidates.model, cache=cache)
    with LazyBackend(opener) as backend, _completions(experiment, candidates) as rows:
        told = partial(progress, candidates.generating.name)
        transient = candidates.rewriter.generate(_those(experiment, first), int(first.sum()), backend, rows, told)
        return {"rows": int(first.sum()), "transient": transient, **backend.counts}


def _verify(
    experiment: Experiment, candidates: Candidates, first: npt.NDArray[np.bool_], progress: Progress
) -> dict[str, Any]:
    acceptance, untrainable = Acceptance(), _untrainable(candidates.plan)
    with _completions(experiment, candidates, reading=True) as rows:
        selected = acceptance.count(candidates.rewriter.select(_those(experiment, first), rows, untrainable))
        shown = _counted(selected, int(first.sum()), partial(progress, candidates.verifying.name))
        written = (_named(rewrite, candidates.source) for rewrite in shown)
        write_lines(experiment.path(candidates.verifying.output), written)
    return {**acceptance.to_json(), "duplicates": len(first) - int(first.sum())}


def _untrainable(plan: Plan) -> Callable[[str], str | None] | None:
    """Tells why a rewrite can't be trained; None without a tokenizer, as a server may have the model alone."""
    try:
        return load_renderer(plan.recipe.model).untrainable
    except ModelError:
        return None


def _named(rewrite: Rewrite, source: str) -> dict[str, Any]:
    row = rewrite.to_json()
    return {**row, "source": source} if rewrite.grade.passed else row


def _completions(experiment: Experiment, candidates: Candidates, reading: bool = False) -> RowFile:
    return RowFile(experiment.path(candidates.generating.output), reading)


def _examples(experiment: Experiment) -> Iterator[Example]:
    for conversation in iter_conversations(experiment.path("data", "train.jsonl")):
        yield from conversation.examples()


def _those(experiment: Experiment, wanted: npt.NDArray[np.bool_]) -> Iterator[Example]:
    return compress(_examples(experiment), wanted)


def _counted(rows: Iterable[Rewrite], total: int, progress: Callable[[int, int], None]) -> Iterator[Rewrite]:
    for done, row in enumerate(rows):
        progress(done, total)
        yield row
    progress(total, total)


def _choose(experiment: Experiment, plan: Plan, arm: ArmConfig, progress: Progress) -> None:
    """Of each example's several candidates the one to train on, where an arm chooses among several."""
    stage, sets = plan.responses.choices_stage(arm), plan.responses.candidates(arm)
    if stage is None or len(sets) < 2 or experiment.finished(stage):
        return
    sources: Counter[str] = Counter()
    samples: Counter[str] = Counter()
    with experiment.run_stage(stage) as run, ExitStack() as stack:
        files = [stack.enter_context(RowFile(experiment.path(each.verifying.output), reading=True)) for each in sets]
        choose: Callable[[Sequence[dict[str, Any]]], dict[str, Any]] = cascade
        if arm.best_of:
            scores = experiment.path(*stage.by_row)
            choose = _best(plan, files, scores, partial(progress, stage.name), stack)

        def chosen() -> Iterator[dict[str, Any]]:
            for row in map(choose, _rows(files)):
                sources[row["source"]] += 1
                if "sample" in row:
                    samples[str(row["sample"])] += 1
                yield row

        write_lines(experiment.path(stage.output), chosen())
        run.counts = {"rows": sources.total(), "sources": dict(sources.most_common())}
        if arm.best_of:
            run.counts["samples"] = dict(sorted(samples.items()))


def _rows(files: Sequence[RowFile]) -> Iterator[list[dict[str, Any]]]:
    return beside(files, (row["id"] for row in read_lines(files[0].path)))


def _best(
    plan: Plan, files: Sequence[RowFile], path: Path, progress: Callable[[int, int], None], stack: ExitStack
) -> Callable[[Sequence[dict[str, Any]]], dict[str, Any]]:
    """The choice of the likeliest, after what it needs is scored. Scores are on file, in `path`, by content."""
    model = content_id(plan.responses.scoring_settings)

    def examples() -> Iterator[Example]:
        return (example for rows in _rows(files) for example in to_score(rows, model))

    with RowFile(path) as scores:
        score_missing(examples, plan.recipe.model, scores, progress, deciding=True)
    return partial(best, scores=stack.enter_context(RowFile(path, reading=True)), model=model)


__all__ = ["make_candidates", "prepare_data", "rewrite_data"]
