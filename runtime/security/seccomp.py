"""`linux.seccomp` of an OCI configuration, compiled (OCI config-linux.md, "Seccomp").

`compile_profile` gives the program that `runtime.syscalls.seccomp_filter` loads. Compiling takes
tens of milliseconds, so programs are kept: in memory, and in a directory that only their user can
write, named after what they were made from. A command line, new with each start, then reads one
small file.
"""

from __future__ import annotations

import os
from marshal import dumps, loads

from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    Compiled = tuple[bytes, int, tuple[str, ...]]

__all__ = ["ACTIONS", "FLAGS", "OPERATORS", "cache_directory", "compile_profile", "default_profile"]

# include/uapi/linux/seccomp.h
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_NUMBER = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_EPERM = 1
_FORMAT = 1
"""Version of the files in the cache; 1 is the first."""

_kept: dict[bytes, Compiled] = {}
_KEPT_MOST = 64


def compile_profile(profile: dict[str, Any], cache: str | None = None) -> Compiled:
    """The program, its flags for seccomp(2), and warnings: what libseccomp does not know, and the
    filter therefore leaves to its default action.

    `cache` is the directory of compiled programs: None for `cache_directory`, "" for none. Raises
    SpecError for a profile that cannot be, and where libseccomp is missing."""
    # Version 2 of marshal has no references: equal profiles give equal bytes.
    source = dumps((_FORMAT, os.uname().machine, profile), 2)
    compiled = _kept.get(source)
    if compiled is None:
        directory = cache_directory("seccomp") if cache is None else cache
        path = f"{directory}/{_digest(source)}" if directory else ""
        compiled = _read(path) if path else None
        if compiled is None:
            compiled = _compile(profile)
            if path:
                _write(directory, path, compiled)
        if len(_kept) >= _KEPT_MOST:
            _kept.clear()
        _kept[source] = compiled
    return compiled


