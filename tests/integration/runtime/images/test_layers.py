"""Layers, stores and flattened trees with real owners, devices and overlays."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import Cgroup, Container, ContainerSpec, ImageStore, LayerRefused, Spawner

pytestmark = pytest.mark.root


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=mode)


def make_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def images(folder: Path) -> ImageStore:
    return ImageStore(folder / "images")


def test_a_layer_keeps_what_the_archive_says(images: ImageStore, folder: Path) -> None:
    archive = make_tar(
        folder / "a.tar",
        directory("d", 0o1777),
        member("d/suid", b"x", mode=0o4755, uid=1, gid=2, mtime=12345),
        member("d/hard", type=tarfile.LNKTYPE, linkname="d/suid"),
        member("d/soft", type=tarfile.SYMTYPE, linkname="/absolute/is/fine"),
        member("d/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("no/parent", b"y", pax_headers={"SCHILY.xattr.user.note": "hi"}),
    )
    root = images.add("one", [archive]).layers[0]
    suid = (root / "d/suid").stat()
    assert stat.S_IMODE(suid.st_mode) == 0o4755
    assert (suid.st_uid, suid.st_gid, suid.st_mtime, suid.st_nlink) == (1, 2, 12345, 2)
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o1777
    assert (root / "d/soft").readlink() == Path("/absolute/is/fine")
    assert (root / "d/null").stat().st_rdev == os.makedev(1, 3)
    assert os.getxattr(root / "no/parent", "user.note") == b"hi"


HOSTILE = {
    "dotdot": [member("a/../../evil", b"x")],
    "through a link": [
        member("link", type=tarfile.SYMTYPE, linkname="/var/tmp"),
        member("link/evil", b"x"),
    ],
    "hard link out": [member("evil", type=tarfile.LNKTYPE, linkname="../../etc/passwd")],
    "hard link through a link": [
        member("etc", type=tarfile.SYMTYPE, linkname="/etc"),
        member("evil", type=tarfile.LNKTYPE, linkname="etc/passwd"),
    ],
    "hard link to nothing": [member("evil", type=tarfile.LNKTYPE, linkname="none")],
    "forged whiteout": [member("evil", type=tarfile.CHRTYPE, devmajor=0, devminor=0)],
    "forged attribute": [
        member("evil", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"})
    ],
    "whiteout of the parent": [member("evil/.wh...")],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_layer_is_refused_by_member_and_leaves_nothing(
    images: ImageStore, folder: Path, kind: str
) -> None:
    archive = make_tar(folder / "bad.tar", *HOSTILE[kind])
    with pytest.raises(LayerRefused, match="evil"):
        images.add("bad", [archive])
    assert not list((images.root / "layers/sha256").iterdir())
    assert not list((images.root / "tmp").iterdir())
    assert images.list() == ()


def test_a_truncated_layer_is_refused(images: ImageStore, folder: Path) -> None:
    archive = make_tar(folder / "a.tar", member("file", b"x" * 100_000))
    with archive.open("r+b") as file:
        file.truncate(50_000)
    with pytest.raises(LayerRefused, match="broken archive"):
        images.add("bad", [archive])
    assert not list((images.root / "layers/sha256").iterdir())


def listing(root: Path) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        rows.append((str(path.relative_to(root)), info.st_mode, info.st_uid, content))
    return rows


def test_whiteouts_hide_in_the_overlay_and_in_the_flattened_tree(
    images: ImageStore,
    folder: Path,
    spawner: Spawner,
    group: Cgroup,
    busybox_tar: Path,
    make_spec: Callable[..., ContainerSpec],
) -> None:
    lower = make_tar(
        folder / "lower.tar",
        directory("data"),
        member("data/gone", b"1"),
        member("data/stays", b"2"),
        directory("opaque"),
        member("opaque/old", b"3"),
    )
    upper = make_tar(
        folder / "upper.tar",
        directory("data"),
        member("data/.wh.gone"),
        directory("opaque"),
        member("opaque/.wh..wh..opq"),
        member("opaque/new", b"4"),
    )
    image = images.add("three", [busybox_tar, lower, upper])
    flat = images.flatten(image)
    assert flat == images.flatten(image)
    names = sorted(
        str(path.relative_to(flat)) for d in ("data", "opaque") for path in (flat / d).iterdir()
    )
    assert names == ["data/stays", "opaque/new"]
    read, write = os.pipe()
    spec = make_spec("find", "/data", "/opaque", layers=image.layers, fds={1: write})
    with Container.launch(spec, spawner, parent=group) as container, os.fdopen(read) as out:
        os.close(write)
        assert container.wait(30) == 0
        assert sorted(out.read().split()) == ["/data", "/data/stays", "/opaque", "/opaque/new"]
    assert (image.layers[1] / "data/gone").read_bytes() == b"1"  # its bytes are still below


@pytest.fixture
def busybox_tar(images: ImageStore, folder: Path) -> Path:
    archive = folder / "busybox.tar"
    images.recipes["busybox"].build(archive)
    return archive


def test_the_flattened_tree_is_what_the_overlay_shows(
    images: ImageStore, folder: Path, busybox_tar: Path
) -> None:
    extra = make_tar(folder / "x.tar", member("etc/passwd", b"new", uid=7), member(".wh.root"))
    image = images.add("two", [busybox_tar, extra])
    flat = images.flatten(image)
    base = {row[0]: row for row in listing(image.layers[0])}
    merged = {row[0]: row for row in listing(flat)}
    assert merged.pop("etc/passwd")[3] == b"new"
    base.pop("etc/passwd")
    base.pop("root")
    assert merged == base


def test_one_content_is_one_digest_and_stored_once(
    images: ImageStore, folder: Path, busybox_tar: Path
) -> None:
    first, second = images.ensure("busybox"), images.add("again", [busybox_tar])
    assert first.diff_ids == second.diff_ids
    assert len(list((images.root / "layers/sha256").iterdir())) == 1
    assert [image.name for image in images.list()] == ["again", "busybox"]
    assert images.get(first.digest).layers == first.layers


def test_two_processes_build_an_image_once(folder: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from runtime.images import ImageStore, RECIPES, Recipe
folder = Path({str(folder)!r})
def build(archive):
    with open(folder / "builds", "a") as log:
        log.write("built\\n")
    RECIPES["busybox"].build(archive)
sys.stdin.read(1)
store = ImageStore(folder / "images", {{"bb": Recipe("bb", "", build)}})
print(store.ensure("bb").digest)
"""
    procs = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        for _ in range(2)
    ]
    for proc in procs:
        assert proc.stdin is not None
        proc.stdin.write("go")
        proc.stdin.flush()
    digests = {proc.communicate()[0] for proc in procs}
    assert len(digests) == 1
    assert next(iter(digests)).startswith("sha256:")
    assert (folder / "builds").read_text() == "built\n"


def test_what_a_killed_process_was_making_is_swept(images: ImageStore) -> None:
    dead = images.root / "tmp" / "1.12345.abcdef"  # pid 1 did not start at that tick
    dead.mkdir()
    ImageStore(images.root)
    assert not dead.exists()
