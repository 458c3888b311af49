"""From an OCI configuration to what is done, by whom, in which order. Pure: nothing is touched.

`container_plan` is for a new container, `exec_plan` for a further process in one that runs, and
`process_plan` for a plain process without any isolation. All three give a `Plan`, which prints
(`runtime.engine.describe`), travels (`Plan.message`) and is carried out by `runtime.engine.launch`.
"""

from __future__ import annotations

from runtime.engine.constants import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from runtime.engine.process import execute_step, identity_steps, limit_steps
from runtime.engine.rootfs import confine_steps, enter_steps, inside_steps, overlay_step
from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from runtime.engine.rootfs import Overlay
    from runtime.engine.steps import Step

    class Group(Protocol):
        """What a plan needs of a cgroup: `runtime.cgroups.Cgroup` has it."""

        @property
        def into(self) -> str | None: ...
        @property
        def join(self) -> Sequence[str]: ...


__all__ = ["NAMESPACES", "Plan", "container_plan", "exec_plan", "namespaces_of", "process_plan"]

NAMESPACES = {
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "network": CLONE_NEWNET,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
    "mount": CLONE_NEWNS,
}
"""OCI's names, in the order of joining: the user namespace first, because it brings the rights for
the others, and the mount namespace last, because the others' paths are the host's."""


class Plan:
    """One start, as plain data."""

    __slots__ = ("argv", "clone", "into", "maps", "outside", "steps", "warnings", "writes")

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = tuple(argv)
        self.outside: list[Step] = []
        """What a stage, a process between parent and child, does before the clone; without any
        there is no stage."""
        self.clone = 0
        """Flags of clone(2)."""
        self.into = ""
        """The cgroup that the child is cloned into (CLONE_INTO_CGROUP)."""
        self.writes: list[tuple[str, str]] = []
        """Path and text of files that the parent writes for the child, "{pid}" being its id."""
        self.maps: tuple[object, ...] | None = None
        """Of a new user namespace; see `runtime.security.maps.write_maps`."""
        self.steps: list[Step] = []
        """What the child does, the exec included."""
        self.warnings: list[str] = []
        """What the configuration asks for and cannot have, and may go without."""

    def message(self) -> tuple[Any, ...]:
        """What `launch.start` takes; `marshal` can carry it."""
        return (self.outside, self.clone, self.into, self.writes, self.maps, self.steps)

    def failing(self, number: int, errno: int = 5, where: str = "inside") -> Plan:
        """A copy that fails at one step, for tests: that step is not done, its error is EIO."""
        copy = Plan(self.argv)
        for name in self.__slots__[1:]:
            setattr(copy, name, getattr(self, name))
        steps = list(self.steps if where == "inside" else self.outside)
        steps[number] = ("fail", errno, steps[number])
        setattr(copy, "steps" if where == "inside" else "outside", steps)
        return copy


def namespaces_of(config: dict[str, Any]) -> dict[str, str | None]:
    """Kind → path to join, or None for a new one; what is absent is the parent's.

    Raises SpecError for unknown kinds, duplicates and relative paths."""
    found: dict[str, str | None] = {}
    for number, entry in enumerate((config.get("linux") or {}).get("namespaces") or ()):
        kind, path = entry.get("type"), entry.get("path") or None
        where = f"linux.namespaces[{number}]"
        if kind not in NAMESPACES:
            raise SpecError(f"{where}.type: {kind!r} is none of {', '.join(NAMESPACES)}")
        if kind in found:
            raise SpecError(f"{where}.type: a second {kind!r}")
        if path is not None and not path.startswith("/"):
            raise SpecError(f"{where}.path: {path!r} is not absolute")
        found[kind] = path
    return found


