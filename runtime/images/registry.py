"""Pull from and push to a registry: skopeo does the talking, the store sees an OCI layout.

Before a pull the layout is given an empty file of the right length for each layer that the store
has already: skopeo takes a blob that is there for whole (containers/image, `TryReusingBlob` of the
oci: transport looks at its name alone) and fetches only the others; the store, which knows a layer
by its diff id, never reads it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import (
    ArchiveRefused,
    ImageNotInRegistry,
    RegistryDenied,
    RegistryError,
    SpecError,
    StoreFull,
)
from runtime.images.export import save
from runtime.images.image import Image
from runtime.images.load import find_images, take
from runtime.images.manifest import INDEXES, check_config, check_manifest, choose
from runtime.images.names import DIGEST, short_name, split_tag
from runtime.images.pins import Pin
from runtime.images.source import DirectorySource, blob_name

if TYPE_CHECKING:
    from runtime.images.store import ImageStore

__all__ = ["Access", "pull", "push"]

_ABSENT = ("manifest unknown", "name unknown", "not found", "repository name not known")
_DENIED = ("unauthorized", "authentication required", "denied", "forbidden")


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a registry."""

    tls_verify: bool = True
    """False also allows plain HTTP: for registries on this machine."""
    authfile: Path | None = None
    """Like ~/.docker/config.json; containers-auth.json(5)."""
    credentials: tuple[str, str] | None = None
    """User name and password, for this registry."""


def pull(store: ImageStore, pin: Pin, reference: str, name: str | None, access: Access) -> Image:
    """See `ImageStore.pull`."""
    repository, at, value = reference.partition("@")
    short = short_name(repository)
    if name is None and at:
        raise SpecError(f"{reference!r} has a digest and no tag: give the image a name")
    if at and not DIGEST.fullmatch(value):
        raise SpecError(f"{reference!r}: {value!r} is no sha256 digest")
    with store.files.temporary() as folder:
        skopeo = _Skopeo(access, reference, folder)
        layout = folder / "layout"
        exact = _prepare(store, pin, skopeo, reference, layout)
        skopeo.run("pull", ["copy", *skopeo.source, f"docker://{exact}", f"oci:{layout}:image"])
        source = DirectorySource(layout)
        source.where = reference
        (found,) = find_images(source)
        take(store, pin, source, found)
    return store.put(found.config, [name or short])


def push(store: ImageStore, image: Image, reference: str, access: Access) -> str:
    """See `ImageStore.push`."""
    short_name(reference)
    with store.pin(image, who=f"pushing {reference}"), store.files.temporary() as folder:
        skopeo = _Skopeo(access, reference, folder)
        layout, answer = folder / "layout", folder / "digest"
        save(store, [image], layout, "oci", "none")  # skopeo packs, and knows what is there
        options = [*skopeo.target, "--digestfile", str(answer)]
        skopeo.run("push", ["copy", *options, f"oci:{layout}", f"docker://{reference}"])
        return answer.read_text().strip()


def _prepare(store: ImageStore, pin: Pin, skopeo: _Skopeo, reference: str, layout: Path) -> str:
    """Stand-ins for the layers that are here; the reference by the digest that they belong to."""
    manifest = skopeo.json(["inspect", "--raw"], reference)
    repository = _repository(reference)
    if isinstance(manifest, dict) and manifest.get("mediaType") in INDEXES:
        chosen = choose(manifest.get("manifests") or [], reference, "(the index)")
        reference = f"{repository}@{chosen.get('digest')}"
        manifest = skopeo.json(["inspect", "--raw"], reference)
    check_manifest(manifest, reference, "(the manifest)")
    config = skopeo.json(["inspect", "--config", "--raw"], reference)
    diff_ids = check_config(config, reference, "(the configuration)")
    layers = manifest["layers"]
    if len(layers) != len(diff_ids):
        raise ArchiveRefused(reference, "(the manifest)", "has not one layer for each diff id")
    layout.mkdir()
    source = DirectorySource(layout)
    for diff_id, layer in zip(diff_ids, layers, strict=True):
        if store.shelf.hold(diff_id, pin):
            path = layout / blob_name(source, layer, "(the manifest)")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.truncate(path, int(layer.get("size") or 0))
    return reference


def _repository(reference: str) -> str:
    """The reference without tag and digest."""
    return split_tag(reference.partition("@")[0])[0]


class _Skopeo:
    """Calls skopeo about one image; what it answers, or a typed error with its words."""

    def __init__(self, access: Access, reference: str, folder: Path) -> None:
        program = shutil.which("skopeo")
        if program is None:
            raise RegistryError("reach", reference, "no skopeo on this host; install skopeo")
        # It dies with this process, wherever that is: its parent may be killed.
        self._command = ["setpriv", "--pdeathsig", "KILL", "--", program]
        self._reference = reference
        self._folder = folder
        authfile = access.authfile
        if access.credentials is not None:
            authfile = _auth_file(folder / "auth.json", reference, access.credentials)
        options = [] if authfile is None else [f"authfile={authfile}"]
        options += [] if access.tls_verify else ["tls-verify=false"]
        self._plain = [f"--{option}" for option in options]
        self.source = [f"--src-{option}" for option in options]
        self.target = [f"--dest-{option}" for option in options]

    def json(self, arguments: list[str], reference: str) -> Any:
        """What `skopeo inspect` says."""
        text = self.run("inspect", [*arguments, *self._plain, f"docker://{reference}"])
        try:
            return json.loads(text)
        except ValueError as error:
            raise RegistryError("inspect", reference, f"no JSON came: {error}") from error

    def run(self, tried: str, arguments: list[str]) -> str:
        """Its standard output."""
        done = subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode == 0:
            return done.stdout
        words = _last_words(done.stderr)
        lower = words.lower()
        kind = RegistryError
        if "no space left on device" in lower:
            raise StoreFull(f"cannot {tried} {self._reference}: {words}; the store is as before")
        if any(word in lower for word in _ABSENT):
            kind = ImageNotInRegistry
        elif any(word in lower for word in _DENIED):
            kind = RegistryDenied
        raise kind(tried, self._reference, words)


def _last_words(text: str) -> str:
    """The message in skopeo's log lines (logrus)."""
    messages = []
    for line in text.splitlines():
        if "level=fatal" in line:
            message = line.partition("msg=")[2]
            with suppress(ValueError):
                message = json.loads(message)
            messages.append(message)
    return " ".join(messages) or text.strip()[-2000:] or "it said nothing"


def _auth_file(path: Path, reference: str, credentials: tuple[str, str]) -> Path:
    """The credentials in a file: on a command line everybody on the host would see them."""
    host, slash, _ = reference.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host = "docker.io"
    token = base64.b64encode(":".join(credentials).encode()).decode()
    path.touch(mode=0o600)
    path.write_text(json.dumps({"auths": {host: {"auth": token}}}))
    return path
