"""The command line. Only here is anything printed, and only here does the process exit.

Imports stay inside the commands: `lab --help` must answer at once.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Console script `lab`. Exit status: 0 done, 1 failed, 2 wrong request, 130 interrupted."""
    from lab.cli.app import app
    from lab.errors import LabError, UsageError
    from lab.interrupt import Interrupted

    try:
        app()
    except Interrupted as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(130)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
