"""`exec`: a further process in a container that runs."""

from __future__ import annotations

import os

from runtime.capabilities import permitted
from runtime.engine.plan import exec_plan
from runtime.engine.report import begin
from runtime.errors import StateError, UsageError
from runtime.oci.foreground import Signals, wait
from runtime.oci.group import group_of
from runtime.oci.launch import Console, default_signals, passed_on, seccomp, write_pid_file
from runtime.oci.options import FLAG, LIST, NUMBER, TEXT, Option, Parsed
from runtime.oci.state import Container
from runtime.security.shield import shield_fd

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.engine.plan import Group
    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main"]

OPTIONS: tuple[Option, ...] = (
    ("process", "p", TEXT, "file with the config's `process` object; the options below are then"),
    ("cwd", "", TEXT, "working directory"),
    ("env", "e", LIST, "NAME=value, can be repeated"),
    ("tty", "t", FLAG, "allocate a terminal"),
    ("user", "u", TEXT, "UID[:GID]"),
    ("additional-gids", "g", LIST, "further group, can be repeated"),
    ("cap", "c", LIST, "capability to add, can be repeated"),
    ("no-new-privs", "", FLAG, "no exec gives more rights"),
    ("process-label", "", TEXT, "SELinux label"),
    ("apparmor", "", TEXT, "AppArmor profile"),
    ("detach", "d", FLAG, "return when the program runs"),
    ("console-socket", "", TEXT, "socket to send the terminal's master through"),
    ("pid-file", "", TEXT, "file to write the process id to"),
    ("preserve-fds", "", NUMBER, "so many descriptors after 2 are passed on"),
    ("cgroup", "", LIST, "cgroup below the container's to run in"),
    ("ignore-paused", "", FLAG, "even if the container is paused"),
)
USAGE = "CONTAINER-ID [COMMAND [ARGUMENT...]]"
ARGUMENTS = (1, None)


def main(context: Context, options: Parsed) -> int:
    """The program's exit status, 128+n after signal n; with --detach, 0. What goes wrong before
    is status 255, since all others can be the program's."""
    container = Container.find(context.root, options.rest[0])
    status = container.status()
    if status not in ("created", "running", "paused"):
        raise StateError(f"cannot exec in container {container.id!r}: it is {status}, not running")
    if status == "paused" and not options["ignore-paused"]:
        raise StateError(f"cannot exec in container {container.id!r}: it is paused")
    config = container.config()
    process = _process(options, config)
    first, more_env = passed_on(options)
    process["env"] = [*process.get("env", ()), *more_env]
    console = Console(process.get("terminal", False), options["console-socket"], options["detach"])
    try:
        signals = None if options["detach"] else Signals()
        pid = _start(context, options, container, config, process, first, console)
        return 0 if signals is None else wait(pid, console, signals)
    finally:
        console.close()


def _start(
    context: Context,
    options: Parsed,
    container: Container,
    config: dict[str, Any],
    process: dict[str, Any],
    first: int,
    console: Console,
) -> int:
    plan = exec_plan(
        config,
        process,
        container.pid,
        cgroup=_cgroup(options, container),
        filter_=seccomp(config, context.log),
        available=permitted(),
        rootless=os.geteuid() != 0,
        close_from=first,
        terminal=console.fd,
        own_streams=True,
        shield=shield_fd(),
    )
    for warning in plan.warnings:
        context.log.warning(warning)
    default_signals()
    launch = begin(plan)
    launch.until(None)
    assert launch.pid is not None
    if options["pid-file"]:
        write_pid_file(os.path.abspath(options["pid-file"]), launch.pid)
    return launch.pid


def _cgroup(options: Parsed, container: Container) -> Group | None:
    group = group_of(container)
    if group is None or not options["cgroup"]:
        return group
    from runtime.oci.group import below

    return below(group, options["cgroup"])


def _process(options: Parsed, config: dict[str, Any]) -> dict[str, Any]:
    """What to run: from a file, or the container's own with what the options change."""
    if options["process"]:
        from runtime.oci.config.load import load_process

        given = load_process(options["process"])
        given["terminal"] = given.get("terminal", False) or options["tty"]
        return given
    if len(options.rest) < 2:
        raise UsageError("exec: give a command, or --process with a file")
    process: dict[str, Any] = config["process"]
    process["args"] = options.rest[1:]
    process["terminal"] = options["tty"]
    process["env"] = [*process.get("env", ()), *options["env"]]
    process["cwd"] = options["cwd"] or process["cwd"]
    for option, key in (("process-label", "selinuxLabel"), ("apparmor", "apparmorProfile")):
        if options[option]:
            process[key] = options[option]
    if "no-new-privs" in options.given:
        process["noNewPrivileges"] = options["no-new-privs"]
    _identity(options, process)
    return process


def _identity(options: Parsed, process: dict[str, Any]) -> None:
    user = process.setdefault("user", {"uid": 0, "gid": 0})
    if options["user"]:
        uid, _, gid = options["user"].partition(":")
        user["uid"] = _number("user", uid)
        if gid:
            user["gid"] = _number("user", gid)
    if options["additional-gids"]:
        more = [_number("additional-gids", one) for one in options["additional-gids"]]
        user["additionalGids"] = [*user.get("additionalGids", ()), *more]
    if options["cap"]:
        sets = process.setdefault("capabilities", {})
        kinds = ["bounding", "effective", "permitted"]
        # Ambient ones need the inheritable, which are not ours to add.
        kinds += ["ambient"] if sets.get("inheritable") else []
        for kind in kinds:
            sets[kind] = [*sets.get(kind, ()), *options["cap"]]


def _number(option: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"exec: --{option}: {text!r} is no number; names are for the engine")
    return int(text)
