"""A real HTTP server that plays a model endpoint, with or without faults."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-secret-0123456789"


def reply(text: Any = "Hello", finish: str | None = "stop", tokens: int = 3) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "text": text, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": tokens}}


def refusal(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


class Raw:
    """Bytes instead of JSON, with `length` as Content-Length."""

    def __init__(self, body: bytes, length: int | None = None) -> None:
        self.body, self.length = body, len(body) if length is None else length


RESET = object()
HANG = object()


class Server:
    """Answers each request with what `script(body, number)` returns: JSON, (status, JSON), (status, JSON, headers),
    `Raw`, RESET or HANG. As in vLLM, an answer's id contains the request's id. Keeps the requests."""

    def __init__(self) -> None:
        self.script: Callable[[dict[str, Any], int], Any] = lambda body, number: reply()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.paths: list[str] = []
        self.connections: set[Any] = set()
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    number = len(server.bodies)
                    server.bodies.append(body)
                    server.headers.append(self.headers)
                    server.paths.append(self.path)
                    server.connections.add(self.client_address)
                    server.in_flight += 1
                    server.most_in_flight = max(server.most_in_flight, server.in_flight)
                try:
                    self.act(server.script(body, number))
                finally:
                    with server.lock:
                        server.in_flight -= 1

            def act(self, action: Any) -> None:
                if action is HANG:
                    server.released.wait(30)
                    self.close_connection = True
                elif action is RESET:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    self.connection.close()
                    self.close_connection = True
                else:
                    status, content, headers = (*action, {})[:3] if isinstance(action, tuple) else (200, action, {})
                    raw = content if isinstance(content, Raw) else Raw(json.dumps(content).encode())
                    self.send_response(status)
                    for name, value in {"Content-Length": raw.length, **headers}.items():
                        self.send_header(name, str(value))
                    self.end_headers()
                    self.wfile.write(raw.body)
                    if raw.length != len(raw.body):
                        self.close_connection = True

            def finish(self) -> None:
                with suppress(OSError):
                    super().finish()

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
