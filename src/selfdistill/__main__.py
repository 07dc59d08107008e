"""The command, as the script `selfdistill` and as `python -m selfdistill`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `cli.main`, without a traceback if Ctrl-C is pressed during its import."""
    try:
        from .cli import main as command
    except KeyboardInterrupt:
        sys.stderr.write("Stopped before any work started.\n")
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
