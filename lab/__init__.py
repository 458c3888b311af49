"""The lab: the same work in a container and in a virtual machine, and what each costs.

`lab.load("boot")` gives the records of a run as a pandas DataFrame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.store import load

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # The store brings pandas with it, and `lab --help` must not.
    if name == "load":
        from lab.store import load

        return load
    raise AttributeError(f"module 'lab' has no attribute {name!r}")
