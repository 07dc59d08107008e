"""Hurts real runs of the whole pipeline, lets them go on, and compares what comes out with an uninterrupted run's.

    python tests/chaos/run.py            # make chaos: 200 kills over all stages, and 30 of everything else
    python tests/chaos/run.py --short    # make chaos-short: the same kinds, a tenth as often
    python tests/chaos/run.py --only SIGTERM --times 50

A run: data, rewrite, verify, gap, train (with checkpoints), interpolate, evaluate, shift, report, of a tiny model. Of
every three directories two are worked on with the fake backend and one with transformers.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from damage import CHECKPOINTS, DAMAGE, FILES, pick
from pipeline import Child, at_work, load_libraries, only_rounding, result, rows_lost_and_doubled, write_recipes


@dataclass
class Tally:
    """Of one way to hurt a run."""

    tried: int = 0
    hit: int = 0
    lost: int = 0
    doubled: int = 0
    differing: int = 0
    rounded: int = 0
    tracebacks: int = 0
    slowest: float = 0.0
    stages: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


class Chaos:
    """The runs that were not hurt, and the places for those that are."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rng, self.way = folder, random.Random(), ""
        load_libraries()
        self.recipes = self._write_recipes()
        self.whole: dict[str, dict[str, bytes]] = {}
        self.done: dict[str, Path] = {}
        self.seconds: dict[str, float] = {}
        self.places = 0
        for name, recipe in self.recipes.items():
            for copy in ("", "-again"):
                # Alone in its folder: it would take over a neighbour's answers.
                where = folder / f"whole-{name}{copy}" / "run"
                begun = time.monotonic()
                self._finish(name, where)
                self.seconds[name] = time.monotonic() - begun
                before = self.whole.setdefault(name, result(where))
                if before != result(where):
                    raise SystemExit(f"{recipe}: two uninterrupted runs differ")
                self.done[name] = where

    def _write_recipes(self) -> dict[str, Path]:
        # In a process of its own: it computes, and threads would not survive the forks.
        import os

        if (pid := os.fork()) == 0:
            write_recipes(self.folder)
            os._exit(0)
        os.waitpid(pid, 0)
        return {name: self.folder / f"{name}.yaml" for name in ("fake", "hf")}

    def _finish(self, name: str, where: Path) -> str:
        child = Child(self.recipes[name], where)
        if code := child.wait():
            raise SystemExit(f"{where} ended with {code}: {child.said}")
        return child.said

    def begin(self, way: str, seed: int) -> None:
        """One way to hurt a run; the same seed hurts at the same places, whatever else is tried."""
        self.way, self.places, self.rng = way.replace(" ", "-"), 0, random.Random(f"{seed} {way}")

    def place(self) -> tuple[str, Path]:
        self.places += 1
        return ("hf" if self.places % 3 == 0 else "fake"), self.folder / f"{self.way}-{self.places}" / "run"

    def moment(self, name: str) -> float:
        """How long to wait; mostly short, as a process that goes on with what is there has less to do."""
        return self.rng.random() * self.seconds[name] * self.rng.choice([0.1, 0.3, 0.9])

    def compare(self, tally: Tally, name: str, where: Path, finish: bool = True) -> str:
        """Runs again, and counts what is not as it should be; gives what the run said."""
        said = self._finish(name, where) if finish else ""
        whole, found = self.whole[name], result(where)
        if whole != found and self.way == "too-little-memory" and only_rounding(whole, found):
            tally.rounded += 1
            whole = found
        lost, doubled = rows_lost_and_doubled(whole, found)
        differing = [file for file in whole.keys() | found.keys() if whole.get(file) != found.get(file)]
        tally.lost, tally.doubled, tally.differing = (
            tally.lost + lost,
            tally.doubled + doubled,
            tally.differing + len(differing),
        )
        if differing:
            tally.notes.append(f"{where}: {', '.join(sorted(differing)[:4])}")
        else:
            shutil.rmtree(where)
        return said

    def note_end(self, tally: Tally, child: Child, since: float | None = None) -> None:
        code = child.wait()
        tally.codes[code] += 1
        if "Traceback" in child.said:
            tally.tracebacks += 1
            shutil.copy(child.log, self.folder / f"traceback-{self.way}-{self.places}.txt")
        if since is not None:
            tally.slowest = max(tally.slowest, time.monotonic() - since)

    # ---- ways to hurt

    def kill(self, tally: Tally, times: int, number: int, prepare: Callable[[], None] = lambda: None) -> None:
        """Each directory is hurt again and again until it is done."""
        while tally.hit < times:
            name, where = self.place()
            while tally.hit < times:
                child = Child(self.recipes[name], where, prepare)
                time.sleep(self.moment(name))
                tally.tried += 1
                if not child.running():
                    self.note_end(tally, child)
                    break
                tally.hit += 1
                tally.stages[at_work(where)] += 1
                since = time.monotonic()
                child.signal(number)
                self.note_end(tally, child, since)
            self.compare(tally, name, where)

    def little_memory(self, tally: Tally, times: int) -> None:
        for _ in range(times):
            name, where = self.place()
            room = int(self.rng.uniform(2, 250)) << 20

            def limit(room: int = room) -> None:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                size = pages * resource.getpagesize() + room
                resource.setrlimit(resource.RLIMIT_AS, (size, size))

            self._once(tally, name, where, limit)

    def full_disk(self, tally: Tally, times: int) -> None:
        """A tmpfs that fills up, or where it can't be mounted a limit on the size of a file."""
        for _ in range(times):
            name, where = self.place()
            with _tmpfs(where, self.rng.randrange(20, 700)) as grow:
                if grow is None:
                    size = self.rng.randrange(2_000, 200_000)
                    self._once(
                        tally, name, where, lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
                    )
                    continue
                self._hurt(tally, name, where / "run")
                grow()
                self.compare(tally, name, where / "run")

    def read_only(self, tally: Tally, times: int) -> None:
        """A file system that is written to for a while, and then is read-only."""
        for _ in range(times):
            name, where = self.place()
            with _tmpfs(where, 100_000) as grow:
                if grow is None:
                    return
                child = Child(self.recipes[name], where / "run")
                time.sleep(self.moment(name))
                child.signal(signal.SIGKILL)
                child.wait()
                subprocess.run(["mount", "-o", "remount,ro", str(where)], check=True)
                self._hurt(tally, name, where / "run", log=self.folder / f"{self.way}-{self.places}.ro")
                subprocess.run(["mount", "-o", "remount,rw", str(where)], check=True)
                self.compare(tally, name, where / "run")

    def _once(self, tally: Tally, name: str, where: Path, prepare: Callable[[], None]) -> None:
        self._hurt(tally, name, where, prepare)
        self.compare(tally, name, where)

    def _hurt(
        self, tally: Tally, name: str, where: Path, prepare: Callable[[], None] = lambda: None, log: Path | None = None
    ) -> None:
        child = Child(self.recipes[name], where, prepare, log)
        child.wait()
        tally.tried += 1
        tally.hit += child.code != 0
        tally.stages[at_work(where)] += child.code != 0
        self.note_end(tally, child)

    def clock(self, tally: Tally, times: int) -> None:
        """A clock that jumps by up to a year at every look; killed as well."""
        seed = self.rng.random()

        def jump() -> None:
            real, own = time.time, random.Random(seed)
            time.time = lambda: real() + own.uniform(-3e7, 3e7)

        self.kill(tally, times, signal.SIGKILL, jump)

    def damage(self, tally: Tally, times: int, how: str) -> None:
        """A file of a finished run, or of one that was killed, comes to harm."""
        for turn in range(times):
            name, where = self.place()
            if turn % 2:
                shutil.copytree(self.done[name], where)
            else:
                child = Child(self.recipes[name], where)
                time.sleep(self.rng.random() * self.seconds[name])
                child.signal(signal.SIGKILL)
                child.wait()
            at = at_work(where)
            finished = at == "between" and turn % 2 == 1
            path = pick(self.rng, where, CHECKPOINTS if self.rng.random() < 0.2 else FILES) or pick(self.rng, where)
            tally.tried += 1
            if path is None:
                continue
            before = path.read_bytes()
            DAMAGE[how](self.rng, path)
            if path.exists() and path.read_bytes() == before:
                continue
            tally.hit += 1
            tally.stages[path.name if path.suffix != ".safetensors" else "weights"] += 1
            said = self.compare(tally, name, where)
            if finished and path.name not in said:
                tally.notes.append(f"{where}: {path.relative_to(where)} was not named")

    def two_at_once(self, tally: Tally, times: int) -> None:
        for _ in range(times):
            name, where = self.place()
            first = Child(self.recipes[name], where)
            time.sleep(self.moment(name))
            second = Child(self.recipes[name], where, log=self.folder / f"{self.way}-{self.places}.second")
            tally.tried += 1
            self.note_end(tally, second)
            self.note_end(tally, first)
            refused = [child for child in (first, second) if child.code]
            tally.hit += bool(refused)
            if len(refused) > 1 or any("Another selfdistill process" not in child.said for child in refused):
                tally.notes.append(f"{where}: {[child.said for child in refused]}")
            self.compare(tally, name, where)

    def copied(self, tally: Tally, times: int) -> None:
        """A copy that was made while files were written goes on elsewhere, and the original where it is."""
        for _ in range(times):
            name, where = self.place()
            copy = where.parent / "copy" / where.name  # cards are named after the directory
            copy.parent.mkdir(parents=True)
            child = Child(self.recipes[name], where)
            time.sleep(self.moment(name))
            while child.running() and not (where / "manifest.json").exists():
                time.sleep(0.001)
            tally.tried += 1
            tally.hit += child.running()
            tally.stages[at_work(where)] += 1
            subprocess.run(["cp", "-a", str(where), str(copy)], stderr=subprocess.DEVNULL, check=False)
            child.wait()
            self.compare(tally, name, where)
            self.compare(tally, name, copy)


