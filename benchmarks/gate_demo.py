"""The gate on the demo's seed: itself, its vanilla arm, and candidates that forgot nothing, with exit codes and times.

    python benchmarks/gate_demo.py OUT

Each gate is a process, `selfdistill gate demo CANDIDATE --suite demo`; its times hold everything from the start of
Python to the page. The vanilla arm is trained as in `selfdistill demo`. The harmless candidates are adapters that were
trained on the seed's own answers, and the seed with sampled answers. What is in OUT is used again, and then costs less
time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from selfdistill import load_recipe
from selfdistill.backends import open_backend
from selfdistill.demo import RECIPE
from selfdistill.demo.world import examples
from selfdistill.recipe import Sampling
from selfdistill.training import train
from selfdistill.types import Example, Message, Prompt, content_id

DEMO = load_recipe(RECIPE)
ROWS = 500
"""Rows of training, as in the demo."""
LR = 1e-3
"""The rate of the harmless adapters; they have nothing to learn."""
TAUGHT = ("maths_taught", "tool", "code", "lists", "benign", "safety")
"""Skills that the seed was taught; see `demo.world`."""
GATE = ("--suite", "demo", "model.dtype=float32", "evaluate.sampling.max_new_tokens=128")
SAMPLED: dict[str, tuple[str, ...]] = {
    "the seed sampled at 0.3, against greedy answers": ("arms.candidate.sampling.temperature=0.3",),
    "the seed against itself, both sampled at 0.7": ("evaluate.sampling.temperature=0.7",),
}


def adapter(rows: list[Example], lr: float, seed: int, folder: Path) -> str:
    """An adapter of the demo's settings, with another learning rate and random seed."""
    if not (folder / "model").exists():
        train(rows, DEMO.model, DEMO.train.model_copy(update={"lr": lr, "seed": seed}), folder)
    return str(folder / "model")


def originals() -> list[Example]:
    return [Example.of((Message("user", row["prompt"]),), row["response"]) for row in examples("maths", "train", ROWS)]


def own_answers() -> list[Example]:
    """The seed's own answers to prompts of every kind that it knows."""
    asked = [row["prompt"] for skill in TAUGHT for row in examples(skill, "train", ROWS // len(TAUGHT))]
    prompts = {content_id(text): Prompt(content_id(text), (Message("user", text),)) for text in asked}
    with open_backend("hf", DEMO.model) as backend:
        answers = list(backend.generate(prompts.values(), Sampling(max_new_tokens=128)))
    return [Example.of(prompts[each.id].messages, each.text) for each in answers if each.finish == "stop"]


def harmless(out: Path, trainings: int, draws: int) -> Iterator[tuple[str, str, list[str]]]:
    """Candidates that forgot nothing: what they are, the model, and further settings of the gate."""
    rows = own_answers()
    for seed in range(trainings):
        model = adapter(rows, LR, seed, out / f"own-{LR:g}-{seed}")
        yield f"trained on the seed's own answers, lr {LR:g}, seed {seed}", model, []
    for name, settings in SAMPLED.items():
        for seed in range(1, draws + 1):
            yield f"{name}, draw {seed}", "demo", [*settings, f"arms.candidate.sampling.seed={seed}"]


def gate(name: str, candidate: str, settings: list[str], out: Path) -> int:
    """Runs a gate and prints its row. Returns the exit code."""
    where = out / "gates" / content_id(name)
    command = [sys.executable, "-m", "selfdistill", "gate", "demo", candidate, *GATE, *settings]
    before, start = _cpu(), time.monotonic()
    done = subprocess.run([*command, "--dir", str(where), "--json"], capture_output=True, text=True, check=False)
    wall, cpu = time.monotonic() - start, _cpu() - before
    found = json.loads(done.stdout)
    if found["outcome"] == "not run":
        raise SystemExit(found["sentence"])
    mean, same = found["mean"], found["same_answers"]
    print(
        f"| {name} | {done.returncode} | {same['of']:,}, {len(found['looks'])} of {len(found['looks_planned'])} | "
        f"{100 * mean['difference']:+.1f} ({100 * mean['low']:+.1f} to {100 * mean['high']:+.1f}) | "
        f"{100 * same['same'] / same['of']:.0f} % | {cpu:.0f} | {wall:.0f} |",
        flush=True,
    )
    return done.returncode


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the candidates and the gates")
    parser.add_argument("--trainings", type=int, default=3, help="training seeds of the harmless adapter")
    parser.add_argument("--draws", type=int, default=1, help="draws of the seed's sampled answers")
    args = parser.parse_args()
    print("| candidate | exit code | items, looks | mean change, points | equal answers | CPU s | wall s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    gate("the seed itself", "demo", [], args.out)
    gate("the vanilla arm", adapter(originals(), DEMO.train.lr, 0, args.out / "vanilla"), [], args.out)
    codes = Counter(gate(*candidate, args.out) for candidate in harmless(args.out, args.trainings, args.draws))
    print("harmless: " + ", ".join(f"exit code {code}: {codes[code]} of {codes.total()}" for code in (0, 1, 3)))


if __name__ == "__main__":
    main()
