"""A model in training next to the seed that it was, for the KL divergence between the two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ..backends.batches import TokenRow
from ..backends.prefill import padded
from ..measure.shift.compared import last_logits
from ..models.cpu import TRAIN_ATTENTION, attend_on_cpu
from ..models.renderer import Renderer
from ..recipe import ModelConfig

if TYPE_CHECKING:
    import torch

_FEW = 2**26  # logits of an adapter's seed; a quarter of a GiB as float32
_PART = 1024  # tokens per batch on a CPU


class WatchedModel:
    """The model in training and the seed that it was; implements `ModelPair`. If only an adapter is trained, the seed
    is the model without it, and its logits are cached while they are few. Otherwise all of them are taken before the
    first step, held in main memory, and `started` is set."""

    started = False

    def __init__(self, model: Any, renderer: Renderer, config: ModelConfig) -> None:
        # On a CPU padding costs more than small batches.
        budget = min(config.batch_tokens, _PART) if model.device.type == "cpu" else config.batch_tokens
        self.config = config.model_copy(update={"batch_tokens": budget})
        self.renderer, self.tuned = renderer, model
        adapters = getattr(model, "peft_config", {}).values() if hasattr(model, "disable_adapter") else ()
        self.has_seed = bool(adapters) and all(getattr(each, "bias", "none") == "none" for each in adapters)
        self.cached: dict[str, torch.Tensor] = {}

    def seed(self) -> AbstractContextManager[Any]:
        """A context in which the model is the seed; without an adapter, only before the first step."""
        found: AbstractContextManager[Any] = self.tuned.disable_adapter() if self.has_seed else nullcontext()
        return found

    def logits(self, rows: Sequence[TokenRow], keep: int) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        inputs = padded(rows, self.tuned.device)
        tuned = last_logits(self.tuned, inputs, keep)
        if rows[0].id not in self.cached and (self.has_seed or not self.started):
            with self.seed():
                seed = last_logits(self.tuned, inputs, keep)
            if not self.has_seed or sum(each.numel() for each in self.cached.values()) + seed.numel() <= _FEW:
                self.cached |= {row.id: logits.to("cpu", copy=True) for row, logits in zip(rows, seed, strict=True)}
            return seed, tuned
        seed = torch.zeros_like(tuned)
        for index, row in enumerate(rows):
            own = self.cached[row.id][-keep:]
            seed[index, keep - len(own) :] = own.to(tuned.device)
        return seed, tuned


@contextmanager
def answering(model: Any) -> Iterator[None]:
    """A context in which the model has no dropout, and an attention that can answer."""
    training, attention = model.training, model.config._attn_implementation
    model.eval()
    if attention == TRAIN_ATTENTION:
        model.set_attn_implementation("sdpa")
    attend_on_cpu(model)
    try:
        yield
    finally:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
        model.train(training)
