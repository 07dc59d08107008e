"""report.html: the verdict first, then what it rests on. Everything on it was read from the experiment's directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..store.rows import write_text
from .answers import answered_tasks, answers_page
from .figures import Material, measure, measures, name_of, page_figures, save_figures
from .findings import Findings
from .html import render
from .rewrites import Survey, browser_page, survey
from .saved import Saved, read_experiment
from .svg import marker_icon
from .text import BUCKETS, WORDS, figure

_MAX_REASONS = 25


def write_report(directory: Path) -> Path:
    """Writes `directory`/report.html, which it gives, and as far as there are any, rewrites.html and answers.html.

    Reads the experiment's files and changes none; files that aren't there yet are named on the page. Raises
    ExperimentError where `directory` holds no experiment or a damaged one, OSError where it can't be written.
    """
    saved = read_experiment(directory)
    found = survey(directory, first=_foreign(saved))
    if found is not None:
        write_text(directory / "rewrites.html", browser_page(directory, saved.name, found))
    tasks = answered_tasks(directory, saved.verdict)
    if tasks:
        write_text(directory / "answers.html", answers_page(tasks, saved))
    path = directory / "report.html"
    material = _material(saved, found)
    write_text(path, _report(saved, material, found, {task.name: list(task.runs) for task in tasks}))
    return path


def write_figures(directory: Path, folder: Path) -> list[Path]:
    """NAME.png, NAME.pdf and NAME.csv of each figure that the report of `directory` has, into `folder`; gives their
    paths. Raises ExperimentError and OSError as `write_report` does."""
    saved = read_experiment(directory)
    return save_figures(_material(saved, survey(directory)), folder)


def _material(saved: Saved, found: Survey | None) -> Material:
    return Material(
        findings=Findings.of(saved.verdict),
        training=saved.training,
        acceptance=_acceptance(saved.verdict.get("acceptance"), found),
        gap=saved.gap,
        shift=saved.shift,
        sweeps=list(saved.verdict.get("sweeps") or []),
    )


def _report(saved: Saved, material: Material, found: Survey | None, answered: dict[str, list[str]]) -> str:
    findings = material.findings
    training = {run: rows for run, rows in saved.training.items() if rows}
    order = list(material.slots)
    looks = material.slots | {run: material.slots[material.arm_of(run)] for run in [*training, *saved.shift]}

    def place(run: str) -> int:
        return order.index(material.arm_of(run))

    return render(
        "report.html.jinja",
        styles=("base.css", "report.css"),
        scripts=("figures.js", "report.js"),
        saved=saved,
        findings=findings,
        headline=findings.headline(),
        missing=_missing(saved, findings, found),
        icons={arm: marker_icon(slot) for arm, slot in looks.items()},
        words=WORDS,
        figures=page_figures(material),
        training=[_trained(run, training[run], saved.manifest) for run in sorted(training, key=place)],
        acceptance=material.acceptance,
        foreign=_foreign(saved),
        shift=_shift({run: saved.shift[run] for run in sorted(saved.shift, key=place)}),
        has_browser=found is not None,
        answered=answered,
        buckets=BUCKETS,
        settings=_settings(saved),
        stages=saved.manifest.get("stages", {}),
    )


def _foreign(saved: Saved) -> list[str]:
    """The ids of the rows that are most foreign to the seed model."""
    found = (saved.verdict.get("gap") or {}).get("foreign")
    return [str(row) for row in found] if isinstance(found, list) else []


def _shift(shift: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The table of shift: what is measured of some run, and of each run the values with their intervals. Why one is
    missing is in the verdict's notes."""
    names = measures(shift.values())
    return {
        "metrics": {name: name_of(name) for name in names},
        "runs": {
            run: [(measure(row, name), _bounds((row.get("metrics") or {}).get(name))) for name in names]
            for run, row in shift.items()
        },
        "on": sorted(
            {(str(row["source"]), row.get("prompts")) for row in shift.values() if row.get("source")}, key=str
        ),
    }


def _bounds(value: Any) -> str:
    """A measure's interval, or its standard error."""
    known = value if isinstance(value, dict) else {}
    if known.get("low") is not None and known.get("high") is not None:
        return f"[{figure(known['low'])}, {figure(known['high'])}]"
    return f"± {figure(known['standard_error'])}" if known.get("standard_error") is not None else ""


