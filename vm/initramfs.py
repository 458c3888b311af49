"""The initramfs of a lab guest: the guest init and the few kernel modules it loads.

Uncompressed on purpose: it is about 1 MB, QEMU copies it in under a millisecond, and unpacking even
lz4 in an emulated guest costs more than that.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from vm import cpio
from vm.cache import make_once
from vm.guest import build_init
from vm.kernel import Kernel
from vm.modules import ModuleIndex, read_module

__all__ = ["Transport", "build_initramfs"]

Transport = Literal["mmio", "pci"]
"""How virtio devices are attached: microvm has virtio-mmio, q35 and pc have virtio-pci."""

_TRANSPORT_MODULES: dict[Transport, str] = {"mmio": "virtio_mmio", "pci": "virtio_pci"}

# The transport before the drivers: then each driver finds its device when it is loaded.
# crc32c_generic is what ext4 asks the crypto layer for by name; built in on most kernels.
_DRIVERS = ("virtio_blk", "crc32c_generic", "ext4", "virtio_console")


def build_initramfs(
    kernel: Kernel, transport: Transport, cache: Path, extra: tuple[str, ...] = ()
) -> Path:
    """Make the initramfs for `kernel`, or find it in the cache, and return its path.

    `extra` names further modules, loaded before the console driver (whose ports tell the host that
    init is there). Errors: those of `vm.guest.build_init`, and InitramfsError for a module that
    the kernel does not have.
    """
    init = build_init(cache)
    index = ModuleIndex.read(kernel.modules)
    wanted = (_TRANSPORT_MODULES[transport], *_DRIVERS[:-1], *extra, _DRIVERS[-1])
    paths = index.order(wanted)
    key = hashlib.sha256("\0".join([kernel.sha256, init.parent.name, *paths]).encode()).hexdigest()[
        :16
    ]

    def make(target: Path) -> None:
        data = {Path(path).name.split(".")[0]: kernel.modules / path for path in paths}
        (target / "initramfs").write_bytes(_archive(init, data))

    return make_once(cache / "initramfs" / key, make) / "initramfs"


def _archive(init: Path, modules: dict[str, Path]) -> bytes:
    names = [f"/modules/{name}.ko" for name in modules]
    return cpio.archive(
        [
            cpio.directory("dev"),
            # The kernel opens it as init's stdio before init can mount anything.
            cpio.device("dev/console", 5, 1),
            cpio.file("init", init.read_bytes(), 0o755),
            cpio.directory("modules"),
            cpio.file("modules.list", "".join(f"{name}\n" for name in names).encode()),
            *(
                cpio.file(name.lstrip("/"), read_module(path))
                for name, path in zip(names, modules.values(), strict=True)
            ),
        ]
    )
