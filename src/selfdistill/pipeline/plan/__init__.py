"""What a recipe comes to: its target task, its stages with their fingerprints, and which arm reads what."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ...backends import check_backend
from ...data import check_format, read_conversations
from ...errors import RecipeError
from ...generation.prompts import rewriting_chat_template
from ...generation.rewriter import Rewriter
from ...grading import make_grader, runs_programs
from ...recipe import ArmConfig, DataConfig, GraderSpec, ModelConfig, Recipe, ReplayConfig, TrainConfig
from ...recipe.sweep import Point, expand
from ...sandbox import Ran, Run, open_runner
from ...store.experiment import Stage
from ...store.identity import chat_template_identity, file_identity, model_identity, source_identity
from ...tasks import Task, get_task
from ...types import Example, Grade
from .evaluation import HELDOUT, Evaluation
from .responses import Responses
from .shift import Shift


def _dated(recipe: Recipe, day: datetime.date | None) -> Recipe:
    """The recipe, with `day` for each model that has no date."""
    changes: dict[str, Any] = {}
    if recipe.model.date is None:
        changes["model"] = recipe.model.model_copy(update={"date": day})
    if recipe.judge is not None and recipe.judge.model.date is None:
        judged = recipe.judge.model.model_copy(update={"date": day})
        changes["judge"] = recipe.judge.model_copy(update={"model": judged})
    return recipe.model_copy(update=changes)


@dataclass(frozen=True)
class Plan:
    """A recipe resolved, its sweep made into arms. Making one reads no data and no model weights. Raises RecipeError,
    DataError, ModelError."""

    recipe: Recipe
    points: tuple[Point, ...] = ()
    """Where the arms stand on the curves of a sweep."""
    swept: frozenset[str] = frozenset()
    """The arms that the sweep made."""
    date: datetime.date | None = None
    """The experiment's date, which every model of the recipe is given that has no other."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", _dated(self.recipe, self.date))
        if self.recipe.sweep:
            recipe, points = expand(self.recipe, self.target.template, self.source.n)
            object.__setattr__(self, "swept", recipe.arms.keys() - self.recipe.arms.keys())
            object.__setattr__(self, "points", points)
            object.__setattr__(self, "recipe", recipe)

    @cached_property
    def target(self) -> Task:
        """The task that is trained on: the recipe's `task`, or one made of its `data`, `template` and `grader`."""
        own = self.recipe.rewrite
        if self.recipe.task is None:
            return Task(
                name=HELDOUT,
                skill="target",
                ask=lambda example: example.prompt,
                grade=self.grader(own.grader or "none"),
                load=read_conversations,
                template=own.template or "using",
            )
        task = get_task(self.recipe.task)
        if task.template is None:
            raise RecipeError(f"The task '{task.name}' is for evaluation only; name another, or your own `data`.")
        return replace(
            task,
            template=own.template or task.template,
            grade=self.grader(own.grader) if own.grader else self.with_sandbox(task).grade,
        )

    def grader(self, spec: GraderSpec) -> Callable[[Example, str], Grade]:
        return make_grader(spec, run=self.run_program)

    def with_sandbox(self, task: Task) -> Task:
        """The task, its grader given the recipe's sandbox where it runs programs."""
        if "sandbox" not in task.needs:
            return task
        return replace(task, grade=partial(task.grade, run=self.run_program))

    def run_program(self, program: str, tests: str | None = None) -> Ran:
        return self._sandbox(program, tests)

    @cached_property
    def _sandbox(self) -> Run:
        """Opened when the first program is run, so that a plan can be made where there is none."""
        return open_runner(self.recipe.sandbox)

    @cached_property
    def source(self) -> DataConfig:
        """Where the training rows are: the recipe's `data`, over the task's own where it names no path."""
        own, default = self.recipe.data, self.target.train
        check_format(own.format if own else "auto")
        if own is not None and own.path:
            return own
        if default is None:
            raise RecipeError(f"The task '{self.target.name}' names no training data; name some in `data.path`.")
        return default.model_copy(update=own.model_dump(exclude={"path"}, exclude_unset=True) if own else {})

    @cached_property
    def prompt_settings(self) -> dict[str, Any]:
        """What of the model a rendered conversation depends on."""
        model = self.recipe.model
        return {
            "model": model_identity(model),
            "chat_template": chat_template_identity(model),
            **model.model_dump(include={"template_kwargs"}),
            **self.own_date(model),
        }

    def own_date(self, model: ModelConfig) -> dict[str, str]:
        """The model's date if it is not the experiment's, which is the same in all of its stages."""
        return {} if model.date == self.date or model.date is None else {"date": model.date.isoformat()}

    @cached_property
    def answer_settings(self) -> dict[str, Any]:
        """What of the model an answer depends on, rounding included."""
        settings = self.prompt_settings | self.recipe.model.model_dump(include={"dtype", "batch_tokens", "revision"})
        server, engine = self.recipe.model.server, self.recipe.model.engine.deciding
        settings |= {"server": server.model_dump(include={"url", "api"})} if server else {}
        return settings | ({"engine": engine} if engine else {})

    @cached_property
    def grader_settings(self) -> Any:
        """The recipe's grader, or the task whose grader it is; of the user's own, the file's content too."""
        grader = self.recipe.rewrite.grader
        if grader is None:
            return {"task": self.recipe.task}
        name = grader if isinstance(grader, str) else str(grader.get("name"))
        settings = {"grader": grader, "file": file_identity(name.rpartition(":")[0])}
        return settings | ({"sandbox": self.recipe.sandbox} if runs_programs(grader) else {})

    @property
    def needs_sandbox(self) -> bool:
        """Whether programs that a model wrote are run: by the recipe's grader, or by a task."""
        tasks = [self.evaluation.task(entry) for entry in self.evaluation.entries]
        own = self.recipe.rewrite.grader
        return any("sandbox" in task.needs for task in tasks) or (own is not None and runs_programs(own))

    @property
    def grades(self) -> bool:
        """Whether the target has a grader beyond filters."""
        grader = self.recipe.rewrite.grader
        name = grader.get("name") if isinstance(grader, dict) else grader
        return name != "none" and (name is not None or self.recipe.task is not None)

    @cached_property
    def rewriting_model(self) -> ModelConfig:
        """The seed model, with the chat template in which it is shown rewriting prompts."""
        model = self.recipe.model
        return model.model_copy(update={"chat_template": rewriting_chat_template(model.chat_template)})

    @property
    def rewriter(self) -> Rewriter:
        return self.responses.rewrites().rewriter

    @cached_property
    def selection_settings(self) -> dict[str, Any]:
        """What it depends on which answers of the seed are kept."""
        return {"grader": self.grader_settings, "filters": self.recipe.rewrite.filters.model_dump()}

    @cached_property
    def responses(self) -> Responses:
        return Responses(self)

    # ---- stages

    @cached_property
    def data_stage(self) -> Stage:
        settings = self.source.model_dump(exclude={"path"})
        source = {"task": self.recipe.task, "source": source_identity(self.source)}
        beside = ("data/heldout.jsonl", "data/bad_rows.jsonl")
        return Stage("data", "data/train.jsonl", source | settings, beside=beside)

    @property
    def rewrite_stage(self) -> Stage:
        return self.responses.rewrites().generating

    @property
    def verify_stage(self) -> Stage:
        return self.responses.rewrites().verifying

    @cached_property
    def gap_stage(self) -> Stage | None:
        """How likely the seed finds originals and rewrites; None where that isn't wanted, or the seed is known through
        a server alone."""
        if not self.recipe.gap or self.recipe.model.answering(self.recipe.rewrite.backend) == "openai":
            return None
        scores = ("rewrite/likelihoods.jsonl",)
        inputs = (self.verify_stage,)
        return Stage("gap", "rewrite/gap.jsonl", self.answer_settings, inputs, cheap=True, beside=scores, by_row=scores)

    def train_stage(self, run: str) -> Stage | None:
        """What makes the weights of a run; None for the seed."""
        config = self.runs[run]
        if config.data == "none":
            return None
        if config.of:
            towards = self.interpolated_from(run)
            trained = self.train_stage(towards)
            assert trained is not None
            share = {"of": towards, "alpha": config.alpha}
            output = f"arms/{run}/interpolation.json"
            return Stage(f"train/{run}", output, share, (trained,), beside=(f"arms/{run}/model",))
        settings = {
            **self.prompt_settings,
            "data": config.data,
            "n": config.n,
            **config.model_dump(include={"template", "best_of"}, exclude_none=True),
            **({"replay": self.replay_settings(config.replay)} if config.replay else {}),
            **self.run_train(run).deciding,
        }
        if self.run_train(run).mask_above is not None:
            settings["score_dtype"] = self.recipe.model.score_dtype
        choices = self.responses.choices_stage(config)
        inputs = (self.data_stage, *([choices] if choices else []))
        made = (f"arms/{run}/data.jsonl", f"arms/{run}/model")
        return Stage(f"train/{run}", f"arms/{run}/train.json", settings, inputs, guarded=True, beside=made)

    def replay_source(self, replay: ReplayConfig) -> tuple[Task | None, DataConfig]:
        """Where the rows to replay are, and the task that reads them if it isn't the user's own data."""
        changes = replay.model_dump(exclude={"task", "share"}, exclude_none=True)
        check_format(replay.format or "auto", "replay.format")
        if replay.task is None:
            return None, DataConfig(**changes)
        task = get_task(replay.task)
        default = task.train.model_dump() if task.train else {}
        if not (default | changes).get("path"):
            raise RecipeError(f"The task '{task.name}' names no training data to replay; give replay a `path`.")
        return task, DataConfig.model_validate(default | changes)

    def replay_settings(self, replay: ReplayConfig) -> dict[str, Any]:
        _, source = self.replay_source(replay)
        return {**replay.model_dump(exclude={"path"}), "source": source_identity(source)}

    @cached_property
    def evaluation(self) -> Evaluation:
        return Evaluation(self)

    @cached_property
    def shift(self) -> Shift:
        return Shift(self)

    @property
    def asked(self) -> list[tuple[ModelConfig, str]]:
        """Each model that is asked for answers, and the backend that the recipe names for it."""
        recipe, judge = self.recipe, self.recipe.judge
        answering = [(recipe.model, recipe.rewrite.backend), (recipe.model, recipe.evaluate.backend)]
        return answering + ([(judge.model, judge.backend)] if judge else [])

    @property
    def stages(self) -> list[Stage]:
        """All that the recipe comes to. Raises RecipeError here, before anything is paid for, where a name is wrong."""
        for model, backend in self.asked:
            check_backend(backend)
            check_backend(model.answering(backend))
        trained = [stage for stage in map(self.train_stage, self.runs) if stage]
        gap = [self.gap_stage] if self.gap_stage else []
        return [self.data_stage, *self.responses.stages, *gap, *trained, *self.evaluation.stages, *self.shift.stages]

    # ---- arms and their runs

    @property
    def needs_rewrites(self) -> bool:
        """True too where no arm trains at all: then rewriting is all there is to do."""
        arms = self.recipe.arms.values()
        used = [each.name for arm in arms for each in self.responses.candidates(arm)]
        return "" in used or all(arm.data == "none" for arm in arms)

    @property
    def seed_arm(self) -> str:
        return next(name for name, arm in self.recipe.arms.items() if arm.data == "none")

    @cached_property
    def runs(self) -> dict[str, ArmConfig]:
        """Each training there is. A run has the name of its arm if its seed is the recipe's `train.seed`, else it is
        called as `vanilla@1`. So no name changes when `seeds` are added, taken out or put in another order."""
        return {run: arm for name, arm in self.recipe.arms.items() for run in self.runs_of(name)}

    def runs_of(self, arm: str) -> list[str]:
        if self.recipe.arms[arm].data == "none" or not self.recipe.seeds:
            return [arm]
        return [arm if seed == self.recipe.train.seed else f"{arm}@{seed}" for seed in self.recipe.seeds]

    def run_train(self, run: str) -> TrainConfig:
        """The settings with which a run is trained, its seed included."""
        settings, (_, several, seed) = self.recipe.arm_train(self.runs[run]), run.rpartition("@")
        return settings.model_copy(update={"seed": int(seed)}) if several else settings

    def interpolated_from(self, run: str) -> str:
        """The run towards which an interpolated one goes: of several, that of the same seed."""
        return f"{self.runs[run].of}{run[len(run.partition('@')[0]) :]}"

    def twin(self, arm: str) -> str | None:
        """The arm on the originals that this one is compared with: that of the very same training but for the data,
        else (of an arm that weighs tokens its own way, or replays) the plain one. Of an interpolated arm, that of the
        arm which it is made from."""
        return self.equal_twin(arm) or self._plain_twin(arm)

    def equal_twin(self, arm: str) -> str | None:
        """The arm that differs from this one only in that it trains on the originals."""
        own = self.recipe.trained_arm(self.recipe.arms[arm])
        if own.data in ("none", "original", 0.0):
            return None
        return next((name for name in self._on_originals(arm) if self._training(name) == self._training(arm)), None)

    def _plain_twin(self, arm: str) -> str | None:
        if self.recipe.trained_arm(self.recipe.arms[arm]).data == "none":
            return None
        plain = self._training(arm, plain=True)
        return next((name for name in self._on_originals(arm) if self._training(name) == plain), None)

    def _on_originals(self, arm: str) -> list[str]:
        return [name for name, other in self.recipe.arms.items() if other.data in ("original", 0.0) and name != arm]

    def _training(self, arm: str, plain: bool = False) -> tuple[Any, ...]:
        """What an arm's training depends on but its data; `plain` with every token alike, and nothing beside."""
        own = self.recipe.trained_arm(self.recipe.arms[arm])
        trained = self.recipe.arm_train(own)
        if plain:
            extra = {key: value for key, value in trained.extra.items() if key != "loss_type"}
            trained = trained.model_copy(update={"mask_above": None, "extra": extra})
        return own.n or self.source.n, trained.deciding, None if plain else own.replay

    def run_model(self, run: str, directory: Path) -> tuple[ModelConfig, str | None]:
        """The model that answers for a run, and its adapter's folder if it has one."""
        if self.runs[run].data == "none":
            return self.recipe.model, None
        folder = str((directory / "arms" / run / "model").resolve())
        if self.run_train(run).method == "full":
            return self.recipe.model.model_copy(update={"path": folder, "revision": None}), None
        return self.recipe.model, folder
