"""Step 2, rewriting: the seed answers every training example, and each answer is verified.

Reads data/train.jsonl. Writes rewrite/completions.jsonl (the answers as they come) and rewrite/rewrites.jsonl (each
example with its answer and grade). Arms that need other answers of the seed (without the reference, by another
template, several draws) have a folder each under rewrite/. Duplicate examples are rewritten once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends import open_backend
from ..backends.cache import EngineCache
from ..errors import ModelError, StageError
from ..generation.prompts import load_template, rewriting_chat_template
from ..generation.resume import LazyBackend, forget_transient
from ..generation.rewriter import Acceptance, Rewriter
from ..models.loading import load_renderer, load_tokenizer
from ..recipe import ArmConfig, ModelConfig
from ..store.experiment import Experiment
from ..store.rows import RowFile, first_occurrences, write_lines
from ..store.shared import take_over
from ..store.stage import Stage
from ..types import Progress, Rewrite, content_id
from ..types.wording import counted
from .context import Context
from .data import data_stage, prepare_data, train_examples
from .judge_rewrites import apply_judge, ask_judge, threshold_of
from .reasoning import decided, takes_own_answers
from .verify import graded, verify_settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnswerSet:
    """One answer of the seed to each training example. `name` and `kind` (the name without the number of the draw) are
    empty for the rewrites that SDFT trains on. `source` is how training rows name the answers: `rewrite`, or `self` for
    answers without the reference."""

    name: str
    kind: str
    source: str
    rewriter: Rewriter
    model: ModelConfig
    generating: Stage
    verifying: Stage


# ---- declared


def check_templates(context: Context) -> None:
    """Raises ModelError if a chat template of the seed can't be used: it raises, its thinking can't be turned off, or
    nothing marks its think traces. A tokenizer that can't be loaded is ignored here: the model may exist only on a
    server."""
    if context.seed_on_file:
        return
    try:
        tokenizer = load_tokenizer(context.recipe.model)
    except ModelError:
        return
    arms = [context.model_of(arm) for arm in context.recipe.arms.values()]
    for model in (context.recipe.model, rewrites(context).model, *arms):
        load_renderer(model, tokenizer=tokenizer).refuse_unmarked()


def rewrites(context: Context, template: str | None = None, sample: int = 0, off: bool = False) -> AnswerSet:
    """The rewrites by a template, by default the recipe's. `sample` counts the draws. `off`: by the seed with thinking
    turned off."""
    template = template or context.task.template
    assert template is not None
    kind = "" if template == context.task.template else Path(template).stem
    return _answer_set(context, kind, template, sample, off)


def own_answers(context: Context, off: bool = False) -> AnswerSet:
    """The seed's answers to the training prompts, without the reference."""
    return _answer_set(context, "self", None, 0, off)


def _answer_set(context: Context, kind: str, template: str | None, sample: int, off: bool) -> AnswerSet:
    own, model = context.recipe.rewrite, context.recipe.model
    thinks = context.thinks and not off
    if off:
        model, kind = model.model_copy(update={"reasoning": "off"}), "-".join(filter(None, [kind, "off"]))
    name = "-".join(filter(None, [kind, f"sample-{sample}" if sample else ""]))
    answering = context.model_settings(model, "rewrite", own.backend)
    wording = None if template is None else context.once(load_template, template)
    settings = {
        **answering,
        "sampling": own.sampling.model_dump(),
        "template": wording.to_json() if wording else None,
        **({"sample": sample} if sample else {}),
    }
    folder = f"rewrite/{name}".rstrip("/")
    completions = f"{folder}/completions.jsonl"
    generating = Stage(folder, completions, settings, (data_stage(context),), resumable=True, row_files=(completions,))
    judge = threshold_of(own.grader) is not None  # asked later, about every answer that passes until then
    checked = thinks and template is None and _is_first_step(context) and not (own.own_unchecked or judge)
    settings = verify_settings(context) | ({"must_be_checked": True} if checked else {})
    settings |= {"thinks": True} if thinks else {}
    judged = (f"{folder}/judged.jsonl",) if "judge" in settings else ()
    verifying = Stage(
        f"verify/{name}".rstrip("/"),
        f"{folder}/rewrites.jsonl",
        settings,
        (generating,),
        on_change="rerun",
        other_outputs=judged,
        row_files=judged,
    )
    rewriter = Rewriter(
        template=wording,
        grade=context.task.grade,
        sampling=own.sampling,
        filters=own.filters,
        model=content_id(answering),
        sample=sample,
        thinks=thinks,
        must_be_checked=checked,
    )
    if wording:
        model = model.model_copy(update={"chat_template": rewriting_chat_template(model.chat_template, wording)})
    source = "self" if template is None else "rewrite"
    return AnswerSet(name, kind, source, rewriter, model, generating, verifying)


