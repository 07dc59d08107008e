"""A model as lm-eval asks it: in our layout, tokenized as everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends import Backend
from ..config import ModelConfig
from ..errors import ModelError, RecipeError
from ..models import context_length, load_renderer, model_source
from ..types import messages_from_json
from .quiet import quiet

if TYPE_CHECKING:
    from ..prompts import Renderer

ENGINES = ("hf", "vllm")
# Numbers in the logits of one batch (a GiB in float32): scoring needs them of every token, for the whole vocabulary.
_LOGITS = 1 << 28


def open_lm(engine: str, model: ModelConfig, adapter: str | None, backend: Callable[[], Backend]) -> Any:
    """lm-eval's view of a model (an `lm_eval.api.model.LM`) in our layout. For `hf` the model that `backend()` holds,
    adapter and all, so that one load serves every task; for `vllm` an engine of lm-eval's own with `adapter`.

    Raises RecipeError for an engine that gives no log-likelihoods, ModelError where vLLM is missing.
    """
    if engine == "hf":
        return _hf(model, backend())
    if engine != "vllm":
        raise RecipeError(
            f"The backend '{engine}' gives no log-likelihoods, which lm-eval asks for; evaluate knowledge tasks with "
            f"{' or '.join(ENGINES)}."
        )
    if find_spec("vllm") is None:
        raise ModelError("The backend vllm needs vLLM; install it with `pip install vllm`.")
    return _vllm(model, adapter)


def _hf(model: ModelConfig, backend: Any) -> Any:
    import copy

    from lm_eval.models.huggingface import HFLM

    weights, renderer = backend.loaded()

    class ChatHFLM(HFLM):  # type: ignore[misc,unused-ignore]
        """HFLM with our layout, and batches as long as the token budget and the logits allow."""

        def apply_chat_template(self, chat_history: list[Any], add_generation_prompt: bool = True) -> str:
            return _render(renderer, chat_history)

        def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            whole = self.max_length + 1  # the last token is scored, not read
            self.cut = len({key[0] for key, context, answer in requests if len(context) + len(answer) > whole})
            longest = max(len(context) + len(answer) for _, context, answer in requests)
            self._fit(longest, min(model.batch_tokens, _LOGITS // weights.config.get_text_config().vocab_size))
            return super()._loglikelihood_tokens(requests, *args, **kwargs)

        def generate_until(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            lengths = [len(self.tok_encode(r.args[0])) + r.args[1]["max_gen_toks"] for r in requests]
            self.cut = sum(length > self.max_length for length in lengths)
            self._fit(max(lengths), model.batch_tokens)
            return super().generate_until(requests, *args, **kwargs)

        def _fit(self, longest: int, budget: int) -> None:
            self.batch_size_per_gpu = max(1, budget // min(longest, self.max_length))

    with quiet():
        # Of the tokenizer a copy, since HFLM sets its padding.
        return ChatHFLM(
            pretrained=weights,
            tokenizer=copy.deepcopy(renderer.tokenizer),
            add_bos_token=False,
            max_length=context_length(weights.config),
        )


def _vllm(model: ModelConfig, adapter: str | None) -> Any:
    from lm_eval.models.vllm_causallms import VLLM

    renderer = load_renderer(model)
    rank = json.loads((Path(adapter) / "adapter_config.json").read_text())["r"] if adapter else 0

    class ChatVLLM(VLLM):  # type: ignore[misc,unused-ignore]
        def apply_chat_template(self, chat_history: list[Any], add_generation_prompt: bool = True) -> str:
            return _render(renderer, chat_history)

    with quiet():
        return ChatVLLM(
            pretrained=model_source(model),
            revision=model.revision,
            dtype=model.dtype,
            trust_remote_code=model.trust_remote_code,
            add_bos_token=False,
            lora_local_path=adapter,
            max_lora_rank=max(16, rank),
        )


def _render(renderer: Renderer, chat: list[dict[str, str]]) -> str:
    """A last assistant message is what the answer starts with, for lm-eval as for `Renderer`."""
    return renderer.text(messages_from_json(chat))
