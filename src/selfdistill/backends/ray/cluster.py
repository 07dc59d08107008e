"""The Ray cluster that replicas run on: joined or started, and watched."""

from __future__ import annotations

import logging
import os
import socket
import time
from importlib.util import find_spec
from math import ceil

from ...errors import ModelError
from ...recipe import RayConfig

_MISSING = "The backend ray needs Ray; install it with `pip install 'selfdistill[ray]'`."
LOOK = 5.0  # seconds between two looks at the cluster
_LOOKS = 5  # the head is gone if it is missing so many times; after 60 seconds Ray would end this process
_STORE = 1 << 28  # bytes of shared memory for a local Ray, which hardly uses it
_joined: RayConfig | None = None  # the settings with which this process joined or started Ray, which it can do once


def look(config: RayConfig, idle: bool) -> None:
    """Raise ModelError if the cluster is gone, or if no replica is up (`idle`) and no node has room for one."""
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    for _ in range(_LOOKS):
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK).close()
            break
        except OSError:
            time.sleep(LOOK)
    else:
        raise ModelError(
            f"The Ray cluster's head at {host}:{port} can't be reached any more. The answers that came are kept; start "
            "the cluster again and run the command again."
        )
    wanted = {"GPU": config.gpus, "CPU": config.cpus}
    fits = (
        all(node["Resources"].get(key, 0) >= wanted[key] for key in wanted) for node in ray.nodes() if node["Alive"]
    )
    if idle and not any(fits):
        raise ModelError(
            f"No node that is up in the Ray cluster has the {config.gpus:g} GPUs and {config.cpus:g} CPUs of a "
            "replica; set model.ray.gpus and model.ray.cpus to what there is, or start nodes that have them."
        )


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
    return "its process was killed or crashed, as when memory runs out, or its node was lost"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(".")
