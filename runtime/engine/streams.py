"""Steps for the standard streams: a pseudoterminal of the container's own, or the caller's files.

Loaded before the clone, like `runtime.engine.rare`, when a plan has one of them.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from _socket import SCM_RIGHTS, SOL_SOCKET, socket
from fcntl import ioctl

from runtime import syscalls
from runtime.engine.child import passed, sent
from runtime.engine.constants import OPEN_TREE_CLONE
from runtime.engine.steps import attach, held

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["STEPS"]

# asm-generic/ioctls.h; of the architectures that the engine knows, powerpc alone differs.
_POWER = os.uname().machine.startswith("ppc")
_TIOCSCTTY = 0x540E
_TIOCSWINSZ = 0x80087467 if _POWER else 0x5414
_TIOCSPTLCK = 0x80045431 if _POWER else 0x40045431
_TIOCGPTN = 0x40045430 if _POWER else 0x80045430
_TIOCGPTPEER = 0x20005441 if _POWER else 0x5441

_PTMX = "/dev/pts/ptmx"
_PTMX_DEVICE = os.makedev(5, 2)
_DEVPTS_SUPER_MAGIC = 0x1CD1
_NULL_DEVICE = os.makedev(1, 3)


def open_terminal(connection: int, rows: int, columns: int, uid: int, console: bool) -> None:
    """Make a pseudoterminal, send its master through a socket, and keep the other end for
    `use_terminal` (pts(4)).

    The multiplexer is that of the container's own devpts, and nothing that an image may have put
    in its place. The user becomes the terminal's owner, so that it can be opened again as
    /dev/tty. With `console` it is shown as /dev/console too (OCI config-linux.md, "Default
    Devices")."""
    master = os.open(_PTMX, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    device = os.fstat(master)
    if (
        not stat.S_ISCHR(device.st_mode)
        or device.st_rdev != _PTMX_DEVICE
        or syscalls.fstatfs_type(master) != _DEVPTS_SUPER_MAGIC
    ):
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY), _PTMX)
    ioctl(master, _TIOCSPTLCK, bytes(4))
    slave = ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if rows and columns:
        size = b"".join(
            number.to_bytes(2, sys.byteorder) for number in (min(rows, 65535), min(columns, 65535))
        )
        ioctl(slave, _TIOCSWINSZ, size + bytes(4))
    if uid:
        os.fchown(slave, uid, -1)
    if console:
        number = int.from_bytes(ioctl(master, _TIOCGPTN, bytes(4)), sys.byteorder)
        held["console"] = syscalls.open_tree(f"/dev/pts/{number}", OPEN_TREE_CLONE)
        attach("console", "/dev/console")
    sender = socket(fileno=passed(connection))
    sender.sendmsg([_PTMX.encode()], [(SOL_SOCKET, SCM_RIGHTS, master.to_bytes(4, sys.byteorder))])
    sender.close()
    os.close(master)
    held["terminal"] = slave


def use_terminal() -> None:
    """Make the terminal the standard streams and the controlling terminal of this session."""
    slave = held.pop("terminal")
    for fd in range(3):
        os.dup2(slave, fd)
    ioctl(0, _TIOCSCTTY, 0)


def own_streams(uid: int, targets: Sequence[int] = ()) -> None:
    """Let the user open its standard streams anew, as /dev/stdout: what they are belongs to the
    caller. /dev/null stays the host's, and so does what cannot be given away."""
    for number in range(3):
        fd = sent(targets.index(number)) if number in targets else number
        try:
            found = os.fstat(fd)
            if found.st_uid != uid and found.st_rdev != _NULL_DEVICE:
                os.fchown(fd, uid, -1)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.EINVAL, errno.EPERM, errno.EROFS):
                raise


STEPS: dict[str, Callable[..., object]] = {
    "open_terminal": open_terminal,
    "own_streams": own_streams,
    "use_terminal": use_terminal,
}
