"""A budget on forgetting, on the demo's vanilla arm: where it stops, what that is on fresh items, and what it costs.

    python benchmarks/budget.py                          # train.budget of {kl: 0.05, probes: 0.03}, lr 8e-3
    python benchmarks/budget.py --lr 1e-4    # never exceeded: the cost over a whole training

Time is that of the CPU, so other work on the machine does not count. Fresh items are 50 of the test split of each task
that the budget is measured on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from selfdistill.backends import open_backend
from selfdistill.demo.world import examples
from selfdistill.measure.scores import grade, values
from selfdistill.measure.shift import Compared, Sample
from selfdistill.measure.shift.kl import kl
from selfdistill.recipe import ModelConfig, Sampling, TrainConfig
from selfdistill.recipe.budget import Budget
from selfdistill.recipe.suites import suite_tasks
from selfdistill.tasks import get_task
from selfdistill.training import train
from selfdistill.training.callback import ForgettingCallback
from selfdistill.types import Example, Message, Prompt

MODEL = ModelConfig(path="demo", dtype="float32", device="cpu")
TRAIN: dict[str, Any] = {
    "adapter": {"targets": "all-linear"}, "epochs": 3, "batch_size": 16, "micro_batch_size": 16, "max_length": 512,
    "dtype": "float32",
}  # fmt: skip
FRESH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", type=float, default=8e-3)
    parser.add_argument("--kl", type=float, default=0.05)
    parser.add_argument("--probes", type=float, default=0.03)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--action", choices=("stop", "keep"), default="stop")
    parser.add_argument("--method", choices=("lora", "full"), default="lora")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    budget = Budget(
        kl=asked.kl, probes=asked.probes, every=asked.every, action=asked.action, suite="demo", without=["demo-maths"]
    )
    settings = TrainConfig(**TRAIN, lr=asked.lr, seed=asked.seed, method=asked.method, budget=budget)
    rows = [Example.of((Message("user", row["prompt"]),), row["response"]) for row in examples("maths", "train", 500)]
    spent = _timed("on_train_begin"), _timed("on_step_end"), _timed("on_train_end")
    with TemporaryDirectory() as name:
        start = time.process_time()
        result = train(rows, MODEL, settings, Path(name))
        whole = time.process_time() - start
        assert result.budget is not None
        for check in result.budget["checks"]:
            print(check)
        print(f"stopped: {result.budget['stopped']}, weights of step {result.budget['kept']} of {result.steps}")
        extra = sum(sum(each) for each in spent)
        seed, checks = sum(spent[0]), sum(spent[1])
        print(
            f"CPU seconds: {whole:.1f}, of which the seed {seed:.1f} and the checks {checks:.1f}: "
            f"{100 * extra / (whole - extra):.1f} % more than the training without them"
        )
        _fresh(Path(name) / "model", budget, asked.method == "full")


def _timed(event: str) -> list[float]:
    """The CPU seconds of each call of the callback's method."""
    found: list[float] = []
    method = getattr(ForgettingCallback, event)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return method(*args, **kwargs)
        finally:
            found.append(time.process_time() - start)

    setattr(ForgettingCallback, event, timed)
    return found


def _fresh(model: Path, budget: Budget, full: bool) -> None:
    """Prints the KL divergence and the loss of score on items of the test split."""
    names = [entry["task"] for entry in suite_tasks("demo", without=budget.without)]
    items = {name: list(islice(_items(name), FRESH)) for name in names}
    prompts = {item.id: Prompt(item.id, get_task(name).ask(item)) for name in names for item in items[name]}
    tuned = MODEL.model_copy(update={"path": str(model)}) if full else MODEL
    adapter = None if full else str(model)
    answers = []
    for config, over in ((MODEL, None), (tuned, adapter)):
        with open_backend("hf", config, over) as backend:
            answers.append({a.id: a for a in backend.generate(prompts.values(), Sampling(max_new_tokens=128))})
    scores = []
    for found in answers:
        written = {key: answer.to_json() for key, answer in found.items()}
        rows = (row for name in names for row in grade(get_task(name), items[name], written))
        scores.append(values(rows))
    lost = sum(scores[0][key] - scores[1][key] for key in scores[0]) / len(scores[0])
    samples = [Sample(prompts[key], answer) for key, answer in answers[0].items()]
    figures = kl(Compared((), MODEL, tuned, adapter, samples=samples)).figures
    print(
        f"fresh items: kl {figures['mean']:.4f} ± {figures['standard_error']:.4f}, probes {lost:.4f} ({len(samples)})"
    )


def _items(name: str) -> Iterator[Example]:
    task = get_task(name)
    assert task.test is not None
    return (item for row in task.load(task.test, None) for item in task.items(row))


if __name__ == "__main__":
    main()
