"""The ``zoo`` command. Exit codes: 0 done, 1 refused or a check failed, 2 wrong usage."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: errors that zoo raises on purpose become one line on stderr and exit code 1."""
    from zoo.errors import ZooError

    try:
        from zoo.cli.app import app

        app()
    except ZooError as error:
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True, soft_wrap=True).print(Text("error: ", style="bold red") + Text(str(error)))
        sys.exit(1)
    except BrokenPipeError:  # the reader (head, less) went away
        sys.stderr.close()
        sys.exit(0)
