"""Names of images: which there are, in short, and as file names.

The grammar is the registries' (distribution, reference package): [domain/]path[:tag]. As Docker
shows them, "docker.io/library/debian:latest" is "debian": what a reader would leave out is left
out, so that one image has one name.
"""

from __future__ import annotations

import re

from runtime.errors import SpecError

__all__ = ["DIGEST", "file_name", "from_file_name", "full_name", "short_name", "split_tag"]

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = rf"(?:localhost|{_LABEL}(?:\.{_LABEL})+|{_LABEL}(?=:))(?::[0-9]{{1,5}})?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
)
_MAX = 200
"""Bytes, encoded: names are files."""


def short_name(name: str) -> str:
    """The name that an image goes by in the store. Raises SpecError for what is no name."""
    if not _NAME.fullmatch(name) or DIGEST.fullmatch(name) or len(file_name(name)) > _MAX:
        raise SpecError(
            f"image name {name!r}: must be like debian, my-image:1 or registry.example:5000/a/b:1, "
            f"of at most {_MAX} characters"
        )
    for host in ("docker.io/", "index.docker.io/"):
        name = name.removeprefix(host)
    name = name.removeprefix("library/")
    repository, tag = split_tag(name)
    return repository if tag == "latest" else name


def full_name(name: str) -> str:
    """The name with its tag, as `docker save` wants it."""
    return name if split_tag(name)[1] else f"{name}:latest"


def split_tag(name: str) -> tuple[str, str | None]:
    """Repository and tag; a colon before the last slash is a port's."""
    head, colon, tail = name.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (name, None)


def file_name(name: str) -> str:
    """A name as a file name: no grammar has a "%"."""
    return name.replace("/", "%2F")


def from_file_name(name: str) -> str:
    """The reverse of `file_name`."""
    return name.replace("%2F", "/")
