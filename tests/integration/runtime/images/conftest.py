"""Stores on a disk, and a real registry on the loopback interface."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runtime import Image, ImageStore
from tests.tars import Member, make_tar

_CONFIG = """
version: 0.1
log: {{level: info, accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
{auth}
"""


@pytest.fixture
def images(folder: Path) -> ImageStore:
    return ImageStore(folder / "images")


@pytest.fixture
def make_image(images: ImageStore, folder: Path) -> Callable[..., Image]:
    def make(name: str, *layers: list[Member]) -> Image:
        paths = []
        for number, members in enumerate(layers):
            paths.append(make_tar(folder / f"{name.replace('/', '-')}{number}.tar", *members))
        return images.add(name, paths, env={"PATH": "/bin"})

    return make


@dataclass
class Registry:
    """A running docker-registry."""

    address: str
    """host:port, plain HTTP."""
    lines: list[str] = field(default_factory=list)
    """Its log."""

    def fetched(self) -> list[str]:
        """Digests of the blobs that were asked for."""
        return [
            word.rpartition("/")[2].strip('"')
            for line in self.lines
            if '"GET /v2/' in line and "/blobs/" in line
            for word in line.split()
            if "/blobs/sha256:" in word and word.startswith("/v2/")
        ]


@pytest.fixture
def start_registry(folder: Path) -> Iterator[Callable[..., Registry]]:
    if shutil.which("docker-registry") is None:
        pytest.skip("needs docker-registry (Debian's package of that name)")
    running: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def start(htpasswd: Path | None = None) -> Registry:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        auth = f"auth: {{htpasswd: {{realm: test, path: {htpasswd}}}}}" if htpasswd else ""
        config = folder / f"registry{port}.yml"
        config.write_text(_CONFIG.format(data=folder / f"registry{port}", port=port, auth=auth))
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
        registry = Registry(f"127.0.0.1:{port}")
        ready = threading.Event()

        def listen() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                registry.lines.append(line)
                if "listening on" in line:
                    ready.set()
            ready.set()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        running.append((process, thread))
        assert ready.wait(30), "the registry does not come up"
        assert process.poll() is None, "".join(registry.lines)
        return registry

    yield start
    for process, thread in running:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        thread.join(10)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def registry(start_registry: Callable[..., Registry]) -> Registry:
    return start_registry()
