"""The `mounts` of an OCI configuration as steps (OCI config.md, "Mounts", "Linux mount options").

Sources are paths of the host, destinations paths of the container. So a bind mount is *taken* as a
detached tree while the host is still in sight (`take`), given its flags where nobody can see it,
and *attached* when the container's root is the root, from where no link of a hostile image leads
out. New file systems need no source: they are mounted there and then.
"""

from __future__ import annotations

from runtime.engine.constants import (
    AT_RECURSIVE,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_STRICTATIME,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_UNBINDABLE,
)
from runtime.engine.namespaces import map_of
from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from runtime.engine.namespaces import Map
    from runtime.engine.steps import Step

__all__ = ["MOUNT_OPTIONS", "PROPAGATION", "Options", "mount_steps", "parse_options"]

_MS_SYNCHRONOUS = 16
_MS_MANDLOCK = 64
_MS_DIRSYNC = 128
_MS_NOSYMFOLLOW = 256
_MS_NOATIME = 1024
_MS_NODIRATIME = 2048
_MS_SILENT = 32768
_MS_RELATIME = 1 << 21
_MS_I_VERSION = 1 << 23
_MS_LAZYTIME = 1 << 25
_MS_ATIME = _MS_NOATIME | _MS_RELATIME | MS_STRICTATIME

_FLAGS = {
    "async": (0, _MS_SYNCHRONOUS),
    "atime": (0, _MS_NOATIME),
    "defaults": (0, 0),
    "dev": (0, MS_NODEV),
    "diratime": (0, _MS_NODIRATIME),
    "dirsync": (_MS_DIRSYNC, 0),
    "exec": (0, MS_NOEXEC),
    "iversion": (_MS_I_VERSION, 0),
    "lazytime": (_MS_LAZYTIME, 0),
    "loud": (0, _MS_SILENT),
    "mand": (_MS_MANDLOCK, 0),
    "noatime": (_MS_NOATIME, _MS_ATIME),
    "nodev": (MS_NODEV, 0),
    "nodiratime": (_MS_NODIRATIME, 0),
    "noexec": (MS_NOEXEC, 0),
    "noiversion": (0, _MS_I_VERSION),
    "nolazytime": (0, _MS_LAZYTIME),
    "nomand": (0, _MS_MANDLOCK),
    "norelatime": (0, _MS_RELATIME),
    "nostrictatime": (0, MS_STRICTATIME),
    "nosuid": (MS_NOSUID, 0),
    "nosymfollow": (_MS_NOSYMFOLLOW, 0),
    "relatime": (_MS_RELATIME, _MS_ATIME),
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "silent": (_MS_SILENT, 0),
    "strictatime": (MS_STRICTATIME, _MS_ATIME),
    "suid": (0, MS_NOSUID),
    "symfollow": (0, _MS_NOSYMFOLLOW),
    "sync": (_MS_SYNCHRONOUS, 0),
}
"""Option → flags of mount(2) that it sets, and that it clears."""

_RECURSIVE = {
    "ratime": "atime",
    "rdev": "dev",
    "rdiratime": "diratime",
    "rexec": "exec",
    "rnoatime": "noatime",
    "rnodev": "nodev",
    "rnodiratime": "nodiratime",
    "rnoexec": "noexec",
    "rnorelatime": "norelatime",
    "rnostrictatime": "nostrictatime",
    "rnosuid": "nosuid",
    "rnosymfollow": "nosymfollow",
    "rrelatime": "relatime",
    "rro": "ro",
    "rrw": "rw",
    "rstrictatime": "strictatime",
    "rsuid": "suid",
    "rsymfollow": "symfollow",
}
"""Options that mount_setattr(2) applies to a mount and all below it."""

PROPAGATION = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "rshared": MS_SHARED | MS_REC,
    "rslave": MS_SLAVE | MS_REC,
    "runbindable": MS_UNBINDABLE | MS_REC,
    "shared": MS_SHARED,
    "slave": MS_SLAVE,
    "unbindable": MS_UNBINDABLE,
}
"""mount_namespaces(7), "Shared subtrees"."""

