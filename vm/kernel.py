"""The distribution's cloud kernel, fetched and unpacked but never installed.

Installing a kernel package would rewrite the host's boot files. So the package is downloaded by apt
(which checks it against the signed package lists) and unpacked into the cache::

    <cache>/kernels/<release>/
        vmlinuz         the bzImage
        vmlinux         the ELF kernel inside it, if it can be entered through PVH
        modules/        /lib/modules/<release>, with modules.dep
        kernel.json     package, package_version, release, sha256 (of vmlinuz)
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vm.bzimage import extract_vmlinux, has_pvh_entry
from vm.cache import make_once
from vm.errors import KernelError, ToolMissing, Unsupported
from vm.modules import write_modules_dep

__all__ = ["Kernel", "cached_kernels", "ensure_kernel", "fetch_kernel"]

_KERNELS = "kernels"
_FACTS = "kernel.json"

_META_PACKAGES = {"debian": "linux-image-cloud-amd64", "ubuntu": "linux-image-virtual"}
"""By os-release ID: the package that depends on the newest kernel made for virtual machines."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A guest kernel in the cache. `sha256` is that of ``vmlinuz``, in hexadecimal."""

    directory: Path
    package: str
    package_version: str
    release: str
    """What ``uname -r`` says in the guest."""
    sha256: str

    @property
    def vmlinuz(self) -> Path:
        """The bzImage, which every loader takes."""
        return self.directory / "vmlinuz"

    @property
    def vmlinux(self) -> Path | None:
        """The ELF kernel, entered through PVH; None if this kernel has no such entry."""
        path = self.directory / "vmlinux"
        return path if path.exists() else None

    @property
    def image(self) -> Path:
        """What boots fastest here: vmlinux where there is one, else the bzImage."""
        return self.vmlinux or self.vmlinuz

    @property
    def modules(self) -> Path:
        """Its ``/lib/modules/<release>``."""
        return self.directory / "modules"

    @classmethod
    def load(cls, directory: Path) -> Kernel:
        """Read the kernel unpacked at `directory`. KernelError: there is none."""
        try:
            facts = json.loads((directory / _FACTS).read_text())
            return cls(directory=directory, **facts)
        except (OSError, ValueError, TypeError) as error:
            raise KernelError(
                f"{directory} does not hold an unpacked kernel ({error}); remove it and try again"
            ) from error


def cached_kernels(cache: Path) -> list[Kernel]:
    """Return the kernels in the cache, the latest fetched first."""
    found = sorted(
        (cache / _KERNELS).glob(f"*/{_FACTS}"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    return [Kernel.load(path.parent) for path in found]


def ensure_kernel(cache: Path) -> Kernel:
    """Return the kernel that was fetched last, or fetch one if the cache has none.

    It never asks apt when there is one, so that a host offline goes on working and results stay
    comparable; `fetch_kernel` brings the cache up to date.
    """
    cached = cached_kernels(cache)
    return cached[0] if cached else fetch_kernel(cache)


def fetch_kernel(cache: Path) -> Kernel:
    """Bring the distribution's newest cloud kernel into the cache, and return it.

    Unsupported: not an amd64 host, or a distribution without one. ToolMissing: no apt or dpkg.
    KernelError: apt's answer, or a package that is not what it should be.
    """
    package = _resolve(_meta_package())
    release = package.removeprefix("linux-image-").removeprefix("unsigned-")

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            packages = [package]
            if _has_package(f"linux-modules-{release}"):  # Ubuntu ships them apart
                packages.append(f"linux-modules-{release}")
            tree = _download(packages, Path(scratch))
            _arrange(tree, target, package, release)

    return Kernel.load(make_once(cache / _KERNELS / release, make))


def _meta_package() -> str:
    machine = platform.machine()
    if machine != "x86_64":
        raise Unsupported(f"guest kernels are not supported on {machine}, only on x86_64 (amd64)")
    release = platform.freedesktop_os_release()
    for identity in (release.get("ID", ""), *release.get("ID_LIKE", "").split()):
        if identity in _META_PACKAGES:
            return _META_PACKAGES[identity]
    raise Unsupported(
        f"no guest kernel package is known for {release.get('ID', 'this distribution')}; "
        f"known: {', '.join(_META_PACKAGES)}"
    )


def _run(argv: Sequence[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError as error:
        raise ToolMissing(f"{argv[0]} is not here: guest kernels come through apt") from error
    except subprocess.CalledProcessError as error:
        raise KernelError(
            f"{' '.join(argv)} ended with {error.returncode}: {error.stderr.strip()}"
        ) from error
    return done.stdout


def _has_package(package: str) -> bool:
    return "Candidate: (none)" not in (policy := _run(["apt-cache", "policy", package])) and (
        "Candidate:" in policy
    )


def _resolve(meta: str) -> str:
    """Return the image package that `meta` depends on now."""
    if not _has_package(meta):
        _run(["apt-get", "update"])  # a fresh container has no package lists at all
        if not _has_package(meta):
            raise KernelError(f"apt knows no package {meta}; check the host's package sources")
    depends = _run(["apt-cache", "depends", "--important", meta])
    for name in re.findall(r"^\s*Depends: (linux-image-\S+)$", depends, re.MULTILINE):
        if re.search(r"\d", name):
            return str(name)
    raise KernelError(f"{meta} depends on no kernel image: {depends.strip()}")


def _download(packages: Sequence[str], scratch: Path) -> Path:
    """Download and unpack `packages`; return the tree. apt-get(8) downloads into the cwd."""
    _run(["apt-get", "download", *packages], cwd=scratch)
    archives = sorted(scratch.glob("*.deb"))
    if len(archives) != len(packages):
        raise KernelError(f"apt-get download brought {[a.name for a in archives]} for {packages}")
    tree = scratch / "tree"
    for archive in archives:
        _run(["dpkg-deb", "-x", str(archive), str(tree)])
    return tree


def _arrange(tree: Path, target: Path, package: str, release: str) -> None:
    image = tree / "boot" / f"vmlinuz-{release}"
    modules = next(
        (
            path
            for path in (tree / "lib/modules" / release, tree / "usr/lib/modules" / release)
            if path.is_dir()
        ),
        None,
    )
    if not image.is_file() or modules is None:
        raise KernelError(f"package {package} holds no boot/vmlinuz-{release} or no modules")
    shutil.move(image, target / "vmlinuz")
    shutil.move(modules, target / "modules")
    write_modules_dep(target / "modules")
    data = (target / "vmlinuz").read_bytes()
    vmlinux = extract_vmlinux(data)
    if has_pvh_entry(vmlinux):
        (target / "vmlinux").write_bytes(vmlinux)
    kernel = Kernel(
        directory=target,
        package=package,
        package_version=_version(package),
        release=release,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    facts = {name: value for name, value in asdict(kernel).items() if name != "directory"}
    (target / _FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def _version(package: str) -> str:
    found = re.search(
        r"^Version: (\S+)$", _run(["apt-cache", "show", "--no-all-versions", package]), re.MULTILINE
    )
    if not found:
        raise KernelError(f"apt does not tell the version of {package}")
    return found[1]
