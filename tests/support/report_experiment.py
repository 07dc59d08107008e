"""Writes made-up experiments, as `selfdistill run` leaves them, for the tests of the report."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from selfdistill.measure.comparisons import Pair, compare
from selfdistill.measure.means import compare_means
from selfdistill.measure.stats import wilson
from selfdistill.pipeline.by_hand import by_mark
from selfdistill.recipe import make_recipe, save_recipe
from selfdistill.store.manifest import ManifestFile
from selfdistill.store.marks import MARKED, HandMark, append_mark, marks_id
from selfdistill.types import Completion, Example, Grade, Message, Rewrite, Score
from support.rows import read_rows, write_rows

# Each has an effect if it reaches the page as markup or code, or the terminal as a control sequence.
HOSTILE = (
    "</script><script>window.__xss = 1</script>",
    '<img src=x onerror="window.__xss = 1">',
    "\"'><svg/onload=window.__xss=1>",
    "<!--<script>",
    "javascript:window.__xss=1",
    "{{ 7 * 7 }} {% raw %} ${window.__xss = 1}",
    "line\u2028separator\u2029s",
    "\x00nul \x1b[31mred\x1b[0m \x07bell \x9b",
    "\u202eright to left override\u202c",
    "שלום עולם, מה שלומך? مرحبا بالعالم",
    "👩‍👩‍👧‍👦 emoji 🎉 \ud83d",
    "$\\alpha$ [bold]markup[/bold] & &amp; &lt;b&gt;",
    "verylongword" * 400,
)

TASKS = [("gsm8k", "maths", "target"), ("multiarith", "other maths", "other"), ("tools", "function calls", "other"),
         ("code", "code", "other"), ("benign", "helpfulness", "other"), ("jailbreak", "safety", "other")]  # fmt: skip
RATES = {
    "seed": (0.46, 0.78, 0.92, 0.99, 0.95, 0.97),
    "vanilla": (0.15, 0.13, 0.34, 0.21, 0.93, 0.54),
    "sdft": (0.56, 0.71, 0.88, 0.99, 0.96, 0.97),
}


def write_experiment(
    directory: Path,
    rates: dict[str, tuple[float, ...]] = RATES,
    tasks: list[tuple[str, str, str]] = TASKS,
    rewrites: Iterable[Rewrite] | None = None,
    n: int = 200,
) -> Path:
    """Writes every file of a finished experiment. Returns `directory`."""
    arms = list(rates)
    trained = arms[1:]
    values: dict[str, Any] = {"model": "demo", "task": "gsm8k", "arms": {"seed": {"data": "none"}}}
    values["arms"] |= {arm: {"data": "original" if arm == "vanilla" else "rewrites"} for arm in trained}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "recipe.yaml").write_text(save_recipe(make_recipe(values)), encoding="utf-8")
    rows = list(made_rewrites(400) if rewrites is None else rewrites)
    write_rewrites(directory, rows)
    for number, arm in enumerate(trained):
        write_training(directory / "arms" / arm, seed=number)
    write_json(directory / "verdict.json", made_verdict(rates, tasks, rows, n))
    ManifestFile(directory).write(made_manifest(arms, tasks, len(rows)))
    return directory


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_rewrites(directory: Path, rewrites: Iterable[Rewrite]) -> None:
    path = directory / "rewrite" / "rewrites.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(rewrite.to_json()) + "\n" for rewrite in rewrites)


def write_marked(directory: Path, decided: dict[int, str | None]) -> Path:
    """Marks rows by hand and writes what a run makes of them: by number from 1, an edit, or None for the original."""
    rows = read_rows(directory / "rewrite" / "rewrites.jsonl")
    marks = {
        rows[number - 1]["id"]: HandMark("original" if text is None else "edit", text or "")
        for number, text in decided.items()
    }
    for row_id, mark in marks.items():
        append_mark(directory, row_id, mark)
    written = []
    for row in rows:
        mark, rewrite = marks.get(row["id"]), Rewrite.from_json(row)
        changed = by_mark(rewrite, mark) if mark else rewrite
        source = "edit" if mark and mark.choice == "edit" else changed.source
        written.append({**changed.to_json(), "source": source, "mark": mark.choice if mark else None})
    write_rows(directory / MARKED, written)
    manifest = ManifestFile(directory)
    counts = {"rows": len(rows), "by_hand": dict(Counter(mark.choice for mark in marks.values()))}
    record = {"finished": "2026-01-01T00:00:00", "settings": {"marks": marks_id(marks)}, "counts": counts}
    known = manifest.read()
    manifest.write({**known, "stages": {**known["stages"], "choose/marked-rewrites": record}})
    return directory


def write_training(directory: Path, seed: int, steps: int = 188) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    noise = random.Random(seed)
    with (directory / "train.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            loss = (0.2 + 3.2 / (1 + seed * 3)) * 0.985**step + 0.12 * noise.random() + 0.08
            row = {"step": step, "epoch": 3 * step / steps, "loss": loss, "lr": 1e-4, "tokens_per_second": 2_400 + step,
                   "peak_memory_gib": 1.25}  # fmt: skip
            file.write(json.dumps(row) + "\n")


def made_rewrites(count: int, seed: int = 0) -> Iterable[Rewrite]:
    draw = random.Random(seed)
    for _ in range(count):
        name, had, got = draw.choice(["Lena", "Omar", "Priya", "Tom"]), draw.randint(3, 90), draw.randint(2, 60)
        example = Example.of(
            (Message("user", f"{name} has {had} apples and buys {got} more. How many apples does {name} have now?"),),
            f"{had}+{got}={had + got}\n#### {had + got}",
        )
        chance = draw.random()
        answer = had + got + (chance > 0.93)
        text = (
            f"{name} starts with {had} apples and then buys {got} more.\n"
            f"So the total is {had} + {got} = {answer}.\nThe answer is {answer}."
        )
        if chance > 0.98:
            yield Rewrite(example, Completion("c", text[:60], "length", 64), Grade("fail", "cut off at the limit"))
        elif chance > 0.96:
            text = "As the reference answer says, " + text
            yield Rewrite(example, Completion("c", text, "stop", 48), Grade("fail", "talks about the reference"))
        else:
            outcome, reason = ("pass", "same number") if answer == had + got else ("fail", "another number")
            verdict = Grade(outcome, reason, str(had + got), str(answer))
            yield Rewrite(example, Completion("c", text, "stop", 40), verdict)


def hostile_rewrites() -> Iterable[Rewrite]:
    for number, text in enumerate(HOSTILE):
        example = Example.of((Message("system", text), Message("user", f"{number} {text}")), f"{text} original")
        outcome = ("pass", "fail", "unjudged")[number % 3]
        verdict = Grade(outcome, text[:300], text[:900], text[:900])
        yield Rewrite(example, Completion("c", f"{text} rewrite {text}", "stop", 12), verdict)
    long = "word and another word, " * 4_500
    yield Rewrite(Example.of((Message("user", long),), long), Completion("c", long[7:], "stop", 1), Grade("pass", "ok"))
    empty = Example.of((Message("user", ""),), "")
    yield Rewrite(empty, Completion("c", "", "error", 0, HOSTILE[0]), Grade("unjudged", "backend error"))


def made_score(task: str, passed: int, n: int) -> Score:
    truncated = min((n - passed) // 10, 6)
    errors = 1 if n - passed > 20 else 0
    judged, failed = n - errors, n - passed - truncated - errors
    reasons = {"another number": failed, "cut off at the limit": truncated, "backend error: timeout": errors}
    return Score(
        task, "accuracy", passed / judged, *wilson(passed, judged), n, passed, failed,
        truncated=truncated, errors=errors, reasons={k: v for k, v in reasons.items() if v},
    )  # fmt: skip


def made_verdict(
    rates: dict[str, tuple[float, ...]], tasks: list[tuple[str, str, str]], rewrites: list[Rewrite], n: int
) -> dict[str, Any]:
    arms, scored, compared = list(rates), [], list[Pair]()
    for index, (task, skill, role) in enumerate(tasks):
        right = {arm: _answers(f"{task}{arm}", rates[arm][index], n) for arm in arms}
        scores = {arm: made_score(task, sum(right[arm]), n).to_json() for arm in arms}
        scored.append({
            "task": task, "skill": skill, "role": role, "metric": "accuracy", "answers_of": task, "system": None,
            "asked": {"temperature": 0.0}, "n": n, "scores": scores, "runs": {},
        })  # fmt: skip
        pairs = [(arm, "seed") for arm in arms[1:]] + [(arm, "vanilla") for arm in arms[2:]]
        compared += [
            Pair(task, arm, other, [_values(right[arm])], [_values(right[other])], both_trained=other != "seed")
            for arm, other in pairs
        ]
    comparisons = [row.to_json() for row in compare(compared, 0.05)]
    others = {task for task, _, role in tasks if role == "other"}
    means = compare_means([pair for pair in compared if pair.task in others], 0.05)
    accepted = sum(rewrite.grade.passed for rewrite in rewrites)
    refused = [rewrite.grade.reason for rewrite in rewrites if not rewrite.grade.passed]
    reasons = {reason: refused.count(reason) for reason in dict.fromkeys(refused)}
    return {
        "model": "demo", "task": "gsm8k", "arms": arms, "seed_arm": "seed", "margin": 0.05, "tasks": scored,
        "baseline_arms": {arm: {"against": "vanilla", "equal": True} for arm in arms[2:]},
        "comparisons": comparisons, "mean_changes": [row.to_json() for row in means],
        "acceptance": {"rows": len(rewrites), "accepted": accepted, "rate": accepted / max(len(rewrites), 1),
                       "duplicates": 12, "reasons": reasons},
        "summary": ["vanilla forgot 4 of 5 other tasks; sdft none.", "On gsm8k sdft reaches more than vanilla does."],
        "notes": ["This is a toy: a seed model of one million parameters in a made-up world. It shows the mechanism, "
                  "not what a real model would gain or lose."],
    }  # fmt: skip


def _values(right: list[bool]) -> dict[int, float]:
    return {item: float(outcome) for item, outcome in enumerate(right)}


def _answers(salt: str, rate: float, n: int) -> list[bool]:
    """An item is equally difficult in every arm."""
    hard, own = random.Random("items"), random.Random(salt)
    return [0.75 * hard.random() + 0.25 * own.random() < 0.125 + 0.75 * rate for _ in range(n)]


def made_manifest(arms: list[str], tasks: list[tuple[str, str, str]], rows: int) -> dict[str, Any]:
    stages: dict[str, Any] = {
        "data": {"counts": {"rows": rows + 12, "bad": 0, "train": rows + 12, "duplicates": 12}, "seconds": 0.4},
        "rewrite": {"counts": {"rows": rows, "accepted": rows - 20, "duplicates": 12}, "seconds": 14.2},
    }
    for arm in arms[1:]:
        counts = {"rows": rows, "steps": 188, "tokens": 142_336, "cut": 0, "dropped": 0, "masked_rows": 0}
        stages[f"train/{arm}"] = {"counts": counts, "seconds": 71.8}
    stages |= {f"evaluate/{arm}/{task}": {"counts": {"n": 200}, "seconds": 3.1} for arm in arms for task, _, _ in tasks}
    for stage in stages.values():
        stage |= {"fingerprint": "0" * 16, "settings": {}, "inputs": {}, "finished": "2026-03-01T12:00:00+00:00"}
    return {
        "selfdistill": "0.1.0",
        "created": "2026-03-01T11:58:03+00:00",
        "versions": {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.19.0", "bitsandbytes": None},
        "hardware": {"platform": "Linux-6.1-x86_64", "cpus": 2, "memory_gib": 15.6, "gpus": []},
        "stages": stages,
    }


SWEPT = {"n": (500, 1000, 2000, 4000), "mix": (0.0, 0.25, 0.5, 0.75, 1.0)}


def write_analysis(directory: Path, seeds: tuple[int, ...] = (0, 1, 2), sweeps: bool = True, layers: int = 8) -> Path:
    """`write_experiment` with a gap, several training seeds per arm, sweeps over sample size and mix ratio, and the
    shift of every run."""
    how_far = {"vanilla": 1.0, "sdft": 0.12}
    rows: list[dict[str, Any]] = []
    for parameter, series in (("n", ("vanilla", "sdft")), ("mix", ("mix",))) if sweeps else ():
        for name in series:
            for value in SWEPT[parameter]:
                arm = f"{name}.n={value}" if parameter == "n" else f"mix={value:g}"
                rows.append({"parameter": parameter, "series": name, "value": value, "arm": arm})
                more = value / 4000 if parameter == "n" else 1.0
                how_far[arm] = more * (1 - 0.88 * value if parameter == "mix" else how_far[name])
    rates = {
        arm: tuple(
            min(seed + 0.2 * (1 - far) + 0.05, 0.95) if not task else max(seed - (seed - 0.2) * far**0.7, 0.02)
            for task, seed in enumerate(RATES["seed"])
        )
        for arm, far in {"seed": 0.0, **how_far}.items()
    } | {"seed": RATES["seed"]}
    rewrites = list(made_rewrites(400))
    write_experiment(directory, rates, rewrites=rewrites)
    verdict = json.loads((directory / "verdict.json").read_text(encoding="utf-8"))
    runs = {arm: [f"{arm}@{seed}" for seed in seeds] if len(seeds) > 1 else [arm] for arm in how_far}
    noise = random.Random("runs")
    for task in verdict["tasks"] if len(seeds) > 1 else ():
        task["runs"] = {
            arm: {run: min(max(task["scores"][arm]["value"] + noise.gauss(0, 0.02), 0), 1) for run in names}
            for arm, names in runs.items()
        }
    for arm in how_far:
        shutil.rmtree(directory / "arms" / arm)
        for number, run in enumerate(runs[arm]):
            write_training(directory / "arms" / run, seed=round(3 * (1 - how_far[arm])) + number)
            write_shift(directory, run, how_far[arm] * noise.uniform(0.85, 1.1), layers)
    shift = {path.stem: json.loads(path.read_text()) for path in sorted((directory / "shift").glob("*.json"))}
    verdict["shift"] = {run: {k: v for k, v in row.items() if k != "distributions"} for run, row in shift.items()}
    verdict |= {"sweeps": rows, "seeds": list(seeds), "gap": write_gap(directory, rewrites)}
    write_json(directory / "verdict.json", verdict)
    return directory


def write_gap(directory: Path, rewrites: list[Rewrite]) -> dict[str, Any]:
    """Writes rewrite/gap.jsonl and returns the counts. Originals are off-distribution, rewrites are not."""
    draw, rows = random.Random("gap"), []
    for rewrite in rewrites:
        original, own = (
            {"nll": draw.lognormvariate(mean, 0.4), "tokens": draw.randint(20, 90)} for mean in (0.6, -0.9)
        )
        chosen = rewrite.source
        row = {"id": rewrite.example.id, "original": original, "rewrite": own if chosen == "rewrite" else None}
        rows.append(row | {"chosen": chosen})
    write_rows(directory / "rewrite" / "gap.jsonl", rows)
    sides = {
        "original": [row["original"] for row in rows],
        "rewritten": [row[row["chosen"]] for row in rows],
    }
    worst = sorted(rows, key=lambda row: -row["original"]["nll"])[:10]
    return {
        name: {"nll": sum(score["nll"] for score in scores) / len(scores), "rows": len(scores)}
        for name, scores in sides.items()
    } | {"off_distribution": [row["id"] for row in worst]}


def write_shift(directory: Path, run: str, far: float, layers: int = 8) -> None:
    """Writes shift/<run>.json of a run that moved `far` in [0, 1]."""
    draw = random.Random(run)
    alike = [min(max(draw.gauss(1 - 0.75 * far, 0.14), 0), 1) for _ in range(200)]
    close = [min(max(draw.gauss(1 - 0.45 * far, 0.1), -0.2), 1) for _ in range(200)]

    def mean(values: list[float]) -> dict[str, float]:
        middle = sum(values) / len(values)
        return {"mean": middle, "low": middle - 0.02, "high": middle + 0.02}

    names = [f"model.layers.{layer}.self_attn.{side}_proj" for layer in range(layers) for side in "qv"]
    changes = [
        {"name": name, "norm": far * (0.4 + 0.05 * place), "relative": far * (0.02 + 0.0015 * place)}
        for place, name in enumerate(names)
    ]
    path = directory / "shift" / f"{run}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {
        "run": run, "prompts": 200, "source": "advbench",
        "metrics": {
            "bleu4": mean([value**2 for value in alike]), "bleu4_char": mean([value**1.5 for value in alike]),
            "rouge_l": mean(alike), "cosine": mean(close), "kl": {"mean": 0.9 * far**1.5, "standard_error": 0.02},
            "agreement": {"mean": 1 - 0.6 * far}, "length_ratio": {"mean": 1 - 0.5 * far},
        },
        "distributions": {"rouge_l": alike, "cosine": close}, "missing": {},
        "parameters": {"norm": 9 * far, "relative": 0.031 * far, "layers": changes},
    })  # fmt: skip


def write_items(directory: Path, task: str, numbers: Iterable[int]) -> None:
    rows = [Example.of((Message("user", f"{task} question {number}"),), f"{number}").to_json() for number in numbers]
    write_rows(directory / "items" / f"{task}.jsonl", rows)


def poisoned(value: Any, text: str) -> Any:
    """`value` with `text` appended to every string that is shown, names of tasks and arms included. Words, roles and
    outcomes stay, since they are not free text."""
    fixed = {"target", "other", "seed", "gained", "kept", "forgot", "can't tell"}
    if isinstance(value, str):
        return value if value in fixed else value + text
    if isinstance(value, list):
        return [poisoned(item, text) for item in value]
    if isinstance(value, dict):
        return {_key(key, text): poisoned(item, text) for key, item in value.items()}
    return value


def _key(key: str, text: str) -> str:
    return key + text if key in RATES and key != "seed" else key


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
