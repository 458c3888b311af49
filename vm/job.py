"""What the guest's init is to run, and the bytes that tell it.

The format is described where it is read, at the top of ``vm/guest/init.c``: a message of a verb, a
length and NUL-terminated fields. NUL can stand in no argument, variable or path, so nothing needs
quoting, and C reads it without a parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vm.errors import ConfigError

__all__ = ["POWEROFF", "Job", "encode", "message"]

_BODY_MAX = 2**20
_FIELDS_MAX = 4095
_GROUPS_MAX = 64
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Job:
    """One workload in the guest. `argv[0]` without a slash is looked up in the job's own PATH."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment: the guest adds nothing."""
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    """Supplementary groups."""
    hostname: str | None = None
    rlimits: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """`resource.RLIMIT_*` → (soft, hard); −1 is infinity."""
    tasks: int | None = None
    """Most processes and threads that it may have at once, itself included; None: no limit. The
    guest's kernel needs the pids controller."""
    root: str | None = "/dev/vda"
    """Block device of the root file system; None stays in the initramfs."""
    poweroff: bool = False
    """End the guest when the workload has ended."""


def message(verb: str, body: bytes = b"") -> bytes:
    """Return one message to the guest's init."""
    return b"%s %d\n%s" % (verb.encode(), len(body), body)


POWEROFF = message("poweroff")
"""Asks init to sync and end the guest."""


def encode(job: Job) -> bytes:
    """Return `job` as the message that init takes.

    ConfigError: an empty argv, a NUL, a bad name, or more than init has room for.
    """
    _check(job)
    fields = list(_fields(job))
    for text in fields:
        if "\0" in text:
            raise ConfigError(f"a job cannot hold a NUL character: {text[1:]!r}")
    # Names that came from the host's file system may hold bytes that are no UTF-8 (PEP 383).
    body = b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in fields)
    if len(fields) > _FIELDS_MAX or len(body) > _BODY_MAX:
        raise ConfigError(
            f"the job is too long: {len(fields)} fields, {len(body)} bytes; "
            f"at most {_FIELDS_MAX} and {_BODY_MAX}"
        )
    return message("job", body)


def _check(job: Job) -> None:
    if not job.argv or not job.argv[0]:
        raise ConfigError("a job needs an argument vector whose first element is a program")
    for name in job.env:
        if not name or "=" in name:
            raise ConfigError(f"not the name of an environment variable: {name!r}")
    for number in (job.uid, job.gid, *job.groups):
        if not 0 <= number < 2**32 - 1:  # (uid_t)-1 means "leave as it is" to the kernel
            raise ConfigError(f"not a user or group id: {number}")
    if job.tasks is not None and job.tasks < 1:
        raise ConfigError(f"a workload is one task at least, not {job.tasks}")
    if len(job.groups) > _GROUPS_MAX:
        raise ConfigError(f"at most {_GROUPS_MAX} supplementary groups, not {len(job.groups)}")
    if job.hostname is not None and not _HOSTNAME.fullmatch(job.hostname):
        raise ConfigError(f"not a host name (hostname(7)): {job.hostname!r}")
    if not job.cwd.startswith("/"):
        raise ConfigError(f"the working directory must be absolute: {job.cwd!r}")


def _fields(job: Job) -> Iterator[str]:
    yield from (f"a{argument}" for argument in job.argv)
    yield from (f"e{name}={value}" for name, value in job.env.items())
    yield f"w{job.cwd}"
    yield f"u{job.uid}"
    yield f"g{job.gid}"
    yield from (f"G{group}" for group in job.groups)
    if job.hostname is not None:
        yield f"h{job.hostname}"
    for resource, (soft, hard) in job.rlimits.items():
        yield f"r{resource} {soft} {hard}"
    if job.tasks is not None:
        yield f"t{job.tasks}"
    if job.root is not None:
        yield f"d{job.root}"
    if job.poweroff:
        yield "p"
