"""One server over HTTP: its address, its key, single requests, and the meaning of its failures."""

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

if TYPE_CHECKING:
    import httpx

_ROUTES = {"chat": "/chat/completions", "completions": "/completions"}
_RETRIED = {408, 409, 425, 429}  # and every status from 500
_UNKNOWN_MODEL = re.compile(r"pinned to|(unknown|no such|invalid) model|not found|not exist|not a valid", re.I)
_CONNECT_TIMEOUT = 10.0
_LARGEST = 64 << 20  # bytes of an unpacked response, a hundred times the longest answer
_LONGEST_ASKED_WAIT = 300.0  # seconds; a longer Retry-After is cut to this


class FaultError(Exception):
    """A failure of the server that another try may fix. `after` is the number of seconds that the server asks for."""

    def __init__(self, reason: str, after: float | None = None, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.after, self.unreachable = after, unreachable


class Endpoint:
    """The address that requests go to. `shown` is the address for error messages, which never contain the key.

    Raises RecipeError if the address is invalid or the key's environment variable is not set.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self.shown, self._url = _urls(config)
        self._key = _key(config)

    def open(self) -> None:
        import httpx

        # One connection per request, so that a late or repeated answer cannot be taken for another request's answer.
        # With one layer of gzip at most, each piece that is read has a bounded size.
        headers = {"Content-Type": "application/json", "Connection": "close", "Accept-Encoding": "gzip"}
        self._client = httpx.AsyncClient(
            headers={**headers, "Authorization": f"Bearer {self._key}"} if self._key else headers,
            timeout=httpx.Timeout(None, connect=min(_CONNECT_TIMEOUT, self._config.timeout)),
            limits=httpx.Limits(max_connections=self._config.concurrency),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def post(self, body: dict[str, Any]) -> httpx.Response:
        """Return the response: status 200, or a refusal of this one request. The timeout covers the whole response.

        Raises FaultError if no response comes or another try may succeed, ModelError if every request would be refused.
        """
        import httpx

        try:
            async with asyncio.timeout(self._config.timeout):
                response = await self._read(json.dumps(body))
        except TimeoutError:
            raise FaultError(f"no answer within {self._config.timeout:g} seconds") from None
        except (httpx.RequestError, OSError) as error:
            unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise FaultError(self.shortened(str(error) or type(error).__name__), unreachable=unreachable) from None
        status = response.status_code
        if status == 402 or (status == 429 and "insufficient_quota" in response.text):
            raise ModelError(
                f"The account at {self.shown} has no credit left ({self.reason(response)}); add credit, then run the "
                "command again."
            )
        if status in _RETRIED or status >= 500:
            raise FaultError(self.reason(response), retry_after(response.headers.get("Retry-After")))
        if status in (401, 403):
            name = self._config.key_env
            advice = f"check the key in {name}" if name else "name its key's environment variable in server.key_env"
            raise ModelError(f"The server at {self.shown} refuses access ({status}); {advice}.")
        if status in (404, 405) or (status != 200 and status < 400) or _no_model(response, body["model"]):
            raise ModelError(
                f"The server at {self.shown} has no such model or address ({self.reason(response)}); check model.path "
                "and server.url, which is the base address of the server's API and often ends in /v1."
            )
        return response

    async def _read(self, body: str) -> httpx.Response:
        """Send a request and return the whole response. Raises FaultError if the response is larger than `_LARGEST` or
        has a compression other than gzip."""
        import httpx

        content = bytearray()
        async with self._client.stream("POST", self._url, content=body) as response:
            if response.headers.get("content-encoding", "").lower() not in ("", "identity", "gzip"):
                raise FaultError("a response with a compression that the request does not accept")
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _LARGEST:
                    raise FaultError(f"a response of more than {_LARGEST >> 20} MiB")
        headers = {name: value for name, value in response.headers.items() if name != "content-encoding"}
        return httpx.Response(response.status_code, headers=headers, content=bytes(content))

    def reason(self, response: httpx.Response) -> str:
        """Return the status and the server's message, shortened."""
        try:
            said = response.json()
            said = said.get("error", said.get("detail", said.get("message", said)))
            said = said.get("message", said) if isinstance(said, dict) else said
        except (ValueError, AttributeError, RecursionError):
            said = "an HTML page" if response.text.lstrip()[:1] == "<" else response.text
        text = self.shortened(said if isinstance(said, str) else json.dumps(said))
        return f"{response.status_code}: {text}" if text else str(response.status_code)

    def shortened(self, text: str) -> str:
        """Return the text on one line, shortened, and without the key in case the server repeated it."""
        text = text.replace(self._key, "***") if self._key else text
        return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:300]


def _no_model(response: httpx.Response, model: str) -> bool:
    """Return whether the request is refused because of its model, which some servers report with status 400."""
    named = response.status_code in (400, 422) and model in response.text
    return named and _UNKNOWN_MODEL.search(response.text) is not None


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for (a number or a date: RFC 9110, 10.2.3), at most five
    minutes. None if the header is absent or not readable."""
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
    """Return the address for messages and the address for requests. Raises RecipeError."""
    try:
        parts = urlsplit(server.url)
        parts.hostname, parts.port  # noqa: B018 (reading them raises ValueError)
    except ValueError as error:
        raise RecipeError(
            f"server.url is not an address ({error}); write one such as http://localhost:8000/v1."
        ) from None
    if parts.username or parts.password or re.search(r"key|token|secret|sig", parts.query, re.IGNORECASE):
        raise RecipeError(
            "server.url holds a user, a password or a key, which would be saved; use server.key_env instead."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RecipeError(f"server.url '{server.url}' is not an address; write one such as http://localhost:8000/v1.")
    path = parts.path.rstrip("/")
    return parts._replace(path=path, query="").geturl(), parts._replace(path=path + _ROUTES[server.api]).geturl()


def _key(server: ServerConfig) -> str | None:
    """Return the key. Raises RecipeError, which names the variable and never its value."""
    if server.key_env is None:
        return None
    key = os.environ.get(server.key_env, "").strip()
    if not key:
        raise RecipeError(f"The environment variable {server.key_env} (server.key_env) is not set; set it to the key.")
    if not key.isascii() or not key.isprintable():
        raise RecipeError(
            f"The environment variable {server.key_env} has characters that can't be part of a key; set it to the key."
        )
    return key
