"""From an OCI configuration to what is done, by whom, in which order. Pure: nothing is touched.

`container_plan` is for a new container, `exec_plan` for a further process in one that runs, and
`process_plan` for a plain process without any isolation. All three give a `Plan`, which prints
(`runtime.engine.describe`), travels (`Plan.message`) and is carried out by `runtime.engine.launch`.
"""

from __future__ import annotations

from runtime.engine.constants import (
    CLONE_NEWNET,
    CLONE_NEWUSER,
    CLOSE_RANGE_CLOEXEC,
    PR_SET_DUMPABLE,
)
from runtime.engine.hooks import Hooks
from runtime.engine.namespaces import (
    MAPS,
    NAMESPACES,
    map_of,
    namespaces_of,
    sort_out,
    sysctl_path,
    without_groups,
)
from runtime.engine.process import (
    cpus,
    execute_step,
    identity_steps,
    label_steps,
    limit_steps,
)
from runtime.engine.rootfs import confine_steps, root_steps
from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    from runtime.engine.namespaces import Map
    from runtime.engine.rootfs import Overlay
    from runtime.engine.steps import Step

    class Group(Protocol):
        """What a plan needs of a cgroup: `runtime.cgroups.Cgroup` has it."""

        @property
        def into(self) -> str | None: ...
        @property
        def join(self) -> Sequence[str]: ...


__all__ = ["Plan", "container_plan", "exec_plan", "process_plan", "removal_plan"]

_LAST_FD = 0xFFFFFFFF


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
        self.maps: tuple[Any, ...] | None = None
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
    hook_states: Mapping[str, tuple[str, str]] | None = None,
    gate: int = -1,
    terminal: int = -1,
    own_streams: bool = False,
    init: int = -1,
    shield: int = -1,
) -> Plan:
    """A new container.

    `rootfs` is its root's absolute path on the host: a directory that holds the file system, or,
    with `overlay` (lower directories, lowest first; upper and work directory or None), the empty
    one where it is mounted. `fds` are the numbers inside of the descriptors that are passed on;
    `filter_` the compiled seccomp program and its flags (`runtime.security.seccomp`); `available`
    the mask of capabilities that the parent has. `make_cwd` makes a missing working directory;
    with `wait_for_start` the child meets its parent at "start" before it executes; `close_from`
    marks that descriptor and all above close-on-exec; `hook_states` is what hooks in the container
    get as standard input: by their kind, the text before and after the process id. After "start"
    the child waits at `gate`, a listening socket, for another process to let it go; `terminal` is
    a socket that it sends the master of a new terminal through; with `own_streams` its user
    becomes the owner of its standard streams; `init` is a program that becomes PID 1 and gets the
    process's arguments as its own; `shield` is `runtime.security.shield.shield_fd`, for a caller
    whose own program must not be seen in the container.

    Descriptors are numbers of the process that clones, or those that come with the plan after
    `fds`: -2 is the last, -3 the one before it.

    Raises SpecError with the place in the configuration."""
    process = config.get("process") or {}
    linux = config.get("linux") or {}
    spaces = _checked(config, linux)
    execute = execute_step(process)
    plan = Plan(execute[2])
    steps = plan.steps
    plan.clone, plan.outside, joins = sort_out(config, spaces)
    # What a new user namespace has no right to see or to mount, a stage prepares.
    by_stage = plan.clone & CLONE_NEWUSER != 0 and not rootless
    steps += [*joins, *_first(close_from)]
    if plan.clone & CLONE_NEWUSER:
        _map(plan, linux, rootless)
    _belong(plan, process, cgroup, spaces, by_stage or bool(plan.outside))
    _uts(config, spaces, steps)
    if loopback and plan.clone & CLONE_NEWNET:
        steps.append(("loopback_up",))
    if persona := linux.get("personality"):
        steps.append(("personality", _persona(persona)))
    before, label = label_steps(process)
    steps += before
    hooks = Hooks(config, hook_states or {})
    if spaces["mount"] is None:
        outside, root = root_steps(
            config,
            rootfs,
            overlay=overlay,
            maps=plan.maps[:2] if plan.maps else spaces.get("user"),
            by_stage=by_stage,
            rootless=rootless,
            no_pivot=no_pivot,
            hooks=hooks,
        )
        plan.outside += outside
        steps += [*root, *_confined(config, spaces, make_cwd)]
    steps.append(("mark", "mounts"))
    if spaces.get("pid", "host") is not None:
        steps.append(("prctl", PR_SET_DUMPABLE, 0))  # as in an exec: others can see this process
    last = _identity(
        plan,
        process,
        linux,
        label,
        (fds, terminal, own_streams, spaces["mount"] is None),
        filter_=filter_,
        available=-1 if "user" in spaces else available,
        rootless=rootless,
    )
    waits: list[Step] = []
    if wait_for_start or init != -1:
        # It can still be said why the program will not run.
        waits.append(("find_program", execute[1], execute[2][0]))
    if wait_for_start:
        waits.append(("meet", "start"))
    if gate != -1:
        waits.append(("wait_at", gate))
    waits += hooks.steps("startContainer")
    if init != -1:
        execute = ("execute_at", init, ("init", *execute[2]), execute[3])
    elif shield != -1:
        execute = _shielded(execute, shield, process)
    _finish(steps, process, fds, waits, last, die_with_parent)
    steps.append(execute)
    return plan


