"""Which kernel modules a guest needs, and in what order they load.

Debian's packages carry no ``modules.dep`` (depmod writes it when the package is installed, which we
do not do), so it is made here from the ``depends=`` field of each module's ``.modinfo`` section, in
depmod's format: ``path: path-of-dependency …``, paths relative to the modules directory
(modules.dep(5)).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vm.decompress import decompress
from vm.errors import InitramfsError

__all__ = ["MODULES_DEP", "ModuleIndex", "module_name", "read_module", "write_modules_dep"]

MODULES_DEP = "modules.dep"

_SUFFIX = re.compile(r"\.ko(\.xz|\.zst|\.gz)?$")
_DEPENDS = re.compile(rb"(?:^|\0)depends=([^\0]*)\0")
_SIGNATURE_END = b"~Module signature appended~\n"
_SIGNATURE_TAIL = 12


def module_name(path: str) -> str:
    """``kernel/drivers/char/hw_random/virtio-rng.ko.xz`` → ``virtio_rng``, as the kernel says."""
    return _SUFFIX.sub("", Path(path).name).replace("-", "_")


def read_module(path: Path) -> bytes:
    """Return the module as the kernel takes it: unpacked and without its signature.

    Checking a signature is RSA and SHA-256 in the guest: 0.07 to 0.14 s for the five modules under
    TCG. These modules come from the package whose kernel we boot, through apt's
    own signature check, and no lab kernel enforces module signatures.
    """
    data = path.read_bytes()
    if path.suffix != ".ko":
        data = decompress(data)
    return _unsigned(data)


def _unsigned(data: bytes) -> bytes:
    """Cut off an appended signature (Linux, include/linux/module_signature.h: the structure before
    the end marker has its big-endian length in its last four bytes)."""
    if not data.endswith(_SIGNATURE_END):
        return data
    end = len(data) - len(_SIGNATURE_END)
    length = int.from_bytes(data[end - 4 : end], "big")
    return data[: end - _SIGNATURE_TAIL - length]


def write_modules_dep(directory: Path) -> None:
    """Write ``modules.dep`` for all modules below `directory` (a ``/lib/modules/<version>``)."""
    paths = {
        module_name(path.name): path.relative_to(directory).as_posix()
        for path in directory.rglob("*.ko*")
        if _SUFFIX.search(path.name)
    }
    lines = []
    for path in sorted(paths.values()):
        names = _depends(read_module(directory / path))
        known = [paths[name] for name in names if name in paths]
        lines.append(f"{path}:{''.join(' ' + one for one in known)}\n")
    (directory / MODULES_DEP).write_text("".join(lines))


def _depends(module: bytes) -> list[str]:
    found = _DEPENDS.search(module)
    text = found[1].decode() if found else ""
    return [name.replace("-", "_") for name in text.split(",") if name]


@dataclass(frozen=True, slots=True)
class ModuleIndex:
    """The modules of one kernel: loadable ones with their dependencies, and built-in ones."""

    paths: Mapping[str, str]
    """Module name → path relative to the modules directory."""
    needs: Mapping[str, tuple[str, ...]]
    """Module name → names of the modules it depends on, not transitively complete."""
    builtin: frozenset[str]

    @classmethod
    def parse(cls, modules_dep: str, modules_builtin: str) -> ModuleIndex:
        """Read the text of ``modules.dep`` and ``modules.builtin``."""
        paths: dict[str, str] = {}
        needs: dict[str, tuple[str, ...]] = {}
        for line in modules_dep.splitlines():
            path, _, rest = line.partition(":")
            paths[module_name(path)] = path
            needs[module_name(path)] = tuple(module_name(one) for one in rest.split())
        builtin = frozenset(module_name(line) for line in modules_builtin.split())
        return cls(paths, needs, builtin)

    @classmethod
    def read(cls, directory: Path) -> ModuleIndex:
        """Read the index of the modules directory `directory`."""
        try:
            return cls.parse(
                (directory / MODULES_DEP).read_text(), (directory / "modules.builtin").read_text()
            )
        except OSError as error:
            raise InitramfsError(f"cannot read the module index of {directory}: {error}") from error

    def order(self, wanted: Iterable[str]) -> list[str]:
        """Return the paths of `wanted` and all they need, dependencies first.

        Built-in modules are left out. InitramfsError: a module that this kernel does not have.
        """
        ordered: dict[str, None] = {}
        for name in wanted:
            self._visit(name, ordered, ())
        return [self.paths[name] for name in ordered]

    def _visit(self, name: str, ordered: dict[str, None], trail: tuple[str, ...]) -> None:
        if name in ordered or name in self.builtin:
            return
        if name in trail:
            raise InitramfsError(f"modules depend on each other: {' → '.join((*trail, name))}")
        if name not in self.paths:
            wanted_by = f" (needed by {trail[-1]})" if trail else ""
            raise InitramfsError(f"this kernel has no module {name}{wanted_by}")
        for need in self.needs.get(name, ()):
            self._visit(need, ordered, (*trail, name))
        ordered[name] = None
