"""`client.images`: docker-py's verbs over the image store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.images import Image, ImageStore

if TYPE_CHECKING:
    from runtime.client.client import Client
    from runtime.images.image import HistoryEntry

__all__ = ["ImageCollection"]


class ImageCollection:
    """The images of a client. `store` has all that docker-py has no word for."""

    def __init__(self, client: Client, store: ImageStore) -> None:
        self._client = client
        self.store = store

    def find(self, image: str | Image) -> Image:
        """The image of this name, made from its recipe if there is one and it is not stored."""
        return image if isinstance(image, Image) else self.store.ensure(image)

    def get(self, name: str) -> Image:
        """A stored image, by name or digest. Raises ImageNotFound with the choices."""
        return self.store.get(name)

    def list(self) -> Sequence[Image]:
        """All named images."""
        return self.store.list()

    def pull(self, repository: str, tag: str | None = None, **access: Any) -> Image:
        """Fetch an image from a registry; see `ImageStore.pull` for `access`."""
        return self.store.pull(f"{repository}:{tag}" if tag else repository, **access)

    def push(self, repository: str, tag: str | None = None, **access: Any) -> Any:
        """Send an image to the registry that its name begins with; see `ImageStore.push`."""
        name = f"{repository}:{tag}" if tag else repository
        return self.store.push(name, name, **access)

    def build(
        self,
        *,
        path: str | Path,
        tag: str,
        dockerfile: str | Path | None = None,
        buildargs: Mapping[str, str] | None = None,
        target: str | None = None,
        **options: Any,
    ) -> Image:
        """Build an image from a directory with a Dockerfile; see `ImageStore.build`."""
        from runtime.build_runner import ContainerRunner
        from runtime.spawn import Spawner

        with Spawner() as spawner:
            return self.store.build(
                Path(path),
                ContainerRunner(spawner),
                tag,
                dockerfile=Path(dockerfile) if dockerfile else None,
                args=buildargs or {},
                target=target,
                **options,
            )

    def load(self, source: str | Path) -> Sequence[Image]:
        """The images of an archive or an OCI layout."""
        return self.store.load(Path(source))

    def save(self, name: str, target: str | Path) -> None:
        """Write an image as an archive that `docker load` takes."""
        self.store.save([name], Path(target))

    def history(self, name: str) -> Sequence[HistoryEntry]:
        """How an image came to be."""
        return self.store.history(name)

    def remove(self, name: str, *, force: bool = False) -> Any:
        """Take a name away, and with an image's last name what nobody else needs of it. Without
        `force`, not while a container is made from it: raises ImageInUse."""
        if not force:
            self._check_unused(self.store.get(name))
        return self.store.remove(name)

    def prune(self) -> Any:
        """Remove what no name, container or process needs."""
        return self.store.prune()

    def _check_unused(self, image: Image) -> None:
        from runtime.errors import ImageInUse

        users = [
            each.name
            for each in self._client.containers.list(all=True)
            if each.attrs["image_digest"] == image.digest
        ]
        if users:
            raise ImageInUse(image.name, users)
