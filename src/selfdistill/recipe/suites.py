"""Suites: lists of tasks under one name, for `evaluate.tasks`, the comparison of checkpoints, and the gate.

    suite_tasks("probes", "quick")     # [{"task": "probe-instructions", "n": 150, "max_new_tokens": 192}, ...]

`probes` are our own generated items, `public` the benchmarks of other people, `demo` the demo's own tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STEPS = ("easy", "medium", "hard")
"""The levels of difficulty of a probe."""
AUTO = "auto"
"""The split of a probe whose level is chosen by the seed's score."""
SIZES = ("quick", "full")
_QUICK, _FULL = 150, 600


@dataclass(frozen=True)
class Suite:
    """Tasks under one name. `version` changes when an item or a grader of the suite changes, so scores of two versions
    can't be compared. `tasks` are entries of `evaluate.tasks` in full size; `quick` is the number of items of each in
    the size quick."""

    version: int
    tasks: tuple[Mapping[str, Any], ...]
    quick: int = _QUICK


def _probes(**limits: int) -> tuple[Mapping[str, Any], ...]:
    return tuple({"task": f"probe-{skill}", "n": _FULL, "max_new_tokens": tokens} for skill, tokens in limits.items())


SUITES: dict[str, Suite] = {
    "probes": Suite(
        1,
        (
            *_probes(
                instructions=160, system=160, json=192, tools=160, maths=320, lookup=48, lists=64, code=192,
                languages=80, memory=48, refusal=64, format=192,
            ),
            {"task": "overrefusal", "max_new_tokens": 96},
        ),
    ),
    "public": Suite(
        1,
        (
            {"task": "ifeval"},
            {"task": "gsm8k-platinum"},
            {"task": "humaneval"},
            {"task": "mbpp-plus"},
            {"task": "mmlu"},
            {"task": "mgsm"},
            {"task": "jsonschemabench"},
            {"task": "xstest"},
            {"task": "strongreject"},
            *({"task": f"bfcl-{split}"} for split in ("simple", "multiple", "parallel", "irrelevance")),
        ),
    ),
    "demo": Suite(
        1,
        tuple(
            {"task": f"demo-{name}"}
            for name in (
                "maths", "tool", "maths-other", "tool-other", "code", "lists", "benign", "safety", "jailbreak",
            )
        ),
        quick=200,
    ),
}  # fmt: skip


def suite_tasks(
    name: str,
    size: str = "quick",
    steps: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
    n: int | None = None,
) -> list[dict[str, Any]]:
    """The entries of a suite for `evaluate.tasks`, in a fixed order. `quick` takes the suite's number of items per
    task, `full` all of them; a quick draw is part of the full one. `n` takes that many in place of the size's. `steps`
    fixes the level of probes by task, as in {"probe-json": "easy"}; the others are chosen by the seed's score. The
    tasks in `without` are left out. Raises ValueError for an unknown name or size, and if a task in `without` is not in
    the suite."""
    if name not in SUITES:
        raise ValueError(f"there is no suite '{name}'; choose {', '.join(SUITES)}")
    if size not in SIZES:
        raise ValueError(f"there is no size '{size}' of a suite; choose {' or '.join(SIZES)}")
    suite, entries = SUITES[name], list[dict[str, Any]]()
    if unknown := {*without} - {task["task"] for task in suite.tasks}:
        raise ValueError(f"the suite '{name}' has no task {', '.join(sorted(unknown))} to leave out")
    for task in suite.tasks:
        entry = dict(task)
        if entry["task"] in without:
            continue
        if n is not None:
            entry["n"] = n
        elif size == "quick" and entry["task"] != "overrefusal":
            entry["n"] = suite.quick
        if step := (steps or {}).get(entry["task"]):
            entry["split"] = step
        entries.append(entry)
    return entries


def written_out(tasks: Any) -> Any:
    """`evaluate.tasks` with each `{suite: NAME, size: SIZE, n: N, without: [TASK]}` replaced by the suite's entries.
    Raises ValueError."""
    if not isinstance(tasks, list):
        return tasks
    found: list[Any] = []
    for entry in tasks:
        if not isinstance(entry, dict) or "suite" not in entry:
            found.append(entry)
            continue
        if unknown := entry.keys() - {"suite", "size", "n", "without"}:
            raise ValueError(
                f"a suite takes size, n and without, not {', '.join(sorted(unknown))}; list its tasks instead"
            )
        without = entry.get("without") or []
        without = without if isinstance(without, list) else [without]
        size = str(entry.get("size") or "quick")
        found += suite_tasks(str(entry["suite"]), size, without=[str(task) for task in without], n=entry.get("n"))
    return found
