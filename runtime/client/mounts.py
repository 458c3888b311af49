"""The volumes of a container as mounts: what its options and its image ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.client import values
from runtime.client.options import RunOptions
from runtime.errors import SpecError
from runtime.images.image import Image

if TYPE_CHECKING:
    from runtime.client.client import Client

__all__ = ["volume_mounts"]


def volume_mounts(
    client: Client, options: RunOptions, image: Image
) -> tuple[list[dict[str, Any]], list[str]]:
    """OCI mounts of all volumes, and the names of those made just for this container.

    A volume of a name is made if it is not there, and a new one begins with what the image has in
    its place. Raises SpecError for a directory of the host that is not there."""
    wanted = values.bind_mounts(options.volumes)
    taken = {target for _, target, _ in wanted} | set(options.tmpfs or {})
    wanted += [("", target, False) for target in image.volumes if target not in taken]
    mounts: list[dict[str, Any]] = []
    anonymous: list[str] = []
    for source, target, read_only in wanted:
        if source.startswith(("/", ".")):
            path = Path(source).absolute()
            if not path.exists():
                raise SpecError(f"volumes: {path} is not there; make it, or name a volume")
        else:
            volume = client.volumes.create(source or None)
            if not source:
                anonymous.append(volume.name)
            volume.fill(client.images.store.view(image), target)
            path = volume.path
        mounts.append(
            {
                "destination": target,
                "type": "bind",
                "source": str(path),
                "options": ["rbind", "rprivate", "ro" if read_only else "rw"],
            }
        )
    return mounts, anonymous
