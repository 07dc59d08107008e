"""A recipe as resolved values: the task, where the rows are, the arms' runs, their baselines, and the evaluated tasks.

Every step reads its settings from a `Context`. Creating a `Context` reads neither data nor weights.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..backends import answering, answering_class, backend_class, backends_that
from ..data import check_format, read_conversations
from ..errors import ModelError, RecipeError
from ..generation.prompts import template_for
from ..grading import compares_embeddings, make_grader, metric_of, runs_programs
from ..models.adapter import adapter_folder
from ..models.embedding import lazy_embed
from ..models.loading import load_renderer
from ..recipe import ArmConfig, DataConfig, ModelConfig, Recipe, TrainConfig
from ..recipe.data import grader_names
from ..recipe.paths import grader_files
from ..recipe.sweep import Point, expand
from ..sandbox import Runner, lazy_runner
from ..store.identity import chat_template_identity, file_identity, model_identity, path_identity
from ..store.marks import HandMark
from ..tasks import Task, get_task
from ..types import content_id
from .baseline_arms import Baseline, baselines_of
from .entries import HELDOUT, EvaluatedTask, evaluated_tasks

V = TypeVar("V")


@dataclass(frozen=True)
class Run:
    """The seed, one training of an arm, or weights interpolated towards the run `towards`.

    A run has the name of its arm if its seed is the recipe's train.seed, else a name such as `vanilla@1`. So no name
    changes when `seeds` are added, removed or reordered.
    """

    name: str
    arm: str
    config: ArmConfig
    train: TrainConfig
    towards: str | None = None

    @property
    def is_seed(self) -> bool:
        return self.config.kind.weights == "seed"

    @property
    def is_given(self) -> bool:
        """Whether the run is a checkpoint that was made elsewhere."""
        return self.config.kind.weights == "given"


@dataclass(frozen=True)
class Context:
    """A resolved recipe. `task` is the target; `source` is where the training rows are; `baselines` holds the
    arms that use answers of the seed. `points` are the arms' places on the curves of a sweep, and `swept` the arms that
    the sweep made. `date` is the experiment's date. `sources` are the identities of the files and folders that were
    looked at, and `recorded` those of earlier runs, which stand for files that are gone. `marks` are the rows that a
    person decided about, by id."""

    recipe: Recipe
    task: Task
    source: DataConfig
    runs: Mapping[str, Run]
    baselines: Mapping[str, Baseline]
    tasks: Mapping[str, EvaluatedTask]
    points: tuple[Point, ...] = ()
    swept: frozenset[str] = frozenset()
    date: datetime.date | None = None
    looks: tuple[float, ...] = ()
    seed_form: Mapping[str, str | None] | None = None
    marks: Mapping[str, HandMark] = field(default_factory=dict, repr=False)
    recorded: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    sources: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    _read: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, read: Callable[[Any], V], of: Any) -> V:
        """The result of `read(of)` from its first call. All steps of a run see the same identity of a file, also if the
        file is edited meanwhile: the next run notices the edit."""
        key = read, repr(of)
        if key not in self._read:
            self._read[key] = read(of)
        found: V = self._read[key]
        return found

    def identity(self, read: Callable[[Any], str], of: Any) -> str:
        """The identity of a file, folder or model, from its first reading. A finished stage does not need its source:
        if that is gone, the identity is the recorded one."""
        name = of if isinstance(of, str) else of.path
        found, path = self.once(read, of), Path(name).expanduser().absolute()
        if not name or not path.exists():
            return self.recorded.get(f"{read.__name__} {path}", found)
        self.sources[f"{read.__name__} {path}"] = found
        return found

    @property
    def seed_on_file(self) -> bool:
        """Whether the seed's answers come from a baseline file."""
        return self.seed_form is not None

    @property
    def given_arms(self) -> set[str]:
        """The arms that are checkpoints."""
        return {run.arm for run in self.runs.values() if run.is_given}

    @property
    def seed_arm(self) -> str:
        return next(run.name for run in self.runs.values() if run.is_seed)

    def runs_of(self, arm: str) -> list[Run]:
        return [run for run in self.runs.values() if run.arm == arm]

    def baseline_arm(self, arm: str) -> str | None:
        return self.baselines[arm].arm if arm in self.baselines else None

    @property
    def needs_sandbox(self) -> bool:
        """Whether programs that a model wrote are run: by the recipe's grader, or by a task."""
        own = self.recipe.rewrite.grader
        return any("sandbox" in each.task.needs for each in self.tasks.values()) or (
            own is not None and runs_programs(own)
        )

    @property
    def thinks(self) -> bool:
        """Whether the seed reasons before it answers, by its chat template. If there is no tokenizer here (the model
        may exist only on a server), whether the recipe says what to do with reasoning."""
        return self.thinks_with(self.recipe.model)

    def thinks_with(self, model: ModelConfig) -> bool:
        """Whether `model` reasons before it answers, as `thinks`."""
        key = f"thinking {content_id(self.model_settings(model, 'rewrite'))}"
        if key not in self.sources:
            self.sources[key] = self.recorded.get(key) or self.once(_thinking, model)
        return self.sources[key] == "on"

    @property
    def engines(self) -> list[tuple[ModelConfig, str]]:
        """Each model that is asked for answers, with the backend that the recipe names for it."""
        recipe, judge = self.recipe, self.recipe.judge
        answering = [(recipe.model, recipe.rewrite.backend), (recipe.model, recipe.evaluate.backend)]
        return answering + ([(judge.model, judge.backend)] if judge else [])

    def backend_of(self, run: Run) -> str:
        """The engine that answers for a run: `evaluate.backend`, but for a checkpoint that it can't ask, because one is
        behind a server and the other is not."""
        named, served = self.recipe.evaluate.backend, self.model_of(run.config).server is not None
        if not run.is_given or backend_class(named).needs_server == served:
            return named
        return backends_that("needs_server" if served else "has_weights")[0]

    def has_weights(self, run: Run) -> bool:
        """Whether the weights that answer for a run are on this machine."""
        engine = answering_class(self.backend_of(run), self.model_of(run.config))
        return engine.has_weights and not engine.classifies

    def weights_of(self, run: Run, directory: Path) -> tuple[ModelConfig, str | None]:
        """The model that answers for a run, and the folder of its adapter if it has one."""
        if run.is_seed:
            return self.recipe.model, None
        if run.is_given:
            return self.given(run.config)
        folder = str((directory / "arms" / run.name / "model").resolve())
        if run.train.method == "full":
            return self.model_of(run.config).model_copy(update={"path": folder, "revision": None}), None
        return self.model_of(run.config), folder

    def given(self, arm: ArmConfig) -> tuple[ModelConfig, str | None]:
        """The model of a checkpoint, or the seed with the folder of an adapter."""
        model = self.model_of(arm)
        adapter = None if model.server else self.once(adapter_folder, model)
        return (self.recipe.model, adapter) if adapter else (model, None)

    def model_of(self, arm: ArmConfig) -> ModelConfig:
        """The model of an arm: a checkpoint, or the seed as the arm is trained and asked, with thinking turned off if
        the arm turns it off."""
        if arm.kind.weights == "given":
            return self.recipe.arm_model(arm)
        off = self.recipe.trained_arm(arm).reasoning == "off"
        return self.recipe.model.model_copy(update={"reasoning": "off"}) if off and self.thinks else self.recipe.model

    # ---- settings that several steps share

    def model_settings(self, model: ModelConfig, step: str, backend: str | None = None) -> dict[str, Any]:
        """The settings of a model on which `step` depends, with its files identified by content. The experiment's date
        is left out: it is the same in all steps."""
        settings = model.deciding(step) | {
            "model": self.identity(model_identity, model),
            "chat_template": self.once(chat_template_identity, model),
        }
        if model.trust_remote_code:
            settings["trust_remote_code"] = True
        if model.tools_in != "template":
            settings["tools_in"] = model.tools_in
        if model.reasoning == "off":
            settings["reasoning"] = "off"
        if model.date not in (self.date, None):
            settings["date"] = str(model.date)
        return settings | ({"backend": answering(backend, model)} if backend else {})

    def grader_settings(self) -> dict[str, Any]:
        """The recipe's grader, or the task that brings the grader; a grader in a file is identified by its content."""
        grader = self.recipe.rewrite.grader
        if grader is None:
            return {"task": self.recipe.task}
        files = [self.identity(file_identity, name.rpartition(":")[0]) for name in grader_names(grader)]
        by_name = grader_files(grader, lambda file: Path(file).name)
        settings: dict[str, Any] = {"grader": by_name, "file": files[0] if len(files) == 1 else files}
        if runs_programs(grader):
            settings["sandbox"] = self.recipe.sandbox
        if compares_embeddings(grader):
            settings["embedding"] = self.identity(path_identity, self.recipe.shift.embedding)
        return settings


