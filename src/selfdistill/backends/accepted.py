"""The sampling settings of a request to a server: all of them are sent, except those that the server rejects."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import RecipeError
from ..recipe import Sampling
from .endpoint import FaultError
from .sampling import NEUTRAL, every_setting, row_seed

if TYPE_CHECKING:
    import httpx

_log = logging.getLogger(__name__)

_UNKNOWN = re.compile(
    r"unsupported|not supported?|unrecogni[sz]ed|unknown|unexpected|extra|not permitted|not allowed", re.I
)
_REJECTS = re.compile(rf"{_UNKNOWN.pattern}|invalid|must be|should be|cannot|only|at least|at most|out of range", re.I)
# A refusal that quotes the request contains the names of all settings.
_QUOTED_REQUEST = re.compile(r"""["']input["']\s*:.*""", re.DOTALL)
# The message of `transformers serve`, which takes these settings as JSON text in a field `generation_config`.
_TRANSFORMERS = "Unexpected fields in the request"
_IN_JSON = ("top_k", "min_p", "repetition_penalty")


class Accepted:
    """The settings that the server at the address `shown` accepts, learned from its refusals.

    If a setting is not sent, the server chooses a value, for example from the model's generation_config.json.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._limit_name, self._no_top_k, self._as_json = "max_tokens", 0, False
        self._left_out: set[str] = set()

    @property
    def left_out(self) -> list[str]:
        """The settings that the server rejects, sorted, without the second name of an accepted setting."""
        return sorted(self._left_out - {"repeat_penalty"})

    def settings(self, sampling: Sampling, name: str, limit: int, stop_ids: Collection[int] = ()) -> dict[str, Any]:
        """Return the sampling part of the request for the row `name`, of at most `limit` new tokens. `stop_ids` are the
        tokens that end a turn, if they are known."""
        # llama.cpp calls the repetition penalty repeat_penalty. Special tokens are shown, so that the filters see them.
        sent: dict[str, Any] = {**every_setting(sampling), "repeat_penalty": 1.0, "skip_special_tokens": False}
        sent["top_k"] = sent["top_k"] or self._no_top_k
        if stop_ids:
            sent["stop_token_ids"] = sorted(stop_ids)
        if sampling.temperature > 0:
            sent["seed"] = row_seed(sampling.seed, name)
        if self._as_json:
            inside = {key: sent.pop(key) for key in _IN_JSON}
            inside |= {"do_sample": sampling.temperature > 0, "typical_p": 1.0, "no_repeat_ngram_size": 0}
            sent["generation_config"] = json.dumps(inside)
        kept = {key: value for key, value in sent.items() if key not in self._left_out or not _dispensable(key, value)}
        return {self._limit_name: limit, **kept}

    def adapt(self, body: Mapping[str, Any], response: httpx.Response, reason: str) -> bool:
        """Adapt `settings` to a refusal, and return whether the request is worth sending again.

        Raises RecipeError if the server rejects a value that decides the answer, and FaultError if the refusal names a
        setting that was not sent. `reason` is the server's message.
        """
        if response.status_code not in (400, 422):
            return False
        text = response.text
        if "max_tokens" in body and "max_completion_tokens" in text and _UNKNOWN.search(text):
            self._limit_name = "max_completion_tokens"
            return True
        rejected = _named(response)
        named = [name for name in rejected if name in body]
        if rejected and not named:
            raise FaultError(f"a refusal of {rejected[0]}, which the request does not contain")
        if not named:
            return False
        if _TRANSFORMERS in text and "generation_config" not in body:
            self._as_json = True
            self._leave_out({*named}.difference(_IN_JSON))
        elif named == ["top_k"] and body["top_k"] == 0 and not _UNKNOWN.search(text):
            self._no_top_k = -1  # turns top-k off in SGLang
        elif dispensable := {name for name in named if _dispensable(name, body[name])}:
            self._leave_out(dispensable)
        else:
            self._refuse(named[0], body[named[0]], reason)
        return True

    def _leave_out(self, names: set[str]) -> None:
        new, self._left_out = names - self._left_out, self._left_out | names
        if "seed" in new:
            _log.warning(
                "The server at %s does not accept `seed`, so another run would draw other answers. The manifest "
                "records this.",
                self._shown,
            )
        if others := sorted(new - {"seed", "repeat_penalty"}):
            _log.warning(
                "The server at %s does not accept these settings, so the requests omit them: %s. The recipe has their "
                "neutral values. Make sure that the server has no other defaults (for vLLM: --generation-config vllm). "
                "The manifest records this.",
                self._shown,
                ", ".join(f"`{name}`" for name in others),
            )

    def _refuse(self, name: str, value: Any, reason: str) -> None:
        raise RecipeError(
            f"The server at {self._shown} does not accept {name} {value:g} ({reason}); set the sampling's {name} to "
            f"{NEUTRAL[name]:g}, or answer with another model or backend."
        )


def _dispensable(name: str, value: Any) -> bool:
    """Return whether the recipe's sampling stays the same without the setting, if the server has no other default."""
    return name not in NEUTRAL or value == NEUTRAL[name] or (name == "top_k" and value < 0)


def _named(response: httpx.Response) -> list[str]:
    """Return the settings that a refusal names, in a field for names or else in its message."""
    names = [*NEUTRAL, "repeat_penalty", "skip_special_tokens", "stop_token_ids", "seed"]
    try:
        fields, messages = {*_fields(response.json())}, [*_messages(response.json())]
    except (ValueError, RecursionError):
        fields, messages = set(), [response.text]
    if fields:
        return [name for name in names if name in fields]
    sentences = [_QUOTED_REQUEST.sub("", message) for message in messages]
    sentences = [message for message in sentences if _REJECTS.search(message)]
    return [name for name in names if any(_name_pattern(name).search(message) for message in sentences)]


def _fields(said: Any) -> Iterator[str]:
    """Yield the names under `param` (OpenAI, vLLM) and in `loc` (pydantic)."""
    if isinstance(said, list):
        for each in said:
            yield from _fields(each)
    elif isinstance(said, dict):
        for key, value in said.items():
            if key in ("param", "parameter") and isinstance(value, str):
                yield from filter(None, value.split("."))
            elif key == "loc" and isinstance(value, list):
                yield from (part for part in value if isinstance(part, str) and part != "body")
            elif key != "input":
                yield from _fields(value)


def _messages(said: Any, key: str = "message") -> Iterator[str]:
    """Yield the sentences of a refusal, without the fields that may quote the request."""
    if isinstance(said, str) and key in ("message", "msg", "detail", "error", "reason"):
        yield said
    elif isinstance(said, list):
        for each in said:
            yield from _messages(each, key)
    elif isinstance(said, dict):
        for name, value in said.items():
            yield from _messages(value, name)


def _name_pattern(name: str) -> re.Pattern[str]:
    """Return a pattern for the name as a word, with `topK` for `top_k`. An ordinary word such as "seed" must be used as
    a name, since a refusal may quote the prompt."""
    if "_" in name:
        return re.compile(rf"(?<!\w){name.replace('_', '_?')}(?!\w)", re.I)
    quoted, first = rf"""(["'`]){name}\1""", rf"^{name} (must|should|is|cannot)\b"
    listed = rf"(argument|parameter|field|key)s?\b[^.]{{0,80}}\b{name}\b"
    return re.compile(f"{quoted}|{first}|{listed}", re.I)