def container_plan(
    config: dict[str, Any],
    rootfs: str,
    *,
    overlay: Overlay | None = None,
    cgroup: Group | None = None,
    fds: Sequence[int] = (),
    filter_: tuple[bytes, int] | None = None,
    available: int = -1,
    rootless: bool = False,
    loopback: bool = False,
    no_pivot: bool = False,
    make_cwd: bool = False,
    wait_for_start: bool = False,
    die_with_parent: int = 0,
    close_from: int = 0,
    hook_state: tuple[str, str] = ("", ""),
    gate: int = -1,
    terminal: int = -1,
    own_streams: bool = False,
) -> Plan:
    """A new container.

    `rootfs` is its root's absolute path on the host: a directory that holds the file system, or,
    with `overlay` (lower directories, lowest first; upper and work directory or None), the empty
    one where it is mounted. `fds` are the numbers inside of the descriptors that are passed on;
    `filter_` the compiled seccomp program and its flags (`runtime.security.seccomp`); `available`
    the mask of capabilities that the parent has. `make_cwd` makes a missing working directory;
    with `wait_for_start` the child meets its parent at "start" before it executes; `close_from`
    marks that descriptor and all above close-on-exec; `hook_state` is what hooks in the container
    get as standard input, before and after the process id. After "start" the child waits at
    `gate`, a listening socket, for another process to let it go; `terminal` is a socket that it
    sends the master of a new terminal through; with `own_streams` its user becomes the owner of
    its standard streams. Raises SpecError with the place in the configuration."""
    process = config.get("process") or {}
    linux = config.get("linux") or {}
    spaces = namespaces_of(config)
    if "mount" not in spaces:
        raise SpecError(
            "linux.namespaces: a container needs a mount namespace, or its mounts were the host's"
        )
    execute = execute_step(process)
    plan = Plan(execute[2])
    steps = plan.steps
    new_user = "user" in spaces and spaces["user"] is None
    _namespaces(plan, config, spaces, new_user)
    steps.append(("setsid",))
    if close_from:
        steps.append(("close_on_exec", close_from, 0xFFFFFFFF, 4))
    if new_user:
        _map(plan, linux, rootless)
    _belong(plan, process, cgroup, spaces, new_user)
    _uts(config, spaces, steps)
    if loopback and "network" in spaces and spaces["network"] is None:
        steps.append(("loopback_up",))
    hooks = _Hooks(config.get("hooks") or {}, hook_state)
    if spaces["mount"] is None:
        _root(plan, config, rootfs, overlay, hooks, rootless, no_pivot, make_cwd)
    steps.append(("mark", "mounts"))
    steps += limit_steps(process)
    last = _streams(process, terminal, own_streams, steps, console=spaces["mount"] is None)
    now, final = identity_steps(
        process,
        available=available if not spaces.keys() & {"user"} else -1,
        filter_=filter_,
        set_groups=not rootless,
        warnings=plan.warnings,
    )
    steps += now
    waits: list[Step] = []
    if wait_for_start:
        waits += [("find_program", execute[1], execute[2][0]), ("meet", "start")]
    if gate >= 0:
        waits.append(("wait_at", gate))
    waits += hooks.steps("startContainer")
    _finish(steps, process, fds, waits, last + final, die_with_parent)
    steps.append(execute)
    return plan


def _streams(
    process: dict[str, Any], terminal: int, own: bool, steps: list[Step], *, console: bool
) -> list[Step]:
    """The standard streams: what is done while the rights are there; and, returned, what is done
    at the end, when nothing is to be said on the old ones any more."""
    uid = (process.get("user") or {}).get("uid", 0)
    if terminal >= 0:
        size = process.get("consoleSize") or {}
        rows, columns = size.get("height", 0), size.get("width", 0)
        steps.append(("open_terminal", terminal, rows, columns, uid, console))
        return [("use_terminal",)]
    if own and uid:
        steps.append(("own_streams", uid))
    return []


def _namespaces(
    plan: Plan, config: dict[str, Any], spaces: dict[str, str | None], new_user: bool
) -> None:
    """Which are made by the clone and which are joined, by whom.

    The child joins by itself, unless it cannot: setns into a PID namespace is for children to
    come (pid_namespaces(7)), new namespaces shall belong to the user namespace that was joined,
    and from within a new one there is no right to join any. Then a stage joins before the clone.
    """
    joined = [kind for kind in NAMESPACES if spaces.get(kind)]
    if new_user and "mount" in joined:
        raise SpecError("linux.namespaces: a new user namespace has no rights in a joined mount's")
    by_stage = bool({"pid", "user", "mount"} & {*joined}) or (new_user and bool(joined))
    offsets = (config.get("linux") or {}).get("timeOffsets") or {}
    joins: list[Step] = [("join", spaces[kind], NAMESPACES[kind]) for kind in joined]
    if by_stage:
        plan.outside += joins
    else:
        plan.steps += joins
    for kind, path in spaces.items():
        if path is None and kind != "cgroup" and not (kind == "time" and offsets):
            plan.clone |= NAMESPACES[kind]
    if offsets:
        if "time" not in spaces or spaces["time"]:
            raise SpecError("linux.timeOffsets: need a new time namespace")
        # They can be set only while nobody is in it yet (time_namespaces(7)).
        lines = [
            f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}"
            for clock, offset in sorted(offsets.items())
        ]
        plan.outside.append(("unshare", CLONE_NEWTIME))
        plan.outside += [("write", "/proc/self/timens_offsets", line) for line in lines]


