"""The layer reader against archives that a fuzzer makes: it refuses or unpacks, and nothing else
changes. Bounded: a few seconds, the same examples each time; LAB_FUZZ_EXAMPLES=5000 looks for
new ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime import ImageError, ImageStore, LayerRefused
from runtime.images.compression import ChunkReader
from runtime.images.layer import unpack
from runtime.images.pack import pack
from runtime.images.split import SplitWriter, assemble
from runtime.images.tarstream import UnpackLimits
from runtime.images.whiteouts import OverlayForm
from tests.tars import make_tar, member

LIMITS = UnpackLimits(max_bytes=1 << 24, max_members=200, max_depth=8)

BOUNDED = settings(
    max_examples=int(os.environ.get("LAB_FUZZ_EXAMPLES", "80")),
    deadline=None,
    derandomize="LAB_FUZZ_EXAMPLES" not in os.environ,  # CI must not fail by luck
    database=None,
    suppress_health_check=list(HealthCheck),
)

HARMLESS = ["a", "b", "c", "d", ".", "", "\udcff", "é"]
HARMFUL = ["..", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.", "canary", "outside", "n\0l", "x" * 260]
parts = st.sampled_from(HARMLESS + HARMFUL)
names = st.one_of(
    st.lists(parts, min_size=1, max_size=5).map("/".join),
    st.sampled_from(["/a", "/etc/passwd", "../canary", "a/../../canary", "./.", "OUTER/canary"]),
)
types = st.sampled_from(
    [tarfile.REGTYPE] * 3
    + [tarfile.DIRTYPE] * 3
    + [tarfile.SYMTYPE] * 2
    + [tarfile.LNKTYPE] * 2
    + [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"Z"]
)
KEYS = (
    "mtime path linkpath size uid GNU.sparse.map GNU.sparse.size GNU.sparse.major "
    "GNU.sparse.realsize SCHILY.xattr.user.note SCHILY.xattr.trusted.overlay.opaque "
    "SCHILY.xattr.user.overlay.redirect"
)
attributes = st.dictionaries(
    st.sampled_from(KEYS.split()),
    st.one_of(
        st.sampled_from(["1", "-1", "nan", "1.5", "0,1", "5,1,0,9", "99999999999999999999", "/a"]),
        st.text(max_size=8),
    ),
    max_size=2,
)


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(draw(names))
    info.type = draw(types)
    info.linkname = draw(names) if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    content = draw(st.binary(max_size=700)) if info.type == tarfile.REGTYPE else b""
    info.size = len(content)
    info.mode = draw(st.sampled_from([0, 0o644, 0o4755, 0o1777, 0o7777]))
    info.uid = draw(st.sampled_from([0, 1, 65534, 2**31, 2**32 - 1, 2**40]))
    info.devmajor = draw(st.sampled_from([0, 1, 5000]))
    info.devminor = draw(st.sampled_from([0, 3, 1 << 21]))
    info.pax_headers = draw(attributes)
    return info, content


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Sound in structure; then perhaps damaged, and perhaps packed."""
    raw = io.BytesIO()
    for info, content in draw(st.lists(members(), max_size=8)):
        try:
            raw.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        except ValueError:
            continue  # tarfile itself cannot write it
        raw.write(content + bytes(-len(content) % 512))
    raw.write(bytes(1024))
    data = bytearray(raw.getvalue())
    for _ in range(draw(st.integers(0, 2))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    packed = draw(st.sampled_from([bytes, gzip.compress, zstandard.compress]))(bytes(data))
    return packed[: -draw(st.integers(1, 20))] if draw(st.integers(0, 9)) == 0 else packed


@contextmanager
def outer() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="isolation-lab-fuzz-"))
    try:
        (folder / "canary").write_text("alive")
        (folder / "outside").mkdir()
        (folder / "target").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder)


def around(folder: Path) -> list[tuple[object, ...]]:
    """All of the surroundings that could be changed."""
    rows: list[tuple[object, ...]] = []
    for path in [folder / "canary", folder / "outside"]:
        info = path.lstat()
        rows.append((path.name, info.st_mode, info.st_uid, info.st_mtime_ns, info.st_nlink))
    rows.append(((folder / "canary").read_text(), sorted(p.name for p in folder.iterdir())))
    return rows


