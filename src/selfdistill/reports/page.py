"""report.html: the verdict first, then the details behind it. All of it is read from the experiment's directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..store.rows import write_text
from .answer_ends import ENDINGS, degeneration_rows
from .answers import answered_tasks, answers_page
from .figures import page_figures, save_figures
from .figures.forgetting_figure import measure, measures, name_of
from .figures.material import Material
from .figures.rewrite_figures import MAX_BARS
from .findings import Findings
from .forgotten_table import forgotten_rows, run_with_answers
from .gate_files import gate_document
from .html import render
from .kept import doubt, outcomes
from .loss_sentences import loss_name, loss_rows
from .next_steps import outcome
from .notes import shift_missing
from .rewrites import Survey, browser_page, survey
from .saved import Saved, read_experiment
from .sentences import arms_without_sweeps, at_floor, headline, on_average
from .svg import marker_icon
from .text import BUCKETS, LOOKS, WORDS, figure
from .think_traces import MEASURES, STATES, trace_rows

_MAX_REASONS = 25


def write_report(directory: Path) -> Path:
    """Writes report.html to `directory`, and rewrites.html and answers.html if there is anything to show. Returns the
    path of report.html.

    Changes no other file of the experiment; the page names the files that are missing. Raises ExperimentError if
    `directory` holds no experiment or a damaged one, OSError if a page can't be written.
    """
    saved = read_experiment(directory)
    found = survey(directory, first=_off_distribution(saved))
    if found is not None:
        write_text(directory / "rewrites.html", browser_page(directory, saved.name, found))
    tasks = answered_tasks(directory, saved.verdict)
    if tasks:
        write_text(directory / "answers.html", answers_page(tasks, saved))
    path = directory / "report.html"
    answered = {task.name: list(task.runs) for task in tasks}
    write_text(path, _report(saved, _material(saved, found), found, answered, directory))
    return path


def write_figures(directory: Path, folder: Path) -> list[Path]:
    """Writes NAME.png, NAME.pdf and NAME.csv of each figure of the report to `folder`, and returns the paths. Raises
    the errors of `write_report`."""
    saved = read_experiment(directory)
    return save_figures(_material(saved, survey(directory)), folder)


def _material(saved: Saved, found: Survey | None) -> Material:
    return Material(
        findings=Findings.of(saved.verdict),
        training=saved.training,
        acceptance=_acceptance(saved.verdict.get("acceptance"), found),
        gap=saved.gap,
        shift=saved.shift,
        sweeps=saved.verdict.get("sweeps", []),
    )


def _report(
    saved: Saved,
    material: Material,
    found: Survey | None,
    answered: dict[str, list[str]],
    directory: Path,
) -> str:
    findings = material.findings
    _, advice, commands = outcome(saved.verdict, directory)
    training = {run: rows for run, rows in saved.training.items() if rows}
    order, unmeasured = list(material.slots), shift_missing(saved.shift)
    looks = material.slots | {run: material.slots[material.arm_of(run)] for run in [*training, *saved.shift]}

    def place(run: str) -> int:
        return order.index(material.arm_of(run))

    return render(
        "report.html.jinja",
        styles=("base.css", "report.css"),
        scripts=("figures.js", "report.js", "tables.js"),
        saved=saved,
        findings=findings,
        headline=headline(findings),
        gate=gate_document(saved.verdict),
        changed=saved.verdict.get("items_changed") or {},
        advice=advice,
        commands=[each for each in commands if each[0] != "open the report"],
        about=_about(saved),
        averages=on_average(findings, arms_without_sweeps(findings, saved.verdict)),
        at_floor=at_floor(findings),
        forgotten=forgotten_rows(findings, saved.verdict, answered),
        run_with_answers=lambda task, arm: run_with_answers(task, arm, answered),
        notes=[note for note in saved.verdict.get("notes", []) if note not in unmeasured],
        shift_missing=unmeasured,
        missing=_missing(saved, findings, found),
        icons={arm: marker_icon(slot) for arm, slot in looks.items()},
        words=WORDS,
        looks_of=LOOKS,
        figures=page_figures(material),
        endings=list(ENDINGS.values()),
        degeneration=degeneration_rows(findings, saved.verdict.get("degeneration", {})),
        traces=trace_rows(findings, saved.verdict.get("thinking")),
        trace_measures=list(MEASURES.values()),
        trace_states=list(STATES.values()),
        losses=loss_rows(findings),
        loss_name=loss_name(findings.losses),
        training=[_trained(run, training[run], saved.manifest) for run in sorted(training, key=place)],
        acceptance=material.acceptance,
        outcomes=outcomes(material.acceptance) if material.acceptance else [],
        doubt=doubt(material.acceptance) if material.acceptance else None,
        off_distribution=_off_distribution(saved),
        shift=_shift({run: saved.shift[run] for run in sorted(saved.shift, key=place)}),
        has_browser=found is not None,
        answered=answered,
        buckets=BUCKETS,
        settings=_settings(saved),
        untrained=_untrained(saved),
        stages=saved.manifest.get("stages", {}),
    )


def _about(saved: Saved) -> list[str]:
    """The experiment, its data, the model and the day, as far as they are known."""
    data = saved.recipe.get("data")
    path = data.get("path") if isinstance(data, dict) else None
    task = saved.verdict.get("task")
    known = f"{task} ({path})" if task and path else task or path
    return [
        f"Experiment {saved.name}",
        *([f"data {known}"] if known else []),
        *([f"model {model}"] if (model := saved.verdict.get("model")) else []),
        *([str(created)[:10]] if (created := saved.manifest.get("created")) else []),
    ]


def _off_distribution(saved: Saved) -> list[str]:
    """The ids of the rows whose originals are furthest off the seed's distribution."""
    found: list[str] = (saved.verdict.get("gap") or {}).get("off_distribution", [])
    return found


