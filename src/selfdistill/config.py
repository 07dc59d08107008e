"""The recipe: one model for the YAML file, the `key=value` overrides and the copy saved with an experiment."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import RecipeError


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerConfig(Settings):
    """An OpenAI-compatible endpoint, for `backend: openai`. The key is read from the environment variable `key_env`,
    and appears in no file."""

    url: str
    key_env: str | None = None
    api: Literal["chat", "completions"] = "chat"
    concurrency: int = Field(default=16, gt=0)
    timeout: float = Field(default=120.0, gt=0)
    retries: int = Field(default=6, ge=0)


class EngineConfig(Settings):
    """How `backend: vllm` runs: on how many GPUs, with which share of their memory (left out: vLLM's own), quantised
    how, and whether it guesses the next tokens from the prompt, where a rewrite finds its reference
    (`speculate: reference`)."""

    tensor_parallel: int = Field(default=1, gt=0)
    memory_fraction: float | None = Field(default=None, gt=0, le=1)
    quantization: str | None = None
    speculate: Literal["reference"] | None = None

    @property
    def deciding(self) -> dict[str, Any]:
        """What an answer depends on, rounding included; what is as by default is left out."""
        return self.model_dump(exclude={"memory_fraction"}, exclude_defaults=True)


class ModelConfig(Settings):
    """The seed model. `layout` is how messages become text: the model's own chat template (`chat`), the paper's
    `alpaca`, or a Jinja chat template file. `server` is where the backend `openai` finds it, `engine` how the backend
    `vllm` runs it, and `labels` is what the labels of a model for the backend `classifier` mean."""

    path: str
    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: str = "auto"
    layout: str = "chat"
    template_kwargs: dict[str, Any] = {}
    batch_tokens: int = Field(default=16384, gt=0)
    trust_remote_code: bool = False
    server: ServerConfig | None = None
    engine: EngineConfig = EngineConfig()
    labels: dict[str, Literal["safe", "harmful"]] = {}


class DataConfig(Settings):
    """Rows to read: a file, a `datasets` folder, or a hub name (left out: where the recipe's task has its own). `n` of
    them are drawn with `seed`; draws are nested. `heldout` rows are set aside before the draw and never trained on."""

    path: str = ""
    format: Literal["auto", "alpaca", "prompt_completion", "question_answer", "messages", "sharegpt"] = "auto"
    config: str | None = None
    split: str = "train"
    columns: dict[str, str] = {}
    n: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32 - 1)
    heldout: int = Field(default=0, ge=0)
    on_bad_row: Literal["stop", "skip"] = "stop"


RECIPES = Path(__file__).with_name("recipes")
"""The folder of the recipes that ship with the package."""

SAMPLING_PRESETS: dict[str, dict[str, Any]] = {
    # The paper's code samples rewrites and all evaluation but HumanEval like this.
    "paper": {"temperature": 0.95, "top_p": 0.7, "top_k": 50, "max_new_tokens": 512},
    "greedy": {"temperature": 0.0},
}


class Sampling(Settings):
    """How answers are drawn. `temperature: 0` is greedy. Every row has a seed of its own, from `seed` and its content,
    so that an answer depends neither on batch nor on order. `preset: paper` (or greedy) stands for its values, and
    those that are written beside it change them."""

    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=512, gt=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "preset" not in values:
            return values
        preset = values["preset"]
        if preset not in SAMPLING_PRESETS:
            raise ValueError(f"there is no preset {preset!r}; choose {' or '.join(SAMPLING_PRESETS)}")
        return {**SAMPLING_PRESETS[preset], **{key: value for key, value in values.items() if key != "preset"}}


class Hygiene(Settings):
    """What no rewrite may do, whatever its answer. A limit of null, or false, turns a check off."""

    reference_talk: bool = True
    refusal: bool = True
    end_of_turn: bool = True
    script: bool = True
    max_repeats: int | None = Field(default=8, gt=1)
    min_length_ratio: float | None = Field(default=0.1, ge=0)
    max_length_ratio: float | None = Field(default=10.0, gt=0)


Grader = str | dict[str, Any]


class RewriteConfig(Settings):
    """Rewriting (eq. 3) and selection (eq. 4). `template` is using, refer, math or a file; `grader` as in `grading`.
    Where left out, both come from the task."""

    template: str | None = None
    backend: str = "hf"
    sampling: Sampling = Sampling(**SAMPLING_PRESETS["paper"])
    grader: Grader | None = None
    hygiene: Hygiene = Hygiene()
    min_accepted: float = Field(default=0.05, ge=0, le=1)

    @field_validator("sampling", mode="before")
    @classmethod
    def _from_the_papers(cls, values: Any) -> Any:
        """What is not written is the paper's, not greedy."""
        return {"preset": "paper", **values} if isinstance(values, dict) else values


class Adapter(Settings):
    r: int = Field(default=8, gt=0)
    alpha: int = Field(default=16, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] | Literal["all-linear"] = ["q_proj", "v_proj"]


class TrainConfig(Settings):
    """Fine-tuning (eq. 2 and 5) as in the paper's appendix A unless said otherwise. `batch_size` is rows a step, made
    of micro-batches of `micro_batch_size`. No loss is taken on tokens whose negative log-likelihood under the seed is
    over `mask_above` nats."""

    method: Literal["lora", "full", "qlora"] = "lora"
    adapter: Adapter = Adapter()
    lr: float = Field(default=1e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    epochs: float = Field(default=2, gt=0)
    max_steps: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=8, gt=0)
    micro_batch_size: int = Field(default=2, gt=0)
    max_length: int = Field(default=2048, gt=1)
    allow_unusable_rows: bool = False
    mask_above: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    gradient_checkpointing: bool = False
    packing: bool = False
    save_every: int = Field(default=100, gt=0)
    merge: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)
    extra: dict[str, Any] = {}

    @model_validator(mode="after")
    def _batch_divides(self) -> TrainConfig:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides the weights. What came later and is off is left out, so that earlier runs are known again."""
        off = {"mask_above"} if self.mask_above is None else set()
        return self.model_dump(mode="json", exclude=FREE_TO_CHANGE | off)


# What may change between an interruption and going on, as the advice for too little memory asks for: it changes how the
# weights are reached, not which.
FREE_TO_CHANGE = {"micro_batch_size", "gradient_checkpointing", "save_every", "merge"}


class ReplayConfig(Settings):
    """Rows of other data that are mixed in as they are: those of a `task`'s training split, or at a `path`. `share` is
    how many there are for one row of the arm's own."""

    task: str | None = None
    path: str | None = None
    format: str | None = None
    config: str | None = None
    split: str | None = None
    share: float = Field(gt=0, le=10)

    @model_validator(mode="after")
    def _named(self) -> ReplayConfig:
        if self.task is None and self.path is None:
            raise ValueError("name the data to replay: a `task`, or a `path`")
        return self


class ArmConfig(Settings):
    """What to train on and how. `train` holds what differs from the recipe's `train`; docs/baselines.md has the papers.

    `data`: none (the seed), original, rewrites, a mix ratio between 0 and 1 (the share of rows that use the rewrite, 1
    is SDFT), self (the seed's own answers where they pass, else the original), cascade (its own answer, else the
    rewrite, else the original), or interpolate (trains nothing: weights at the share `alpha` of the way from the seed
    to the arm `of`). With `best_of`, that many rewrites are drawn, and of those that pass the likeliest is used.
    `template` is a rewriting template other than the recipe's."""

    data: Literal["none", "original", "rewrites", "self", "cascade", "interpolate"] | float
    n: int | None = Field(default=None, gt=0)
    template: str | None = None
    best_of: int | None = Field(default=None, gt=1)
    of: str | None = None
    alpha: float | None = Field(default=None, ge=0, le=1)
    replay: ReplayConfig | None = None
    train: dict[str, Any] = {}

    @field_validator("data", mode="before")
    @classmethod
    def _source(cls, data: Any) -> Any:
        sources = ("none", "original", "rewrites", "self", "cascade", "interpolate")
        if data in sources:
            return data
        if isinstance(data, int | float) and not isinstance(data, bool) and 0 <= data <= 1:
            return float(data)
        raise ValueError(f"choose {', '.join(sources)}, or a mix ratio between 0 and 1, not {data!r}")

    @model_validator(mode="after")
    def _settings_fit(self) -> ArmConfig:
        if self.data == "interpolate":
            if self.of is None or self.alpha is None:
                raise ValueError("`data: interpolate` needs `of`, the arm to go towards, and `alpha`, how far")
            if self.n or self.replay or self.train:
                raise ValueError("`data: interpolate` trains nothing: leave out n, replay and train")
        elif self.of is not None or self.alpha is not None:
            raise ValueError("`of` and `alpha` belong to `data: interpolate`")
        if self.best_of and not (self.data == "rewrites" or (isinstance(self.data, float) and self.data)):
            raise ValueError("`best_of` chooses among rewrites; it goes with `data: rewrites` or a mix ratio")
        if self.template is not None and "rewrites" not in self.uses:
            raise ValueError(f"`template` is how responses are rewritten, and `data: {self.data}` uses no rewrites")
        if self.data == "none" and self.replay:
            raise ValueError("`data: none` trains nothing: leave out replay")
        return self

    @property
    def uses(self) -> frozenset[str]:
        """Which answers of the seed it trains on: "rewrites", "self", or both."""
        if isinstance(self.data, float):
            return frozenset({"rewrites"} if self.data else ())
        return frozenset(
            {"rewrites": {"rewrites"}, "self": {"self"}, "cascade": {"self", "rewrites"}}.get(self.data, ())
        )


DEFAULT_ARMS = {
    "seed": ArmConfig(data="none"),
    "vanilla": ArmConfig(data="original"),
    "sdft": ArmConfig(data="rewrites"),
}


class TaskEntry(Settings):
    """A task to evaluate; `path` (and `split`, `config`, `format`) stand in for where its data is by default.
    The name `heldout` is the recipe's own data: its test file, or the rows that `data.heldout` sets aside. `name` is
    what it is called in files and tables, so that one task can be there twice; `system` goes before its prompts.
    `samples` answers are drawn for each item, of which `k` count as one try (pass@k)."""

    task: str
    name: str = ""
    path: str | None = None
    config: str | None = None
    split: str | None = None
    format: str | None = None
    on_bad_row: Literal["stop", "skip"] | None = None
    n: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32 - 1)
    max_new_tokens: int | None = Field(default=None, gt=0)
    system: str | None = None
    few_shot: int | None = Field(default=None, ge=0)
    samples: int = Field(default=1, gt=0)
    k: int = Field(default=1, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        value = {"task": value} if isinstance(value, str) else value
        return {**value, "name": value.get("name") or value.get("task", "")} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _usable(self) -> TaskEntry:
        check_name("task", self.name)
        if self.k > self.samples:
            raise ValueError(f"pass@{self.k} needs at least {self.k} samples an item, not {self.samples}")
        return self


class EvaluateConfig(Settings):
    """`system` is a system prompt under which the safety tasks are asked a second time."""

    tasks: list[TaskEntry] = []
    backend: str = "hf"
    sampling: Sampling = Sampling()
    system: str | None = None

    @field_validator("tasks")
    @classmethod
    def _names_differ(cls, tasks: list[TaskEntry]) -> list[TaskEntry]:
        names = [entry.name for entry in tasks]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"named twice: {', '.join(sorted(doubled))}; give one of them another `name`")
        return tasks


