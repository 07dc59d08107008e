"""The command: of the script `selfdistill`, and of `python -m selfdistill`."""

from __future__ import annotations

import sys


def main() -> None:
    """`cli.main`, and no traceback where Ctrl-C comes while that is imported."""
    try:
        from .cli import main as command
    except KeyboardInterrupt:
        sys.stderr.write("Stopped before anything was begun.\n")
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
