"""A full disk, two processes at once, a kill in the middle: the store is as before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import Image, ImageStore
from tests.integration.runtime.images.conftest import Registry
from tests.tars import make_tar, member
from tests.unit.runtime.images.conftest import contents

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[4]

Make = Callable[..., Image]


def test_a_full_disk_leaves_the_store_as_before(registry: Registry, folder: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-m",
         "tests.integration.runtime.images.full_disk", str(folder), f"{registry.address}/big:1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def start(program: str) -> subprocess.Popen[str]:
    """A Python process that waits for a line on its standard input, then goes on."""
    head = "import sys; from pathlib import Path; from runtime import *; sys.stdin.readline()\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def together(*programs: str) -> list[str]:
    """Run them at once; what they print, which is what went wrong."""
    processes = [start(program) for program in programs]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    return [text for text in outputs if text]


def test_several_import_and_prune_one_store_at_once(images: ImageStore, folder: Path) -> None:
    """Each round stores an image of shared and own layers, uses it, and removes it, while others
    do the same and one prunes without pause."""
    shared = make_tar(folder / "shared.tar", member("shared", os.urandom(300_000)))
    for number in range(3):
        make_tar(folder / f"own{number}.tar", member(f"own{number}", os.urandom(100_000)))
    elsewhere = ImageStore(folder / "elsewhere")
    elsewhere.add("loaded", [shared, folder / "own0.tar"])
    elsewhere.save(["loaded"], folder / "saved.tar")
    opening = f"store = ImageStore(Path({str(images.root)!r})); folder = Path({str(folder)!r})\n"
    worker = """
for _ in range(8):
    image = {make}
    for layer, diff_id in zip(image.layers, image.diff_ids):
        for piece in store.shelf.archive(diff_id):
            pass
    store.remove("{name}")
"""
    tars = "[folder / 'shared.tar', folder / 'own{n}.tar']"
    adding = [
        opening + worker.format(name=name, make=f"store.add('{name}', {tars.format(n=number)})")
        for number, name in enumerate(["a", "b"], 1)
    ]
    load = "store.load(folder / 'saved.tar', 'mine')[0]"
    loading = opening + worker.format(make=load, name="mine")
    pruning = opening + "for _ in range(60): ImageStore(store.root).prune()\n"
    assert together(*adding, loading, pruning) == []
    images.prune()
    assert not any(contents(images).values())


@pytest.mark.parametrize("verb", ["add", "load"])
def test_what_a_killed_process_was_making_is_swept(
    images: ImageStore, folder: Path, make_image: Make, verb: str
) -> None:
    """Killed while it reads: the archive comes through a pipe, and its second half never."""
    kept = make_image("kept", [member("f", b"1")])
    layer = make_tar(folder / "layer.tar", member("big", os.urandom(4 << 20)))
    if verb == "load":
        elsewhere = ImageStore(folder / "elsewhere")
        elsewhere.add("killed", [layer])
        elsewhere.save(["killed"], folder / "layer.tar")
    before = contents(images)
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    call = (
        f"add('killed', [Path({str(pipe)!r})])" if verb == "add" else f"load(Path({str(pipe)!r}))"
    )
    process = start(f"ImageStore(Path({str(images.root)!r})).{call}\n")
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    with pipe.open("wb", buffering=0) as file:
        file.write((folder / "layer.tar").read_bytes()[: 3 << 20])  # it has read most of it
        process.kill()
        process.communicate()
    assert len(contents(images)["tmp"]) == 1
    again = ImageStore(images.root)
    again.prune()
    assert contents(again) == before
    assert again.get("kept").digest == kept.digest


def test_a_living_process_is_not_swept(images: ImageStore) -> None:
    with images.files.temporary() as folder:
        (folder / "half").write_text("done")
        ImageStore(images.root)
        assert (folder / "half").read_text() == "done"
