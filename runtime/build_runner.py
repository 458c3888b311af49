"""Runs the commands of a build in containers: what connects images to the rest of the runtime."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.cgroups import Cgroup
from runtime.container import Container
from runtime.images.merged import MergedView
from runtime.images.runner import RunStep
from runtime.images.whiteouts import OverlayForm
from runtime.namespaces import Namespace
from runtime.spawn import Spawner
from runtime.spec import ContainerSpec

__all__ = ["ContainerRunner"]


class ContainerRunner:
    """A `runtime.images.runner.Runner`: each step is a container of its own, in a cgroup below
    `parent` if there is one, with what Docker's builder allows: set-user-ID programs work, the
    network is off unless it is the host's."""

    def __init__(self, spawner: Spawner, parent: Cgroup | None = None) -> None:
        self._spawner = spawner
        self._parent = parent

    def __call__(self, step: RunStep, /) -> int:
        """See `Runner`."""
        layers, namespaces = step.layers, Namespace.CONTAINER
        if os.geteuid():
            namespaces |= Namespace.USER  # an ordinary user is root in there
        if step.network == "host":
            namespaces &= ~Namespace.NET
            layers = (*layers, _resolver(step))
        spec = ContainerSpec(
            name=step.name,
            layers=layers,
            argv=step.argv,
            state_dir=Path(f"{step.upper}.state"),
            env=step.env,
            cwd=step.cwd,
            uid=step.uid,
            gid=step.gid,
            groups=step.groups,
            fds={1: step.output, 2: step.output},
            namespaces=namespaces,
            loopback=bool(namespaces & Namespace.NET),
            no_new_privs=False,
        )
        with Container.launch(spec, self._spawner, parent=self._parent) as container:
            status = container.process.started().wait()
            container.upper_dir.rename(step.upper)  # the rest of its state goes with it
        return status


def _resolver(step: RunStep) -> Path:
    """One more layer, with the host's files for looking up names: on the host's network they are
    the ones that work, and so they do not become part of the image."""
    layer = Path(f"{step.upper}.resolver")
    etc = layer / "etc"
    etc.mkdir(parents=True)
    below = MergedView(step.layers, OverlayForm()).look("etc")
    if below is not None and below.is_directory:
        if not os.geteuid():
            os.chown(etc, below.info.st_uid, below.info.st_gid)
        etc.chmod(below.info.st_mode & 0o7777)
    for name in ("resolv.conf", "hosts"):
        (etc / name).write_bytes(Path("/etc", name).read_bytes())
    return layer
