"""The workload interface: one frozen description of the work, and two small protocols.

A `Backend` is one way of running a `Workload`; an `Instance` is one that runs now. Fairness is part
of the interface: the same image digest, argv, env, cwd, uid, gid and limits reach every backend;
what differs (kernel, accelerator, disk path) is told in `Prepared.factors` and recorded with each
trial.

How a workload talks to the lab, the same on every backend:

- file descriptor 3 is its *event channel*. Its first instruction writes the byte ``r`` there
  ("ready"); later bytes mean what the experiment says. The host takes the time when a byte arrives,
  on its own CLOCK_MONOTONIC. Guest clocks are never read.
- standard input, output and error are what they are everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = [
    "EVENT_FD",
    "READY",
    "Backend",
    "Capabilities",
    "Exit",
    "Instance",
    "Limits",
    "Prepared",
    "Workload",
]

EVENT_FD = 3
"""The workload's end of the event channel."""

READY = b"r"
"""The byte that means "my first instruction ran"."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one instance may take: CPUs' worth of time, bytes of memory, tasks alive at once. `cpus`
    may be a fraction for processes, and is rounded up to whole vCPUs for a virtual machine."""

    cpus: float = 1.0
    memory: int = 128 * 2**20
    pids: int = 512


@dataclass(frozen=True, slots=True)
class Workload:
    """The work, independent of what runs it."""

    argv: tuple[str, ...]
    image: str = "busybox"
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    limits: Limits = Limits()
    stdin: bool = False
    """Whether the workload reads standard input (else it is /dev/null)."""
    writes_root: bool = False
    """Whether it writes to its root file system, and so needs one of its own."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do on this host. `missing` maps the name of an ability it lacks to the
    reason, in words fit for a record (``{"private_root": "…"}``). An unusable backend has
    ``available=False`` and says why under the key ``"available"``."""

    available: bool = True
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A workload made ready on one backend: everything that is done once and not timed."""

    workload: Workload
    image_digest: str
    """``sha256:…``, the same on every backend."""
    factors: Mapping[str, str | int | float]
    """What differs from other backends: kernel, accelerator, machine, cpu_model, disk, network."""
    limits: Limits | None = None
    """What is really enforced, where it is not the workload's own limits (whole vCPUs)."""
    shared_paths: tuple[Path, ...] = ()
    """Files and trees on disk that all instances of this image share."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a workload ended. `status` is its exit code, or 128+n after signal n (as a shell
    says)."""

    status: int
    user_s: float | None = None
    system_s: float | None = None
    max_rss_bytes: int | None = None


@runtime_checkable
class Instance(Protocol):
    """One running copy. Made by `Backend.launch`; always left through `stop`."""

    name: str
    argv: Sequence[str]
    """The host command behind it (QEMU's, or the workload's own), for the record of a failure."""

    def fileno(self) -> int:
        """A descriptor to poll: readable when something has come for `read_events`. It may stand
        for several channels (an epoll instance is itself pollable). Read first, then poll: `wait`
        and `output` may have taken what made it readable."""

    def read_events(self) -> bytes | None:
        """Take what has arrived since the last call, without blocking: the bytes of the event
        channel, ``b""`` if the wake-up was for something else (output, a phase), None at its
        end."""

    def phases(self) -> Mapping[str, int]:
        """CLOCK_MONOTONIC nanoseconds of each named step that this launch has passed so far."""

    def write_stdin(self, data: bytes) -> None:
        """Give the workload input. Raises `BackendError` unless `Workload.stdin`."""

    def output(self) -> tuple[bytes, bytes]:
        """Standard output and error until now, at most their last 64 KiB each."""

    def pids(self) -> Sequence[int]:
        """Every host process that exists because of this instance, shims and helpers included."""

    def cgroup_memory(self) -> int | None:
        """Bytes the instance's memory cgroup is charged now, or None without one."""

    def disk_paths(self) -> Sequence[Path]:
        """Files and trees on disk that belong to this instance alone."""

    def wait(self, timeout: float) -> Exit | None:
        """Wait at most `timeout` seconds for the workload's end; None if it is still running."""

    def stop(self) -> None:
        """End it now and remove everything it had. Idempotent. Raises `StillAlive` with names."""


@runtime_checkable
class Backend(Protocol):
    """One way of running workloads. Opened and closed as a context by the lab."""

    name: str
    options: Mapping[str, tuple[str, ...]]
    """Settings that an experiment may give this backend, each with its choices, default first."""

    def capabilities(self) -> Capabilities:
        """What it can do here, found by looking, without side effects."""

    def prepare(self, workload: Workload) -> Prepared:
        """Bring image, kernel and disks into being. May take long; is never timed."""

    def launch(self, prepared: Prepared, name: str) -> Instance:
        """Start one instance and return at once; readiness comes through the event channel.

        The caller takes `t0` just before this call. `name` is unique within the run."""

    def close(self) -> None:
        """Give back what `prepare` took and the backend still holds."""
