"""The command: argv to one function of the pipeline. Only this package prints, draws progress and exits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from .. import __version__
from ..errors import InterruptedRunError, SelfDistillError, first_line
from .documents import print_json
from .gating import baseline, compare, gate
from .log_file import end_log, interrupted
from .running import demo, evaluate, reproduce, rewrite, run, shift, train
from .sharing import push
from .show import out, say_stopped, show_error
from .signals import INTERRUPTED, TERMINATED, stopping
from .starting import check, gap, init, list_names, preview, schema
from .workbench import ui
from .writing import export, regrade, report

app = typer.Typer(
    help="Fine-tune a chat model on your data without forgetting: self-distillation fine-tuning (SDFT, arXiv "
    "2402.13669), from a dataset to a verdict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo, "init": init, "check": check, "preview": preview, "gap": gap, "run": run, "reproduce": reproduce,
    "rewrite": rewrite, "train": train, "evaluate": evaluate, "shift": shift, "report": report, "regrade": regrade,
    "export": export, "push": push, "compare": compare, "gate": gate, "baseline": baseline, "list": list_names,
    "schema": schema, "ui": ui,
}  # fmt: skip
EXAMPLES = {
    "demo": "'seeds=[0, 1, 2]'",
    "init": "--model org/name --data my_data.jsonl",
    "check": "recipe.yaml train.lr=2e-5",
    "preview": "recipe.yaml -n 3",
    "gap": "--model org/name --data my_data.jsonl",
    "run": "recipe.yaml data.n=2000",
    "reproduce": "table1 --demo",
    "rewrite": "runs/recipe",
    "train": "runs/recipe --arm sdft",
    "evaluate": "runs/recipe --arm sdft",
    "shift": "runs/recipe",
    "report": "runs/recipe --figures figures",
    "regrade": "runs/recipe",
    "export": "runs/recipe --to llamafactory",
    "push": "runs/recipe --arm sdft --repo org/name",
    "compare": "org/model ./my-fine-tune --suite probes",
    "gate": "org/model ./my-fine-tune --target unseen_rows.jsonl",
    "baseline": "org/model --to baseline.json.gz",
    "list": "--json",
    "schema": "> selfdistill.schema.json",
    "ui": "recipe.yaml",
}
"""The arguments in the example of each command's help."""
for _name, _command in COMMANDS.items():
    app.command(_name, epilog=f"Example: selfdistill {_name} {EXAMPLES[_name]}")(_command)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        out.print(f"selfdistill {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command. An error that the user can fix is printed as one sentence and exits with 2; `--debug` shows the
    traceback. Ctrl-C exits with 130, SIGTERM with 143. With `--json` the sentence is also a JSON document on stdout."""
    debug, as_json = "--debug" in sys.argv[1:], "--json" in sys.argv[1:]
    if debug:  # before or after the command
        sys.argv = [sys.argv[0], "--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    # Threads that spin while they wait make a small model on a busy CPU up to ten times slower; torch reads this once.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with stopping() as stop:
        try:
            _call_app(standalone=not as_json)
        except InterruptedRunError as stopped:
            say_stopped(str(stopped))
            if as_json:
                print_json({"error": str(stopped)})
            sys.exit(TERMINATED if stop.asked else INTERRUPTED)
        except SelfDistillError as error:
            traced = debug and not stop.asked
            if as_json or not traced:
                _show_error(str(error), as_json)
            if traced:
                raise
            sys.exit(TERMINATED if stop.asked else 2)
        except Exception as error:
            end_log(error)
            if stop.asked:  # a library may turn the interruption into another error
                sys.exit(TERMINATED)
            if usage := getattr(error, "format_message", None):  # a wrong argument, with --json
                _show_error(usage(), as_json)
                sys.exit(2)
            if as_json:
                print_json({"error": f"{type(error).__name__}: {first_line(error)}"})
            raise
        except BaseException:
            if stop.asked:
                sys.exit(TERMINATED)
            raise
        finally:
            end_log()


def _show_error(text: str, as_json: bool) -> None:
    show_error(text)
    if as_json:
        print_json({"error": text})


def _call_app(standalone: bool) -> None:
    """Raises InterruptedRunError for Ctrl-C, also outside of long work; unless `standalone` also the error of a wrong
    argument."""
    try:
        code = app(standalone_mode=standalone)
    except KeyboardInterrupt:
        raise interrupted() from None
    except SystemExit as stop:
        code = stop.code
        if code != INTERRUPTED:
            raise
    if code == INTERRUPTED:  # also Typer's exit code for Ctrl-C
        raise interrupted() from None
    if code:
        sys.exit(code)