def _is_first_step(context: Context) -> bool:
    """Whether an arm takes the seed's own answers as step 1 of `reasoning: own`."""
    arms = context.recipe.arms.values()
    stepping = (arm for arm in arms if arm.answers == ("rewrites",) and not arm.best_of)
    return takes_own_answers(context.recipe) and any(decided(context, arm) == "own" for arm in stepping)


def answer_sets(context: Context, arm: ArmConfig) -> list[AnswerSet]:
    """The answers that an arm chooses from, preferred ones first. With `best_of` they are draws of the same rewrites,
    and a larger number shares the draws of a smaller one. With `reasoning: own`, rewrites come after the seed's own
    answers."""
    how, kinds = decided(context, arm), arm.answers
    off = how == "off"
    if arm.best_of:
        return [rewrites(context, arm.template, sample, off) for sample in range(arm.best_of)]
    if how == "own" and kinds == ("rewrites",) and takes_own_answers(context.recipe):
        kinds = ("self", "rewrites")
    return [own_answers(context, off) if kind == "self" else rewrites(context, arm.template, off=off) for kind in kinds]


def needs_rewrites(context: Context) -> bool:
    """Whether an arm trains on the recipe's rewrites. Also True if no arm but the seed uses the data: the recipe then
    only rewrites."""
    if context.recipe.evaluates_only:
        return False
    arms = context.recipe.arms.values()
    names = [each.name for arm in arms for each in answer_sets(context, arm)]
    return "" in names or all(arm.kind.weights == "seed" for arm in arms)


def rewrite_stages(context: Context) -> list[Stage]:
    """The stages of SDFT's rewrites, and of the other answers that an arm needs."""
    sets = [rewrites(context), *(each for arm in context.recipe.arms.values() for each in answer_sets(context, arm))]
    stages = (stage for each in sets for stage in (each.generating, each.verifying))
    return list({(stage.name, stage.fingerprint): stage for stage in stages}.values())


# ---- run


def rewrite_data(
    experiment: Experiment, context: Context, progress: Progress, even_if_unused: bool = False
) -> dict[str, Any]:
    """Rewrites and verifies. Returns the counts of the acceptance of SDFT's rewrites, empty if no arm uses them.

    Raises StageError if fewer than `min_accepted` are accepted.
    """
    prepare_data(experiment, context, progress)
    sets = [rewrites(context)] if even_if_unused or needs_rewrites(context) else []
    sets += [each for arm in context.recipe.arms.values() for each in answer_sets(context, arm)]
    different = {each.name: each for each in sets}  # arms share the sets that they choose from
    with EngineCache([(context.recipe.model, None)]) as cache:
        made = {name: _make(experiment, context, each, cache, progress) for name, each in different.items()}
    return made.get("", {})


def _make(
    experiment: Experiment, context: Context, answers: AnswerSet, cache: EngineCache, progress: Progress
) -> dict[str, Any]:
    """Generates and verifies the answers that are missing, one per example. Returns the counts of the acceptance."""
    generating, verifying = answers.generating, answers.verifying
    generated = experiment.finished(generating) and not _asks_again(experiment, generating)
    verified = experiment.finished(verifying) and not _asks_again(experiment, verifying)
    if not (generated and verified):
        first = first_occurrences(example.id for example in train_examples(experiment))
        if not generated:
            with experiment.run_stage(generating) as run:
                taken = take_over_answers(experiment, context, answers)
                run.counts = {**_generate(experiment, context, answers, first, cache, progress), **taken}
        with experiment.run_stage(verifying) as run:
            run.counts = _verify(experiment, context, answers, first, progress)
        _log.warning("%s", _accepted(verifying, run.counts))
    counts = experiment.counts(verifying.name)
    _check_acceptance(experiment, context, answers, counts)
    return counts


def _accepted(verifying: Stage, counts: Mapping[str, Any]) -> str:
    """How many answers of the seed will be trained on, before the training is paid for."""
    unchecked = f", {counts['unchecked']:,} kept with their content not checked" if counts["unchecked"] else ""
    return (
        f"{verifying.name}: {counts['accepted']:,} of {counted(counts['rows'], 'answer')} of the seed accepted"
        f"{unchecked}; the other rows keep their originals."
    )


