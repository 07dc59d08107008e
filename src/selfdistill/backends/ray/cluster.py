"""The Ray cluster that replicas run on: joined or started."""

from __future__ import annotations

import logging
import os
import socket
from importlib.util import find_spec
from math import ceil
from typing import Any

from ...errors import ModelError
from ...recipe import RayConfig

_MISSING = "The backend ray needs Ray; install it with `pip install 'selfdistill[ray]'`."
_joined: RayConfig | None = None  # the settings with which this process joined or started Ray, which it can do once


def ray_missing(config: RayConfig) -> list[str]:
    """Return what this machine lacks, one sentence each, without joining a cluster."""
    if find_spec("ray") is None:
        return [_MISSING]
    if config.address or not config.gpus:
        return []
    import torch

    wanted, there = config.replicas * config.gpus, torch.cuda.device_count()
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
    options: dict[str, Any] = {"address": config.address or "local"}
    if not config.address:
        cores = max(ceil(config.replicas * config.cpus), os.cpu_count() or 1)
        options |= {"include_dashboard": False, "num_cpus": cores, "object_store_memory": 1 << 28}
    try:
        host, _, port = options["address"].rpartition(":")
        if port.isdecimal():  # if nobody listens there, Ray would try for two minutes and then end this process
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except Exception as error:  # Ray raises a plain Exception if a node does not start in time
        where = f"The Ray cluster at {config.address} can't be joined" if config.address else "Ray does not start"
        raise ModelError(
            f"{where} ({one_line(str(error))}); see `ray status`, or leave model.ray.address out to start one here."
        ) from error
    _joined = config


def check_room(config: RayConfig) -> None:
    """Raise ModelError if no node has room for a replica."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("GPU", 0) >= config.gpus and node.get("CPU", 0) >= config.cpus for node in nodes):
        raise ModelError(
            f"No node that is up in the Ray cluster has the {config.gpus:g} GPUs and {config.cpus:g} CPUs of a "
            "replica; set model.ray.gpus and model.ray.cpus to what there is, or start nodes that have them."
        )


def one_line(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(".")
