"""The client: containers, images, volumes and networks of one root directory.

There is no daemon. A container is its record on disk and the monitor that stays with it, so any
number of clients, in any number of processes, see the same containers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.client.containers import ContainerCollection
from runtime.client.images import ImageCollection
from runtime.client.networks import NetworkCollection
from runtime.client.ociruntime import OciRuntime, own_command
from runtime.client.record import Records
from runtime.client.volumes import VolumeCollection
from runtime.images import ImageStore

__all__ = ["Client", "default_root"]


def default_root() -> Path:
    """`/var/lib/isolation-lab` as root, else `$XDG_DATA_HOME/isolation-lab`."""
    if os.geteuid() == 0:
        return Path("/var/lib/isolation-lab")
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "isolation-lab"


class Client:
    """The words of docker-py: ``Client().containers.run("debian", ["uname", "-r"])``.

    `root` is where containers, volumes and networks are kept, `images` the image store (below the
    root if not given). `runtime` is the OCI runtime's command; the lab's own if not given, and
    ``runc`` or ``crun`` do as well. Opening one makes nothing on disk but the image store.
    """

    def __init__(
        self,
        root: Path | str | None = None,
        *,
        images: Path | str | None = None,
        runtime: str | Sequence[str] | None = None,
    ) -> None:
        self.root = Path(root).absolute() if root is not None else default_root()
        command = (runtime,) if isinstance(runtime, str) else tuple(runtime or own_command())
        self.runtime = OciRuntime(command, self.root / "oci")
        self.records = Records(self.root)
        self.images = ImageCollection(self, ImageStore(Path(images or self.root / "images")))
        self.containers = ContainerCollection(self)
        self.volumes = VolumeCollection(self)
        self.networks = NetworkCollection(self)

    def __repr__(self) -> str:
        return f"<Client {self.root}>"

    def df(self) -> dict[str, Any]:
        """Bytes on disk: of each image's layers, shared ones once; of what each container has
        written; of each volume."""
        from runtime.images.files import tree_size

        layers = {layer for image in self.images.list() for layer in image.layers}
        return {
            "layers": sum(tree_size(layer) for layer in layers),
            "containers": {
                record.description()["name"]: tree_size(record.upper)
                for record in self.records.all()
            },
            "volumes": {volume.name: tree_size(volume.path) for volume in self.volumes.list()},
        }

    def version(self) -> str:
        """What the OCI runtime says of itself."""
        return self.runtime.call("--version").strip()

    def close(self) -> None:
        """Nothing is held: containers that run go on."""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