def _shift(shift: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The table of shift: the names of the measures, and their values with intervals for each run."""
    names = measures(shift.values())
    return {
        "metrics": {name: name_of(name) for name in names},
        "runs": {
            run: [(measure(row, name), _bounds(row["metrics"].get(name, {}))) for name in names]
            for run, row in shift.items()
        },
        "on": sorted({(row["source"], row["prompts"]) for row in shift.values()}),
    }


def _bounds(value: dict[str, Any]) -> str:
    """A measure's interval, or its standard error."""
    if value.get("low") is not None:
        return f"[{figure(value['low'])}, {figure(value['high'])}]"
    return f"± {figure(value['standard_error'])}" if value.get("standard_error") is not None else ""


def _missing(saved: Saved, findings: Findings, found: Survey | None) -> list[str]:
    """The parts that the directory lacks, in the order in which a run writes them."""
    trained = sum(1 for name in saved.manifest.get("stages", {}) if name.startswith("train/"))
    parts = {
        "the recipe": saved.recipe_text is None,
        "the manifest": not saved.manifest,
        "rewrites": found is None and not _untrained(saved),
        "training logs": not saved.training and not trained and not _untrained(saved),
        "evaluations": not (findings.tasks or findings.losses),
        "comparisons with the seed": not (findings.comparisons or any(row["comparisons"] for row in findings.losses)),
    }
    return [name for name, absent in parts.items() if absent]


def _untrained(saved: Saved) -> bool:
    """Whether the recipe only evaluates models that were made elsewhere."""
    arms = saved.recipe.get("arms")
    kinds = {arm.get("data") for arm in arms.values() if isinstance(arm, dict)} if isinstance(arms, dict) else set()
    return "checkpoint" in kinds and kinds <= {"checkpoint", "none"}


def _acceptance(acceptance: dict[str, Any] | None, found: Survey | None) -> dict[str, Any] | None:
    """The counts of the verdict, else the counts of the file. Frequent reasons come first; rare reasons are added up.
    `tabled`: whether there are more reasons than the figure shows."""
    counts = acceptance or (found.acceptance() if found else None)
    if not counts or not counts["rows"]:
        return None
    reasons = sorted(counts["reasons"].items(), key=lambda item: (-item[1], item[0]))
    rest = sum(number for _, number in reasons[_MAX_REASONS:])
    shown = {"reasons": reasons[:_MAX_REASONS], "rest": rest, "n_rest": len(reasons[_MAX_REASONS:])}
    return {**counts, **shown, "tabled": len(reasons) > MAX_BARS}


def _trained(run: str, rows: list[dict[str, Any]], manifest: dict[str, Any]) -> dict[str, Any]:
    """A row of the training table; None for an unknown value."""
    stage = manifest.get("stages", {}).get(f"train/{run}", {})
    speeds = sorted(row["tokens_per_second"] for row in rows if row.get("tokens_per_second"))
    peaks = [row["peak_memory_gib"] for row in rows if row.get("peak_memory_gib")]
    counts = stage.get("counts", {})
    return {
        "arm": run,
        "rows": counts.get("rows"),
        "left out": counts.get("dropped"),
        "shortened": counts.get("cut"),
        "steps": counts.get("steps", rows[-1]["step"]),
        "tokens": counts.get("tokens"),
        "first": rows[0]["loss"],
        "last": rows[-1]["loss"],
        "speed": speeds[len(speeds) // 2] if speeds else None,
        "mfu": counts.get("mfu"),
        "peak": max(peaks, default=None),
        "seconds": stage.get("seconds"),
        "stopped": _stopped(counts.get("budget")),
    }


def _stopped(budget: dict[str, Any] | None) -> str | None:
    """That a budget was exceeded, and in which way the training ended; None if it held, or if there is none."""
    if not budget or not budget["stopped"]:
        return None
    return (
        f"{'stopped' if budget['action'] == 'stop' else 'over'}: {budget['stopped']}, weights of step {budget['kept']}"
    )


def _settings(saved: Saved) -> list[tuple[str, str]]:
    """The main settings of the recipe, without those that are not set."""

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
    if _untrained(saved):
        rows = {name: text for name, text in rows.items() if name not in ("Rewriting", "Training")}
    arms = saved.recipe.get("arms")
    for name, arm in arms.items() if isinstance(arms, dict) else ():
        rows[f"Arm {name}"] = ", ".join(_written(arm)) if isinstance(arm, dict) else ""
    return [(name, text) for name, text in rows.items() if text]


def _written(settings: dict[str, Any]) -> Iterator[str]:
    """Each setting that is set, as `key value`; the settings of a group one by one."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _written(value)
        elif value is not None:
            yield f"{key} {value}"