def take_over_answers(experiment: Experiment, context: Context, answers: AnswerSet) -> dict[str, Any]:
    """Copies answers that a directory next to this one already holds, if it has the same data, model, template and
    sampling. Returns the counts that say so. If the chat template writes the date, the dates must be equal too."""
    taken = take_over(
        experiment.directory,
        answers.generating,
        lambda manifest: manifest.get("date") == str(experiment.date) or not _writes_date(answers.model),
    )
    if taken is None:
        return {}
    other, rows = taken
    _log.warning("%s answers of the seed are taken from %s, which has the same settings for them.", f"{rows:,}", other)
    return {"taken_from": str(other), "taken": rows}


def _writes_date(model: ModelConfig) -> bool:
    """Whether prompts hold the experiment's date. True if the template is not known: a server may apply it."""
    try:
        return bool(load_renderer(model).template.formats)
    except ModelError:
        return True


def _check_acceptance(experiment: Experiment, context: Context, answers: AnswerSet, counts: dict[str, Any]) -> None:
    least = context.recipe.rewrite.min_accepted
    arms = context.recipe.arms.values()
    using = [arm for arm in arms if any(each.name == answers.name for each in answer_sets(context, arm))]
    if using and all(decided(context, arm) == "own" for arm in using):
        return  # the choice among the steps is checked instead
    if counts["rate"] < least and answers.source == "rewrite" and answers.rewriter.sample == 0:
        kept, word = counts["accepted"] + counts["unchecked"], "kept" if counts["unchecked"] else "accepted"
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts["reasons"].items())
        raise StageError(
            f"Only {kept} of {counts['rows']} rewrites were {word} ({reasons}), less than "
            f"rewrite.min_accepted = {least:g}, so SDFT would train on the originals. "
            f"Look at {experiment.path(answers.verifying.output)}; try another grader here, another template or "
            "model in a new directory, or lower rewrite.min_accepted."
        )


def _asks_again(experiment: Experiment, generating: Stage) -> bool:
    """Whether prompts that failed because of the engine are asked again: only until an arm has been trained."""
    trained = any(name.startswith("train/") for name in experiment.manifest["stages"])
    return experiment.to_retry(generating) and not trained


def _generate(
    experiment: Experiment,
    context: Context,
    answers: AnswerSet,
    first: npt.NDArray[np.bool_],
    cache: EngineCache,
    progress: Progress,
) -> dict[str, Any]:
    if answers.rewriter.template is None:  # without a reference, several examples can have one prompt
        prompts = (answers.rewriter.prompt(example).id for example in train_examples(experiment))
        first = first_occurrences(prompts)
    path, count = experiment.path(answers.generating.output), int(first.sum())
    forget_transient(path)
    opener = partial(open_backend, context.recipe.rewrite.backend, answers.model, cache=cache)
    with LazyBackend(opener) as backend, RowFile(path) as rows:
        report = partial(progress, answers.generating.name)
        examples = compress(train_examples(experiment), first)
        transient = answers.rewriter.generate(examples, count, backend, rows, report)
        return {"rows": count, "transient": transient, **backend.counts}


def _verify(
    experiment: Experiment, context: Context, answers: AnswerSet, first: npt.NDArray[np.bool_], progress: Progress
) -> dict[str, Any]:
    acceptance, count, transient = Acceptance(), int(first.sum()), 0
    with RowFile(experiment.path(answers.generating.output), reading=True) as rows, ExitStack() as stack:

        def selected() -> Iterator[Rewrite]:
            examples = compress(train_examples(experiment), first)
            return graded(answers.rewriter, context, answers.model, examples, rows)

        verified = selected()
        if judged := answers.verifying.row_files:
            path, report = experiment.path(*judged), partial(progress, "judge " + answers.verifying.name)
            transient = ask_judge(path, context, selected, report)
            verified = apply_judge(verified, context, stack.enter_context(RowFile(path, reading=True)))
        verified = _reported(acceptance.count(verified), count, partial(progress, answers.verifying.name))
        write_lines(experiment.path(answers.verifying.output), (_row(rewrite, answers.source) for rewrite in verified))
    asked = {"transient": transient} if transient else {}
    return {**acceptance.to_json(), "duplicates": len(first) - count, **asked}


def _row(rewrite: Rewrite, source: str) -> dict[str, Any]:
    row = rewrite.to_json()
    return {**row, "source": source} if rewrite.grade.passed else row


def _reported(rows: Iterable[Rewrite], total: int, progress: Callable[[int, int], None]) -> Iterator[Rewrite]:
    for done, row in enumerate(rows):
        progress(done, total)
        yield row
    progress(total, total)
