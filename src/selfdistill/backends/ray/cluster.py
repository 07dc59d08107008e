"""The Ray cluster that replicas run on: joined or started, and watched."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from importlib.util import find_spec
from math import ceil
from typing import Any

from ...errors import ModelError
from ...recipe import RayConfig

_MISSING = "The backend ray needs Ray; install it with `pip install 'selfdistill[ray]'`."
LOOK = 5.0  # seconds between two looks at the cluster
_HEAD_GONE = 30.0  # seconds without the head node; after 60 seconds Ray would end this process
_STORE = 1 << 28  # bytes of shared memory for a local Ray, which hardly uses it
_joined: RayConfig | None = None  # the settings with which this process joined or started Ray, which it can do once


class Cluster:
    """The cluster at `config.address`, or a local Ray that ends with this process. Raises ModelError if the cluster
    cannot be joined."""

    def __init__(self, config: RayConfig) -> None:
        self._config = config
        connect(config)
        import ray

        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = (host.strip("[]"), int(port))
        self._looked, self._head_seen = 0.0, time.monotonic()

    def look(self, idle: bool) -> None:
        """Check the cluster every few seconds. Raises ModelError if the cluster is gone, or if no replica is up
        (`idle`) and no node has room for one."""
        import ray

        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        try:
            socket.create_connection(self._head, timeout=LOOK).close()
            self._head_seen = time.monotonic()
        except OSError:
            if time.monotonic() - self._head_seen > _HEAD_GONE:
                raise ModelError(
                    f"The Ray cluster's head at {self._head[0]}:{self._head[1]} can't be reached any more. The answers "
                    "that came are kept; start the cluster again and run the command again."
                ) from None
            return
        if idle and not any(map(self._fits, ray.nodes())):
            raise ModelError(
                f"No node that is up in the Ray cluster has the {self._config.gpus:g} GPUs and {self._config.cpus:g} "
                "CPUs of a replica; set model.ray.gpus and model.ray.cpus to what there is, or start nodes that have "
                "them."
            )

    def _fits(self, node: dict[str, Any]) -> bool:
        there, wanted = node["Resources"], {"GPU": self._config.gpus, "CPU": self._config.cpus}
        return bool(node["Alive"]) and all(there.get(name, 0) >= number for name, number in wanted.items())


def ray_missing(config: RayConfig) -> list[str]:
    """Return what this machine lacks, one sentence each, without joining a cluster."""
    if find_spec("ray") is None:
        return [_MISSING]
    wanted = config.replicas * config.gpus
    if config.address or not wanted:
        return []
    import torch

    there = torch.cuda.device_count()
    advice = "set model.ray.gpus to 0 to compute on CPUs, or name a cluster in model.ray.address"
    return [f"model.ray asks for {wanted:g} GPUs, and there are {there} here; {advice}."] if wanted > there else []


def connect(config: RayConfig) -> None:
    """Join the cluster at `config.address`, or start a local Ray that ends with this process. An existing connection
    is kept. Raises ModelError."""
    if find_spec("ray") is None:
        raise ModelError(_MISSING)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no usage reports
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default; avoids its warning
    import ray

    global _joined
    if ray.is_initialized():
        if _joined and config.address not in (None, _joined.address):
            here = f"the Ray cluster at {_joined.address}" if _joined.address else "a Ray of its own"
            raise ModelError(
                f"This command works on {here}, and another model names the cluster at {config.address}; name one "
                "address in model.ray and judge.model.ray."
            )
        return
    # Ray prints what happens to replicas into the command's output. The pool reports it where it matters.
    ray._private.worker.print_to_stdstream = lambda *_args, **_kwargs: None
    local = {
        "include_dashboard": False,
        "num_cpus": max(ceil(config.replicas * config.cpus), os.cpu_count() or 1),
        "object_store_memory": _STORE,
    }
    try:
        _check_listening(config.address)
        options = {} if config.address else local
        ray.init(address=config.address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except Exception as error:  # Ray raises a plain Exception if a node does not start in time
        where = f"The Ray cluster at {config.address} can't be joined" if config.address else "Ray does not start"
        raise ModelError(
            f"{where} ({_one_line(str(error))}); see `ray status`, or leave model.ray.address out to start one here."
        ) from error
    _joined = config


def _check_listening(address: str | None) -> None:
    """Raise OSError if nobody listens at `HOST:PORT`; Ray would try for a quarter of an hour."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "://" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK).close()


def reason(error: Exception) -> str:
    """Return in a few words why a replica was lost."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return _one_line(str(cause) or repr(cause))
    text = str(error)
    if "node" in text and re.search(r"node (has )?(died|dead|crashed)|node_died|NODE_DIED", text):
        return "its node was lost"
    if "memory" in type(error).__name__.lower():
        return "its node ran out of memory"
    detail = re.search(r"Worker exit detail: (.*)", text)
    if detail and "connection error" not in detail[1]:
        return _one_line(detail[1])
    return "its process was killed or crashed, as when memory runs out"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:300].rstrip(".")