WAYS = (
    "SIGKILL", "SIGTERM", "SIGINT", "too little memory", "disk full", "read-only file system", "clock jumps, SIGKILL",
    "two runs at once", "copied while running", *DAMAGE,
)  # fmt: skip
ENDS = {
    "SIGKILL": {0, -9},
    "SIGTERM": {0, 143},
    "SIGINT": {0, 130},
    "disk full": {0, 2},
    "read-only file system": {0, 2},
}
"""The exit codes that there may be, 0 where the run was done before."""
BY_LIBRARIES = {"too little memory"}  # which end a process as they please


@contextmanager
def _tmpfs(where: Path, kib: int) -> Iterator[Callable[[], object] | None]:
    """Gives a function that makes room; None where nothing may be mounted."""
    where.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(where)], capture_output=True)
    if mounted.returncode:
        where.rmdir()
        yield None
        return
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=200m", str(where)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


def ways(chaos: Chaos, short: bool) -> dict[str, tuple[Callable[[Tally, int], None], int]]:
    """Each with how often."""
    kills = {"SIGKILL": 100, "SIGTERM": 50, "SIGINT": 50}
    found: dict[str, tuple[Callable[[Tally, int], None], int]] = {
        name: (lambda tally, times, number=number: chaos.kill(tally, times, number), kills[name])
        for name, number in (("SIGKILL", signal.SIGKILL), ("SIGTERM", signal.SIGTERM), ("SIGINT", signal.SIGINT))
    }
    found |= {
        "too little memory": (chaos.little_memory, 30),
        "disk full": (chaos.full_disk, 30),
        "read-only file system": (chaos.read_only, 10),
        "clock jumps, SIGKILL": (chaos.clock, 20),
        "two runs at once": (chaos.two_at_once, 20),
        "copied while running": (chaos.copied, 30),
    }
    found |= {name: (lambda tally, times, how=name: chaos.damage(tally, times, how), 30) for name in DAMAGE}
    return {name: (way, max(times // 10, 2) if short else times) for name, (way, times) in found.items()}


_chaos: Chaos | None = None  # processes that are forked have it


def _try(name: str, short: bool, times: int | None, seed: int) -> Tally:
    assert _chaos is not None
    _chaos.begin(name, seed)
    way, usual = ways(_chaos, short)[name]
    tally = Tally()
    try:
        way(tally, times or usual)
    except SystemExit as error:
        tally.notes.append(str(error))
    return tally


def main() -> None:
    global _chaos
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", action="append", default=[], choices=WAYS, metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--times", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="ways that are tried at a time")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    arguments = parser.parse_args()
    begun, bad = time.monotonic(), []
    folder = Path(tempfile.mkdtemp(prefix="selfdistill-chaos-"))
    _chaos = Chaos(folder)
    print(f"Uninterrupted: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in _chaos.seconds.items())}\n")
    print(
        "| what | tried | hit | rows lost | rows doubled | files differing | tracebacks | exit codes | slowest end, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    stages, rounded = Counter[str](), 0
    names = arguments.only or list(WAYS)
    tried = partial(_try, short=arguments.short, times=arguments.times, seed=arguments.seed)
    with ProcessPoolExecutor(arguments.jobs, get_context("fork")) as pool:
        for name, tally in zip(names, pool.map(tried, names), strict=True):
            codes = " ".join(f"{code}:{count}" for code, count in sorted(tally.codes.items()))
            slowest = f"{tally.slowest:.1f}" if tally.slowest else ""
            print(
                f"| {name} | {tally.tried} | {tally.hit} | {tally.lost} | {tally.doubled} | {tally.differing} | "
                f"{tally.tracebacks} | {codes} | {slowest} |", flush=True,
            )  # fmt: skip
            if name.startswith("SIG"):
                stages += tally.stages
            rounded += tally.rounded
            bad += [f"{name}: {note}" for note in tally.notes]
            bad += [f"{name}: nothing was hurt"] if tally.tried >= 5 and not tally.hit else []
            bad += [f"{name}: ended with a traceback"] if tally.tracebacks and name not in BY_LIBRARIES else []
            bad += [f"{name}: exit codes {codes}"] if tally.codes.keys() - ENDS.get(name, tally.codes.keys()) else []
            bad += ["SIGTERM took more than 10 s"] if name == "SIGTERM" and tally.slowest > 10 else []
    print(f"\nKills by the stage at work: {', '.join(f'{name} {count}' for name, count in stages.most_common())}")
    if rounded:
        print(f"{rounded} that had too little memory were computed with other kernels, so with other rounding")
    print(f"{time.monotonic() - begun:.0f} s, {arguments.jobs} at a time, seed {arguments.seed}")
    if bad:
        raise SystemExit("\n".join([f"Kept in {folder}:", *bad]))
    if not arguments.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
