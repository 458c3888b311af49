"""Which devices a cgroup's processes may use: OCI's rules, for eBPF (v2) and for v1.

The rules are applied in order (config-linux.md, "Allowed Device list"), so the last one that
speaks of a device and an access decides, and what no rule speaks of is denied. Each of read,
write and mknod is decided by itself, as in the v1 controller: two rules that allow ``r`` and ``w``
allow a file to be opened for both.
"""

from __future__ import annotations

import errno
import os

from runtime.cgroups.control import read, refused, write
from runtime.errors import CgroupError, SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from runtime.cgroups.group import Cgroup

    Key = tuple[str, int | None, int | None]

__all__ = [
    "ALL",
    "ALLOWED",
    "DEFAULT",
    "MKNOD",
    "READ",
    "WRITE",
    "DeviceRule",
    "parse",
    "restrict",
    "v1_plan",
]

# include/uapi/linux/bpf.h, BPF_DEVCG_ACC_*
MKNOD = 1
READ = 2
WRITE = 4
ALL = MKNOD | READ | WRITE

_LETTERS = {"m": MKNOD, "r": READ, "w": WRITE}
_MAX_NUMBER = (1 << 31) - 1

_MEMORY_NODES = (3, 5, 7, 8, 9)  # null, zero, full, random, urandom

ALLOWED: tuple[Mapping[str, Any], ...] = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": 1, "minor": minor, "access": "rwm"}
        for minor in _MEMORY_NODES
    ),
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 1, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
)
"""What every container may use: the default devices (config-linux.md, "Default Devices"), the
terminal (5:0, 5:1), pseudo-terminals (5:2, 136:*), and mknod for all: a node that cannot be opened
harms nobody, and package managers make them. runc and crun append the same to the rules of each
config.json (libcontainer/specconv, AllowedDevices)."""

DEFAULT: tuple[Mapping[str, Any], ...] = ({"allow": False, "access": "rwm"}, *ALLOWED)
"""These and no other: what a container gets that says nothing about devices."""


class DeviceRule:
    """One OCI rule, checked: `kind` is ``a``, ``b`` or ``c``, None stands for all numbers."""

    __slots__ = ("access", "allow", "kind", "major", "minor")

    def __init__(
        self, allow: bool, kind: str, major: int | None, minor: int | None, access: int
    ) -> None:
        self.allow = allow
        self.kind = kind
        self.major = major
        self.minor = minor
        self.access = access

    def __repr__(self) -> str:
        verb = "allow" if self.allow else "deny"
        return f"<DeviceRule {verb} {_line((self.kind, self.major, self.minor), self.access)}>"


def parse(rules: Iterable[Mapping[str, Any]]) -> list[DeviceRule]:
    """The rules of ``linux.resources.devices``. Raises SpecError naming the field."""
    made = []
    for index, rule in enumerate(rules):
        where = f"linux.resources.devices[{index}]"
        kind = rule.get("type") or "a"
        if kind not in ("a", "b", "c"):
            raise SpecError(f"{where}.type: {kind!r} is none of a, b, c")
        letters = rule.get("access") or ""
        if not letters or set(letters) - set(_LETTERS):
            raise SpecError(f"{where}.access: {letters!r} is not made of r, w and m")
        if not isinstance(rule.get("allow"), bool):
            raise SpecError(f"{where}.allow: must be true or false")
        access = sum(_LETTERS[letter] for letter in set(letters))
        major, minor = (_number(rule.get(name), f"{where}.{name}") for name in ("major", "minor"))
        made.append(DeviceRule(rule["allow"], kind, major, minor, access))
    return made


def _number(value: object, where: str) -> int | None:
    """-1 stands for all in runc's own form, and in configs that come from it."""
    if value is None or value == -1:
        return None
    if not isinstance(value, int) or not 0 <= value <= _MAX_NUMBER:
        raise SpecError(f"{where}: {value!r} is no device number")
    return value


