"""The command line. Libraries raise; only here is anything printed and the process left.

Imports stay inside the commands: `lab --help` must answer at once.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Console script `lab`. Exit status: 0 done, 1 failed, 2 wrong request, 128+n after signal n
    (Ctrl-C: 130)."""
    from lab.cli.app import app
    from lab.errors import LabError, UsageError
    from lab.interrupt import Interrupted

    try:
        app(prog_name="lab")
    except Interrupted as error:
        _fail(error, 128 + error.number)
    except UsageError as error:
        _fail(error, 2)
    except (LabError, OSError) as error:  # the latter: of the host, and its words say what
        _fail(error, 1)


def _fail(error: Exception, status: int) -> None:
    print(f"lab: {error}", file=sys.stderr)
    sys.exit(status)
