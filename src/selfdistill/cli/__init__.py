"""The command: argv to one function of the pipeline. Only this package prints, draws progress and exits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.markup import escape

from .. import __version__
from ..errors import InterruptedRunError, SelfDistillError
from .running import demo, evaluate, reproduce, rewrite, run, shift, train
from .sharing import push
from .show import err, out, visible
from .signals import EXIT_CODE, stopping
from .starting import check, gap, init, list_names, preview
from .writing import export, regrade, report

app = typer.Typer(
    help="Fine-tune a chat model on your data without forgetting: self-distillation fine-tuning (SDFT, arXiv "
    "2402.13669), from a dataset to a verdict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo, "init": init, "check": check, "preview": preview, "gap": gap, "run": run, "reproduce": reproduce,
    "rewrite": rewrite, "train": train, "evaluate": evaluate, "shift": shift, "report": report, "regrade": regrade,
    "export": export, "push": push, "list": list_names,
}  # fmt: skip
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        out.print(f"selfdistill {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command. An error that the user can fix is printed as one sentence and exits with 2, SIGTERM exits with
    143; `--debug` shows the traceback."""
    debug = "--debug" in sys.argv[1:]
    if debug:  # before or after the command
        sys.argv = [sys.argv[0], "--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    # Threads that spin while they wait make a small model on a busy CPU up to ten times slower; torch reads this once.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with stopping() as stop:
        try:
            _call_app()
        except SelfDistillError as error:
            if debug and not stop.asked:
                raise
            err.print(f"[bold red]Error:[/bold red] {escape(visible(str(error)))}", soft_wrap=True)
            sys.exit(EXIT_CODE if stop.asked else 2)
        except BaseException:
            if stop.asked:  # a library may turn the interruption into another error
                sys.exit(EXIT_CODE)
            raise


def _call_app() -> None:
    """Raises InterruptedRunError for Ctrl-C, also outside of long work."""
    try:
        app()
    except KeyboardInterrupt:
        raise InterruptedRunError from None
    except SystemExit as stop:
        if stop.code == 130:  # Typer's exit code for Ctrl-C
            raise InterruptedRunError from None
        raise