def _missing(saved: Saved, findings: Findings, found: Survey | None) -> list[str]:
    """What is not in the directory, in the order in which it comes to be."""
    trained = sum(1 for name in saved.manifest.get("stages", {}) if name.startswith("train/"))
    parts = {
        "the recipe": saved.recipe_text is None,
        "the manifest": not saved.manifest,
        "rewrites": found is None,
        "training logs": not saved.training and not trained,
        "evaluations": not findings.tasks,
        "comparisons with the seed": not findings.comparisons,
    }
    return [name for name, absent in parts.items() if absent]


def _acceptance(acceptance: dict[str, Any] | None, found: Survey | None) -> dict[str, Any] | None:
    """The verdict's figures, else those counted in the file; the reasons most frequent first, the rare ones in one."""
    figures = acceptance or (found.acceptance() if found else None)
    if not figures or not figures.get("rows"):
        return None
    reasons = sorted(figures.get("reasons", {}).items(), key=lambda item: (-item[1], item[0]))
    rest = sum(number for _, number in reasons[_MAX_REASONS:])
    return {**figures, "reasons": reasons[:_MAX_REASONS], "rest": rest, "n_rest": len(reasons[_MAX_REASONS:])}


def _trained(arm: str, rows: list[dict[str, Any]], manifest: dict[str, Any]) -> dict[str, Any]:
    """A row of the training table; None where it isn't known."""
    stage = manifest.get("stages", {}).get(f"train/{arm}", {})
    speeds = sorted(row["tokens_per_second"] for row in rows if row.get("tokens_per_second"))
    peaks = [row["peak_memory_gib"] for row in rows if row.get("peak_memory_gib")]
    counts = stage.get("counts", {})
    return {
        "arm": arm,
        "rows": counts.get("rows"),
        "left out": counts.get("dropped"),
        "cut": counts.get("cut", counts.get("truncated")),
        "steps": counts.get("steps", rows[-1]["step"]),
        "tokens": counts.get("tokens"),
        "first": rows[0]["loss"],
        "last": rows[-1]["loss"],
        "speed": speeds[len(speeds) // 2] if speeds else None,
        "mfu": counts.get("mfu"),
        "peak": max(peaks, default=None),
        "seconds": stage.get("seconds"),
    }


def _settings(saved: Saved) -> list[tuple[str, str]]:
    """The settings that a reader asks for first, those the recipe has."""

    def get(path: str) -> Any:
        value: Any = saved.recipe
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def line(*parts: tuple[str, str]) -> str:
        return ", ".join(f"{label}{get(path)}" for label, path in parts if get(path) is not None)

    adapter = (("r ", "train.adapter.r"), ("α ", "train.adapter.alpha")) if get("train.method") != "full" else ()
    rows = {
        "Seed model": line(("", "model.path"), ("revision ", "model.revision"), ("dtype ", "model.dtype")),
        "Data": line(("", "task"), ("", "data.path"), ("n = ", "data.n"), ("seed ", "data.seed")),
        "Rewriting": line(
            ("template ", "rewrite.template"),
            ("grader ", "rewrite.grader"),
            ("temperature ", "rewrite.sampling.temperature"),
            ("top-p ", "rewrite.sampling.top_p"),
            ("top-k ", "rewrite.sampling.top_k"),
        ),
        "Training": line(
            ("", "train.method"),
            *adapter,
            ("lr ", "train.lr"),
            ("", "train.schedule"),
            ("epochs ", "train.epochs"),
            ("batch ", "train.batch_size"),
            ("max. length ", "train.max_length"),
            ("seed ", "train.seed"),
        ),
        "Evaluation": line(
            ("temperature ", "evaluate.sampling.temperature"), ("new tokens ≤ ", "evaluate.sampling.max_new_tokens")
        ),
    }
    arms = saved.recipe.get("arms")
    for name, arm in arms.items() if isinstance(arms, dict) else ():
        rows[f"Arm {name}"] = ", ".join(_written(arm)) if isinstance(arm, dict) else ""
    return [(name, text) for name, text in rows.items() if text]


def _written(settings: dict[str, Any]) -> Iterator[str]:
    """Each setting that is set, as `key value`, those of a group one by one."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _written(value)
        elif value is not None:
            yield f"{key} {value}"
