"""Step 4, the gap before training: how likely the seed finds the originals and the accepted rewrites.

Reads rewrite/rewrites.jsonl, or rewrite/marked-rewrites.jsonl if rows were marked by hand. Writes
rewrite/likelihoods.jsonl (a score per response) and rewrite/gap.jsonl.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory

from ..backends import answering_class
from ..backends.hf import HFBackend
from ..data import iter_conversations, prepare
from ..measure.gap import OFF_DISTRIBUTION, DatasetGap, Distribution, Gap, gap_rows, responses
from ..measure.likelihood import Scored, score, score_missing
from ..models.loading import pick_device, pick_dtype
from ..recipe import Recipe, make_recipe
from ..store.experiment import Experiment
from ..store.rows import RowFile, first_occurrences, read_lines, write_lines
from ..store.stage import Stage
from ..tasks import TASKS
from ..types import Example, Progress, Rewrite, content_id, silent
from .choose import marked_stage
from .context import Context, make_context
from .rewrite import check_templates, rewrites


def gap_stage(context: Context) -> Stage | None:
    """The stage that measures the gap; None if the recipe turns it off, or if the seed is behind a server."""
    recipe = context.recipe
    if not recipe.gap or answering_class(recipe.rewrite.backend, recipe.model).needs_server:
        return None
    scores = ("rewrite/likelihoods.jsonl",)
    return Stage(
        "gap",
        "rewrite/gap.jsonl",
        context.model_settings(recipe.model, "gap"),
        (marked_stage(context) or rewrites(context).verifying,),
        on_change="rerun",
        other_outputs=scores,
        row_files=scores,
    )


def measure_gap(experiment: Experiment, context: Context, progress: Progress) -> None:
    """Scores originals and accepted rewrites under the seed in one pass. Scores are filed by content, so if
    rewrites are verified again, only new responses are scored."""
    stage = gap_stage(context)
    if stage is None or experiment.finished(stage) or not experiment.finished(stage.inputs[0]):
        return
    seed, verified = context.recipe.model, experiment.path(stage.inputs[0].output)
    dtype = str(pick_dtype(seed.dtype, pick_device(seed.device))).removeprefix("torch.")
    model = content_id({**stage.settings, "dtype": dtype})

    def verified_rewrites() -> Iterator[Rewrite]:
        return map(Rewrite.from_json, read_lines(verified))

    def examples() -> Iterator[Example]:
        return (example for rewrite in verified_rewrites() for example in responses(rewrite, model))

    path = experiment.path(*stage.row_files)
    with experiment.run_stage(stage) as run:
        with RowFile(path) as rows:
            score_missing(examples, seed, rows, partial(progress, "gap"))
        gap = Gap()
        with RowFile(path, reading=True) as rows:
            write_lines(experiment.path(stage.output), gap.count(gap_rows(verified_rewrites(), model, rows)))
        run.counts = {**gap.to_json(), "dtype": dtype}


# ---- of a dataset alone: `selfdistill gap`


def gap(recipe: Recipe, progress: Progress = silent) -> DatasetGap:
    """How likely the model finds the recipe's original responses. Nothing is rewritten or kept; exact duplicates count
    once. Raises RecipeError, DataError and ModelError as a run would."""
    context = make_context(recipe)
    check_templates(context)
    model = recipe.model
    with TemporaryDirectory() as folder:
        progress("data", 0, 0)
        counts = prepare(context.source, Path(folder), context.task.load, progress)

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
                found = heapq.nlargest(OFF_DISTRIBUTION, [*found, scored], key=_by_surprise)
                progress("gap", done, int(first.sum()))
        wanted = {scored.id for scored in found}
        texts = {example.id: example for example in examples() if example.id in wanted}
    furthest = [(scored, texts[scored.id]) for scored in found if scored.nll is not None]
    return DatasetGap(counts.train, counts.rows, counts.bad, original.to_json(), furthest)


def _by_surprise(scored: Scored) -> tuple[float, str]:
    return (-1.0 if scored.nll is None else scored.nll), scored.id


def gap_recipe(model: str, data: str, n: int, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe of a model and `n` rows of a data file, a folder, a hub name, or a task with training data."""
    draw = {"n": n, "on_bad_row": "skip"}
    if data in TASKS and not Path(data).exists():
        return make_recipe({"model": model, "task": data, "data": draw}, overrides, source="the command")
    return make_recipe({"model": model, "data": {"path": data, **draw}}, overrides, source="the command")
