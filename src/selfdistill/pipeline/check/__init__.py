"""Looks a recipe over before any GPU is paid for: the context, every kind of prompt as the model will see it, what the
grader reads from the first rows, how much work there is, and what is missing. Loads the tokenizer; only the probe, a
process of its own, loads the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from ...backends import backend_class
from ...data import DataCounts, iter_conversations
from ...errors import RenderError, SelfDistillError
from ...models.loading import check_model_files, load_renderer, pick_device
from ...models.renderer import Renderer
from ...recipe import ModelConfig, Recipe
from ...recipe.data import grader_names
from ...store.experiment import writing_problem
from ...types import Conversation, Example, Grade, Progress, silent
from ...types.wording import counted
from ..beforehand import unfit_rows
from ..context import Context, make_context
from ..data import data_warnings
from ..disk import disk_problem, disk_use
from ..entries import HELDOUT, has_grader
from ..grader_guess import unchecked_sentence
from ..heldout_loss import has_likelihoods, loss_tasks
from ..lengths import measure_rows
from ..needs import missing_here
from ..preview import marked
from ..rewrite import needs_rewrites, rewrites
from ..stages import stages_of
from .arm_settings import arm_lines, arm_warnings
from .data import data_lines, first_example, first_references, marked_rows, read_data
from .estimate import estimate
from .evaluation import EVALUATION, evaluation_prompts, item_warnings, judge_lines, shift_warnings
from .names import name_warnings
from .sizes import (
    change_lines,
    comparable_counts,
    disk_line,
    few_items_warnings,
    item_counts,
    rewriting_warnings,
    size_warnings,
    step_lines,
    token_lines,
)
from .templates import template_warnings

_ROWS = 200


@dataclass
class Checked:
    """The findings of `check`. `missing` must be fixed before a run; `warnings` are worth a look; `unseen` could not be
    checked, because the hub can't be reached."""

    plan: list[str] = field(default_factory=list)
    prompts: list[tuple[str, str]] = field(default_factory=list)
    graded: list[tuple[Example, Grade]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    def one_of_each_kind(self) -> list[tuple[str, str]]:
        """The prompts for training and for the held-out rows, and that of one other task. The prompts of a recipe's
        many tasks fill several screens."""
        of_tasks = [kind for kind, _ in self.prompts if kind.startswith(EVALUATION) and kind != EVALUATION + HELDOUT]
        return [(kind, text) for kind, text in self.prompts if kind not in of_tasks[1:]]

    def add(self, error: SelfDistillError) -> None:
        """Takes note of something that can't be read."""
        lines = self.unseen if _is_network_error(error) else self.missing
        lines += [str(error)] if str(error) not in lines else []


def _is_network_error(error: BaseException | None) -> bool:
    """Whether the hub could not be reached. Libraries wrap such errors, so causes are searched too."""
    from httpx import TransportError
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    unreached = (TransportError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError)
    seen = set[int]()
    while error is not None and id(error) not in seen and not isinstance(error, unreached):
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return isinstance(error, unreached)


def check(recipe: Recipe, progress: Progress = silent, directory: Path | None = None, probe: bool = False) -> Checked:
    """Reads all rows of the data. `directory` is where a run would write. With `probe` the stages are timed on this
    machine. Raises RecipeError if the recipe contradicts itself; everything else is reported."""
    context, found = make_context(recipe), Checked()
    stages_of(context)
    found.plan = list(_plan_lines(context))
    with TemporaryDirectory() as name:
        folder = Path(name)
        counts = None if context.recipe.evaluates_only else _read(context, found, folder, progress)
        rows = list(islice(iter_conversations(folder / "train.jsonl"), _ROWS)) if counts else []
        _prompts(context, rows, found, folder)
        found.missing += missing_here(context, context.runs.values())
        if directory and (problem := writing_problem(directory)):
            found.missing.append(problem)
        if counts:
            _amounts(context, counts, found, folder, directory or Path("runs"), probe, progress)
    examples = [example for row in rows for example in row.examples()]
    found.graded = [(example, context.task.grade(example, example.reference)) for example in examples[:5]]
    grades = [context.task.grade(example, example.reference) for example in examples]
    if failing := sum(not grade.passed for grade in grades):
        found.warnings.append(
            f"{failing} of the first {len(examples)} original responses don't pass the check themselves, so no rewrite "
            "of them can; the grader may not fit the data."
        )
    compared = first_references(context) if rows and grader_names(recipe.rewrite.grader) == ["facts"] else []
    if unchecked := unchecked_sentence(compared):
        found.warnings.append(f"{unchecked}.")
    measured = has_likelihoods(context) and bool(loss_tasks(context))
    if not has_grader(context.recipe) and any(task.entry.task == HELDOUT for task in context.tasks.values()):
        found.warnings.append(
            "The task heldout can't be scored, as no grader is named: its answers are saved, unjudged. Name one in "
            f"rewrite.grader, or leave heldout out{'; its measure is the held-out loss' if measured else ''}."
        )
    if not context.tasks and not measured:
        found.warnings.append(
            "Nothing will be compared, as no task is evaluated; name tasks in evaluate.tasks, or set data.heldout."
        )
    if loss_tasks(context) and not measured:
        found.warnings.append(
            "The held-out loss will not be measured, because the weights that answer are not on this machine."
        )
    found.warnings += [*item_warnings(context, found.add), *arm_warnings(context), *shift_warnings(context)]
    found.warnings += name_warnings(context)
    found.plan += judge_lines(context)
    return found


def _plan_lines(context: Context) -> Iterator[str]:
    recipe, source, sampling = context.recipe, context.source, context.recipe.rewrite.sampling
    size = f"{source.n} rows drawn with seed {source.seed}" if source.n else "all rows"
    held = f", {source.heldout} held out" if source.heldout else ""
    yield f"model     {recipe.model.path} on {pick_device(recipe.model.device)}, template {recipe.model.chat_template}"
    if not recipe.evaluates_only:
        yield f"data      {source.path} ({size}{held})"
    drawn = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    grader = recipe.rewrite.grader or (f"that of {recipe.task}" if recipe.task else "none")
    grader = "none (filters only)" if grader == "none" else grader
    if needs_rewrites(context):
        yield (
            f"rewrite   template {context.task.template}, {drawn}, at most {sampling.max_new_tokens} tokens, "
            f"grader {grader}, backend {_engine(recipe.model, recipe.rewrite.backend)}"
        )
    yield from arm_lines(context)
    names = [task.name + (f" (n={task.entry.n})" if task.entry.n else "") for task in context.tasks.values()]
    yield f"evaluate  {', '.join(names) if names else 'nothing: name tasks in evaluate.tasks, or set data.heldout'}"
    if (tasks := loss_tasks(context)) and has_likelihoods(context):
        yield f"loss      per token of the original responses of {', '.join(task.name for task in tasks)}, for each run"


def _engine(model: ModelConfig, backend: str) -> str:
    kind = backend_class(backend)
    return f"{backend} ({model.ray.replicas} × {model.ray.backend})" if kind.replicates else backend


def _read(context: Context, found: Checked, folder: Path, progress: Progress) -> DataCounts | None:
    """Reads all rows into `folder` and reports the counts. None if they can't be read."""
    try:
        counts = read_data(context, folder, progress)
    except SelfDistillError as error:
        found.add(error)
        return None
    found.plan += data_lines(context, counts, folder)
    found.warnings += data_warnings(context, counts, folder)
    return counts


def _prompts(context: Context, rows: list[Conversation], found: Checked, folder: Path) -> None:
    held = list(islice(iter_conversations(folder / "heldout.jsonl"), 1)) if rows else None
    asked = list(evaluation_prompts(context, held, found.missing, found.add))
    try:
        check_model_files(context.recipe.model)
        renderer = load_renderer(context.recipe.model)
        rewriting = load_renderer(rewrites(context).model)
        for render in (renderer, rewriting):
            render.refuse_unmarked()
            for row in rows:
                render.refuse_tools(row.messages)
    except SelfDistillError as error:
        found.add(error)
        return
    found.warnings += template_warnings(context, renderer)
    if rows:
        first = first_example(context, rows)
        _show(found, "rewriting", lambda: rewriting.text(rewrites(context).rewriter.prompt(first).messages))
        _show(found, "training, with what is trained in ⟦⟧", lambda: marked(renderer, first))
        _control_tokens(renderer, folder / "train.jsonl", found)
    # If the data can't be read, what is missing shall not stand below many prompts of the other tasks.
    for kind, messages in asked if rows or context.recipe.evaluates_only else ():
        _show(found, kind, partial(renderer.text, messages))


def _amounts(
    context: Context, counts: DataCounts, found: Checked, folder: Path, directory: Path, probe: bool, told: Progress
) -> None:
    """How much work there is: tokens, steps, items, disk, and time if `probe`; and the rows that don't fit."""
    items, train = item_counts(context, folder / "heldout.jsonl", found.add), folder / "train.jsonl"
    runs = [run for run in context.runs.values() if not (run.is_seed or run.is_given)]
    try:
        lengths = measure_rows(context, train, partial(told, "check, counting tokens"))
        for allowed, sentence in unfit_rows(context, context.recipe.arms, lengths, train):
            (found.warnings if allowed else found.missing).append(sentence)
    except SelfDistillError as error:
        found.add(error)
        return
    compared = comparable_counts(context, folder / "heldout.jsonl", items)
    found.warnings += [*rewriting_warnings(context, lengths), *size_warnings(context, counts, items)]
    found.warnings += few_items_warnings(context, compared, counts.train + counts.heldout)
    found.plan += [*token_lines(lengths), *step_lines(context, runs, counts)]
    found.plan += change_lines(context, items, compared)
    use = disk_use(context, runs, folder, counts.to_json(), items, directory)
    found.plan.append(disk_line(use, directory))
    if problem := disk_problem(use, directory):
        found.missing.append(problem)
    if probe and not found.missing and not found.unseen:
        made = estimate(context, lengths, counts, items, train, told)
        found.plan += made.lines
        found.missing += made.missing
        found.warnings += made.warnings


def _show(found: Checked, kind: str, render: Callable[[], str]) -> None:
    """Adds a prompt as the model will see it, or why there is none."""
    try:
        found.prompts.append((kind, render()))
    except RenderError as error:
        found.missing.append(f"The first prompt for {kind.split(',')[0]} can't be rendered: {error}.")


def _control_tokens(renderer: Renderer, train: Path, found: Checked) -> None:
    """Text in the data that the tokenizer takes for the end of a turn would teach the model to stop there."""
    marks = [str(renderer.tokenizer.convert_ids_to_tokens(token)) for token in sorted(renderer.stop_ids)]
    if held := marked_rows(train, marks):
        found.warnings.append(
            f"{counted(held, 'row')} with {' or '.join(marks)} as text, which the tokenizer reads as the end of a "
            "turn; take it out of the data."
        )
