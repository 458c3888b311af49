"""What an image is, without unpacking one."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from runtime import ImageNotFound, ImageStore, LayerRefused, SpecError
from runtime.images.image import digest, image_config
from runtime.images.layer import diff_id
from runtime.images.recipes import busybox_members
from runtime.images.whiteouts import whiteout


def busybox_tar() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for info, content in busybox_members(b"program", ["bin/sh", "bin/busybox", "usr/bin/env"]):
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def test_the_busybox_layer_is_reproducible() -> None:
    assert busybox_tar() == busybox_tar()


def test_the_busybox_layer_has_what_a_root_needs() -> None:
    with tarfile.open(fileobj=io.BytesIO(busybox_tar())) as tar:
        members = {info.name: info for info in tar}
    assert list(members) == sorted(members)
    assert members["tmp"].mode == members["var/tmp"].mode == 0o1777
    assert members["bin/sh"].linkname == members["usr/bin/env"].linkname == "/bin/busybox"
    assert {"proc", "sys", "dev", "root", "etc/passwd", "etc/resolv.conf"} <= set(members)
    assert {info.mtime for info in members.values()} == {0}
    assert {(info.uid, info.gid, info.uname) for info in members.values()} == {(0, 0, "")}


def test_the_digest_depends_on_content_only() -> None:
    first = image_config(["sha256:a"], {"B": "1", "A": "2"}, "/", ["x"], "x86_64")
    second = image_config(["sha256:a"], {"A": "2", "B": "1"}, "/", ["x"], "x86_64")
    assert digest(first) == digest(second)
    assert b'"architecture":"amd64"' in first
    assert digest(first) != digest(image_config(["sha256:b"], {}, "/", [], "x86_64"))


@pytest.mark.parametrize(
    ("name", "hides"),
    [("file", None), (".wh.file", "file"), (".wh..wh..opq", ""), ("x.wh.y", None)],
)
def test_whiteout_names(name: str, hides: str | None) -> None:
    assert whiteout(name) == hides


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_diff_id_is_of_the_uncompressed_bytes(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    plain, packed = tmp_path / "a.tar", tmp_path / "a.packed"
    plain.write_bytes(busybox_tar())
    packed.write_bytes(pack(busybox_tar()))
    expected = f"sha256:{hashlib.sha256(busybox_tar()).hexdigest()}"
    assert diff_id(plain) == diff_id(packed) == expected
    packed.write_bytes(pack(busybox_tar())[:-2])
    with pytest.raises(LayerRefused, match="too early"):
        diff_id(packed)


def test_a_missing_image_names_the_choices(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    with pytest.raises(ImageNotFound, match=r"'nope'; stored: none; can be built: busybox, debian"):
        store.ensure("nope")
    with pytest.raises(ImageNotFound):
        store.get("sha256:" + "0" * 64)


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b", "sha256:12"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises((SpecError, ImageNotFound)):
        ImageStore(tmp_path).get(name)
