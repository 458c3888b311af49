"""The C floor makes the same container."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import Cgroup, Container, ContainerSpec, Limits, Spawner
from runtime.floor import Floor, build

pytestmark = pytest.mark.root

SCRIPT = (
    "cut -d' ' -f5- /proc/self/mountinfo | sed 's/lowerdir.*//';"
    "grep -E 'Cap|NoNew|Sig|Groups' /proc/self/status; ls -l /dev | cut -c1-11; hostname; pwd;"
    "cat /proc/self/cgroup; ls /proc/self/fd; umask; id"
)


def outputs(container: Container, read: int) -> str:
    with container, os.fdopen(read) as lines:
        assert container.wait(30) == 0
        return lines.read()


def test_the_floors_container_looks_like_ours(
    spawner: Spawner, group: Cgroup, make_spec: Callable[..., ContainerSpec], tmp_path: Path
) -> None:
    binary = build(tmp_path)
    assert build(tmp_path) == binary
    seen = []
    with Floor(binary) as floor:
        for launch in (
            lambda spec: Container.launch(spec, spawner, parent=group),
            lambda spec: floor.launch(spec, group),
        ):
            read, write = os.pipe()
            spec = make_spec(
                *("sh", "-c", f"exec >&3; {SCRIPT}"),
                name="same",
                fds={3: write},
                limits=Limits(1.0, 2**27, 64),
            )
            container = launch(spec)
            os.close(write)
            seen.append(outputs(container, read))
            assert not spec.state_dir.exists()
    assert len(seen[0].splitlines()) > 40
    assert seen[0] == seen[1]
