"""Long runs of the real command: memory, file handles and threads stay flat, the time left is true, logs stay small.

python tests/chaos/soak.py fake [--rows 2000000]   the `fake` backend: rows through all of our own code
python tests/chaos/soak.py real [--minutes 30]     the demo's seed on the `hf` backend, on as many rows as take so long

Prints a row of a table for each, and exits with 1 and the reasons where something grows or the time left is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from driver import RECIPE as FAKE
from driver import write_rows as write_sums

from selfdistill.demo.world import examples

REAL = """
model: {path: demo, dtype: float32}
data: {path: %s}
rewrite: {grader: final_number, template: using, min_accepted: 0, sampling: {preset: paper, max_new_tokens: 128}}
"""
EVERY = 0.5  # seconds between two looks at the process
TRIAL = 2000  # rows that tell how many take the minutes asked for
MIB = 1 << 20

# What may grow after the first tenth of a run. For each row its id is kept: 24 bytes while duplicates are looked for,
# 16 with its place in a file, and as much again while they are sorted. The rest is what stages and batches differ by.
MEMORY_A_ROW, MEMORY = 100, 64 * MIB
# And after the first tenth of a label, where nothing is kept at all.
FLAT_A_ROW, FLAT = 8, 32 * MIB
HANDLES = THREADS = 4  # more in the second half than in the first: stages differ in their files and libraries
LOG_AN_HOUR = 64 << 10
WRONG = 0.2  # of the true time of a label, in the median

LINE = re.compile(r"^(.+): (\d+)/(\d+) \((\d+) s(?:, (?:(\d+) s|less than a minute) left)?\)$", re.MULTILINE)
BAR = re.compile(r"(\S.*?) +(\d+)/(\d+) +(\d+:\d\d:\d\d)(?: [\d.]+/s, (\d+:\d\d:\d\d) left)?")
DRAWN = re.compile(r"\x1b\[[\d;?]*[A-Za-z]|[━╸╺]")


@dataclass(frozen=True)
class Sample:
    """The process at a moment: seconds since it began, the label that it was at, and what /proc says."""

    at: float
    label: str
    memory: int
    handles: int
    threads: int


@dataclass(frozen=True)
class Told:
    """What one line of progress, or one drawing of a bar, says."""

    label: str
    done: int
    total: int
    took: float
    left: float | None


class Command:
    """`selfdistill rewrite RECIPE`, watched to its end; what it says goes to a file, through a terminal if asked."""

    def __init__(self, recipe: Path, terminal: bool = False) -> None:
        self.where, self.log, self.terminal = recipe.with_suffix(""), recipe.with_suffix(".log"), terminal
        words = [sys.executable, "-m", "selfdistill", "rewrite", str(recipe), "--dir", str(self.where)]
        self.samples: list[Sample] = []
        self._begun = time.monotonic()
        with self.log.open("wb") as log:
            ours, theirs = pty.openpty() if terminal else (-1, log.fileno())
            environment = {**os.environ, "COLUMNS": "120", "LINES": "50"}
            with subprocess.Popen(words, stdout=theirs, stderr=theirs, env=environment) as self._process:
                while self._process.poll() is None:
                    self._look()
                    end = time.monotonic() + EVERY
                    while terminal and select.select([ours], [], [], max(end - time.monotonic(), 0))[0]:
                        log.write(os.read(ours, 1 << 16))
                    time.sleep(max(end - time.monotonic(), 0))
        for handle in (ours, theirs) if terminal else ():
            os.close(handle)
        self.seconds = time.monotonic() - self._begun
        if self._process.returncode:
            raise SystemExit(f"{' '.join(words)} ended with {self._process.returncode}: {self.said[-2000:]}")

    def _look(self) -> None:
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
            handles = len(os.listdir(f"/proc/{self._process.pid}/fd"))
            threads = len(os.listdir(f"/proc/{self._process.pid}/task"))
        except (OSError, IndexError):  # it has just ended
            return
        if not pages:  # it has, and waits to be noticed
            return
        label = "" if self.terminal else next(reversed(self.told()), "")
        memory = pages * os.sysconf("SC_PAGE_SIZE")
        self.samples.append(Sample(time.monotonic() - self._begun, label, memory, handles, threads))

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def logged(self) -> int:
        """Bytes of log: what was said, unless to a terminal, and what the run's folder has of it."""
        return sum(
            path.stat().st_size for path in chain([] if self.terminal else [self.log], self.where.rglob("*log*"))
        )

    def told(self) -> dict[str, list[Told]]:
        """By label, in order; of a terminal what was drawn, each second once."""
        found: dict[str, list[Told]] = defaultdict(list)
        text = DRAWN.sub("", self.said.replace("\r", "\n"))
        for match in chain(BAR.finditer(text) if self.terminal else (), LINE.finditer(text)):
            label, done, total, took, left = match.groups()
            new = Told(label, int(done), int(total), seconds(took), None if left is None else seconds(left))
            if not (self.terminal and found[label] and found[label][-1].took == new.took and new.done < new.total):
                found[label].append(new)
        return found


def seconds(text: str) -> float:
    total = 0
    for part in text.split(":"):
        total = 60 * total + int(part)
    return total


