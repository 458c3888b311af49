"""The `process` of an OCI configuration as steps: who it is, what it may do, where it works
(OCI config.md, "Process").

The order is the point. What needs rights comes before they are given up; a seccomp filter, which
could forbid the rest, comes as late as it can: last of all with no_new_privs, and else just before
the rights that loading it needs are gone (seccomp(2), EACCES).
"""

from __future__ import annotations

from runtime import capabilities
from runtime.engine.constants import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
)
from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from runtime.engine.steps import Step

__all__ = [
    "DEFAULT_PATH",
    "IO_CLASSES",
    "POLICIES",
    "RLIMITS",
    "SCHED_FLAGS",
    "candidates",
    "cpus",
    "execute_step",
    "identity_steps",
    "label_steps",
    "limit_steps",
]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a program without a slash is looked for if the environment has no PATH."""

RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
"""include/uapi/asm-generic/resource.h; of the architectures that Python's `os` has them on, only
mips and sparc differ."""

IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}


def _choice(table: dict[str, int], name: str, where: str) -> int:
    try:
        return table[name]
    except (KeyError, TypeError):
        raise SpecError(f"{where}: no such value {name!r}; there are {', '.join(table)}") from None


def limit_steps(process: dict[str, Any], where: str = "process") -> list[Step]:
    """Resource limits and priorities, while the right to raise them is there."""
    steps: list[Step] = []
    seen = set()
    for number, limit in enumerate(process.get("rlimits") or ()):
        about = f"{where}.rlimits[{number}]"
        what = _choice(RLIMITS, limit.get("type"), f"{about}.type")
        soft, hard = limit.get("soft", 0), limit.get("hard", 0)
        if what in seen:
            raise SpecError(f"{about}.type: {limit['type']} is given twice")
        if soft % 2**64 > hard % 2**64:  # -1 is unlimited
            raise SpecError(f"{about}: soft {soft} is above hard {hard}")
        seen.add(what)
        steps.append(("prlimit", what, soft, hard))
    if scheduler := process.get("scheduler"):
        flags = scheduler.get("flags") or ()
        about = f"{where}.scheduler"
        steps.append(
            (
                "sched_setattr",
                _choice(POLICIES, scheduler.get("policy"), f"{about}.policy"),
                sum(_choice(SCHED_FLAGS, flag, f"{about}.flags") for flag in flags),
                scheduler.get("nice", 0),
                scheduler.get("priority", 0),
                scheduler.get("runtime", 0),
                scheduler.get("deadline", 0),
                scheduler.get("period", 0),
            )
        )
    if priority := process.get("ioPriority"):
        class_ = _choice(IO_CLASSES, priority.get("class"), f"{where}.ioPriority.class")
        steps.append(("ioprio_set", class_, priority.get("priority", 0)))
    return steps


def label_steps(process: dict[str, Any], where: str = "process") -> tuple[list[Step], list[Step]]:
    """What security modules call the program that will be executed. Their files have to be opened
    where the host's /proc is, and written where no other program will be executed before."""
    before: list[Step] = []
    after: list[Step] = []
    for module, key in (("apparmor", "apparmorProfile"), ("selinux", "selinuxLabel")):
        if label := process.get(key):
            if "\0" in label or "\n" in label:
                raise SpecError(f"{where}.{key}: {label!r} is no label")
            before.append(("open_label", module))
            after.append(("write_label", module, label))
    return before, after


def cpus(text: str, where: str) -> tuple[int, ...]:
    """The numbers of a list such as `0-3,7`."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise SpecError(f"{where}: {text!r} is no list of CPUs such as 0-3,7")
        found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def identity_steps(
    process: dict[str, Any],
    *,
    available: int = -1,
    filter_: tuple[bytes, int] | None = None,
    set_groups: bool = True,
    warnings: list[str],
    where: str = "process",
) -> tuple[list[Step], list[Step]]:
    """User, groups, capabilities, no_new_privs and the seccomp filter: what comes now, and what
    has to come last, right before the exec.

    `available` is the mask of what the parent has: what it lacks cannot be given. A name that no
    kernel knows, or that cannot be given, is left out with a warning (OCI config.md, "Linux
    Process", `capabilities`)."""
    user = process.get("user") or {}
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    groups = tuple(user.get("additionalGids") or ())
    if uid < 0 or gid < 0:
        raise SpecError(f"{where}.user: uid {uid} or gid {gid} is negative")
    sets = process.get("capabilities") or {}
    masks = {
        name: _mask(sets.get(name) or (), available, warnings, f"{where}.capabilities.{name}")
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
    }
    last: list[Step] = []
    steps: list[Step] = []
    no_new_privs = bool(process.get("noNewPrivileges"))
    if filter_ is not None:
        (last if no_new_privs else steps).append(("seccomp", *filter_))
    steps.append(("drop_bounding", masks["bounding"]))
    if uid and masks["permitted"]:
        steps.append(("prctl", PR_SET_KEEPCAPS, 1))  # or setresuid takes them all
    groups_or_none = groups if set_groups or groups else None
    steps.append(("setids", uid, gid, groups_or_none))
    effective, permitted = masks["effective"], masks["permitted"]
    if not uid or permitted:
        steps.append(("capset", effective & permitted, permitted, masks["inheritable"]))
    ambient = masks["ambient"] & permitted & masks["inheritable"]
    if masks["ambient"] & ~ambient:
        warnings.append(
            f"{where}.capabilities.ambient: only what is permitted and inheritable can be"
        )
    if ambient:
        steps.append(("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL))
        steps.append(("raise_ambient", capabilities.bits(ambient)))
    if no_new_privs:
        steps.append(("prctl", PR_SET_NO_NEW_PRIVS, 1))
    return steps, last


def _mask(names: Sequence[str], available: int, warnings: list[str], where: str) -> int:
    result = 0
    for name in names:
        try:
            bit = capabilities.mask((name,))
        except SpecError:
            warnings.append(f"{where}: no capability {name!r}, left out")
            continue
        if bit & available:
            result |= bit
        else:
            warnings.append(f"{where}: {name} is not this process's to give, left out")
    return result


def candidates(program: str, env: dict[str, str]) -> tuple[str, ...]:
    """The paths that argv[0] may mean, in order (execvp(3))."""
    if "/" in program:
        return (program,)
    path = env.get("PATH", DEFAULT_PATH)
    return tuple(f"{directory or '.'}/{program}" for directory in path.split(":"))


def execute_step(process: dict[str, Any], where: str = "process") -> Step:
    """The exec itself. Raises SpecError for what none can carry."""
    argv = tuple(process.get("args") or ())
    if not argv or not argv[0]:
        raise SpecError(f"{where}.args: empty: give the program to run")
    env: dict[str, str] = {}
    for entry in process.get("env") or ():
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise SpecError(f"{where}.env: {entry!r} is not NAME=value")
        env[name] = value
    for text in (*argv, *env, *env.values(), process.get("cwd", "")):
        if "\0" in text:
            raise SpecError(f"{where}: {text!r} has a zero byte, which no argument can carry")
    return ("execute", candidates(argv[0], env), argv, env)