def restrict(group: Cgroup, rules: Iterable[Mapping[str, Any]]) -> bool:
    """Enforce the rules on `group` and all below it; False if this process may not, being without
    rights over the host's devices itself.

    By an eBPF program on the v2 directory, which replaces the one that an earlier call attached
    and adds to those of others (all of them must agree); else by the v1 controller. A rootless
    container needs neither: it cannot make device nodes, and opens those of the host with its
    user's rights (runc's canSkipEBPFError has the same reasoning)."""
    given = tuple(rules)
    failure: OSError | None = None
    if group.into is not None:
        from runtime.cgroups import bpf

        program = _program(given)
        try:
            bpf.attach_device_filter(group.into, program)
        except OSError as error:
            failure = error
        else:
            return True
    directory = next((path for path in group.directories if _has_v1(path)), None)
    if directory is not None:
        _write_v1(group.path, directory, parse(given))
        return True
    if failure is not None and failure.errno in (errno.EPERM, errno.EACCES) and not _is_real_root():
        return False
    reason = f"bpf(2): {failure.strerror}" if failure else "there is no v2 directory"
    raise CgroupError(
        f"cgroup {group.path}: cannot restrict devices: {reason}, and it has no directory in a v1 "
        "devices hierarchy; needs Linux 4.15 with CONFIG_CGROUP_BPF, and CAP_BPF or CAP_SYS_ADMIN"
    ) from failure


_programs: dict[str, bytes] = {}


def _program(rules: Sequence[Mapping[str, Any]]) -> bytes:
    """The next container mostly has the rules of the last: to check and assemble them costs more
    than to attach the program."""
    key = repr(rules)  # whatever is in it: it has not been checked yet
    found = _programs.get(key)
    if found is None:
        from runtime.cgroups.devicefilter import assemble

        found = assemble(parse(rules))
        if len(_programs) < 8:
            _programs[key] = found
    return found


def v1_plan(rules: Sequence[DeviceRule]) -> tuple[list[str], list[str]]:
    """The lines for devices.deny and then for devices.allow that bring about these rules
    (Documentation/admin-guide/cgroup-v1/devices.rst).

    v1 knows a default and exceptions to it, and cannot make an exception within an exception.
    Raises SpecError where one is asked for, as runc does: the kernel would ignore it silently."""
    default = False
    exceptions: dict[Key, int] = {}
    for rule in rules:
        if (rule.kind, rule.major, rule.minor, rule.access) == ("a", None, None, ALL):
            default, exceptions = rule.allow, {}
            continue
        for kind in ("b", "c") if rule.kind == "a" else (rule.kind,):
            key = (kind, rule.major, rule.minor)
            if rule.allow != default:
                exceptions[key] = exceptions.get(key, 0) | rule.access
            else:
                _take_back(exceptions, key, rule.access)
    lines = [_line(key, access) for key, access in exceptions.items() if access]
    if default:
        return lines, ["a"]
    return ["a"], lines


def _take_back(exceptions: dict[Key, int], key: Key, access: int) -> None:
    for other, granted in exceptions.items():
        if _covers(key, other):
            exceptions[other] = granted & ~access
        elif granted & access and _covers(other, key):
            raise SpecError(
                f"linux.resources.devices: {_line(key, access)!r} is a part of "
                f"{_line(other, granted)!r}, and cgroup v1 cannot make an exception to an exception"
            )


def _covers(wide: Key, narrow: Key) -> bool:
    return wide[0] == narrow[0] and all(
        one is None or one == other for one, other in zip(wide[1:], narrow[1:], strict=True)
    )


def _line(key: Key, access: int) -> str:
    kind, major, minor = key
    letters = "".join(letter for letter in "rwm" if access & _LETTERS[letter])
    numbers = ":".join("*" if part is None else str(part) for part in (major, minor))
    return f"{kind} {numbers} {letters}"


def _has_v1(directory: str) -> bool:
    return os.path.exists(f"{directory}/devices.allow")  # noqa: PTH110 - no pathlib here


def _write_v1(name: str, directory: str, rules: Sequence[DeviceRule]) -> None:
    deny, allow = v1_plan(rules)
    first, second = (("deny", deny), ("allow", allow))
    if allow == ["a"]:
        first, second = second, first  # the default first: it takes all exceptions away
    line = ""
    try:
        for verb, lines in (first, second):
            for line in lines:
                write(f"{directory}/devices.{verb}", line)
    except OSError as error:
        raise refused(name, error, line) from error


def _is_real_root() -> bool:
    return os.geteuid() == 0 and read("/proc/self/uid_map").split() == ["0", "0", "4294967295"]