def _shielded(execute: Step, shield: int, process: dict[str, Any]) -> Step:
    """Through the shield, unless SELinux is to label the program: the label is for the very next
    exec, and such a policy keeps containers from writing to the host's programs anyway."""
    if process.get("selinuxLabel"):
        return execute
    return ("execute_shielded", shield, *execute[1:])


def _checked(config: dict[str, Any], linux: dict[str, Any]) -> dict[str, str | None]:
    """The namespaces, of a configuration that asks for nothing that cannot be."""
    for key in ("intelRdt", "memoryPolicy", "netDevices"):
        if linux.get(key):
            raise SpecError(f"linux.{key}: this runtime does not have it")
    spaces = namespaces_of(config)
    if "mount" not in spaces:
        raise SpecError(
            "linux.namespaces: a container needs a mount namespace, or its mounts were the host's"
        )
    return spaces


def _first(close_from: int) -> list[Step]:
    steps: list[Step] = [("setsid",)]
    if close_from:
        steps.append(("close_on_exec", close_from, _LAST_FD, CLOSE_RANGE_CLOEXEC))
    return steps


def _confined(config: dict[str, Any], spaces: dict[str, str | None], make_cwd: bool) -> list[Step]:
    """What comes between the mounts and their being read-only, and that."""
    steps: list[Step] = []
    for name, value in sorted(((config.get("linux") or {}).get("sysctl") or {}).items()):
        steps.append(("write", sysctl_path(name, spaces), value))
    cwd = config["process"].get("cwd") or "/"
    if make_cwd and cwd != "/":
        steps.append(("make_directory", cwd))
    return steps + confine_steps(config)


def _identity(
    plan: Plan,
    process: dict[str, Any],
    linux: dict[str, Any],
    label: list[Step],
    streams: tuple[Sequence[int], int, bool, bool],
    *,
    filter_: tuple[bytes, int] | None,
    available: int,
    rootless: bool,
) -> list[Step]:
    """Limits, standard streams and rights; returned is what has to come last."""
    plan.steps += limit_steps(process)
    _streams(process, *streams, plan.steps)
    now, last = identity_steps(
        process,
        available=available,
        filter_=filter_,
        set_groups=not without_groups(linux, rootless),
        warnings=plan.warnings,
    )
    plan.steps += label + now
    return last


def _persona(persona: dict[str, Any]) -> int:
    """OCI config-linux.md, "Personality": what uname(2) says, and no flags yet."""
    domain = persona.get("domain")
    if domain not in ("LINUX", "LINUX32"):
        raise SpecError(f"linux.personality.domain: {domain!r} is neither LINUX nor LINUX32")
    if persona.get("flags"):
        raise SpecError("linux.personality.flags: the specification has none yet")
    return 8 if domain == "LINUX32" else 0


def _streams(
    process: dict[str, Any],
    fds: Sequence[int],
    terminal: int,
    own: bool,
    console: bool,
    steps: list[Step],
) -> None:
    """The standard streams: a terminal of the process's own, or those that it is given."""
    uid = (process.get("user") or {}).get("uid", 0)
    if terminal != -1:
        size = process.get("consoleSize") or {}
        rows, columns = size.get("height", 0), size.get("width", 0)
        steps.append(("open_terminal", terminal, rows, columns, uid, console))
        # Now, not at the end: who reads the old ones waits for their end, while this process may
        # have to wait at a gate for the start.
        steps.append(("use_terminal",))
    elif own and uid:
        steps.append(("own_streams", uid, tuple(fds)))


_OWN_THREAD = "tasks"
"""The file by which a process of one thread enters a cgroup of v1. `cgroup.procs` moves a process
of many, for which the kernel keeps all others from forking and waits out an RCU grace period, ten
milliseconds long, first (kernel/cgroup/cgroup.c, cgroup_procs_write_start)."""


