from pathlib import Path

import pytest

from vm.errors import InitramfsError
from vm.modules import ModuleIndex, module_name, read_module, write_modules_dep

DEP = """\
kernel/a/virtio.ko: kernel/a/virtio_ring.ko
kernel/a/virtio_ring.ko:
kernel/b/virtio-rng.ko.xz: kernel/a/virtio.ko kernel/a/virtio_ring.ko
kernel/c/loop1.ko: kernel/c/loop2.ko
kernel/c/loop2.ko: kernel/c/loop1.ko
"""
INDEX = ModuleIndex.parse(DEP, "kernel/fs/ext4/ext4.ko\n")


def test_dependencies_come_first_and_once() -> None:
    assert INDEX.order(["virtio_rng", "virtio"]) == [
        "kernel/a/virtio_ring.ko",
        "kernel/a/virtio.ko",
        "kernel/b/virtio-rng.ko.xz",
    ]


def test_built_in_modules_are_left_out() -> None:
    assert INDEX.order(["ext4"]) == []


def test_a_missing_module_is_named() -> None:
    with pytest.raises(InitramfsError, match="nosuch"):
        INDEX.order(["nosuch"])


def test_a_circle_is_told() -> None:
    with pytest.raises(InitramfsError, match="loop1 → loop2 → loop1"):
        INDEX.order(["loop1"])


def test_names_are_the_kernels() -> None:
    assert module_name("kernel/x/virtio-rng.ko.zst") == "virtio_rng"


def test_index_is_made_from_modinfo(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    (tmp_path / "k/a.ko").write_bytes(b"\x7fELF\0depends=b-c,vmlinux\0name=a\0")
    (tmp_path / "k/b-c.ko").write_bytes(b"\x7fELF\0license=GPL\0depends=\0name=b_c\0")
    write_modules_dep(tmp_path)
    assert (tmp_path / "modules.dep").read_text() == "k/a.ko: k/b-c.ko\nk/b-c.ko:\n"


def test_signature_is_cut_off(tmp_path: Path) -> None:
    signature = b"s" * 20
    tail = bytes(8) + len(signature).to_bytes(4, "big") + b"~Module signature appended~\n"
    (tmp_path / "m.ko").write_bytes(b"\x7fELFbody" + signature + tail)
    assert read_module(tmp_path / "m.ko") == b"\x7fELFbody"
