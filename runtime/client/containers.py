"""`client.containers`: create, run, get, list, prune."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runtime.client.bundle import Surroundings, argv_of, oci_config
from runtime.client.container import Container
from runtime.client.errors import CommandFailed
from runtime.client.mounts import volume_mounts
from runtime.client.network import network_description
from runtime.client.options import RunOptions
from runtime.errors import SpecError
from runtime.images.image import Image
from runtime.images.users import User, find_user

if TYPE_CHECKING:
    from runtime.client.client import Client

__all__ = ["ContainerCollection"]


class ContainerCollection:
    """The containers of a client's root directory."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self, image: str | Image, command: str | Sequence[str] | None = None, **keywords: Any
    ) -> Container:
        """A container that has not been started. The keywords are docker-py's; `RunOptions` lists
        them.

        Raises SpecError that names the keyword, ImageNotFound, NameTaken; then nothing is left."""
        options = RunOptions.parse(keywords)
        found = self._client.images.find(image)
        argv = argv_of(options, found, command)
        user = self.find_user(found, str(options.user) if options.user is not None else found.user)
        mounts, anonymous = volume_mounts(self._client, options, found)
        with self._client.records.draft(options.name) as draft:
            record = draft.record
            config = oci_config(
                options,
                found,
                argv,
                Surroundings(
                    container_id=record.id,
                    rootfs=record.bundle / "rootfs",
                    cgroup=f"{options.cgroup_parent or 'isolation-lab'}/{record.id}",
                    user=user,
                    mounts=mounts,
                ),
            )
            draft.write(
                {
                    "image": found.name,
                    "image_digest": found.digest,
                    "layers": [str(layer) for layer in found.layers],
                    "labels": _labels(options),
                    "config": config,
                    "network": network_description(options, draft.name),
                    "stdin_open": options.stdin_open or options.tty,
                    "auto_remove": options.auto_remove,
                    "stop_signal": str(options.stop_signal or found.stop_signal or "SIGTERM"),
                    "anonymous_volumes": anonymous,
                    "runtime": list(self._client.runtime.command),
                    "runtime_root": str(self._client.runtime.root),
                    "root": str(self._client.root),
                }
            )
        return Container(self._client, record)

    def run(
        self,
        image: str | Image,
        command: str | Sequence[str] | None = None,
        *,
        detach: bool = False,
        remove: bool = False,
        stdout: bool = True,
        stderr: bool = False,
        **keywords: Any,
    ) -> Any:
        """Run a container to its end and return what it wrote, as bytes; with `detach`, return the
        running Container.

        Raises CommandFailed, with its output, for an exit status other than 0, and what `create`
        raises."""
        auto_remove = bool(keywords.pop("auto_remove", False))
        keywords["auto_remove"] = detach and (remove or auto_remove)
        container = self.create(image, command, **keywords)
        try:
            container.start()
        except BaseException:
            container.remove(force=True)
            raise
        if detach:
            return container
        try:
            status = container.wait()
            output = container.logs(stdout=stdout, stderr=stderr)
            if status:
                raise CommandFailed(
                    container.name,
                    container.record.description()["config"]["process"]["args"],
                    status,
                    bytes(container.logs(stdout=False)),  # type: ignore[arg-type]
                    oom_killed=container.state.oom_killed,
                )
            return output
        finally:
            if remove or auto_remove:
                container.remove(force=True, v=True)
            elif container.state.status == "running":  # Ctrl-C while it ran
                container.stop()

    def get(self, name: str) -> Container:
        """By name, id, or the beginning of one. Raises ContainerNotFound with the choices."""
        return Container(self._client, self._client.records.find(name))

    def list(
        self, *, all: bool = False, filters: dict[str, Any] | None = None
    ) -> Sequence[Container]:
        """Those that run, or all; `filters` by ``name``, ``status``, ``label``, ``ancestor``."""
        wanted = dict(filters or {})
        if unknown := wanted.keys() - {"name", "status", "label", "ancestor"}:
            raise SpecError(
                f"filters: {', '.join(sorted(unknown))}: choices: ancestor, label, name, status"
            )
        found = [Container(self._client, record) for record in self._client.records.all()]
        if not all and "status" not in wanted:
            found = [each for each in found if each.state.status == "running"]
        return [each for each in found if _matches(each, wanted)]

    def prune(self) -> Sequence[str]:
        """Remove all that do not run; their ids."""
        gone = [each for each in self.list(all=True) if each.state.status != "running"]
        for container in gone:
            container.remove()
        return [container.id for container in gone]

    def find_user(self, image: Image, text: str) -> User:
        """A user of an image, by name or number. Raises SpecError."""
        return find_user(self._client.images.store.view(image), text)


def _labels(options: RunOptions) -> dict[str, str]:
    if options.labels is None:
        return {}
    if isinstance(options.labels, dict):
        return {str(key): str(value) for key, value in options.labels.items()}
    return {key: value for key, _, value in (str(one).partition("=") for one in options.labels)}


def _matches(container: Container, wanted: dict[str, Any]) -> bool:
    if "name" in wanted and wanted["name"] not in container.name:
        return False
    if "status" in wanted and container.status != wanted["status"]:
        return False
    if "ancestor" in wanted and wanted["ancestor"] not in (
        container.attrs["image"],
        container.attrs["image_digest"],
    ):
        return False
    if "label" in wanted:
        labels = wanted["label"] if isinstance(wanted["label"], list) else [wanted["label"]]
        for one in labels:
            key, equals, value = one.partition("=")
            if key not in container.labels or (equals and container.labels[key] != value):
                return False
    return True
