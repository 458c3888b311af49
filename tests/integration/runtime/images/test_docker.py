"""Archives exchanged with Docker: a daemon of our own, without network, on its own socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import ImageStore
from runtime.images.export import Format

pytestmark = pytest.mark.root


@pytest.fixture
def docker(folder: Path) -> Iterator[list[str]]:
    """The command line of a client of a running daemon."""
    for program in ("docker", "dockerd", "containerd"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (Debian's docker.io)")
    short = Path(tempfile.mkdtemp(prefix="isolation-lab-docker-"))  # sockets have short paths
    socket = f"unix://{short}/docker.sock"
    process = subprocess.Popen(
        ["dockerd", "--data-root", str(folder / "docker"), "--exec-root", str(short / "exec"),
         "--pidfile", str(short / "pid"), "--host", socket, "--iptables=false",
         "--ip6tables=false", "--bridge=none"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "DOCKER_RAMDISK": "1"},
    )  # fmt: skip
    ready = threading.Event()
    lines: list[str] = []

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "API listen on" in line:
                ready.set()
        ready.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        assert ready.wait(60), "dockerd does not come up"
        if process.poll() is not None:
            pytest.skip(f"dockerd does not run here: {''.join(lines[-3:])}")
        yield ["docker", "--host", socket]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        thread.join(10)
        assert process.stdout is not None
        process.stdout.close()
        shutil.rmtree(short)


def test_docker_loads_what_is_saved_and_saves_what_loads(
    images: ImageStore, folder: Path, docker: list[str]
) -> None:
    base = images.ensure("busybox")
    upper = folder / "upper"
    (upper / "etc").mkdir(parents=True)
    os.mknod(upper / "etc/group", 0o020000, 0)
    (upper / "file").write_bytes(b"x" + bytes(1 << 20))
    os.link(upper / "file", upper / "same")
    os.setxattr(upper / "file", "user.note", b"kept")
    image = images.commit(upper, base, "app:1", config={"Cmd": ["/bin/true"]})
    formats: list[Format] = ["docker", "docker-legacy"]
    for format in formats:
        saved, back = folder / f"{format}.tar", folder / f"{format}-back.tar"
        images.save(["app:1"], saved, format=format)
        subprocess.run([*docker, "load", "--input", str(saved)], check=True, capture_output=True)
        said = subprocess.run(
            [*docker, "image", "inspect", "--format", "{{.Id}} {{.RepoTags}}", "app:1"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        assert said.split() == [image.digest, "[app:1]"]
        subprocess.run([*docker, "save", "--output", str(back), "app:1"], check=True)
        other = ImageStore(folder / f"{format}-store")
        (loaded,) = other.load(back)
        assert (loaded.name, loaded.digest) == ("app:1", image.digest)
        subprocess.run([*docker, "image", "rm", "app:1"], check=True, capture_output=True)