def default_profile(capabilities: frozenset[str]) -> dict[str, Any]:
    """What Docker's default profile allows and refuses, for a process with these capabilities
    (https://docs.docker.com/engine/security/seccomp/).

    Two things are different. A system call that the profile has never heard of does not exist
    (ENOSYS) instead of being refused (EPERM), so that a C library newer than it takes its way
    around. And x32, an architecture that nobody has, is left out: the kernel has to look at a
    filter for each number of each architecture when it loads it."""
    import json

    with open(__file__.rpartition("/")[0] + "/default.json") as file:
        data = json.load(file)
    machine = os.uname().machine
    given: dict[str, list[str]] = data["byCapability"]
    granted = {name for capability in capabilities for name in given.get(capability, ())}
    refused = {name for names in given.values() for name in names} - granted
    allowed = sorted({*data["allowed"], *granted})
    rules: list[dict[str, Any]] = [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]
    for action, condition in (
        *(("SCMP_ACT_ALLOW", each) for each in data["conditional"]),
        *(("SCMP_ACT_ERRNO", each) for each in data["refusedIf"]),
    ):
        capability = condition.pop("withoutCapability", None)
        if capability in capabilities:
            if action == "SCMP_ACT_ALLOW":
                rules.append({"names": condition["names"], "action": action})
            continue
        if capability and machine == "s390x":
            condition["args"][0]["index"] = 1  # clone(2), "C library/kernel differences"
        rules.append({**condition, "action": action})
    # clone3's flags are in memory, where no filter can look: programs shall go on to clone.
    refused = (refused | {*data["refused"]}) - {"clone3"}
    rules.append({"names": sorted(refused), "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM})
    return {
        "defaultAction": data["defaultAction"],
        "defaultErrnoRet": data["defaultErrnoRet"],
        "architectures": data["architectures"].get(machine, []),
        "syscalls": rules,
    }


def cache_directory(name: str) -> str:
    """Where things of this kind are kept: below `$LAB_CACHE_DIR`, or /var/cache/isolation-lab for
    root, or the user's own cache."""
    base = os.environ.get("LAB_CACHE_DIR")
    if not base and os.geteuid() == 0:
        base = "/var/cache/isolation-lab"
    if not base:
        home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME", "") + "/.cache"
        base = f"{home}/isolation-lab"
    return f"{base}/{name}"


def _digest(source: bytes) -> str:
    from _sha256 import sha256  # type: ignore[import-not-found]  # `hashlib` loads OpenSSL

    return str(sha256(source).hexdigest())


def _read(path: str) -> Compiled | None:
    """A kept program, if it is one of this user's own that nobody else could have written."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        if info.st_uid != os.geteuid() or info.st_mode & 0o022:
            return None
        try:
            program, flags, warnings = loads(file.read())
        except (ValueError, EOFError, TypeError):
            return None  # cut short by a full disk: made again
    return program, flags, warnings


def _write(directory: str, path: str, compiled: Compiled) -> None:
    """Keep a program. A cache that cannot be written costs time and nothing else."""
    fresh = f"{path}.{os.getpid()}"
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(dumps(compiled, 2))
        os.rename(fresh, path)
    except OSError:
        if os.path.exists(fresh):
            os.unlink(fresh)


def _compile(profile: dict[str, Any]) -> Compiled:
    from runtime.security.libseccomp import Filter, LibraryMissing

    if profile.get("listenerPath") or profile.get("listenerMetadata"):
        raise SpecError("linux.seccomp.listenerPath: this runtime has no notification of an agent")
    warnings: list[str] = []
    default = _action(profile, "defaultAction", "defaultErrnoRet", "linux.seccomp")
    flags = 0
    for flag in profile.get("flags") or ():
        if flag not in FLAGS:
            raise SpecError(f"linux.seccomp.flags: {flag!r} is none of {', '.join(FLAGS)}")
        flags |= FLAGS[flag]
    try:
        with Filter(default) as made:
            for name in profile.get("architectures") or ():
                if not made.add_architecture(name.removeprefix("SCMP_ARCH_").lower()):
                    warnings.append(f"linux.seccomp.architectures: {name} is not known, left out")
            for number, rule in enumerate(profile.get("syscalls") or ()):
                _add(made, rule, default, f"linux.seccomp.syscalls[{number}]", warnings)
            return made.program(), flags, tuple(warnings)
    except LibraryMissing as error:
        raise SpecError(
            f"linux.seccomp: {error}; install libseccomp2, or leave the profile out"
        ) from None
    except OSError as error:
        raise SpecError(f"linux.seccomp: {error.filename}: {error.strerror}") from error


def _action(rule: dict[str, Any], key: str, number_key: str, where: str) -> int:
    name, number = rule.get(key), rule.get(number_key)
    if name == "SCMP_ACT_NOTIFY":
        raise SpecError(f"{where}.{key}: this runtime has no notification of an agent")
    if name not in ACTIONS:
        raise SpecError(f"{where}.{key}: {name!r} is none of {', '.join(ACTIONS)}")
    if name in _WITH_NUMBER:
        return ACTIONS[name] | (_EPERM if number is None else number & 0xFFFF)
    if number is not None:
        raise SpecError(f"{where}.{number_key}: has no meaning with {name}")
    return ACTIONS[name]


def _add(made: Any, rule: dict[str, Any], default: int, where: str, warnings: list[str]) -> None:
    action = _action(rule, "action", "errnoRet", where)
    if action == default:
        return  # says nothing, and libseccomp refuses it
    comparisons = []
    for number, argument in enumerate(rule.get("args") or ()):
        operator, index = argument.get("op"), argument.get("index", -1)
        if operator not in OPERATORS or not 0 <= index < 6:
            raise SpecError(
                f"{where}.args[{number}]: needs an index from 0 to 5 and an op of "
                f"{', '.join(OPERATORS)}"
            )
        values = (argument.get("value", 0), argument.get("valueTwo", 0))
        comparisons.append((index, OPERATORS[operator], *values))
    # One argument compared twice means "or", as in runc; libseccomp has only "and" in a rule.
    indices = [comparison[0] for comparison in comparisons]
    alone = len(set(indices)) < len(indices)
    sets = [[each] for each in comparisons] if alone else [comparisons]
    for name in rule.get("names") or ():
        if not all(made.add_rule(action, name, each) for each in sets):
            warnings.append(f"{where}: no system call {name!r} is known, left out")