class JudgeConfig(Settings):
    """The model that judges answers for the tasks that ask for one. Prices are in dollars for a million tokens, and
    only `check` reads them."""

    model: ModelConfig
    backend: str = "hf"
    sampling: Sampling = Sampling(max_new_tokens=256)
    input_price: float | None = Field(default=None, ge=0)
    output_price: float | None = Field(default=None, ge=0)

    @field_validator("model", mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class ShiftConfig(Settings):
    """How far the tuned models moved from the seed. Answers to `task` are compared: by default AdvBench as in the paper
    where it is evaluated, else the target. `embedding` is the sentence-transformers model (a folder or hub name) of the
    cosine; on the seed's answers to `kl_prompts` prompts the KL divergence is estimated."""

    task: str | None = None
    embedding: str = "sentence-transformers/all-MiniLM-L6-v2"
    kl_prompts: int = Field(default=128, ge=0)


def check_name(what: str, name: str) -> None:
    """Raises ValueError where `name` is no safe file name."""
    if not name or not all(c.isalnum() or c in "-_.=+" for c in name) or name.startswith("."):
        raise ValueError(f"{what} name '{name}': use letters, digits, '-', '_', '.', '+' and '='")


class Recipe(Settings):
    """An experiment from a dataset to a verdict. `task` fills in data, template and grader where they are left out.
    With `seeds`, every arm is trained once with each. `sweep` makes arms of the others: for each of its parameters (n,
    mix, template or one of `train`) and each value in its list one, see `sweep.py`. `gap` scores the originals and the
    rewrites under the model. `sandbox` is where programs that a model wrote are run."""

    model: ModelConfig
    task: str | None = None
    data: DataConfig | None = None
    rewrite: RewriteConfig = RewriteConfig()
    train: TrainConfig = TrainConfig()
    arms: dict[str, ArmConfig] = DEFAULT_ARMS
    seeds: list[int] = []
    sweep: dict[str, list[Any]] = {}
    evaluate: EvaluateConfig = EvaluateConfig()
    shift: ShiftConfig = ShiftConfig()
    judge: JudgeConfig | None = None
    gap: bool = True
    sandbox: Literal["bubblewrap", "none"] = "bubblewrap"
    note: str | None = None

    @field_validator("sweep", mode="before")
    @classmethod
    def _lists(cls, sweep: Any) -> Any:
        """Parameters by their full name, so that `train: {lr: [...]}` is `train.lr`."""
        flat = _flat(sweep) if isinstance(sweep, dict) else {"sweep": None}
        for name, values in flat.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"{name} needs a list of values, as in `n: [500, 1000]`")
        return flat

    @model_validator(mode="after")
    def _arms_usable(self) -> Recipe:
        if self.task is None and (self.data is None or not self.data.path):
            raise ValueError("name a `task`, or your own data in `data.path`")
        if not self.model.path:
            raise ValueError("name a model in `model.path`")
        if not any(arm.data == "none" for arm in self.arms.values()):
            raise ValueError("no arm has `data: none`; the seed is what every comparison is made with")
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError("`seeds` are different whole numbers from 0 on")
        if self.seeds and any("seed" in arm.train for arm in self.arms.values()):
            raise ValueError(
                "an arm has its own train.seed, and `seeds` trains every arm with each; keep one of the two"
            )
        for name, arm in self.arms.items():
            check_name("arm", name)
            self._arm_fits(name, arm)
            try:
                self.arm_train(arm)
            except ValidationError as error:
                details = [{**detail, "loc": ("train", *detail["loc"])} for detail in error.errors()]
                raise ValueError(f"arm {name}: {'; '.join(map(_problem, details))}") from None
        return self

    def _arm_fits(self, name: str, arm: ArmConfig) -> None:
        """What an arm asks of the rest of the recipe. Raises ValueError."""
        if arm.of is not None and (arm.of not in self.arms or self.arms[arm.of].data in ("none", "interpolate")):
            trained = [other for other, its in self.arms.items() if its.data not in ("none", "interpolate")]
            raise ValueError(f"arm {name}: `of: {arm.of}` names no arm that is trained; choose {', '.join(trained)}")
        if arm.best_of and self.rewrite.sampling.temperature == 0:
            raise ValueError(
                f"arm {name}: best_of {arm.best_of} greedy rewrites would all be the same; set "
                "rewrite.sampling.temperature, or leave out best_of"
            )

    def trained_arm(self, arm: ArmConfig) -> ArmConfig:
        """The arm itself, or the one that it is interpolated from."""
        return self.arms[arm.of] if arm.of else arm

    def arm_train(self, arm: ArmConfig) -> TrainConfig:
        """The recipe's `train` with what the arm changes."""
        return TrainConfig.model_validate(_merge(self.train.model_dump(), self.trained_arm(arm).train))


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        # A preset replaces what stood there; otherwise the old values would win over it.
        if isinstance(old, dict) and isinstance(value, dict) and "preset" not in value:
            value = _merge(old, value)
        merged[key] = value
    return merged


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a YAML recipe, or one that ships with the package by its name; `overrides` are `key=value` with dots in the
    key and YAML in the value.

    Raises RecipeError that names the key, the reason, and the key that was probably meant.
    """
    found = load_recipes(path, overrides)
    if list(found) != [""]:
        raise RecipeError(
            f"{path} holds {len(found)} experiments ({', '.join(found)}); run them with `selfdistill reproduce {path}`."
        )
    return found[""]


def load_recipes(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Recipe]:
    """The recipes of a file with `experiments`, each of which changes what stands around them; else the one, with an
    empty name. Raises RecipeError as `load_recipe` does."""
    path = recipe_file(path)
    values = _read_yaml(path)
    changes = values.pop("experiments", None)
    if changes is None:
        return {"": make_recipe(values, overrides, source=str(path))}
    if not isinstance(changes, dict) or not changes or not all(isinstance(its, dict) for its in changes.values()):
        raise RecipeError(f"{path}: `experiments` needs names, and for each what it changes.")
    made = {}
    for name, its in changes.items():
        try:
            check_name("experiment", str(name))
        except ValueError as error:
            raise RecipeError(f"{path}: {error}.") from None
        whole = _merge(_written_out(values), _written_out(its))
        made[str(name)] = make_recipe(whole, overrides, source=f"{path}, {name}")
    return made


def recipe_file(path: Path | str) -> Path:
    """The file itself, or the one of that name that ships with the package."""
    shipped = RECIPES / f"{path}.yaml"
    return shipped if not Path(path).exists() and shipped.is_file() else Path(path)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe at {path}; `selfdistill init --model M --data D` writes one.") from None
    except IsADirectoryError:
        raise RecipeError(f"{path} is a folder, not a recipe; name a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is no text"
        raise RecipeError(
            f"{path}{where} is not readable as YAML ({why}); mend it, or let `selfdistill init` write one."
        ) from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path} holds no recipe: expected `key: value` lines, such as `model: NAME`.")
    return values


def make_recipe(values: dict[str, Any], overrides: Sequence[str] = (), source: str = "the recipe") -> Recipe:
    """A checked recipe from plain values. Raises RecipeError."""
    values = _written_out(values)
    for override in overrides:
        changes = _written_out(_nested(override))
        if "arms" in changes and not values.get("arms"):
            values["arms"] = {name: arm.model_dump() for name, arm in DEFAULT_ARMS.items()}
        values = _merge(values, changes)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors()]
        raise RecipeError(f"{source}: " + "; ".join(dict.fromkeys(problems)) + ".") from None


def save_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every setting written out."""
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _written_out(values: dict[str, Any]) -> dict[str, Any]:
    """`model: NAME`, `data: FILE` and `sampling: paper` written out, and sections with nothing in them left out."""
    values = {key: value for key, value in values.items() if value is not None or key not in _SECTIONS}
    for key in ("model", "data"):
        if isinstance(values.get(key), str):
            values[key] = {"path": values[key]}
    for key in ("rewrite", "evaluate"):
        section = values.get(key)
        if isinstance(section, dict) and isinstance(section.get("sampling"), str):
            values[key] = {**section, "sampling": {"preset": section["sampling"]}}
    return values


