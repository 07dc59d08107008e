"""Self-distillation fine-tuning (SDFT, arXiv 2402.13669) from start to end, on the small seed model of the demo.

    python examples/sdft_in_100_lines.py --rows 300

The seed model is fine-tuned twice on maths problems: "vanilla" trains on the original responses, "sdft" trains on the
seed model's own rewrites of them. In this toy vanilla forgets the other skill, tool use, and sdft keeps it. It prints:

    arm               demo-maths   demo-tool-other
    seed                     46%               98%
    vanilla                  46%               16%
    sdft                     72%               98%
"""

import argparse
import json
from dataclasses import replace
from itertools import compress, islice
from pathlib import Path

from selfdistill import (
    Example,
    ModelConfig,
    Prompt,
    Rewriter,
    Sampling,
    TrainConfig,
    get_task,
    load_template,
    make_grader,
    open_backend,
)
from selfdistill.data import draw
from selfdistill.recipe import Adapter
from selfdistill.training import train

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--rows", type=int, default=100, help="training rows")
parser.add_argument("--items", type=int, default=50, help="test items per task")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--out", type=Path, default=Path("runs/sdft-in-100-lines"), help="folder for rewrites and adapters")
options = parser.parse_args()

MODEL = ModelConfig(path="demo", dtype="float32")  # or a folder, or a hub name such as org/name
GREEDY = Sampling(temperature=0, max_new_tokens=128)
TARGET, OTHER = "demo-maths", "demo-tool-other"


# 1. Load the training examples: a prompt and the original response each.

task = get_task(TARGET)
assert task.train is not None
examples = [example for conversation in task.load(task.train) for example in conversation.examples()]
examples = list(compress(examples, draw(len(examples), options.rows, seed=0)))


# 2. Rewrite: the seed model sees instruction and original response, and answers in its own words (eq. 3).
#    Verify and choose: a rewrite with the same final number replaces the original (eq. 4).

rewriter = Rewriter(template=load_template("using"), grade=make_grader("final_number"), sampling=GREEDY)
with open_backend("hf", MODEL) as backend:
    rewrites = rewriter.rewrite(examples, backend)

options.out.mkdir(parents=True, exist_ok=True)
with (options.out / "rewrites.jsonl").open("w") as file:
    file.writelines(json.dumps(rewrite.to_json()) + "\n" for rewrite in rewrites)
print(f"{sum(rewrite.grade.passed for rewrite in rewrites)} of {len(rewrites)} rewrites accepted")


# 3. Fine-tune a LoRA adapter on the originals, and another one on the choices.

every_layer = Adapter(targets="all-linear")
settings = TrainConfig(lr=8e-3, adapter=every_layer, epochs=options.epochs, batch_size=16, dtype="float32")
arms = {"vanilla": examples, "sdft": [replace(rewrite.example, reference=rewrite.response) for rewrite in rewrites]}
adapters: dict[str, Path | None] = {"seed": None}
for arm, rows in arms.items():
    folder = options.out / f"{arm}-{options.rows}-rows-{options.epochs}-epochs"
    train(rows, MODEL, settings, folder)
    adapters[arm] = folder / "model"


# 4. Evaluate the seed model and both adapters on the target task and on another skill, and print the table.


def accuracy(name: str, adapter: Path | None) -> float:
    task = get_task(name)
    items: list[Example] = [row.examples()[-1] for row in islice(task.load(task.test), options.items)]
    with open_backend("hf", MODEL, str(adapter) if adapter else None) as backend:
        answers = {answer.id: answer for answer in backend.generate([Prompt(i.id, task.ask(i)) for i in items], GREEDY)}
    return sum(task.grade(item, answers[item.id].text).passed for item in items) / len(items)


print(f"\n{'arm':10}{TARGET:>18}{OTHER:>18}")
for arm, adapter in adapters.items():
    print(f"{arm:10}{accuracy(TARGET, adapter):18.0%}{accuracy(OTHER, adapter):18.0%}")
