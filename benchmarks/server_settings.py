"""How many answers of a vLLM server equal those of `hf`, if the server's model folder has generation settings.

    python benchmarks/server_settings.py [--rows 24]     needs vLLM; a minute on a CPU

The folder is the demo's seed with top_k 1, repetition_penalty 1.5 and temperature 1.7. One run sends every sampling
setting, as `backend: openai` does; the other leaves neutral settings to the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import httpx

from selfdistill.backends import open_backend
from selfdistill.backends.openai import OpenAIBackend
from selfdistill.backends.sampling import NEUTRAL
from selfdistill.demo import SEED
from selfdistill.generation.prompts import REWRITING, rewriting_messages
from selfdistill.recipe import ModelConfig, Sampling
from selfdistill.tasks import get_task
from selfdistill.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

SETTINGS = {"do_sample": True, "top_k": 1, "repetition_penalty": 1.5, "temperature": 1.7}
UNSENT = {*NEUTRAL, "repeat_penalty"}
ENVIRONMENT = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a vLLM server of the seed with `SETTINGS`."""
    shutil.copytree(SEED, folder / "seed")
    path = folder / "seed" / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | SETTINGS), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "seed")]
    command += ["--served-model-name", "demo", "--dtype", "float32", "--enforce-eager", "--port", str(port)]
    command += ["--kv-cache-memory-bytes", str(1 << 28), "--no-enable-chunked-prefill"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT})
    try:
        while True:
            if server.poll() is not None:
                sys.exit((folder / "log").read_text(errors="replace")[-2000:])
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def answers(
    backend: str, model: ModelConfig, prompts: list[Prompt], sampling: Sampling, left_out: Collection[str] = ()
) -> list[str]:
    """The answers in the order of the prompts; neutral settings in `left_out` are not sent."""
    with open_backend(backend, model) as opened:
        if isinstance(opened, OpenAIBackend):
            opened._accepted._left_out |= {*left_out}
        found = {answer.id: answer.text for answer in opened.generate(prompts, sampling)}
    return [found[prompt.id] for prompt in prompts]


def same_for_three_seeds(
    backend: str, model: ModelConfig, prompts: list[Prompt], left_out: Collection[str] = ()
) -> int:
    sampling = [Sampling(temperature=1.5, max_new_tokens=48, seed=seed) for seed in range(3)]
    drawn = [answers(backend, model, prompts, each, left_out) for each in sampling]
    return sum(len(set(texts)) == 1 for texts in zip(*drawn, strict=True))


def equal(some: list[str], others: list[str]) -> int:
    return sum(one == other for one, other in zip(some, others, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=24)
    rows = parser.parse_args().rows
    task = get_task("demo-maths")
    assert task.train is not None
    examples = [example for row in task.load(task.train) for example in row.examples()][:rows]
    prompts = [Prompt(example.id, rewriting_messages(REWRITING["using"], example)) for example in examples]
    greedy = Sampling(max_new_tokens=48)
    hf = ModelConfig(path="demo", dtype="float32", device="cpu")
    own = answers("hf", hf, prompts, greedy)
    same = same_for_three_seeds("hf", hf, prompts)
    print(f"hf: temperature 1.5, the same answer for three seeds: {same} of {rows}", flush=True)
    with TemporaryDirectory() as folder, served(Path(folder)) as url:
        for api in ("chat", "completions"):
            settings = {"url": url, "api": api}
            model = ModelConfig.model_validate({"path": "demo", "server": settings})
            print(
                f"{api}: greedy, every setting sent: {equal(answers('openai', model, prompts, greedy), own)} of {rows}"
            )
            same = same_for_three_seeds("openai", model, prompts)
            print(f"{api}: temperature 1.5, the same answer for three seeds: {same} of {rows}")
            left = answers("openai", model, prompts, greedy, UNSENT)
            print(f"{api}: greedy, neutral settings left to the folder: {equal(left, own)} of {rows}")
            same = same_for_three_seeds("openai", model, prompts, UNSENT)
            print(f"{api}: temperature 1.5, left to the folder, the same for three seeds: {same} of {rows}", flush=True)


if __name__ == "__main__":
    main()
