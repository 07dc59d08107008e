"""Serves the workbench on 127.0.0.1 until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import uvicorn

from ..errors import ExperimentError
from .app import make_app
from .bench import Bench


def serve(recipe: Path, directory: Path, port: int, announce: Callable[[str], None]) -> bool:
    """Serves until Ctrl-C; `announce` is called with the address, which holds the token. Port 0 takes a free one.
    Returns whether a run that was started here goes on. Raises ExperimentError if the port is taken."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with closing(listening):
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise ExperimentError(
                f"The port {port} can't be used ({error.strerror}); name another with --port."
            ) from None
        port, token = int(listening.getsockname()[1]), secrets.token_urlsafe(32)
        bench = Bench(recipe, directory)
        # An access log would hold the token.
        config = uvicorn.Config(
            make_app(bench, token, port),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=3,
        )
        listening.listen(128)
        announce(f"http://127.0.0.1:{port}/?token={token}")
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            pass
        finally:
            bench.close()
        return bench.is_ours
