"""Layers, stores and flattened trees with real owners, devices and overlays."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime import Cgroup, Container, ContainerSpec, ImageStore, Spawner
from runtime.images.idmap import IdMap, IdRange
from runtime.images.pack import pack
from tests.tars import Member, directory, make_tar, member, symlink

pytestmark = pytest.mark.root


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
            cwd=Path(__file__).parents[4],
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


def test_a_container_is_committed_and_runs_again(
    images: ImageStore,
    folder: Path,
    spawner: Spawner,
    group: Cgroup,
    make_spec: Callable[..., ContainerSpec],
) -> None:
    base = images.ensure("busybox")
    script = """
        rm /etc/group; rm -r /var; mkdir /var; echo new > /var/file; ln /var/file /var/again
        chmod 4711 /bin/busybox; mkfifo /pipe; mv /root /home; echo more >> /etc/hosts
        dd if=/dev/zero of=/holes bs=1M count=0 seek=50 2>/dev/null; touch -d @1 /var/file
    """
    spec = make_spec("sh", "-c", script, layers=base.layers)
    with Container.launch(spec, spawner, parent=group) as container:
        assert container.wait(30) == 0
        lines = [str(change) for change in images.diff(container.upper_dir, base)]
        made = images.commit(container.upper_dir, base, "made", message="by hand")
    assert lines == [
        "C /bin", "C /bin/busybox", "C /etc", "D /etc/group", "C /etc/hosts", "A /holes",
        "A /home", "A /pipe", "D /root", "C /var", "A /var/again", "A /var/file", "D /var/tmp",
    ]  # fmt: skip
    assert made.layers[:-1] == base.layers
    assert images.files.archive(made.diff_ids[-1]).stat().st_size < 10_000
    top = made.layers[-1]
    assert (top / "holes").stat().st_blocks == 0
    assert (top / "var/file").stat().st_ino == (top / "var/again").stat().st_ino
    assert (top / "var/file").stat().st_mtime_ns == 1_000_000_000
    check = "cat /var/again; ls /var /etc; stat -c %a /bin/busybox; stat -c %s /holes; ls -d /root"
    read, write = os.pipe()
    spec = make_spec("sh", "-c", f"{check}; true", layers=made.layers, fds={1: write})
    with Container.launch(spec, spawner, parent=group) as container, os.fdopen(read) as out:
        os.close(write)
        assert container.wait(30) == 0
        said = out.read().split()
    words = "new /etc: hosts passwd resolv.conf /var: again file 4711 52428800"
    assert said == words.split(" ")
    hidden = {(each.path, each.how) for each in images.hidden("made")}
    assert {("/etc/group", "deleted"), ("/bin/busybox", "replaced")} <= hidden


def test_owners_are_shifted_and_shifted_back(images: ImageStore, folder: Path) -> None:
    archive = make_tar(
        folder / "a.tar",
        directory("d", uid=5, gid=6),
        member("d/f", b"x", uid=1000, gid=1000, mode=0o6755),
        symlink("d/l", "f"),
        member("implied/x", b"y"),
    )
    image = images.add("one", [archive])
    idmap = IdMap((IdRange(0, 100_000, 65536),), (IdRange(0, 200_000, 65536),))
    (layer,) = images.shifted(image, idmap)
    assert images.shifted(image, idmap) == [layer]
    owners = {path: ((layer / path).lstat().st_uid, (layer / path).lstat().st_gid) for path in
              ("d", "d/f", "d/l", "implied", "implied/x", ".")}  # fmt: skip
    assert owners == {
        "d": (100_005, 200_006),
        "d/f": (101_000, 201_000),
        "d/l": (100_000, 200_000),
        "implied": (100_000, 200_000),
        "implied/x": (100_000, 200_000),
        ".": (100_000, 200_000),
    }
    assert stat.S_IMODE((layer / "d/f").stat().st_mode) == 0o6755
    plain, back = (list(pack(*args)) for args in (
        (image.layers[0], images.form), (layer, images.form, idmap)))  # fmt: skip
    assert b"".join(plain) == b"".join(back)
    upper = folder / "upper"
    upper.mkdir()
    (upper / "f").write_text("x")
    os.chown(upper / "f", 100_007, 200_008)
    made = images.commit(upper, image, "two", idmap=idmap)
    info = (made.layers[1] / "f").stat()
    assert (info.st_uid, info.st_gid) == (7, 8)
    images.remove("two")
    images.remove("one")
    assert not layer.exists()


NAMES = st.sampled_from(["a", "b", "a/x", "a/y", "b/x", "a/x/1", "b/x/1"])


@st.composite
def layers(draw: st.DrawFn) -> list[list[Member]]:
    """Layers of a few names, each a file, a directory, a link, a whiteout, or opaque."""
    found = []
    for number in range(draw(st.integers(2, 4))):
        tree: dict[str, Member] = {}
        for name in draw(st.lists(NAMES, min_size=1, max_size=5, unique=True)):
            parent, _, base = name.rpartition("/")
            above = [name[:at] for at in range(len(name)) if name[at] == "/"]
            if any(each in tree and not tree[each][0].isdir() for each in above):
                continue
            kind = draw(st.sampled_from(["file", "directory", "opaque", "whiteout", "link"]))
            where = f"{parent}/" if parent else ""
            if kind in ("directory", "opaque"):
                tree[name] = directory(name, 0o700 + number)
                if kind == "opaque":
                    tree[f"{name}/.wh..wh..opq"] = member(f"{name}/.wh..wh..opq")
            elif any(each.startswith(f"{name}/") for each in tree):
                continue
            elif kind == "whiteout":
                tree[name] = member(f"{where}.wh.{base}")
            elif kind == "file":
                tree[name] = member(name, b"%d" % number)
            else:
                tree[name] = symlink(name, f"to{number}")
        found.append(list(tree.values()))
    return found


@settings(max_examples=25, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(layers=layers())
def test_the_view_is_what_the_kernels_overlay_shows(
    images: ImageStore, folder: Path, layers: list[list[Member]]
) -> None:
    paths = [make_tar(folder / f"{n}.tar", *layer) for n, layer in enumerate(layers)]
    image = images.add("x", paths)
    view = images.view(image)
    root = view.look("")
    assert root is not None
    flat = images.flatten(image)
    mine = [(entry.path, entry.info.st_mode, content(entry.real)) for entry in view.walk(root)]
    kernels = [(str(path.relative_to(flat)), path.lstat().st_mode, content(path))
               for path in flat.rglob("*")]  # fmt: skip
    assert sorted(mine) == sorted(kernels)
    gone = {each.path for each in images.hidden("x")}
    stored = {f"/{path.relative_to(layer)}" for layer in image.layers for path in layer.rglob("*")
              if path.is_file() and not path.is_symlink()}  # fmt: skip
    seen = {f"/{path}" for path, mode, _ in kernels if stat.S_ISREG(mode)}
    assert stored - seen <= gone


def content(path: Path) -> object:
    if path.is_symlink():
        return str(path.readlink())
    return path.read_bytes() if path.is_file() else None


def test_a_user_without_rights_has_layers_too(folder: Path) -> None:
    """Whiteouts as user.overlay attributes, seen through an overlay in a user namespace."""
    user = 65534
    place = folder / "theirs"
    place.mkdir()
    os.chown(place, user, user)
    folder.chmod(0o755)
    rights = "+dac_read_search"  # only because Python itself may lie where nobody may look
    done = subprocess.run(
        ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
         f"--inh-caps={rights}", f"--ambient-caps={rights}", "--",
         sys.executable, "-B", "-m", "tests.integration.runtime.images.rootless", str(place)],
        cwd=Path(__file__).parents[4], capture_output=True, text=True, check=False,
        env={**os.environ, "HOME": str(place)},
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(f"needs overlays in user namespaces: {done.stdout}")
    assert (done.returncode, done.stderr) == (0, "")
    lines = "data/stays|opaque/new|C /data|A /data/added|D /data/stays|b'0\\n' ['var/x']"
    assert done.stdout.splitlines() == lines.split("|")
