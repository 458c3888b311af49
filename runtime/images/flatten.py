"""One directory tree with the content of several layers: what their overlay shows, copied.

Run by path as a process of its own: it mounts the overlay in a mount namespace that ends with it,
so nothing ever shows in the host's mount table.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["flatten"]


def flatten(layers: Sequence[Path], target: Path, view: Path) -> None:
    """Copy the merged view of two or more layers (lowest first) into the empty directory
    `target`; `view` is an empty directory to mount on. Raises OSError with what failed."""
    command = [sys.executable, "-I", "-S", __file__, str(target), str(view), *map(str, layers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(0, f"copying the merged layers failed: {done.stderr[-2000:]}", str(target))


def _main(target: str, view: str, layers: list[str]) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from runtime.engine.constants import CLONE_NEWNS, MS_PRIVATE, MS_REC
    from runtime.engine.rootfs import overlay_step
    from runtime.engine.steps import STEPS

    for name, *arguments in (
        ("unshare", CLONE_NEWNS),
        ("mount", None, "/", None, MS_REC | MS_PRIVATE, None),
        overlay_step(view, (layers, None, None)),
    ):
        STEPS[str(name)](*arguments)
    os.execvp("cp", ["cp", "-a", "--", f"{view}/.", target])


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3:])
