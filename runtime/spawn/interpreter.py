"""The spawn helper's program, where no container can write to it.

A container's program can be `#!/proc/self/exe`: the kernel then executes what executed it, that is
the helper's Python, within the container, and root in there can open that file through /proc and
write to it once it is executed no more (CVE-2019-5736). So the helper is executed from a mount that
is read-only and in no namespace; a file that only others may write to needs none.
"""

from __future__ import annotations

import os
import sys

from runtime import syscalls
from runtime.engine.constants import MOUNT_ATTR_RDONLY, OPEN_TREE_CLONE

__all__ = ["interpreter_fd"]


def interpreter_fd() -> int | None:
    """A descriptor to execute this Python from, or None if its own path is as good.

    An ordinary user whose own file it is gets a copy in sealed memory, for want of a right to
    mount."""
    path = os.path.realpath(sys.executable)
    if not os.access(path, os.W_OK):
        return None
    try:
        fd = syscalls.open_tree(path, OPEN_TREE_CLONE)
    except PermissionError:
        return _copy(path)
    syscalls.mount_setattr(fd, MOUNT_ATTR_RDONLY, about=path)
    return fd


def _copy(path: str) -> int:
    import fcntl

    fd = os.memfd_create("python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(path, "rb") as source:
        while os.sendfile(fd, source.fileno(), None, 1 << 24):
            pass
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
