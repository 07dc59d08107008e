"""Who may use the workbench: browsers on this machine that were opened with its token."""

from __future__ import annotations

import secrets

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A page of the report has a stricter policy of its own, with the digests of its scripts.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class LocalAccess:
    """Refuses every request with 403 that names another host (a page that rebinds a DNS name does), has no valid token
    in its cookie, or changes something and does not come from a page of the workbench. The token in the address that
    the command prints is exchanged for the cookie once."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._cookie = f"selfdistill-{port}"  # cookies are shared by all ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._answer(Request(scope))
            await (answer or self._app)(scope, receive, _with_headers(send))

    def _answer(self, request: Request) -> Response | None:
        """The answer to a request that does not reach the pages; None for one that does."""
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return _refusal("this address")
        given = QueryParams(request.scope["query_string"]).get("token")
        if given is not None and request.method == "GET":
            if not self._is_token(given):
                return _refusal("this token")
            answer = RedirectResponse(request.url.path, 303)
            answer.set_cookie(self._cookie, self._token.decode(), httponly=True, samesite="strict")
            return answer
        if not self._is_token(request.cookies.get(self._cookie, "")):
            return _refusal("a request without the token")
        if request.method not in ("GET", "HEAD") and request.headers.get("origin") != f"http://{host}":
            return _refusal("a request from another page")
        return None

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode("utf-8", "replace"), self._token)


def _refusal(what: str) -> Response:
    text = f"The workbench does not answer {what}. Open the address that `selfdistill ui` printed.\n"
    return PlainTextResponse(text, 403)


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name for name, _ in message["headers"]}
            added = [(name.encode(), text.encode()) for name, text in _HEADERS.items() if name.encode() not in there]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return with_headers
