"""Archives to directories and back, as whoever runs the tests: root or not."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from runtime import LayerDamaged, LayerRefused
from runtime.images.compression import ChunkReader, Decompressor, compress
from runtime.images.layer import Unpacked, unpack
from runtime.images.pack import pack
from runtime.images.split import SplitWriter, assemble, summary
from runtime.images.tarstream import UnpackLimits
from runtime.images.whiteouts import OverlayForm, is_whiteout, whiteout
from tests.tars import Member, directory, hard_link, member, symlink, tar_bytes

Take = Callable[..., Unpacked]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.fixture
def form(target: Path) -> OverlayForm:
    return OverlayForm.probe(target)


@pytest.fixture
def take(target: Path, form: OverlayForm) -> Take:
    def take(data: bytes, **options: object) -> Unpacked:
        return unpack(io.BytesIO(data), target, "the-layer", form=form, **options)  # type: ignore[arg-type]

    return take


@pytest.mark.parametrize(
    ("name", "hides"),
    [("file", None), (".wh.file", "file"), (".wh..wh..opq", ""), ("x.wh.y", None), (".wh.", None)],
)
def test_whiteout_names(name: str, hides: str | None) -> None:
    assert whiteout(name) == hides


HOSTILE: dict[str, list[Member]] = {
    "dotdot": [member("a/../../evil", b"x")],
    "absolute": [member("/evil", b"x")],
    "through a link": [symlink("link", "/var/tmp"), member("link/evil", b"x")],
    "through a file": [member("file", b"x"), member("file/evil", b"x")],
    "a link swapped for a directory": [directory("evil"), symlink("evil", "/tmp")],
    "a directory swapped for a link": [symlink("evil", "/tmp"), directory("evil")],
    "a file written through a link": [symlink("evil", "/etc/passwd"), member("evil", b"x")],
    "twice": [member("evil", b"1"), member("evil", b"2")],
    "hard link out": [hard_link("evil", "../../etc/passwd")],
    "hard link to an absolute name": [hard_link("evil", "/etc/passwd")],
    "hard link through a link": [symlink("etc", "/etc"), hard_link("evil", "etc/passwd")],
    "hard link to nothing": [hard_link("evil", "none")],
    "hard link to a directory": [directory("d"), hard_link("evil", "d")],
    "hard link to itself": [hard_link("evil", "evil")],
    "hard link to a whiteout": [member(".wh.gone"), hard_link("evil", "gone")],
    "name too long": [member("evil" + "x" * 300)],
    "path too long": [member("evil/" + "d/" * 3000)],
    "too deep": [member("evil/" + "d/" * 300 + "f")],
    "unknown kind": [member("evil", type=b"Z")],
    "forged whiteout": [member("evil", type=tarfile.CHRTYPE, devmajor=0, devminor=0)],
    "whiteout of the parent": [member("evil/.wh...")],
    "whiteout of nothing": [member("evil/.wh.")],
    "whiteout of a whiteout": [member("evil/.wh..wh.x")],
    "below a whiteout": [member(".wh.evil/x")],
    "no device": [member("evil", type=tarfile.BLKTYPE, devmajor=1 << 13, devminor=0)],
    "no owner": [member("evil", uid=2**32 - 1)],
    "no time": [member("evil", pax_headers={"mtime": "nan"})],
    "zero byte": [member("x", pax_headers={"path": "evil\0.txt"})],
    "negative size": [member("evil", pax_headers={"size": "-512"})],
    "forged attribute": [
        member("evil", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"})
    ],
    "forged user attribute": [
        member("evil", pax_headers={"SCHILY.xattr.user.overlay.opaque": "y"})
    ],
    "sparse past its end": [
        member("evil", b"x", pax_headers={"GNU.sparse.map": "5,100", "GNU.sparse.size": "10"})
    ],
    "sparse of more than there is": [
        member("evil", b"x", pax_headers={"GNU.sparse.map": "0,900", "GNU.sparse.size": "9000"})
    ],
    "the root a file": [member("./", b"evil", type=tarfile.REGTYPE)],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_refused_by_its_name(take: Take, tmp_path: Path, kind: str) -> None:
    (tmp_path / "canary").write_text("alive")
    with pytest.raises(LayerRefused) as caught:
        take(tar_bytes(*HOSTILE[kind]))
    assert "evil" in caught.value.member or kind == "the root a file"
    assert "the-layer" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["canary", "target"]


def test_absolute_names_can_be_taken_from_the_root(take: Take, target: Path) -> None:
    data = tar_bytes(member("/etc/a", b"x"), hard_link("/etc/b", "/etc/a"))
    take(data, limits=UnpackLimits(absolute_names=True))
    assert (target / "etc/b").read_bytes() == b"x"
    assert (target / "etc/a").stat().st_nlink == 2


def test_whiteouts_do_not_touch_what_their_own_layer_brings(
    take: Take, target: Path, form: OverlayForm
) -> None:
    """In whichever order they come (layer.md, "Whiteouts")."""
    pairs = [
        (member(".wh.before"), member("before", b"1")),
        (member("after", b"2"), member(".wh.after")),
        (member(".wh.dir1"), directory("dir1"), member("dir1/x", b"3")),
        (directory("dir2"), member("dir2/x", b"4"), member(".wh.dir2")),
        (member(".wh.implied"), member("implied/x", b"5")),
        (member("opaque/x", b"6"), member("opaque/.wh..wh..opq")),
        (member(".wh.gone"), member(".wh.gone")),
    ]
    take(tar_bytes(*(each for pair in pairs for each in pair)))
    assert [(target / name).read_bytes() for name in ("before", "after")] == [b"1", b"2"]
    for name in ("dir1", "dir2", "implied", "opaque"):
        assert form.is_opaque(target / name)
        assert (target / name / "x").exists()
    assert is_whiteout((target / "gone").lstat())
    names = {"before", "after", "dir1", "dir2", "implied", "opaque", "gone"}
    assert {path.name for path in target.iterdir()} == names


def test_times_are_kept_to_the_nanosecond_and_modes_whatever_they_forbid(
    take: Take, target: Path
) -> None:
    take(
        tar_bytes(
            directory("closed", 0o555, pax_headers={"mtime": "1700000000.123456789"}),
            member("closed/f", b"x", mode=0o400, pax_headers={"mtime": "-1.5"}),
            symlink("closed/l", "nowhere"),
        )
    )
    assert (target / "closed").stat().st_mtime_ns == 1700000000123456789
    assert stat.S_IMODE((target / "closed").stat().st_mode) == 0o555
    assert (target / "closed/f").stat().st_mtime_ns == -1_500_000_000
    assert (target / "closed/l").lstat().st_mtime_ns == 0
    (target / "closed").chmod(0o755)  # so that it can be removed


@pytest.mark.parametrize(
    "header",
    [
        {"GNU.sparse.map": "4096,3,1048576,2", "GNU.sparse.size": "2097152"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "2097152"},
    ],
)
def test_sparse_members_become_sparse_files(
    take: Take, target: Path, header: dict[str, str]
) -> None:
    table = b"3\n4096\n3\n1048576\n2\n2097152\n0\n".ljust(512, b"\0")
    data = (table if "GNU.sparse.major" in header else b"") + b"abcde"
    take(tar_bytes(member("f", data, pax_headers={**header, "GNU.sparse.name": "sparse"})))
    file = target / "sparse"
    assert file.stat().st_size == 2097152
    assert file.stat().st_blocks * 512 < 100_000
    with file.open("rb") as opened:
        opened.seek(4095)
        assert opened.read(5) == b"\0abc\0"
        opened.seek(1048576)
        assert opened.read(3) == b"de\0"


BOMBS = {
    "members": (UnpackLimits(max_members=10), [member(f"f{n}") for n in range(20)]),
    "bytes": (UnpackLimits(max_bytes=1 << 16), [member("f", bytes(1 << 17))]),
    "a sparse size": (
        UnpackLimits(max_bytes=1 << 20),
        [member("f", b"x", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9999999"})],
    ),
    "ratio": (UnpackLimits(max_ratio=50, ratio_from=1 << 16), [member("f", bytes(1 << 20))]),
    "header": (UnpackLimits(), [member("f", pax_headers={"comment": "x" * (1 << 21)})]),
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_bomb_is_refused(take: Take, kind: str, pack: Callable[[bytes], bytes]) -> None:
    limits, members = BOMBS[kind]
    data = pack(tar_bytes(*members))
    with pytest.raises(LayerRefused, match=r"more than|bomb"):
        take(data, limits=limits)


def test_a_zstd_bomb_never_unfolds_in_memory() -> None:
    """A gigabyte of zeros in 32 KiB: what comes back for one slice is bounded."""
    bomb = b"".join(compress((bytes(1 << 20) for _ in range(1 << 10)), "zstd"))
    assert len(bomb) < 200_000
    unpacked = Decompressor(io.BytesIO(bomb))
    assert len(unpacked.read(1 << 30)) <= 64 << 20


def damaged(data: bytes, kind: str, packing: str) -> bytes:
    packed = b"".join(compress([data], packing))  # type: ignore[arg-type]
    return {
        "truncated": packed[:-3] if packing != "none" else packed[: len(packed) // 2],
        "half": packed[: len(packed) // 2],
        "garbage behind": packed + b"garbage",
        "flipped": packed[:30] + bytes([packed[30] ^ 0xFF]) + packed[31:],
    }[kind]


@pytest.mark.parametrize("kind", ["truncated", "half", "garbage behind", "flipped"])
@pytest.mark.parametrize("packing", ["none", "gzip", "zstd"])
def test_damaged_archives_are_refused(take: Take, kind: str, packing: str) -> None:
    data = tar_bytes(member("file", os.urandom(100_000)), member("second", b"x"))
    with pytest.raises(LayerRefused):
        take(damaged(data, kind, packing))


def test_a_damaged_header_in_the_middle_is_not_the_end(take: Take) -> None:
    """tarfile itself would stop there without a word."""
    data = bytearray(tar_bytes(member("first", b"x"), member("second", b"y")))
    data[1024 + 150] ^= 0xFF  # the second header's checksum
    with pytest.raises(LayerRefused, match="first") as caught:
        take(bytes(data))
    assert "broken archive" in str(caught.value)


def test_an_archive_cut_between_two_members_is_refused(take: Take) -> None:
    data = tar_bytes(member("first", b"x"), member("second", b"y"))[:1024]
    with pytest.raises(LayerRefused, match="truncated"):
        take(data)


@pytest.mark.parametrize("packing", ["none", "gzip", "zstd"])
def test_several_frames_are_one_stream(packing: str) -> None:
    halves = [b"".join(compress([part], packing)) for part in (b"one", b"two")]  # type: ignore[arg-type]
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"toc!"
    data = halves[0] + (skippable if packing == "zstd" else b"") + halves[1]
    source = Decompressor(io.BytesIO(data))
    found = b"".join(iter(lambda: source.read(10), b""))
    assert found == b"onetwo"
    assert source.compression == packing
    if packing != "none":
        assert source.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_the_archive_comes_back_byte_for_byte(tmp_path: Path, target: Path, take: Take) -> None:
    """From any writer: GNU long names, old sparse maps, odd padding, an order of its own."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in [
            member("z/" + "long" * 40, b"content"),
            member("empty"),
            member("a", os.urandom(3 << 20)),
            hard_link("b", "a"),
        ]:
            tar.addfile(info, io.BytesIO(content))
    data = raw.getvalue() + bytes(30 * 512)
    with SplitWriter(tmp_path / "record") as record:
        found = take(data, record=record)
    assert b"".join(assemble(tmp_path / "record", target, found.diff_id)) == data
    sizes = summary(tmp_path / "record")
    assert (sizes.size, sizes.files) == (len(data), 2)
    assert (tmp_path / "record").stat().st_size < 2000
    (target / "empty").write_text("changed, and not seen")
    with (target / "a").open("r+b") as file:
        file.write(b"changed")
    with pytest.raises(LayerDamaged, match="put together again"):
        list(assemble(tmp_path / "record", target, found.diff_id))
    with (target / "a").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(LayerDamaged, match="shorter"):
        list(assemble(tmp_path / "record", target, found.diff_id))


