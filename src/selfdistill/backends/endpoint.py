"""One server over HTTP: its address and key, one request at a time, and what its failures mean."""

from __future__ import annotations

import asyncio
import json
import os
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import ModelError, RecipeError
from ..recipe import ServerConfig
from .echo import HEADER

if TYPE_CHECKING:
    import httpx

_ROUTES = {"chat": "/chat/completions", "completions": "/completions"}
_RETRIED = {408, 409, 425, 429}  # and all from 500 on
_UNKNOWN_MODEL = re.compile(r"pinned to|(unknown|no such|invalid) model|not found|not exist|not a valid", re.I)
_CONNECT_TIMEOUT = 10.0
_LARGEST = 64 << 20  # bytes of a response, unpacked; a hundred times what the longest answer with its tokens takes
_LONGEST_ASKED_WAIT = 300.0  # seconds; more than this no Retry-After gets


class FaultError(Exception):
    """A failure of the server that another try may mend. `after` is how many seconds it asks to wait."""

    def __init__(self, reason: str, after: float | None = None, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.after, self.unreachable = after, unreachable


class Endpoint:
    """Where requests go. `shown` is its address as errors may show it; the key is in none of them.

    Raises RecipeError where the address is none, or the key's environment variable is not set.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self.shown, self._url = _urls(config)
        self._key = _key(config)

    def open(self) -> None:
        import httpx

        # Each request has a connection of its own: what comes late, or twice, is then nobody else's answer.
        # Of one layer of gzip, a piece that is read comes to a bounded size.
        headers = {"Content-Type": "application/json", "Connection": "close", "Accept-Encoding": "gzip"}
        self._client = httpx.AsyncClient(
            headers={**headers, "Authorization": f"Bearer {self._key}"} if self._key else headers,
            timeout=httpx.Timeout(None, connect=min(_CONNECT_TIMEOUT, self._config.timeout)),
            limits=httpx.Limits(max_connections=self._config.concurrency),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def post(self, body: dict[str, Any], request: str) -> httpx.Response:
        """The response to the request of that id, either 200 or a refusal of this one request. The timeout is for all
        of it, however slowly it drips.

        Raises FaultError where none comes or another try may mend it, ModelError where any request would be refused.
        """
        import httpx

        try:
            async with asyncio.timeout(self._config.timeout):
                response = await self._read(json.dumps(body), request)
        except TimeoutError:
            raise FaultError(f"no answer within {self._config.timeout:g} seconds") from None
        except (httpx.RequestError, OSError) as error:
            unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise FaultError(self.told(str(error) or type(error).__name__), unreachable=unreachable) from None
        status = response.status_code
        if status == 402 or (status == 429 and "insufficient_quota" in response.text):
            raise ModelError(f"The account at {self.shown} is used up ({self.reason(response)}); see to it first.")
        if status in _RETRIED or status >= 500:
            raise FaultError(self.reason(response), retry_after(response.headers.get("Retry-After")))
        if status in (401, 403):
            name = self._config.key_env
            advice = f"check the key in {name}" if name else "name its key's environment variable in server.key_env"
            raise ModelError(f"The server at {self.shown} refuses access ({status}); {advice}.")
        if status in (404, 405) or (status != 200 and status < 400) or _no_model(response, body["model"]):
            raise ModelError(
                f"The server at {self.shown} has no such model or address ({self.reason(response)}); check model.path, "
                "and that server.url ends as the server's API does, often in /v1."
            )
        return response

    async def _read(self, body: str, request: str) -> httpx.Response:
        """Raises FaultError where the response would fill the memory."""
        import httpx

        content = bytearray()
        async with self._client.stream("POST", self._url, content=body, headers={HEADER: request}) as response:
            if response.headers.get("content-encoding", "").lower() not in ("", "identity", "gzip"):
                raise FaultError("a response packed in another way than was asked for")
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _LARGEST:
                    raise FaultError(f"a response of more than {_LARGEST >> 20} MiB")
        headers = {name: value for name, value in response.headers.items() if name != "content-encoding"}
        return httpx.Response(response.status_code, headers=headers, content=bytes(content))

    def reason(self, response: httpx.Response) -> str:
        """The status and what the server says about it, shortened."""
        try:
            said = response.json()
            said = said.get("error", said.get("detail", said.get("message", said)))
            said = said.get("message", said) if isinstance(said, dict) else said
        except (ValueError, AttributeError, RecursionError):
            said = "an HTML page" if response.text.lstrip()[:1] == "<" else response.text
        told = self.told(said if isinstance(said, str) else json.dumps(said))
        return f"{response.status_code}: {told}" if told else str(response.status_code)

    def told(self, text: str) -> str:
        """On one line, shortened, and without the key, should the server have repeated it."""
        text = text.replace(self._key, "***") if self._key else text
        return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:300]


def _no_model(response: httpx.Response, model: str) -> bool:
    """Whether the request is refused for the model that it names, which some servers say with a 400."""
    named = response.status_code in (400, 422) and model in response.text
    return named and _UNKNOWN_MODEL.search(response.text) is not None


def retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After header asks for (a number, or a date: RFC 9110, 10.2.3), None where it is absent
    or not readable, and never more than five minutes."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_ASKED_WAIT) if isfinite(seconds) else None


def _urls(server: ServerConfig) -> tuple[str, str]:
    """The server's address as it is shown, and where requests go. Raises RecipeError."""
    try:
        parts = urlsplit(server.url)
        parts.hostname, parts.port  # noqa: B018 (they are read when they are asked for)
    except ValueError as error:
        raise RecipeError(f"server.url is no address ({error}); write one such as http://localhost:8000/v1.") from None
    if parts.username or parts.password or re.search(r"key|token|secret|sig", parts.query, re.IGNORECASE):
        raise RecipeError(
            "server.url holds a user, a password or a key, which would be saved; use server.key_env instead."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RecipeError(f"server.url '{server.url}' is no address; write one such as http://localhost:8000/v1.")
    path = parts.path.rstrip("/")
    return parts._replace(path=path, query="").geturl(), parts._replace(path=path + _ROUTES[server.api]).geturl()


def _key(server: ServerConfig) -> str | None:
    """Raises RecipeError, which names the variable, never its value."""
    if server.key_env is None:
        return None
    key = os.environ.get(server.key_env, "").strip()
    if not key:
        raise RecipeError(f"The environment variable {server.key_env} (server.key_env) is not set; set it to the key.")
    if not key.isascii() or not key.isprintable():
        raise RecipeError(f"The environment variable {server.key_env} holds no key: it has characters no key can have.")
    return key
