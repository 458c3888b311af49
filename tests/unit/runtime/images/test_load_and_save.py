"""Archives and layouts, saved and loaded, and what is refused of them."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import (
    ArchiveRefused,
    DigestMismatch,
    Image,
    ImageError,
    ImageStore,
    LayerRefused,
    SpecError,
)
from runtime.images.export import Format
from tests.tars import Member, directory, member, symlink, tar_bytes
from tests.unit.runtime.images.conftest import contents

Make = Callable[..., Image]

FORMATS: list[Format] = ["docker", "docker-legacy", "oci-archive", "oci"]


@pytest.fixture
def two(make_image: Make) -> list[Image]:
    base = [directory("d"), member("d/f", b"x" * 5000), symlink("l", "d")]
    return [make_image("app:1", base, [member("d/.wh.f")]), make_image("r.example/b", base)]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_what_is_saved_loads_to_the_same(
    store: ImageStore, two: list[Image], tmp_path: Path, format: Format, compression: Any
) -> None:
    target = tmp_path / "saved"
    store.save(["app:1", "r.example/b"], target, format=format, compression=compression)
    other = ImageStore(tmp_path / "other")
    loaded = other.load(target)
    assert {image.name for image in loaded} == {"app:1", "r.example/b"}
    assert {image.digest for image in loaded} == {image.digest for image in two}
    assert contents(other) == contents(store)
    again = tmp_path / "again"
    other.save(["app:1", "r.example/b"], again, format=format, compression=compression)
    if target.is_file():
        assert target.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_an_archive_packed_as_a_whole(
    store: ImageStore, two: list[Image], tmp_path: Path, packing: Any
) -> None:
    from runtime.images.compression import compress

    store.save(["app:1"], tmp_path / "saved")
    packed = b"".join(compress([(tmp_path / "saved").read_bytes()], packing))
    (tmp_path / "packed").write_bytes(packed)
    other = ImageStore(tmp_path / "other")
    assert other.load(tmp_path / "packed", "mine")[0].digest == two[0].digest
    assert other.names() == ["mine"]


def test_saving_is_all_or_nothing(store: ImageStore, two: list[Image], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (two[0].layers[0] / "d/f").write_bytes(b"y" * 5000)
    for format in FORMATS:
        with pytest.raises(ImageError, match="damaged"):
            store.save(["app:1"], folder / format, format=format)
    assert list(folder.iterdir()) == []
    with pytest.raises(ImageError, match="there already"):
        store.save(["app:1"], folder, format="oci")


def layout(store: ImageStore, tmp_path: Path) -> Path:
    store.save(["app:1"], tmp_path / "layout", format="oci")
    return tmp_path / "layout"


def blob(path: Path, what: str) -> Path:
    """The file of the manifest, the config or a layer of a layout."""
    index = json.loads((path / "index.json").read_bytes())
    found = path / "blobs/sha256" / index["manifests"][0]["digest"][7:]
    if what == "manifest":
        return found
    manifest = json.loads(found.read_bytes())
    descriptor = manifest["config"] if what == "config" else manifest["layers"][1]
    return path / "blobs/sha256" / descriptor["digest"][7:]


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_a_wrong_digest_is_refused_with_the_member(
    store: ImageStore, two: list[Image], tmp_path: Path, what: str
) -> None:
    path = layout(store, tmp_path)
    file = blob(path, what)
    data = bytearray(file.read_bytes())
    if what == "layer":
        data[200] ^= 1  # in the first header's unused part: a sound archive, but another
        data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:512]) + 8 * 32)
    else:
        data += b" "
    file.write_bytes(data)
    other = ImageStore(tmp_path / "other")
    with pytest.raises(DigestMismatch) as caught:
        other.load(path)
    assert caught.value.member == f"blobs/sha256/{file.name}"
    assert not any(contents(other)[key] for key in ("images/sha256", "names", "tmp", "pins"))
    assert other.prune().layers == tuple(two[0].diff_ids[:1]) if what == "layer" else True
    assert not any(contents(other).values())


def test_a_wrong_diff_id_is_refused(store: ImageStore, two: list[Image], tmp_path: Path) -> None:
    """A docker archive has no digests of layers but those in the configuration."""
    store.save(["app:1"], tmp_path / "saved", format="docker-legacy")
    data = (tmp_path / "saved").read_bytes()
    (tmp_path / "saved").write_bytes(data.replace(b"xxxx", b"yyyy", 1))
    other = ImageStore(tmp_path / "other")
    with pytest.raises(DigestMismatch, match=r"layer\.tar"):
        other.load(tmp_path / "saved")
    assert not any(contents(other).values())


def test_an_index_of_several_platforms(store: ImageStore, two: list[Image], tmp_path: Path) -> None:
    path = layout(store, tmp_path)
    index = json.loads((path / "index.json").read_bytes())
    ours = index["manifests"][0]
    machine = two[0].config["architecture"]
    other = {**ours, "digest": "sha256:" + "0" * 64}
    windows = {**ours, "digest": f"sha256:{1:064}"}
    proof = {**other, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    index["manifests"] = [
        {**other, "platform": {"os": "linux", "architecture": "sparc"}},
        {**windows, "platform": {"os": "windows", "architecture": machine}},
        proof,
        {**ours, "platform": {"os": "linux", "architecture": machine}},
    ]
    (path / "index.json").write_text(json.dumps(index))
    assert ImageStore(tmp_path / "a").load(path)[0].digest == two[0].digest
    del index["manifests"][-1]
    (path / "index.json").write_text(json.dumps(index))
    with pytest.raises(ArchiveRefused, match=r"no image for linux/\w+; there are: .*/sparc"):
        ImageStore(tmp_path / "b").load(path)


def change(path: Path, *keys: str | int, value: Any) -> None:
    """Another value in the configuration, and digests that match."""
    import hashlib

    index = json.loads((path / "index.json").read_bytes())
    manifest = json.loads(blob(path, "manifest").read_bytes())
    config = json.loads(blob(path, "config").read_bytes())
    *way, last = keys
    target = config
    for key in way:
        target = target[key]
    target[last] = value

    def write(content: Any) -> str:
        data = json.dumps(content).encode()
        name = hashlib.sha256(data).hexdigest()
        (path / "blobs/sha256" / name).write_bytes(data)
        return f"sha256:{name}"

    manifest["config"]["digest"] = write(config)
    index["manifests"][0]["digest"] = write(manifest)
    (path / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("os",), "plan9", "os is 'plan9'"),
        (("rootfs", "diff_ids"), "x", "rootfs.diff_ids is no list"),
        (("rootfs", "diff_ids", 0), "../../etc", r"rootfs.diff_ids\[0\] is no sha256"),
        (("rootfs", "diff_ids"), ["sha256:" + "0" * 64], "1 diff ids for 2 layers"),
        (("config", "Env"), "PATH", "config.Env is no list of texts"),
        (("config", "Cmd"), [1], "config.Cmd is no list of texts"),
        (("config",), 7, "config is no object"),
        (("history",), [1], "history is no list of objects"),
    ],
)
def test_a_configuration_that_cannot_be(
    store: ImageStore, two: list[Image], tmp_path: Path, keys: Any, value: Any, says: str
) -> None:
    path = layout(store, tmp_path)
    change(path, *keys, value=value)
    with pytest.raises(ArchiveRefused, match=says):
        ImageStore(tmp_path / "other").load(path)


def test_other_things_that_are_no_image(tmp_path: Path, store: ImageStore) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ArchiveRefused, match="neither an OCI layout nor a docker save"):
        store.load(empty)
    with pytest.raises(ImageError, match="cannot read"):
        store.load(tmp_path / "none")
    for content in (b"", b"no archive" * 100, b"\x1f\x8bno gzip either"):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ArchiveRefused):
            store.load(tmp_path / "file")
    (empty / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    for index in ("[", "[" * 100_000, "[]", "{}", '{"manifests": [1]}', '{"manifests": []}'):
        (empty / "index.json").write_text(index)
        with pytest.raises(ArchiveRefused, match=r"index\.json"):
            store.load(empty)
    hostile = {"manifests": [{"digest": "sha256:../../../etc/passwd"}]}
    (empty / "index.json").write_text(json.dumps(hostile))
    with pytest.raises(ArchiveRefused, match="no sha256 digest"):
        store.load(empty)
    assert not any(contents(store).values())


def test_blobs_that_are_links_or_pipes_are_not_read(
    store: ImageStore, two: list[Image], tmp_path: Path
) -> None:
    path = layout(store, tmp_path)
    file = blob(path, "config")
    file.rename(tmp_path / "config")
    file.symlink_to(tmp_path / "config")
    with pytest.raises(ArchiveRefused, match="cannot be read"):
        ImageStore(tmp_path / "other").load(path)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ArchiveRefused, match="no regular file"):
        ImageStore(tmp_path / "other").load(path)


def test_an_old_archive_whose_layers_are_links(
    store: ImageStore, two: list[Image], tmp_path: Path
) -> None:
    """`docker save` before version 1.10 wrote a layer once and linked to it."""
    store.save(["app:1"], tmp_path / "saved", format="docker-legacy")
    members: list[Member] = []
    with tarfile.open(tmp_path / "saved") as tar:
        for info in tar:
            content = tar.extractfile(info)
            members.append((info, content.read() if content else b""))
    entry = json.loads(next(data for info, data in members if info.name == "manifest.json"))
    layer = entry[0]["Layers"][0]
    entry[0]["Layers"][0] = "linked/layer.tar"
    members = [each for each in members if each[0].name != "manifest.json"]
    members += [
        directory("linked"),
        symlink("linked/layer.tar", f"../{layer}"),
        member("manifest.json", json.dumps(entry).encode()),
    ]
    (tmp_path / "old").write_bytes(tar_bytes(*members))
    other = ImageStore(tmp_path / "other")
    assert other.load(tmp_path / "old")[0].digest == two[0].digest
    twice = [*members, member("manifest.json", b"[]")]
    (tmp_path / "twice").write_bytes(tar_bytes(*twice))
    with pytest.raises(ArchiveRefused, match=r"manifest\.json.*twice"):
        other.load(tmp_path / "twice")


def test_a_layer_of_several_images_is_read_once(
    store: ImageStore, two: list[Image], tmp_path: Path
) -> None:
    """A layer that is there by its diff id is not read: not even a damaged one."""
    path = layout(store, tmp_path)
    layer = blob(path, "layer")
    layer.write_bytes(b"damaged")
    assert store.load(path)[0].digest == two[0].digest


def test_all_images_of_an_archive_or_none(
    store: ImageStore, two: list[Image], tmp_path: Path
) -> None:
    store.save(["app:1", "r.example/b"], tmp_path / "layout", format="oci")
    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    index["manifests"].reverse()
    (tmp_path / "layout/index.json").write_text(json.dumps(index))
    second = two[0].diff_ids[1]
    (tmp_path / "layout/blobs/sha256" / second[7:]).unlink()
    other = ImageStore(tmp_path / "other")
    with pytest.raises(ArchiveRefused, match=second[7:]):
        other.load(tmp_path / "layout")
    assert other.names() == []
    other.prune()
    assert not any(contents(other).values())
    with pytest.raises(SpecError, match="2 images"):
        store.load(tmp_path / "layout", "one")


def test_a_refused_layer_names_archive_and_member(store: ImageStore, tmp_path: Path) -> None:
    from tests.tars import make_tar

    bad = make_tar(tmp_path / "bad.tar", member("ok", b"1"), member("../evil", b"x"))
    before = contents(store)
    with pytest.raises(LayerRefused, match=r"bad\.tar refused at member '\.\./evil': '\.\.' in"):
        store.add("bad", [bad])
    assert contents(store) == before
