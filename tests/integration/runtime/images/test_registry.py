"""Pull and push against Debian's docker-registry; archives exchanged with skopeo."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import (
    Image,
    ImageNotInRegistry,
    ImageStore,
    RegistryDenied,
    RegistryError,
    SpecError,
)
from runtime.images.export import Format
from tests.integration.runtime.images.conftest import Registry
from tests.tars import directory, hard_link, member, symlink

pytestmark = pytest.mark.root

Make = Callable[..., Image]


@pytest.fixture(autouse=True)
def _skopeo() -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")


@pytest.fixture
def image(make_image: Make) -> Image:
    capability = "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    base = [
        directory("bin"),
        member("bin/tool", b"x" * 300_000, mode=0o4755, uid=3,
               pax_headers={"SCHILY.xattr.security.capability": capability}),
        hard_link("bin/same", "bin/tool"), symlink("sh", "bin/tool"), member("gone", b"1"),
    ]  # fmt: skip
    return make_image("app:1", base, [member(".wh.gone"), member("new", b"2", mtime=5)])


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_pushed_pulls_to_the_same(
    images: ImageStore, image: Image, registry: Registry, folder: Path
) -> None:
    reference = f"{registry.address}/team/app:1"
    digest = images.push("app:1", reference, tls_verify=False)
    assert (
        digest
        == json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{reference}"))["Digest"]
    )
    other = ImageStore(folder / "other")
    pulled = other.pull(reference, tls_verify=False)
    assert pulled.name == reference
    assert pulled.digest == image.digest
    assert pulled.diff_ids == image.diff_ids
    named = other.pull(f"{registry.address}/team/app@{digest}", "mine", tls_verify=False)
    assert named.digest == image.digest
    with pytest.raises(SpecError, match="give the image a name"):
        other.pull(f"{registry.address}/team/app@{digest}", tls_verify=False)
    assert not list((other.root / "tmp").iterdir())
    assert not list((other.root / "pins").iterdir())


def test_only_missing_layers_are_fetched(
    images: ImageStore, image: Image, registry: Registry, folder: Path, make_image: Make
) -> None:
    first, second = (f"{registry.address}/app:{tag}" for tag in "12")
    images.push("app:1", first, tls_verify=False)
    upper = folder / "upper"
    upper.mkdir()
    (upper / "more").write_text("more")
    images.commit(upper, image, "app:2")
    images.push("app:2", second, tls_verify=False)
    other = ImageStore(folder / "other")
    other.pull(first, tls_verify=False)
    registry.lines.clear()
    pulled = other.pull(second, tls_verify=False)
    assert len(pulled.layers) == 3
    manifest = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{second}"))
    layers = [layer["digest"] for layer in manifest["layers"]]
    assert set(registry.fetched()) & set(layers) == {layers[2]}
    registry.lines.clear()
    assert other.pull(second, tls_verify=False).digest == pulled.digest
    assert not set(registry.fetched()) & set(layers)


def test_errors_have_skopeos_words(images: ImageStore, image: Image, registry: Registry) -> None:
    with pytest.raises(ImageNotInRegistry, match=r"cannot \w+ .*nope:1: .*manifest unknown"):
        images.pull(f"{registry.address}/nope:1", tls_verify=False)
    with pytest.raises(RegistryError, match="HTTP response to HTTPS"):
        images.pull(f"{registry.address}/app:1")
    with pytest.raises(RegistryError, match="refused"):
        images.push("app:1", "127.0.0.1:1/app:1", tls_verify=False)
    with pytest.raises(SpecError, match="image name"):
        images.pull("Not A Name")
    assert images.names() == ["app:1"]
    assert not list((images.root / "tmp").iterdir())


def test_credentials(
    images: ImageStore, image: Image, start_registry: Callable[..., Registry], folder: Path
) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    htpasswd = folder / "htpasswd"
    htpasswd.write_bytes(b"ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)) + b"\n")
    address = start_registry(htpasswd).address
    with pytest.raises(RegistryDenied):
        images.push("app:1", f"{address}/app:1", tls_verify=False)
    with pytest.raises(RegistryDenied):
        images.push("app:1", f"{address}/app:1", tls_verify=False, credentials=("ann", "wrong"))
    images.push("app:1", f"{address}/app:1", tls_verify=False, credentials=("ann", "secret"))
    authfile = folder / "auth.json"
    skopeo(
        "login", "--authfile", str(authfile), "--tls-verify=false", "-u", "ann", "-p", "secret",
        address,
    )  # fmt: skip
    pulled = images.pull(f"{address}/app:1", "back", tls_verify=False, authfile=authfile)
    assert pulled.digest == image.digest


def test_the_platform_of_this_host_is_pulled(
    images: ImageStore, image: Image, registry: Registry, folder: Path
) -> None:
    """From an index in the registry that has another architecture first."""
    layout = folder / "layout"
    images.save(["app:1"], layout, format="oci")
    index = json.loads((layout / "index.json").read_bytes())
    ours = index["manifests"][0]
    manifest = json.loads((layout / "blobs/sha256" / ours["digest"][7:]).read_bytes())
    config = json.loads((layout / "blobs/sha256" / image.digest[7:]).read_bytes())
    manifest["config"] |= put(layout, {**config, "architecture": "sparc"})
    other = {"mediaType": ours["mediaType"], **put(layout, manifest)}
    machine = image.config["architecture"]
    index["manifests"] = [
        {**other, "platform": {"os": "linux", "architecture": "sparc"}},
        {**ours, "platform": {"os": "linux", "architecture": machine}},
    ]
    inner = put(layout, index)
    index["manifests"] = [{"mediaType": index["mediaType"], **inner}]
    (layout / "index.json").write_text(json.dumps(index))
    reference = f"{registry.address}/multi:1"
    skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{reference}")
    other_store = ImageStore(folder / "other")
    assert other_store.pull(reference, tls_verify=False).digest == image.digest
    assert other_store.load(layout, "from-layout")[0].digest == image.digest


def put(layout: Path, content: object) -> dict[str, object]:
    import hashlib

    data = json.dumps(content).encode()
    name = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256" / name).write_bytes(data)
    return {"digest": f"sha256:{name}", "size": len(data)}


@pytest.mark.parametrize(
    ("format", "compression", "transport"),
    [
        ("docker", "none", "docker-archive"),
        ("docker-legacy", "none", "docker-archive"),
        ("oci-archive", "gzip", "oci-archive"),
        ("oci", "none", "oci"),
        ("oci", "gzip", "oci"),
        ("oci", "zstd", "oci"),
    ],
)
def test_skopeo_reads_what_is_saved_and_back(
    images: ImageStore, image: Image, folder: Path, format: Format, compression: str, transport: str
) -> None:
    """Through skopeo into its own layout and archive, which load to the same layers."""
    saved = folder / "saved"
    images.save(["app:1"], saved, format=format, compression=compression)  # type: ignore[arg-type]
    source = f"{transport}:{saved}"
    found = json.loads(skopeo("inspect", "--config", source))
    assert found["rootfs"]["diff_ids"] == list(image.diff_ids)
    skopeo("copy", source, f"oci:{folder}/theirs:app")
    targets = [folder / "theirs"]
    if compression != "zstd":  # Docker's own manifests have no zstd
        skopeo("copy", source, f"docker-archive:{folder}/theirs.tar:example.org/app:1")
        targets.append(folder / "theirs.tar")
    for target in targets:
        other = ImageStore(folder / f"store-{target.name}")
        (loaded,) = other.load(target, "loaded")
        assert loaded.diff_ids == image.diff_ids
        assert loaded.env == image.env
        assert (loaded.layers[0] / "bin/same").stat().st_ino == (
            loaded.layers[0] / "bin/tool"
        ).stat().st_ino