def _belong(
    plan: Plan,
    process: dict[str, Any],
    cgroup: Group | None,
    spaces: dict[str, str | None],
    by_stage: bool,
) -> None:
    """Cgroup and OOM score: first, so that nothing that follows is charged to another cgroup."""
    joins = cgroup.join if cgroup else ()
    own = [f"{directory}/{_OWN_THREAD}" for directory in joins]
    into = cgroup.into if cgroup else None
    scores = [] if process.get("oomScoreAdj") is None else [str(process["oomScoreAdj"])]
    if by_stage:
        # What the stage is in, the child is born in; later the stage sees other paths.
        own = [f"{into}/cgroup.procs", *own] if into else own
        first: list[Step] = [("write", path, "0") for path in own]
        first += [("write", "/proc/self/oom_score_adj", score) for score in scores]
        plan.outside[:0] = first
    elif plan.maps:
        # The child has no right to these files.
        plan.into = into or ""
        plan.writes += [(f"{directory}/cgroup.procs", "{pid}") for directory in joins]
        plan.writes += [("/proc/{pid}/oom_score_adj", score) for score in scores]
    else:
        plan.into = into or ""
        plan.steps += [("write", path, "0") for path in own]
        plan.steps += [("write", "/proc/self/oom_score_adj", score) for score in scores]
    if "cgroup" in spaces and spaces["cgroup"] is None:
        plan.steps.append(("unshare_cgroup",))


def _map(plan: Plan, linux: dict[str, Any], rootless: bool) -> None:
    """The maps of a new user namespace, and to become its root: nobody is mapped to the one that
    made it, and what such a one makes has no owner."""
    uids, gids = (map_of(linux.get(key), f"linux.{key}") for key in MAPS)
    plan.maps = (uids, gids, rootless)
    plan.steps += [("wait_for_parent",), ("setids", 0, 0, None)]


def _uts(config: dict[str, Any], spaces: dict[str, str | None], steps: list[Step]) -> None:
    for key, step in (("hostname", "sethostname"), ("domainname", "setdomainname")):
        if name := config.get(key):
            if "uts" not in spaces:
                raise SpecError(f"{key}: needs a uts namespace, or it would rename the host")
            steps.append((step, name))


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
    shield: int = -1,
) -> Plan:
    """A further process in the running container whose PID 1 is `pid` here and whose
    configuration is `config`. `process` has the shape of its `process`."""
    spaces = namespaces_of(config)
    execute = execute_step(process)
    plan = Plan(execute[2])
    if cgroup is not None:
        if cgroup.into:
            plan.outside.append(("write", f"{cgroup.into}/cgroup.procs", "0"))
        plan.outside += [("write", f"{directory}/{_OWN_THREAD}", "0") for directory in cgroup.join]
    if process.get("oomScoreAdj") is not None:
        plan.outside.append(("write", "/proc/self/oom_score_adj", str(process["oomScoreAdj"])))
    affinity = process.get("execCPUAffinity") or {}
    if affinity.get("initial"):
        numbers = cpus(affinity["initial"], "process.execCPUAffinity.initial")
        plan.outside.append(("sched_setaffinity", 0, numbers))
    before, label = label_steps(process)
    plan.outside += before
    plan.outside.append(("join_process", pid, sum(NAMESPACES[kind] for kind in spaces)))
    steps = plan.steps
    steps += _first(close_from)
    # Processes of the container see this one before it has executed its program: they shall not
    # reach the runtime's own through /proc/PID/exe (CVE-2019-5736).
    steps.append(("prctl", PR_SET_DUMPABLE, 0))
    if "user" in spaces:
        steps.append(("setids", 0, 0, None))
    last = _identity(
        plan,
        process,
        config.get("linux") or {},
        label,
        (fds, terminal, own_streams, False),
        filter_=filter_,
        available=-1 if "user" in spaces else available,
        rootless=rootless,
    )
    if affinity.get("final"):
        numbers = cpus(affinity["final"], "process.execCPUAffinity.final")
        steps.append(("sched_setaffinity", 0, numbers))
    _finish(steps, process, fds, [], last, die_with_parent)
    steps.append(_shielded(execute, shield, process) if shield != -1 else execute)
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


def removal_plan(path: str, uids: Map, gids: Map, *, rootless: bool) -> Plan:
    """Remove a directory whose content belongs to the users of a user namespace, which an
    ordinary user may not do from outside. It executes nothing."""
    plan = Plan(("remove", path))
    plan.clone = CLONE_NEWUSER
    plan.maps = (uids, gids, rootless)
    plan.steps += [("wait_for_parent",), ("setids", 0, 0, None), ("remove_tree", path)]
    return plan
