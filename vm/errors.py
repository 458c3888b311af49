"""The VM driver's errors.

    VmError
    ├── ToolMissing           a program or library of the host that the driver needs is not there
    ├── KernelError           a guest kernel could not be fetched, unpacked or understood
    │   └── Unsupported       this architecture or distribution has no guest kernel here
    ├── InitramfsError        the guest init did not compile, or a module is missing
    ├── DiskError             a base disk or an overlay could not be made
    ├── ConfigError           a machine configuration or a job that cannot be
    ├── QmpError              the monitor: no connection, no answer, or an error as the answer
    └── MachineError          about one machine; carries exit code, command, QEMU's words, console
        ├── LaunchError       QEMU did not start, or ended before the guest was ready
        ├── GuestError        the guest's init says that a step failed: `step`, `errno`
        ├── GuestPanic        the guest kernel gave up; its last words are in `console`
        ├── NotReady          the awaited event did not come before the deadline
        └── StillAlive        a machine outlived every step of the stop ladder

A message says what was tried, on which object, what came back and what the user can do.
This package raises and never prints.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

__all__ = [
    "ConfigError",
    "DiskError",
    "GuestError",
    "GuestPanic",
    "InitramfsError",
    "KernelError",
    "LaunchError",
    "MachineError",
    "NotReady",
    "QmpError",
    "StillAlive",
    "ToolMissing",
    "Unsupported",
    "VmError",
]


class VmError(Exception):
    """Root of every error that `vm` raises on purpose."""


class ToolMissing(VmError):
    """The host lacks a program or a shared library; the message names the package to install."""


class KernelError(VmError):
    """A guest kernel could not be fetched, unpacked or understood."""


class Unsupported(KernelError):
    """No guest kernel is known for this architecture or distribution."""


class InitramfsError(VmError):
    """The initramfs could not be built."""


class DiskError(VmError):
    """A disk image could not be made."""


class ConfigError(VmError, ValueError):
    """A machine configuration or a job that cannot be."""


class QmpError(VmError):
    """The QEMU monitor failed us. `sent` and `received` are the messages as they were."""

    def __init__(
        self,
        message: str,
        *,
        sent: object | None = None,
        received: object | None = None,
    ) -> None:
        super().__init__(message)
        self.sent = sent
        self.received = received

    def __str__(self) -> str:
        parts = [super().__str__()]
        if self.sent is not None:
            parts.append(f"sent: {self.sent}")
        if self.received is not None:
            parts.append(f"received: {self.received}")
        return "; ".join(parts)


class MachineError(VmError):
    """One machine failed.

    Attributes: `name` of the machine, `exit_code` of QEMU (negative: killed by that signal; None:
    still running), `argv` (QEMU's whole command), `output` (QEMU's standard error) and `console`
    (end of the guest's serial console).
    """

    def __init__(
        self,
        message: str,
        *,
        name: str = "",
        exit_code: int | None = None,
        argv: Sequence[str] = (),
        output: str = "",
        console: str = "",
    ) -> None:
        super().__init__(message)
        self.name = name
        self.exit_code = exit_code
        self.argv = tuple(argv)
        self.output = output
        self.console = console

    def __str__(self) -> str:
        lines = [f"{self.name}: {super().__str__()}" if self.name else super().__str__()]
        if self.exit_code is not None:
            lines.append(f"exit code: {self.exit_code}")
        if self.argv:
            lines.append(f"command: {shlex.join(self.argv)}")
        if self.output:
            lines.append(f"QEMU said: {self.output.strip()}")
        if self.console:
            lines.append(f"console: {self.console.strip()}")
        return "\n  ".join(lines)


class LaunchError(MachineError):
    """QEMU did not start, or ended on its own before the guest was ready."""


class GuestError(MachineError):
    """The guest's init reports that a step of the job failed. `errno` is the guest's."""

    def __init__(
        self,
        message: str,
        *,
        step: str,
        errno: int,
        name: str = "",
        exit_code: int | None = None,
        argv: Sequence[str] = (),
        output: str = "",
        console: str = "",
    ) -> None:
        super().__init__(
            message, name=name, exit_code=exit_code, argv=argv, output=output, console=console
        )
        self.step = step
        self.errno = errno


class GuestPanic(MachineError):
    """The guest kernel panicked and QEMU ended."""


class NotReady(MachineError):
    """The awaited event did not come before the deadline; the machine still runs."""


class StillAlive(MachineError):
    """The machine's process is there after SIGKILL."""
