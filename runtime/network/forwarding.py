"""The host's switches: which interfaces forward, borrowed and given back.

To reach the outside, packets are forwarded twice: what comes in on the bridge, and the answers,
which come in on the interface that leads out. The kernel asks the interface of arrival
(``net.ipv4.conf.<interface>.forwarding``, Documentation/networking/ip-sysctl.rst), so the
host-wide ``net.ipv4.ip_forward`` stays as it is. The bridge's switch is ours and goes with it. That
of the other interfaces is the host's: it is borrowed, noted with its borrowers, and set back when
the last of them has gone, unless somebody turned on ip_forward in the meantime and so wants it.

The notes are in /run (or $XDG_RUNTIME_DIR, for the root of a user namespace), not in a store's
directory: all stores of a network namespace share the switches. A borrower is a symbolic link to
its network's record; one whose record is gone counts no longer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from runtime.errors import KernelRefused
from runtime.network.state import here, locked

__all__ = ["borrow", "borrowed", "give_back", "set_switch"]

_RUN = Path("/run")
_CONF = Path("/proc/sys/net/ipv4/conf")


def set_switch(path: str, value: str) -> None:
    """Write a sysctl, named by its path below /proc/sys. Raises KernelRefused."""
    try:
        Path("/proc/sys", path).write_text(value)
    except OSError as error:
        raise KernelRefused(f"set {path.replace('/', '.')} to {value}", error.errno or 0) from error


def borrow(borrower: Path, interfaces: Iterable[str]) -> None:
    """Have these interfaces forward for the network of this record. Raises KernelRefused."""
    if _ip_forward():
        return  # they forward already, and that is somebody else's wish
    _notes().parent.mkdir(parents=True, exist_ok=True)
    with locked(_notes().with_name("lock")):
        for interface in sorted(set(interfaces)):
            note = _notes() / interface
            if not note.exists() and _forwards(interface):
                continue
            note.mkdir(parents=True, exist_ok=True)
            link = note / _name(borrower)
            link.unlink(missing_ok=True)
            link.symlink_to(borrower)
            set_switch(f"net/ipv4/conf/{interface}/forwarding", "1")


def give_back(borrower: Path) -> None:
    """Undo `borrow`, as far as nobody else needs it. No error if nothing was borrowed."""
    if not _notes().is_dir():
        return
    with locked(_notes().with_name("lock")):
        for note in list(_notes().iterdir()):
            (note / _name(borrower)).unlink(missing_ok=True)
            for link in note.iterdir():
                if not link.exists():
                    link.unlink()
            with suppress(OSError):  # others need it
                note.rmdir()
                if not _ip_forward() and (_CONF / note.name).is_dir():
                    set_switch(f"net/ipv4/conf/{note.name}/forwarding", "0")
        with suppress(OSError):  # others are noted
            _notes().rmdir()


def borrowed(borrower: Path) -> tuple[str, ...]:
    """The interfaces that forward for this network and did not before."""
    if not _notes().is_dir():
        return ()
    return tuple(
        sorted(note.name for note in _notes().iterdir() if (note / _name(borrower)).is_symlink())
    )


def _notes() -> Path:
    """Of the network namespace that this thread is in."""
    run = _RUN if os.access(_RUN, os.W_OK) else Path(os.environ.get("XDG_RUNTIME_DIR") or _RUN)
    return run / "isolation-lab" / "forwarding" / here()


def _name(borrower: Path) -> str:
    return hashlib.sha256(bytes(borrower)).hexdigest()[:16]


def _ip_forward() -> bool:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"


def _forwards(interface: str) -> bool:
    try:
        return (_CONF / interface / "forwarding").read_text().strip() == "1"
    except FileNotFoundError:
        return True  # gone meanwhile: nothing to turn on