MOUNT_OPTIONS = frozenset(
    (*_FLAGS, *_RECURSIVE, *PROPAGATION, "bind", "rbind", "idmap", "remount", "ridmap", "tmpcopyup")
)
"""All options that are not a file system's own."""

_ATTRIBUTES = (
    (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0),  # these have the same bits
    (_MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
    (_MS_NODIRATIME, MOUNT_ATTR_NODIRATIME),
    (_MS_NOATIME, MOUNT_ATTR_NOATIME),
    (MS_STRICTATIME, MOUNT_ATTR_STRICTATIME),
)

_MAY_BE_ON_PROC = (
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
)
"""What lxcfs puts there, as runc allows it (libcontainer/rootfs_linux.go)."""


class Options:
    """The options of one mount, sorted by what they are for."""

    __slots__ = (
        "bind",
        "clear",
        "copy_up",
        "data",
        "flags",
        "idmap",
        "propagation",
        "recursive_clear",
        "recursive_set",
        "remount",
        "set",
        "tree",
    )

    def __init__(self) -> None:
        self.bind = False
        self.tree = False
        """The bind takes the mounts below along (`rbind`)."""
        self.flags = 0
        """Of mount(2)."""
        self.set = self.clear = 0
        """Of mount_setattr(2), for a bind."""
        self.recursive_set = self.recursive_clear = 0
        self.propagation = 0
        self.data: list[str] = []
        """What is for the file system itself."""
        self.copy_up = False
        self.remount = False
        self.idmap = ""


def parse_options(words: Sequence[str]) -> Options:
    """Sort the words; later ones win, as with mount(8). What no list has is the file system's."""
    options = Options()
    given = cleared = 0
    for word in words:
        if word in _FLAGS:
            on, off = _FLAGS[word]
            given, cleared = given & ~off | on, cleared & ~on | off
        elif word in PROPAGATION:
            options.propagation |= PROPAGATION[word]
        elif word in ("bind", "rbind"):
            options.bind, options.tree = True, options.tree or word == "rbind"
        elif word in _RECURSIVE:
            on, off = (_attributes(flags) for flags in _FLAGS[_RECURSIVE[word]])
            options.recursive_set = options.recursive_set & ~off | on
            options.recursive_clear = options.recursive_clear & ~on | off
        elif word == "tmpcopyup":
            options.copy_up = True
        elif word == "remount":
            options.remount = True
        elif word in ("idmap", "ridmap"):
            options.idmap = word
        else:
            options.data.append(word)
    options.flags = given
    options.set, options.clear = _attributes(given), _attributes(cleared)
    for name in ("set", "recursive_set"):
        if getattr(options, name) & MOUNT_ATTR__ATIME:  # a choice of three, not three bits
            clear = name.replace("set", "clear")
            setattr(options, clear, getattr(options, clear) | MOUNT_ATTR__ATIME)
    if given & _MS_RELATIME:
        options.clear |= MOUNT_ATTR__ATIME
    return options


def _attributes(flags: int) -> int:
    """The flags of mount(2) as those of mount_setattr(2); what belongs to a whole file system and
    not to one mount of it has none."""
    return sum(new or flags & old for old, new in _ATTRIBUTES if flags & old)


def mount_steps(
    mounts: Sequence[dict[str, Any]],
    *,
    label: str = "",
    maps: tuple[Map, Map] | str | None = None,
    where: str = "mounts",
) -> tuple[list[Step], list[Step]]:
    """Steps for while the host is in sight, and steps for the container's root, in order.

    `maps` are those of the container's user namespace, or its path if it is joined.
    Raises SpecError with the place in the configuration."""
    before: list[Step] = []
    after: list[Step] = []
    userns = _Userns(maps)
    fresh: list[str] = []
    """Where a new, empty file system has just been mounted."""
    for number, mount in enumerate(mounts):
        about = f"{where}[{number}]"
        target = _target(mount.get("destination", ""), about)
        kind: str = mount.get("type") or "none"
        options = parse_options(mount.get("options") or ())
        if options.remount:
            flags = MS_REMOUNT | options.flags | (MS_BIND if options.bind else 0)
            after.append(("mount", None, target, None, flags, ",".join(options.data) or None))
            continue
        if options.bind or kind == "bind":
            name = f"{number} {target}"
            before += _taken(name, mount, options, about)
            before += userns.steps(name, mount, options, about)
            after.append(("attach", name, target, target in _MAY_BE_ON_PROC))
            continue
        if options.idmap or mount.get("uidMappings"):
            raise SpecError(f"{about}: only a bind mount's owners can be mapped")
        data = list(options.data)
        if label and kind in ("tmpfs", "mqueue", "devpts", "shm"):
            data.append(f'context="{label}"')
        # The source is a name to be seen in /proc/mounts, where it is no device.
        new = (mount.get("source") or kind, target, kind, options.flags, ",".join(data) or None)
        head = target.rpartition("/")[0]
        if head in fresh and not options.copy_up:
            after += [("mkdir", target, 0o755), ("mount", *new)]
        elif target in ("/proc", "/sys", "/dev") and not options.copy_up:
            after += [("mount_point", target, 0o755), ("mount", *new)]
        else:
            after.append(("mount_at", *new, False, options.copy_up))
        if kind == "tmpfs":
            fresh.append(target)
        if options.propagation:
            after.append(("mount", None, target, None, options.propagation, None))
    return before, after


class _Userns:
    """The user namespaces that ID-mapped mounts are made with, each held once."""

    def __init__(self, maps: tuple[Map, Map] | str | None) -> None:
        self._own = maps
        self._names: dict[object, str] = {}

    def steps(self, name: str, mount: dict[str, Any], options: Options, about: str) -> list[Step]:
        """OCI config.md, "Linux mount options", `idmap`; the mount's own maps come first."""
        given = [key for key in ("uidMappings", "gidMappings") if mount.get(key)]
        if not options.idmap and not given:
            return []
        if len(given) == 1:
            raise SpecError(f"{about}: uidMappings and gidMappings go together")
        maps: object = self._own
        if given:
            maps = tuple(map_of(mount[key], f"{about}.{key}") for key in given)
        if maps is None:
            raise SpecError(f"{about}: {options.idmap} needs uidMappings, or a user namespace")
        steps: list[Step] = []
        if maps not in self._names:
            self._names[maps] = f"user namespace {len(self._names)}"
            hold = ("hold_userns_at", self._names[maps], maps)
            if isinstance(maps, tuple):
                hold = ("hold_userns", self._names[maps], *maps)
            steps.append(hold)
        steps.append(("idmap", name, self._names[maps], options.idmap == "ridmap"))
        return steps


def _target(destination: str, about: str) -> str:
    """The destination as a clean absolute path; relative ones are below the root (OCI 1.0 had
    them)."""
    if not destination:
        raise SpecError(f"{about}.destination: missing")
    parts: list[str] = []
    for part in destination.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise SpecError(f"{about}.destination: {destination!r} is the root itself")
    return "/" + "/".join(parts)


def _taken(name: str, mount: dict[str, Any], options: Options, about: str) -> list[Step]:
    source = mount.get("source")
    if not source:
        raise SpecError(f"{about}.source: a bind mount needs one")
    steps: list[Step] = [("take", name, source, AT_RECURSIVE if options.tree else 0)]
    if options.set or options.clear:
        steps.append(("attributes", name, options.set, options.clear, 0, False))
    if options.recursive_set or options.recursive_clear:
        both = (options.recursive_set, options.recursive_clear)
        steps.append(("attributes", name, *both, 0, True))
    propagation = options.propagation or MS_PRIVATE | MS_REC
    recursive = bool(propagation & MS_REC)
    steps.append(("attributes", name, 0, 0, propagation & ~MS_REC, recursive))
    return steps
