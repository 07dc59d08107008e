"""One probe of this machine, in a process of its own: `python -m selfdistill.pipeline.check.probe JOB`.

It answers a few prompts, or trains a step or two on the longest rows, and writes how long that took and how much memory
it held. A process of its own can be ended at a time limit, and a lack of memory ends nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ...backends import open_backend
from ...errors import SelfDistillError
from ...models.loading import load_renderer
from ...recipe import ModelConfig, Sampling, TrainConfig
from ...store.rows import write_json
from ...training import TRAINERS
from ...training.guard import quiet, recomputing_if_needed, short_of_memory
from ...training.log import peak_memory_gib, read_log, recorder
from ...training.sequences import trained_example
from ...types import Prompt, messages_from_json

FOUND = "found.json"


def main(job: Path) -> None:
    """Writes what the probe `job` found to `FOUND` next to it."""
    written = json.loads(job.read_text(encoding="utf-8"))
    probe = _train if "train" in written else _answer
    try:
        found = probe(written, ModelConfig.model_validate(written["model"]), job.parent)
    except SelfDistillError as error:
        found = {"problem": str(error)}
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        if not short_of_memory(error):
            raise
        found = {"out_of_memory": True}
    write_json(job.parent / FOUND, found)


def _answer(job: dict[str, Any], model: ModelConfig, _folder: Path) -> dict[str, Any]:
    """Seconds to load, to read the prompts (with one new token each), and to draw the further tokens."""
    prompts = [Prompt(row["id"], messages_from_json(row["messages"])) for row in job["prompts"]]
    sampling, start = Sampling.model_validate(job["sampling"]), time.perf_counter()
    with open_backend(job["backend"], model) as backend:

        def timed(asked: list[Prompt], tokens: int) -> tuple[float, int]:
            begun = time.perf_counter()
            answers = list(backend.generate(asked, sampling.model_copy(update={"max_new_tokens": tokens})))
            return time.perf_counter() - begun, sum(answer.tokens for answer in answers)

        timed(prompts[:1], 2)  # the first call of an engine is slower than all later ones
        load = time.perf_counter() - start
        (read, _), (both, drawn) = timed(prompts, 1), timed(prompts, 1 + job["tokens"])
        # On a small model the difference of the two can be mere noise.
        return {
            "load": load,
            "read": read,
            "draw": max(both - read, both / 10),
            "drawn": max(drawn - len(prompts), 1),
            "memory": peak_memory_gib(),
        }


def _train(job: dict[str, Any], model: ModelConfig, folder: Path) -> dict[str, Any]:
    """Seconds to load, tokens per second of the last step, and the most memory."""
    how, renderer, start = TRAINERS["sft"], load_renderer(model), time.perf_counter()
    settings, log = TrainConfig.model_validate(job["train"]), folder / "train.jsonl"
    with quiet():
        data = how.prepare(map(trained_example, job["rows"]), renderer, model, settings)

        def fit(recompute: bool) -> float:
            chosen = settings.model_copy(update={"gradient_checkpointing": recompute})
            trainer = how.build(data, renderer.tokenizer, model, chosen, folder / "checkpoints")
            trainer.add_callback(recorder(log, "probe", lambda done, total, loss: None))
            loaded = time.perf_counter() - start
            trainer.train()
            return loaded

        load = recomputing_if_needed(fit, settings.gradient_checkpointing)
    last = read_log(log)[-1]
    return {"load": load, "tokens_per_second": last["tokens_per_second"], "memory": last["peak_memory_gib"]}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
