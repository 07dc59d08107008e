"""The arms: what each trains on, and how."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from .settings import Settings


class Adapter(Settings):
    r: int = Field(default=8, gt=0)
    alpha: int = Field(default=16, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] | Literal["all-linear"] = ["q_proj", "v_proj"]


class Launch(Settings):
    """Training in several processes, by `accelerate launch`: so many `processes`, as an accelerate `config` file says,
    or both. A file is needed for anything but copies of the model on this machine's devices (DDP)."""

    processes: int | None = Field(default=None, gt=0)
    config: str | None = None

    @model_validator(mode="after")
    def _says_how(self) -> Launch:
        if self.processes is None and self.config is None:
            raise ValueError("say how many `processes`, or name an accelerate `config` file")
        return self


LOSSES = ("nll", "dft")  # TRL's; a wrong one would else show only after rewriting


class TrainConfig(Settings):
    """Fine-tuning (eq. 2 and 5) as in the paper's appendix A unless said otherwise. `batch_size` is rows a step, made
    of micro-batches of `micro_batch_size`. No loss is taken on tokens whose negative log-likelihood under the seed is
    over `mask_above` nats. `router_loss` is the weight of the load-balancing loss of a mixture of experts; at 0 the
    loss is that of eq. 2 and 5, on response tokens alone."""

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
    router_loss: float = Field(default=0.0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    packing: bool = False
    save_every: int = Field(default=100, gt=0)
    merge: bool = False
    launch: Launch | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    extra: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        if (loss := self.extra.get("loss_type", "nll")) not in LOSSES:
            raise ValueError(f"extra.loss_type: TRL has no loss {loss!r}; choose {' or '.join(LOSSES)}")
        if self.packing and not self.extra.get("padding_free", True):
            raise ValueError("`packing` lays rows end to end, and extra.padding_free=false pads them; leave one out")
        return self

    @property
    def deciding(self) -> dict[str, Any]:
        """The settings that decide the weights. The router loss is a mean per micro-batch, whose size then counts."""
        free = FREE_TO_CHANGE - {"micro_batch_size"} if self.router_loss else FREE_TO_CHANGE
        return self.model_dump(mode="json", exclude=free)


# What may change between an interruption and going on, as the advice for too little memory asks for: it changes how the
# weights are reached, not which.
FREE_TO_CHANGE = {"micro_batch_size", "gradient_checkpointing", "save_every", "merge", "launch"}


class ReplayConfig(Settings):
    """Rows of other data that are mixed in unchanged: those of a `task`'s training split, or at a `path`; the other
    settings as in `data`. `share` is how many there are for one row of the arm's own."""

    task: str | None = None
    path: str | None = None
    format: str | None = None
    config: str | None = None
    split: str | None = None
    columns: dict[str, str] | None = None
    on_bad_row: Literal["stop", "skip"] | None = None
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