def test_packing_is_the_reverse_of_unpacking(
    tmp_path: Path, target: Path, take: Take, form: OverlayForm
) -> None:
    take(
        tar_bytes(
            directory("d", 0o700),
            member("d/f", b"data", mode=0o4711, pax_headers={"mtime": "5.25"}),
            hard_link("d/g", "d/f"),
            symlink("d/l", "/anywhere"),
            member("d/pipe", type=tarfile.FIFOTYPE),
            member("d/.wh.gone"),
            directory("o"),
            member("o/.wh..wh..opq"),
            member("\udcff", b"no UTF-8"),
        )
    )
    if form.owners:
        os.setxattr(target / "d/f", "security.capability", CAPABILITY)
    with (target / "holes").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"end")
        file.truncate(2 << 30)
    (target / "zeros").write_bytes(b"x" + bytes(1 << 20) + b"y")
    data = b"".join(pack(target, form))
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        names = tar.getnames()
        assert tar.extractfile("d/f").read() == b"data"  # type: ignore[union-attr]
        assert tar.getmember("d/g").linkname == "d/f"
        assert tar.getmember("holes").issparse()
    order = ["d", "d/.wh.gone", "d/f", "d/g", "d/l", "d/pipe", "holes", "o", "o/.wh..wh..opq"]
    assert names == [*order, "zeros", "\udcff"]
    assert 1 << 20 < len(data) < 2 << 20  # huge holes are left out, others are zeros there …
    again = tmp_path / "again"
    again.mkdir()
    unpack(ChunkReader([data]), again, "again", form=form)
    assert b"".join(pack(again, form)) == data
    assert (again / "holes").stat().st_size == 2 << 30
    assert (again / "holes").stat().st_blocks <= 16
    assert (again / "zeros").read_bytes() == (target / "zeros").read_bytes()
    assert (again / "zeros").stat().st_blocks * 512 < 200_000  # … and become holes again
    assert (again / "d/f").stat().st_mtime_ns == 5_250_000_000
    assert (again / "d/f").stat().st_ino == (again / "d/g").stat().st_ino
    if form.owners:
        assert os.getxattr(again / "d/f", "security.capability") == CAPABILITY


CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service+ep, capabilities(7), "File capability extended attribute versioning"."""
