"""Images that can be made on the spot, from what the host's distribution has."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import RecipeFailed

__all__ = ["PATH", "RECIPES", "Recipe", "busybox_members"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make an image of one layer."""

    name: str
    summary: str
    build: Callable[[Path], None]
    """Writes the layer's archive to this path. Raises RecipeFailed."""
    env: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})
    cwd: str = "/"


_DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "sbin": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/sbin": 0o755,
    "var": 0o755,
    "var/tmp": 0o1777,
}

_FILES = {
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/resolv.conf": "",
}


def busybox_members(program: bytes, applets: list[str]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The members of the busybox layer, in their order. Owner, time and mode are fixed, so the
    same busybox gives the same digest on every host."""
    links = {path: "/bin/busybox" for path in applets if path != "bin/busybox"}
    parents = {str(Path(path).parent) for path in applets}
    directories = {**dict.fromkeys(parents, 493), **_DIRECTORIES}
    for path in sorted({*directories, *_FILES, *links, "bin/busybox"}):
        info = tarfile.TarInfo(path)
        content = b""
        if path in directories:
            info.type, info.mode = tarfile.DIRTYPE, directories[path]
        elif path in links:
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, links[path], 0o777
        else:
            content = program if path == "bin/busybox" else _FILES[path].encode()
            info.mode = 0o755 if path == "bin/busybox" else 0o644
        info.size = len(content)
        yield info, content


def _busybox(archive: Path) -> None:
    program = shutil.which("busybox", path=PATH)
    if program is None:
        raise RecipeFailed("image busybox: no busybox on this host; install busybox-static")
    if b"/ld-linux" in (binary := Path(program).read_bytes()):
        raise RecipeFailed(
            f"image busybox: {program} is dynamically linked and needs libraries that the image "
            "has not; install busybox-static"
        )
    listing = _run("busybox", [program, "--list-full"]).split()
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for info, content in busybox_members(binary, listing):
            tar.addfile(info, io.BytesIO(content))


def _debian(archive: Path) -> None:
    """Minbase with Python, from the host's own suite and package sources."""
    suite = _suite(Path("/etc/os-release"))
    if shutil.which("mmdebstrap"):
        sources = [
            str(path)
            for path in (
                Path("/etc/apt/sources.list"),
                *sorted(Path("/etc/apt/sources.list.d").glob("*.list")),
                *sorted(Path("/etc/apt/sources.list.d").glob("*.sources")),
            )
            if path.is_file() and path.stat().st_size
        ]
        command = [
            "mmdebstrap",
            "--mode=root" if os.geteuid() == 0 else "--mode=unshare",
            "--variant=minbase",
            "--format=tar",
            "--include=python3-minimal",
            '--aptopt=APT::Sandbox::User "root"',
            *(f"--aptopt={path}" for path in sorted(Path("/etc/apt/apt.conf.d").glob("*proxy*"))),
            suite,
            str(archive),
            *sources,
        ]
        _run("debian", command)
    elif shutil.which("debootstrap"):
        tree = archive.with_suffix(".tree")
        _run(
            "debian",
            ["debootstrap", "--variant=minbase", "--include=python3-minimal", suite, str(tree)],
        )
        _run(
            "debian",
            [
                "tar",
                "--numeric-owner",
                "--xattrs",
                "--sort=name",
                "-C",
                str(tree),
                "-cf",
                str(archive),
                ".",
            ],
        )
        shutil.rmtree(tree)
    else:
        raise RecipeFailed(
            "image debian: neither mmdebstrap nor debootstrap on this host; install mmdebstrap"
        )


def _suite(os_release: Path) -> str:
    for line in os_release.read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    raise RecipeFailed(f"image debian: {os_release} names no VERSION_CODENAME, so no suite to take")


def _run(image: str, command: list[str]) -> str:
    environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RecipeFailed(
            f"image {image}: {' '.join(command)} ended with {done.returncode}; the end of what it "
            f"said:\n{done.stderr[-4000:]}"
        )
    return done.stdout


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("busybox", "the distribution's static busybox, a few MB, made at once", _busybox),
        Recipe("debian", "the host's suite, minbase with python3, made by mmdebstrap", _debian),
    )
}
"""Name → recipe."""