@BOUNDED
@given(archives())
def test_an_archive_is_refused_or_unpacked_and_nothing_is_written_outside(data: bytes) -> None:
    with outer() as folder:
        data = data.replace(b"OUTER", b"/tmp/")
        form = OverlayForm.probe(folder / "target")
        before = around(folder)
        try:
            with SplitWriter(folder / "outside" / "split") as record:
                found = unpack(
                    io.BytesIO(data),
                    folder / "target",
                    "fuzzed",
                    form=form,
                    limits=LIMITS,
                    record=record,
                    trusted=True,
                )
        except LayerRefused as error:
            assert "fuzzed" in str(error)
            refused = True
        else:
            refused = False
        split = folder / "outside" / "split"
        if not refused:
            pieces = b"".join(assemble(split, folder / "target", found.diff_id))
            assert len(pieces) == found.size  # and its digest held, or it would have raised
        split.unlink()
        after = around(folder)
        assert [row[:3] for row in before[:2]] == [row[:3] for row in after[:2]]
        assert before[0] == after[0]
        assert before[2] == after[2]


@BOUNDED
@given(archives())
def test_what_is_unpacked_packs_and_unpacks_to_the_same(data: bytes) -> None:
    """A layer that was taken can be committed again; a second round changes nothing more."""
    with outer() as folder:
        form = OverlayForm.probe(folder / "target")
        try:
            unpack(io.BytesIO(data), folder / "target", "x", form=form, limits=LIMITS, trusted=True)
        except LayerRefused:
            return
        (folder / "again").mkdir()
        first = list(pack(folder / "target", form))
        unpack(ChunkReader(first), folder / "again", "again", form=form)
        assert b"".join(pack(folder / "again", form)) == b"".join(first)


@BOUNDED
@given(st.binary(max_size=4096), st.integers(0, 600))
def test_bytes_that_are_no_archive(data: bytes, zeros: int) -> None:
    with outer() as folder:
        before = around(folder)
        form = OverlayForm.probe(folder / "target")
        try:
            unpack(io.BytesIO(data + bytes(zeros)), folder / "target", "noise", form=form)
        except ImageError as error:
            assert "noise" in str(error)
        assert before == around(folder)


def places(content: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """All paths into a JSON document."""
    found = [path] if path else []
    if isinstance(content, dict):
        for key, value in content.items():
            found += places(value, (*path, key))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            found += places(value, (*path, number))
    return found


@BOUNDED
@given(data=st.data(), document=st.sampled_from(["config", "manifest", "index"]))
def test_documents_of_an_image_with_another_value_somewhere(
    data: st.DataObject, document: str
) -> None:
    """Each digest holds, so that the document itself has to be looked at."""
    with outer() as folder:
        store = ImageStore(folder / "store")
        store.add("app:1", [make_tar(folder / "a.tar", member("f", b"x"))], env={"A": "1"})
        layout = folder / "layout"
        store.save(["app:1"], layout, format="oci")
        documents = {"index": json.loads((layout / "index.json").read_bytes())}
        blobs = layout / "blobs/sha256"
        descriptor = documents["index"]["manifests"][0]
        documents["manifest"] = json.loads((blobs / descriptor["digest"][7:]).read_bytes())
        descriptor = documents["manifest"]["config"]
        documents["config"] = json.loads((blobs / descriptor["digest"][7:]).read_bytes())
        *way, last = data.draw(st.sampled_from(places(documents[document])))
        target = documents[document]
        for key in way:
            target = target[key]
        values = [None, 1, -1, "", "x", [], {}, [None], {"a": 1}, f"sha256:{0:064}", True, [[]]]
        target[last] = data.draw(st.sampled_from(values))
        if document == "config":
            documents["manifest"]["config"]["digest"] = put(blobs, documents["config"])
        if document != "index":
            documents["index"]["manifests"][0]["digest"] = put(blobs, documents["manifest"])
        (layout / "index.json").write_text(json.dumps(documents["index"]))
        try:
            loaded = ImageStore(folder / "other").load(layout)
        except ImageError as error:
            assert "layout" in str(error)
            return
        for image in loaded:
            for field in ("env", "argv", "cwd", "user", "volumes", "labels", "platform"):
                getattr(image, field)


def put(blobs: Path, content: object) -> str:
    data = json.dumps(content).encode()
    name = hashlib.sha256(data).hexdigest()
    (blobs / name).write_bytes(data)
    return f"sha256:{name}"