def _belong(
    plan: Plan,
    process: dict[str, Any],
    cgroup: Group | None,
    spaces: dict[str, str | None],
    new_user: bool,
) -> None:
    """Cgroup and OOM score: first, so that nothing that follows is charged to another cgroup."""
    joins = [f"{directory}/cgroup.procs" for directory in (cgroup.join if cgroup else ())]
    into = cgroup.into if cgroup else None
    scores = [] if process.get("oomScoreAdj") is None else [str(process["oomScoreAdj"])]
    if plan.outside:
        # What the stage is in, the child is born in; later the stage sees other paths.
        joins = [f"{into}/cgroup.procs", *joins] if into else joins
        first: list[Step] = [("write", path, "0") for path in joins]
        first += [("write", "/proc/self/oom_score_adj", score) for score in scores]
        plan.outside[:0] = first
    elif new_user:
        # The child has no right to these files.
        plan.into = into or ""
        plan.writes += [(path, "{pid}") for path in joins]
        plan.writes += [("/proc/{pid}/oom_score_adj", score) for score in scores]
    else:
        plan.into = into or ""
        plan.steps += [("write", path, "0") for path in joins]
        plan.steps += [("write", "/proc/self/oom_score_adj", score) for score in scores]
    if "cgroup" in spaces and spaces["cgroup"] is None:
        plan.steps.append(("unshare_cgroup",))


def _map(plan: Plan, linux: dict[str, Any], rootless: bool) -> None:
    """The maps of a new user namespace, and to become its root: nobody is mapped to the one that
    made it, and what such a one makes has no owner."""
    for name in ("uidMappings", "gidMappings"):
        if not linux.get(name):
            raise SpecError(f"linux.{name}: a new user namespace needs one")
    plan.maps = (
        *(
            tuple((entry["containerID"], entry["hostID"], entry["size"]) for entry in linux[name])
            for name in ("uidMappings", "gidMappings")
        ),
        rootless,
    )
    plan.steps += [("wait_for_parent",), ("setids", 0, 0, None)]


def _uts(config: dict[str, Any], spaces: dict[str, str | None], steps: list[Step]) -> None:
    for key, step in (("hostname", "sethostname"), ("domainname", "setdomainname")):
        if name := config.get(key):
            if "uts" not in spaces:
                raise SpecError(f"{key}: needs a uts namespace, or it would rename the host")
            steps.append((step, name))


def _root(
    plan: Plan,
    config: dict[str, Any],
    rootfs: str,
    overlay: Overlay | None,
    hooks: _Hooks,
    rootless: bool,
    no_pivot: bool,
    make_cwd: bool,
) -> None:
    """From the host's mounts, copied into a new namespace, to the container's own root.

    The pivot comes as early as it can: whatever a hostile image has at /proc or /dev, a link to
    the host's is from then on a link within the container. Only with hooks that are to see both
    the mounts and the host is it put off, and until then the root is changed back and forth."""
    steps, in_userns = plan.steps, "user" in namespaces_of(config)
    mounted = None if overlay is None else overlay_step(rootfs, overlay, userxattr=rootless)
    steps += enter_steps(config.get("linux") or {}, rootfs, mounted)
    before, inside = inside_steps(config, bind_devices=in_userns, warnings=plan.warnings)
    steps += before
    shared = "shared" in ((config.get("linux") or {}).get("rootfsPropagation") or "")
    pivot: list[Step] = [("chdir", rootfs), ("move_root",) if no_pivot else ("pivot", shared)]
    outside_hooks = hooks.has("prestart") or hooks.has("createRuntime")
    if outside_hooks or hooks.has("createContainer"):
        steps += [("enter_root", rootfs), *inside, ("leave_root",)]
        if outside_hooks:
            steps.append(("meet", "createRuntime"))
        steps += hooks.steps("createContainer")
        steps += pivot
    else:
        steps += [*pivot, *inside]
    for name, value in sorted(((config.get("linux") or {}).get("sysctl") or {}).items()):
        steps.append(("write", _sysctl(name, plan, config), value))
    cwd = (config.get("process") or {}).get("cwd") or "/"
    if make_cwd and cwd != "/":
        steps.append(("make_directory", cwd))
    steps += confine_steps(config)


_SYSCTLS = {
    "network": ("net.",),
    "ipc": (
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "fs.mqueue.",
    ),
    "uts": ("kernel.domainname", "kernel.hostname"),
    "user": ("user.",),
}
"""Which of them are a namespace's own; all others are the host's, and refused."""


def _sysctl(name: str, plan: Plan, config: dict[str, Any]) -> str:
    name = name.replace("/", ".") if "." not in name.partition("/")[0] else name
    where = f"linux.sysctl[{name!r}]"
    for kind, prefixes in _SYSCTLS.items():
        if any(name == each or (each[-1] == "." and name.startswith(each)) for each in prefixes):
            if kind not in namespaces_of(config):
                raise SpecError(f"{where}: needs a {kind} namespace, or it would be the host's")
            if ".." in name:
                raise SpecError(f"{where}: no such name")
            # "/" and "." change places, as in sysctl(8): an interface's name can have a dot.
            return "/proc/sys/" + name.translate({46: "/", 47: "."})
    raise SpecError(f"{where}: not of a namespace; it would change the host")


