"""One module for each verb of the command line.

Each has `OPTIONS`, `USAGE`, `ARGUMENTS` (the least and the most positional arguments; None for a
command with options of its own) and `main(context, options)`, which returns the exit status.
"""

from __future__ import annotations

__all__: list[str] = []
