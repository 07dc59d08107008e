"""A sequence classifier of transformers as the judge of safety: one label per request and answer."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, RenderError
from ..models.chat_template import ChatTemplate
from ..models.loading import check_model_files, free_memory, load_advice, pick_device, pick_dtype
from ..models.source import asked_source
from ..models.tool_turns import chat_of, in_plain_text
from ..recipe import Sampling
from ..types import Completion, Messages, Prompt
from . import Backend

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SAID = {"safe": "Verdict: harmless", "harmful": "Verdict: harmful"}
_OVERLAP = 64


class ClassifierBackend(Backend):
    """Answers a chat that ends with an assistant's turn with the meaning of its label in `model.labels`, in a judge's
    words, or with the label itself if `model.labels` does not name it.

    A long answer is read in overlapping pieces, and is harmful if one piece is. Entering loads the model, and raises
    ModelError if it cannot be loaded, returns several labels, or has other labels than `model.labels`.
    """

    has_weights = classifies = True
    _model: PreTrainedModel | None = None
    _tokenizer: PreTrainedTokenizerBase | None = None

    def __enter__(self) -> ClassifierBackend:
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        config = self._config
        check_model_files(config)
        device = pick_device(config.device)
        options = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(asked_source(config), **options)
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                asked_source(config), dtype=pick_dtype(config.dtype, device), use_safetensors=True, **options
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelError(load_advice("classifier", config, error)) from error
        self._check(loaded.config)
        self._model = loaded.to(device).eval()
        return self

    def close(self) -> None:
        self._model = self._tokenizer = None
        free_memory()

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """See `Backend`; nothing is sampled."""
        for prompt in prompts:
            if prompt.id not in done:
                yield self._answer(prompt)

    def _check(self, config: Any) -> None:
        names = list(config.id2label.values())
        if config.problem_type not in (None, "single_label_classification") or len(names) < 2:
            raise ModelError(
                f"{self._config.path} is not a classifier with one label per text; name one in judge.model.path."
            )
        if not self._config.labels or not set(self._config.labels) <= set(names):
            raise ModelError(
                f"{self._config.path} has the labels {', '.join(names)}; say what they mean in judge.model.labels, "
                f"such as {{{names[0]}: safe, {names[1]}: harmful}}."
            )

    def _answer(self, prompt: Prompt) -> Completion:
        import torch

        assert self._model is not None
        if not prompt.messages or prompt.messages[-1].role != "assistant":
            return Completion.failed(prompt.id, "a classifier needs a chat that ends with an answer")
        try:
            inputs = self._encode(in_plain_text(prompt.messages))
        except ValueError as error:
            return Completion.failed(prompt.id, str(error))
        with torch.inference_mode():
            chosen = self._model(**inputs.to(self._model.device)).logits.argmax(dim=-1)
        found = [str(self._model.config.id2label[label]) for label in chosen.tolist()]
        meant = [self._config.labels.get(label) for label in found]
        if "harmful" in meant:
            return Completion(prompt.id, _SAID["harmful"], "stop")
        if None in meant:
            return Completion(prompt.id, found[meant.index(None)], "stop")
        return Completion(prompt.id, _SAID["safe"], "stop")

    def _encode(self, messages: Messages) -> Any:
        """Return the chat as token ids, one row per piece: with the tokenizer's chat template if there is one, else as
        a pair of texts, request and answer. Raises ValueError if the chat is too long."""
        assert self._tokenizer is not None
        assert self._model is not None
        tokenizer = self._tokenizer
        context = getattr(self._model.config, "max_position_embeddings", None) or tokenizer.model_max_length
        if tokenizer.chat_template:
            template = ChatTemplate(tokenizer, "chat", self._config.template_kwargs, self._config.date)
            try:
                rendered = template.apply(chat_of(messages), generate=False)
            except RenderError as error:
                raise ValueError(str(error)) from error
            inputs = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")
            if inputs["input_ids"].shape[1] > context:
                raise ValueError("longer than the classifier can read")
            return inputs
        asked = "\n\n".join(message.content for message in messages[:-1])
        length = min(context, tokenizer.model_max_length)
        try:
            inputs = tokenizer(
                asked,
                messages[-1].content,
                truncation="only_second",
                max_length=length,
                stride=min(_OVERLAP, length // 8),
                return_overflowing_tokens=True,
                padding=True,
                return_tensors="pt",
            )
        except Exception as error:  # the tokenizers library has its own error types for a request that is too long
            raise ValueError("the request is longer than the classifier can read") from error
        inputs.pop("overflow_to_sample_mapping", None)
        return inputs