class _Hooks:
    """The hooks that the child executes itself (OCI config.md, "POSIX-platform Hooks")."""

    def __init__(self, hooks: dict[str, Any], state: tuple[str, str]) -> None:
        self._hooks = hooks
        self._state = state

    def has(self, kind: str) -> bool:
        return bool(self._hooks.get(kind))

    def steps(self, kind: str) -> list[Step]:
        return [
            (
                "hook",
                kind,
                hook["path"],
                tuple(hook.get("args") or (hook["path"],)),
                tuple(hook.get("env") or ()),
                hook.get("timeout") or 0,
                *self._state,
            )
            for hook in self._hooks.get(kind) or ()
        ]


def _finish(
    steps: list[Step],
    process: dict[str, Any],
    fds: Sequence[int],
    gate: list[Step],
    last: list[Step],
    die_with_parent: int,
) -> None:
    """The last steps, as the user that the process will be: its rights decide."""
    cwd, umask = process.get("cwd") or "/", (process.get("user") or {}).get("umask")
    if not cwd.startswith("/"):
        raise SpecError(f"process.cwd: {cwd!r} is not absolute")
    steps.append(("work_in", cwd) if cwd != "/" else ("chdir", "/"))
    steps.append(("umask", 0o022 if umask is None else umask))
    steps += gate
    if die_with_parent:
        steps.append(("die_with_parent", int(die_with_parent)))  # a change of ids clears it
    steps.append(("descriptors", tuple(fds)))
    steps += last


def exec_plan(
    config: dict[str, Any],
    process: dict[str, Any],
    pid: int,
    *,
    cgroup: Group | None = None,
    fds: Sequence[int] = (),
    filter_: tuple[bytes, int] | None = None,
    available: int = -1,
    rootless: bool = False,
    die_with_parent: int = 0,
    close_from: int = 0,
    terminal: int = -1,
    own_streams: bool = False,
) -> Plan:
    """A further process in the running container whose PID 1 is `pid` here and whose
    configuration is `config`. `process` has the shape of its `process`."""
    spaces = namespaces_of(config)
    execute = execute_step(process)
    plan = Plan(execute[2])
    if cgroup is not None:
        plan.outside += [
            ("write", f"{directory}/cgroup.procs", "0")
            for directory in (*((cgroup.into,) if cgroup.into else ()), *cgroup.join)
        ]
    if process.get("oomScoreAdj") is not None:
        plan.outside.append(("write", "/proc/self/oom_score_adj", str(process["oomScoreAdj"])))
    plan.outside.append(("join_process", pid, sum(NAMESPACES[kind] for kind in spaces)))
    steps = plan.steps
    steps.append(("setsid",))
    if close_from:
        steps.append(("close_on_exec", close_from, 0xFFFFFFFF, 4))
    if "user" in spaces:
        steps.append(("setids", 0, 0, None))
    steps += limit_steps(process)
    last = _streams(process, terminal, own_streams, steps, console=False)
    now, final = identity_steps(
        process,
        available=available if "user" not in spaces else -1,
        filter_=filter_,
        set_groups=not rootless,
        warnings=plan.warnings,
    )
    steps += now
    _finish(steps, process, fds, [], last + final, die_with_parent)
    steps.append(execute)
    return plan


def process_plan(
    process: dict[str, Any],
    *,
    before: Sequence[Step] = (),
    root: str | None = None,
    cgroup: Group | None = None,
    fds: Sequence[int] = (),
    restrict: bool = True,
    available: int = -1,
    die_with_parent: int = 0,
) -> Plan:
    """A plain process in the host's namespaces, with another root directory if `root` is given
    (chroot(2): no isolation), and `before` done before that. Without `restrict` its rights are the
    parent's."""
    execute = execute_step(process)
    plan = Plan(execute[2])
    plan.steps.append(("setsid",))
    _belong(plan, process, cgroup, {}, False)
    plan.steps += before
    if root is not None:
        plan.steps.append(("chroot", root))
    plan.steps += limit_steps(process)
    last: list[Step] = []
    if restrict:
        now, last = identity_steps(process, available=available, warnings=plan.warnings)
        plan.steps += now
    else:
        user = process.get("user") or {}
        groups = tuple(user.get("additionalGids") or ())
        plan.steps.append(("setids", user.get("uid", 0), user.get("gid", 0), groups))
    _finish(plan.steps, process, fds, [], last, die_with_parent)
    plan.steps.append(execute)
    return plan