def deviations(told: dict[str, list[Told]]) -> list[float]:
    """Of each time left that was told between a tenth and nine tenths of a label: how far off the end was, as a share
    of the label's true time. Labels of under half a minute are left out, as seconds are told without a fraction."""
    found = []
    for lines in told.values():
        true = next((line.took for line in lines if line.done == line.total), 0.0)
        for line in lines if true >= 30 else ():
            if line.left is not None and 0.1 <= line.done / line.total <= 0.9:
                found.append(abs(line.took + line.left - true) / true)
    return found


def growth(samples: Sequence[Sample]) -> float:
    """Bytes by which memory grew after the first tenth of the samples, by the straight line that fits them best."""
    later = samples[len(samples) // 10 :]
    slope, _ = statistics.linear_regression([s.at for s in later], [s.memory for s in later])
    return slope * (later[-1].at - later[0].at)


def level(samples: Sequence[Sample], part: int) -> float:
    """Mean memory in a tenth of the samples: what batches, long and short, differ around."""
    tenth = samples[part * len(samples) // 10 : (part + 1) * len(samples) // 10]
    return statistics.mean(sample.memory for sample in tenth)


def grown(rows: int, command: Command) -> list[str]:
    """What did not stay flat."""
    samples = command.samples[len(command.samples) // 10 :]
    rise = max(level(command.samples, part) for part in range(2, 10)) - level(command.samples, 1)
    found = [f"memory rose by {rise / MIB:.0f} MiB"] if rise > rows * MEMORY_A_ROW + MEMORY else []
    for label in command.told():
        own = [sample for sample in command.samples if sample.label == label]
        if len(own) * EVERY > 30 and (more := growth(own)) > rows * FLAT_A_ROW + FLAT:
            found.append(f"in {label} memory grew by {more / MIB:.0f} MiB")
    first, second = samples[: len(samples) // 2], samples[len(samples) // 2 :]
    for what, allowed in (("handles", HANDLES), ("threads", THREADS)):
        before, after = (max(getattr(sample, what) for sample in half) for half in (first, second))
        found += [f"{what} grew from {before} to {after}"] if after > before + allowed else []
    if command.logged > LOG_AN_HOUR * max(command.seconds / 3600, 1):
        found.append(f"{command.logged} bytes of log")
    return found


def judge(part: str, rows: int, command: Command) -> list[str]:
    """Prints the row of the table; gives what is wrong."""
    samples = command.samples[len(command.samples) // 10 :]
    off = deviations(command.told())
    memory = [sample.memory / MIB for sample in samples]
    told = f"{statistics.median(off):.0%} | {max(off):.0%} | {len(off)}" if off else "| | 0"
    cells = [
        part, f"{rows:,}", f"{command.seconds / 60:.1f}",
        f"{memory[0]:.0f}", f"{memory[-1]:.0f}", f"{max(memory):.0f}", f"{growth(command.samples) / rows:.0f}",
        *(f"{min(values)} to {max(values)}" for values in ([s.handles for s in samples], [s.threads for s in samples])),
        f"{command.logged / 1024:.1f}", told,
    ]  # fmt: skip
    print(f"| {' | '.join(cells)} |", flush=True)
    wrong = grown(rows, command)
    if off and statistics.median(off) > WRONG:
        wrong.append(f"the time left was off by {statistics.median(off):.0%} in the median")
    return [f"{part}: {reason}" for reason in wrong]


def write_demo(path: Path, rows: int) -> None:
    """The demo's items over and over, numbered; of several skills, so that long ones and short ones take turns."""
    skills = [[*examples(skill, "train", 500)] for skill in ("maths", "tool_downstream", "lists", "maths_other")]
    with path.open("w", encoding="utf-8") as file:
        for n in range(rows):
            item = skills[n % len(skills)][n // len(skills) % 500]
            file.write(json.dumps({"question": f"{n}. {item['prompt']}", "answer": item["response"]}) + "\n")


def start(
    folder: Path, name: str, text: str, write: Callable[[Path, int], None], rows: int, terminal: bool = False
) -> Command:
    data, recipe = folder / f"{name}.jsonl", folder / f"{name}.yaml"
    write(data, rows)
    recipe.write_text(text % data, encoding="utf-8")
    return Command(recipe, terminal)


def fake(folder: Path, rows: int) -> list[str]:
    """To a file, and a fifth as many rows to a terminal."""
    wrong = judge("fake", rows, start(folder, "fake", FAKE, write_sums, rows))
    drawn = start(folder, "terminal", FAKE, write_sums, max(rows // 5, 1), terminal=True)
    return wrong + judge("fake, on a terminal", max(rows // 5, 1), drawn)


def real(folder: Path, minutes: float) -> list[str]:
    trial = start(folder, "trial", REAL, write_demo, TRIAL).told()
    rows = round(TRIAL * minutes * 60 / sum(lines[-1].took for lines in trial.values()))
    return judge("real", rows, start(folder, "real", REAL, write_demo, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["fake", "real"])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="selfdistill-soak-"))
    print(
        "| part | rows | minutes | MiB after a tenth | MiB at the end | most MiB | slope, bytes a row | file handles | "
        "threads | log, KiB | time left off by, median | most | times told |"
    )
    print("|---" * 13 + "|", flush=True)
    wrong = fake(folder, arguments.rows) if arguments.part == "fake" else real(folder, arguments.minutes)
    if wrong:
        raise SystemExit("\n".join([f"Kept in {folder}:", *wrong]))
    if not arguments.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
