"""What layers show together, what an upper directory changes, what nobody sees any more."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import Image, ImageError, ImageStore, SpecError
from runtime.images.changes import Hidden
from runtime.images.users import User, find_user
from tests.tars import directory, hard_link, member, symlink

Make = Callable[..., Image]


@pytest.fixture
def image(make_image: Make) -> Image:
    return make_image(
        "three",
        [
            directory("d"), member("d/old", b"12345"), member("d/kept", b"1"),
            directory("o"), member("o/one", b"123"), directory("o/deep"), member("o/deep/x", b"1"),
            member("f", b"1234567"), symlink("bin", "usr/bin"), directory("usr"),
            directory("usr/bin"), member("usr/bin/sh", b"sh"), member("linked", b"12"),
            hard_link("linked-too", "linked"), directory("swap"), member("swap/in", b"1234"),
        ],
        [
            member("d/.wh.old"), directory("d"), directory("o", 0o700),
            member("o/.wh..wh..opq"), member("o/two", b"12"), member("f", b"123"),
            member(".wh.linked"), member("swap", b"now a file"),
        ],
        [directory("d"), member("d/old", b"again"), member("swap/in", b"back")],
    )  # fmt: skip


def test_the_view_follows_overlayfs(store: ImageStore, image: Image) -> None:
    view = store.view(image)
    root = view.look("/")
    assert root is not None
    seen = [entry.path for entry in view.walk(root)]
    assert seen == [
        "bin", "d", "d/kept", "d/old", "f", "linked-too", "o", "o/two", "swap", "swap/in",
        "usr", "usr/bin", "usr/bin/sh",
    ]  # fmt: skip
    assert view.read("d/old") == b"again"
    assert view.read("/bin/sh") == b"sh"
    assert view.read("/f") == b"123"
    assert view.look("o/one") is None
    assert view.look("bin/sh") is None  # look follows nothing
    opaque = view.look("o")
    assert opaque is not None
    assert stat.S_IMODE(opaque.info.st_mode) == 0o700


def test_links_lead_around_inside_only(store: ImageStore, make_image: Make) -> None:
    image = make_image(
        "links",
        [
            symlink("up", "../../../etc"), symlink("abs", "/etc/passwd"), symlink("loop", "loop"),
            directory("etc"), member("etc/passwd", b"inside"), symlink("etc/self", "."),
        ],
    )  # fmt: skip
    view = store.view(image)
    assert view.resolve("/up/passwd") == "etc/passwd"
    assert view.read("abs") == b"inside"
    assert view.resolve("etc/self/self/self/passwd") == "etc/passwd"
    assert view.resolve("../../new/file") == "new/file"
    with pytest.raises(ImageError, match="too many links"):
        view.resolve("loop/x")


def test_hidden_bytes_are_found_with_who_hides_them(store: ImageStore, image: Image) -> None:
    assert store.hidden("three") == [
        Hidden("/d/old", 5, 0, 1, "deleted"),
        Hidden("/f", 7, 0, 1, "replaced"),
        Hidden("/o/deep/x", 1, 0, 1, "deleted"),
        Hidden("/o/one", 3, 0, 1, "deleted"),
        Hidden("/swap/in", 4, 0, 1, "replaced"),
        Hidden("/swap", 10, 1, 2, "replaced"),
    ]  # not /linked: its bytes are seen through /linked-too
    sizes = store.layer_sizes("three")
    assert [(size.size, size.hidden) for size in sizes] == [(25, 20), (15, 10), (9, 0)]
    assert [size.files for size in sizes] == [8, 3, 2]


def test_history_pairs_steps_with_layers(store: ImageStore, image: Image) -> None:
    steps = store.history("three")
    assert [step.diff_id for step in steps] == list(image.diff_ids)
    assert [step.size for step in steps] == [25, 15, 9]


def test_diff_lists_what_docker_diff_lists(store: ImageStore, image: Image, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "d").mkdir(parents=True)
    (upper / "d/new").write_text("x")
    (upper / "d/kept").write_text("changed")
    (upper / "usr/fresh").mkdir(parents=True)
    os.mknod(upper / "f", stat.S_IFCHR, 0)
    os.mknod(upper / "never-there", stat.S_IFCHR, 0)
    (upper / "o").mkdir()
    store.form.set_opaque(str(upper / "o"))
    assert [str(change) for change in store.diff(upper, image)] == [
        "C /d", "C /d/kept", "A /d/new", "D /f", "C /o", "D /o/two", "C /usr", "A /usr/fresh",
    ]  # fmt: skip


def test_a_commit_stores_the_difference_alone(
    store: ImageStore, image: Image, tmp_path: Path
) -> None:
    upper = tmp_path / "upper"
    (upper / "d").mkdir(parents=True)
    (upper / "d/new").write_text("x" * 1000)
    os.mknod(upper / "f", stat.S_IFCHR, 0)
    made = store.commit(
        upper, image, "four", config={"Cmd": ["/x"], "Env": None}, message="why", author="me"
    )
    assert made.layers[:-1] == image.layers
    assert len(list((store.root / "layers/sha256").iterdir())) == 4
    assert sorted(path.name for path in made.layers[-1].iterdir()) == ["d", "f"]
    assert (made.cmd, made.env, made.config["author"]) == (("/x",), {}, "me")
    assert store.history("four")[-1].comment == "why"
    view = store.view(made)
    assert view.look("f") is None
    assert view.read("d/new") == b"x" * 1000
    assert Hidden("/f", 3, 1, 3, "deleted") in store.hidden("four")
    (tmp_path / "nothing").mkdir()
    same = store.commit(tmp_path / "nothing", made, "five")
    assert same.layers == made.layers
    assert same.config["history"][-1]["empty_layer"] is True


def test_an_upper_directory_that_borrows_is_refused(
    store: ImageStore, image: Image, tmp_path: Path
) -> None:
    upper = tmp_path / "upper"
    (upper / "moved").mkdir(parents=True)
    os.setxattr(upper / "moved", f"{store.form.prefix}redirect", b"/d")
    with pytest.raises(ImageError, match="redirect_dir=off"):
        store.commit(upper, image, "bad")
    assert store.names() == ["three"]


def test_users_are_those_of_the_image(store: ImageStore, make_image: Make) -> None:
    passwd = b"root:x:0:0:root:/root:/bin/sh\nann:x:7:8::/home/ann:/bin/sh\nbroken line\n"
    group = b"root:x:0:\nstaff:x:50:ann,root\nown:x:8:\n"
    image = make_image("users", [member("etc/passwd", passwd), member("etc/group", group)])
    view = store.view(image)
    assert find_user(view, "") == User(0, 0, (50,), "/root")
    assert find_user(view, "ann") == find_user(view, "7") == User(7, 8, (50,), "/home/ann")
    assert find_user(view, "ann:staff") == User(7, 50, (), "/home/ann")
    assert find_user(view, "99") == User(99, 0, (), "/")
    assert find_user(view, "99:98") == User(99, 98, (), "/")
    for wrong in ("bob", "ann:nobody"):
        with pytest.raises(SpecError, match="is not in the image's"):
            find_user(view, wrong)
