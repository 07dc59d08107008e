"""The gate on one model against itself: with other batches, another dtype, another engine, and trained a second time.

    python benchmarks/gate_reality.py OUT                                             # the demo's seed
    python benchmarks/gate_reality.py OUT --model MODEL --rows dtype batches --probes probe-refusal

The seed's answers are in a baseline file, made in float32 with the default batches by the backend hf. Every gate is
`selfdistill gate MODEL MODEL --baseline FILE` with one change, on a real model with one look. `training` compares two
trainings of the demo's seed on its own answers, with the same settings and other random seeds. What is in OUT is used
again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gate_demo import DEMO, GATE, LR, own_answers

from selfdistill.recipe.suites import SUITES
from selfdistill.training import train

STEPS = {"probe-instructions": "easy", "probe-json": "easy", "probe-memory": "medium", "probe-refusal": "medium"}
"""The probes for a real model, in the steps that SmolLM2-135M-Instruct chooses."""
ONE_LOOK = """
import sys, selfdistill.pipeline
from selfdistill.cli import main
sys.modules["selfdistill.pipeline.gate"].LOOKS = (1.0,)
main()
"""
"""The command with one look at all items: larger batches, so that a real model takes less time on a CPU."""
BATCHES = 2048
ROWS = {
    "batches": [f"model.batch_tokens={BATCHES}"],
    "dtype": ["model.dtype=bfloat16"],
    "engine": ["evaluate.backend=vllm"],
}


def probes(names: Sequence[str], n: int) -> list[str]:
    limits = {entry["task"]: entry["max_new_tokens"] for entry in SUITES["probes"].tasks}
    entries = [{"task": task, "split": STEPS[task], "n": n, "max_new_tokens": limits[task]} for task in names]
    return ["model.dtype=float32", f"evaluate.tasks={json.dumps(entries)}"]


def trained(out: Path, seed: int) -> str:
    """The demo's seed after a training on its own answers, as full weights."""
    folder = out / f"again-{seed}"
    if not (folder / "merged").exists():
        settings = DEMO.train.model_copy(update={"lr": LR, "seed": seed, "merge": True})
        train(own_answers(), DEMO.model, settings, folder)
    return str(folder / "merged")


def ask(*command: str) -> str:
    """The output of a command; on a real model with one look."""
    program = ["-m", "selfdistill"] if command[1] == "demo" or Path(command[1]).name == "merged" else ["-c", ONE_LOOK]
    done = subprocess.run([sys.executable, *program, *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 2:
        raise SystemExit(f"selfdistill {' '.join(command)} did not run.")
    return done.stdout


def gate(name: str, seed: str, candidate: str, settings: Sequence[str], where: Path) -> None:
    """Runs a gate and prints its row."""
    found = json.loads(ask("gate", seed, candidate, *settings, "shift.task=null", "--json", "--dir", str(where)))
    same, mean = found["same_answers"], found["mean"]
    n = sum(row["n"] for row in found["skills"])
    lost, gained = (_items(found, which) for which in ("right_to_wrong", "wrong_to_right"))
    print(
        f"| {name} | {same['of'] - same['same']} of {same['of']:,} ({100 - 100 * same['same'] / same['of']:.1f} %) | "
        f"{lost} | {gained} | {n:,} | {100 * mean['difference']:+.1f} "
        f"({100 * mean['low']:+.1f} to {100 * mean['high']:+.1f}) | {found['exit_code']} |",
        flush=True,
    )


def _items(found: dict[str, Any], which: str) -> int:
    return sum(round(row["items"][which] * row["n"]) for row in found["skills"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the baseline and the gates")
    parser.add_argument("--model", default="demo", help="a model folder, a GGUF file or a hub name")
    parser.add_argument("--n", type=int, default=24, help="items per probe, for another model than the demo's")
    parser.add_argument("--probes", nargs="*", default=[*STEPS], choices=[*STEPS], help="for another model")
    parser.add_argument("--rows", nargs="*", default=[*ROWS, "training"], choices=[*ROWS, "training"])
    args = parser.parse_args()
    common = list(GATE) if args.model == "demo" else probes(args.probes, args.n)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "baseline.json.gz"
    print("| what differs | other answers | right to wrong | wrong to right | items | mean change | exit code |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for row in args.rows:
        if row == "training":
            gate(row, trained(args.out, 0), trained(args.out, 1), common, args.out / row)
            continue
        if not file.exists():
            ask("baseline", args.model, *common, "--to", str(file), "--dir", str(args.out / "seed"))
        gate(row, args.model, args.model, [*common, *ROWS[row], "--baseline", str(file)], args.out / row)


if __name__ == "__main__":
    main()
