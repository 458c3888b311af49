"""The making of a container, from its bundle to a process that waits or runs, and the way back
from wherever it fails."""

from __future__ import annotations

import os
import time
from _signal import SIGKILL  # type: ignore[import-not-found]  # the Python half brings enum

from runtime.capabilities import permitted
from runtime.engine.plan import container_plan
from runtime.engine.report import begin
from runtime.errors import ContainerError, HookFailed
from runtime.oci.config.load import load
from runtime.oci.launch import Console, default_signals, passed_on, seccomp, write_pid_file
from runtime.oci.lightjson import dumps
from runtime.oci.paths import absolute
from runtime.oci.state import Container, started_at
from runtime.security.shield import shield_fd

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.cgroups import Cgroup
    from runtime.engine.report import Report
    from runtime.oci.main import Context
    from runtime.oci.options import Parsed

__all__ = ["Creation"]


class Creation:
    """One container in the making. Left as a context by an exception, it takes everything back;
    what follows is then as if it had never been tried (runtime.md, "Errors")."""

    def __init__(self, context: Context, options: Parsed, *, detach: bool) -> None:
        self._context = context
        self._pid_file = absolute(options["pid-file"]) if options["pid-file"] else ""
        socket_path = options["console-socket"]
        if socket_path:
            socket_path = absolute(socket_path)
        self._bundle = absolute(options["bundle"] or ".")
        self._no_pivot: bool = options["no-pivot"]
        self.config = load(self._bundle)
        process = self.config["process"]
        self._close_from, self._more_env = passed_on(options)
        os.chdir(self._bundle)  # sources of mounts, and hooks, are relative to it
        self.console = Console(process.get("terminal", False), socket_path, detach)
        self.container = Container.make(context.root, options.rest[0])
        self._group: Cgroup | None = None
        self.launch: Report | None = None

    def __enter__(self) -> Creation:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._undo()
        self.console.close()
        self.container.unlock()

    def begin(self, *, gate: bool) -> None:
        """Up to the clone. What the caller does between this and `finish` it does while the new
        process mounts."""
        container = self.container
        container.record = self._record()
        config = self._make_group()
        gate_fd = -1
        if gate:
            from runtime.oci.gate import make_gate

            gate_fd = make_gate(container)
        process = config["process"]
        plan = container_plan(
            {**config, "process": {**process, "env": [*process.get("env", ()), *self._more_env]}},
            container.record["rootfs"],
            cgroup=self._group,
            filter_=seccomp(config, self._context.log),
            available=permitted(),
            rootless=os.geteuid() != 0,
            no_pivot=self._no_pivot,
            make_cwd=True,
            wait_for_start=True,
            close_from=self._close_from,
            hook_states=self._hook_states(),
            gate=gate_fd,
            terminal=self.console.fd,
            own_streams=True,
            shield=shield_fd(),
        )
        for warning in plan.warnings:
            self._context.log.warning(warning)
        default_signals()
        self.launch = begin(plan)

    def finish(self) -> None:
        """Until the process is ready, and has been let go: to its gate, or to its program. All is
        written down that others may want to know. Raises what the process reports."""
        container, launch = self.container, self.launch
        assert launch is not None
        container.write("config.json", dumps(self.config).encode())  # as it is now, for exec
        while launch.pid is None and launch.open:
            launch.receive()
        if launch.pid is not None:
            container.record["pid"] = launch.pid
            container.record["started"] = started_at(launch.pid)
        container.save()
        self._run_hooks(launch)
        launch.until("start")
        launch.go()  # what follows needs no waiting for
        if self._group is not None:
            self._group.settle()
            container.record["cgroup"] = self._group.record()
        container.record["creating"] = False
        container.save()
        if self._pid_file:
            write_pid_file(self._pid_file, container.pid)

    def _run_hooks(self, launch: Report) -> None:
        """Those of the runtime's namespaces, while the process waits before its pivot."""
        hooks = self.config.get("hooks", {})
        early = [(kind, hooks[kind]) for kind in ("prestart", "createRuntime") if hooks.get(kind)]
        if not early:
            return
        from runtime.oci.hooks import run_hooks

        launch.until("createRuntime")
        state = self.container.state("creating")
        for kind, some in early:
            run_hooks(kind, some, state)
        launch.go()

    def _record(self) -> dict[str, Any]:
        config = self.config
        hooks = config.get("hooks", {})
        kinds = {space["type"] for space in config["linux"].get("namespaces", ())}
        now = time.time_ns()
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        return {
            "pid": 0,
            "started": 0,
            "creating": True,
            "bundle": self._bundle,
            "rootfs": config["root"]["path"],
            "program": config["process"]["args"][0],
            "created": f"{seconds}.{now % 10**9:09}Z",
            "annotations": config.get("annotations", {}),
            "hooks": {kind: hooks[kind] for kind in ("poststart", "poststop") if hooks.get(kind)},
            "cgroup": None,
            "shared_pids": "pid" not in kinds,
        }

    def _hook_states(self) -> dict[str, tuple[str, str]]:
        """The states that hooks in the container get, before and after the process id, which only
        they know: it is that of their own namespace (runtime.md, "State")."""
        if not self.config.get("hooks"):
            return {}
        states = {}
        for kind, status in (("createContainer", "creating"), ("startContainer", "created")):
            before, _, after = dumps(self.container.state(status)).partition('"pid": 0')
            states[kind] = (f'{before}"pid": ', after)
        return states

    def _make_group(self) -> dict[str, Any]:
        """Make the cgroup; the config as it is to be carried out, with its cgroup mounts in it."""
        from runtime.cgroups import CgroupLayout
        from runtime.oci.cgroupmount import expanded

        layout = CgroupLayout.detect()
        if self._context.cgroup_manager != "disabled":
            from runtime.oci.group import make_group

            self._group = make_group(self._context, layout, self.config, self.container.id)
        if self._group is not None:
            self.container.record["cgroup"] = self._group.record()
        return expanded(self.config, layout, self._group)

    def _undo(self) -> None:
        """Take back, last first, and run the poststop hooks if any hook could have run."""
        from runtime.oci.destroy import destroy

        log = self._context.log
        if self.launch is not None:
            _end(self.launch)
        try:
            if self.container.record:
                destroy(self.container, log, force=True)
            else:
                self.container.remove()
        except (ContainerError, HookFailed, OSError) as error:
            log.warning(f"after the failure: {error}")


def _end(launch: Report) -> None:
    """Kill a process that is still in its set-up, and reap it, unless that was done."""
    launch.close()
    if launch.pid is None:
        return
    try:
        if os.waitpid(launch.pid, os.WNOHANG) == (0, 0):  # ours, so the number is still its own
            os.kill(launch.pid, SIGKILL)
            os.waitpid(launch.pid, 0)
    except ChildProcessError:
        return
