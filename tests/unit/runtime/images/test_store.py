"""Names, references, pins, and images that come and go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from runtime import (
    Image,
    ImageInUse,
    ImageNotFound,
    ImageStore,
    SpecError,
)
from runtime.images.names import file_name, from_file_name, short_name
from runtime.images.pins import start_time
from tests.tars import member
from tests.unit.runtime.images.conftest import contents

Make = Callable[..., Image]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("debian", "debian"),
        ("debian:latest", "debian"),
        ("docker.io/library/debian:12", "debian:12"),
        ("docker.io/me/tool:latest", "me/tool"),
        ("localhost:5000/a/b:x", "localhost:5000/a/b:x"),
        ("localhost:5000/a", "localhost:5000/a"),
        ("registry.example/a__b/c--d", "registry.example/a__b/c--d"),
    ],
)
def test_short_names(name: str, short: str) -> None:
    assert short_name(name) == short
    assert from_file_name(file_name(short)) == short
    assert "/" not in file_name(short)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "a/../b",
        "/a",
        "a/",
        "a:",
        "a:b:c",
        "a b",
        "a%2Fb",
        ".a",
        "x" * 300,
        "a@b",
        f"sha256:{0:064}",
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(SpecError):
        short_name(name)


def test_names_move_and_images_without_one_are_pruned(store: ImageStore, make_image: Make) -> None:
    base = [member("shared", b"x" * 100_000)]
    first = make_image("app:1", base, [member("one", b"1")])
    second = make_image("app:2", base, [member("two", b"2")])
    assert len(contents(store)["layers/sha256"]) == 3
    store.tag("app:1", "registry.example/app:1")
    assert store.get("app:1").digest == store.get("registry.example/app:1").digest
    assert store.get(first.digest[:20]).digest == store.get(first.digest[7:19]).digest
    store.tag("app:2", "app:1")
    assert store.prune().images == ()  # it still has its long name
    gone = store.remove("registry.example/app:1")
    assert gone.images == (first.digest,)
    assert gone.layers == (first.diff_ids[1],)  # the base is the second's too
    assert store.names() == ["app:1", "app:2"]
    everything = store.remove(second.digest)
    assert everything.freed >= 100_000
    assert set(everything.layers) == set(second.diff_ids)
    assert not any(contents(store).values())
    with pytest.raises(ImageNotFound):
        store.tag("app:1", "x")


def test_a_pinned_image_is_not_removed(store: ImageStore, make_image: Make) -> None:
    image = make_image("app", [member("f", b"1")])
    with store.pin(image, who="container box"):
        with pytest.raises(ImageInUse, match="container box"):
            store.remove("app")
        assert store.names() == ["app"]
        assert store.remove("app", force=True).layers == ()
        assert store.prune().layers == ()
        assert image.layers[0].is_dir()
    assert store.prune().images == (image.digest,)
    with pytest.raises(ImageNotFound):
        store.pin(image)


def test_a_pin_for_another_process_ends_with_it(store: ImageStore, make_image: Make) -> None:
    """As for the PID 1 of a container that outlives its starter."""
    image = make_image("app", [member("f", b"1")])
    with subprocess.Popen(["sleep", "60"]) as process:
        store.pin(image, pid=process.pid).detach()
        with pytest.raises(ImageInUse, match=f"process {process.pid}"):
            store.remove("app")
        process.kill()
    assert store.remove("app").images == (image.digest,)
    assert contents(store)["pins"] == []
    assert start_time(process.pid) is None


def test_a_pin_ends_with_its_process_however_it_ends(store: ImageStore, make_image: Make) -> None:
    make_image("app", [member("f", b"1")])
    program = (
        "import sys, time; from pathlib import Path; from runtime import ImageStore\n"
        f"store = ImageStore(Path({str(store.root)!r})); pin = store.pin(store.get('app'))\n"
        "print('pinned', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "pinned\n"
        with pytest.raises(ImageInUse):
            store.remove("app")
        process.kill()
    assert len(contents(store)["pins"]) == 1
    store.remove("app")
    assert contents(store)["pins"] == []