def make_context(
    recipe: Recipe, date: datetime.date | None = None, recorded: Mapping[str, str] | None = None
) -> Context:
    """Resolves a recipe; models without a date get `date`; `recorded` is as in `Context`. Raises RecipeError if a name
    or a combination is wrong."""
    recipe, run_program = _with_tasks_grader(_dated(recipe, date)), lazy_runner(recipe.sandbox)
    task = _target(recipe, run_program)
    source = _source(recipe, task)
    check_format(source.format)
    points: tuple[Point, ...] = ()
    swept: frozenset[str] = frozenset()
    if recipe.sweep:
        expanded, points = expand(recipe, task.template, source.n)
        swept = frozenset(expanded.arms.keys() - recipe.arms.keys())
        recipe = expanded
    return Context(
        recipe=recipe,
        task=task,
        source=source,
        runs=_runs(recipe),
        baselines=baselines_of(recipe, source),
        tasks=evaluated_tasks(recipe, task, source, run_program),
        points=points,
        swept=swept,
        date=date,
        recorded=recorded or {},
    )


def _thinking(model: ModelConfig) -> Literal["on", "off"]:
    try:
        return "on" if load_renderer(model).thinks else "off"
    except ModelError:
        return "on" if model.reasoning in ("own", "mask") else "off"


