"""A proxy that hurts what goes through it, in front of a server whose every right answer is known.

python tests/chaos/proxy.py [--rows 2000]     one line a kind of fault
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Response = tuple[str, dict[str, str], bytes]  # status line, headers, body


def right_answer(prompt: str) -> str:
    return f"{len(prompt)} characters, {hashlib.blake2b(prompt.encode(), digest_size=12).hexdigest()}"


async def read_message(reader: Reader) -> tuple[str, dict[str, str], bytes]:
    """First line, headers in lower case, body. Raises IncompleteReadError at the end of the connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return head[0], headers, await reader.readexactly(int(headers.get("content-length", 0)))


def as_bytes(response: Response) -> bytes:
    status, headers, body = response
    lines = [status, *(f"{name}: {value}" for name, value in {"Content-Length": str(len(body)), **headers}.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def made(status: int, body: bytes = b"{}", **headers: str) -> Response:
    return f"HTTP/1.1 {status} Said", {name.replace("_", "-"): value for name, value in headers.items()}, body


# The server: a process of its own, so that it can be killed and stopped.


async def serve(port: int) -> None:
    async def answer(reader: Reader, writer: Writer) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                _line, _headers, raw = await read_message(reader)
                body = json.loads(raw)
                chat = "messages" in body
                prompt = body["messages"][-1]["content"] if chat else body["prompt"]
                text = right_answer(prompt)
                choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
                reply = {
                    "id": ("chatcmpl-" if chat else "cmpl-") + str(random.getrandbits(64)),
                    "model": body["model"],
                    "choices": [{"index": 0, **choice, "finish_reason": "stop"}],
                    "usage": {"completion_tokens": len(text.split())},
                }
                writer.write(as_bytes(made(200, json.dumps(reply).encode(), Content_Type="application/json")))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Server:
    """The process. After `stop` it can be started again at the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, __file__, "--serve", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


# The faults. Each gets the proxy, the request and the connection, and answers in its own way.


class Exchange:
    """One request on its way through the proxy."""

    def __init__(self, proxy: Proxy, request: bytes, key: str, reader: Reader, writer: Writer) -> None:
        self.proxy, self.request, self.reader, self.writer = proxy, request, reader, writer
        self.told = json.dumps({"error": {"message": f"not now, {key}"}}).encode()  # servers do say the key back

    async def fetch(self) -> Response:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.upstream)
        try:
            writer.write(self.request)
            line, headers, body = await read_message(reader)
            return line, {"Content-Type": headers.get("content-type", "")}, body
        finally:
            writer.close()

    def send(self, response: Response) -> None:
        self.writer.write(as_bytes(response))


async def reset(way: Exchange) -> None:
    if way.proxy.rng.random() < 0.5:  # before anything is said, or in the middle
        response = as_bytes(await way.fetch())
        way.writer.write(response[: len(response) // 2])
        await way.writer.drain()
    linger: socket.socket = way.writer.get_extra_info("socket")
    linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    way.writer.transport.abort()


async def hang(way: Exchange) -> None:
    await way.reader.read()  # until the other side gives up


async def too_many(way: Exchange) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    asked: list[dict[str, str]] = [{}, {"Retry_After": "1"}, {"Retry_After": soon}]
    way.send(made(429, way.told, **way.proxy.rng.choice(asked)))


async def server_error(way: Exchange) -> None:
    status = way.proxy.rng.choice([500, 502, 503])
    way.send(made(status, b"<html>" + way.told if status == 502 else way.told))


async def drip(way: Exchange) -> None:
    for byte in as_bytes(await way.fetch()):
        way.writer.write(bytes([byte]))
        await way.writer.drain()
        await asyncio.sleep(0.1)


async def cut(way: Exchange) -> None:
    response = as_bytes(await way.fetch())
    way.writer.write(response[: -way.proxy.rng.randint(1, 80)])


async def invalid_json(way: Exchange) -> None:
    line, headers, body = await way.fetch()
    way.send((line, headers, body[: way.proxy.rng.randrange(len(body))] + way.told))


async def twice(way: Exchange) -> None:
    """The answer two times over, as if the second were for what is asked next on this connection."""
    response = await way.fetch()
    way.writer.write(as_bytes(response) * 2)


FAULTS: dict[str, Callable[[Exchange], Awaitable[None]]] = {
    "reset": reset, "hang": hang, "429": too_many, "500, 502, 503": server_error, "slow drip": drip, "cut body": cut,
    "invalid JSON": invalid_json, "sent twice": twice,
}  # fmt: skip


class Proxy:
    """Sends a `share` of the requests into one of the `faults`, drawn by `seed`, and the others through. Runs in a
    thread with an event loop of its own."""

    def __init__(self, upstream: int, faults: list[str], share: float, seed: int = 4) -> None:
        self.upstream, self._faults, self._share = upstream, faults, share
        self._draw, self.rng = random.Random(seed), random.Random(seed)
        self.requests: list[bytes] = []
        self.met: Counter[str] = Counter()
        self.after: Callable[[int], object] = lambda answers: None  # told how many answers went through unhurt
        self._through = 0

    def __enter__(self) -> Proxy:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._connection, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        await asyncio.sleep(0)  # connections that were just taken get their task
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: Reader, writer: Writer) -> None:
        """A connection is kept as long as the other side wants it: whoever reads on, reads what is left over."""
        with suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            while True:
                line, headers, body = await read_message(reader)
                kept = "\r\n".join([line, *(f"{name}: {value}" for name, value in headers.items()), "", ""])
                self.requests.append(body)
                way = Exchange(self, kept.encode("latin-1") + body, headers.get("authorization", ""), reader, writer)
                if self._draw.random() < self._share:
                    fault = self._draw.choice(self._faults)
                    self.met[fault] += 1
                    await FAULTS[fault](way)
                    if fault in ("cut body", "hang", "reset"):
                        break
                else:
                    way.send(await way.fetch())
                    self._through += 1
                    self.after(self._through)
                await writer.drain()
                if headers.get("connection") == "close":
                    break
        writer.close()


# The long form.


def ask(url: str, rows: int, timeout: float, **settings: Any) -> tuple[int, int]:
    """How many answers are wrong, and how many prompts have none."""
    from selfdistill.backends import open_backend
    from selfdistill.recipe import ModelConfig, Sampling
    from selfdistill.types import Message, Prompt

    prompts = [Prompt(f"{n:016x}", (Message("user", f"What is {n} plus {n}?"),)) for n in range(rows)]
    model = ModelConfig(path="served", server={"url": url, "timeout": timeout, "concurrency": 16, **settings})
    with open_backend("openai", model) as backend:
        found = {answer.id: answer for answer in backend.generate(prompts, Sampling(temperature=1.0))}
    answered = [prompt for prompt in prompts if found[prompt.id].finish == "stop"]
    wrong = sum(found[prompt.id].text != right_answer(prompt.messages[-1].content) for prompt in answered)
    return wrong, rows - len(answered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for a request")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.run(serve(arguments.serve))
        return
    bad = False
    server = Server()
    kinds = [("none", [], 0.0), ("all kinds", [*FAULTS], 0.1), *((name, [name], 0.1) for name in FAULTS)]
    kinds.append(("all kinds", [*FAULTS], 0.5))
    print("| fault | share | rows | met | wrong | without answer | requests per row | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    try:
        for name, faults, share in kinds:
            begun = time.monotonic()
            with Proxy(server.port, faults, share, arguments.seed) as proxy:
                wrong, missing = ask(proxy.url, arguments.rows, arguments.timeout)
            each = len(proxy.requests) / arguments.rows
            bad |= wrong > 0 or (share <= 0.1 and (missing > 0 or each > 1.5))
            print(
                f"| {name} | {share:.0%} | {arguments.rows} | {proxy.met.total()} | {wrong} | {missing} | {each:.2f} | "
                f"{time.monotonic() - begun:.1f} |", flush=True,
            )  # fmt: skip
    finally:
        server.stop()
    raise SystemExit(bad)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
    main()
