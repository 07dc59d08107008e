"""Gives every parser and grader hostile input: `python tests/fuzz/run.py --inputs 200000`.

Hypothesis makes the inputs, shrinks what fails to its least form, and prints it. With `--long` texts of 100,000
characters follow, for whatever reads what a model wrote. `--coverage SECONDS` instead lets atheris (which is to be
installed) look for inputs that reach new lines of one target. A table says what each target was given.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from hypothesis import HealthCheck, Phase, given, seed, settings
from inputs import Target

SLOW = 2.0  # seconds of processor time for one input
_PHASES = (Phase.generate, Phase.shrink)


class SlowError(AssertionError):
    """An input took longer than `SLOW`."""


class Counted:
    """A target's check, with how often it was asked and how long its slowest input took."""

    def __init__(self, check: Callable[[Any], None]) -> None:
        self.check, self.inputs, self.slowest = check, 0, 0.0

    def __call__(self, made: Any) -> None:
        self.inputs += 1
        start = time.process_time()
        faulthandler.dump_traceback_later(120, exit=True)  # what hangs in C code can't be interrupted, but shown
        try:
            self.check(made)
        finally:
            faulthandler.cancel_dump_traceback_later()
        self.slowest = max(self.slowest, time.process_time() - start)
        if time.process_time() - start > SLOW:
            raise SlowError(f"took {time.process_time() - start:.1f} seconds")


def fuzz(target: Target, inputs: int, number: int) -> Counted:
    """`inputs` inputs by hypothesis; raises what the first that fails raises."""
    counted = Counted(target.check)

    @settings(
        max_examples=inputs, database=None, deadline=None, phases=_PHASES, suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )  # fmt: skip
    @seed(number)
    @given(target.inputs)
    def run(made: Any) -> None:
        counted(made)

    run()
    return counted


def read_long(read: Callable[[str], object]) -> Counted:
    """Every text of `long_texts`; raises what the first that fails raises."""
    from long import long_texts

    counted = Counted(read)
    for name, text in long_texts():
        try:
            counted(text)
        except Exception as error:
            error.add_note(f"of the text {name}")
            raise
    return counted


def shares(inputs: int, targets: list[Target]) -> dict[str, int]:
    whole = sum(target.share for target in targets)
    return {target.name: max(1, round(inputs * target.share / whole)) for target in targets}


def cover(target: Target, seconds: int) -> None:
    """Atheris in place of random choice; it does not return."""
    import atheris

    counted = Counted(target.check)

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def run(made: Any) -> None:
        counted(made)

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}"], run.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="in all, over the targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose name holds this")
    parser.add_argument("--long", action="store_true", help="also texts of 100,000 characters")
    parser.add_argument("--coverage", type=int, metavar="SECONDS", help="atheris on the one target of --only")
    asked = parser.parse_args()
    if asked.coverage:
        import atheris

        with atheris.instrument_imports(include=["selfdistill"]):
            from targets import TARGETS
    else:
        from targets import TARGETS
    targets = [target for target in TARGETS if asked.only in target.name]
    if asked.coverage:
        (target,) = targets
        cover(target, asked.coverage)
    counts = shares(asked.inputs, targets)
    work = [(target.name, partial(fuzz, target, counts[target.name], asked.seed)) for target in targets]
    if asked.long:
        from long import READERS

        work += [(f"long: {name}", partial(read_long, READERS[name])) for name in READERS if asked.only in name]
    total = failed = 0
    print("| target | inputs | slowest, s | found |\n|---|---|---|---|")
    for name, job in work:
        counted, found = Counted(lambda made: None), "nothing"
        try:
            counted = job()
        except Exception as error:
            failed += 1
            found = f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
            traceback.print_exc()
        total += counted.inputs
        print(f"| {name} | {counted.inputs:,} | {counted.slowest:.2f} | {found} |", flush=True)
    print(f"| all {len(work)} | {total:,} | | {failed or 'nothing'} |")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