def _dated(recipe: Recipe, day: datetime.date | None) -> Recipe:
    """The recipe with `day` in each model that has no date. A checkpoint takes the date of the seed's model."""
    changes: dict[str, Any] = {}
    if recipe.model.date is None:
        changes["model"] = recipe.model.model_copy(update={"date": day})
    if recipe.judge is not None and recipe.judge.model.date is None:
        judged = recipe.judge.model.model_copy(update={"date": day})
        changes["judge"] = recipe.judge.model_copy(update={"model": judged})
    return recipe.model_copy(update=changes)


def _with_tasks_grader(recipe: Recipe) -> Recipe:
    """The recipe with the grader that its task specifies, if it names none itself."""
    own = recipe.rewrite
    if own.grader is not None or recipe.task is None:
        return recipe
    task = get_task(recipe.task)
    grader = task.paper_grader if own.preset and task.paper_grader else task.grader
    return recipe.model_copy(update={"rewrite": own.model_copy(update={"grader": grader})})


def _target(recipe: Recipe, run_program: Runner) -> Task:
    """The recipe's `task`, or one built from its `data`, `template` and `grader`."""
    own = recipe.rewrite
    embed = lazy_embed(recipe.shift.embedding, recipe.model.device)
    grade = make_grader(own.grader or "none", run_program, embed)
    if recipe.task is None:
        return Task(
            name=HELDOUT,
            skill="target",
            ask=lambda example: example.prompt,
            grade=grade,
            load=read_conversations,
            own_rows=True,
            template=own.template or template_for(recipe.model.path, "using" if own.preset else "own-words"),
            metric=metric_of(own.grader),
        )
    task = get_task(recipe.task)
    if task.template is None and not recipe.evaluates_only:
        raise RecipeError(f"The task '{task.name}' is for evaluation only; name another, or your own `data`.")
    if not own.grader:
        grade = partial(task.grade, run=run_program) if "sandbox" in task.needs else task.grade
    metric, reads = (metric_of(own.grader), frozenset[str]()) if own.grader else (task.metric, task.reads)
    wording = task.paper_template if own.preset and task.paper_template else task.template
    template = own.template or wording or template_for(recipe.model.path, "own-words")
    return replace(task, template=template, grade=grade, metric=metric, reads=reads)


def _source(recipe: Recipe, task: Task) -> DataConfig:
    """The recipe's `data`, completed by the task's own."""
    own, default = recipe.data, task.train
    if own is not None and own.path:
        return own
    if recipe.evaluates_only:  # how rows are read applies to a file that a task names
        return own.model_copy(update={"heldout": 0}) if own else DataConfig()
    if default is None:
        raise RecipeError(f"The task '{task.name}' names no training data; name some in `data.path`.")
    named = own.model_fields_set - {"path"} if own else ()
    return default.model_copy(update={key: getattr(own, key) for key in named})


def _runs(recipe: Recipe) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for arm, config in recipe.arms.items():
        train, own = recipe.arm_train(config), recipe.train.seed
        made_here = config.kind.weights in ("trained", "interpolated")
        seeds: list[int | None] = [*recipe.seeds] if recipe.seeds and made_here else [None]
        for seed in seeds:
            suffix = "" if seed in (None, own) else f"@{seed}"
            settings = train if seed is None else train.model_copy(update={"seed": seed})
            towards = f"{config.of}{suffix}" if config.of else None
            runs[arm + suffix] = Run(arm + suffix, arm, config, settings, towards)
    return runs
