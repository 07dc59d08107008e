"""Looks a recipe over before any GPU is paid for: the context, every kind of prompt as the model will see it, what the
grader reads from the first rows, and what is missing. Loads the tokenizer, never the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from ...backends import backend_class
from ...data import iter_conversations
from ...errors import RenderError, SelfDistillError
from ...models.loading import check_model_files, load_context_length, load_renderer, pick_device
from ...models.renderer import Renderer
from ...recipe import ModelConfig, Recipe
from ...training import TRAINERS
from ...types import Conversation, Example, Grade, Progress, silent
from ..context import Context, make_context
from ..entries import HELDOUT, has_grader
from ..needs import missing_here
from ..rewrite import needs_rewrites, rewrites, rewriting_model
from ..stages import stages_of
from .arm_settings import arm_lines, arm_warnings, check_replay
from .data import data_lines, data_warnings, marked_rows, measure, read_data
from .evaluation import evaluation_prompts, judge_lines, shift_warnings
from .names import name_warnings
from .templates import prompt_ids, template_warnings, untrainable_rows

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


def check(recipe: Recipe, progress: Progress = silent) -> Checked:
    """Reads all rows of the data. Raises RecipeError if the recipe contradicts itself; everything else is reported."""
    context, found = make_context(recipe), Checked()
    stages_of(context)
    found.plan = list(_plan_lines(context))
    with TemporaryDirectory() as folder:
        rows = _first_rows(context, found, Path(folder), progress)
        _prompts(context, rows, found, Path(folder) / "train.jsonl", progress)
    examples = [example for row in rows for example in row.examples()]
    found.graded = [(example, context.task.grade(example, example.reference)) for example in examples[:5]]
    grades = [context.task.grade(example, example.reference) for example in examples]
    if failing := sum(not grade.passed for grade in grades):
        found.warnings.append(
            f"{failing} of the first {len(examples)} original responses don't pass the check themselves, so no rewrite "
            "of them can; the grader may not fit the data."
        )
    if not has_grader(recipe) and any(task.entry.task == HELDOUT for task in context.tasks.values()):
        found.warnings.append(
            "The task heldout can't be scored, as no grader is named: its answers are saved, unjudged. Name one in "
            "rewrite.grader, or leave heldout out."
        )
    found.warnings += [*arm_warnings(context), *shift_warnings(context), *name_warnings(context)]
    _prerequisites(context, found)
    check_replay(context, found.add, found.warnings)
    found.missing += missing_here(context)
    found.plan += judge_lines(context)
    return found


def _plan_lines(context: Context) -> Iterator[str]:
    recipe, source, sampling = context.recipe, context.source, context.recipe.rewrite.sampling
    size = f"{source.n} rows drawn with seed {source.seed}" if source.n else "all rows"
    held = f", {source.heldout} held out" if source.heldout else ""
    yield f"model     {recipe.model.path} on {pick_device(recipe.model.device)}, template {recipe.model.chat_template}"
    yield f"data      {source.path} ({size}{held})"
    drawn = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    grader = recipe.rewrite.grader or (f"that of {recipe.task}" if recipe.task else "none (filters only)")
    if needs_rewrites(context):
        yield (
            f"rewrite   template {context.task.template}, {drawn}, at most {sampling.max_new_tokens} tokens, "
            f"grader {grader}, backend {_engine(recipe.model, recipe.rewrite.backend)}"
        )
    yield from arm_lines(context)
    names = [task.name + (f" (n={task.entry.n})" if task.entry.n else "") for task in context.tasks.values()]
    yield f"evaluate  {', '.join(names) if names else 'nothing: name tasks in evaluate.tasks, or set data.heldout'}"


def _engine(model: ModelConfig, backend: str) -> str:
    kind = backend_class(backend)
    return f"{backend} ({model.ray.replicas} × {model.ray.backend})" if kind.replicates else backend


def _first_rows(context: Context, found: Checked, folder: Path, progress: Progress) -> list[Conversation]:
    """Reads all rows into `folder` and reports the counts. Returns the first rows."""
    try:
        counts = read_data(context, folder, progress)
    except SelfDistillError as error:
        found.add(error)
        return []
    found.plan += data_lines(counts, folder)
    found.warnings += data_warnings(counts, folder)
    return list(islice(iter_conversations(folder / "train.jsonl"), _ROWS))


def _prompts(context: Context, rows: list[Conversation], found: Checked, train: Path, told: Progress) -> None:
    asked = list(evaluation_prompts(context, rows, found.missing, found.add))
    try:
        check_model_files(context.recipe.model)
        renderer = load_renderer(context.recipe.model)
        rewriting = load_renderer(rewriting_model(context))
        window = load_context_length(context.recipe.model)
        renderer.refuse_thinking()
        rewriting.refuse_thinking()
    except SelfDistillError as error:
        found.add(error)
        return
    found.warnings += template_warnings(context, renderer)
    if rows:
        first = rows[0].examples()[0]
        _show(found, "rewriting", lambda: rewriting.text(rewrites(context).rewriter.prompt(first).messages))
        _show(found, "training, with what is trained in ⟦⟧", lambda: _marked(renderer, first))
        if untrainable := untrainable_rows(renderer, rows):
            allowed = context.recipe.train.allow_unusable_rows
            (found.warnings if allowed else found.missing).append(untrainable)
        _lengths(context, (renderer, rewriting), window, found, train, told)
        _refused_prompts(context, rewriting, rows, found)
        _control_tokens(renderer, train, found)
    for kind, messages in asked:
        _show(found, kind, partial(renderer.text, messages))


def _show(found: Checked, kind: str, render: Callable[[], str]) -> None:
    """Adds a prompt as the model will see it, or why there is none."""
    try:
        found.prompts.append((kind, render()))
    except RenderError as error:
        found.missing.append(f"The first prompt for {kind.split(',')[0]} can't be rendered: {error}.")


def _marked(renderer: Renderer, example: Example) -> str:
    """The training sequence with brackets around the tokens that loss is taken on."""
    text, inside = "", False
    sequence = renderer.response_row(example.prompt, example.reference)
    spans: list[tuple[bool, list[int]]] = []
    for token, trained in zip(sequence.input_ids, sequence.trained, strict=True):
        if not spans or spans[-1][0] != trained:
            spans.append((trained, []))
        spans[-1][1].append(token)
    for inside, tokens in spans:
        part = str(renderer.tokenizer.decode(tokens))
        text += f"⟦{part}⟧" if inside else part
    return text


def _lengths(
    context: Context,
    renderers: tuple[Renderer, Renderer],
    window: int | None,
    found: Checked,
    train: Path,
    told: Progress,
) -> None:
    limits = [
        context.recipe.arm_train(arm).max_length for arm in context.recipe.arms.values() if arm.kind.weights != "seed"
    ]
    limit = min([*limits, *([window] if window and limits else [])], default=None)
    lengths = measure(context, train, *renderers, limit, window, partial(told, "check, counting tokens"))
    if lengths.too_long:
        allowed = context.recipe.train.allow_unusable_rows
        first = "Shorten these rows" if limit == window else "Raise train.max_length"
        room = f" (the model's context has {window:,} tokens)" if window else ""
        advice = f"{first}{room}, or set train.allow_unusable_rows=true, which cuts them."
        done = "They are cut, or left out if no token to train on is left, because train.allow_unusable_rows is set."
        (found.warnings if allowed else found.missing).append(
            f"Training sequences of more than {limit:,} tokens: {lengths.too_long:,}, the longest is "
            f"{lengths.named()}. {done if allowed else advice}"
        )
    if lengths.no_room:
        found.warnings.append(
            f"Rewriting prompts that leave no room for an answer in the model's context of {window:,} tokens: "
            f"{lengths.no_room:,}. These rows are trained on with their original responses."
        )


def _refused_prompts(context: Context, rewriting: Renderer, rows: list[Conversation], found: Checked) -> None:
    prompts = [rewrites(context).rewriter.prompt(example).messages for row in rows for example in row.examples()]
    if needs_rewrites(context) and (refused := [prompt_ids(rewriting, prompt) for prompt in prompts].count(None)):
        found.warnings.append(
            f"The chat template refuses {refused} of the first {len(prompts)} rewriting prompts; their rows are "
            "trained on unchanged."
        )


def _control_tokens(renderer: Renderer, train: Path, found: Checked) -> None:
    """Text in the data that the tokenizer takes for the end of a turn would teach the model to stop there."""
    marks = [str(renderer.tokenizer.convert_ids_to_tokens(token)) for token in sorted(renderer.stop_ids)]
    if held := marked_rows(train, marks):
        found.warnings.append(
            f"{held:,} rows hold {' or '.join(marks)} as text, which the tokenizer reads as the end of a turn; take it "
            "out of the data."
        )


def _prerequisites(context: Context, found: Checked) -> None:
    own = context.recipe.model.device
    if own.startswith("cuda") and pick_device("auto") != "cuda":
        found.missing.append(f"model.device is {own}, and there is no such GPU here; set it to auto.")
    trained = [run.train for run in context.runs.values() if not run.is_seed]
    found.missing += dict.fromkeys(lack for settings in trained for lack in TRAINERS["sft"].lacks(settings))
