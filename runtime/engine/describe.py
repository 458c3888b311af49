"""Steps in words: for printing a plan, and for saying which step failed.

Imported only then. `describe` gives words that fit after "could not"; `advice` says what to do
about the failure that is most likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runtime.engine.constants import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_MOVE,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    PR_CAP_AMBIENT,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
)
from runtime.engine.namespaces import NAMESPACES
from runtime.engine.plan import Plan
from runtime.engine.process import RLIMITS
from runtime.engine.steps import Step
from runtime.errors import ExecFailed, SpawnError, StepFailed

__all__ = ["advice", "describe", "explain", "listing"]

_FLAGS = {
    MS_RDONLY: "ro",
    MS_NOSUID: "nosuid",
    MS_NODEV: "nodev",
    MS_NOEXEC: "noexec",
    MS_BIND: "bind",
    MS_MOVE: "move",
    MS_REC: "rec",
}
_ATTRIBUTES = {
    MOUNT_ATTR_RDONLY: "ro",
    MOUNT_ATTR_NOSUID: "nosuid",
    MOUNT_ATTR_NODEV: "nodev",
    MOUNT_ATTR_NOEXEC: "noexec",
}
_PROPAGATION = {
    MS_PRIVATE: "private",
    MS_SHARED: "shared",
    MS_SLAVE: "slave",
    MS_UNBINDABLE: "unbindable",
}
_RESOURCES = {number: name for name, number in RLIMITS.items()}
_KINDS = {flag: kind for kind, flag in NAMESPACES.items()}
_TYPES = {0o020000: "device", 0o060000: "block device", 0o010000: "FIFO"}


def _words(flags: int, names: dict[int, str]) -> list[str]:
    return [word for bit, word in names.items() if flags & bit]


def _kinds(flags: int) -> str:
    return ", ".join(_words(flags, _KINDS))


def _write(path: str, text: str) -> str:
    head, _, name = path.rpartition("/")
    if name in ("cgroup.procs", "tasks"):
        return f"join cgroup {head}"
    return f"write {text!r} to {path}"


def _mount(source: str | None, target: str, fstype: str | None, flags: int, data: object) -> str:
    if fstype is None and source is None:
        if propagation := _words(flags, _PROPAGATION):
            recursive = " and all below" if flags & MS_REC else ""
            return f"make mount {target}{recursive} {propagation[0]}"
        return f"remount {target} ({','.join(_words(flags & ~MS_REMOUNT, _FLAGS))})"
    if fstype is None:
        return f"bind {source} on {target}"
    if fstype == "overlay":
        count = str(data).partition(",")[0].count(":") + 1
        return _overlay(target, count)
    words = _words(flags, _FLAGS)
    if data:
        words.append(str(data))
    options = f" ({','.join(words)})" if words else ""
    return f"mount {fstype} on {target}{options}"


def _overlay(target: str, count: int) -> str:
    return f"mount overlay of {count} layer{'s' if count > 1 else ''} on {target}"


def _attributes(name: str, set_: int, clear: int, propagation: int, recursive: bool) -> str:
    words = _words(set_, _ATTRIBUTES)
    words += [f"not {word}" for word in _words(clear, _ATTRIBUTES)]
    words += _words(propagation, _PROPAGATION)
    below = " and all below" if recursive else ""
    return f"make mount {name}{below} {','.join(words) or 'as asked for'}"


def _device(path: str, mode: int, major: int, minor: int, *_: int) -> str:
    kind = _TYPES.get(mode & 0o170000, "device")
    return f"make {kind} {path}" + ("" if kind == "FIFO" else f" ({major}:{minor})")


def _prctl(option: int, *arguments: int) -> str:
    return {
        PR_SET_NO_NEW_PRIVS: "forbid new privileges",
        PR_SET_DUMPABLE: "hide from other processes",
        PR_SET_KEEPCAPS: "keep capabilities through the change of user",
        PR_CAP_AMBIENT: "clear the ambient capabilities",
    }.get(option, f"prctl {option} {arguments}")


def _count(mask: int) -> str:
    count = bin(mask).count("1")
    return f"{count} capabilit{'y' if count == 1 else 'ies'}"


_WORDS: dict[str, Callable[..., str]] = {
    "attach": lambda name, target, *_: f"attach a mount on {target}",
    "attributes": _attributes,
    "capset": lambda effective, permitted, inheritable: f"reduce to {_count(permitted)}",
    "chdir": lambda path: f"change directory to {path}",
    "chroot": lambda path: f"chroot to {path}",
    "close_on_exec": lambda first, *_: f"mark descriptors from {first} close-on-exec",
    "descriptors": lambda targets: f"pass on {len(targets)} descriptors",
    "device_at": _device,
    "die_with_parent": lambda signal: f"ask for signal {signal} at the parent's death",
    "drop_bounding": lambda keep: f"reduce the bounding set to {_count(keep)}",
    "enter_root": lambda: "enter the new root for a while",
    "execute": lambda candidates, argv, env: f"execute {argv[0]}",
    "execute_at": lambda number, argv, env: f"execute the init for {argv[1]}",
    "execute_shielded": lambda number, candidates, argv, env: f"execute {argv[0]}",
    "hold_userns": lambda name, uids, gids: f"make a user namespace for {name} mounts",
    "hold_userns_at": lambda name, path: f"open the user namespace {path}",
    "idmap": lambda name, *_: f"map the owners of mount {name}",
    "stack_root": lambda place: f"put the new root on {place}",
    "take_overlay": lambda lowers, upper, work, userns, uid, gid: (
        _overlay("the new root", len(lowers)) + f" for root as user {uid}"
    ),
    "fail": lambda number, step: describe(step),
    "find_program": lambda candidates, program: f"find the program {program}",
    "hook": lambda kind, path, *_: f"run the {kind} hook {path}",
    "ioprio_set": lambda class_, priority: f"set I/O priority {class_}:{priority}",
    "join": lambda path, flags: f"join {_kinds(flags)} namespace {path}",
    "join_process": lambda pid, flags: f"join the {_kinds(flags)} namespaces of process {pid}",
    "leave_root": lambda: "leave the new root again",
    "loopback_up": lambda: "bring up the loopback interface",
    "make_directory": lambda path: f"make directory {path}",
    "mark": lambda name: f"note the time of {name!r}",
    "mask": lambda path: f"mask {path}",
    "meet": lambda name: f"wait for the parent at {name!r}",
    "mkdir": lambda path, *_: f"make directory {path}",
    "mknod": _device,
    "mount": _mount,
    "mount_at": lambda source, target, fstype, flags, data, *_: _mount(
        source, target, fstype, flags, data
    ),
    "mount_overlay": lambda target, lowers, options: _overlay(target, len(lowers)),
    "mount_point": lambda path, *_: f"make directory {path}",
    "open_label": lambda module: f"use the security module {module}",
    "open_terminal": lambda *_: "open a terminal",
    "own_streams": lambda uid, *_: f"give the standard streams to user {uid}",
    "move_root": lambda: "move the new root over the old one",
    "personality": lambda persona: f"set personality {persona:#x}",
    "pivot": lambda *_: "pivot into the new root and detach the old one",
    "prctl": _prctl,
    "private_parent": lambda rootfs: f"make the mount that {rootfs} is on private",
    "prlimit": lambda what, soft, hard: (
        f"set resource limit {_RESOURCES.get(what, what)} to {soft}:{hard}"
    ),
    "raise_ambient": lambda numbers: f"make {len(numbers)} capabilities ambient",
    "read_only": lambda path: f"make {path} read-only",
    "remove_tree": lambda path: f"remove {path}",
    "root_attributes": lambda set_, *_: "make the root " + ("read-only" if set_ else "propagate"),
    "sched_setaffinity": lambda pid, numbers: f"run on CPUs {', '.join(map(str, numbers))}",
    "sched_setattr": lambda policy, *_: f"set scheduling policy {policy}",
    "seccomp": lambda program, flags: f"load a seccomp filter of {len(program) // 8} instructions",
    "setdomainname": lambda name: f"set domain name {name}",
    "sethostname": lambda name: f"set hostname {name}",
    "setids": lambda uid, gid, groups: f"become user {uid}, group {gid}",
    "setsid": lambda: "start a session",
    "symlink": lambda target, path: f"link {path} to {target}",
    "take": lambda name, source, flags: f"take {source}",
    "umask": lambda value: f"set umask {value:03o}",
    "unshare": lambda flags: f"unshare {_kinds(flags)} namespace",
    "unshare_cgroup": lambda: "unshare cgroup namespace",
    "use_terminal": lambda: "make the terminal the standard streams",
    "wait_at": lambda gate: "wait for the start",
    "wait_for_parent": lambda: "wait for the parent's part",
    "work_in": lambda path: f"change directory to {path}",
    "write": _write,
    "write_label": lambda module, label: f"label the program {label!r} for {module}",
}

_ADVICE = {
    "attach": "a mount's target must be of its source's kind, and not below /proc",
    "device_at": "a node of another kind is there in the image",
    "execute": "is it in the image, on PATH, and is its interpreter there too?",
    "find_program": "is it in the image, on PATH, and executable?",
    "mount_at": "is a link or a file in the image's way?",
    "mount_point": "the image has a link or a file where a directory must be",
    "open_label": "this kernel does not have it: leave the label out",
    "open_terminal": "does the configuration mount a new devpts on /dev/pts?",
    "overlay": (
        "the upper layer cannot lie on another overlay or a network file system: put the state "
        "directory on a disk or a tmpfs; dmesg has the kernel's reason"
    ),
    "idmap": "the file system must know ID-mapped mounts: ext4, xfs, btrfs, tmpfs (Linux 6.3), …",
    "take_overlay": (
        "layers need a file system with ID-mapped mounts (ext4, xfs, btrfs, …), and Linux 6.7"
    ),
    "take": "is the source there, for this user?",
}


def describe(step: Step) -> str:
    """The step in words."""
    name, *arguments = step
    return _WORDS[name](*arguments)


def advice(step: Step) -> str:
    """What to do if it fails, or nothing."""
    name, *arguments = step
    if name == "fail":
        return advice(arguments[1])
    if name.startswith("execute"):
        name = "execute"
    if name == "mount_overlay" or (name == "mount" and arguments[2] == "overlay"):
        name = "overlay"
    return _ADVICE.get(name, "")


def listing(plan: Plan) -> Iterable[str]:
    """The whole plan, a line a step: who does it, then what."""
    for step in plan.outside:
        yield f"stage: {describe(step)}"
    into = f" into cgroup {plan.into}" if plan.into else ""
    yield f"parent: clone with new {_kinds(plan.clone) or 'no'} namespaces{into}"
    for path, text in plan.writes:
        yield f"parent: {_write(path, text)}"
    if plan.maps:
        yield "parent: write the user and group maps"
    for step in plan.steps:
        yield f"child: {describe(step)}"


def explain(
    plan: Plan | None,
    where: str,
    number: int,
    errno: int,
    path: str | None,
    told: Step | None = None,
) -> SpawnError:
    """The error behind a child's or parent's report. Who has no plan, because another process
    made it, has what the child told of the step."""
    if where == "clone":
        hint = "namespaces need root, and free room in /proc/sys/user/max_*_namespaces"
        return StepFailed("clone a child", errno, path, hint)
    if where == "parent":
        if plan is not None and number < len(plan.writes):
            return StepFailed(_write(*plan.writes[number]), errno, path)
        hint = "see /etc/subuid and /etc/subgid, and newuidmap(1)"
        return StepFailed("write the user and group maps", errno, path, hint)
    if plan is not None:
        step = (plan.outside if where == "outside" else plan.steps)[number]
    else:
        step = told or ("mark", f"step {number}")
    if not errno:
        return SpawnError(f"could not {describe(step)}: {path}")
    is_exec = step[0].startswith("execute") or step[0] == "find_program"
    kind = ExecFailed if is_exec else StepFailed
    return kind(describe(step), errno, path, advice(step))
