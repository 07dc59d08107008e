"""The gap before training: of an experiment's rewrites, and of a dataset as it is."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory

from ..backends.hf import HFBackend
from ..data import iter_conversations, prepare
from ..measure.gap import OFF_DISTRIBUTION, DatasetGap, Distribution, Gap, gap_rows, responses
from ..measure.likelihood import Scored, score, score_missing
from ..models.loading import pick_device, pick_dtype
from ..recipe import Recipe, make_recipe
from ..store.experiment import Experiment
from ..store.rows import RowFile, first_occurrences, read_lines, write_lines
from ..tasks import TASKS
from ..types import Example, Progress, Rewrite, content_id, silent
from .check.templates import check_templates
from .plan import Plan


def measure_gap(experiment: Experiment, plan: Plan, progress: Progress) -> None:
    """Scores originals and accepted rewrites under the seed model in one pass. Scores are on file by content, so that
    after another verification only what is new is scored."""
    stage = plan.gap_stage
    if stage is None or experiment.finished(stage) or not experiment.finished(plan.verify_stage):
        return
    seed = plan.recipe.model
    dtype = str(pick_dtype(seed.dtype, pick_device(seed.device))).removeprefix("torch.")
    model = content_id(plan.answer_settings | {"dtype": dtype})

    def rewrites() -> Iterator[Rewrite]:
        return map(Rewrite.from_json, read_lines(experiment.path(plan.verify_stage.output)))

    def examples() -> Iterator[Example]:
        return (example for rewrite in rewrites() for example in responses(rewrite, model))

    path = experiment.path(*stage.by_row)
    with experiment.run_stage(stage) as run:
        with RowFile(path) as rows:
            score_missing(examples, seed, rows, partial(progress, "gap"))
        gap = Gap()
        with RowFile(path, reading=True) as rows:
            write_lines(experiment.path(stage.output), gap.count(gap_rows(rewrites(), model, rows)))
        run.counts = {**gap.to_json(), "dtype": dtype}


def gap(recipe: Recipe, progress: Progress = silent) -> DatasetGap:
    """How far the recipe's original responses are off its model's distribution; nothing is rewritten or kept. Exact
    duplicates count once. Raises RecipeError, DataError and ModelError as a run would."""
    plan = Plan(recipe)
    check_templates(plan)
    source, model = plan.source, recipe.model
    with TemporaryDirectory() as folder:
        progress("data", 0, 0)
        counts = prepare(source, Path(folder), plan.target.load, progress)

        def examples() -> Iterator[Example]:
            for conversation in iter_conversations(Path(folder) / "train.jsonl"):
                yield from conversation.examples()

        first = first_occurrences(example.id for example in examples())
        found: list[Scored] = []
        original = Distribution()
        progress("gap", 0, int(first.sum()))
        with HFBackend(model) as backend:
            scores = score(compress(examples(), first), *backend.loaded(), model.batch_tokens)
            for done, scored in enumerate(scores, 1):
                original.add(scored.nll, scored.tokens, scored.error)
                found = heapq.nlargest(OFF_DISTRIBUTION, [*found, scored], key=_distance)
                progress("gap", done, int(first.sum()))
        wanted = {scored.id for scored in found}
        texts = {example.id: example for example in examples() if example.id in wanted}
    furthest = [(scored, texts[scored.id]) for scored in found if scored.nll is not None]
    return DatasetGap(counts.train, counts.rows, counts.bad, original.to_json(), furthest)


def _distance(scored: Scored) -> tuple[float, str]:
    return (-1.0 if scored.nll is None else scored.nll), scored.id


def gap_recipe(model: str, data: str, n: int, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe of a model and `n` rows of a data file, a folder, a hub name, or a task with data to train on."""
    draw = {"n": n, "on_bad_row": "skip"}
    if data in TASKS and not Path(data).exists():
        return make_recipe({"model": model, "task": data, "data": draw}, overrides, source="the command")
    return make_recipe({"model": model, "data": {"path": data, **draw}}, overrides, source="the command")


__all__ = ["gap", "gap_recipe", "measure_gap"]
