"""Any server that speaks the OpenAI API: vLLM, SGLang, llama.cpp, TGI, Ollama, `transformers serve`, hosted services.

Requests run in an event loop in a separate thread, so that the caller can have its own event loop, and Ctrl-C ends the
requests.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, RecipeError, RenderError, SelfDistillError
from ..grading.endings import ends_in_loop
from ..grading.traces import join, opened
from ..models.tool_turns import chat_arguments, chat_of, in_plain_text
from ..recipe import ModelConfig, Sampling
from ..types import Completion, FunctionCall, Messages, Prompt, tools_of, write_reply
from ..types.wording import counted
from . import Backend
from .accepted import Accepted
from .cache import EngineCache
from .endpoint import Endpoint, FaultError
from .parse import in_one_form

if TYPE_CHECKING:
    import httpx

    from ..models.renderer import Renderer

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds; the limit of a random wait, which doubles with each fault
# If this many prompts in a row get no answer after all their retries, the server is at fault.
_OUTAGE = 10
# TGI's version in a reply. Its chat API adds 2 to presence_penalty and uses the sum as a repetition penalty.
_TGI = re.compile(r"\d+\.\d+\.\d+\S*-(native|sha-[0-9a-f]{7,})")


class OpenAIBackend(Backend):
    """Answers from the model `model.path` on the server `model.server`. With `api: completions` prompts are rendered
    here, with the tokenizer of that name or folder. With `api: chat` the server applies its own chat template.

    Raises RecipeError if the settings cannot work or the key's environment variable is not set. `generate` raises
    ModelError if the server cannot be reached, refuses the key or the model, or stops answering. The answers received
    before the error are kept.
    """

    needs_server = True

    def __init__(self, model: ModelConfig, adapter: str | None = None, cache: EngineCache | None = None) -> None:
        super().__init__(model, adapter, cache)
        if model.server is None:
            raise RecipeError("The backend openai needs `server: {url: ...}` next to the model's path.")
        if adapter is not None:
            raise RecipeError(
                "The backend openai can't load an adapter into a server; answer with another backend, or serve the "
                "merged model and name it in model.path."
            )
        if model.server.api == "chat" and model.chat_template != "chat":
            raise RecipeError(
                "With the chat API the server applies its own template, so chat_template "
                f"'{model.chat_template}' would be ignored; set server.api to completions."
            )
        self._server = model.server
        self._endpoint = Endpoint(model.server)
        self._renderer: Renderer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accepted = Accepted(self._endpoint.shown)

    def __enter__(self) -> OpenAIBackend:
        from ..models.loading import load_renderer, served_template_kwargs

        if self._server.api == "completions":
            self._renderer = load_renderer(self._config)
        else:
            self._template_kwargs = served_template_kwargs(self._config)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="selfdistill-openai", daemon=True)
        self._thread.start()
        self._endpoint.open()
        return self

    def close(self) -> None:
        loop, self._loop, self._renderer = self._loop, None, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    async def _end(self) -> None:
        requests = asyncio.all_tasks() - {asyncio.current_task()}
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        await self._endpoint.close()

    def generate(
        self, prompts: Iterable[Prompt], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """See `Backend`. At most `server.concurrency` prompts are in flight; further prompts are read as answers
        come."""
        if self._loop is None:
            raise RuntimeError("OpenAIBackend is a context manager: with OpenAIBackend(model) as backend: ...")
        waiting: dict[Future[Completion], str] = {}
        self._unanswered = self._faults = 0
        try:
            for prompt in prompts:
                if prompt.id in done:
                    continue
                try:
                    asked = self._asked(prompt)
                except ValueError as error:
                    yield Completion.failed(prompt.id, str(error))
                    continue
                request = self._answer(prompt, asked, sampling)
                waiting[asyncio.run_coroutine_threadsafe(request, self._loop)] = prompt.id
                if len(waiting) == self._server.concurrency:
                    yield from self._finished(waiting)
            while waiting:
                yield from self._finished(waiting)
        finally:
            for future in waiting:
                future.cancel()

    def _finished(self, waiting: dict[Future[Completion], str]) -> Iterator[Completion]:
        """Wait for an answer, and take finished requests out of `waiting`. Raises ModelError if the server is gone."""
        finished = wait(waiting, return_when=FIRST_COMPLETED).done
        answers = [future for future in finished if future.exception() is None]
        for future in answers:  # yielded before anything is raised, so that no answer is lost
            del waiting[future]
            yield future.result()
        self._unanswered = 0 if answers else self._unanswered
        for future in finished.difference(answers):
            name = waiting.pop(future)
            try:
                future.result()
            except FaultError as fault:
                self._unanswered += not answers
                if fault.unreachable or self._unanswered == _OUTAGE:
                    raise ModelError(
                        f"The server at {self._endpoint.shown} does not answer ({fault}). The answers that came are "
                        "kept; check that the server is running, and run the command again."
                    ) from None
                yield Completion.failed(name, str(fault), transient=True)

    def _asked(self, prompt: Prompt) -> dict[str, Any]:
        """Return the part of the request with the prompt. Raises ValueError if the template refuses the prompt."""
        if self._server.api == "chat":
            if prompt.messages[-1].role == "assistant":
                raise RecipeError(
                    "Not every server can continue a started answer (the template's prefill) through the chat API; set "
                    "server.api to completions, or choose a template without prefill."
                )
            messages = in_plain_text(prompt.messages) if self._config.tools_in == "system" else prompt.messages
            kwargs = {**self._template_kwargs, **messages[0].template_kwargs}
            template = {"chat_template_kwargs": kwargs} if kwargs else {}
            return {"messages": chat_of(messages, arguments_as_text=True), **chat_arguments(messages), **template}
        assert self._renderer is not None
        try:
            return {"prompt": as_the_server_reads_it(self._renderer, prompt.messages)}
        except RenderError as error:
            raise ValueError(str(error)) from error

    @classmethod
    def missing(cls, model: ModelConfig) -> Iterator[str]:
        try:
            cls(model)
        except SelfDistillError as error:
            yield str(error)

    @property
    def left_out(self) -> list[str]:
        """The sampling settings that the server rejects."""
        return self._accepted.left_out

    def _body(self, name: str, asked: dict[str, Any], sampling: Sampling) -> dict[str, Any]:
        stop_ids = self._renderer.stop_ids if self._renderer else ()
        thinks = self._config.reasoning != "off" and (self._renderer is None or self._renderer.thinks)
        settings = self._accepted.settings(sampling, name, sampling.limit(thinks), stop_ids)
        return {"model": self._config.path, **asked, **settings}

    async def _answer(self, prompt: Prompt, asked: dict[str, Any], sampling: Sampling) -> Completion:
        """Return one prompt's answer. Raises FaultError if the retries are used up, ModelError as `Endpoint.post` does.

        Circuit breaker: after more consecutive failures than all prompts in flight have tries, each request gets one
        try, so that a run does not wait for hours for a server that hangs.
        """
        name, tools = prompt.id, tools_of(prompt.messages)
        faults, patience = 0, (self._server.concurrency + 1) * (self._server.retries + 1)
        while True:
            body = self._body(name, asked, sampling)
            try:
                response = await self._endpoint.post(body)
                self._faults = 0
                if response.status_code == 200:
                    completion = self._completion(name, response, asked)
                    completion = in_one_form(completion, tools, self._renderer, str(asked.get("prompt", "")))
                    return _marked(completion) if sampling.stop_loops else completion
                if self._accepted.adapt(body, response, self._endpoint.reason(response)):
                    continue
                return Completion.failed(name, self._endpoint.reason(response))
            except FaultError as fault:
                faults, self._faults = faults + 1, self._faults + 1
                if faults > self._server.retries or self._faults > patience:
                    tries = counted(faults, "try", "tries")
                    raise FaultError(f"{fault}, after {tries}", unreachable=fault.unreachable) from None
                longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (faults - 1))
                await asyncio.sleep((fault.after or 0.0) + _jitter.uniform(0, longest))

    def _completion(self, name: str, response: httpx.Response, asked: dict[str, Any]) -> Completion:
        """Return the answer in a reply. Raises FaultError if the reply does not follow the API."""
        try:
            reply = response.json()
            choice = reply["choices"][0]
            finish = choice.get("finish_reason")
            if self._server.api == "chat":
                if _TGI.fullmatch(str(reply.get("system_fingerprint"))):
                    raise RecipeError(
                        f"The server at {self._endpoint.shown} is TGI, whose chat API always penalises repetition; set "
                        "server.api to completions."
                    )
                text = whole_text(choice["message"], finish)
            else:
                prompt = asked["prompt"]
                text = (opened(prompt) if isinstance(prompt, str) else "") + choice["text"]
            text = text.encode("utf-8", "replace").decode()  # no tokenizer takes half a surrogate pair
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise FaultError(f"a reply that is not a completion: {self._endpoint.reason(response)}") from None
        usage = reply.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        tokens = tokens if isinstance(tokens, int) and tokens > 0 else 0
        if finish in ("stop", "length", "tool_calls", "function_call"):
            completion = Completion(name, text, "length" if finish == "length" else "stop", tokens)
            return replace(completion, thinking_tokens=_thinking_tokens(usage))
        ended = f"the server ended the answer with '{self._endpoint.shortened(str(finish))}'"
        return Completion(name, text, "error", tokens, ended)


def _marked(completion: Completion) -> Completion:
    """Mark an answer that was cut off in a loop, since not every server can be asked to stop one."""
    looped = completion.finish == "length" and ends_in_loop(completion.text)
    return replace(completion, finish="loop") if looped else completion


def _thinking_tokens(usage: Any) -> int | None:
    """The tokens of the think trace, if the server counts them."""
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    count = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def whole_text(message: Mapping[str, Any], finish: str | None) -> str:
    """Return the text of a chat message, together with the reasoning and the calls that a server's parser took out.
    Raises TypeError if the message holds no text."""
    content = message.get("content")
    content = message.get("refusal") or "" if content is None else content
    if not isinstance(content, str):
        raise TypeError
    content = "\n".join(filter(None, [content, *map(_called, message.get("tool_calls") or ())]))
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(reasoning, str) or not reasoning.strip():
        return content
    return join(reasoning, None if finish == "length" and not content.strip() else content)


def _called(call: Mapping[str, Any]) -> str:
    """A call as `write_reply` writes it. Arguments that are not JSON stay as they are, and fail when they are read."""
    function = call["function"]
    arguments = function.get("arguments") or {}
    try:
        values = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return f"<tool_call>\n{arguments}\n</tool_call>"
    return write_reply("", [FunctionCall(function["name"], values)])


def as_the_server_reads_it(renderer: Renderer, messages: Messages) -> str | list[int]:
    """Return a text that a server's tokenizer, which adds special tokens itself, turns into our token ids: the rendered
    prompt, or the prompt without its BOS. If neither text works, return the ids, which not every server accepts."""
    text, ids = renderer.text(messages), renderer.ids(messages)
    for form in (text, text.removeprefix(renderer.tokenizer.bos_token or "")):
        if renderer.tokenizer.encode(form) == ids:
            return form
    return ids


_jitter = random.Random()
