"""How a run is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .budget import Budget
from .settings import IsPath, Settings, also, keeps


class Adapter(Settings):
    """LoRA."""

    r: int = Field(default=8, gt=0)
    """Rank."""
    alpha: int = Field(default=16, gt=0)
    """Scale: the adapter's output is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    targets: list[str] | Literal["all-linear"] = ["q_proj", "v_proj"]
    """Modules that get an adapter."""


class Launch(Settings):
    """Training in several processes, by `accelerate launch`."""

    processes: int | None = Field(default=None, gt=0)
    """Processes on this machine, each with a copy of the model (DDP)."""
    config: Annotated[str | None, IsPath()] = None
    """accelerate's config file, for everything but DDP on this machine."""

    @model_validator(mode="after")
    def _says_how(self) -> Launch:
        if self.processes is None and self.config is None:
            raise ValueError("say how many `processes`, or name an accelerate `config` file")
        return self


# Random numbers are drawn per micro-batch and process, and the router loss is a mean per micro-batch.
_DROPOUT = ("adapter.dropout is above 0", lambda train: train.adapter.dropout > 0)
_MICRO_BATCHES_COUNT = (
    "adapter.dropout or router_loss is above 0",
    lambda train: train.adapter.dropout > 0 or train.router_loss > 0,
)
TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
LOSSES = ("nll", "dft")  # TRL's; a wrong name would show only after rewriting


class TrainConfig(Settings):
    """Fine-tuning (eq. 2 and 5). The defaults are those of the paper's appendix A. Keys that keep the results change
    how the weights are computed, not which weights result."""

    method: Literal["lora", "full", "qlora"] = "lora"
    """LoRA, all weights, or LoRA over a quantised model."""
    adapter: Adapter = Adapter()
    lr: float = Field(default=1e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warmup."""
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    epochs: float = Field(default=2, gt=0)
    """Passes over the rows."""
    max_steps: int | None = Field(default=None, gt=0)
    """Optimiser steps, in place of epochs."""
    batch_size: int = Field(default=8, gt=0)
    """Rows per optimiser step."""
    micro_batch_size: Annotated[int, keeps(unless=_MICRO_BATCHES_COUNT), Field(gt=0)] = 2
    """Rows at a time on one device; lower it if there is too little memory."""
    max_length: Annotated[int, also("verify", "choose"), Field(gt=1)] = 2048
    """Most tokens of a training sequence. A longer rewrite is rejected, a longer row stops the run."""
    allow_unusable_rows: bool = False
    """Cut rows that are longer than max_length and leave out rows that can't be rendered, in place of an error."""
    mask_above: float | None = Field(default=None, gt=0)
    """No loss on tokens whose negative log-likelihood under the seed model is above this many nats."""
    router_loss: float = Field(default=0.0, ge=0)
    """Weight of the load-balancing loss of a mixture of experts; at 0 the loss is on response tokens alone."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Dtype of the computation."""
    gradient_checkpointing: Annotated[bool | Literal["auto"], keeps()] = "auto"
    """Less memory for more time."""
    packing: bool = False
    """Lay several rows end to end in one sequence."""
    save_every: Annotated[int, keeps(), Field(gt=0)] = 100
    """Optimiser steps between checkpoints."""
    merge: Annotated[bool, keeps()] = False
    """Also write the adapter merged into the weights."""
    launch: Annotated[Launch | None, keeps(unless=_DROPOUT)] = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Random seed of the order of the rows and of the adapter's first weights."""
    report_to: Annotated[list[TrackerName], keeps()] = []
    """Trackers that get the training's log, the scores and the verdict (docs/sharing.md)."""
    budget: Budget | None = None
    extra: dict[str, Any] = {}
    """Further settings for TRL's SFTConfig."""

    def deciding(self, step: str) -> dict[str, Any]:
        """As `Settings.deciding`. Without a budget, the values that identify trainings of earlier versions."""
        found = super().deciding(step)
        if found.get("budget") is None:
            found.pop("budget", None)
        return found

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