_SECTIONS = ("data", "rewrite", "train", "arms", "sweep", "evaluate", "shift", "judge", "seeds")


def _nested(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"'{override}' is no override; write key=value, for example train.lr=2e-5.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"The value in '{override}' is not readable as YAML; put it in quotes.") from None
    if isinstance(value, str):
        # YAML 1.1 reads 1e-4 (no dot) as a string; nobody means that.
        with suppress(ValueError):
            value = float(value)
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def _problem(detail: Any) -> str:
    """One validation error as a phrase: the key with its path, and what to do about it."""
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location)
    if detail["type"] == "extra_forbidden":
        known = sorted(set(_keys(Recipe)))
        leaf = location[-1]
        parent = ".".join(
            part for part, before in zip(location[:-1], ["", *location], strict=False) if before != "arms"
        )
        siblings = [k for k in known if k.rpartition(".")[0] == parent.removesuffix(".0")]
        near = difflib.get_close_matches(leaf, [k.rpartition(".")[2] for k in siblings], n=1)
        near = near or [k for k in known if k.rpartition(".")[2] == leaf][:1]
        near = near or difflib.get_close_matches(key, known, n=1)
        return f"unknown key `{key}`" + (f" (did you mean `{near[0]}`?)" if near else "")
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "missing":
        return f"`{key}` is missing"
    where = f"`{key}`: " if key else ""
    given = "" if detail["type"] in ("value_error",) else f", not {detail['input']!r}"
    return f"{where}{message[0].lower()}{message[1:]}{given}"


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield prefix + name
        candidates = [info.annotation, *getattr(info.annotation, "__args__", ())]
        for inner in candidates:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _keys(inner, f"{prefix}{name}.")
